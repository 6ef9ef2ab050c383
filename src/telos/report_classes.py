"""The part of `report.html` on a classifier, from the figures in `evaluation.json`."""

from collections.abc import Mapping
from typing import Any

__all__ = ["class_cards", "class_figures"]

Words = Mapping[str, str]


def class_figures(evaluation: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """What the template shows of the test split, or the last one there is; `None` where nothing is sorted."""
    found = _found(evaluation)
    if found is None:
        return None
    calibration = found["calibration"]
    return {
        "facts": [
            (words["accuracy"], _interval(found["accuracy"])),
            (words["macro_f1"], _interval(found["macro_f1"])),
            (words["majority"], _share(found["majority"])),
            (words["class_texts"], f"{found['texts']:,} ({found['unlabelled']:,} {words['unlabelled']})"),
            (words["ece"].format(bins=calibration["bins"]), _interval(calibration["ece_after"])),
            (words["ece_before"], _interval(calibration["ece"])),
            (words["temperature"], f"{calibration['temperature']:.3f}"),
        ],
        "classes": {
            "columns": [words[name] for name in ("precision", "recall", "f1", "texts", "said")],
            "rows": [
                (
                    name,
                    *(_interval(each[share]) for share in ("precision", "recall")),
                    f"{each['f1']:.3f}",
                    *(f"{each[count]:,}" for count in ("texts", "said")),
                )
                for name, each in found["classes"].items()
            ],
        },
        "confusion": {
            "columns": found["labels"],
            "rows": [
                (name, *(f"{cell:,}" for cell in row))
                for name, row in zip(found["labels"], found["confusion"], strict=True)
            ],
        },
        "reliability": [_bar(*row) for row in calibration["reliability"]],
        "mistakes": [{**each, "probability": _share(each["probability"])} for each in found["mistakes"]],
        "notes": found["notes"],
    }


def class_cards(evaluation: Mapping[str, Any], words: Words) -> list[dict[str, str]]:
    """The figures for the top of the page."""
    found = _found(evaluation)
    if found is None:
        return []
    shown = {name: found[name] for name in ("accuracy", "macro_f1")}
    return [
        {"label": words[name], "value": _share(value["value"]), "note": _reach(value)}
        for name, value in shown.items()
    ]


def _found(evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    figures = [each for each in evaluation.values() if isinstance(each, Mapping) and "classification" in each]
    chosen = evaluation.get("test") if evaluation.get("test") in figures else (figures or [None])[-1]
    classification: Mapping[str, Any] | None = None if chosen is None else chosen["classification"]
    return classification


def _bar(confidence: float, right: float, texts: int) -> dict[str, str]:
    return {
        "label": f"{_share(confidence)} · {texts:,}",
        "value": _share(right),
        "width": f"{100 * right:.1f}",
    }


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _reach(interval: Mapping[str, float]) -> str:
    return f"{_share(interval['low'])} – {_share(interval['high'])}"


def _interval(interval: Mapping[str, float] | None) -> str:
    return "–" if interval is None else f"{_share(interval['value'])} ({_reach(interval)})"

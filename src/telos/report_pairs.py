"""The part of `report.html` on a model that answers texts, as translators do, from the figures in
`evaluation.json`."""

from collections.abc import Mapping
from typing import Any

__all__ = ["pair_cards", "pair_figures"]

Words = Mapping[str, str]


def pair_figures(evaluation: Mapping[str, Any], words: Words) -> dict[str, Any] | None:
    """What the template shows of the test split; `None` where no texts are answered."""
    found = _found(evaluation)
    if found is None:
        return None
    faults = ", ".join(f"{count:,} {words[f'fault_{name}']}" for name, count in found["faults"].items())
    exact = found["exact"]
    return {
        "facts": [
            ("BLEU", f"{_score(found['bleu'])}  {found['bleu']['signature']}"),
            ("chrF", f"{_score(found['chrf'])}  {found['chrf']['signature']}"),
            (words["exact_answers"], f"{exact['value']:.1%} ({exact['low']:.1%} – {exact['high']:.1%})"),
            (words["length_ratio"], f"{found['length_ratio']:.3f}"),
            (words["faults"], faults),
        ],
        "lengths": {
            "columns": ["chrF", words["sentences"]],
            "rows": [
                (
                    words["up_to"].format(count=f"{each['characters']:,}"),
                    f"{each['chrf']:.1f}",
                    f"{each['sentences']:,}",
                )
                for each in found["by_length"]
            ],
        },
        "worst": [{**each, "chrf": f"{each['chrf']:.1f}"} for each in found["worst"]],
    }


def pair_cards(evaluation: Mapping[str, Any], words: Words) -> list[dict[str, str]]:
    """The figures for the top of the page."""
    found = _found(evaluation)
    if found is None:
        return []
    return [
        {"label": label, "value": f"{found[name]['score']:.1f}", "note": _reach(found[name])}
        for name, label in (("bleu", "BLEU"), ("chrf", "chrF"))
    ]


def _found(evaluation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    test = evaluation.get("test")
    pairs: Mapping[str, Any] | None = test.get("pairs") if isinstance(test, Mapping) else None
    return pairs


def _score(figure: Mapping[str, Any]) -> str:
    reach = _reach(figure)
    return f"{figure['score']:.2f}" + (f" ({reach})" if reach else "")


def _reach(figure: Mapping[str, Any]) -> str:
    return "" if figure["low"] is None else f"{figure['low']:.1f} – {figure['high']:.1f}"

"""`report.html`: what a run did, on one page that needs nothing else. Made from the run folder's files alone.

    recipe.toml       settings                              metrics.jsonl    curves
    evaluation.json   {split: figures}; a split may hold    samples.json     [{prompt, text, finished}],
                      `compression`, of the same bytes                       or samples.txt as it is
    card.json         the data                              machine.json     the hardware

All but the recipe may be missing. All in them is data, never markup: text from training or from a model is
escaped, the page runs no script and loads nothing (its content security policy forbids it), and control
characters, which could reorder what is read, are shown as their code.
"""

import math
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePath
from typing import Any, Literal

from telos import __version__
from telos.errors import DataError
from telos.evaluate.copied import LONG
from telos.folder import write_text
from telos.report_classes import class_cards, class_figures
from telos.report_files import json_of, lines_of, toml_of
from telos.report_pairs import pair_cards, pair_figures

__all__ = ["Language", "environment", "visible", "write_report"]

Language = Literal["en", "zh"]
Words = Mapping[str, str]
Rows = list[tuple[str, str]]

_SCORES = ("bits_per_byte", "perplexity", "loss", "tokens", "bytes", "documents", "window", "stride")
_COMPRESSORS = ("lzma_together", "lzma_alone", "gzip_together", "gzip_alone")
_AS_WRITTEN: Words = {}  # settings keep the names that a recipe gives them
_RAW = 60  # points from which the training loss is drawn smoothed, with the raw one pale behind it


def write_report(run_folder: Path, language: Language = "en") -> Path:
    """Write `report.html` into the run's folder and return its path.

    Raises:
        DataError: the folder has no `recipe.toml`, so it is no run; or a file is not what its name says.
        CheckpointError: the report cannot be written.
    """
    if not (run_folder / "recipe.toml").is_file():
        raise DataError(
            f"{run_folder}: not a run: there is no recipe.toml. Give the folder of a run, runs/NAME."
        )
    page = environment().get_template("report.html.j2").render(**_content(run_folder, language))
    path = run_folder / "report.html"
    write_text(path, page)
    return path


def environment() -> Any:
    """The engine of pages: what is filled in is escaped, and only templates that come with Telos are read."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    source = resources.files("telos") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.loader = FunctionLoader(lambda name: (source / name).read_text(encoding="utf-8"))
    environment.filters["visible"] = visible
    return environment


def _words(language: Language) -> Words:
    text = (resources.files("telos") / "templates" / "words.toml").read_text(encoding="utf-8")
    words: Words = tomllib.loads(text)[language]
    return words


def _content(folder: Path, language: Language) -> dict[str, Any]:
    """All that the template shows, as text; only the charts are markup, made here from numbers."""
    words = _words(language)
    recipe = toml_of(folder / "recipe.toml")
    metrics = lines_of(folder / "metrics.jsonl")
    evaluation, machine = json_of(folder / "evaluation.json", {}), json_of(folder / "machine.json", {})
    scores = {split: figures for split, figures in evaluation.items() if _is_score(figures)}
    samples = _samples(folder, words)
    return {
        "language": {"zh": "zh-CN"}.get(language, language),
        "words": words,
        "version": __version__,
        "name": str(recipe.get("name", folder.name)),
        "subtitle": _subtitle(recipe),
        "cards": [
            *class_cards(evaluation, words),
            *pair_cards(evaluation, words),
            *_cards(scores, {**_last_values(metrics), **machine}, words),
        ],
        "classes": class_figures(evaluation, words),
        "pairs": pair_figures(evaluation, words),
        "scores": [_score_row(split, figures, words) for split, figures in scores.items()],
        "score_columns": _SCORES,
        "bars": _bars(scores, words),
        "notes": _notes(scores, words),
        "missing": [str(row["unavailable"]) for row in evaluation.values() if _is_missing(row)],
        "skipped": _skipped(metrics, words),
        "charts": _charts(metrics, words),
        "samples": samples,
        "marked": any(visible(part) != part for s in samples for part in (s["prompt"], s["text"])),
        "data": _groups(json_of(folder / "card.json", {}), words, ("splits", "scripts")),
        "settings": _groups(recipe, _AS_WRITTEN),
        "machine": [
            (_label(key.removesuffix("_bytes"), words), _shown(key, value)) for key, value in machine.items()
        ],
    }


# ---- text and numbers


def visible(text: object) -> str:
    """The text with control and invisible characters as their code, `⟦U+202E⟧`; line ends and tabs stay."""
    return "".join(f"⟦U+{ord(c):04X}⟧" if _hidden(c) else c for c in str(text))


def _hidden(character: str) -> bool:
    # Joiners are part of emoji and of Arabic and Indic words.
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cf", "Cs") and character not in "\n\t\u200c\u200d"


def _number(value: object, digits: int = 4) -> str:
    """A number as it is read: thousands apart, `digits` of a fraction; a dash for what is not known."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def _large(value: float) -> str:
    """1234567 as `1.23 M`."""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f}"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{left} s"


def _shown(key: str, value: object) -> str:
    """A value of the recipe, card or machine as text; of a full path, which names people, the end alone."""
    if isinstance(value, list | tuple):
        return ", ".join(_shown(key, item) for item in value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "–"}[value]
    if isinstance(value, int) and "memory" in key:
        return f"{value / 2**30:.1f} GiB"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return _without_folders(str(value))


def _without_folders(text: str) -> str:
    path = PurePath(text)
    return f"…/{path.name}" if path.is_absolute() and "\n" not in text and len(path.parts) > 2 else text


# ---- parts of the page


def _subtitle(recipe: Mapping[str, Any]) -> str:
    def named(key: str) -> str:
        given = recipe.get(key, "")
        return str(given.get("name", "")) if isinstance(given, Mapping) else str(given)

    return " · ".join(part for part in (named("objective"), named("model")) if part)


def _is_score(figures: object) -> bool:
    return isinstance(figures, Mapping) and "loss" in figures


def _is_missing(figures: object) -> bool:
    return isinstance(figures, Mapping) and "unavailable" in figures


def _headline(scores: Mapping[str, Any]) -> Mapping[str, Any]:
    """The split that counts: the test split, or whichever is there last."""
    return scores.get("test") or next(reversed(list(scores.values())), {})


def _cards(scores: Mapping[str, Any], known: Mapping[str, Any], words: Words) -> list[dict[str, str]]:
    """The figures at the top, those that are known."""
    best, split = _headline(scores), words.get(_split_of(scores), _split_of(scores))
    steps = f"{_number(known.get('step'))} {words['steps']}"
    found: list[tuple[str, Any, Callable[[float], str], str]] = [
        ("bits_per_byte", best.get("bits_per_byte"), lambda v: f"{v:.3f}", split),
        ("perplexity", best.get("perplexity"), lambda v: f"{v:,.1f}", split),
        ("parameters", known.get("parameters"), _large, _trained(known, words)),
        ("trained_tokens", known.get("tokens"), _large, steps),
        ("time", known.get("seconds"), _duration, ""),
    ]
    return [
        {"label": words[name], "value": form(value), "note": note}
        for name, value, form, note in found
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def _trained(known: Mapping[str, Any], words: Words) -> str:
    """How many numbers were trained, where most of the model stayed as it was."""
    trained, whole = known.get("trained"), known.get("parameters")
    if not isinstance(trained, int) or not isinstance(whole, int) or trained >= whole:
        return ""
    return words["of_which_trained"].format(trained=_large(trained))


def _skipped(metrics: Sequence[Mapping[str, Any]], words: Words) -> str:
    """A warning of the steps that changed nothing, where there were any."""
    counted = [record for record in metrics if isinstance(record.get("skipped"), int) and "step" in record]
    if not counted or not counted[-1]["skipped"]:
        return ""
    return words["skipped"].format(skipped=counted[-1]["skipped"], steps=_number(counted[-1]["step"]))


def _split_of(scores: Mapping[str, Any]) -> str:
    return "test" if "test" in scores else next(reversed(list(scores)), "")


def _last_values(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last known value of every figure."""
    last: dict[str, Any] = {}
    for record in metrics:
        last |= {name: value for name, value in record.items() if value is not None}
    return last


def _score_row(split: str, figures: Mapping[str, Any], words: Words) -> dict[str, str]:
    kind = figures.get("kind", "exact")
    remarks = [words[f"kind_{kind}"]] if kind in ("bound", "pseudo") else []
    remarks += [words[flag] for flag in ("truncated", "carried") if figures.get(flag)]
    name = words.get(split, split)
    label = f"{name} ({', '.join(remarks)})" if remarks else name
    digits = {"perplexity": 2}
    return {"split": label, **{c: _number(figures.get(c), digits.get(c, 4)) for c in _SCORES}}


def _notes(scores: Mapping[str, Any], words: Words) -> list[str]:
    """What the figures' notes say, each once; those that Telos itself makes in the page's language."""
    own = {text: name for name, text in _words("en").items()}
    notes = [note for figures in scores.values() for note in figures.get("notes", ())]
    return [_translated(note, own, words) for note in dict.fromkeys(notes)]


def _translated(note: str, own: Mapping[str, str], words: Words) -> str:
    """A note of Telos's own, with or without a figure before it, in the page's language; others as they
    are."""
    figure, _, rest = note.partition(" ")
    if rest in own:
        return f"{figure} {words[own[rest]]}"
    return words[own[note]] if note in own else note


def _bars(scores: Mapping[str, Any], words: Words) -> list[dict[str, Any]]:
    """Bits per byte of the model and of compressors on the same bytes, as shares of the longest."""
    best = _headline(scores)
    compression = best.get("compression") or {}
    found = [("model", best.get("bits_per_byte")), *((name, compression.get(name)) for name in _COMPRESSORS)]
    known = [(name, float(value)) for name, value in found if isinstance(value, int | float)]
    if len(known) < 2:
        return []
    longest = max(value for _, value in known) or 1.0
    return [
        {
            "label": words[name],
            "value": f"{value:.3f}",
            "width": f"{100 * value / longest:.1f}",
            "own": name == "model",
        }
        for name, value in sorted(known, key=lambda pair: pair[1])
    ]


def _samples(folder: Path, words: Words) -> list[dict[str, Any]]:
    given = json_of(folder / "samples.json", None)
    if given is None:
        path = folder / "samples.txt"
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        whole = {"prompt": "", "text": text, "why": "", "empty": False, **_copied(None, words)}
        return [whole] if text.strip() else []
    return [
        {
            "prompt": str(sample.get("prompt", "")),
            "text": str(sample.get("text", "")),
            "why": words.get(f"finished_{sample.get('finished')}", ""),
            "empty": not sample.get("prompt"),
            **_copied(sample.get("copied"), words),
        }
        for sample in given
        if isinstance(sample, Mapping)
    ]


def _copied(found: object, words: Words) -> dict[str, Any]:
    """What of a sample stands in the training text, if anything, and whether that is more than a phrase."""
    if not isinstance(found, Mapping) or not found.get("tokens"):
        return {"copied": "", "long": False}
    return {"copied": words["copied"].format(**found), "long": found["tokens"] >= LONG}


def _groups(table: Mapping[str, Any], words: Words, unfold: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A table as a group of its plain values, and one for each table in it, as a grid where it is one."""
    flat = {key: value for key, value in table.items() if not _nested(value) and value not in ([], "")}
    plain = [(_label(key, words), text) for key, text in _flat(flat)]
    groups = [_group("", [], plain, True)] if plain else []
    for key, value in table.items():
        if _nested(value) and value:
            columns = _columns(value)
            grid = [
                (_label(row, words), *(_shown(c, value[row][c]) for c in columns)) for row in value if columns
            ]
            headings = [_label(column, words) for column in columns]
            groups.append(_group(_label(key, words), headings, grid or _flat(value), key in unfold))
    return groups


def _group(
    title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]], unfolded: bool
) -> dict[str, Any]:
    return {"title": title, "columns": columns, "rows": rows, "open": unfolded}


def _columns(value: object) -> list[str]:
    """The columns of a table of tables that all have the same plain values; none if it is not one."""
    rows = list(value.values()) if isinstance(value, Mapping) else []
    if not rows or not all(isinstance(row, Mapping) and row.keys() == rows[0].keys() for row in rows):
        return []
    return [] if any(_nested(cell) for row in rows for cell in row.values()) else list(rows[0])


def _label(key: str, words: Words) -> str:
    return words.get(key, key.replace("_", " ")) if words else key


def _nested(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(v, Mapping) for v in value)
    )


def _flat(value: object, prefix: str = "") -> Rows:
    """Nested plain data as rows of dotted keys and text."""
    if isinstance(value, Mapping):
        return [
            row
            for key, inner in value.items()
            for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list) and _nested(value):
        return [row for index, inner in enumerate(value, 1) for row in _flat(inner, f"{prefix}.{index}")]
    return [(prefix, _shown(prefix, value))]


# ---- curves

Point = tuple[float, float]


def _charts(metrics: Sequence[Mapping[str, Any]], words: Words) -> list[dict[str, Any]]:
    train, validation = _series(metrics, "loss"), _series(metrics, "validation.loss")
    specs = [
        ("loss", [("train_loss", "", train), ("validation_loss", "b", validation)], "explain_curves", True),
        ("rate", [("", "exact", _series(metrics, "rate"))], "explain_rate", False),
        ("speed", [("", "", _series(metrics, "tokens_per_second"))], "explain_speed", False),
    ]
    charts = []
    for title, lines, why, wide in specs:
        drawn = [line for line in lines if line[2]]
        if not drawn:
            continue
        charts.append(
            {
                "title": words[title],
                "lines": [{"label": words[label], "style": style} for label, style, _ in drawn if label],
                "svg": _svg([(style, points) for _, style, points in drawn], title, wide),
                "why": words[why],
                "wide": wide,
            }
        )
    return charts


def _series(metrics: Iterable[Mapping[str, Any]], name: str) -> list[Point]:
    """(step, value) of every record that has a finite value of that name."""
    found = ((record.get("step"), record.get(name)) for record in metrics)
    return [
        (float(step), float(value))
        for step, value in found
        if isinstance(step, int | float) and isinstance(value, int | float) and math.isfinite(value)
    ]


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """Mean over a centred window of a thirtieth of the points, narrower at both ends: it does not lag."""
    reach = len(points) // 60
    smooth = []
    for index, (step, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)
        window = points[index - near : index + near + 1]
        smooth.append((step, sum(value for _, value in window) / len(window)))
    return smooth


def _svg(lines: Sequence[tuple[str, Sequence[Point]]], salt: str, wide: bool) -> Any:
    """Lines over steps as inline SVG without words, whose colours are the page's."""
    import io

    import matplotlib
    from markupsafe import Markup
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9}):
        figure = Figure(figsize=(8.4, 3.1) if wide else (4.2, 2.2), layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        for style, points in lines:
            _draw(axes, style, points)
        _dress(axes, [value for _, points in lines for _, value in points])
        out = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(out, metadata=metadata)
    text = out.getvalue()
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    return Markup(text[text.index("<svg") :])  # numbers only: no text of the run's files gets here


_COLOURS = {
    "#010203": "currentColor",
    "#010204": "var(--line-a)",
    "#010205": "var(--line-b)",
    "#010206": "var(--rule)",
}
"""Colours that stand in the drawing for those of the page, which change between light and dark."""
_INK, _LINE_A, _LINE_B, _RULE = _COLOURS


def _draw(axes: Any, style: str, points: Sequence[Point]) -> None:
    colour = _LINE_B if style == "b" else _LINE_A
    steps, values = zip(*points, strict=True)
    marker = "o" if len(points) < 12 else None
    if style != "exact" and len(points) >= _RAW:
        axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
        steps, values = zip(*_smoothed(points), strict=True)
    axes.plot(
        steps, values, color=colour, linewidth=1.8, marker=marker, markersize=3.5, solid_capstyle="round"
    )


def _dress(axes: Any, values: Sequence[float]) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.tick_params(colors=_INK, length=0)
    axes.grid(axis="y", color=_RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    large = max(map(abs, values)) >= 1000
    axes.yaxis.set_major_formatter(EngFormatter(sep="") if large else FuncFormatter(lambda v, _: f"{v:.3g}"))
    axes.margins(x=0.01)

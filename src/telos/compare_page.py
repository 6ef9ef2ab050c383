"""What a comparison found, as compare.json, compare.md and compare.html: tables, plots, and the differences
that exceed the spread of the seeds.

A figure is the mean over seeds with its 95 % interval (Student's), a difference of two cells has Welch's.
Figures of different kinds (exact, bound, pseudo) stand in different rows, and no difference is made of them.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from telos import __version__
from telos.evaluate._intervals import Interval, difference, over_seeds
from telos.folder import write_json, write_text

__all__ = ["COLOURS", "Cell", "Compared", "Difference", "Drawing", "write_pages"]

KINDS = {"exact": "exact", "bound": "upper bound", "pseudo": "pseudo-likelihood"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f")
"""Told apart by the colour-blind too (Okabe and Ito, 2008), the last two added."""


class Cell(NamedTuple):
    """One run of a comparison, and what was measured of it."""

    name: str
    seed: int
    found: Mapping[str, Any]


class Difference(NamedTuple):
    """Of a figure: how much higher it is in one cell than in another."""

    figure: str
    first: str
    second: str
    gap: Interval

    @property
    def exceeds(self) -> bool:
        """Whether its interval leaves nought out: it is more than the seeds' spread."""
        return (
            self.gap.low is not None and self.gap.high is not None and not self.gap.low <= 0 <= self.gap.high
        )


@dataclass(frozen=True)
class Compared:
    """All cells of a comparison."""

    name: str
    settings: Mapping[str, Any]
    cells: tuple[Cell, ...]

    @cached_property
    def names(self) -> list[str]:
        """The cells in their order, each once."""
        return list(dict.fromkeys(cell.name for cell in self.cells))

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds of every cell."""
        return list(dict.fromkeys(cell.seed for cell in self.cells))

    @cached_property
    def values(self) -> dict[str, dict[str, list[float]]]:
        """By figure and cell: the value of each seed."""
        found: dict[str, dict[str, list[float]]] = {}
        for cell in self.cells:
            for figure, value in _figures(cell.found):
                found.setdefault(figure, {}).setdefault(cell.name, []).append(value)
        return found

    @cached_property
    def differences(self) -> list[Difference]:
        """Of every figure, between every two cells that have it."""
        return [
            Difference(figure, first, second, difference(by_cell[first], by_cell[second]))
            for figure, by_cell in self.values.items()
            for first, second in combinations(by_cell, 2)
        ]

    def table(self) -> dict[str, Any]:
        """All figures as plain data for JSON."""
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "cells": [{"name": cell.name, "seed": cell.seed, **cell.found} for cell in self.cells],
            "figures": {
                figure: {name: over_seeds(values).table() for name, values in by_cell.items()}
                for figure, by_cell in self.values.items()
            },
            "differences": [
                {
                    "figure": d.figure,
                    "first": d.first,
                    "second": d.second,
                    **d.gap.table(),
                    "exceeds": d.exceeds,
                }
                for d in self.differences
            ],
        }


def _figures(found: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Each figure of a run under the name of its row; what is of another kind has another name."""
    if "held_out" in found:
        held = found["held_out"]
        yield f"bits per byte ({KINDS[held['kind']]})", held["bits_per_byte"]
    if "pairs" in found:
        yield "minimal pairs", found["pairs"]["accuracy"]["value"]
        for name, interval in found["pairs"]["phenomena"].items():
            yield f"minimal pairs: {name}", interval["value"]
    if "probe" in found:
        yield "linear probe", found["probe"]["accuracy"]["value"]


def write_pages(compared: Compared, folder: Path) -> None:
    """Write compare.json, compare.md with its plots, and compare.html.

    Raises:
        CheckpointError: they cannot be written.
    """
    plots = _plots(compared)
    write_json(folder / "compare.json", compared.table())
    for plot in plots:
        write_text(folder / f"{plot.name}.svg", plot.svg)
    write_text(folder / "compare.md", markdown(compared, plots))
    write_text(folder / "compare.html", _page(compared, plots))


# ---- what is said


class Table(NamedTuple):
    """A table of text: its heads and rows."""

    heads: list[str]
    rows: list[list[str]]


def cells_of(compared: Compared) -> Table:
    """What each cell is and what it used, in the mean over seeds."""
    rows = []
    for name in compared.names:
        found = [cell.found for cell in compared.cells if cell.name == name]
        training = [each["training"] for each in found]
        first = training[0]
        scored = KINDS[found[0]["held_out"]["kind"]] if "held_out" in found[0] else "–"
        numbers = (
            sum(each[key] for each in training) / len(training) for key in ("tokens", "flops", "seconds")
        )
        tokens, flops, seconds = numbers
        rows.append(
            [
                name,
                first["objective"],
                first["model"],
                scored,
                f"{first['parameters']:,}",
                f"{tokens:,.0f}",
                f"{flops:.2e}",
                f"{seconds:,.0f}",
            ]
        )
    heads = ["cell", "objective", "model", "texts scored by", "parameters", "tokens", "FLOPs", "seconds"]
    return Table(heads, rows)


def figures_of(compared: Compared) -> Table:
    """Each figure by cell: the mean over seeds and its interval; a dash where the cell has no such figure."""
    rows = [
        [figure, *(_shown(figure, by_cell.get(name)) for name in compared.names)]
        for figure, by_cell in compared.values.items()
    ]
    return Table(["figure", *compared.names], rows)


def verdicts(compared: Compared) -> list[str]:
    """The differences that exceed the seeds' spread, in words; and what to think of them."""
    if len(compared.seeds) < 2:
        return ["There is one seed, so how far seeds spread is not known, and no difference can be told."]
    found = [each for each in compared.differences if each.exceeds]
    lines = [
        f"{d.figure}: {d.first} {_gap(d)} {'higher' if d.gap.value > 0 else 'lower'} than {d.second}"
        for d in found
    ]
    count = len(compared.differences)
    chance = f"about {0.05 * count:.1f}" if count else "none"
    end = f"{len(found)} of {count} differences exceed the seeds' spread; {chance} would by chance alone."
    return [*lines, end]


def _gap(d: Difference) -> str:
    low, high = sorted((abs(d.gap.low or 0.0), abs(d.gap.high or 0.0)))
    return f"{_one(d.figure, abs(d.gap.value))} ({_one(d.figure, low)} to {_one(d.figure, high)})"


def _shown(figure: str, values: Sequence[float] | None) -> str:
    if not values:
        return "–"
    interval = over_seeds(values)
    if interval.low is None or interval.high is None:
        return _one(figure, interval.value)
    return f"{_one(figure, interval.value)} ± {_one(figure, interval.high - interval.value)}"


def _one(figure: str, value: float) -> str:
    return f"{value:.3f}" if figure.startswith("bits per byte") else f"{100 * value:.1f} %"


NOTES = (
    "Lower is better for bits per byte, higher for the rest. ± is half of the 95 % interval over seeds.",
    "Exact figures, upper bounds and pseudo-likelihoods are three different things: rows of different kinds "
    "do not compare.",
)


def markdown(compared: Compared, plots: Sequence["Plot"]) -> str:
    """The page as Markdown, with its plots as files beside it."""
    seeds = ", ".join(map(str, compared.seeds))
    parts = [f"# {_plain(compared.name)}", f"Seeds: {seeds}.", _rows(cells_of(compared)), "## Figures"]
    parts += [_rows(figures_of(compared)), "\n".join(f"* {note}" for note in NOTES)]
    parts += ["## Differences that exceed the seeds' spread"]
    parts += ["\n".join(f"* {_plain(line)}" for line in verdicts(compared)), "## Plots"]
    parts += [f"![{_plain(plot.title)}]({plot.name}.svg)\n\n{plot.title}" for plot in plots]
    return "\n\n".join(parts) + "\n"


def _rows(table: Table) -> str:
    lines = [table.heads, ["---"] * len(table.heads), *table.rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown does not read as anything else."""
    return "".join(f"\\{c}" if c in "\\|`*_<>[]#" else c for c in " ".join(text.split()))


def _page(compared: Compared, plots: Sequence["Plot"]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    source = (resources.files("telos") / "templates" / "compare.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    colours = dict(zip(compared.names, _colours(compared), strict=True))
    page: str = environment.from_string(source).render(
        name=compared.name,
        seeds=compared.seeds,
        cells=cells_of(compared),
        figures=figures_of(compared),
        verdicts=verdicts(compared),
        notes=NOTES,
        plots=[(plot.title, Markup(plot.svg[plot.svg.index("<svg") :])) for plot in plots],
        colours=colours,
        version=__version__,
    )
    return page


# ---- plots


class Plot(NamedTuple):
    """A drawing, and what it shows."""

    name: str
    title: str
    svg: str


def _plots(compared: Compared) -> list[Plot]:
    return [*_curves(compared), *_accuracies(compared)]


def _colours(compared: Compared) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(compared.names))]


def _curves(compared: Compared) -> Iterator[Plot]:
    """Validation loss over tokens, one drawing for each kind of loss; a band from seed to seed."""
    by_kind: dict[str, list[str]] = {}
    for cell in compared.cells:
        names = by_kind.setdefault(cell.found["training"]["kind"], [])
        names += [] if cell.name in names else [cell.name]
    for kind, names in by_kind.items():
        curves = {name: _curve(compared, name) for name in names}
        if not any(len(curve) > 1 for curve in curves.values()):
            continue
        with Drawing(8.4, 3.4) as drawing:
            for name, points in curves.items():
                _band(drawing.axes, points, _colours(compared)[compared.names.index(name)], name)
            drawing.axes.set_xlabel("tokens read in training")
            drawing.axes.set_ylabel("nats per asked token")
            drawing.axes.legend(frameon=False)
        title = f"Validation loss as the objective asks it ({KINDS[kind]})"
        yield Plot(f"curves-{kind}", title, drawing.svg)


def _curve(compared: Compared, name: str) -> list[tuple[float, list[float]]]:
    """At each evaluation that every seed has: tokens, and the value of each seed."""
    curves = [cell.found["training"]["curve"] for cell in compared.cells if cell.name == name]
    return [
        (sum(tokens for tokens, _ in points) / len(points), [value for _, value in points])
        for points in zip(*curves, strict=False)
    ]


def _band(axes: Any, points: Sequence[tuple[float, list[float]]], colour: str, name: str) -> None:
    places = [tokens for tokens, _ in points]
    axes.plot(
        places, [sum(v) / len(v) for _, v in points], color=colour, label=name, marker="o", markersize=3
    )
    low, high = [min(v) for _, v in points], [max(v) for _, v in points]
    axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)


def _accuracies(compared: Compared) -> Iterator[Plot]:
    """Minimal pairs by phenomenon, and the probe: a point for each cell with its interval over seeds."""
    groups = {
        "pairs": ("Minimal pairs by phenomenon: share that comes out right", "minimal pairs"),
        "probe": ("Linear probe: share of labels that comes out right", "linear probe"),
    }
    for name, (title, start) in groups.items():
        rows = {f: v for f, v in compared.values.items() if f.startswith(start)}
        if not rows:
            continue
        with Drawing(8.4, 0.9 + 0.34 * len(rows) + 0.12 * len(compared.names)) as drawing:
            _dots(drawing.axes, rows, compared)
        yield Plot(name, title, drawing.svg)


def _dots(axes: Any, rows: Mapping[str, Mapping[str, Sequence[float]]], compared: Compared) -> None:
    gap = 0.6 / max(1, len(compared.names) - 1)
    for index, (name, colour) in enumerate(zip(compared.names, _colours(compared), strict=True)):
        known = [(row, over_seeds(v[name])) for row, v in enumerate(rows.values()) if name in v]
        heights = [row - 0.3 + gap * index for row, _ in known]
        reach = [0.0 if i.high is None else i.high - i.value for _, i in known]
        values = [interval.value for _, interval in known]
        axes.errorbar(values, heights, xerr=reach, fmt="o", markersize=4, color=colour, label=name)
    axes.set_yticks(range(len(rows)), [row.partition(": ")[2] or "all" for row in rows])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.legend(frameon=False, fontsize=8)


class Drawing:
    """Axes to draw on, and afterwards the drawing as SVG. Names in it are text, never formulas or markup."""

    def __init__(self, width: float, height: float) -> None:
        self._size = width, height
        self.axes: Any = None
        self.svg = ""

    def __enter__(self) -> "Drawing":
        import matplotlib
        from matplotlib.figure import Figure

        style: Any = {
            "svg.fonttype": "none",
            "svg.hashsalt": "telos",
            "font.size": 9,
            "text.parse_math": False,
        }
        self._context = matplotlib.rc_context(style)
        self._context.__enter__()
        self._figure = Figure(figsize=self._size, layout="constrained", facecolor="none")
        self.axes = self._figure.add_subplot(facecolor="none")
        for side in ("top", "right"):
            self.axes.spines[side].set_visible(False)
        self.axes.grid(color="#8888", linewidth=0.5)
        self.axes.set_axisbelow(True)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        if kind is None:
            out = io.StringIO()
            metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            canvas: Any = FigureCanvasSVG(self._figure)
            canvas.print_svg(out, metadata=metadata)
            self.svg = out.getvalue().replace("#000000", "currentColor")
        self._context.__exit__(None, None, None)

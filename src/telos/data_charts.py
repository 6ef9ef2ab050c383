"""The drawings of a data report: inline SVG with numbers and no words, in the colours of the page.

What the axes are stands in the page's own text, in its language, and is set by the browser.
"""

from collections.abc import Sequence
from typing import Any

from telos.compare_page import Drawing
from telos.data.statistics import Bin
from telos.how_much import Answer

__all__ = ["growth", "lengths", "losses", "ranks"]

Point = tuple[float, float]
LINES = {"a": "#3b5bdb", "b": "#d9480f"}
"""The colours of the two lines, which the page names `--line-a` and `--line-b`."""
WIDE, NARROW, HEIGHT = 6.6, 4.2, 2.4


def lengths(bins: Sequence[Bin], window: int | None) -> str:
    """Documents by their tokens, on a logarithmic scale; a line at the window of the model."""
    with Drawing(WIDE, HEIGHT) as drawing:
        axes = drawing.axes
        axes.set_xscale("log")
        left = [each.low for each in bins]
        width = [each.high - each.low for each in bins]
        axes.bar(
            left,
            [each.documents for each in bins],
            width,
            align="edge",
            color=LINES["a"],
            edgecolor=LINES["a"],
            alpha=0.75,
        )
        if window:
            axes.axvline(window, color=LINES["b"], linewidth=1.5)
        _dress(axes, across=True, up=False)
    return _in_page(drawing.svg)


def ranks(tokens: Sequence[Point], words: Sequence[Point]) -> str:
    """Counts over ranks of tokens (line a) and of words (line b)."""
    return _curves([("a", tokens), ("b", words)])


def growth(tokens: Sequence[Point], words: Sequence[Point]) -> str:
    """Different tokens (a) and words (b) over how many were read."""
    return _curves([("a", tokens), ("b", words)])


def losses(answer: Answer) -> str:
    """The expected loss over passes: of the text read again (a), and of as much new text (b)."""
    passes = answer.passes
    with Drawing(WIDE, HEIGHT) as drawing:
        axes = drawing.axes
        axes.set_xscale("log", base=2)
        for name, values in (("b", [p.loss_if_new for p in passes]), ("a", [p.loss for p in passes])):
            style = "--" if name == "b" else "-"
            axes.plot(
                [p.epochs for p in passes], values, style, color=LINES[name], marker="o", markersize=3.5
            )
        axes.set_xticks([p.epochs for p in passes], [str(p.epochs) for p in passes])
        axes.tick_params(length=0)
    return _in_page(drawing.svg)


def _curves(lines: Sequence[tuple[str, Sequence[Point]]]) -> str:
    with Drawing(NARROW, HEIGHT) as drawing:
        drawing.axes.set_xscale("log")
        drawing.axes.set_yscale("log")
        for name, points in lines:
            if points:
                across, up = zip(*points, strict=True)
                drawing.axes.plot(across, up, color=LINES[name], linewidth=1.8)
        _dress(drawing.axes, across=True, up=True)
    return _in_page(drawing.svg)


def _dress(axes: Any, *, across: bool, up: bool) -> None:
    """Plain numbers on logarithmic axes, at powers of ten alone."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    for axis, logarithmic in ((axes.xaxis, across), (axes.yaxis, up)):
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axis.set_major_locator(LogLocator(numticks=7) if logarithmic else MaxNLocator(5, integer=True))
        axis.set_minor_locator(NullLocator())
    axes.tick_params(length=0)


def _short(value: float) -> str:
    """1000 as `1k`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def _in_page(svg: str) -> str:
    for name, colour in LINES.items():
        svg = svg.replace(colour, f"var(--line-{name})")
    return svg[svg.index("<svg") :]

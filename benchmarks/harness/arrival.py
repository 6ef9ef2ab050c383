"""When ours arrives at the loss that the best peer ends with: figures, a table and a drawing of stored runs.

A run is planned for its time: its rate has come down when that is over, so the loss at its end is what this
time is worth. Ours arrives where the ends of its runs, or the curve of one of them, first are at the peer's
last loss, between two points straight in the logarithm of time. A run that was planned longer arrives later
on its curve than one that was planned for just that time: what is found is too long rather than too short.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .races import Race
from .racing import ends

__all__ = ["Arrival", "arrivals", "crossing", "drawing", "section"]

Run = Mapping[str, Any]
Curve = Sequence[tuple[float, float]]
"""(seconds, loss), in the order of time."""


def crossing(curve: Curve, loss: float) -> float | None:
    """Seconds at which a curve first is at or below a loss; none where it never is."""
    before: tuple[float, float] | None = None
    for seconds, now in curve:
        if now <= loss:
            if before is None or before[1] == now:
                return seconds
            share = (before[1] - loss) / (before[1] - now)
            return math.exp(math.log(before[0]) + share * (math.log(seconds) - math.log(before[0])))
        before = seconds, now
    return None


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Of one recipe of ours beside the best peer."""

    name: str
    peer: str
    loss: float
    """That the peer ends with, the mean over its seeds."""
    peer_seconds: float
    seconds: Mapping[int, float | None]
    """Of ours by seed: none where it does not get there."""

    @property
    def shares(self) -> list[float]:
        """Of the peer's time, for each seed that arrives."""
        return [each / self.peer_seconds for each in self.seconds.values() if each is not None]

    @property
    def share(self) -> float | None:
        """The mean over seeds; none unless all arrive."""
        return statistics.fmean(self.shares) if len(self.shares) == len(self.seconds) else None


def arrivals(runs: Iterable[Run]) -> list[Arrival]:
    """For each recipe of ours; none without a peer that came to its end."""
    whole = [run for run in runs if ends(run)]
    peers: dict[tuple[str, float], list[Run]] = {}
    ours: dict[str, dict[int, list[Run]]] = {}
    for run in whole:
        if run["ours"]:
            ours.setdefault(run["name"], {}).setdefault(run["seed"], []).append(run)
        else:
            peers.setdefault((run["name"], run["minutes"]), []).append(run)
    if not peers:
        return []
    longest = max(minutes for _, minutes in peers)
    lasts = {name: _mean(found, "loss") for (name, minutes), found in peers.items() if minutes == longest}
    peer = min(lasts, key=lambda name: lasts[name])
    seconds = _mean(peers[peer, longest], "seconds")
    return [
        Arrival(
            name=name,
            peer=peer,
            loss=lasts[peer],
            peer_seconds=seconds,
            seconds={seed: _arrival(found, lasts[peer]) for seed, found in seeds.items()},
        )
        for name, seeds in ours.items()
    ]


def _mean(runs: Sequence[Run], key: str) -> float:
    return statistics.fmean(run["points"][-1][key] for run in runs)


def _arrival(runs: Sequence[Run], loss: float) -> float | None:
    """By the ends of these runs, and by each of their curves: the first."""
    curves = [_curve(run) for run in runs]
    found = [crossing(curve, loss) for curve in [sorted(curve[-1] for curve in curves), *curves]]
    return min((each for each in found if each is not None), default=None)


def _curve(run: Run) -> list[tuple[float, float]]:
    return [(point["seconds"], point["loss"]) for point in run["points"]]


# ---- what is said


HEADS = ("contestant", "minutes", "rate, batch", "loss at the end, by seed", "mean", "bits per byte")
HEADS = (*HEADS, "million tokens", "processor minutes")


def section(race: Race, found: Mapping[str, Any], file: str, plot: str) -> str:
    """A race's table with what follows from it, in Markdown."""
    rows = [HEADS, ["---"] * len(HEADS), *_rows(race, found["runs"])]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    load = [each for run in found["runs"] for each in run["load"]]
    dates = " and ".join(sorted({run["date"][:10] for run in found["runs"]}))
    about = (
        f"{found['held_out']} Measured {dates}, [figures]({file}), load {min(load):g}–{max(load):g}, "
        f"again by `{found['command']}`."
    )
    failed = [f"{run['name']} did not get there: {run['error']}" for run in found["runs"] if run.get("error")]
    lines = [*verdicts(race, found["runs"]), *failed]
    listed = "\n".join(f"* {line}." for line in lines)
    return "\n\n".join([f"### {race.title}", f"![{race.title}]({plot})", table, listed, about])


def _rows(race: Race, runs: Sequence[Run]) -> Iterable[list[str]]:
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (not run["ours"], run["name"], run["minutes"], run["seed"])):
        if ends(run):
            groups.setdefault((run["name"], run["minutes"], run["rate"], run["batch"]), []).append(run)
    for (name, minutes, rate, batch), found in groups.items():
        bits = [run["points"][-1]["bits_per_byte"] for run in found]
        mean = _mean(found, "loss")
        yield [
            name,
            f"{minutes:.3g}",
            f"{rate:g}, {batch}" if rate else "its own",
            ", ".join(_shown(race, run["points"][-1]["loss"]) for run in found),
            f"**{_shown(race, mean)}**",
            f"{statistics.fmean(bits):.3f}" if None not in bits else "–",
            f"{_mean(found, 'tokens') / 1e6:.2f}",
            f"{_mean(found, 'processor') / 60:.1f}",
        ]


def _shown(race: Race, loss: float) -> str:
    return f"{math.exp(loss):.1f}" if race.figure == "perplexity" else f"{loss:.4f}"


def verdicts(race: Race, runs: Sequence[Run]) -> Iterable[str]:
    """What was found of the targets."""
    for found in arrivals(runs):
        what = f"{found.peer} ends at {_shown(race, found.loss)} after {found.peer_seconds / 60:.1f} minutes"
        if found.share is None:
            yield f"{what}; {found.name} does not get there with every seed in its time"
            continue
        each = ", ".join(f"{share:.2f}" for share in found.shares)
        verdict = "met" if found.share <= race.target else "missed"
        yield (
            f"{what}; {found.name} is there after **{found.share:.2f}** of that ({each}); "
            f"target ≤ {race.target:.2f}: {verdict}"
        )
    yield from (_tested(race, run) for run in runs if ends(run) and "test" in run["scores"])


def _tested(race: Race, run: Run) -> str:
    """Of a run that was tested: what came of it."""
    perplexity, asked = math.exp(run["scores"]["test"]["loss"]), run["scores"]["test"]["asked"]
    what = f"{run['name']}, seed {run['seed']}, {run['minutes']:g} minutes"
    line = f"{what}: test perplexity {perplexity:.1f} of {asked:,} words"
    if not (run["ours"] and race.most):
        return line
    return f"{line}, target ≤ {race.most:g}: {'met' if perplexity <= race.most else 'missed'}"


def drawing(race: Race, runs: Sequence[Run]) -> str:
    """The curves as SVG: a colour for each contestant, a line for each run with a dot at its end, dashed for
    ours."""
    from telos.compare_page import COLOURS, Drawing

    names = list(dict.fromkeys(run["name"] for run in runs if ends(run)))
    value = math.exp if race.figure == "perplexity" else float
    with Drawing(8.4, 4.2) as found:
        for run in filter(ends, runs):
            colour = COLOURS[names.index(run["name"]) % len(COLOURS)]
            places = [point["seconds"] / 60 for point in run["points"]]
            values = [value(point["loss"]) for point in run["points"]]
            style = "--" if run["ours"] else "-"
            found.axes.plot(places, values, style, color=colour, linewidth=1, label=run["name"])
            found.axes.plot(places[-1], values[-1], "o", color=colour, markersize=4)
        found.axes.set_xscale("log")
        found.axes.xaxis.set_major_formatter(lambda minutes, _: f"{minutes:g}")
        found.axes.set_xlabel("minutes of training")
        found.axes.set_ylabel("perplexity" if race.figure == "perplexity" else "held-out nats per token")
        lines, labels = found.axes.get_legend_handles_labels()
        first = dict(reversed([*zip(labels, lines, strict=True)]))
        found.axes.legend(first.values(), first.keys(), frameon=False)
    return found.svg

"""A work is measured: its contestants are started one by one, and then work in turn, a window each."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .corpus import Tokens
from .driver_side import Failed, Worker
from .worker_side import Spec
from .works import Entrant, Work

__all__ = ["Plan", "measured", "tuned"]

PROBE = 3.0
"""Seconds of a window of the matrix rate, at most."""
DIFFERENT = 0.02
"""Share by which parameters may differ before the result warns."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a work is measured."""

    work: Work
    shape: Mapping[str, int]
    corpus: Tokens | None
    entrants: Sequence[Entrant]
    windows: int
    seconds: float
    """Of a window."""
    threads: int
    logs: Path
    """Where standard error of the contestants goes."""
    warm: int

    def worker(self, entrant: Entrant, batch: int) -> Worker:
        """Its process, after its first steps.

        Raises:
            Failed: it did not get there.
        """
        settings = {**entrant.settings, "work": self.work.name, "name": entrant.name}
        corpus = {} if self.corpus is None else asdict(self.corpus)
        spec = Spec(
            family=entrant.family,
            settings=settings,
            shape=self.shape,
            corpus=corpus,
            batch=batch,
            warm=self.warm,
            threads=self.threads,
        )
        return Worker(spec, entrant.environment, self.logs / f"{self.work.name}-{entrant.name}.log")

    def length(self, entrant: Entrant) -> float:
        """Seconds of its windows."""
        seconds = self.seconds if self.work.seconds is None else self.work.seconds
        return min(seconds, PROBE) if entrant.family == "matrix" else seconds


def tuned(plan: Plan, batches: Iterable[int], seconds: float, say: Say) -> dict[str, dict[str, Any]]:
    """For each contestant tokens per second by batch, in a short window each, and the best batch."""
    found: dict[str, dict[str, Any]] = {}
    tried = [*batches]
    for entrant in plan.entrants:
        if entrant.family == "matrix":
            continue
        trials = {batch: _trial(plan, entrant, batch, seconds) for batch in tried}
        rates = {batch: rate for batch, rate in trials.items() if isinstance(rate, float)}
        found[entrant.name] = {"trials": {str(batch): trial for batch, trial in trials.items()}}
        if rates:
            found[entrant.name]["batch"] = max(rates, key=lambda batch: rates[batch])
        say(f"  {entrant.name}: {found[entrant.name]}")
    return found


def _trial(plan: Plan, entrant: Entrant, batch: int, seconds: float) -> float | str:
    """Units per second, or why there are none."""
    try:
        worker = plan.worker(entrant, batch)
        try:
            window = worker.window(seconds)
        finally:
            worker.stop()
    except Failed as why:
        return str(why)
    return round(float(window["units"] / window["wall"]), 1)


def measured(plan: Plan, batches: Mapping[str, Mapping[str, Any]], say: Say) -> dict[str, Any]:
    """All contestants of a work: `batches` says for each its batch, and where that is from."""
    workers: dict[str, Worker] = {}
    found: dict[str, dict[str, Any]] = {}
    try:
        for entrant in plan.entrants:
            chosen = batches[entrant.name]
            found[entrant.name] = _entry(entrant) | dict(chosen)
            _start(plan, entrant, chosen["batch"], workers, found[entrant.name], say)
        for number in range(plan.windows):
            _turn(plan, workers, found, f"  window {number + 1} of {plan.windows}", say)
    finally:
        for worker in workers.values():
            worker.stop()
    for entry in found.values():
        entry |= _summary(entry["windows"])
    return found


def _entry(entrant: Entrant) -> dict[str, Any]:
    asked = {"family": entrant.family, "environment": entrant.environment, "asked": dict(entrant.settings)}
    return {**asked, "windows": []}


def _start(
    plan: Plan, entrant: Entrant, batch: int, workers: dict[str, Worker], entry: dict[str, Any], say: Say
) -> None:
    begun = time.perf_counter()
    try:
        workers[entrant.name] = worker = plan.worker(entrant, batch)
    except Failed as why:
        entry["error"] = str(why)
        say(f"  {entrant.name}: {why}")
        return
    entry |= worker.ready
    say(f"  {entrant.name}: ready after {time.perf_counter() - begun:.1f} s")


def _turn(
    plan: Plan, workers: dict[str, Worker], found: Mapping[str, dict[str, Any]], label: str, say: Say
) -> None:
    """A window for each contestant that still works."""
    figures = []
    for entrant in plan.entrants:
        if entrant.name not in workers:
            continue
        try:
            window = workers[entrant.name].window(plan.length(entrant))
        except Failed as why:
            found[entrant.name]["error"] = str(why)
            workers.pop(entrant.name).stop()
            say(f"  {entrant.name}: {why}")
            continue
        found[entrant.name]["windows"].append(window)
        figures.append(f"{entrant.name} {window['units'] / window['wall']:,.4g}")
    say(f"{label}: {', '.join(figures)}")


def _summary(windows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over the windows, units per second of wall and of processor time; nothing of no windows."""
    if not windows:
        return {}
    return {
        "rate": statistics.median(window["units"] / window["wall"] for window in windows),
        "processor_rate": statistics.median(
            window["units"] / max(window["processor"], 1e-9) for window in windows
        ),
        "peak_bytes": max(window["peak_bytes"] for window in windows),
        "children_bytes": max(window["children_bytes"] for window in windows),
        "loss": windows[-1]["loss"],
    }


def warnings(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where a model has clearly more or fewer parameters than ours."""
    ours = found.get("ours", {}).get("parameters")
    if not ours:
        return []
    return [
        f"{name} has {entry['parameters']:,} parameters, ours {ours:,}"
        for name, entry in found.items()
        if "parameters" in entry and abs(entry["parameters"] / ours - 1) > DIFFERENT
    ]

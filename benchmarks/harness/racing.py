"""A race is run: each run alone on the machine, and what was found of it as plain data; a sweep that chooses
the rate and the batch of a contestant by short runs."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from . import machine
from .corpus import Tokens
from .driver_side import Failed, Worker
from .races import Race
from .worker_side import Spec
from .works import Entrant

__all__ = ["Chosen", "Track", "best_of", "raced", "swept"]

WARMUP = 0.05
"""Share of the time in which the rate of peers rises."""
Run = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a contestant trains with: 0 for its own."""

    rate: float = 0.0
    batch: int = 0


@dataclass(frozen=True, kw_only=True)
class Track:
    """What all runs of a race share."""

    race: Race
    shape: Mapping[str, int]
    corpus: Tokens
    threads: int
    logs: Path
    say: Callable[[str], None]

    def spec(
        self, entrant: Entrant, minutes: float, chosen: Chosen, seed: int, points: int, compiling: bool
    ) -> Spec:
        """What a worker is told."""
        own = entrant.settings.get("shape", {})
        shape = {**self.shape, **own, **({"embedding": own["width"]} if own else {})}
        course = {"minutes": minutes, "points": points, "warmup": WARMUP, "rate": chosen.rate}
        return Spec(
            family=entrant.family,
            settings={**entrant.settings, "work": self.race.name, "name": entrant.name},
            shape=shape,
            corpus=asdict(self.corpus),
            batch=chosen.batch,
            threads=self.threads,
            seed=seed,
            course={**course, "compiling": float(compiling)},
        )


def raced(
    track: Track,
    entrant: Entrant,
    *,
    minutes: float,
    chosen: Chosen,
    seed: int,
    points: int,
    compiling: bool = True,
) -> Run:
    """One run from its start to its end; with `error` where it did not get there.

    With `compiling`, the time that it takes counts and nothing that was compiled before is at hand.
    """
    spec = track.spec(entrant, minutes, chosen, seed, points, compiling)
    found: Run = {"name": entrant.name, "seed": seed, "minutes": minutes, **asdict(chosen), "points": []}
    found |= {"asked": dict(entrant.settings), "threads": track.threads, "date": _now()}
    found["load"] = [machine.load()]
    log = track.logs / f"{track.race.name}-{entrant.name}.log"
    with tempfile.TemporaryDirectory() as cold:
        try:
            worker = Worker(
                spec, entrant.environment, log, {"TORCHINDUCTOR_CACHE_DIR": cold} if compiling else {}
            )
            try:
                found |= {"ready": dict(worker.ready)}
                _follow(track, worker, minutes, found)
            finally:
                worker.stop()
        except Failed as why:
            found["error"] = str(why)
            track.say(f"  {entrant.name}: {why}")
    found["load"].append(machine.load())
    return found


def _follow(track: Track, worker: Worker, minutes: float, found: Run) -> None:
    for answer in worker.course(120 * minutes + 3600):
        if "end" in answer:
            found |= answer["end"]
        else:
            point = answer["point"]
            found["points"].append(point)
            track.say(f"  {found['name']}, seed {found['seed']}: {told(point)}")


def told(point: Mapping[str, Any]) -> str:
    """Where a run stands."""
    perplexity = math.exp(min(point["loss"], 700))
    return (
        f"{point['seconds'] / 60:.1f} min ({point['processor'] / 60:.1f} of the processor), "
        f"{point['tokens']:,.0f} tokens, loss {point['loss']:.4f}, perplexity {perplexity:.1f}"
    )


def swept(
    track: Track, entrant: Entrant, minutes: float, rates: Sequence[float], batches: Sequence[int]
) -> list[Run]:
    """Short runs, each with a whole schedule: first all batches at the middle rate, then all other rates at
    the batch that was best. What is compiled in the first step does not count."""

    def tried(rate: float, batch: int) -> Run:
        track.say(f"  {entrant.name}: rate {rate:g}, batch {batch or 'its own'}")
        chosen = Chosen(rate=rate, batch=batch)
        return raced(track, entrant, minutes=minutes, chosen=chosen, seed=0, points=1, compiling=False)

    middle = sorted(rates)[len(rates) // 2]
    runs = [tried(middle, batch) for batch in batches]
    best = best_of(runs)
    return runs + [tried(rate, best.batch) for rate in rates if rate != middle] if best else runs


def best_of(runs: Sequence[Run]) -> Chosen | None:
    """Rate and batch of the run that ends at the least loss; none where all failed."""
    whole = [run for run in runs if ends(run)]
    if not whole:
        return None
    best = min(whole, key=lambda run: float(run["points"][-1]["loss"]))
    return Chosen(rate=best["rate"], batch=best["batch"])


def ends(run: Mapping[str, Any]) -> bool:
    """Whether a run came to its end."""
    return bool(run["points"]) and "error" not in run


def _now() -> str:
    return datetime.now().isoformat(timespec="seconds")

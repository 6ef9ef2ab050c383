"""How fast is training with Telos, and with what people would take instead, on this machine?

    python benchmarks/throughput.py [WORK …] [--tune] [--windows 5] [--seconds 20] [--quick]

Each contestant is a process of its own. All of a work are started, one after the other, and then work in turn
for a window each, so that a change in what else the machine does reaches all alike. The figures are medians
over the windows. Peers live in an environment of their own: python benchmarks/peers/install.py; those that
cannot be run are recorded with the reason.

`--tune` first tries several batches for each contestant, in short windows; the best is taken, stored, and
taken again later on the same processor. The result goes to results/throughput-DATE.json, where a work that is
measured again on the same day replaces itself; make_results.py makes the table RESULTS.md of all results.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from harness import machine, results
from harness.corpus import Tokens, text_overrides, tokens
from harness.flops import FORMULA
from harness.measure import Plan, measured, tuned, warnings
from harness.works import WORKS, Work

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The command line."""

    works: Sequence[str]
    only: Sequence[str]
    windows: int
    seconds: float
    tune: bool
    tune_seconds: float
    batches: Sequence[int]
    batch: int
    threads: int
    quick: bool
    root: Path
    out: Path


def main() -> int:
    """Measure what is asked for; the result is written after each work."""
    chosen = _chosen()
    about = machine.described()
    for name in chosen.works:
        say(f"{WORKS[name].title}:")
        found = measure(WORKS[name], chosen, about)
        results.store(chosen.out, about | {"quick": chosen.quick}, name, found)
        for line in results.told(WORKS[name], found):
            say(f"  {line}")
    say(f"written to {chosen.out.name}; python benchmarks/make_results.py makes the table")
    return 0


def say(text: str) -> None:
    """On standard error, at once."""
    print(text, file=sys.stderr, flush=True)


def measure(work: Work, chosen: Chosen, about: Mapping[str, Any]) -> dict[str, Any]:
    """One work: its contestants with their figures, and all that is needed to judge them."""
    shape = work.quick if chosen.quick else work.shape
    entrants = [each for each in work.entrants if not chosen.only or each.name in chosen.only]
    corpus = _corpus(work, shape, chosen)
    plan = Plan(
        work=work,
        shape=shape,
        corpus=corpus,
        entrants=entrants,
        windows=chosen.windows,
        seconds=chosen.seconds,
        threads=chosen.threads,
        logs=chosen.root / "logs",
        warm=min(work.warm, 2) if chosen.quick else work.warm,
    )
    plan.logs.mkdir(parents=True, exist_ok=True)
    before = machine.load()
    batches = _batches(plan, chosen, about)
    found = measured(plan, batches, say)
    vocabulary = corpus.vocabulary if corpus else shape.get("vocabulary", 0)
    per_token = work.flops_per_token(shape, vocabulary)
    return {
        "title": work.title,
        "unit": work.unit,
        "shape": dict(shape),
        "vocabulary": vocabulary,
        "text": _text(corpus),
        "date": datetime.now().isoformat(timespec="seconds"),
        "revision": machine.revision(),
        "command": results.command("throughput.py", work.name, WORKS),
        "windows": chosen.windows,
        "seconds": chosen.seconds if work.seconds is None else work.seconds,
        "threads": chosen.threads,
        "load": [before, machine.load()],
        "flops": {"per_token": per_token, "formula": FORMULA} if per_token else None,
        "contestants": found,
        "warnings": warnings(found),
    }


def _corpus(work: Work, shape: Mapping[str, int], chosen: Chosen) -> Tokens | None:
    """The work's text as tokens, prepared now or before; none where the work has none."""
    if not work.recipe:
        return None
    given = [*text_overrides(chosen.root, chosen.quick), *(each.format(**shape) for each in work.overrides)]
    return tokens(work.recipe, given, chosen.root)


def _text(corpus: Tokens | None) -> str:
    """What the text is called: never where it lies."""
    if corpus is None:
        return ""
    path = next((each.partition("=")[2] for each in corpus.overrides if each.startswith("data.path=")), "")
    return Path(path).parent.name if path.endswith(".xz") else Path(path).name or "python_library"


def _batches(plan: Plan, chosen: Chosen, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each contestant its batch: just tuned, tuned before on such a processor, or the work's."""
    work, names = plan.work, [each.name for each in plan.entrants]
    standard = chosen.batch or (2 if chosen.quick else work.batch)
    found = {name: {"batch": standard, "batch_from": "the work"} for name in names}
    if chosen.tune and work.batches:
        tried = tuned(plan, chosen.batches or work.batches, chosen.tune_seconds, say)
        for name, entry in tried.items():
            found[name] |= {"batch_from": "tuned in this run"} | entry
    elif work.batches and not chosen.batch and not chosen.quick:
        for name, entry in results.tuned_before(chosen.out.parent, work.name, about).items():
            if name in found:
                found[name] = entry
    return found


def _chosen() -> Chosen:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(WORKS)}; all by default")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these contestants")
    parser.add_argument("--windows", type=int, help="windows of each contestant (5)")
    parser.add_argument("--seconds", type=float, help="seconds of a window (20)")
    parser.add_argument("--tune", action="store_true", help="find each contestant's best batch first")
    parser.add_argument("--tune-seconds", type=float, default=8.0, help="of a window while tuning")
    parser.add_argument("--batches", type=int, nargs="+", default=[], help="that tuning tries")
    parser.add_argument("--batch", type=int, default=0, help="rows of a step, for all")
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0: as the libraries do")
    parser.add_argument("--quick", action="store_true", help="tiny shapes and windows: does it run?")
    parser.add_argument("--root", type=Path, default=HERE.parent / "runs" / "benchmarks")
    parser.add_argument("--out", type=Path, help="the result (results/throughput-DATE.json)")
    given = parser.parse_args()
    if unknown := set(given.works) - WORKS.keys():
        parser.error(f"no such work: {', '.join(sorted(unknown))}. There are: {', '.join(WORKS)}.")
    given.works = given.works or [*WORKS]
    given.windows = given.windows or (2 if given.quick else 5)
    given.seconds = given.seconds or (0.3 if given.quick else 20.0)
    quick = "quick-" if given.quick else ""
    given.out = given.out or HERE / "results" / f"{quick}throughput-{date.today()}.json"
    given.root = given.root.resolve()
    return Chosen(**vars(given))


if __name__ == "__main__":
    sys.exit(main())

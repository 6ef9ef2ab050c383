"""How long does training take until the held-out loss is what the best-tuned peer reaches in its time?

    python benchmarks/same_loss.py [RACE …] [--sweep [NAME …]] [--seeds 0 1] [--minutes M] [--quick]
                                   [--recipe NAME] [--set SETTING=VALUE …] [--label ours] [--ours-minutes M …]

Each run has the machine to itself, a schedule for just its time (warm-up, then a cosine to 0; ours as its
recipe has it), and is scored on the same held-out text on the way, while its clock stands. What is compiled
counts, and is compiled anew in each run; start-up and preparing the text do not count. See harness/course.py.

`--sweep` first tries batches and rates of the peers (or of NAME …) in short runs, and keeps them in
results/same-loss-sweep-DATE.json; the newest sweep on such a processor chooses. Runs of peers that are in a
result of such a processor are taken from there, with their date, unless `--again` is given; ours run anew.
The result goes to results/same-loss-DATE.json with a drawing beside it; make_results.py makes the table.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from harness import arrival, held_out, machine, racing, results
from harness.corpus import Tokens, tokens
from harness.races import RACES, Race, text_of
from harness.racing import Chosen, Track
from harness.works import Entrant

HERE = Path(__file__).resolve().parent


class Given(argparse.Namespace):
    """The command line."""

    races: list[str]
    only: list[str]
    sweep: list[str] | None
    sweep_minutes: float
    rates: list[float]
    batches: list[int]
    seeds: list[int]
    minutes: float
    ours_minutes: list[float]
    recipe: str
    set: list[str]
    label: str
    points: int
    held_out: int
    threads: int
    again: bool
    quick: bool
    root: Path
    out: Path


def main() -> int:
    """Run what is asked for; the result is written after each run."""
    given = _given()
    about = machine.described() | {"quick": given.quick}
    for name in given.races:
        race = RACES[name]
        say(f"{race.title}:")
        track, found = _track(race, given)
        ours = Entrant(
            name=given.label,
            family="ours",
            settings={"overrides": given.set, "whole": not race.windows, "recipe": given.recipe},
        )
        if given.sweep is not None:
            _sweep(track, ours, given, about)
        _run(track, ours, given, about, found)
        for line in arrival.verdicts(race, found["runs"]):
            say(f"  {line}")
    say(f"written to {given.out.name}; python benchmarks/make_results.py makes the table")
    return 0


def say(text: str) -> None:
    """On standard error, at once."""
    print(text, file=sys.stderr, flush=True)


def _track(race: Race, given: Given) -> tuple[Track, dict[str, Any]]:
    """Text and windows, prepared now or before; and the result, so far without runs."""
    corpus = tokens(race.recipe, text_of(race, given.root, given.quick), given.root)
    shape = race.quick if given.quick else race.shape
    said = "Held out: all of the split, each contestant with its own state."
    if race.windows:
        path = Path(corpus.stream).with_suffix(f".held-out-{given.held_out}.npz")
        held = _windows(corpus, shape["window"], given.held_out, path)
        said = (
            f"Held out: {held['tokens']:,} tokens, {held['bytes']:,} bytes, in {held['windows']:,} windows."
        )
        corpus = replace(corpus, held_out=str(path))
    logs = given.root / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    track = Track(race=race, shape=shape, corpus=corpus, threads=given.threads, logs=logs, say=say)
    about = {"title": race.title, "shape": dict(shape), "vocabulary": corpus.vocabulary, "held_out": said}
    about |= {
        "revision": machine.revision(),
        "command": results.command("same_loss.py", race.name, RACES),
        "runs": [],
    }
    return track, about


def _windows(corpus: Tokens, window: int, asked: int, path: Path) -> dict[str, int]:
    from telos.run import load_recipe, prepare

    prepared = prepare(load_recipe(corpus.recipe, corpus.overrides), corpus.root)
    return held_out.windows(prepared, window, asked, path)


def _peers(race: Race, given: Given) -> list[Entrant]:
    if not given.only:
        return [*race.peers]
    return [each for each in (*race.peers, *race.others) if each.name in given.only]


def _sweep(track: Track, ours: Entrant, given: Given, about: Mapping[str, Any]) -> None:
    """Short runs, kept as they come beside those of other contestants."""
    race, path = track.race, given.out.with_name(given.out.name.replace("same-loss-", "same-loss-sweep-"))
    wanted = [*_peers(race, given), ours]
    names = given.sweep or [each.name for each in wanted if each is not ours]
    for entrant in wanted:
        rates, batches = given.rates or race.rates, given.batches or race.batches
        if entrant.name not in names or not rates:
            continue
        say(f"  sweep of {entrant.name}, {given.sweep_minutes:g} minutes each:")
        runs = racing.swept(track, entrant, given.sweep_minutes, rates, batches or (0,))
        kept = results.kept(path, race.name)
        others = [run for run in kept if run["name"] != entrant.name]
        results.store(path, about, race.name, {"runs": others + runs, "revision": machine.revision()})


def _run(track: Track, ours: Entrant, given: Given, about: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Every run that is asked for, seed by seed, peers first; what is in the file stays beside them."""
    race, folder = track.race, given.out.parent
    plan = [(peer, given.minutes or race.minutes) for peer in _peers(race, given)]
    plan += [(ours, minutes) for minutes in _ours_minutes(race, given)]
    found["runs"] = results.kept(given.out, race.name)
    for seed in given.seeds:
        for entrant, minutes in plan:
            chosen = _chosen(race, entrant, entrant is ours, given, about)
            say(f"  {entrant.name}, seed {seed}, {minutes:g} minutes, {_said(chosen)}")
            again = given.again or entrant is ours
            run = None if again else _before(folder, given, about, race, entrant, minutes, chosen, seed)
            if run is None:
                run = racing.raced(
                    track, entrant, minutes=minutes, chosen=chosen, seed=seed, points=given.points
                )
                run |= {"ours": entrant is ours, "revision": machine.revision()}
            found["runs"] = [each for each in found["runs"] if _key(each) != _key(run)] + [run]
            results.store(given.out, about, race.name, found)
            plot = given.out.with_name(f"{given.out.stem}-{race.name}.svg")
            plot.write_text(arrival.drawing(race, found["runs"]), encoding="utf-8")


def _ours_minutes(race: Race, given: Given) -> Sequence[float]:
    whole = given.minutes or race.minutes
    return given.ours_minutes or [share * whole for share in race.ours]


def _said(chosen: Chosen) -> str:
    rate = f"rate {chosen.rate:g}" if chosen.rate else "its own rate"
    return f"{rate}, {f'batch {chosen.batch}' if chosen.batch else 'its own batch'}"


def _key(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return run["name"], run["seed"], run["minutes"]


def _chosen(race: Race, entrant: Entrant, ours: bool, given: Given, about: Mapping[str, Any]) -> Chosen:
    """By the newest sweep on such a processor of a contestant that was asked the same; else its own."""
    pattern = f"quick-{results.SWEEPS}" if given.quick else results.SWEEPS
    for result in reversed(results.read(given.out.parent, pattern)):
        if not results.like(result, about):
            continue
        runs = result["works"].get(race.name, {}).get("runs", [])
        best = racing.best_of([run for run in runs if _asked(run, entrant)])
        if best:
            return best
    return Chosen() if ours else Chosen(batch=2 if given.quick else race.batch)


def _asked(run: Mapping[str, Any], entrant: Entrant) -> bool:
    return bool(run["name"] == entrant.name and run["asked"] == dict(entrant.settings))


def _before(
    folder: Path,
    given: Given,
    about: Mapping[str, Any],
    race: Race,
    entrant: Entrant,
    minutes: float,
    chosen: Chosen,
    seed: int,
) -> dict[str, Any] | None:
    """This run from a result of such a processor, if it is there and came to its end."""
    key = (entrant.name, seed, minutes)
    pattern = f"quick-{results.RACES}" if given.quick else results.RACES
    for result in reversed(results.read(folder, pattern)):
        if not results.like(result, about):
            continue
        for run in result["works"].get(race.name, {}).get("runs", []):
            same = _key(run) == key and (run["rate"], run["batch"]) == (chosen.rate, chosen.batch)
            if same and _asked(run, entrant) and racing.ends(run):
                say(f"    from {result['file']}, {run['date']}")
                return dict(run)
    return None


def _given() -> Given:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("races", nargs="*", metavar="RACE", help=f"of {', '.join(RACES)}; all by default")
    add("--only", nargs="+", default=[], metavar="NAME", help="only these peers, and ours")
    add("--sweep", nargs="*", metavar="NAME", help="try rates and batches first: of all peers, or of these")
    add("--sweep-minutes", type=float, default=3.0, help="of each run of a sweep")
    add("--rates", type=float, nargs="+", default=[], help="that a sweep tries")
    add("--batches", type=int, nargs="+", default=[], help="that a sweep tries")
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--minutes", type=float, default=0.0, help="of the peers' training (books 20, words 30)")
    add("--ours-minutes", type=float, nargs="+", default=[], help="for which ours is planned, a run for each")
    add("--recipe", default="", help="of ours (the race's)")
    add("--set", nargs="+", default=[], metavar="SETTING=VALUE", help="laid over the recipe of ours")
    add("--label", default="ours", help="what ours is called in the result")
    add("--points", type=int, default=8, help="at which a run is scored")
    add("--held-out", type=int, default=120_000, help="tokens that are scored")
    add("--threads", type=int, default=0, help="of the processor; 0: as the libraries do")
    add("--again", action="store_true", help="run peers again that are in a result already")
    add("--quick", action="store_true", help="tiny shapes and seconds: does it run?")
    add("--root", type=Path, default=HERE.parent / "runs" / "benchmarks")
    add("--out", type=Path, help="the result (results/same-loss-DATE.json)")
    given = parser.parse_args(namespace=Given())
    if unknown := set(given.races) - RACES.keys():
        parser.error(f"no such race: {', '.join(sorted(unknown))}. There are: {', '.join(RACES)}.")
    given.races = given.races or [*RACES]
    if given.quick:
        given.minutes, given.sweep_minutes, given.held_out = 0.03, 0.01, 2000
        given.points = 2
    given.root = given.root.resolve()
    quick = "quick-" if given.quick else ""
    given.out = given.out or HERE / "results" / f"{quick}same-loss-{date.today()}.json"
    return given


if __name__ == "__main__":
    sys.exit(main())

"""RESULTS.md from all stored results of throughput.py and same_loss.py: for each processor the newest.

python benchmarks/make_results.py [--results FOLDER] [--quick] [--out FILE]
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import arrival, results
from harness.races import RACES
from harness.works import WORKS, Work

HERE = Path(__file__).resolve().parent
INTRODUCTION = """\
# Results against peers

Written by `python benchmarks/make_results.py` from `benchmarks/results/`; not edited by hand.
How it is measured: [README.md](README.md). Each figure is the median of windows in which the contestants of
a row work in turn; each has its own batch, in brackets.
“met” and “missed” are of the targets stated in `benchmarks/harness/works.py`.
"""


def main() -> int:
    """Read the results, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--quick", action="store_true", help="of results of --quick, which mean nothing")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    given = parser.parse_args()
    pattern = f"quick-{results.RESULTS}" if given.quick else results.RESULTS
    found = results.read(given.results, pattern)
    races = results.read(given.results, f"quick-{results.RACES}" if given.quick else results.RACES)
    given.out.write_text("\n".join([page(found), *_races(races)]), encoding="utf-8")
    return 0


def _races(found: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """What same_loss.py found, by machine."""
    for machine, races in _newest(found).items():
        yield f"## Time to the same held-out loss: {machine}\n"
        for name, (race, result) in races.items():
            file = f"results/{result['file']}"
            plot = file.replace(".json", f"-{name}.svg")
            yield arrival.section(RACES[name], race, file, plot) + "\n"


def page(found: Iterable[Mapping[str, Any]]) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for machine, works in _newest(found).items():
        parts.append(f"## {machine}\n")
        parts.append("| work | ours | peers | targets | measured | again |\n|---|---|---|---|---|---|")
        parts += [_row(WORKS[name], *works[name]) for name in WORKS if name in works]
        parts += ["", *_notes(works)]
    if len(parts) == 1:
        parts.append("Nothing has been measured yet.")
    return "\n".join(parts).rstrip() + "\n"


Newest = dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
"""By name of a work: its newest result, and the file that this is in."""


def _newest(found: Iterable[Mapping[str, Any]]) -> dict[str, Newest]:
    """For each machine its newest results."""
    machines: dict[str, Newest] = {}
    for result in found:
        works = machines.setdefault(_machine(result), {})
        for name, work in result["works"].items():
            if name not in works or _when(works[name][0]) <= _when(work):
                works[name] = work, result
    return machines


def _when(work: Mapping[str, Any]) -> str:
    return str(work["date"] if "date" in work else max(run["date"] for run in work["runs"]))


def _machine(result: Mapping[str, Any]) -> str:
    hardware = result["hardware"]
    features = ", ".join(hardware["features"]) or "no wide vectors"
    memory = f"{hardware['memory_bytes'] / 2**30:.0f} GiB"
    return f"{hardware['processor']}, {hardware['cores']} cores ({features}), {memory}"


def _row(work: Work, found: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    entries = dict(found["contestants"])
    first = {name: entries.pop(name) for name in list(entries) if name.startswith("ours")}
    base = first.get("ours", {}).get("rate")
    ours = "<br>".join(_cell(name, entry, found, None) for name, entry in first.items())
    peers = "<br>".join(_cell(name, entry, found, base) for name, entry in entries.items())
    targets = "<br>".join(_target(verdict) for verdict in results.verdicts(work, found))
    load = "–".join(f"{each:g}" for each in found["load"])
    when = f"[{found['date'][:10]}](results/{result['file']}), {found['revision']}, load {load}"
    return (
        f"| {found['title']} | {ours} | {peers or '–'} | {targets or '–'} | {when} | `{found['command']}` |"
    )


def _cell(name: str, entry: Mapping[str, Any], found: Mapping[str, Any], base: float | None) -> str:
    """A contestant: its figure, its batch, and how many times as fast ours is."""
    if not entry.get("rate"):
        return f"{name}: not measured"
    figure = _figure(entry["rate"], found, entry)
    parts = [f"{name} **{figure}**" if base is None else f"{name} {figure}"]
    if base is not None and entry["family"] != "matrix":
        parts.append(f"ours {base / entry['rate']:.2f} ×")
    if found["text"] and found["unit"] == "tokens/s" and entry["family"] != "matrix":
        parts[0] += f" ({entry['batch']})"
    return ", ".join(parts)


def _figure(rate: float, found: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    if entry["family"] == "matrix":
        return f"{rate:,.0f} GFLOP/s"
    if found["unit"] == "starts/s":
        return f"{1 / rate:.1f} s"
    memory = f", {entry['memory_bytes'] / 2**20:,.0f} MiB" if entry.get("memory_bytes") else ""
    return f"{rate:,.0f} {found['unit']}{memory}"


def _target(verdict: results.Verdict) -> str:
    peer = f" ({verdict.peer})" if verdict.peer else ""
    return f"{verdict}{peer}"


def _notes(works: Newest) -> Iterable[str]:
    """What has to be known beside the table: formula, versions, failures, warnings."""
    result = max((result for _, result in works.values()), key=lambda each: str(each["file"]))
    versions = {f"Telos: {name}": each for name, each in result["versions"].items() if each}
    versions |= result["peers"].get("versions", {})
    yield "Versions: " + ", ".join(f"{name} {each}" for name, each in versions.items()) + "."
    for name, (found, _) in works.items():
        if found["flops"]:
            millions, formula = found["flops"]["per_token"] / 1e6, found["flops"]["formula"]
            yield f"* {name}: {millions:.1f} million operations per token, {formula}."
        yield from (f"* {name}: {warning}." for warning in found["warnings"])
        for contestant, entry in found["contestants"].items():
            if entry.get("error"):
                yield f"* {name}: {contestant} could not be measured to the end: {_plain(entry['error'])}"


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:300]


if __name__ == "__main__":
    sys.exit(main())

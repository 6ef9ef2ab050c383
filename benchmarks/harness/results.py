"""Results on disk, and what they say of the targets."""

import json
import sys
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .works import Target, Work

__all__ = ["Verdict", "command", "kept", "like", "read", "store", "told", "tuned_before", "verdicts"]

FORMAT = 1
RESULTS = "throughput-*.json"
RACES = "same-loss-2*.json"
SWEEPS = "same-loss-sweep-*.json"


def store(path: Path, about: Mapping[str, Any], work: str, found: Mapping[str, Any]) -> None:
    """Write a work's result into a file, beside those of other works that are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    whole = {"format": FORMAT, **about, "works": {**before.get("works", {}), work: found}}
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path, pattern: str = RESULTS) -> list[dict[str, Any]]:
    """All results, the oldest first; each with the name of its file as `file`."""
    files = sorted(folder.glob(pattern))
    return [{**json.loads(path.read_text("utf-8")), "file": path.name} for path in files]


def kept(path: Path, work: str) -> list[dict[str, Any]]:
    """The runs of a work that a file holds so far."""
    whole: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    runs: list[dict[str, Any]] = whole.get("works", {}).get(work, {}).get("runs", [])
    return runs


def like(result: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two results are of the same processor."""
    return _machine(result) == _machine(other)


def command(program: str, name: str, names: Container[str]) -> str:
    """What measures `name`, of all `names`, again: the options as given, without those that name places on
    this machine."""
    words, skip = ["python", f"benchmarks/{program}", name], False
    for word in sys.argv[1:]:
        if word in names:
            continue
        if skip or word.startswith(("--root=", "--out=")):
            skip = False
        elif word in ("--root", "--out"):
            skip = True
        else:
            words.append(word)
    return " ".join(words)


def tuned_before(folder: Path, work: str, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The batch of each contestant by the newest result of such hardware in which it was tuned."""
    found: dict[str, dict[str, Any]] = {}
    for result in read(folder):
        if not like(result, about):
            continue
        for name, entry in result["works"].get(work, {}).get("contestants", {}).items():
            if entry.get("batch_from", "").startswith("tuned") and "batch" in entry:
                origin = f"tuned in {result['file']}"
                if entry["batch_from"] != "tuned in this run":
                    origin = entry["batch_from"]
                found[name] = {"batch": entry["batch"], "batch_from": origin, "trials": entry.get("trials")}
    return found


def _machine(result: Mapping[str, Any]) -> tuple[Any, ...]:
    hardware = result["hardware"]
    return hardware["processor"], hardware["cores"], tuple(hardware["features"])


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A target, and what was found."""

    target: Target
    found: float | None
    """None where it, or what it is compared with, was not measured."""
    peer: str = ""
    """The best of those that ours is compared with."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; none where nothing was measured."""
        if self.found is None:
            return None
        least = self.target.measure in ("times", "utilisation", "rate")
        return self.found >= self.target.limit if least else self.found <= self.target.limit

    def __str__(self) -> str:
        measure, limit = self.target.measure, self.target.limit
        said = {
            "times": f"≥ {limit:g} × {self.target.says}",
            "memory": f"≤ {limit:g} × {self.target.says}",
            "utilisation": f"≥ {limit:.0%} {self.target.says}",
            "seconds": f"≤ {limit:g} s {self.target.says}",
            "rate": f"≥ {limit:,.0f} {self.target.says}",
        }[measure]
        if self.found is None:
            return f"{said}: not measured"
        shown = {
            "times": f"{self.found:.2f} ×",
            "memory": f"{self.found:.2f} ×",
            "utilisation": f"{self.found:.0%}",
            "seconds": f"{self.found:.1f} s",
            "rate": f"{self.found:,.0f}",
        }[measure]
        return f"{said}: {shown}, {'met' if self.met else 'missed'}"


def verdicts(work: Work, found: Mapping[str, Any]) -> list[Verdict]:
    """Each target of a work."""
    return [_verdict(target, found) for target in work.targets]


def _verdict(target: Target, found: Mapping[str, Any]) -> Verdict:
    entries = found["contestants"]
    ours = entries.get("ours", {})
    if target.measure == "seconds":
        return Verdict(target=target, found=1 / ours["rate"] if ours.get("rate") else None)
    if target.measure == "rate":
        return Verdict(target=target, found=ours.get("processor_rate"))
    if target.measure == "utilisation":
        return Verdict(target=target, found=utilisation(found, ours, target.against[0]))
    key = "rate" if target.measure == "times" else "memory_bytes"
    theirs = {name: entries[name][key] for name in target.against if entries.get(name, {}).get(key)}
    if not theirs or not ours.get(key):
        return Verdict(target=target, found=None)
    best = (max if key == "rate" else min)(theirs, key=lambda name: theirs[name])
    return Verdict(target=target, found=ours[key] / theirs[best], peer=best)


def utilisation(found: Mapping[str, Any], entry: Mapping[str, Any], probe: str) -> float | None:
    """The share of the matrix rate (a probe's, in 10⁹ operations per second) that a contestant reaches."""
    rate = found["contestants"].get(probe, {}).get("rate")
    if not (rate and entry.get("rate") and found.get("flops")):
        return None
    return float(entry["rate"] * found["flops"]["per_token"] / (rate * 1e9))


def told(work: Work, found: Mapping[str, Any]) -> Iterable[str]:
    """A work's result in a few lines."""
    for name, entry in found["contestants"].items():
        if entry.get("rate"):
            memory = entry["peak_bytes"] / 2**30
            loss = "" if entry["loss"] is None else f", loss {entry['loss']:.3f}"
            unit = "GFLOP/s" if entry["family"] == "matrix" else found["unit"]
            yield f"{name}: {entry['rate']:,.5g} {unit}, batch {entry['batch']}, {memory:.1f} GiB{loss}"
        if entry.get("error"):
            yield f"{name}: not measured to the end: {entry['error']}"
    yield from found["warnings"]
    yield from (str(verdict) for verdict in verdicts(work, found))

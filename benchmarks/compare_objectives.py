"""Four objectives compared at 10 million tokens a cell, with three seeds: the table of docs/compare.md.

    python benchmarks/compare_objectives.py [--data FOLDER] [--runs FOLDER] [setting=value …]

Runs `telos compare` on comparisons/objectives-10m.toml with the public data of `--data` (TELOS_DATA) and
copies what it found to results/NAME. With `seeds=[0]` and `seeds=[1]` in two processes, and then without, two
processors share the work: what is finished is not done again.
"""

import json
from pathlib import Path

from harness.compared import Given, arguments, keep, run

BOOKS = {"path": "train", "validation": "valid", "test": "test"}


def labelled(source: Path, target: Path) -> Path:
    """SST-2's lines `text<TAB>label` as JSON lines."""
    lines = source.read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(("text", "label"), line.rsplit("\t", 1), strict=True)) for line in lines if line]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return target


def main() -> None:
    given = arguments(__doc__).parse_args(namespace=Given())
    files = [f"base.data.{key}={given.data}/classic-books-en/{name}.jsonl.xz" for key, name in BOOKS.items()]
    files.append(f"measure.pairs.path={given.data}/blimp/blimp.jsonl.xz")
    for name in ("train", "test"):
        path = labelled(given.data / f"sst2/{name}.tsv", given.runs / f"sst2-{name}.jsonl")
        files.append(f"measure.probe.{name}={path}")
    comparison, _ = run("objectives-10m", files, given)
    keep(comparison, given)


if __name__ == "__main__":
    main()

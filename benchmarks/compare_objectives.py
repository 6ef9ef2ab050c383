"""Four objectives compared at 10 million tokens a cell, with three seeds: the table of docs/compare.md.

    python benchmarks/compare_objectives.py [--data FOLDER] [--runs FOLDER] [setting=value …]

Runs `telos compare` on comparisons/objectives-10m.toml with the public data of `--data` (TELOS_DATA) and
copies what it found to results/NAME. With `seeds=[0]` and `seeds=[1]` in two processes, and then without, two
processors share the work: what is finished is not done again.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

from telos.compare import compare, load_comparison
from telos.train.display import Quiet

HERE = Path(__file__).parent
BOOKS = {"path": "train", "validation": "valid", "test": "test"}


def labelled(source: Path, target: Path) -> Path:
    """SST-2's lines `text<TAB>label` as JSON lines."""
    lines = source.read_text(encoding="utf-8").splitlines()
    rows = [dict(zip(("text", "label"), line.rsplit("\t", 1), strict=True)) for line in lines if line]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return target


class _Said(Quiet):
    def say(self, text: str) -> None:
        print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TELOS_DATA", "../shared/data")))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    books = [f"base.data.{key}={given.data}/classic-books-en/{name}.jsonl.xz" for key, name in BOOKS.items()]
    sst2 = {
        name: labelled(given.data / f"sst2/{name}.tsv", given.runs / f"sst2-{name}.jsonl")
        for name in ("train", "test")
    }
    measure = [f"measure.pairs.path={given.data}/blimp/blimp.jsonl.xz"]
    measure += [f"measure.probe.{name}={path}" for name, path in sst2.items()]
    file = HERE / "comparisons" / "objectives-10m.toml"
    comparison = load_comparison(file, [*books, *measure, *given.overrides])
    compare(comparison, given.runs, device="cpu", display=_Said())
    target = HERE / "results" / comparison.name
    target.mkdir(parents=True, exist_ok=True)
    found = given.runs / comparison.name
    for path in (*found.glob("compare.*"), *found.glob("*.svg")):
        shutil.copy(path, target / path.name)


if __name__ == "__main__":
    main()

"""Settings of training compared on WikiText-2: the tables of benchmarks/README.md.

    python benchmarks/compare_training.py optimizers [--data FOLDER] [--runs FOLDER] [setting=value …]
    python benchmarks/compare_training.py repeated-text …

Runs `telos compare` on comparisons/NAME.toml with the public data of `--data` (TELOS_DATA), of which it takes
the first characters, and copies what it found to results/NAME. With `seeds=[0]` and `seeds=[1]` in two
processes, and then without, two processors share the work: what is finished is not done again.
"""

import argparse
import lzma
import os
import shutil
from pathlib import Path

from telos.compare import compare, load_comparison
from telos.train.display import Quiet

HERE = Path(__file__).parent
CHARACTERS = {
    "optimizers": {"train": None, "valid": 120_000, "test": 120_000},
    "repeated-text": {"train": 140_000, "valid": 120_000, "test": 120_000},
}
"""Of each file so many; `None` for all."""


def cut(source: Path, characters: int | None, target: Path) -> Path:
    """The first characters of a compressed text."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(source, "rt", encoding="utf-8") as file:
        target.write_text(file.read(-1 if characters is None else characters), encoding="utf-8")
    return target


class _Said(Quiet):
    def say(self, text: str) -> None:
        print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("name", choices=sorted(CHARACTERS))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TELOS_DATA", "../shared/data")))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    keys = {"train": "path", "valid": "validation", "test": "test"}
    files = []
    for name, characters in CHARACTERS[given.name].items():
        source = given.data / "wikitext-2" / f"{name}.txt.xz"
        path = cut(source, characters, given.runs / "wikitext-2" / given.name / f"{name}.txt")
        files.append(f"base.data.{keys[name]}={path}")
    comparison = load_comparison(HERE / "comparisons" / f"{given.name}.toml", [*files, *given.overrides])
    compare(comparison, given.runs, device="cpu", display=_Said())
    target = HERE / "results" / comparison.name
    target.mkdir(parents=True, exist_ok=True)
    found = given.runs / comparison.name
    for path in (*found.glob("compare.*"), *found.glob("*.svg")):
        shutil.copy(path, target / path.name)


if __name__ == "__main__":
    main()

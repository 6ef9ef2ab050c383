"""Settings of training compared on WikiText-2: the tables of benchmarks/README.md.

    python benchmarks/compare_training.py --comparison NAME [--data FOLDER] [--runs FOLDER] [setting=value …]

Runs `telos compare` on comparisons/NAME.toml with the public data of `--data` (TELOS_DATA), of which it takes
the first characters, and copies what it found to results/NAME. With `seeds=[0]` and `seeds=[1]` in two
processes, and then without, two processors share the work: what is finished is not done again.
"""

import lzma
from pathlib import Path

from harness.compared import Given, arguments, keep, run

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


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--comparison", choices=sorted(CHARACTERS), required=True)
    given = parser.parse_args(namespace=Given())
    keys = {"train": "path", "valid": "validation", "test": "test"}
    files = []
    for name, characters in CHARACTERS[given.comparison].items():
        source = given.data / "wikitext-2" / f"{name}.txt.xz"
        path = cut(source, characters, given.runs / "wikitext-2" / given.comparison / f"{name}.txt")
        files.append(f"base.data.{keys[name]}={path}")
    comparison, _ = run(given.comparison, files, given)
    keep(comparison, given)


if __name__ == "__main__":
    main()

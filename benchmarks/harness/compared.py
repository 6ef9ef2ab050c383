"""What programs share that run `telos compare` on a file of comparisons/: command line, and what is kept."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from telos.compare import Comparison, compare, load_comparison
from telos.compare_page import Compared
from telos.train.display import Quiet

__all__ = ["Given", "arguments", "keep", "run"]

HERE = Path(__file__).parents[1]


class Given(argparse.Namespace):
    """The command line."""

    data: Path
    """The folder of public data sets."""
    runs: Path
    overrides: list[str]
    comparison: str
    """The name of a file of comparisons/, where a program has several."""


class _Said(Quiet):
    def say(self, text: str) -> None:
        print(text, flush=True)


def arguments(says: str | None) -> argparse.ArgumentParser:
    """A parser of `--data`, `--runs` and `setting=value …`; `says` is the program's docstring."""
    parser = argparse.ArgumentParser(description=(says or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TELOS_DATA", "../shared/data")))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("overrides", nargs="*")
    return parser


def run(name: str, files: Iterable[str], given: Given) -> tuple[Comparison, Compared]:
    """Run comparisons/NAME.toml with `files`, settings that say where texts lie, and the command line's."""
    comparison = load_comparison(HERE / "comparisons" / f"{name}.toml", [*files, *given.overrides])
    return comparison, compare(comparison, given.runs, device="cpu", display=_Said())


def keep(comparison: Comparison, given: Given) -> None:
    """Copy table, figures and plots to results/NAME; files are named as they lie in the folders of data and
    runs, wherever these are."""
    found, target = given.runs / comparison.name, HERE / "results" / comparison.name
    target.mkdir(parents=True, exist_ok=True)
    for path in (found / "compare.md", found / "compare.json", *found.glob("*.svg")):
        text = path.read_text(encoding="utf-8")
        for folder in (given.data, given.runs):
            text = text.replace(f'"{folder}/', '"')
        (target / path.name).write_text(text, encoding="utf-8")

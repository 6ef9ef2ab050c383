"""The runs beside those that are served: which there are, and the lines of their logs as they grow.

A run is asked for by its id, which is looked up among the folders that were found; no path is ever made from
what a client sent.
"""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from telos.config import read_toml
from telos.errors import TelosError
from telos.folder import read_json
from telos.serve.refusals import Refused

__all__ = ["Runs"]

LINES = 5000
"""Of a log, in one answer."""
LONGEST = 1 << 16
"""Characters of a line; a longer one is none of a log's."""


class Runs:
    """The runs in some folders."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = list(dict.fromkeys(folder.resolve() for folder in folders))

    def listed(self) -> list[dict[str, Any]]:
        """Every run, by name: what it is and how far it has come."""
        return [_told(name, folder) for name, folder in sorted(self._found().items())]

    def metrics(self, run: str, after: int) -> dict[str, Any]:
        """The lines of a run's log after the first `after`, and the number to ask for next.

        Raises:
            Refused: there is no such run.
        """
        folder = self._found().get(run)
        if folder is None:
            raise Refused(
                404, "There is no such run in the folder of runs.", param="id", code="run_not_found"
            )
        read = list(_whole_lines(folder / "metrics.jsonl", after))
        lines = [value for line in read if (value := _parsed(line)) is not None]
        return {"lines": lines, "next": after + len(read)}

    def _found(self) -> dict[str, Path]:
        """Folders with a recipe, by name; links that lead elsewhere are not followed."""
        found: dict[str, Path] = {}
        for root in self._folders:
            for path in root.iterdir() if root.is_dir() else ():
                if not path.is_symlink() and (path / "recipe.toml").is_file():
                    found.setdefault(path.name, path)
        return found


def _told(name: str, folder: Path) -> dict[str, Any]:
    try:
        recipe = read_toml(folder / "recipe.toml")
    except TelosError:
        recipe = {}
    last = _last(folder / "metrics.jsonl")
    return {
        "id": name,
        "name": str(recipe.get("name", name)),
        "finished": (folder / "evaluation.json").is_file(),
        "step": last if last is not None else _evaluated(folder),
        "objective": _name(recipe.get("objective")),
        "model": _name(recipe.get("model")),
    }


def _name(given: Any) -> str | None:
    """Of an objective or a model, as a recipe writes it."""
    found = given.get("name") if isinstance(given, dict) else given
    return found if isinstance(found, str) else None


def _evaluated(folder: Path) -> int | None:
    """The step of the figures, where the log is gone."""
    try:
        return int(read_json(folder / "evaluation.json")["test"]["step"])
    except (TelosError, KeyError, TypeError, ValueError):
        return None


def _last(path: Path) -> int | None:
    """The step of the last line of a log, read from its end."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - LONGEST))
            tail = file.read().splitlines()
    except OSError:
        return None
    steps = (
        value.get("step") for line in reversed(tail) if (value := _parsed(line.decode("utf-8", "replace")))
    )
    return next((step for step in steps if isinstance(step, int)), None)


def _whole_lines(path: Path, after: int) -> Iterable[str]:
    """Lines that have been written to their end, with the number of lines up to each."""
    try:
        file = path.open(encoding="utf-8", errors="replace", newline="\n")
    except OSError:
        return
    with file:
        for line in islice(file, after, after + LINES):
            if not line.endswith("\n"):
                return
            yield line


def _parsed(line: str) -> dict[str, Any] | None:
    """A line of a log, with `null` for numbers that JSON does not have; `None` for what is none."""
    if len(line) > LONGEST:
        return None
    try:
        value = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

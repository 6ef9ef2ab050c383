"""The folder of a run: who may work in it, and whether a recipe may go on with what is there."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from telos.config import changes, read, read_toml, to_toml
from telos.errors import CheckpointError, ConfigError, DataError
from telos.recipe import Recipe

__all__ = ["alone", "read_json", "read_recipe", "settle", "write_json", "write_text"]

HARMLESS = (
    "data.path",
    "data.validation",
    "data.test",
    "train.loader.workers",
    "train.loader.timeout",
    "train.watch.",
    "evaluate.",
    "generate.",
)
"""Settings that no weight depends on, so that a run may go on with others. Where the text lies is one of
them: what it says is not (see `same_text`)."""
CONCLUDING = ("evaluate.", "generate.")
"""Of these, those by which a finished run's figures and samples were made."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process works on this run in here. A process that dies lets go by itself.

    Raises:
        ConfigError: another one does.
    """
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.parent / f".{folder.name}.lock", timeout=0):
            yield
    except Timeout:
        raise ConfigError(
            f"{folder}: another process is training this run. Wait for it, stop it, or give this one another "
            "name: name=…"
        ) from None


def settle(folder: Path, recipe: Recipe, new: bool) -> None:
    """Make `folder` the folder of a run by `recipe`: a fresh one, or the one that is there if it may be gone
    on with. With `new`, what is there is moved to the first free of NAME.1, NAME.2, … Where it goes on with
    other settings of evaluation or generation, the figures that were made by the old ones are removed.

    Raises:
        ConfigError: a run of another recipe is there; every setting that differs is named with both values.
    """
    there = (folder / "recipe.toml").exists()
    if new and folder.exists():
        folder.rename(_aside(folder))
    elif there:
        changed = _allowed_changes(folder, recipe)
        if any(key.startswith(CONCLUDING) for key in changed):
            (folder / "evaluation.json").unlink(missing_ok=True)
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: there is something else, not a run. Give this run another name: name=…")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.toml", to_toml(recipe))


def _aside(folder: Path) -> Path:
    number = 1
    while (other := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return other


def _allowed_changes(folder: Path, recipe: Recipe) -> list[str]:
    """The settings in which the recipe differs from the run's.

    Raises:
        ConfigError: training depends on one of them.
    """
    found = changes(read_recipe(folder).table(), recipe.table())
    refused = [key for key, (old, new) in found.items() if not _may_change(key, old, new)]
    if refused:
        lines = [f"  {key}: {_shown(found[key][0])} → {_shown(found[key][1])}" for key in refused]
        raise ConfigError(
            f"{folder}: this run was begun with other settings, and cannot be gone on with:\n"
            + "\n".join(lines)
            + "\nGive --new to start over (the old run is kept beside it), name=… for another run, or the "
            "old settings. A run that exists may be given a larger budget (train.budget), and other settings "
            "of evaluate, generate and train.watch."
        )
    return list(found)


def _may_change(key: str, old: Any, new: Any) -> bool:
    if any(key == harmless or (harmless.endswith(".") and key.startswith(harmless)) for harmless in HARMLESS):
        return True
    if key.startswith("train.budget."):
        return old is not None and (new is None or new > old)
    return False


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def same_text(folder: Path, key: str) -> None:
    """Refuse to go on with a run whose text has changed since it began.

    Raises:
        DataError: the prepared data has another key.
    """
    card = folder / "card.json"
    before = read_json(card).get("key") if card.exists() else None
    if before not in (None, key):
        raise DataError(
            f"{folder}: the text is not what this run was begun with: it was prepared as {before}, "
            f"and is {key} now. Put the old text back, "
            "or give --new to start over (the old run is kept beside it)."
        )


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run, as resolved when it began.

    Raises:
        CheckpointError: the folder is no run.
        ConfigError: its recipe cannot be read.
    """
    path = folder / "recipe.toml"
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: not a run: there is no recipe.toml. Give the folder of a run, such as runs/demo."
        )
    return read(Recipe, read_toml(path), str(path))


def read_json(path: Path) -> Any:
    """A JSON file of a run.

    Raises:
        CheckpointError: it is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}.") from None


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """A JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all.

    Raises:
        CheckpointError: it cannot be written; what was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}.") from error

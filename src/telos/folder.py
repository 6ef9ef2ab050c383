"""The folder of a run: who may work in it, and whether a recipe may go on with what is there."""

import contextlib
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from telos.config import changes, read, read_toml, to_toml
from telos.errors import CheckpointError, ConfigError, DataError, explained
from telos.json_files import read_object
from telos.recipe import Recipe

__all__ = [
    "LOST",
    "adopt",
    "alone",
    "evaluated_step",
    "informed_before",
    "read_json",
    "read_recipe",
    "same_text",
    "saved_before",
    "settle",
    "text_key",
    "write_json",
    "write_text",
]

HARMLESS = (
    "data.path",
    "data.prepared",
    "data.validation",
    "data.test",
    "data.engine.",
    "data.remote.",
    "train.loader.workers",
    "train.loader.timeout",
    "train.compute.recompute",
    "train.watch.",
    "model.from.source",
    "model.from.adapter",
    "evaluate.",
    "generate.",
)
"""Settings that no weight depends on, so that a run may go on with others. Where the text lies is one of
them: what it says is not (see `same_text`); and so with a model to start from (`model.from.content`)."""
CONCLUDING = ("evaluate.", "generate.")
"""Of these, those by which a finished run's figures and samples were made."""

LOST = "Put the checkpoints back, or give --new to start over (the old run is kept beside it)."


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process works on this run in here. A process that dies lets go by itself.

    Raises:
        ConfigError: another one does, or runs cannot be kept in the folder.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder.parent / f".{folder.name}.lock", timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"{folder}: another process is training this run. Wait for it, stop it, or give this one another "
            "name: name=…"
        ) from None
    except OSError as error:
        raise ConfigError(f"{folder.parent}: runs cannot be kept there: {explained(error)}") from None
    try:
        yield
    finally:
        lock.release()


def settle(folder: Path, recipe: Recipe, new: bool) -> None:
    """Make `folder` the folder of a run by `recipe`: a fresh one, or the one that is there if it may be gone
    on with, which keeps its recipe until `adopt`. With `new`, what is there is moved to the first free of
    NAME.1, NAME.2, … A run of which nothing was ever saved is begun anew, whatever its settings were.

    Raises:
        ConfigError: a run of another recipe is there; every setting that differs is named with both values.
            Or something that is no run.
    """
    if new and folder.exists():
        folder.rename(_aside(folder))
    elif (folder / "recipe.toml").exists():
        if saved_before(folder):
            _allowed_changes(folder, recipe)
            return
        (folder / "card.json").unlink(missing_ok=True)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: there is something else, not a run. Give this run another name: name=…")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.toml", to_toml(recipe))


def adopt(folder: Path, recipe: Recipe) -> None:
    """From here on the run is by `recipe`. Where its settings of evaluation or generation are others, the
    figures that were made by the old ones are removed.

    Raises:
        ConfigError: training depends on a setting that differs.
    """
    if any(key.startswith(CONCLUDING) for key in _allowed_changes(folder, recipe)):
        (folder / "evaluation.json").unlink(missing_ok=True)
    write_text(folder / "recipe.toml", to_toml(recipe))


def informed_before(folder: Path, recipe: Recipe) -> Recipe:
    """The recipe with what the run in this folder, if there is one that goes on, found out from its text when
    it began."""
    if (
        not (folder / "card.json").exists()
        or not (folder / "recipe.toml").exists()
        or not saved_before(folder)
    ):
        return recipe
    classes = read_json(folder / "card.json").get("classes")
    return recipe.informed(classes) if classes else recipe


def saved_before(folder: Path) -> bool:
    """Whether the run was ever saved, be its checkpoints still there or not: then its folder of checkpoints
    is there (one with nothing but half-written ones does not count), or figures of what was trained."""
    checkpoints = folder / "checkpoints"
    inside = [path.name for path in checkpoints.iterdir()] if checkpoints.is_dir() else [".step-"]
    if not all(name.startswith(".step-") for name in inside) or not inside:
        return True
    return (folder / "evaluation.json").exists() or _logged(folder) > _first_save(folder)


def _logged(folder: Path) -> int:
    """The last step in `metrics.jsonl`; 0 for none."""
    path, last = folder / "metrics.jsonl", 0
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            last = max(last, int(json.loads(line)["step"]))
    return last


def _first_save(folder: Path) -> float:
    """The step at which a run by the recipe in this folder is first saved on its way."""
    try:
        watch = read_recipe(folder).train.watch
    except ConfigError:
        return 0
    return min((n for n in (watch.evaluate_every, watch.checkpoint_every) if n), default=math.inf)


def evaluated_step(folder: Path) -> int | None:
    """The step whose figures `evaluation.json` holds; `None` for none, or, with a warning, for a file that is
    broken."""
    path = folder / "evaluation.json"
    if not path.exists():
        return None
    try:
        return int(read_json(path)["test"]["step"])
    except (CheckpointError, KeyError, TypeError, ValueError):
        warnings.warn(f"{path}: not the figures of a run; they are made anew.", RuntimeWarning, stacklevel=3)
        return None


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
            "old settings. A run that exists may be given a larger budget (train.budget), other settings "
            "of evaluate, generate, train.watch, train.loader.workers, train.loader.timeout and "
            "train.compute.recompute, and the same text in another place."
        )
    return list(found)


def _may_change(key: str, old: Any, new: Any) -> bool:
    if any(key == harmless or (harmless.endswith(".") and key.startswith(harmless)) for harmless in HARMLESS):
        return True
    if key == "tokenizer.path":  # what is in the file is a part of the key of the text
        return None not in (old, new)
    if key.startswith("train.budget."):
        return old is not None and (new is None or new > old)
    return False


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def same_text(folder: Path, key: str, recipe: Recipe) -> None:
    """Refuse to go on by `recipe` with a run whose text has changed since it began.

    Raises:
        DataError: the prepared data has another key.
    """
    before = text_key(folder)
    if before not in (None, key):
        old, new = (f" of {path}" if path else "" for path in (_text_of(folder), recipe.data.path))
        raise DataError(
            f"{folder}: the text is not what this run was begun with: it was that{old}, prepared as "
            f"{before}; now it is that{new}, {key}. Give the old text, another name for this run (name=…), "
            "or --new to start over (the old run is kept beside it)."
        )


def text_key(folder: Path) -> str | None:
    """The key of the prepared data that the run was trained on; `None` where none was noted yet.

    Raises:
        CheckpointError: the note is broken.
    """
    card = folder / "card.json"
    if not card.exists():
        return None
    try:
        return str(read_json(card)["key"])
    except (KeyError, TypeError):
        raise CheckpointError(f"{card}: not a data card. {LOST.replace('checkpoints', 'file')}") from None


def _text_of(folder: Path) -> Path | str | None:
    """Where the text of a run was when it began."""
    try:
        return read_recipe(folder).data.path
    except ConfigError:
        return None


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run, as resolved when it began.

    Raises:
        CheckpointError: the folder is no run.
        ConfigError: its recipe cannot be read.
    """
    path = folder / "recipe.toml"
    if not path.is_file():
        near = Path("runs") / folder
        meant = near if (near / "recipe.toml").is_file() else "runs/demo"
        raise CheckpointError(
            f"{folder}: not a run: there is no recipe.toml. Give the folder of a run, such as {meant}."
        )
    return read(Recipe, read_toml(path), str(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run.

    Raises:
        CheckpointError: it is missing or broken.
    """
    return read_object(path, CheckpointError)


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
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written: {explained(error)}") from error

"""The text that all contestants are trained on, as tokens: prepared by Telos, the same ids for everyone.

The text is classic-books in the folder that the environment variable TELOS_DATA names (or shared/data beside
the repository), else Python's own standard library. Peers get one stream of ids: each document between a
begin and an end token.
"""

import os
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Tokens", "data_folder", "little", "text_overrides", "tokens"]

BOOKS = "classic-books-en"
QUICK_FILES = ("argparse.py", "ast.py", "calendar.py", "dataclasses.py", "difflib.py", "doctest.py")


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A prepared text, for contestants that know nothing of Telos."""

    stream: str
    """A .npy file with the ids of the training split, (tokens,)."""
    tokenizer: str
    """The vocabulary's tokenizer.json."""
    vocabulary: int
    """Rows of an embedding: all ids are smaller."""
    special: dict[str, int]
    """Ids of pad, begin, end, mask and separate."""
    marks: list[int]
    """Ids of the marks of gaps, first one first; none where the objective has no gaps."""
    recipe: str
    overrides: list[str]
    """What Telos itself is given."""
    root: str
    """The folder of runs and of prepared text."""
    folder: str
    """The prepared text, with its splits."""
    held_out: str = ""
    """A .npz file of windows of held-out text, where contestants are scored: see held_out.py."""


def text_overrides(root: Path, quick: bool) -> list[str]:
    """Dotted settings that say where the text is."""
    if quick:
        return [f"data.path={little(root)}"]
    folder = data_folder() / BOOKS
    names = {"path": "train", "validation": "valid", "test": "test"}
    if not (folder / "train.jsonl.xz").is_file():
        return ["data.source=python_library"]
    return [f"data.{key}={folder / name}.jsonl.xz" for key, name in names.items()]


def tokens(recipe: str, overrides: Iterable[str], root: Path) -> Tokens:
    """The text by this recipe, prepared now or found, and its stream of ids."""
    from telos.run import load_recipe, prepare

    given = [*overrides]
    read = load_recipe(recipe, given)
    prepared = prepare(read, root)
    stream = root / "streams" / f"{prepared.folder.name}.npy"
    if not stream.is_file():
        _write(stream, prepared)
    of: Any = prepared.tokenizer
    marks = [name for name in read.objective.specials() if name.startswith("<extra_id_")]
    return Tokens(
        stream=str(stream),
        tokenizer=str(prepared.folder / "tokenizer.json"),
        vocabulary=of.size,
        special={name: getattr(of, name) for name in ("pad", "begin", "end", "mask", "separate")},
        marks=[of.special(name) for name in reversed(marks)],
        recipe=recipe,
        overrides=given,
        root=str(root),
        folder=str(prepared.folder),
    )


def _write(path: Path, prepared: Any) -> None:
    """Put begin and end tokens around each document of the training split, and keep the result."""
    shards, tokenizer = prepared.shards("train"), prepared.tokenizer
    starts, ends = shards.offsets[:-1], shards.offsets[1:]
    places = np.stack([starts, ends], 1).reshape(-1)
    values = np.tile([tokenizer.begin, tokenizer.end], len(starts))
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        np.save(file, np.insert(np.asarray(shards.ids), places, values).astype(shards.ids.dtype))
    half.replace(path)


def data_folder() -> Path:
    """The folder of public data sets."""
    given = os.environ.get("TELOS_DATA")
    return Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "data"


def little(root: Path) -> Path:
    """A little text for a quick look: some modules of the standard library."""
    folder = root / "little"
    folder.mkdir(parents=True, exist_ok=True)
    library = Path(sysconfig.get_path("stdlib"))
    for name in QUICK_FILES:
        (folder / name).with_suffix(".txt").write_text((library / name).read_text("utf-8"), "utf-8")
    return folder

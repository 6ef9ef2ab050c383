"""Objects from JSON lines for measures that read a file of their own, plain or compressed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from telos.data.sources._base import lines, open_bytes, plain_suffix, to_text
from telos.errors import DataError

__all__ = ["Record", "records", "wanted"]

SUFFIXES = (".jsonl", ".ndjson")


class Record(NamedTuple):
    """An object, and where it stands."""

    values: Mapping[str, Any]
    where: str
    """`file:line`."""
    stem: str
    """The file's name without its suffixes."""


def records(path: Path) -> Iterator[Record]:
    """Every object of a file of JSON lines, or of all such files of a folder in the order of their names.

    Raises:
        DataError: there is no such file, or a line is not a JSON object.
    """
    files = sorted(p for p in path.rglob("*") if plain_suffix(p) in SUFFIXES) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(
            f"{path}: there is no file of JSON lines here. Name one, .jsonl, plain or compressed."
        )
    for file in files:
        with open_bytes(file) as stream:
            for number, line in lines(stream, file):
                if line.strip():
                    yield Record(_parsed(line, file, number), f"{file}:{number}", file.name.split(".")[0])


def wanted(record: Record, key: str) -> str:
    """The text under a key, which must be there and not empty.

    Raises:
        DataError: it is not.
    """
    value = record.values.get(key)
    if not isinstance(value, str) or not value:
        keys = ", ".join(record.values) or "none"
        raise DataError(f"{record.where}: there is no text under {key!r}. There are the keys: {keys}.")
    return value


def _parsed(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    try:
        value = json.loads(to_text(line, path, number == 1))
    except (json.JSONDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DataError(
            f"{path}:{number}: not a JSON object. Each line must be one, whole; mend or delete it."
        )
    return value

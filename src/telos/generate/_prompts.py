"""Prompts from a file, one after the other, so that there may be any number of them.

    .jsonl  .ndjson     an object each line: {"prompt": "…"}, and with "after" a gap to fill; or a string
    .csv  .tsv          a row each, with a column `prompt`, and one `after` where gaps are to be filled
    any other, and -    a line each; an empty line is an empty prompt. - is standard input

Files may be compressed, as text to learn from may be.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from telos.data.sources._base import kind_of, lines, open_bytes, plain_suffix, to_text
from telos.data.sources._tables import quoted, tabbed
from telos.errors import DataError
from telos.generate._rows import Gap

__all__ = ["read_prompts"]

Prompts = Iterator[str | Gap]


def read_prompts(path: Path) -> Prompts:
    """The prompts in a file; `-` is standard input.

    Raises:
        DataError: it cannot be read, or a line of it is no prompt; with file, line and what was expected.
    """
    if path == Path("-"):
        yield from _lines(sys.stdin.buffer, Path("standard input"))
        return
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of prompts.")
    with open_bytes(path) as file:
        yield from _READERS.get(plain_suffix(path), _lines)(file, path)


def _texts(file: BinaryIO, path: Path) -> Iterator[tuple[int, str]]:
    """Lines without their ends, and their numbers."""
    for number, line in lines(file, path):
        text = to_text(line, path, number == 1)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{path}:{number}: not UTF-8. Mend the line, or convert the file.") from None
        yield number, text.removesuffix("\n").removesuffix("\r")


def _lines(file: BinaryIO, path: Path) -> Prompts:
    return (text for _, text in _texts(file, path))


def _objects(file: BinaryIO, path: Path) -> Prompts:
    for number, text in _texts(file, path):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise DataError(f"{path}:{number}: not JSON. {_EXPECTED}") from None
        if isinstance(value, dict):
            yield _prompt(value, f"{path}:{number}")
        elif isinstance(value, str):
            yield _sound(value, f"{path}:{number}")
        else:
            raise DataError(f"{path}:{number}: this is {kind_of(value)}. {_EXPECTED}")


_EXPECTED = 'A line must be a whole object such as {"prompt": "…"}, or a string.'


def _rows(file: BinaryIO, path: Path) -> Prompts:
    rows = tabbed(file, path) if plain_suffix(path) == ".tsv" else quoted(file, path)
    names = next(rows, (1, list[str]()))[1]
    if "prompt" not in names:
        there = ", ".join(map(repr, names)) or "none"
        raise DataError(f"{path}:1: there is no column 'prompt'. There are: {there}.")
    for number, row in rows:
        if len(row) != len(names):
            raise DataError(f"{path}:{number}: {len(row)} values in {len(names)} columns. Mend the row.")
        yield _prompt(dict(zip(names, row, strict=True)), f"{path}:{number}")


def _prompt(values: Mapping[str, Any], where: str) -> str | Gap:
    for key in ("prompt", "after"):
        value = values.get(key, "")
        if not isinstance(value, str) or (key == "prompt" and key not in values):
            keys = ", ".join(map(repr, values)) or "none"
            what = f"{key!r} is {kind_of(value)}" if key in values else f"there is no {key!r}"
            raise DataError(f"{where}: {what}. There are the keys: {keys}; each is to be a string.")
    before = _sound(values["prompt"], where)
    return Gap(before, _sound(values["after"], where)) if "after" in values else before


def _sound(text: str, where: str) -> str:
    """JSON can write half a character, and bytes of tables may be no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        what = "a lone surrogate, which is no character, or bytes that are not UTF-8"
        raise DataError(f"{where}: the text holds {what}. Mend the line, or convert the file.") from None
    return text


_READERS: dict[str, Callable[[BinaryIO, Path], Prompts]] = {
    ".jsonl": _objects,
    ".ndjson": _objects,
    ".csv": _rows,
    ".tsv": _rows,
}

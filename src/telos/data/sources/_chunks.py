"""Where a large file can be cut, so that each stretch can be read by itself and all of them are the file.

A border that only looks like one loses or doubles what stands there, so none is guessed: the file is gone
through once from its beginning, by the rules that its readers go by.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from telos.data.sources import _base
from telos.data.sources._base import Chunk
from telos.turns import MARKS

__all__ = ["of_lines", "of_records", "too_small"]

CHUNK = 1 << 26
"""Bytes of a chunk, about; it is cut where the first line, row or record ends beyond."""
_BLOCK = 1 << 20
_QUOTES: Final = re.compile(rb'"+')
_MARKS: Final = tuple(mark.encode() for mark in MARKS.values())


def too_small(path: Path) -> bool:
    """Whether a file is read by one worker anyway."""
    return path.stat().st_size <= CHUNK


def of_lines(path: Path, quoted: bool = False) -> list[Chunk]:
    """Stretches of whole lines of a plain file; with `quoted`, of whole rows of CSV (RFC 4180), whose values
    may hold line ends. Memory: a line, and a block.

    Raises:
        DataError: the file cannot be read.
    """
    if path.suffix.lower() in _base.COMPRESSIONS or too_small(path):
        return []
    with _base.open_bytes(path) as file:
        return list(_stretches(file, quoted))


def _stretches(file: BinaryIO, quoted: bool) -> Iterator[Chunk]:
    """A file cut after the first line feed beyond each `CHUNK` bytes that is not in quotes."""
    begin, first, at, line, inside = 0, 1, 0, 1, False
    while block := _block(file, begin + CHUNK - at):
        if quoted:
            inside = _inside(block if at else block.removeprefix(b"\xef\xbb\xbf"), inside)
        at += len(block)
        line += block.count(b"\n")
        if at - begin > CHUNK and not inside:
            yield Chunk(begin, at, first)
            begin, first = at, line
    if at > begin:
        yield Chunk(begin, at, first)


def _block(file: BinaryIO, wanted: int) -> bytes:
    """So many bytes, or a million, and the rest of the line; where none are wanted, a line. A line that is
    longer than a reader takes is cut, and refused by whoever reads it."""
    return file.read(max(0, min(wanted, _BLOCK))) + file.readline(_base.LONGEST_LINE + 1)


def _inside(lines: bytes, inside: bool) -> bool:
    """Whether a value in quotes goes on after these lines, given whether one did before them.

    A quote opens a value only at its beginning; elsewhere outside of quotes it stands for itself, so counting
    all of them would not do. Two in a row, inside, are one that is meant: a run of an even number changes
    nothing. What is taken out of texts is taken out here, as it is before a row is read.
    """
    for mark in _MARKS:
        lines = lines.replace(mark, b"")
    for run in _QUOTES.finditer(lines):
        begin, end = run.span()
        if (end - begin) % 2 and (inside or begin == 0 or lines[begin - 1] in b",\n"):
            inside = not inside
    return inside


def of_records(places: Iterable[tuple[int, int]], size: int) -> list[Chunk]:
    """Stretches of whole records of a file of `size` bytes. `places`: where records begin, from the first on,
    in the file and in what it expands to."""
    found: list[Chunk] = []
    begin = first = 0
    for at, expanded in places:
        if begin + CHUNK < at < size:
            found.append(Chunk(begin, at, first))
            begin, first = at, expanded
    return [*found, Chunk(begin, size, first)] if found else []

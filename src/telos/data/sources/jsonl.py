"""JSON lines: one object per line, one document per object (jsonlines.org)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base
from telos.data.sources._base import Chunk, Rows, Skip
from telos.errors import DataError

__all__ = ["JsonLines"]

CHUNK = 1 << 26
"""Bytes of a chunk, about; it is cut after the first line that ends beyond."""
_BLOCK = 1 << 20


@final
class JsonLines(Rows):
    """`.jsonl` and `.ndjson`. Lines end at line feeds and nowhere else; blank ones are skipped."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def chunks(self, path: Path) -> list[Chunk]:
        """Of a plain file, stretches of whole lines of about 64 MiB; this reads it once, to count lines."""
        if path.suffix.lower() in _base.COMPRESSIONS or path.stat().st_size <= CHUNK:
            return []
        with _base.open_bytes(path) as file:
            return list(_stretches(file))

    def documents(
        self, path: Path, chunk: Chunk | None = None, skip: Skip = _base.ignore
    ) -> Iterator[Document]:
        with _base.open_bytes(path) as file:
            if chunk is None:
                yield from self.read(file, path, skip)
                return
            file.seek(chunk.begin)
            at = chunk.begin
            for number, line in _base.lines(file, path):
                at += len(line)
                yield from self._document(line, path, chunk.first + number - 1)
                if at >= chunk.end:
                    break

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        for number, line in _base.lines(file, path):
            yield from self._document(line, path, number)

    def _document(self, line: bytes, path: Path, number: int) -> Iterator[Document]:
        if line.strip():
            yield self.record(_parse(line, path, number), f"{path.name}:{number}", path)


def _stretches(file: BinaryIO) -> Iterator[Chunk]:
    """A file cut after the first line feed at or beyond each `CHUNK` bytes."""
    begin, first, at, line = 0, 1, 0, 1
    while block := file.read(_BLOCK):
        place = 0
        while (cut := block.find(b"\n", max(place, begin + CHUNK - at))) >= 0:
            line += block.count(b"\n", place, cut + 1)
            place = cut + 1
            yield Chunk(begin, at + place, first)
            begin, first = at + place, line
        line += block.count(b"\n", place)
        at += len(block)
    if at > begin:
        yield Chunk(begin, at, first)


def _parse(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    try:
        value = json.loads(_base.to_text(line, path, number == 1))
    except (json.JSONDecodeError, RecursionError) as error:
        what = (
            f"{error.msg} at column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else "nested too deeply"
        )
        raise DataError(
            f"{path}:{number}: not a JSON object: {what}. A line must be one whole object; mend or delete it."
        ) from None
    if not isinstance(value, dict):
        raise DataError(
            f'{path}:{number}: this is {_base.kind_of(value)}, not an object such as {{"text": "…"}}.'
        )
    return value

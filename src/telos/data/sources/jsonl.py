"""JSON lines: one object per line, one document per object (jsonlines.org)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base, _chunks
from telos.data.sources._base import Chunk, Rows, Skip
from telos.errors import DataError

__all__ = ["JsonLines"]


@final
class JsonLines(Rows):
    """`.jsonl` and `.ndjson`. Lines end at line feeds and nowhere else; blank ones are skipped."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def chunks(self, path: Path) -> list[Chunk]:
        """Of a plain file, stretches of whole lines of about 64 MiB; this reads it once, to count lines."""
        return _chunks.of_lines(path)

    def documents(
        self, path: Path, chunk: Chunk | None = None, skip: Skip = _base.ignore
    ) -> Iterator[Document]:
        with _base.open_bytes(path, chunk) as file:
            yield from self._lines(file, path, chunk.first if chunk else 1)

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        yield from self._lines(file, path, 1)

    def _lines(self, file: BinaryIO, path: Path, first: int) -> Iterator[Document]:
        for number, line in _base.lines(file, path, first=first):
            if line.strip():
                yield self.record(_parse(line, path, number), f"{path.name}:{number}", path)


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

"""Arrow IPC: one document per row (arrow.apache.org). Needs `pip install 'telos-lm[data]'`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, final

from telos.batch import Document
from telos.data.sources import _base, _chunks
from telos.data.sources._base import Chunk, Rows, Skip
from telos.errors import DataError

__all__ = ["Arrow"]

ROWS = 1024
"""Rows that are made into objects at once."""
_FILE: Final = b"ARROW1"


@final
class Arrow(Rows):
    """`.arrow` and `.feather` (version 2): the file format, which ends in a table of contents, and the format
    of streams, which `datasets` writes."""

    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather")

    def chunks(self, path: Path) -> list[Chunk]:
        """Of a plain file of the file format, runs of its batches, of about 64 MiB. A stream has no table of
        contents, and is read whole."""
        if path.suffix.lower() in _base.COMPRESSIONS or _chunks.too_small(path):
            return []
        found, first = [], 1
        with _base.open_bytes(path) as file, _table(file, path, fields=[0]) as table:
            count = getattr(table, "num_record_batches", 0)
            each = max(1, count * _chunks.CHUNK // path.stat().st_size)
            for begin in range(0, count, each):
                end = min(begin + each, count)
                found.append(Chunk(begin, end, first))
                first += sum(table.get_batch(number).num_rows for number in range(begin, end))
        return found

    def documents(
        self, path: Path, chunk: Chunk | None = None, skip: Skip = _base.ignore
    ) -> Iterator[Document]:
        with _base.open_bytes(path) as file:
            yield from self._rows(file, path, chunk)

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        yield from self._rows(file, path, None)

    def _rows(self, file: BinaryIO, path: Path, chunk: Chunk | None) -> Iterator[Document]:
        with _table(file, path) as table:
            wanted = self.wanted(table.schema.names, path)
            number = chunk.first if chunk else 1
            for batch in _batches(table, chunk):
                for part in range(0, batch.num_rows, ROWS):
                    for values in batch.select(wanted).slice(part, ROWS).to_pylist():
                        yield self.record(values, f"{path.name}:{number}", path)
                        number += 1


@contextmanager
def _table(file: BinaryIO, path: Path, fields: Sequence[int] = ()) -> Iterator[Any]:
    """A reader of either format; of some of the columns, where `fields` has their numbers."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise DataError(f"{path}: Arrow files need a package more: pip install 'telos-lm[data]'") from None
    try:
        options = pyarrow.ipc.IpcReadOptions(included_fields=list(fields))
        with _opened(file, path, pyarrow.ipc, options) as table:
            yield table
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not an Arrow file, or a damaged one: {error}") from None


def _opened(file: BinaryIO, path: Path, ipc: Any, options: Any) -> Any:
    """The same.

    Raises:
        DataError: it is empty, or Feather of version 1.
    """
    data = _base.whole_bytes(file, path)
    magic = data.read(8)
    data.seek(0)
    if not magic:
        raise DataError(f"{path}: the file is empty. Make it again, or delete it.")
    if magic.startswith(b"FEA1"):
        raise DataError(f"{path}: this is Feather of version 1. Write it again, as version 2.")
    opened = ipc.open_file if magic.startswith(_FILE) else ipc.open_stream
    return opened(data, options=options)


def _batches(table: Any, chunk: Chunk | None) -> Iterator[Any]:
    count = getattr(table, "num_record_batches", None)
    if count is None:
        yield from table
        return
    for number in range(chunk.begin, chunk.end) if chunk else range(count):
        yield table.get_batch(number)

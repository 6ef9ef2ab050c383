"""Arrow IPC: one document per row (arrow.apache.org). Needs `pip install 'telos-lm[data]'`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base
from telos.data.sources._base import Rows, Skip
from telos.errors import DataError

__all__ = ["Arrow"]

ROWS = 1024
"""Rows that are made into objects at once."""
_FILE = b"ARROW1"


@final
class Arrow(Rows):
    """`.arrow` and `.feather` (version 2): the file format, which ends in a table of contents, and the format
    of streams, which `datasets` writes."""

    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".feather")

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        pyarrow, ipc = _library(path)
        try:
            with _opened(file, path, ipc) as table:
                wanted = self.wanted(table.schema.names, path)
                number = 0
                for batch in _batches(table):
                    for part in range(0, batch.num_rows, ROWS):
                        for values in batch.select(wanted).slice(part, ROWS).to_pylist():
                            number += 1
                            yield self.record(values, f"{path.name}:{number}", path)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: not an Arrow file, or a damaged one: {error}") from None


def _opened(file: BinaryIO, path: Path, ipc: Any) -> Any:
    """A reader of either format.

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
    return ipc.open_file(data) if magic.startswith(_FILE) else ipc.open_stream(data)


def _batches(table: Any) -> Iterator[Any]:
    count = getattr(table, "num_record_batches", None)
    yield from table if count is None else (table.get_batch(number) for number in range(count))


def _library(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise DataError(f"{path}: Arrow files need a package more: pip install 'telos-lm[data]'") from None
    return pyarrow, pyarrow.ipc

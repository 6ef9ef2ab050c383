"""Parquet: one document per row (parquet.apache.org). Needs `pip install 'telos-lm[data]'`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base
from telos.data.sources._base import Chunk, Rows, Skip
from telos.errors import DataError

__all__ = ["Parquet"]

ROWS = 1024
"""Rows that are read at once."""


@final
class Parquet(Rows):
    """`.parquet`, read a thousand rows at a time; a chunk is a group of rows."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    def chunks(self, path: Path) -> list[Chunk]:
        """The groups of rows that the file is written in, none of them empty."""
        if path.suffix.lower() in _base.COMPRESSIONS:
            return []
        found, first = [], 1
        with _base.open_bytes(path) as file, _table(file, path) as table:
            for group in range(table.num_row_groups):
                if rows := table.metadata.row_group(group).num_rows:
                    found.append(Chunk(group, group + 1, first))
                    first += rows
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
            wanted = self.wanted(table.schema_arrow.names, path)
            groups = {"row_groups": range(chunk.begin, chunk.end)} if chunk else {}
            number = chunk.first if chunk else 1
            for batch in table.iter_batches(batch_size=ROWS, columns=wanted, **groups):
                for row, values in enumerate(batch.to_pylist(), number):
                    yield self.record(values, f"{path.name}:{row}", path)
                number += batch.num_rows


@contextmanager
def _table(file: BinaryIO, path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: Parquet files need a package more: pip install 'telos-lm[data]'") from None
    try:
        with pyarrow.parquet.ParquetFile(_base.whole_bytes(file, path)) as table:
            yield table
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file, or a damaged one: {error}") from None

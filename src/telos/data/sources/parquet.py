"""Parquet: one document per row (parquet.apache.org). Needs `pip install 'telos-lm[data]'`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base
from telos.data.sources._base import Source
from telos.errors import DataError

__all__ = ["Parquet"]

ROWS = 1024
"""Rows that are read at once."""


@final
class Parquet(Source):
    """`.parquet`, read a thousand rows at a time."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    text_key: str = "text"
    """The column of the text: strings, or lists of strings that are joined as lines."""

    def documents(self, path: Path) -> Iterator[Document]:
        pyarrow, parquet = _pyarrow(path)
        try:
            with parquet.ParquetFile(path) as file:
                wanted = [n for n in (self.text_key, *_base.OPTIONAL) if n in file.schema_arrow.names]
                if self.text_key not in wanted:
                    raise _base.no_such_key(self.text_key, file.schema_arrow.names, str(path))
                row = 0
                for batch in file.iter_batches(batch_size=ROWS, columns=wanted):
                    for values in batch.to_pylist():
                        row += 1
                        yield _base.record(values, self.text_key, f"{path.name}:{row}", path)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a Parquet file, or a damaged one: {error}") from None


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: Parquet files need a package more: pip install 'telos-lm[data]'") from None
    return pyarrow, pyarrow.parquet

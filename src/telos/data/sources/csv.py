"""Comma- and tab-separated values: one document per row (RFC 4180; IANA text/tab-separated-values)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar, final

from telos.batch import Document
from telos.config import Lax
from telos.data.sources import _base
from telos.data.sources._base import Rows, Skip
from telos.data.sources._tables import named, quoted, tabbed, uneven

__all__ = ["Csv"]


@final
class Csv(Rows):
    """`.csv`, where a value in quotes may hold commas and line ends, and `.tsv`, where a row is a line, a tab
    ends a value and quotes are quotes. The first row names the columns, unless `columns` does."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    columns: Annotated[tuple[str, ...], Lax] = ()
    """Names of the columns, for files whose first row is data already; empty: the first row has them."""

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        tabs = _base.plain_suffix(path) == ".tsv"
        rows = tabbed(file, path) if tabs else quoted(file, path)
        names = list(self.columns)
        if names:
            self.wanted(names, path)
        for number, row in rows:
            if not names:
                self.wanted(names := named(row, path), path)
                continue
            if len(row) != len(names):
                raise uneven(row, names, path, number)
            yield self.record(dict(zip(names, row, strict=True)), f"{path.name}:{number}", path)

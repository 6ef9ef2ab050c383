"""Comma- and tab-separated values: one document per row (RFC 4180; IANA text/tab-separated-values)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar, final

from telos.batch import Document
from telos.config import Lax
from telos.data.sources import _base, _chunks
from telos.data.sources._base import Chunk, Rows, Skip
from telos.data.sources._tables import named, quoted, tabbed, uneven

__all__ = ["Csv"]

Row = tuple[int, list[str]]
"""Values, and the number of the line that they begin on."""


@final
class Csv(Rows):
    """`.csv`, where a value in quotes may hold commas and line ends, and `.tsv`, where a row is a line, a tab
    ends a value and quotes are quotes. The first row names the columns, unless `columns` does."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    columns: Annotated[tuple[str, ...], Lax] = ()
    """Names of the columns, for files whose first row is data already; empty: the first row has them."""

    def chunks(self, path: Path) -> list[Chunk]:
        """Of a plain file, stretches of whole rows of about 64 MiB; this reads it once, to find those line
        ends that are in quotes."""
        return _chunks.of_lines(path, quoted=not _has_tabs(path))

    def documents(
        self, path: Path, chunk: Chunk | None = None, skip: Skip = _base.ignore
    ) -> Iterator[Document]:
        if chunk is None:
            yield from super().documents(path, None, skip)
            return
        with _base.open_bytes(path) as file:
            line, names = self._named(_rows(file, path), path)
        with _base.open_bytes(path, chunk) as file:
            rows = (each for each in _rows(file, path, chunk.first) if each[0] > line)
            yield from self._documents(names, rows, path)

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        rows = _rows(file, path)
        yield from self._documents(self._named(rows, path)[1], rows, path)

    def _named(self, rows: Iterator[Row], path: Path) -> tuple[int, list[str]]:
        """The names of the columns, and the line of the row that has them; 0 where the settings do."""
        line, names = (0, list(self.columns)) if self.columns else next(rows, (0, list[str]()))
        if names:
            named(names, path)
            self.wanted(names, path)
        return line, names

    def _documents(self, names: list[str], rows: Iterable[Row], path: Path) -> Iterator[Document]:
        for number, row in rows:
            if len(row) != len(names):
                raise uneven(row, names, path, number)
            yield self.record(dict(zip(names, row, strict=True)), f"{path.name}:{number}", path)


def _has_tabs(path: Path) -> bool:
    return _base.plain_suffix(path) == ".tsv"


def _rows(file: BinaryIO, path: Path, first: int = 1) -> Iterator[Row]:
    return tabbed(file, path, first) if _has_tabs(path) else quoted(file, path, first)

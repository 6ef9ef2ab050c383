"""Comma- and tab-separated values: one document per row (RFC 4180; IANA text/tab-separated-values)."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, ClassVar, final

from telos.batch import Document
from telos.config import Lax
from telos.data.sources import _base
from telos.data.sources._base import Rows, Skip
from telos.errors import DataError

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
        rows = _tabbed(file, path) if tabs else _quoted(file, path)
        names = list(self.columns)
        if names:
            self.wanted(names, path)
        for number, row in rows:
            if not names:
                self.wanted(names := _named(row, path), path)
                continue
            if len(row) != len(names):
                raise _uneven(row, names, path, number)
            yield self.record(dict(zip(names, row, strict=True)), f"{path.name}:{number}", path)


def _quoted(file: BinaryIO, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of CSV, each with the number of the line that it begins on; blank lines are none."""
    csv.field_size_limit(_base.LONGEST_TEXT)  # the library's own limit is 128 KiB
    texts = (_base.to_text(line, path, n == 1) for n, line in _base.lines(file, path, _base.LONGEST_TEXT))
    rows = csv.reader(texts, strict=True)
    while True:
        begins = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise _malformed(str(error), path, begins, rows.line_num) from None
        if row:
            yield begins, row


def _tabbed(file: BinaryIO, path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in _base.lines(file, path, _base.LONGEST_TEXT):
        text = _base.to_text(line, path, number == 1).removesuffix("\n").removesuffix("\r")
        if text:
            yield number, text.split("\t")


def _named(row: list[str], path: Path) -> list[str]:
    if len(set(row)) < len(row):
        twice = next(name for name in row if row.count(name) > 1)
        raise DataError(
            f"{path}:1: two columns are called {twice!r}. The first row must name the columns; where it is "
            'data already, name them yourself: data.columns=["text", "label"]'
        )
    return row


def _malformed(error: str, path: Path, begins: int, ends: int) -> DataError:
    where = f"{path}:{begins}"
    if "field limit" in error:
        error = f"a value of more than {_base.LONGEST_TEXT:,} characters"
    elif "unexpected end" in error:
        error = "a quote is opened and never closed"
    until = f" (read until line {ends})" if ends > begins else ""
    return DataError(
        f"{where}: not a row of CSV: {error}{until}. Quotes within a value are doubled; mend it."
    )


def _uneven(row: list[Any], names: list[str], path: Path, number: int) -> DataError:
    what = f"{len(row)} values in {len(names)} columns ({', '.join(map(repr, names[:8]))})"
    return DataError(
        f"{path}:{number}: {what}. Every row must have all columns; mend it, or name the columns as they "
        'are: data.columns=["text", "label"]'
    )

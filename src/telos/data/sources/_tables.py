"""Rows of comma- and tab-separated files (RFC 4180; IANA text/tab-separated-values), and what can be wrong
with them."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from telos.data.sources import _base
from telos.errors import DataError

__all__ = ["named", "quoted", "tabbed", "uneven"]


def quoted(file: BinaryIO, path: Path, first: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Rows of CSV, each with the number of the line that it begins on, counted from `first`; blank lines are
    none."""
    csv.field_size_limit(_base.LONGEST_TEXT)  # the library's own limit is 128 KiB
    lines = _base.lines(file, path, _base.LONGEST_TEXT, first)
    rows = csv.reader((_base.to_text(line, path, n == 1) for n, line in lines), strict=True)
    while True:
        begins = rows.line_num + first
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise _malformed(str(error), path, begins, rows.line_num + first - 1) from None
        if row:
            yield begins, row


def tabbed(file: BinaryIO, path: Path, first: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Rows of tab-separated values, each with the number of its line, counted from `first`; blank lines are
    none."""
    for number, line in _base.lines(file, path, _base.LONGEST_TEXT, first):
        text = _base.to_text(line, path, number == 1).removesuffix("\n").removesuffix("\r")
        if text:
            yield number, text.split("\t")


def named(row: list[str], path: Path) -> list[str]:
    """The first row, which names the columns.

    Raises:
        DataError: two are called the same.
    """
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


def uneven(row: list[Any], names: list[str], path: Path, number: int) -> DataError:
    """A row has more or fewer values than there are columns."""
    what = f"{len(row)} values in {len(names)} columns ({', '.join(map(repr, names[:8]))})"
    return DataError(
        f"{path}:{number}: {what}. Every row must have all columns; mend it, or name the columns as they "
        'are: data.columns=["text", "label"]'
    )

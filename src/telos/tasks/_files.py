"""Files of texts to work on, row by row, and the same rows with what was found out added."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from telos.data.sources import _base
from telos.data.sources._tables import named, quoted, tabbed, uneven
from telos.errors import DataError, explained
from telos.evaluate._records import records
from telos.find import suggestion

__all__ = ["Row", "Table", "read_table", "write_table"]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt")


class Row(NamedTuple):
    """A row of a file, and where it begins, `file:line`."""

    values: Mapping[str, Any]
    where: str


class Table(NamedTuple):
    """All rows of a file, and the names of its columns in their order."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, key: str) -> list[str]:
        """The texts under a key, one per row; empty where a row of JSON has none.

        Raises:
            DataError: there is no such column, or a value is no text.
        """
        if key not in self.columns:
            raise DataError(
                f"{self.rows[0].where.rpartition(':')[0]}: there is no column {key!r}."
                f"{suggestion(key, list(self.columns))} There are: {', '.join(self.columns)}. Name the one "
                "that is meant: --text-key, --label-key; or the columns of a file without names: --columns."
            )
        return [_text(row, key) for row in self.rows]


def _text(row: Row, key: str) -> str:
    value = row.values.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{row.where}: {key!r} is {_base.kind_of(value)}; it must be a string.")
    return str(value)


def read_table(path: Path, columns: Sequence[str] = ()) -> Table:
    """The rows of a `.csv`, `.tsv` or `.jsonl` file, or the lines of a `.txt` file, whose one column is
    `text`; plain or compressed. Blank lines are no rows.

    Args:
        columns: names of the columns of a `.csv` or `.tsv` file that has no line of names.

    Raises:
        DataError: there is no such file, it holds no rows, or a row is malformed; names the line.
    """
    suffix = _base.plain_suffix(path)
    if suffix not in SUFFIXES or not path.is_file():
        what = "there is no such file" if suffix in SUFFIXES else "its suffix says no format that is known"
        raise DataError(f"{path}: {what}. Give one that ends in: {', '.join(SUFFIXES)}.")
    if suffix in (".jsonl", ".ndjson"):
        rows = [Row(record.values, record.where) for record in records(path)]
    else:
        with _base.open_bytes(path) as file:
            rows = list(_lines(file, path) if suffix == ".txt" else _cells(file, path, list(columns)))
    if not rows:
        raise DataError(f"{path}: there are no rows.")
    return Table(tuple(dict.fromkeys(key for row in rows for key in row.values)), tuple(rows))


def _lines(file: BinaryIO, path: Path) -> Iterator[Row]:
    for number, line in _base.lines(file, path, _base.LONGEST_TEXT):
        if text := _base.to_text(line, path, number == 1).rstrip("\r\n"):
            yield Row({"text": text}, f"{path}:{number}")


def _cells(file: BinaryIO, path: Path, names: list[str]) -> Iterator[Row]:
    rows = tabbed(file, path) if _base.plain_suffix(path) == ".tsv" else quoted(file, path)
    for number, row in rows:
        if not names:
            names = named(row, path)
        elif len(row) != len(names):
            raise uneven(row, names, path, number)
        else:
            yield Row(dict(zip(names, row, strict=True)), f"{path}:{number}")


def write_table(path: Path, table: Table, more: Mapping[str, Sequence[Any]]) -> None:
    """The rows as CSV, all columns kept, and `more` columns behind them, one value per row. One that is
    called as a column of the file gets `judged_` before its name.

    Raises:
        DataError: the file cannot be written.
    """
    added: dict[str, Sequence[Any]] = {}
    for name, values in more.items():
        while name in table.columns or name in added:
            name = f"judged_{name}"
        added[name] = values
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow([*table.columns, *added])
            for row, values in zip(table.rows, zip(*added.values(), strict=True), strict=True):
                writer.writerow([*(_cell(row.values.get(name)) for name in table.columns), *values])
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written: {explained(error)}") from error


def _cell(value: Any) -> str:
    """A value of JSON that is no string as JSON writes it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

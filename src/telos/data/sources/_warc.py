"""The records of a web archive (ISO 28500), streamed: none is in memory whole unless it is small enough.

The packages that read WARC take a record that is cut short for one that ends there, so what a broken transfer
has lost is lost without a word; this reader names the byte.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from telos.data.sources import _page
from telos.errors import DataError

__all__ = ["Record", "records"]

_LINE: Final = 1 << 16
"""Bytes of a line of a header, at most."""
_LINES: Final = 1000
_BLOCK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Record:
    """A record of an archive."""

    begin: int
    """The byte of the expanded file that it begins at."""
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes | None
    """`None` where it is longer than a page may be."""

    @property
    def type(self) -> str:
        """`response`, `conversion`, `warcinfo`, …"""
        return self.headers.get("warc-type", "").lower()

    @property
    def content_type(self) -> str:
        """Without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def id(self) -> str:
        """Its address and its own id."""
        own = self.headers.get("warc-record-id", "").strip("<>")
        return f"{self.headers.get('warc-target-uri', '').strip('<>')} {own}".strip() or f"byte {self.begin}"

    @property
    def language(self) -> str | None:
        """The first of the languages that Common Crawl has found."""
        return self.headers.get("warc-identified-content-language", "").partition(",")[0] or None


_WANTED = frozenset(("response", "conversion", "resource"))


def records(file: BinaryIO, path: Path) -> Iterator[Record]:
    """All records in order; those of types that hold no documents without their bodies.

    Raises:
        DataError: a record is damaged or cut short.
    """
    reader = _Reader(file, path)
    while (record := reader.next()) is not None:
        yield record


class _Reader:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._at = file, path, 0

    def next(self) -> Record | None:
        """The next record, or nothing at the end of the file."""
        version, begin = self._version()
        if version is None:
            return None
        headers = self._headers(begin)
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise self._wrong(begin, f"its Content-Length is {length[:40]!r}")
        body = self._body(int(length), headers.get("warc-type", "").lower() in _WANTED, begin)
        return Record(begin, headers, body)

    def _version(self) -> tuple[bytes | None, int]:
        """The line that begins a record, after any blank ones, and where."""
        while True:
            begin = self._at
            line = self._line(begin)
            if not line:
                return None, begin
            if line.strip():
                break
        if not line.startswith(b"WARC/"):
            raise self._wrong(begin, "it does not begin with WARC/1.0 or WARC/1.1")
        return line, begin

    def _headers(self, begin: int) -> dict[str, str]:
        found: dict[str, str] = {}
        last = ""
        for _ in range(_LINES):
            line = self._line(begin)
            if not line.endswith(b"\n"):
                raise self._cut_short(begin)
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if not text:
                return found
            if text[0] in " \t" and last:
                found[last] += " " + text.strip()
                continue
            name, _, value = text.partition(":")
            last = name.strip().lower()
            found[last] = value.strip()
        raise self._wrong(begin, f"it has more than {_LINES:,} lines of header")

    def _body(self, length: int, wanted: bool, begin: int) -> bytes | None:
        if wanted and length <= _page.LONGEST:
            body = self._read(length)
            if len(body) < length:
                raise self._cut_short(begin)
            return body
        left = length
        while left:
            if not (block := self._read(min(left, _BLOCK))):
                raise self._cut_short(begin)
            left -= len(block)
        return None if wanted else b""

    def _line(self, begin: int) -> bytes:
        line = self._file.readline(_LINE)
        self._at += len(line)
        if len(line) == _LINE:
            raise self._wrong(begin, f"a line of its header is longer than {_LINE:,} bytes")
        return line

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._at += len(data)
        return data

    def _cut_short(self, begin: int) -> DataError:
        return self._wrong(begin, f"it is cut short: the file ends at byte {self._at:,}")

    def _wrong(self, begin: int, what: str) -> DataError:
        return DataError(
            f"{self._path}: the WARC record at byte {begin:,} is damaged: {what}. Fetch the file again."
        )

"""The records of a web archive (ISO 28500), streamed: none is in memory whole unless it is small enough.

The packages that read WARC take a record that is cut short for one that ends there, so what a broken transfer
has lost is lost without a word; this reader names the byte.
"""

import contextlib
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from telos.data.sources import _base, _page
from telos.errors import DataError

__all__ = ["Record", "begins", "members", "records"]

_LINE: Final = 1 << 16
"""Bytes of a line of a header, at most."""
_LINES: Final = 1000
_BLOCK: Final = 1 << 16
_PACKED: Final = 1 << 14
"""Bytes that are expanded at once, to at most a thousand times as many."""


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


def records(file: BinaryIO, path: Path, at: int = 0) -> Iterator[Record]:
    """All records in order; those of types that hold no documents without their bodies. `at`: the byte of the
    expanded file that `file` begins at, where it is a stretch of one.

    Raises:
        DataError: a record is damaged or cut short.
    """
    reader = _Reader(file, path, at)
    while (record := reader.next()) is not None:
        yield record


def begins(file: BinaryIO, path: Path) -> Iterator[tuple[int, int]]:
    """The bytes at which the records of a plain file begin, each twice: it is expanded already. They end at a
    record that is damaged; whoever reads it says so."""
    reader = _Reader(file, path)
    with contextlib.suppress(DataError):
        while (heading := reader.heading()) is not None:
            yield heading.begin, heading.begin
            reader.pass_over(heading.length)


def members(file: BinaryIO, path: Path) -> Iterator[tuple[int, int]]:
    """Where the members of a `.gz` begin, in it and in what it expands to, as far as each is one record, as
    ISO 28500 recommends (annex D). All is expanded up to there: what looks like a beginning may stand within
    a record, and members may be cut in the middle of records.

    Raises:
        DataError: it expands to more than is believable.
    """
    going, place = _Members(file, path), (0, 0)
    while going.pass_over():
        yield place
        place = going.at, going.expanded


class _Members:
    """Goes through a `.gz` member by member, each of which is a compressed file itself."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._size = file, path, path.stat().st_size
        self._unread = b""
        self.at = self.expanded = 0

    def pass_over(self) -> bool:
        """Go on behind the next member, if there is one and it holds one record, whole, and nothing more than
        the two line ends after it."""
        unpack, head, tail, length = zlib.decompressobj(wbits=31), b"", b"", 0
        end: int | None = None
        while not unpack.eof:
            if (part := self._part(unpack)) is None:
                return False
            length += len(part)
            head, tail = head + part[: _LINE - len(head)], (tail + part[-4:])[-4:]
            if end is None and (unpack.eof or len(head) == _LINE):
                end = _end_of_record(head, self._path)
            if end is not None and length > end + len(tail):
                return False
        assert end is not None, "it ended"
        self._unread = unpack.unused_data
        self.at -= len(self._unread)
        return length >= end and not tail[len(tail) - (length - end) :].strip(b"\r\n")

    def _part(self, unpack: Any) -> bytes | None:
        """What comes next of a member; `None` where it is damaged or cut short."""
        data = self._unread or self._file.read(_PACKED)
        self._unread = b""
        try:
            part: bytes = unpack.decompress(data)
        except zlib.error:
            return None
        self.at += len(data)
        self.expanded += len(part)
        if self.expanded > _base.most_expanded(self._size):
            raise _base.bomb(self._path, self.expanded, self._size)
        return part if data else None


def _end_of_record(head: bytes, path: Path) -> int:
    """Where the record ends that begins so; 0 where none does."""
    reader = _Reader(io.BytesIO(head), path)
    with contextlib.suppress(DataError):
        if (heading := reader.heading()) is not None:
            return reader.at + heading.length
    return 0


class _Heading(NamedTuple):
    """What stands before a record's body."""

    begin: int
    headers: dict[str, str]
    length: int
    """Bytes of the body."""


class _Reader:
    def __init__(self, file: BinaryIO, path: Path, at: int = 0) -> None:
        self._file, self._path, self.at = file, path, at

    def next(self) -> Record | None:
        """The next record, or nothing at the end of the file."""
        if (heading := self.heading()) is None:
            return None
        begin, headers, length = heading
        body = self._body(length, headers.get("warc-type", "").lower() in _WANTED, begin)
        return Record(begin, headers, body)

    def heading(self) -> _Heading | None:
        """The beginning of the next record, up to its body, or nothing at the end of the file."""
        version, begin = self._version()
        if version is None:
            return None
        headers = self._headers(begin)
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise self._wrong(begin, f"its Content-Length is {length[:40]!r}")
        return _Heading(begin, headers, int(length))

    def pass_over(self, length: int) -> None:
        """Go on after the body, in a file that can be read with jumps."""
        self._file.seek(length, os.SEEK_CUR)
        self.at += length

    def _version(self) -> tuple[bytes | None, int]:
        """The line that begins a record, after any blank ones, and where."""
        while True:
            begin = self.at
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
        self.at += len(line)
        if len(line) == _LINE:
            raise self._wrong(begin, f"a line of its header is longer than {_LINE:,} bytes")
        return line

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.at += len(data)
        return data

    def _cut_short(self, begin: int) -> DataError:
        return self._wrong(begin, f"it is cut short: the file ends at byte {self.at:,}")

    def _wrong(self, begin: int, what: str) -> DataError:
        return DataError(
            f"{self._path}: the WARC record at byte {begin:,} is damaged: {what}. Fetch the file again."
        )

"""The members of zip and tar archives, streamed one after the other and never written to the disk."""

import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, NamedTuple, cast

from telos.data.sources import _base
from telos.data.sources._base import Skip
from telos.errors import DataError

__all__ = ["Member", "explained", "members"]

MEMBERS = 1_000_000
"""Members of an archive, at most."""
LARGEST_LIST = 1 << 27
"""Bytes of the list of contents of a zip, at most, which is in memory as a whole."""


class Member(NamedTuple):
    """A file of an archive."""

    name: str
    size: int
    """Bytes that it takes in the archive, or where that is not known, those that it has."""
    file: BinaryIO


def members(file: BinaryIO, path: Path, skip: Skip) -> Iterator[Member]:
    """The plain files of an archive, in order; each is to be read before the next one is asked for.

    Raises:
        DataError: the archive is damaged, has a password, expands to more than `EXPANSION` times its size, or
            has more than `MEMBERS` members.
    """
    yield from _zip(file, path, skip) if _base.plain_suffix(path) == ".zip" else _tar(file, path, skip)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the libraries, while members are looked for or read, as ours."""
    broken = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError)
    try:
        yield
    except DataError:
        raise
    except NotImplementedError as error:
        why = f"{path}: a member is compressed in a way that is not known here: {error}"
        raise DataError(f"{why}. Take the files out of the archive.") from None
    except (*broken, ValueError, OverflowError) as error:
        raise DataError(f"{path}: the archive is damaged or cut short: {error}. Fetch it again.") from None


def _zip(file: BinaryIO, path: Path, skip: Skip) -> Iterator[Member]:
    data = _base.whole_bytes(file, path)
    size = data.seek(0, io.SEEK_END)
    if not size:
        raise DataError(f"{path}: the file is empty. Make it again, or delete it.")
    _check_list(data, path, size)
    budget = _Budget(path, size)
    with zipfile.ZipFile(data) as archive:
        for number, entry in enumerate(archive.infolist(), 1):
            _check_count(number, path)
            mode = stat.S_IFMT(entry.external_attr >> 16)
            special = mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
            if entry.is_dir() or _left_out(
                entry.filename, "a link or a device" if special else "", path, skip
            ):
                continue
            if entry.flag_bits & 1:
                raise DataError(
                    f"{path}: {entry.filename} has a password. Take the files out of the archive."
                )
            yield Member(entry.filename, entry.compress_size, budget.bounded(archive.open(entry)))


def _check_list(data: Any, path: Path, size: int) -> None:
    """Before the list of contents is read: how long it says it is. It stands at the file's end."""
    data.seek(max(0, size - (1 << 16) - 22))
    end = data.read()
    place = end.rfind(b"PK\x05\x06")
    if place >= 0 and len(end) >= place + 22:
        count, length = struct.unpack("<HL", end[place + 10 : place + 16])
        if count == 0xFFFF or length == 0xFFFFFFFF:  # the true figures are in another place
            place = end.rfind(b"PK\x06\x06", 0, place)
            if place >= 0 and len(end) >= place + 48:
                count, length = struct.unpack("<QQ", end[place + 32 : place + 48])
        _check_count(count, path)
        if length > LARGEST_LIST:
            raise DataError(f"{path}: its list of contents has {length:,} bytes. Cut the archive in several.")
    data.seek(0)


def _tar(file: BinaryIO, path: Path, skip: Skip) -> Iterator[Member]:
    seen = _Seen(file)
    with tarfile.open(fileobj=seen, mode="r|") as archive:  # type: ignore[call-overload]
        end = 0
        for number, entry in enumerate(archive, 1):
            _check_count(number, path)
            archive.members = []  # it would keep them all
            end = archive.offset
            special = "a sparse file" if entry.issparse() else "" if entry.isfile() else "a link or a device"
            if entry.isdir() or _left_out(entry.name, special, path, skip):
                continue
            opened = archive.extractfile(entry)
            assert opened is not None, entry.name
            yield Member(entry.name, entry.size, cast(BinaryIO, opened))
    seen.check_end(end, path)


class _Seen:
    """A stream that knows how far it was read, and where its last byte is that is not zero: the library takes
    a damaged member, or the end of a file that is cut short, for the end of the archive."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at, self._last = file, 0, 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        if used := len(data.rstrip(b"\0")):
            self._last = self._at + used
        self._at += len(data)
        return data

    def check_end(self, end: int, path: Path) -> None:
        """After the last member, which ends at the byte `end`, there are zeros, and nothing else.

        Raises:
            DataError: there is something else.
        """
        while self.read(1 << 16):
            pass
        if not self._at:
            raise DataError(f"{path}: the file is empty. Make it again, or delete it.")
        if self._last > end or self._at < end + tarfile.BLOCKSIZE:
            raise DataError(
                f"{path}: the archive is damaged or cut short after byte {end:,}. Fetch it again."
            )


def _check_count(count: int, path: Path) -> None:
    if count > MEMBERS:
        raise DataError(f"{path}: more than {MEMBERS:,} members. Cut the archive in several.")


def _left_out(name: str, special: str, path: Path, skip: Skip) -> bool:
    """Whether a member is no plain file under the archive's root, or is hidden; `skip` is told."""
    parts = PurePosixPath(name).parts
    windows = PureWindowsPath(name)
    unsafe = name.startswith("/") or ".." in (*parts, *windows.parts) or windows.drive or "\0" in name
    reason = special or ("a name that leads out of the archive" if unsafe else "")
    if not reason and any(part.startswith(".") or part == "__MACOSX" for part in parts):
        reason = "a hidden file"
    if reason:
        skip(reason, f"{path.name}/{name}")
    return bool(reason)


class _Budget:
    """How many bytes all members of an archive together may still expand to."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size, self.used, self.limit = path, size, 0, _base.most_expanded(size)

    def bounded(self, opened: Any) -> BinaryIO:
        return io.BufferedReader(_Spending(opened, self), buffer_size=1 << 16)

    def spend(self, count: int) -> None:
        self.used += count
        if self.used > self.limit:
            raise _base.bomb(self.path, self.limit, self.size)


class _Spending(io.RawIOBase):
    def __init__(self, opened: Any, budget: _Budget) -> None:
        self._opened, self._budget = opened, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._opened.read(len(buffer))
        buffer[: len(data)] = data
        self._budget.spend(len(data))
        return len(data)

    def close(self) -> None:
        self._opened.close()
        super().close()

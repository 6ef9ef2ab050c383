"""Files that are elsewhere: `https://`, and `s3://` and `gs://` by way of fsspec.

A file is fetched once, whole, into a cache of bounded size, and read from there. Data are read several times
over, by several workers, and tables with jumps; files that are read where they are would come over the
network each time, and break off in the middle of a reading. A file in the cache is under the hash of where it
was and of what the server says changes with it (its `ETag`, its version), so what is there is what was
listed; it has that name only when it is whole. What was fetched of one that broke off is gone on from.
"""

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from telos.data import _store, _web
from telos.data._addresses import shown
from telos.data._web import Broken, Found
from telos.errors import DataError, explained

__all__ = ["Access", "RemoteFile", "fetch", "is_remote", "listing"]

STORES: Final = ("s3", "gs")
TRIES: Final = 5
PAUSE = 1.0
"""Seconds before the second try; twice as many before each one after it."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/|file:", re.IGNORECASE)
"""What begins with it is a URL. `C:/texts` is a path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What may be reached, and where what was fetched is kept."""

    cache: Path
    """The folder of fetched files."""
    most: int = 100 << 30
    """Bytes in the cache, at most: what was not used the longest makes room. A larger file is refused."""
    allow_hosts: tuple[str, ...] = ()
    """Hosts with ports, as `127.0.0.1:8000`, that may be on a private network and speak plain HTTP."""


class RemoteFile(NamedTuple):
    """A file that is elsewhere, as it was when it was listed."""

    url: str
    name: str
    """Relative to what was listed, with `/`: what to call it, and what a folder says of it."""
    size: int | None
    etag: str
    """Changes when the file does."""

    @property
    def digest(self) -> str:
        """A hash of where it is and what is there."""
        said = "\0".join((self.url, str(self.size), self.etag))
        return hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def is_remote(where: str) -> bool:
    """Whether this is a URL and not a path.

    Raises:
        DataError: it is the URL of something that is not read from a URL, as `file:` is.
    """
    if not (found := _SCHEME.match(where)):
        return False
    scheme = (found[1] or "file").lower()
    if scheme not in (*STORES, "https", "http") or not where.lower().startswith(f"{scheme}://"):
        raise DataError(
            f"data.path: {scheme}: is not read; there are https://, s3:// and gs://. Files of this machine "
            "are given as paths."
        )
    return True


def listing(url: str, access: Access) -> list[RemoteFile]:
    """The files at a URL, sorted by name: of a store, one or all below a folder; of a web server, one.

    Raises:
        DataError: there are none, or they may not be reached.
    """
    scheme = urlsplit(url).scheme.lower()
    if scheme in STORES:
        return [RemoteFile(*found) for found in _tried(lambda: _store.listed(url), url)]
    path = urlsplit(url).path
    found = _tried(lambda: _web.look(url, access.allow_hosts), url)
    name = PurePosixPath(unquote(path)).name
    if not name or path.endswith("/"):
        raise DataError(f"{shown(urlsplit(url))}: this names a folder; over https a file must be named.")
    file = RemoteFile(url, name, found.size, found.etag)
    return [file if found.etag else _identified(file, access)]


def fetch(file: RemoteFile, access: Access) -> Path:
    """Where the file is on this machine, with the last part of its name: in the cache, or fetched now.

    Raises:
        DataError: it cannot be had, has changed since it was listed, or is larger than the cache.
    """
    place = _place(file, access)
    with _locked(place, access):
        if not place.is_file():
            _download(file, place, access)
        os.utime(place)
    return place


def _place(file: RemoteFile, access: Access) -> Path:
    name = PurePosixPath(file.name).name.replace("\0", "").replace("\\", "_")
    return access.cache / file.digest / (name[-200:] if name not in ("", ".", "..") else "file")


@contextlib.contextmanager
def _locked(place: Path, access: Access) -> Iterator[None]:
    """One process at a time fetches a file; the others wait and find it there."""
    try:
        access.cache.mkdir(parents=True, exist_ok=True)
        with FileLock(access.cache / f".{place.parent.name}.lock"):
            place.parent.mkdir(exist_ok=True)
            yield
    except OSError as error:
        raise DataError(f"{access.cache}: cannot keep fetched files: {explained(error)}") from None


def _download(file: RemoteFile, place: Path, access: Access) -> None:
    """Fetch into a file of another name, go on where it breaks off, and rename."""
    _make_room(file.size or 0, place.parent, access)
    part = place.parent / ".part"
    _tried(lambda: _go_on(file, part, access), file.url)
    part.replace(place)


def _go_on(file: RemoteFile, part: Path, access: Access) -> None:
    """Fetch what is missing, and see that it is on the disk."""
    begin = part.stat().st_size if part.is_file() else 0
    with part.open("r+b" if begin else "wb") as out:
        for at, data in _blocks(file, begin, access):
            if at + len(data) > (access.most if file.size is None else file.size):
                raise _too_large(file, access)
            out.seek(at)
            out.write(data)
            out.truncate()
        out.flush()
        os.fsync(out.fileno())
    if file.size is not None and part.stat().st_size != file.size:
        raise Broken(f"{part.stat().st_size:,} bytes came of {file.size:,}")


def _blocks(file: RemoteFile, begin: int, access: Access) -> Iterator[tuple[int, bytes]]:
    if urlsplit(file.url).scheme.lower() in STORES:
        return _store.blocks(file.url, begin, file.size or 0, file.etag)
    return _web.blocks(file.url, access.allow_hosts, begin, Found(file.size, file.etag))


def _identified(file: RemoteFile, access: Access) -> RemoteFile:
    """A file of which the server does not say what changes with it: fetched, it is known by its content."""
    passing = file._replace(etag=f"unknown, {os.getpid()} {time.time_ns()}")
    place = _place(passing, access)
    with _locked(place, access):
        _make_room(file.size or 0, place.parent, access)
        _tried(lambda: _go_on(file, place, access), file.url)
        with place.open("rb") as data:
            digest = hashlib.file_digest(data, partial(hashlib.blake2b, digest_size=16)).hexdigest()
    known = file._replace(etag=f"content {digest}", size=place.stat().st_size)
    final = _place(known, access)
    with _locked(final, access):
        place.replace(final)
        place.parent.rmdir()
    return known


def _tried(attempt: Callable[[], Any], url: str) -> Any:
    """What `attempt` gives, tried again after a while where the network was to blame."""
    for number in range(TRIES):
        try:
            return attempt()
        except Broken as error:
            reason = str(error)
        if number < TRIES - 1:
            time.sleep(PAUSE * 2**number)
    raise DataError(f"{shown(urlsplit(url))}: cannot be fetched: {reason}. Tried {TRIES} times.")


def _make_room(size: int, but: Path, access: Access) -> None:
    """Delete what was not used the longest, until the cache with `size` bytes more is not too large.

    Raises:
        DataError: the file is larger than the cache may be, or than the disk has room for.
    """
    if size > access.most:
        raise DataError(
            f"{access.cache}: a file of {size:,} bytes does not go into a cache of {access.most:,}. Raise "
            "its limit, or fetch the file yourself."
        )
    folders = []
    for folder in access.cache.iterdir():
        files = _stats(folder) if folder.is_dir() and folder != but else []
        folders.append((max((s.st_mtime for s in files), default=0.0), sum(s.st_size for s in files), folder))
    used = sum(bytes_ for _, bytes_, _ in folders)
    for _, bytes_, folder in sorted(folders):
        if used + size <= access.most:
            break
        if bytes_:
            shutil.rmtree(folder, ignore_errors=True)
            used -= bytes_
    missing = size - shutil.disk_usage(access.cache).free
    if missing > 0:
        raise DataError(f"{access.cache}: the disk has {missing:,} bytes too few for the file. Make room.")


def _stats(folder: Path) -> list[os.stat_result]:
    """Of the files in a folder, which another process may just be deleting."""
    found = []
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            found.append(file.stat())
    return found


def _too_large(file: RemoteFile, access: Access) -> DataError:
    what = shown(urlsplit(file.url))
    if file.size is None:
        return DataError(f"{what}: more than the {access.most:,} bytes that the cache may hold.")
    return DataError(f"{what}: more than the {file.size:,} bytes that the server stated. Try again.")

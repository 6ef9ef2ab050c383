"""Files of object stores, by way of fsspec: `s3://` with s3fs, `gs://` with gcsfs.

Credentials and the address of the store come from where these packages look for them (their environment
variables, files and services), never from a recipe. Public data are read without any.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from telos.data._web import Broken
from telos.errors import DataError

__all__ = ["blocks", "listed"]

BLOCK: Final = 1 << 24
"""Bytes that are asked for at once: what is in memory of a file."""
FILES: Final = 1_000_000
"""Files of a listing, at most."""
_NO_CREDENTIALS: Final = (
    "NoCredentialsError",
    "NoAuthHandlerFound",
    "ProfileNotFound",
    "TokenRetrievalError",
)
_SECRET = re.compile(r"(?<=://)[^/\s@]*@|(?<=[?&])[^\s'\"]*|(?:AKIA|ASIA)\w{8,}|ya29\.[\w.-]+")


def listed(url: str) -> list[tuple[str, str, int, str]]:
    """URL, name below `url`, size and version of every file there, sorted by name.

    Raises:
        DataError: there are none, or the store does not give them. Broken: it may at another time.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.query:
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise DataError(
            f"{where}: a URL of a store has no user name and no `?`: credentials are not for recipes."
        )
    anonymous = False
    while True:
        files = _system(parts.scheme, anonymous)
        try:
            with _explained(url):
                return _all_below(files, url)
        except _NoCredentials:
            if anonymous:
                raise DataError(f"{url}: the store wants credentials, and there are none.") from None
            anonymous = True


def blocks(url: str, begin: int, size: int, etag: str) -> Iterator[tuple[int, bytes]]:
    """The file from the byte `begin` on, each block with the byte that it begins at.

    Raises:
        DataError: the file is another one than was listed. Broken: the store may give it at another time.
    """
    files, anonymous = None, False
    while files is None:
        files = _system(urlsplit(url).scheme, anonymous)
        try:
            with _explained(url):
                _check_same(files, url, size, etag)
        except _NoCredentials:
            if anonymous:
                raise DataError(f"{url}: the store wants credentials, and there are none.") from None
            files, anonymous = None, True
    with _explained(url):
        for at in range(begin, size, BLOCK):
            yield at, files.cat_file(url, start=at, end=min(at + BLOCK, size))
        _check_same(files, url, size, etag)


class _NoCredentials(Exception):
    """There are none to be found."""


def _system(scheme: str, anonymous: bool) -> Any:
    package = {"s3": "s3fs", "gs": "gcsfs"}[scheme.lower()]
    try:
        import fsspec

        given = ({"anon": True} if package == "s3fs" else {"token": "anon"}) if anonymous else {}
        with _explained(scheme + "://"):
            return fsspec.filesystem(scheme.lower(), use_listings_cache=False, **given)
    except ImportError:
        raise DataError(f"{scheme}:// needs a package more: pip install 'telos-lm[cloud]'") from None


def _all_below(files: Any, url: str) -> list[tuple[str, str, int, str]]:
    root = url.rstrip("/")
    scheme, _, path = root.partition("://")
    found = files.find(root, detail=True)
    if not found:
        raise DataError(f"{url}: there is nothing here.")
    if len(found) > FILES:
        raise DataError(f"{url}: more than {FILES:,} files. Name a folder of it.")
    rows = []
    for name, entry in found.items():
        below = name.removeprefix(path).strip("/")
        if not name.endswith("/") and not any(part[:1] == "." for part in below.split("/")):
            rows.append(
                (f"{scheme}://{name}", below or name.rpartition("/")[2], entry["size"], _version(entry))
            )
    return sorted(rows, key=lambda row: row[1].split("/"))


def _version(entry: dict[str, Any]) -> str:
    """What changes when the file does."""
    for key in ("ETag", "etag", "generation", "md5Hash", "LastModified", "updated", "mtime"):
        if entry.get(key):
            return str(entry[key]).strip('"')
    return ""


def _check_same(files: Any, url: str, size: int, etag: str) -> None:
    files.invalidate_cache()
    entry = files.info(url)
    if (entry["size"], _version(entry)) != (size, etag):
        raise DataError(f"{url}: the file changed after it was listed. Try again.")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Errors of the packages as ours, without what could be a secret."""
    try:
        yield
    except (DataError, _NoCredentials, ImportError):
        raise
    except FileNotFoundError:
        raise DataError(f"{url}: there is no such file or folder, or bucket.") from None
    except PermissionError as error:
        raise DataError(f"{url}: the store does not allow it: {_said(error)}.") from None
    except Exception as error:  # each package has its own, and they have no base in common
        if type(error).__name__ in _NO_CREDENTIALS:
            raise _NoCredentials from None
        raise Broken(_said(error)) from None


def _said(error: Exception) -> str:
    return _SECRET.sub("…", f"{type(error).__name__}: {error}".partition("\n")[0][:300])

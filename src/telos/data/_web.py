"""Files of web servers (RFC 9110): asked for over HTTPS, in stretches if it breaks off, at public addresses
only."""

import http.client
import re
import socket
import ssl
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from telos.data._addresses import addresses, shown
from telos.errors import DataError

__all__ = ["Broken", "Found", "blocks", "look"]

HOPS: Final = 5
"""Redirections that are followed, at most."""
TIMEOUT: Final = 30.0
"""Seconds without a byte, at most."""
SLOWEST: Final = 10_000
"""Bytes per second that must come on the whole, once `GRACE` seconds have passed."""
GRACE: Final = 60.0
BLOCK: Final = 1 << 20
_SECRET = re.compile(
    r"(?:^|&)(?:x-amz-\w[\w-]*|x-goog-\w[\w-]*|signature|sig|awsaccesskeyid|googleaccessid|key-pair-id|policy"
    r"|(?:access|api|auth|id)?[_-]?(?:key|token)|password|passwd|pwd|secret)=",
    re.IGNORECASE,
)


class Broken(Exception):
    """The connection failed or the server is out of order: worth another try."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a server says of a file."""

    size: int | None
    etag: str
    """What changes when the file does: its strong `ETag`, or when it was last modified; or nothing."""


def look(url: str, allowed: Collection[str]) -> Found:
    """What there is at a URL, redirections followed; asked with GET, which every server answers, and broken
    off.

    Raises:
        DataError: nothing, or it may not be asked. Broken: it may be, at another time.
    """
    with _answered(url, allowed, "GET", {}) as answer:
        return _found(answer)


def blocks(url: str, allowed: Collection[str], begin: int, expected: Found) -> Iterator[tuple[int, bytes]]:
    """The file from the byte `begin` on, or from its beginning if the server gives it only as a whole: each
    block with the byte that it begins at.

    Raises:
        DataError: the file is another one than `expected`, or comes too slowly. Broken: it broke off.
    """
    headers = {}
    if begin and expected.etag:
        headers = {"Range": f"bytes={begin}-", "If-Range": expected.etag}
    with _answered(url, allowed, "GET", headers) as answer:
        at = _beginning(answer, begin, url)
        whole = _found(answer)
        if whole.etag != expected.etag or (at == 0 and None not in (whole.size, expected.size)):
            _check_same(whole, expected, url)
        started, came = time.monotonic(), 0
        while data := _read(answer):
            yield at, data
            at, came = at + len(data), came + len(data)
            passed = time.monotonic() - started
            if passed > GRACE and came < SLOWEST * (passed - GRACE):
                raise DataError(f"{_plain(url)}: comes at less than {SLOWEST:,} bytes per second. Given up.")
        if expected.size is not None and at < expected.size:
            raise Broken(f"it broke off at byte {at:,} of {expected.size:,}")


def _check_same(found: Found, expected: Found, url: str) -> None:
    if found != expected:
        raise DataError(f"{_plain(url)}: the file changed while it was fetched. Try again.")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(BLOCK)  # `read` would wait for all of it
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_said(error)) from None


def _beginning(answer: http.client.HTTPResponse, begin: int, url: str) -> int:
    if answer.status != 206:
        return 0
    stated = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if stated is None or int(stated[1]) != begin:
        raise DataError(f"{_plain(url)}: the server gave another part of the file than it was asked for.")
    return begin


def _found(answer: http.client.HTTPResponse) -> Found:
    etag = answer.headers.get("ETag", "")
    if not etag or etag.startswith("W/"):
        etag = answer.headers.get("Last-Modified", "") or etag
    length = answer.headers.get("Content-Length", "")
    return Found(int(length) if length.isdigit() else None, etag)


@contextmanager
def _answered(
    url: str, allowed: Collection[str], method: str, headers: dict[str, str]
) -> Iterator[http.client.HTTPResponse]:
    """The good answer at the end of all redirections; each hop is judged as the first one is."""
    asked = url
    for _ in range(HOPS + 1):
        connection = _connected(parts := _split(asked), allowed)
        with closing(connection), _ask(connection, parts, method, headers) as answer:
            if answer.status not in (301, 302, 303, 307, 308):
                _check_status(answer, url)
                _check_encoding(answer, parts)
                yield answer
                return
            asked = urljoin(asked, answer.headers.get("Location", ""))
    raise DataError(f"{_plain(url)}: redirected more than {HOPS} times.")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise DataError("data.path is not a URL that can be read.") from None
    if parts.username is None and _SECRET.search(parts.query):
        raise DataError(
            f"{shown(parts)}: this URL holds a key or a signature, and would be written into the run's "
            "folder. Fetch the file yourself, or use s3:// or gs://, which take credentials from your own "
            "settings."
        )
    return parts


def _connected(url: SplitResult, allowed: Collection[str]) -> http.client.HTTPConnection:
    """A connection to an address that was judged, whatever the name is looked up to afterwards."""
    error: OSError | None = None
    for address, port in addresses(url, allowed):
        try:
            raw: Any = socket.create_connection((address, port), TIMEOUT)
            if url.scheme == "https":
                raw = ssl.create_default_context().wrap_socket(raw, server_hostname=url.hostname)
        except OSError as failed:
            error = failed
            continue
        connection = http.client.HTTPConnection(str(url.hostname), port, timeout=TIMEOUT)
        connection.sock = raw
        return connection
    raise Broken(_said(error) if error else "no address")


def _ask(
    connection: http.client.HTTPConnection, url: SplitResult, method: str, headers: dict[str, str]
) -> http.client.HTTPResponse:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not target.isascii() or any(c <= " " for c in target):
        from urllib.parse import quote

        target = quote(target, safe="/?&=%:+,;@!$'()*~-._")
    given = {"User-Agent": "telos", "Accept-Encoding": "identity", "Host": url.netloc, **headers}
    try:
        connection.request(method, target, headers=given)
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise Broken(_said(error)) from None


def _check_status(answer: http.client.HTTPResponse, url: str) -> None:
    if answer.status >= 500 or answer.status in (408, 425, 429):
        raise Broken(f"the server says {answer.status} {answer.reason[:80]}")
    if answer.status not in (200, 206):
        raise DataError(f"{_plain(url)}: the server says {answer.status} {answer.reason[:80]}.")


def _check_encoding(answer: http.client.HTTPResponse, url: SplitResult) -> None:
    """A file that is compressed on the way only would be kept as what it is not."""
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity" and not (encoding in ("gzip", "x-gzip") and url.path.endswith("gz")):
        raise DataError(
            f"{shown(url)}: the server sends it compressed ({encoding[:20]}) though asked not to."
        )


def _plain(url: str) -> str:
    return shown(urlsplit(url))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:200]

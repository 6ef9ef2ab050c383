"""What a web server has answered, as a web archive keeps it (RFC 9112)."""

import zlib
from dataclasses import dataclass

__all__ = ["PAGES", "Answer", "answer"]

PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer."""

    content_type: str
    charset: str
    body: bytes


def answer(message: bytes, longest: int) -> Answer | str:
    """The answer in a message, its body decoded, or why there is none."""
    head, _, body = message.partition(b"\r\n\r\n")
    if b"\r\n" not in head and b"\n\n" in message:
        head, _, body = message.partition(b"\n\n")
    first, *rest = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    status = first.split(None, 2)[1:2]
    if not first.startswith("HTTP/") or not status:
        return "a record without an HTTP answer"
    if status[0] != "200":
        return f"an answer of HTTP status {status[0][:3]}"
    headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in rest)}
    content_type, _, parameters = headers.get("content-type", "").partition(";")
    _, _, charset = parameters.lower().partition("charset=")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _joined(body)
    decoded = _decoded(body, headers.get("content-encoding", "").lower(), longest)
    if isinstance(decoded, str):
        return decoded
    return Answer(content_type.strip().lower(), charset.partition(";")[0].strip(), decoded)


def _joined(body: bytes) -> bytes:
    """The chunks of a body as one; as it is where it does not come in chunks, as archives often write it."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at, at + 64)
        size = body[at:end].partition(b";")[0].strip() if end >= 0 else b""
        try:
            length = int(size, 16)
        except ValueError:
            return body
        if length == 0:
            return b"".join(parts)
        begin = end + 2
        if length < 0 or body[begin + length : begin + length + 2] != b"\r\n":
            return body
        parts.append(body[begin : begin + length])
        at = begin + length + 2


def _decoded(body: bytes, encoding: str, longest: int) -> bytes | str:
    """The body without its compression, no longer than `longest`; or why there is none."""
    if encoding in ("", "identity", "none"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return f"an answer compressed as {encoding[:20]}"
    if encoding != "deflate" and body[:2] != b"\x1f\x8b":
        return body  # archives often expand the body and leave the header
    for bits in (47, -15):  # with a header of gzip or zlib, or without any
        expander = zlib.decompressobj(bits)
        try:
            data = expander.decompress(body, longest + 1)
        except zlib.error:
            continue
        if len(data) > longest:
            return f"a page of more than {longest:,} bytes"
        return data if expander.eof else "an answer cut short"
    return "an answer whose compression is damaged"

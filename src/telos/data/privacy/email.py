"""E-mail addresses (RFC 5321, section 4.1.2, of which quoted local parts are left out)."""

import re
from collections.abc import Iterator
from typing import ClassVar, final

from telos.data.privacy._base import Kind, Span
from telos.data.privacy._view import View

__all__ = ["Email"]

_AT = ("@", "(at)", "[at]", "{at}", " at ", " AT ")
_LOCAL = re.compile(r"[A-Za-z0-9\u00c0-\u024f._%+'\-]{1,64}")
_DOMAIN = re.compile(
    r"[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\u00c0-\u024f\-]{0,62}\.){1,8}"
    r"(?:xn--[A-Za-z0-9\-]{2,59}|[A-Za-z]{2,24})(?![A-Za-z0-9_@(\[]|-[A-Za-z0-9]|\.[A-Za-z0-9_])"
)
_SPELLED = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9\-]{0,62}\s?(?:\.|[(\[{]dot[)\]}]|\sdot\s)\s?){1,8}[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9_@(\[])",
    re.IGNORECASE,
)
_TABLE = """
png jpg jpeg gif svg webp bmp ico css js ts jsx tsx py json html htm xml txt md pdf zip gz tar
"""
_FILES = frozenset(_TABLE.split())
_RESERVED = re.compile(r"(?:^|\.)(?:example\.(?:com|net|org|edu)|example|test|invalid|localhost)$")
_SPELLED_AT = re.compile(r"\s?[(\[{]at[)\]}]\s?$| at $", re.IGNORECASE)


@final
class Email(Kind):
    """An address at a domain; not at one that RFC 2606 reserves for examples, nor `git@` of a repository.

    `zhang (at) mail (dot) cn` and `zhang at mail dot cn` are addresses too.
    """

    priority: ClassVar[int] = 60

    def spans(self, view: View) -> Iterator[Span]:
        """See `Kind.spans`."""
        found = sorted({span for at in _AT for span in _around(view, at)})
        end = 0
        for span in found:
            if span[0] >= end:
                yield span
                end = span[1]

    def same(self, found: str) -> str:
        """The address in lower case."""
        return found.lower()

    def stand_in(self, found: str, number: int) -> str:
        """An address at example.com (RFC 2606)."""
        return f"user{number % 10**7}@example.com"


def _around(view: View, at: str) -> Iterator[Span]:
    place = view.bytes.find(at.encode())
    while place >= 0:
        span = _plain(view, place) if at == "@" else _spelled(view, place, place + len(at))
        if span:
            yield span
        place = view.bytes.find(at.encode(), place + 1)


def _plain(view: View, at: int) -> Span | None:
    domain = _DOMAIN.match(view.text, at + 1)
    begin = _begin_of_local(view, at)
    if begin == at or not domain or not _is_host(domain[0]):
        return None
    if view.text[begin:at] == "git" and view.text[domain.end() : domain.end() + 1] in (":", "/"):
        return None
    return begin, domain.end()


def _spelled(view: View, at: int, after: int) -> Span | None:
    bracketed = view.text[at] != " "
    before = at - 1 if bracketed and view.text[at - 1 : at] == " " else at
    begin = _begin_of_local(view, before)
    after += bracketed and view.text[after : after + 1] == " "
    domain = _SPELLED.match(view.text, after)
    if begin == before or not domain:
        return None
    host = re.sub(r"\s?[(\[{]?(?:\.|dot)[)\]}]?\s?", ".", domain[0].lower())
    if not _is_host(host) or (not bracketed and " dot " not in domain[0].lower()):
        return None
    return begin, domain.end()


def _begin_of_local(view: View, at: int) -> int:
    """Where the characters that may stand before `@` begin: 64 of them at most, no dot at an end."""
    if view.text[at - 1 : at] in (".", ""):
        return at
    backwards = view.text[max(0, at - 64) : at][::-1]
    found = _LOCAL.match(backwards)
    local = backwards[: found.end()].rstrip(".'%+-") if found else ""
    return at - len(local)


def _is_host(name: str) -> bool:
    name = name.lower()
    return ".." not in name and name.rpartition(".")[2] not in _FILES and not _RESERVED.search(name)

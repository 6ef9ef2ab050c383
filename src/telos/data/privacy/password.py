"""Passwords and secrets that are assigned or told: `password = "…"`, `api_key: …`, `密码：…`."""

import re
from collections.abc import Iterator
from typing import ClassVar, final

from telos.data.privacy._base import Kind, Span
from telos.data.privacy._view import View
from telos.data.privacy.key import entropy

__all__ = ["Password"]

_NAMED = re.compile(
    r"(?:(pass(?:word|wd|phrase|code)|pwd|passw|密码|口令|密碼)"
    r"|secret|api[_ \-]?key|access[_ \-]?key|auth[_ \-]?token|access[_ \-]?token|token|credential|密钥)"
    r"[a-z0-9_]{0,12}[\"'`]?\s{0,2}(?:is|was)?\s{0,2}$"
)
_VALUE = re.compile(
    r"(?:=|>|:|：){0,2}\s{0,3}([\"'`“]?)([^\s\"'`“”<>\[\]{}(),;，。；、！？）\u0080-\uffff]{6,128})(.?)",
    re.DOTALL,
)
_PLACEHOLDER = re.compile(
    r"[*x.•_\-#]+$|(?:your|my|the|some|an?)[_\-]|\$|%[a-z(]|.*(?:example|placeholder|changeme|redacted|dummy|password"
    r"|passwd|secret|token|none|null|undefined)[a-z_]*$|env\.|os\.|self\.|[a-z_]+\.[a-z_.]+$|https?:|/",
    re.IGNORECASE,
)
_CHINESE = re.compile("(?:密码|口令|密碼|密钥)(?:[：:]|是|为|為|\\s)")
_TOLD = re.compile(r"(?<![a-z])(?:password|passcode|passphrase) (?:is|was) ", re.IGNORECASE)


@final
class Password(Kind):
    """The value alone, not the word that says what it is."""

    priority: ClassVar[int] = 80

    def spans(self, view: View) -> Iterator[Span]:
        """See `Kind.spans`."""
        end = 0
        for place in _places(view):
            span = _value(view, place) if place >= end else None
            if span:
                yield span
                end = span[1]

    def same(self, found: str) -> str:
        """The password as it is."""
        return found


def _places(view: View) -> list[int]:
    """Where a value may begin: at signs of assignment, and after a word for a password."""
    found = {place for sign in (b"=", b":") for place in _every(view.bytes, sign)}
    if b"??" in view.bytes:
        found |= (
            {hit.end() - 1 for hit in _CHINESE.finditer(view.text)}
            if "密" in view.text or "口令" in view.text
            else set()
        )
    if b"assw" in view.bytes or b"assphrase" in view.bytes:
        found |= {hit.end() - 1 for hit in _TOLD.finditer(view.text)}
    return sorted(found)


def _every(data: bytes, sign: bytes) -> Iterator[int]:
    place = data.find(sign)
    while place >= 0:
        yield place
        place = data.find(sign, place + 1)


def _value(view: View, place: int) -> Span | None:
    named = _NAMED.search(view.before(place, 40))
    if not named:
        return None
    begin = place + (view.text[place] in "是为為")
    found = _VALUE.match(view.text, begin)
    if not found:
        return None
    quote, value, after = found.groups()
    quoted = bool(quote) and after in ('"', "'", "`", "”")
    if not quoted:
        value = value.rstrip(".:!?")
    good = _is_password(value, quoted, after) if named[1] else _is_secret(value)
    return (found.start(2), found.start(2) + len(value)) if good else None


def _is_password(value: str, quoted: bool, after: str) -> bool:
    if len(value) < 6 or _PLACEHOLDER.match(value) or after == "(":
        return False
    digit = any(c.isdigit() for c in value)
    other = any(not c.isalnum() and c not in "_-." for c in value)
    letter = any(c.isalpha() for c in value)
    return quoted or (digit and (letter or len(value) >= 6)) or (other and letter and len(value) >= 8)


def _is_secret(value: str) -> bool:
    """Whether it is drawn by chance."""
    return (
        len(value) >= 16
        and not _PLACEHOLDER.match(value)
        and any(c.isdigit() for c in value)
        and any(c.isalpha() for c in value)
        and entropy(value) > 3.0
    )

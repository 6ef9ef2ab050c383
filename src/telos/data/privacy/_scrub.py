"""Personal data found in a text and replaced.

    text → view → spans of every kind → of those that overlap, the longest → replaced → again

Until nothing is found, which makes scrubbing idempotent: what has been scrubbed is left as it is when it is scrubbed again.
A replacement can set free what it was next to (half of two numbers that were written as one, for instance).
"""

import hashlib
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple, final

from telos.data import privacy
from telos.data.privacy._base import Kind
from telos.data.privacy._settings import PrivacySettings
from telos.data.privacy._view import View
from telos.find import find, names

__all__ = ["Found", "Scrubbed", "Scrubber"]

_ROUNDS = 16
"""More have never been needed; stand-ins that are found again end here, as tags."""
_SAMPLES = 3
"""Shapes per kind that a text gives to the card, at most."""


class Found(NamedTuple):
    """Personal data in a text: characters `begin` to `end`."""

    begin: int
    end: int
    kind: str


class Scrubbed(NamedTuple):
    """A text after scrubbing."""

    text: str
    """With replacements; as it was where the action is `drop` or `off`."""
    counts: Mapping[str, int]
    """How many were found, by kind; kinds of which there are none are left out."""
    shapes: Mapping[str, tuple[str, ...]]
    """What they looked like: every digit as `0`, letter as `a`, other character of a script as `字`. Nothing
    of the data itself is in it, so it may be shown."""
    drop: bool
    """Whether the document is to be dropped."""


@final
class Scrubber:
    """Finds and replaces what `settings` say. A function of text and settings alone; can be pickled."""

    def __init__(self, settings: PrivacySettings) -> None:
        self._settings = settings
        wanted = settings.kinds or [name for name in names(privacy) if name != "name" or settings.names]
        kinds = [find(privacy, name, Kind)(settings) for name in wanted]
        self._kinds = sorted(kinds, key=lambda kind: (-kind.priority, kind.name))
        self._by_name = {kind.name: kind for kind in self._kinds}

    def find(self, text: str) -> list[Found]:
        """What is found in a text, in order: of those that overlap, the longest; of equally long ones, the
        kind with the highest priority; then the first. Nothing that overlaps a tag is found."""
        view = View(text)
        found = [Found(*span, kind.name) for kind in self._kinds for span in kind.spans(view)]
        found.sort(key=lambda one: one.begin - one.end)  # stable: the kinds are in the order of priority
        return _apart(found, view.tags) if found else []

    def scrub(self, text: str) -> Scrubbed:
        """The text without what is found in it."""
        counts: Counter[str] = Counter()
        shapes: dict[str, dict[str, None]] = {}
        if self._settings.action == "off":
            return Scrubbed(text, {}, {}, False)
        for round in range(_ROUNDS):
            found = self.find(text)
            for one in found:
                counts[one.kind] += 1
                shapes.setdefault(one.kind, {})[_shape(text[one.begin : one.end])] = None
            if not found or self._settings.action == "drop":
                break
            text = self._replaced(text, found, plain=round == _ROUNDS - 1)
        few = {kind: tuple(list(ones)[:_SAMPLES]) for kind, ones in sorted(shapes.items())}
        drop = self._settings.action == "drop" and bool(counts)
        return Scrubbed(text, dict(sorted(counts.items())), few, drop)

    def _replaced(self, text: str, found: Iterable[Found], *, plain: bool) -> str:
        parts, place = [], 0
        for one in found:
            parts += [text[place : one.begin], self._replacement(text[one.begin : one.end], one.kind, plain)]
            place = one.end
        return "".join([*parts, text[place:]])

    def _replacement(self, datum: str, kind: str, plain: bool) -> str:
        if self._settings.replacement == "mask":
            return re.sub(r"[^\W_]", "*", datum)
        if self._settings.replacement == "tag" or plain:
            return f"[{kind.upper()}]"
        folded = View(datum).text
        same = f"{kind} {self._by_name[kind].same(folded)}".encode("utf-8", "surrogatepass")
        key = self._settings.seed.to_bytes(8, "little")
        number = int.from_bytes(hashlib.blake2b(same, key=key, digest_size=8).digest(), "little")
        return self._by_name[kind].stand_in(folded, number) or f"[{kind.upper()}_{number % (1 << 24):06x}]"


def _apart(found: Iterable[Found], tags: list[tuple[int, int]]) -> list[Found]:
    """Those that overlap neither an earlier one nor a tag, in the order of the text."""
    begins = [begin for begin, _ in tags]
    ends = [end for _, end in tags]
    kept: list[Found] = []
    for one in found:
        place = bisect_left(ends, one.begin + 1)
        if place < len(begins) and begins[place] < one.end:
            continue
        begins.insert(place, one.begin)
        ends.insert(place, one.end)
        kept.append(one)
    return sorted(kept)


def _shape(datum: str) -> str:
    """At most 40 characters that tell how it was written, and nothing of what it was."""
    return "".join(map(_class, datum[:40]))


def _class(character: str) -> str:
    if character.isdigit():
        return "0"
    if character.isalpha():
        return "a" if character.isascii() else "字"
    return character if character.isascii() and character.isprintable() else " "

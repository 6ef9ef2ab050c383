"""What a kind of personal data is.

To add a kind, write a file in this folder with one final class that derives from `Kind`, or from `Number` if
it has six digits or more that stand together. Nothing else is edited.

Every pattern has bounded repeats, and a place is tried a bounded number of times: the time is linear in the
length of the text, whatever the text is. Word ends (`\\b`) are not used: Chinese text has no blanks, and
`电话13812345678` is one word to a regular expression.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from telos.data.privacy._settings import PrivacySettings
from telos.data.privacy._view import View

__all__ = ["AFTER", "BEFORE", "Kind", "Number", "Span"]

Span = tuple[int, int]
"""Begin and end of what was found, in characters."""
BEFORE = r"(?<![0-9A-Za-z_])(?<![0-9][.,/:\-])"
"""In front of a number that is not a part of a longer one, or of a word."""
AFTER = r"(?![0-9A-Za-z_])(?![.,/:\-][0-9])"
"""Behind such a number."""


class Kind(ABC):
    """Base of all kinds. Kinds have no state that changes, and can be pickled."""

    priority: ClassVar[int] = 0
    """Of two kinds that find the same characters, the one with the higher number has them."""

    def __init__(self, settings: PrivacySettings) -> None:  # noqa: B027 - only `name` needs more
        """`settings` say where a model is, for a kind that needs one."""

    @property
    def name(self) -> str:
        """The kind's name: its file's."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def spans(self, view: View) -> Iterator[Span]:
        """Where such data is, in order, without overlaps."""

    def same(self, found: str) -> str:
        """What is equal for two spellings of one datum: letters and digits alone, lower-case."""
        return "".join(character for character in found.lower() if character.isalnum())

    def stand_in(self, found: str, number: int) -> str:
        """Something of a range that is reserved for examples and that this kind does not find; empty where
        there is none. `number` is drawn from 0 … 2⁶⁴ − 1."""
        return ""


class Number(Kind):
    """Base of kinds that are a number: digits and separators, perhaps with a few letters about them."""

    pattern: ClassVar[re.Pattern[str]]
    """What it looks like, with bounded repeats."""
    least: ClassVar[int]
    """Digits that stand together in it, at least."""
    reach: ClassVar[int] = 6
    """How far it can go beyond its digits, in characters."""

    @abstractmethod
    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """What of a match is such a number: its checksum is right, and the words before do not deny it."""

    def spans(self, view: View) -> Iterator[Span]:
        """Matches near digits that stand together. Where a match is refused, the next place is tried."""
        place = 0
        for begin, end, digits in view.spots:
            if digits < self.least:
                continue
            place, end = max(place, begin - self.reach, 0), end + self.reach
            while found := self.pattern.search(view.text, place, end):
                span = self.check(view, found)
                if span:
                    yield span
                place = span[1] if span else found.start() + 1

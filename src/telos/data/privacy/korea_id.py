"""Resident registration numbers of South Korea: day of birth, sex and century, and a check modulo 11.

The check is not asked for after a word that says so: numbers given since October 2020 are drawn by chance.
"""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._checks import date, digits_of, weighted
from telos.data.privacy._view import View
from telos.data.privacy._words import IDENTITY, said

__all__ = ["KoreaId"]


@final
class KoreaId(Number):
    """`YYMMDD-NNNNNNN`."""

    priority: ClassVar[int] = 37
    least: ClassVar[int] = 13
    pattern: ClassVar[re.Pattern[str]] = re.compile(BEFORE + r"[0-9]{6}-[1-8][0-9]{6}" + AFTER)

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """A day, and the check digit or the word."""
        digits = digits_of(found[0])
        total = weighted(digits[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5))
        good = (11 - total % 11) % 10 == int(digits[12]) or said(view, found.start(), IDENTITY)
        century = (19,) if digits[6] in "1256" else (20,)
        return found.span() if good and date(digits[:6], centuries=century) else None

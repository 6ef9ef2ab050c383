"""Resident identity numbers of China (GB 11643-1999): place, day of birth, order, ISO 7064 MOD 11-2.

Also the old ones of 15 digits, which have no check, and the numbers of residence permits: 81, 82 and 83 for
people of Hong Kong, Macao and Taiwan, and 9 for foreigners (since 2023).
"""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._checks import date, iso7064_11_2, luhn
from telos.data.privacy._view import View
from telos.data.privacy._words import IDENTITY, OTHER, said

__all__ = ["ChinaId"]

_TABLE = """
11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81
82 83
"""
_PROVINCES = frozenset(_TABLE.split())
_OLD = 15


@final
class ChinaId(Number):
    """18 digits, the last perhaps X, in one piece or with blanks; or 15 of old."""

    priority: ClassVar[int] = 50
    least: ClassVar[int] = 15
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        BEFORE + r"[1-9](?:[ \-]?[0-9]){13}(?:[ \-]?[0-9](?:[ \-]?[0-9]){2}[ \-]?[0-9Xx]|[0-9])" + AFTER
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """Place, date and check character; the old form after a word, or where nothing else is likely."""
        number = re.sub("[ -]", "", found[0]).upper()
        if number[:2] not in _PROVINCES and not (number[0] == "9" and number[1:3] in _PROVINCES):
            return None
        if len(number) == _OLD:
            good = number == found[0] and date(number[6:12], centuries=(19,)) and _likely(view, found, number)
        else:
            good = (
                "1850" < number[6:10] < "2100"
                and date(number[6:14])
                and iso7064_11_2(number[:17]) == number[17]
            )
        return found.span() if good else None


def _likely(view: View, found: re.Match[str], number: str) -> bool:
    """15 digits are often something else: a card, a device, an order."""
    said_so = said(view, found.start(), IDENTITY)
    return said_so or not (luhn(number) or said(view, found.start(), OTHER))

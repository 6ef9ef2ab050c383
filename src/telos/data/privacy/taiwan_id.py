"""Identity numbers of Taiwan: a letter for the place, nine digits, and a check modulo 10."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._view import View
from telos.data.privacy._words import IDENTITY, OTHER, said

__all__ = ["TaiwanId"]

_PLACES = "ABCDEFGHJKLMNPQRSTUVXYWZIO"
"""The letters in the order of their numbers, from 10."""


@final
class TaiwanId(Number):
    """`A123456789`: 1 and 2 of nationals, 8 and 9 of residents; not after a word for something else."""

    priority: ClassVar[int] = 34
    least: ClassVar[int] = 9
    pattern: ClassVar[re.Pattern[str]] = re.compile(BEFORE + r"[A-Z][1289][0-9]{8}" + AFTER)

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """The letter's two digits and the nine weigh 1, 9, 8 … 1, 1."""
        tens, ones = divmod(10 + _PLACES.index(found[0][0]), 10)
        rest = zip(found[0][1:], (8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True)
        total = tens + 9 * ones + sum(int(digit) * weight for digit, weight in rest)
        denied = said(view, found.start(), OTHER) and not said(view, found.start(), IDENTITY)
        return found.span() if total % 10 == 0 and not denied else None

"""Numbers of Chinese passports and travel permits: letters and digits without a check."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._view import View
from telos.data.privacy._words import PASSPORT, said

__all__ = ["ChinaPassport"]


@final
class ChinaPassport(Number):
    """E or G and eight digits, EA … EZ, DE, SE or PE and seven; of permits C, CA … H and M.
    After a word that says so, since there is no check.
    """

    priority: ClassVar[int] = 30
    least: ClassVar[int] = 7
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        BEFORE
        + r"(?:[EGCHKM][0-9]{8}|(?:E[A-HJ-NP-Z]|[DSP]E|C[A-Z]|1[45]|HJ|KJ|MA)[0-9]{7}|[HM][0-9]{10})"
        + AFTER
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """After the word alone."""
        return found.span() if said(view, found.start(), PASSPORT) else None

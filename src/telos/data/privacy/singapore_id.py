"""Identity numbers of Singapore (NRIC and FIN): a letter, seven digits, and a check letter."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._checks import weighted
from telos.data.privacy._view import View

__all__ = ["SingaporeId"]

_LETTERS = {
    "S": (0, "JZIHGFEDCBA"),
    "T": (4, "JZIHGFEDCBA"),
    "F": (0, "XWUTRQPNMLK"),
    "G": (4, "XWUTRQPNMLK"),
    "M": (3, "XWUTRQPNJLK"),
}


@final
class SingaporeId(Number):
    """`S1234567D`."""

    priority: ClassVar[int] = 33
    least: ClassVar[int] = 7
    pattern: ClassVar[re.Pattern[str]] = re.compile(BEFORE + r"[STFGM][0-9]{7}[A-Z]" + AFTER)

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """Weights 2, 7, 6 … 2, more by the first letter, modulo 11."""
        more, letters = _LETTERS[found[0][0]]
        total = more + weighted(found[0][1:8], (2, 7, 6, 5, 4, 3, 2))
        return found.span() if letters[total % 11] == found[0][8] else None

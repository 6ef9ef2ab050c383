"""Identity card numbers of Hong Kong: one or two letters, six digits, and a check modulo 11."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import Number, Span
from telos.data.privacy._checks import weighted
from telos.data.privacy._view import View
from telos.data.privacy._words import IDENTITY, said

__all__ = ["HongKongId"]


@final
class HongKongId(Number):
    """`A123456(3)`; without the brackets only after a word that says so."""

    priority: ClassVar[int] = 32
    least: ClassVar[int] = 6
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        r"(?<![0-9A-Za-z_])([A-Z]{1,2})([0-9]{6}) ?(?:\(([0-9A])\)|([0-9A])(?![0-9A-Za-z_]))"
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """Weights 9 … 2; a card of one letter has a blank before it, which counts as 36."""
        letters, digits, bracketed, plain = found.groups()
        blank = 9 * 36 if len(letters) == 1 else 0
        weights = range(9 - (len(letters) == 1), 1, -1)
        total = blank + weighted(letters + digits, weights) + int(bracketed or plain, 16)
        good = total % 11 == 0 and (bracketed or said(view, found.start(), IDENTITY))
        return found.span() if good else None

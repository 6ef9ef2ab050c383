"""Taxpayer numbers of Brazil (CPF): nine digits and two checks modulo 11."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._checks import digits_of, weighted
from telos.data.privacy._view import View
from telos.data.privacy._words import IDENTITY, said

__all__ = ["BrazilId"]


@final
class BrazilId(Number):
    """`529.982.247-25`; in one piece only after a word that says so."""

    priority: ClassVar[int] = 36
    least: ClassVar[int] = 11
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        BEFORE + r"(?:[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9]{11})" + AFTER
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """Weights 10 … 2, then 11 … 2, each sum times ten modulo 11; ten equal digits are no number."""
        digits = digits_of(found[0])
        if len(set(digits)) == 1 or (len(found[0]) == 11 and not said(view, found.start(), IDENTITY)):
            return None
        checks = [weighted(digits[:n], range(n + 1, 1, -1)) * 10 % 11 % 10 for n in (9, 10)]
        return found.span() if checks == [int(digits[9]), int(digits[10])] else None

"""Identity numbers of Spain (DNI and NIE): eight digits and a letter, modulo 23."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._checks import digits_of
from telos.data.privacy._view import View
from telos.data.privacy._words import IDENTITY, OTHER, said

__all__ = ["SpainId"]


@final
class SpainId(Number):
    """`12345678Z`; of foreigners X, Y or Z and seven digits, `X1234567L`."""

    priority: ClassVar[int] = 31
    least: ClassVar[int] = 7
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        BEFORE + r"(?:[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3}|[XYZ]-?[0-9]{7})[ \-]?[A-HJ-NP-TV-Z]" + AFTER
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """X, Y, Z count as 0, 1, 2 before the digits."""
        first = {"X": "0", "Y": "1", "Z": "2"}.get(found[0][0], "")
        good = "TRWAGMYFPDXBNJZSQVHLCKE"[int(first + digits_of(found[0])) % 23] == found[0][-1]
        denied = said(view, found.start(), OTHER) and not said(view, found.start(), IDENTITY)
        return found.span() if good and not denied else None

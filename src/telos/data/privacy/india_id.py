"""Aadhaar numbers of India: twelve digits, the last by Verhoeff's scheme."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._checks import digits_of, verhoeff
from telos.data.privacy._view import View
from telos.data.privacy._words import IDENTITY, OTHER, said

__all__ = ["IndiaId"]


@final
class IndiaId(Number):
    """`2345 6789 0124`, not among other numbers; in one piece only after a word that says so."""

    priority: ClassVar[int] = 35
    least: ClassVar[int] = 12
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        BEFORE + r"(?<![0-9] )[2-9][0-9]{3}([ \-]?)[0-9]{4}\1[0-9]{4}" + AFTER + r"(?! [0-9])"
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """Its check digit, and the words before."""
        said_so = said(view, found.start(), IDENTITY)
        likely = said_so or (found[1] and not said(view, found.start(), OTHER))
        return found.span() if likely and verhoeff(digits_of(found[0])) else None

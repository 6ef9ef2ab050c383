"""Social security numbers of France (NIR): sex, year, month, place, order, and a key modulo 97."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._view import View

__all__ = ["FranceId"]


@final
class FranceId(Number):
    """13 characters and a key of two, in one piece or `2 55 08 14 168 025 38`; Corsica has 2A and 2B."""

    priority: ClassVar[int] = 45
    least: ClassVar[int] = 6
    reach: ClassVar[int] = 14
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        BEFORE
        + r"[12378]( ?)[0-9]{2}\1(?:0[1-9]|1[0-2]|[2-9][0-9])\1(?:2[AB]|[0-9]{2})\1"
        + r"[0-9]{3}\1[0-9]{3}[ \-]?[0-9]{2}"
        + AFTER
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """The key is 97 less the number modulo 97; 2A and 2B count as 19 and 18."""
        number = re.sub("[ -]", "", found[0]).replace("2A", "19").replace("2B", "18")
        return found.span() if 97 - int(number[:13]) % 97 == int(number[13:]) else None

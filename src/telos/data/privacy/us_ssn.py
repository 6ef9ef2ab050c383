"""Social security numbers of the United States: area, group, serial; no check digit."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._view import View
from telos.data.privacy._words import OTHER, said

__all__ = ["UsSsn"]

_SAID = re.compile(r"(?<![a-z_])(?:ssn|social security|soc\.? sec|social)(?![a-z\]])")


@final
class UsSsn(Number):
    """`123-45-6789`; with blanks, or in one piece, only after a word that says so.

    Areas 000, 666 and 900 to 999 are never given, nor group 00 and serial 0000 (Social Security
    Administration, POMS RM 10201.035).
    """

    priority: ClassVar[int] = 30
    least: ClassVar[int] = 9
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        BEFORE + r"(?!000|666|9)[0-9]{3}([ \-]?)(?!00)[0-9]{2}\1(?!0000)[0-9]{4}" + AFTER
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """By its hyphens, or the word before."""
        said_so = said(view, found.start(), _SAID)
        good = said_so or (found[1] == "-" and not said(view, found.start(), OTHER))
        return found.span() if good else None

    def stand_in(self, found: str, number: int) -> str:
        """An area that is never given, with a group that tax numbers do not have either."""
        return f"9{number % 100:02}-{10 + number // 100 % 40}-{1 + number // 4000 % 9999:04}"

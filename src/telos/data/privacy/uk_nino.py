"""National insurance numbers of the United Kingdom: two letters, six digits, a letter; no check.

Which letters are given: HM Revenue & Customs, National Insurance Manual, NIM39110.
"""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._view import View
from telos.data.privacy._words import IDENTITY, OTHER, said

__all__ = ["UkNino"]


@final
class UkNino(Number):
    """`AB123456C` or `AB 12 34 56 C`."""

    priority: ClassVar[int] = 31
    least: ClassVar[int] = 6
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        BEFORE
        + r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]( ?)"
        + r"[0-9]{2}\1[0-9]{2}\1[0-9]{2}\1[A-D]"
        + AFTER
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """Unless a word before says that it is something else."""
        denied = said(view, found.start(), OTHER) and not said(view, found.start(), IDENTITY)
        return None if denied else found.span()

"""Numbers of payment cards (ISO/IEC 7812): an issuer's prefix, its lengths, and the Luhn digit."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import AFTER, BEFORE, Number, Span
from telos.data.privacy._checks import digits_of, luhn
from telos.data.privacy._view import View

__all__ = ["Card"]

_ISSUERS = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("6011", "6011", (16, 19)),  # Discover
    ("644", "659", (16, 19)),
    ("3528", "3589", (16,)),  # JCB
    ("300", "305", (14,)),  # Diners Club
    ("36", "36", (14,)),
    ("38", "39", (14,)),
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("2200", "2204", (16,)),  # Mir
    ("5018", "5018", (16,)),  # Maestro
    ("5020", "5020", (16,)),
    ("5038", "5038", (16,)),
    ("6304", "6304", (16,)),
    ("6759", "6759", (16,)),
    ("6761", "6763", (16,)),
)


@final
class Card(Number):
    """A card number in one piece or in groups, as they are printed on cards."""

    priority: ClassVar[int] = 40
    least: ClassVar[int] = 13
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        BEFORE
        + r"(?:[0-9]{13,19}|[0-9]{4}(?:([ \-])[0-9]{4}(?:\1[0-9]{4}){2}(?:\1[0-9]{1,3})?"
        + r"|([ \-])[0-9]{6}\2[0-9]{4,5}))"
        + AFTER
    )

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """The longest number that ends with a group."""
        ends = [found.end()]
        if len(groups := list(re.finditer("[0-9]+", found[0]))) > 4:
            ends.append(found.start() + groups[3].end())
        for end in ends:
            if _is_card(digits_of(view.text[found.start() : end])):
                return found.start(), end
        return None


def _is_card(digits: str) -> bool:
    known = any(
        first <= digits[: len(first)] <= last and len(digits) in lengths for first, last, lengths in _ISSUERS
    )
    return known and luhn(digits)

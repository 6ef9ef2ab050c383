"""International bank account numbers (ISO 13616): a country's length, and MOD 97-10."""

import re
from typing import ClassVar, final

from telos.data.privacy._base import BEFORE, Number, Span
from telos.data.privacy._checks import mod97
from telos.data.privacy._view import View

__all__ = ["Iban"]

_TABLE = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28
EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27
JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18
NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28
TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
_LENGTHS = {code[:2]: int(code[2:]) for code in _TABLE.split()}
"""Characters of an IBAN, by country (SWIFT's IBAN registry)."""


@final
class Iban(Number):
    """An account number in one piece or in groups of four."""

    priority: ClassVar[int] = 70
    least: ClassVar[int] = 6
    reach: ClassVar[int] = 40
    pattern: ClassVar[re.Pattern[str]] = re.compile(BEFORE + r"[A-Z]{2}[ ]?[0-9]{2}(?:[ \-]?[0-9A-Z]){11,29}")

    def check(self, view: View, found: re.Match[str]) -> Span | None:
        """As many characters as the country's numbers have."""
        wanted = _LENGTHS.get(found[0][:2], 0)
        ends = [place for place, character in enumerate(found[0], found.start() + 1) if character.isalnum()]
        if not 0 < wanted <= len(ends):
            return None
        end = ends[wanted - 1]
        number = re.sub("[ -]", "", view.text[found.start() : end])
        apart = not view.text[end : end + 1].isascii() or not view.text[end : end + 1].isalnum()
        return (found.start(), end) if apart and mod97(number) else None

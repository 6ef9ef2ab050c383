"""Telephone numbers: E.164 and the national forms of China, North America and Europe.

A form that is nothing but digits and blanks is taken for a telephone number only after a word that says so.
"""

import re
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple, final

from telos.data.privacy._base import AFTER, BEFORE, Kind, Span
from telos.data.privacy._checks import digits_of
from telos.data.privacy._view import View
from telos.data.privacy._words import IDENTITY, OTHER, PHONE, is_amount, said

__all__ = ["Phone"]

_TABLE = """
1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65
66 81 82 84 86 90 91 92 93 94 95 98 211 212 213 216 218 290 291 297 298 299 420 421 423 670 672 800
808 850 852 853 855 856 870 878 880 881 882 883 886 888 992 993 994 995 996 998
"""
_COUNTRIES = frozenset(_TABLE.split()) | {
    str(code)
    for first, last in ((220, 269), (350, 359), (370, 389), (500, 509), (590, 599), (673, 692), (960, 977))
    for code in range(first, last + 1)
}
"""Country codes (ITU-T E.164, list of assigned codes)."""
_DATE = re.compile(
    r"[0-9]{1,2}([./\-])[0-9]{1,2}\1(?:19|20)[0-9]{2}|(?:19|20)[0-9]{2}([./\-])[0-9]{1,2}\2[0-9]{1,2}"
)
_START = re.compile(BEFORE + r"(?:\+ ?|\( ?\+?)?[0-9]")
_LIKE_MOBILE = ((11,), (3, 4, 4), (3, 8), (7, 4), (3, 3, 5), (5, 6))
_LIKE_TRUNK = (
    (3, 4, 4),
    (4, 3, 4),
    (5, 3, 3),
    (5, 6),
    (3, 8),
    (4, 7),
    (4, 8),
    (3, 7),
    (4, 6),
    (2, 2, 2, 2, 2),
    (3, 3, 4),
)


class _Form(NamedTuple):
    """One way to write a number."""

    pattern: re.Pattern[str]
    fits: Callable[[str, bool], bool]
    """Whether what matched is a number, given whether a word before says that one comes."""
    alone: bool = False
    """Whether it is one even after a word for something else, such as `order`."""


def _form(pattern: str, fits: Callable[[str, bool], bool], *, alone: bool = False) -> _Form:
    return _Form(re.compile(pattern + AFTER), fits, alone)


def _groups(text: str) -> tuple[int, ...]:
    return tuple(len(group) for group in re.findall("[0-9]+", text))


def _international(text: str, said_so: bool) -> bool:
    digits = digits_of(text)
    national = "+" not in text
    digits = digits[2:] if national else digits
    code = next((digits[:n] for n in (1, 2, 3) if digits[:n] in _COUNTRIES), "")
    rest = digits[len(code) :].removeprefix("0")
    if not code or not 7 <= len(rest) <= 15 - len(code):
        return False
    if code == "1" and (len(rest) != 10 or rest[0] in "01" or rest[3] in "01" or rest[3:8] == "55501"):
        return False
    if code == "86" and not re.fullmatch(r"1[3-9][0-9]{9}|[2-9][0-9]{8,11}|10[0-9]{7,8}", rest):
        return False
    return said_so or not national or code == "86" or len(_groups(text)) > 1


def _mobile(text: str, said_so: bool) -> bool:
    return said_so or _groups(text) in _LIKE_MOBILE


def _landline(text: str, said_so: bool) -> bool:
    return said_so or len(_groups(text)) > 1


def _american(text: str, said_so: bool) -> bool:
    digits = digits_of(text)[-10:]
    return digits[3:8] != "55501" and (said_so or "(" in text or "-" in text or "." in text)


def _trunk(text: str, said_so: bool) -> bool:
    groups = _groups(text)
    pairs = len(groups) == 5 or (len(groups) < 5 and max(groups) > 2)
    return (
        not _DATE.match(text)
        and 9 <= sum(groups) <= 12
        and (said_so or groups in _LIKE_TRUNK or (pairs and "/" in text and len(groups) <= 4))
    )


def _any(text: str, said_so: bool) -> bool:
    return said_so and not _DATE.match(text) and digits_of(text)[-10:][3:8] != "55501"


_FORMS = (
    _form(r"(?:\( ?)?\+ ?[1-9](?:[ .\-/()]{0,2}[0-9]){7,14}", _international, alone=True),
    _form(r"00 ?[1-9](?:[ .\-/()]{0,2}[0-9]){8,14}", _international),
    _form(r"(?:\(?86\)?[ \-]?)?1[ \-]?[3-9](?:[ \-]?[0-9]){9}", _mobile),
    _form(
        r"\(?0(?:10|2[0-9]|[3-9][0-9]{2})\)?[ \-]{0,2}[2-9][0-9]{2,3}[ \-]?[0-9]{4}"
        r"(?:(?: ?转 ?|-| ext\.? ?)[0-9]{1,5})?",
        _landline,
    ),
    _form(r"[48]00[ \-](?:[0-9]{3}[ \-]?[0-9]{4}|[0-9]{4}[ \-]?[0-9]{3})", _landline),
    _form(
        r"(?:1[ .\-]?)?(?:\([2-9][0-9]{2}\)[ .\-]?|[2-9][0-9]{2}[ .\-])[2-9][0-9]{2}[ .\-][0-9]{4}", _american
    ),
    _form(r"\(?0[1-9][0-9]{0,4}\)?(?:[ .\-/][0-9]{2,8}){1,5}", _trunk),
    _form(r"\(?[0-9](?:[ .\-/()]{0,2}[0-9]){6,14}", _any),
)


@final
class Phone(Kind):
    """A telephone number; not one of the range 555-0100 … 555-0199, which is reserved for fiction."""

    priority: ClassVar[int] = 20

    def spans(self, view: View) -> Iterator[Span]:
        """See `Kind.spans`."""
        place = 0
        for begin, end, digits in view.spots:
            if digits < 7:
                continue
            place = max(place, begin - 4, 0)
            while start := _START.search(view.text, place, end):
                span = _number(view, start.start())
                if span:
                    yield span
                place = span[1] if span else start.start() + 1

    def same(self, found: str) -> str:
        """Its digits, without China's country code."""
        return re.sub("^(?:00)?86", "", digits_of(found))

    def stand_in(self, found: str, number: int) -> str:
        """A number of the range that is reserved for fiction in North America."""
        area = ("202", "212", "303", "312", "404", "415", "503", "617", "702", "713")[number // 100 % 10]
        return f"+1 {area}-555-01{number % 100:02}"


def _number(view: View, begin: int) -> Span | None:
    said_so = said(view, begin, PHONE, OTHER)
    denied = not said_so and (said(view, begin, OTHER) or said(view, begin, IDENTITY))
    for form in _FORMS:
        found = form.pattern.match(view.text, begin)
        if not found or (denied and not form.alone) or not form.fits(found[0], said_so):
            continue
        if said_so or (not _in_a_row(view, found) and not is_amount(view, begin, found.end())):
            return begin, found.end()
    return None


def _in_a_row(view: View, found: re.Match[str]) -> bool:
    """Whether a number with blanks in it goes on with further groups of digits, as in a table."""
    if " " not in found[0] or "(" in found[0] or "+" in found[0]:
        return False
    return bool(
        re.match(r" {1,2}[0-9]", view.text[found.end() : found.end() + 3])
        or re.search(r"[0-9] {1,2}$", view.text[max(0, found.start() - 3) : found.start()])
    )

"""Cleaning: pure functions from text to text, in a fixed order, each with a count of what it changed.

    byte order mark → invalid characters → repair → line ends → control characters → NFC → width → script
    → boilerplate → spaces → lower case → special characters

The result is what the tokenizer sees, and its UTF-8 bytes are the bytes that bits per byte divides by. A step
that loses something of the text (`lossy`) is named beside such figures.
"""

import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from telos.data._boilerplate import without_boilerplate
from telos.data._repair import repair, require, simplified, traditional
from telos.data.settings import CleanSettings

__all__ = ["Step", "changed_characters", "cleaner", "invalid", "steps"]

SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_NEWLINES = re.compile("\r\n|[\r\x0b\x0c\x85]")
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ]+")
_HALF = {code: code - 0xFEE0 for code in range(0xFF10, 0xFF5B)}
_BLANKS = " \t\u00a0\u3000"
_TRAILING = re.compile(f"[{_BLANKS}](?:\n|\\Z)")
_BLANK_LINES = re.compile("\n{3,}")
_PROSE = frozenset(".,;:!?'\"()-–—‘’“”…。，、；：！？（）《》「」『』〈〉·")


class Step(NamedTuple):
    """One step of cleaning."""

    name: str
    does: Callable[[str], str]
    lossy: bool
    """Whether it takes away something that a reader would miss."""


def steps(settings: CleanSettings) -> tuple[Step, ...]:
    """The steps that these settings ask for, in the order in which they are done.

    Raises:
        ConfigError: a step needs a package that is not installed.
    """
    require(repair=settings.repair, script=settings.script != "keep")
    asked = [
        (True, Step("byte order mark", without_mark, False)),
        (True, Step("invalid characters", replace_invalid, True)),
        (settings.repair, Step("repair", repair, False)),
        (settings.newlines == "lf", Step("line ends", line_feeds, False)),
        (settings.strip_control, Step("control characters", strip_control, False)),
        (settings.normalise == "NFC", Step("NFC", compose, False)),
        (settings.width == "half", Step("width", half_width, False)),
        (settings.script == "simplified", Step("script", simplified, True)),
        (settings.script == "traditional", Step("script", traditional, True)),
        (settings.boilerplate, Step("boilerplate", without_boilerplate, True)),
        (settings.spaces == "collapse", Step("spaces", collapse_spaces, False)),
        (settings.lower, Step("lower case", str.lower, True)),
        (settings.special_characters == "remove", Step("special characters", remove_special, True)),
    ]
    return tuple(step for wanted, step in asked if wanted)


def cleaner(settings: CleanSettings, *, part: bool = False) -> Callable[[str], str]:
    """All steps in one, for texts that a model is asked about: they are to be as those it was trained on.

    Args:
        part: what comes is a part of a text, as a prompt is, which goes on after it: blanks at its end stay,
            and it is not searched for boilerplate.

    Raises:
        ConfigError: a step needs a package that is not installed.
    """
    asked = steps(settings.model_copy(update={"boilerplate": False}) if part else settings)

    def clean(text: str) -> str:
        body = text.rstrip(_BLANKS) if part else text
        rest = text[len(body) :]
        for step in asked:
            body = step.does(body)
        return body + rest

    return clean


def without_mark(text: str) -> str:
    """Without a byte order mark at the beginning; anywhere else U+FEFF is text."""
    return text.removeprefix("\ufeff")


def invalid(text: str) -> list[int]:
    """Places of lone surrogates: bytes that were not UTF-8 (PEP 383), or half a pair in JSON."""
    return [] if text.isascii() else [found.start() for found in SURROGATE.finditer(text)]


def replace_invalid(text: str) -> str:
    """U+FFFD for every lone surrogate."""
    return text if text.isascii() else SURROGATE.sub("\ufffd", text)


def line_feeds(text: str) -> str:
    """CR LF, CR, vertical tab, form feed and U+0085 as a line feed (Unicode Standard, section 5.8)."""
    return _NEWLINES.sub("\n", text)


def strip_control(text: str) -> str:
    """Without control characters (category Cc), all but tab, line feed and carriage return."""
    return _CONTROL.sub("", text)


def compose(text: str) -> str:
    """Normalisation form C (Unicode Standard Annex 15): canonically equal texts become equal."""
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def half_width(text: str) -> str:
    """Full-width Latin letters and digits (U+FF10 … U+FF5A) as half-width ones; punctuation stays."""
    return text if text.isascii() else _WIDE.sub(lambda run: run.group().translate(_HALF), text)


def collapse_spaces(text: str) -> str:
    """No blanks at the ends of lines, and never more than one blank line in a row. Indents stay."""
    if _TRAILING.search(text):
        text = "\n".join(line.rstrip(_BLANKS) for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", text)


def remove_special(text: str) -> str:
    """Letters, marks, digits, white space and the punctuation of plain prose; the rest goes."""
    return text.translate(_special())


@cache
def _special() -> dict[int, None]:
    codes = (
        c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) == "Co" or _is_symbol(chr(c))
    )
    return {code: None for code in codes if chr(code) not in _PROSE}


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character)[0] in "SP"


def changed_characters(before: str, after: str) -> int:
    """How many characters of `before` are not in `after` as they were: removed, or others in their place."""
    if len(before) != len(after):
        return max(1, abs(len(before) - len(after)))
    a, b = (np.frombuffer(t.encode("utf-32-le", "surrogatepass"), np.uint32) for t in (before, after))
    return int(np.count_nonzero(a != b))

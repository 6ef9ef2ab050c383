"""A text as the kinds of personal data look at it: folded, with the few places found that are worth a look.

Text without personal data has to cost next to nothing, so the whole of it is only read by operations that are
fast on bytes. Positions in the folded text are positions in the text: folding keeps the length.
"""

import re
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["TAG", "Spot", "View"]

TAG = re.compile(r"\[[A-Z]+(?:_[A-Z]+)*(?:_[0-9a-f]{6})?\]")
"""What stands where personal data was."""
Spot = tuple[int, int, int]
"""Where digits stand together, with separators between them at most: begin, end, number of digits."""

_WIDE = re.compile("[\uff10-\uff19\uff20-\uff3a\uff41-\uff5a]")
_ELSE = {0x00A0: 0x20, 0x202F: 0x20, 0x3000: 0x20, 0x2212: 0x2D}
_SEPARATORS = (
    " .()/\\-" + "\u00a0\u202f\u3000\u2010\u2011\u2012\u2013\u2014\u2212\uff08\uff09\uff0d\uff0e\uff0f"
)
_DIGITS_TOGETHER = re.compile(rf"[0-9](?:[{re.escape(_SEPARATORS)}]{{0,3}}+[0-9]){{5,}}+")
_FEWEST = 6
_IS_DIGIT = bytes(48 <= code < 58 for code in range(256))
_IS_WORD = bytes(code < 128 and (chr(code).isalnum() or chr(code) in "_-.") for code in range(256))
_WORD = re.compile(r"[\w.\-]+", re.ASCII)
_LONG = 19
"""Characters that a run has to have to be sure to hold four aligned groups of four."""


class View:
    """One text, read once for all kinds."""

    def __init__(self, text: str) -> None:
        self.bytes = text.encode("latin-1", "replace")
        """One byte per character, `?` for those beyond U+00FF."""
        if not text.isascii() and b"???" in self.bytes and _has_wide(text):
            text = _fold(text)
            self.bytes = text.encode("latin-1", "replace")
        self._text = text

    @cached_property
    def text(self) -> str:
        """The text with full-width letters, digits and punctuation, dashes and blanks as those of ASCII."""
        return self._text if self._text.isascii() else _fold(self._text)

    @cached_property
    def tags(self) -> list[tuple[int, int]]:
        """Where something has been replaced already."""
        return [found.span() for found in TAG.finditer(self._text)] if "[" in self._text else []

    def before(self, place: int, reach: int = 32) -> str:
        """The characters before `place`, lower-case."""
        return self.text[max(0, place - reach) : place].lower()

    def after(self, place: int, reach: int = 16) -> str:
        """The characters from `place` on, lower-case."""
        return self.text[place : place + reach].lower()

    @cached_property
    def spots(self) -> list[Spot]:
        """Where at least six digits stand together, in order."""
        return list(self._spots())

    def _spots(self) -> Iterator[Spot]:
        digits = np.flatnonzero(np.frombuffer(self.bytes.translate(_IS_DIGIT), np.bool_))
        apart = _FEWEST + 3 * (_FEWEST - 1)
        dense = np.flatnonzero(digits[_FEWEST - 1 :] - digits[: 1 - _FEWEST] < apart)
        done = 0
        for first, last in _merged(digits[dense], digits[dense + _FEWEST - 1] + 1):
            for found in _DIGITS_TOGETHER.finditer(self.text, max(first, done), last):
                done = found.end()
                first_digit, last_digit = np.searchsorted(digits, found.span())
                yield found.start(), done, int(last_digit - first_digit)

    @cached_property
    def long_words(self) -> list[tuple[int, int]]:
        """Runs of 19 or more ASCII letters, digits, `_`, `-` and `.`: where keys can be."""
        table = self.bytes.translate(_IS_WORD)
        fours = np.frombuffer(table, np.uint32, len(table) // 4) == 0x01010101
        hits: list[int] = (np.flatnonzero(fours[:-3] & fours[1:-2] & fours[2:-1] & fours[3:]) * 4).tolist()
        runs: list[tuple[int, int]] = []
        done = 0
        for hit in hits:
            if hit >= done:
                begin = hit
                while begin > done and table[begin - 1]:
                    begin -= 1
                found = _WORD.match(self.text, begin)
                assert found
                done = found.end()
                if done - begin >= _LONG:
                    runs.append((begin, done))
        return runs


def _has_wide(text: str) -> bool:
    """Whether letters, digits or `@` of full width are in it: nothing is found in those as they are."""
    return b"\xef\xbc" in text.encode("utf-8", "surrogatepass") and _WIDE.search(text) is not None


def _fold(text: str) -> str:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).copy()
    codes[(codes >= 0xFF01) & (codes <= 0xFF5E)] -= 0xFEE0
    codes[(codes >= 0x2010) & (codes <= 0x2014)] = 0x2D
    for other, plain in _ELSE.items():
        codes[codes == other] = plain
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def _merged(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Intervals in order, those that touch as one."""
    if len(begins):
        new = np.flatnonzero(begins[1:] > ends[:-1]) + 1
        firsts, lasts = begins[np.r_[0, new]], ends[np.r_[new - 1, len(ends) - 1]]
        yield from zip(firsts.tolist(), lasts.tolist(), strict=True)

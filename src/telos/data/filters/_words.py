"""A text as words, found once for all filters: whole arrays at a time instead of word by word.

A word is a run of characters without blanks, its punctuation included (`don't`, `"Yes,`); where Chinese
characters or kana stand, which are written without blanks, each of them is a word of its own, with the
punctuation that follows it.
"""

import re
import sys
from functools import cache, cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLANK", "DIGIT", "IDEOGRAPH", "LETTER", "OTHER", "Words", "kinds_of", "points_of", "words_of"]

BLANK, OTHER, DIGIT, LETTER, IDEOGRAPH = range(5)
"""Kinds of characters: white space; punctuation, symbols and marks; numbers; letters; Chinese characters and
kana."""
_RANGES = "[\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
_IDEOGRAPHS: Final = 0x20000
"""From here on there are no letters but rare Chinese characters, to the end of plane 3."""
_MULTIPLIER: Final = 0x9E3779B97F4A7C15
_POWERS: Final = 1 << 12
"""How many powers of it are kept; a power of two."""


class Words:
    """The words of one text. Places are those of characters."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.points = points_of(text)
        """Code points, (characters,), unsigned."""
        self.kinds = kinds_of(self.points)
        """Kinds of characters, (characters,)."""
        self.starts = np.flatnonzero(_begins(self.kinds))
        """Where words begin, (words,), ascending."""

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where words end, (words,): the place after the last character."""
        inside = np.zeros(len(self.kinds) + 1, dtype=np.bool_)
        inside[:-1] = self.kinds != BLANK
        last = inside[:-1] & ~inside[1:]
        if len(self):
            before = self.starts[1:] - 1
            last[before] |= inside[before]
        return np.flatnonzero(last) + 1

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank, without the blanks around them."""
        return [line for given in self.text.split("\n") if (line := given.strip())]

    def count(self, kind: int) -> int:
        """How many characters are of this kind."""
        return int(np.count_nonzero(self.kinds == kind))

    def having(self, least: int) -> NDArray[np.bool_]:
        """Which words have a character of kind `least` or a later one, (words,)."""
        if not len(self):
            return np.zeros(0, dtype=np.bool_)
        return np.maximum.reduceat(self.kinds, self.starts) >= least

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """A hash of the characters of each word, (words,): equal words, equal hashes; different words have
        equal ones once in 2⁶⁴ or so. A polynomial in the place within the word (Karp and Rabin, 1987)."""
        if not len(self):
            return np.zeros(0, dtype=np.uint64)
        first, places = int(self.starts[0]), np.arange(len(self.points), dtype=np.int32)
        lengths = np.diff(self.starts, append=len(self.points))
        places[first:] -= np.repeat(self.starts.astype(np.int32), lengths)
        places &= _POWERS - 1
        mixed = _mixed()[self.points]
        mixed *= _powers()[places]
        mixed *= self.kinds != BLANK
        return np.add.reduceat(mixed, self.starts)


@lru_cache(maxsize=1)
def words_of(text: str) -> Words:
    """The words of `text`; the last text is remembered, since filters ask one after the other."""
    return Words(text)


def points_of(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """The code points of `text`, (characters,); lone surrogates are code points too."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def kinds_of(points: NDArray[np.uint8] | NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The kinds of code points, (characters,)."""
    if points.dtype == np.uint8:
        return np.frombuffer(points.tobytes().translate(_kinds()[:256].tobytes()), np.uint8)
    return _kinds()[points]


@cache
def _kinds() -> NDArray[np.uint8]:
    """The kind of every code point."""
    every = "".join(map(chr, range(_IDEOGRAPHS)))
    kinds = np.full(sys.maxunicode + 1, OTHER, dtype=np.uint8)
    kinds[_IDEOGRAPHS:0x40000] = IDEOGRAPH
    for pattern, kind in ((r"\s+", BLANK), (r"[^\W_]+", DIGIT), (r"[^\W\d_]+", LETTER), (_RANGES, IDEOGRAPH)):
        for found in re.finditer(pattern, every):
            kinds[found.start() : found.end()] = kind
    return kinds


def _begins(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which characters begin a word: those after a blank; and, where something to read came since the last
    blank, every Chinese character, and the first letter or digit after one."""
    solid = kinds != BLANK
    begins = solid.copy()
    begins[1:] &= ~solid[:-1]
    if len(kinds) and kinds.max() == IDEOGRAPH:
        places = np.arange(len(kinds), dtype=np.int32)
        read = np.maximum.accumulate(np.where(kinds > OTHER, places, -1))[:-1]
        blank = np.maximum.accumulate(np.where(solid, -1, places))[:-1]
        here = (read > blank) & (kinds[1:] > OTHER)
        begins[1:] |= here & ((kinds[1:] == IDEOGRAPH) | (kinds[read] == IDEOGRAPH))
    return begins


@cache
def _mixed() -> NDArray[np.uint64]:
    """A number of 64 bits for every code point, by the finaliser of SplitMix64 (Steele et al., 2014)."""
    return _finalised(np.arange(sys.maxunicode + 1, dtype=np.uint64) + np.uint64(1))


def _finalised(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values * np.uint64(_MULTIPLIER)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _powers() -> NDArray[np.uint64]:
    """Of the multiplier, modulo 2⁶⁴: by the place in a word, over again in one that is longer still."""
    powers = np.full(_POWERS, _MULTIPLIER, dtype=np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)

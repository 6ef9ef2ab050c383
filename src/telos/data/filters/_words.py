"""A text as words, found once for all filters: whole arrays at a time instead of word by word.

A word is a run of characters without blanks, its punctuation included (`don't`, `"Yes,`); where Chinese
characters or kana stand, which are written without blanks, each of them is a word of its own, with the
punctuation that follows it.
"""

import hashlib
import re
import sys
from functools import cache, cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLANK", "DIGIT", "IDEOGRAPH", "LETTER", "OTHER", "Words", "kinds_of", "points_of", "words_of"]

BLANK, OTHER, DIGIT, LETTER, IDEOGRAPH = range(5)
"""Kinds of characters: white space; punctuation, symbols and marks; numbers; letters; Chinese characters and
kana."""
_RANGES = "[\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
_IDEOGRAPHS: Final = 0x20000
"""From here on there are no letters but rare Chinese characters, to the end of plane 3."""
_LONGEST: Final = 64
"""Bytes of a word that are hashed eight at a time; longer ones are few."""
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_MASKS: Final = np.array([(1 << (8 * count)) - 1 for count in range(9)], dtype=np.uint64)
"""The first so many of eight bytes."""


class Words:
    """The words of one text. Places are those of characters."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.points = points_of(text)
        """Code points, (characters,), unsigned."""
        self.kinds = kinds_of(self.points)
        """Kinds of characters, (characters,)."""
        self._solid: NDArray[np.bool_] = self.kinds != BLANK
        self.mixed = not text.isascii() and bool((self.kinds == IDEOGRAPH).any())
        """Whether there are Chinese characters or kana."""
        self.starts = self._begins().nonzero()[0]
        """Where words begin, (words,), ascending."""

    def __len__(self) -> int:
        return len(self.starts)

    def _begins(self) -> NDArray[np.bool_]:
        """Which characters begin a word: those after a blank; and, where something to read came since the
        last blank, every Chinese character, and the first letter or digit after one."""
        solid, kinds = self._solid, self.kinds
        begins: NDArray[np.bool_] = solid.copy()
        begins[1:] &= ~solid[:-1]
        if self.mixed:
            places = np.arange(len(kinds), dtype=np.int32)
            read = np.maximum.accumulate(np.where(kinds > OTHER, places, -1))[:-1]
            blank = np.maximum.accumulate(np.where(solid, -1, places))[:-1]
            here = (read > blank) & (kinds[1:] > OTHER)
            begins[1:] |= here & ((kinds[1:] == IDEOGRAPH) | (kinds[read] == IDEOGRAPH))
        return begins

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Where words end, (words,): the place after the last character."""
        last: NDArray[np.bool_] = self._solid.copy()
        last[:-1] &= ~self._solid[1:]
        if self.mixed:
            before = self.starts[1:] - 1
            last[before] |= self._solid[before]
        ends: NDArray[np.int64] = last.nonzero()[0] + 1
        return ends

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank, without the blanks around them."""
        return [line for given in self.text.split("\n") if (line := given.strip())]

    @cached_property
    def solid(self) -> int:
        """How many characters are not blank."""
        return int(np.count_nonzero(self._solid))

    def count(self, kind: int) -> int:
        """How many characters are of this kind."""
        return int(np.count_nonzero(self.kinds == kind))

    @cached_property
    def highest(self) -> NDArray[np.uint8]:
        """The highest kind of a character in each word, (words,)."""
        return np.maximum.reduceat(self.kinds, self.starts) if len(self) else self.kinds[:0]

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """A hash of the characters of each word, (words,): equal words, equal hashes; different words have
        equal ones once in 2⁶⁴ or so. Eight bytes of all words at a time."""
        points: NDArray[np.unsignedinteger[Any]] = self.points
        if points.dtype == np.uint32 and int(points.max(initial=0)) < 1 << 16:
            points = points.astype(np.uint16)
        size = points.itemsize
        bytes_ = np.frombuffer(points.tobytes() + bytes(8), np.uint8)
        eight: NDArray[np.uint64] = np.ndarray((len(bytes_) - 7,), "<u8", bytes_, strides=(1,))
        left, at = (self.ends - self.starts) * size, self.starts * size
        hashes = left.astype(np.uint64)
        _stir(hashes, eight[at] & _MASKS[np.minimum(left, 8)])
        for done in range(8, _LONGEST, 8):
            longer = (left > done).nonzero()[0]
            if not len(longer):
                return hashes
            part = hashes[longer]
            _stir(part, eight[at[longer] + done] & _MASKS[np.minimum(left[longer] - done, 8)])
            hashes[longer] = part
        for word in (left > _LONGEST).nonzero()[0]:
            raw = bytes_[at[word] : at[word] + left[word]].tobytes()
            hashes[word] = int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest())
        return hashes


def _stir(hashes: NDArray[np.uint64], given: NDArray[np.uint64]) -> None:
    """Mix eight bytes more into each hash, in place; one to one for any given eight bytes."""
    hashes ^= given
    hashes *= _MULTIPLIER
    hashes ^= hashes >> np.uint64(32)


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

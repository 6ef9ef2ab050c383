"""Words of many texts at once, and their n-grams, as 64-bit numbers.

What is compared is not the text but its words, so that copies stay copies through changes of case, white
space, punctuation, accents and width. Each character is looked up in a table that says what it counts as:

    letters, digits   part of a word, in lower case and without accents
    Han, kana, Thai … a word by itself: scripts that are written without blanks
    marks, joiners    nothing
    all else          the end of a word

A word is the polynomial of its characters modulo 2⁶⁴ (Karp and Rabin, 1987), an n-gram the polynomial of its
words. Both are differences of prefix sums, so the cost of a batch is a few passes over its characters,
whatever n is, and no Python is run for a word. The numbers are the same on every machine; they may change
with the Unicode version of Python, for characters that it did not know before.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grams", "Words", "batches", "grams", "pieces", "scrambled", "words"]

PIECE: Final = 1 << 18
"""Characters that are worked on at once: they fit a cache, and memory is bounded for a text of any length."""
_BASE: Final = 0x9E3779B97F4A7C15
_SEPARATOR, _LETTER, _ALONE, _NOTHING = range(4)
_UNSPACED: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),
    (0x3041, 0x312F),  # kana, bopomofo
    (0x3190, 0x319F),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
_MARKS: Final = (
    (0x0300, 0x036F),
    (0x0591, 0x05C7),  # Hebrew points
    (0x0640, 0x0640),  # Arabic stretching
    (0x064B, 0x065F),  # Arabic vowels
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0x3099, 0x309A),  # voicing of kana
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F),
    (0xE0100, 0xE01EF),
)
_VARIED: Final = (
    *((0x0000, 0x33FF), (0x4DC0, 0x4DFF), (0xA000, 0xABFF), (0xD7A4, 0xDFFF), (0xF900, 0x1FFFF)),
    *((0x2F800, 0x2FA1F), (0xE0000, 0xE01EF)),
)
"""Characters that may fold to others or be no letters; the rest are Han, Hangul, private and unassigned."""


class Words(NamedTuple):
    """The words of a batch of texts, one text after the other."""

    hashes: NDArray[np.uint64]
    """(words,)"""
    offsets: NDArray[np.int64]
    """(texts + 1,): the words of text i are `offsets[i]` to `offsets[i + 1]`."""
    begins: NDArray[np.int64]
    """(words,): the character at which each begins, counted from the beginning of the batch."""
    ends: NDArray[np.int64]
    """(words,): the character after its last one."""
    text_begins: NDArray[np.int64]
    """(texts,): the character at which each text begins."""


class Grams(NamedTuple):
    """The n-grams of a batch of texts."""

    hashes: NDArray[np.uint64]
    """(grams,)"""
    offsets: NDArray[np.int64]
    """(texts + 1,)"""


def words(texts: Sequence[str]) -> Words:
    """All words of `texts`, in order. Lone surrogates are allowed, and end a word."""
    joined = "\n".join(texts) + "\n"
    if joined.isascii():
        codes = np.frombuffer(joined.encode("ascii"), np.uint8)
        value = _table()[:128][codes]
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
        value = _table()[codes]
    kind = value.astype(np.uint8) & np.uint8(3)
    places = None
    if (nothing := kind == _NOTHING).any():
        places = np.flatnonzero(~nothing)
        value, kind = value[places], kind[places]
    begins, ends = _runs(kind)
    hashes = scrambled(_polynomial(value, begins, ends))
    if places is not None:
        begins, ends = places[begins], places[ends - 1] + 1
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    after = np.cumsum(lengths + 1)
    offsets = np.concatenate([[0], np.searchsorted(begins, after)])
    return Words(hashes, offsets, begins, ends, after - lengths - 1)


def grams(hashes: NDArray[np.uint64], offsets: NDArray[np.int64], n: int) -> Grams:
    """The n-grams of words, in order, of texts whose words are `hashes[offsets[i]:offsets[i + 1]]`; a text of
    fewer words is one gram of all that it has, and a text without words has none."""
    counts = np.diff(offsets)
    many = np.where(counts >= n, counts - n + 1, np.minimum(counts, 1))
    bounds = np.concatenate([[0], np.cumsum(many)])
    begins = np.arange(bounds[-1]) + np.repeat(offsets[:-1] - bounds[:-1], many)
    ends = np.minimum(begins + n, np.repeat(offsets[1:], many))
    return Grams(scrambled(_polynomial(hashes, begins, ends)), bounds)


def batches(texts: Sequence[str]) -> Iterator[range]:
    """`texts` in groups of about `PIECE` characters; a text that is longer is a group of its own."""
    begin, size = 0, 0
    for i, text in enumerate(texts):
        if begin < i and size + len(text) > PIECE:
            yield range(begin, i)
            begin, size = i, 0
        size += len(text) + 1
    if begin < len(texts):
        yield range(begin, len(texts))


def pieces(text: str) -> Iterator[tuple[int, str]]:
    """A text in pieces of at most `PIECE` characters and where they begin, cut at blanks if there are any."""
    begin = 0
    while len(text) - begin > PIECE:
        end = max(text.rfind(blank, begin + 1, begin + PIECE) for blank in " \n")
        end = end if end > begin else begin + PIECE
        yield begin, text[begin:end]
        begin = end
    yield begin, text[begin:]


def scrambled(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64 bits in which every bit depends on every other (Steele et al., 2014, SplitMix)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _runs(kind: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where words begin and end; the last character is a separator."""
    letter, alone = kind == _LETTER, kind == _ALONE
    begin, end = letter.copy(), letter.copy()
    begin[1:] &= ~letter[:-1]
    end[:-1] &= ~letter[1:]
    return np.flatnonzero(begin | alone), np.flatnonzero(end | alone) + 1


def _polynomial(
    values: NDArray[np.uint64], begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Σ values[begin + k] · Bᵏ of each stretch from a begin to its end, modulo 2⁶⁴. B is odd, so that it can
    be divided by."""
    powers, inverse = _powers(_room(len(values)))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return (sums[ends] - sums[begins]) * inverse[begins]


def _room(length: int) -> int:
    return max(PIECE, 1 << length.bit_length())


@cache
def _powers(length: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(length,): powers of the base modulo 2⁶⁴, and what divides by them."""
    base = np.full(length, _BASE, np.uint64)
    inverse = np.full(length, pow(_BASE, -1, 1 << 64), np.uint64)
    base[0] = inverse[0] = 1
    return np.cumprod(base), np.cumprod(inverse)


@cache
def _table() -> NDArray[np.uint64]:
    """(0x110000,): what each character counts as, in the two lowest bits, and a number for what it folds to
    in the others."""
    kind = np.full(0x110000, _LETTER, np.uint8)
    folded = np.arange(0x110000, dtype=np.uint64)
    for first, last in _VARIED:
        characters = list(map(chr, range(first, last + 1)))
        kind[first : last + 1] = [_kind(character) for character in characters]
        folded[first : last + 1] = [_folded(character) for character in characters]
    for first, last in _UNSPACED:
        many = kind[first : last + 1]
        many[many == _LETTER] = _ALONE
    for first, last in _MARKS:
        kind[first : last + 1] = _NOTHING
    kind = kind[folded]
    return (scrambled(folded) & ~np.uint64(3)) | kind


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if category == "Cf":
        return _NOTHING
    return _LETTER if category[0] in "LMN" or category in ("Co", "Cn") else _SEPARATOR


def _folded(character: str) -> int:
    """In lower case, without accents, of normal width; what folds to several characters stays as it is."""
    parts = unicodedata.normalize("NFKD", character)
    if len(parts) > 1:
        marked = all(any(low <= ord(mark) <= high for low, high in _MARKS) for mark in parts[1:])
        parts = parts[0] if marked else character
    lower = parts.casefold()
    if len(lower) > 1:
        lower = parts.lower()
    return ord(lower if len(lower) == 1 else parts)

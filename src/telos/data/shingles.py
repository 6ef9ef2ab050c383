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

__all__ = ["PIECE", "Grams", "HashSet", "Words", "blocks", "grams", "hashed", "pieces", "scrambled", "words"]

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
    """(words,): the character of its text at which each begins."""
    ends: NDArray[np.int64]
    """(words,): the character after its last one."""
    halves: NDArray[np.int64]
    """(words,): 2, or 1 for a character of a script without blanks, which is less than a word."""


class Grams(NamedTuple):
    """The n-grams of a batch of texts."""

    hashes: NDArray[np.uint64]
    """(grams,)"""
    offsets: NDArray[np.int64]
    """(texts + 1,)"""


class HashSet:
    """Numbers that are looked for among many others: most of these are told apart by a table of bits, and
    only the rest is searched for.

    `hashes` are sorted and each there once. The table has 16 to 32 bytes for each, at most 128 MiB.
    """

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self.hashes = hashes
        size = min(1 << 27, max(1 << 12, 16 << len(hashes).bit_length()))
        self._mask = np.uint64(size - 1)
        self._table = np.zeros(size, np.bool_)
        self._table[hashes & self._mask] = True

    def __contains__(self, number: int) -> bool:
        return bool(self.holds(np.array([number], np.uint64))[0])

    def __len__(self) -> int:
        return len(self.hashes)

    def holds(self, numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(numbers,): which of them are in the set."""
        result: NDArray[np.bool_] = self._table[numbers & self._mask]
        maybe = np.flatnonzero(result)
        places = np.searchsorted(self.hashes, numbers[maybe])
        result[maybe] = self.hashes[np.minimum(places, len(self.hashes) - 1)] == numbers[maybe]
        return result


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
    halves = 2 - (kind[begins] == _ALONE).astype(np.int64)
    hashes = hashed(value, begins, ends)
    if places is not None:
        begins, ends = places[begins], places[ends - 1] + 1
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    after = np.cumsum(lengths + 1)
    offsets = np.concatenate([[0], np.searchsorted(begins, after)])
    text_begins = np.repeat(after - lengths - 1, np.diff(offsets))
    return Words(hashes, offsets, begins - text_begins, ends - text_begins, halves)


def blocks(texts: Sequence[str], overlap: int) -> Iterator[tuple[int, Words]]:
    """All words of `texts` in blocks that fit a cache: (number of the block's first text, its words).

    A text of more than `PIECE` characters comes alone, in several blocks, each of which begins with the last
    `overlap` words of the one before; so a stretch of `overlap` + 1 words is in exactly one block, and a text
    of no more than `overlap` words is in one block.
    """
    for group in _batches(texts):
        if len(group) == 1 and len(texts[group.start]) > PIECE:
            yield from ((group.start, found) for found in _pieces_of(texts[group.start], overlap))
        else:
            yield group.start, words(texts[group.start : group.stop])


def grams(hashes: NDArray[np.uint64], offsets: NDArray[np.int64], n: int) -> Grams:
    """The n-grams of words, in order, of texts whose words are `hashes[offsets[i]:offsets[i + 1]]`; a text of
    fewer words is one gram of all that it has, and a text without words has none."""
    counts = np.diff(offsets)
    many = np.where(counts >= n, counts - n + 1, np.minimum(counts, 1))
    bounds = np.concatenate([[0], np.cumsum(many)])
    begins = np.arange(bounds[-1]) + np.repeat(offsets[:-1] - bounds[:-1], many)
    ends = np.minimum(begins + n, np.repeat(offsets[1:], many))
    return Grams(hashed(hashes, begins, ends), bounds)


def hashed(
    values: NDArray[np.uint64], begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """(stretches,): Σ values[begin + k] · Bᵏ of each stretch from a begin to its end, modulo 2⁶⁴, scrambled.
    B is odd, so that it can be divided by."""
    powers, inverse = _powers(_room(len(values)))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return scrambled((sums[ends] - sums[begins]) * inverse[begins])


def scrambled(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64 bits in which every bit depends on every other (Steele et al., 2014, SplitMix)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _batches(texts: Sequence[str]) -> Iterator[range]:
    """`texts` in groups of about `PIECE` characters; a text that is longer is a group of its own."""
    begin, size = 0, 0
    for i, text in enumerate(texts):
        if begin < i and size + len(text) > PIECE:
            yield range(begin, i)
            begin, size = i, 0
        size += len(text) + 1
    if begin < len(texts):
        yield range(begin, len(texts))


def _pieces_of(text: str, overlap: int) -> Iterator[Words]:
    """The words of one long text; the last words of a piece are carried into the next."""
    carried, told = words([""]), False
    for begin, piece in pieces(text):
        found = words([piece])
        found = found._replace(begins=found.begins + begin, ends=found.ends + begin)
        whole = _joined(carried, found)
        if len(whole.hashes) > overlap and len(found.hashes):
            yield whole
            told = True
            keep = len(whole.hashes) - overlap
            whole = Words(whole.hashes[keep:], np.array([0, overlap]), *(part[keep:] for part in whole[2:]))
        carried = whole
    if not told:
        yield carried


def _joined(first: Words, second: Words) -> Words:
    hashes, _, begins, ends, halves = (np.concatenate(both) for both in zip(first, second, strict=True))
    return Words(hashes, np.array([0, len(hashes)]), begins, ends, halves)


def pieces(text: str, blanks: Sequence[str] = (" ", "\n")) -> Iterator[tuple[int, str]]:
    """A text in pieces of at most `PIECE` characters and where they begin, cut behind white space that begins
    with one of `blanks`, if there is any."""
    begin = 0
    while len(text) - begin > PIECE:
        last = begin + PIECE
        found = [(at, blank) for blank in blanks if (at := text.rfind(blank, begin + 1, last)) > 0]
        end = last
        if found:
            at, blank = max(found)
            behind = text[at + len(blank) : last]
            end = last - len(behind.lstrip())
        yield begin, text[begin:end]
        begin = end
    yield begin, text[begin:]


def _runs(kind: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where words begin and end; the last character is a separator."""
    letter, alone = kind == _LETTER, kind == _ALONE
    begin, end = letter.copy(), letter.copy()
    begin[1:] &= ~letter[:-1]
    end[:-1] &= ~letter[1:]
    return np.flatnonzero(begin | alone), np.flatnonzero(end | alone) + 1


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

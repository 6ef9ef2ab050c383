"""Text of an evaluation set in the training text: how much of each text is known from it, and where.

Two texts overlap where they have an n-gram of 13 words in common, without regard to case, punctuation and
white space: the rule of GPT-3 (Brown et al., 2020, appendix C; others took 8 words or 10 tokens). A character
of a script without blanks counts for half a word, so 26 Chinese characters are an n-gram. An item of fewer
words is looked for as a whole, down to `shortest`, 8 words as in GPT-3; a shorter one would be found
everywhere.

    known = Known(grams(items))         of all evaluation sets, once
    overlap(texts, known)               the share of each training text that is known, and the first place
    seen = Known(found(texts, known))   what of the items is in the training text: then
    overlap(items, seen)                how much of each item is known from training (Llama 2, section A.6)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.data import shingles
from telos.data.shingles import HashSet, Words

__all__ = ["SHORTEST", "Grams", "Known", "N", "Overlap", "found", "grams", "overlap", "united"]

N: Final = 13
"""Words of an n-gram."""
SHORTEST: Final = 8
"""Words of an item that is still looked for."""

Grams = Mapping[int, NDArray[np.uint64]]
"""By length in half words: the hashes of n-grams, sorted, each once."""


class Overlap(NamedTuple):
    """What of each text is known."""

    share: NDArray[np.float64]
    """(texts,): the share of its words that are in a known n-gram; 0 for a text without words."""
    begins: NDArray[np.int64]
    """(texts,): the character at which the first known n-gram begins, or -1."""
    ends: NDArray[np.int64]
    """(texts,): the character after the stretch of known n-grams that begins there, or -1."""


class Known:
    """The n-grams that are looked for."""

    def __init__(self, grams: Grams) -> None:
        self.by_length = {length: HashSet(hashes) for length, hashes in sorted(grams.items()) if len(hashes)}

    @property
    def longest(self) -> int:
        """Half words of the longest."""
        return max(self.by_length, default=0)


def grams(texts: Sequence[str], n: int = N, shortest: int = SHORTEST) -> Grams:
    """The n-grams of `texts`, and as a whole those that have fewer words, but no fewer than `shortest`."""
    result: dict[int, list[NDArray[np.uint64]]] = {}
    for _, words in shingles.blocks(texts, 2 * n - 1):
        begins, ends = _runs(words, 2 * n)
        result.setdefault(2 * n, []).append(shingles.hashed(words.hashes, begins, ends))
        for i in range(len(words.offsets) - 1):
            begin, end = int(words.offsets[i]), int(words.offsets[i + 1])
            length = int(words.halves[begin:end].sum())
            if 2 * shortest <= length < 2 * n:
                whole = shingles.hashed(words.hashes, np.array([begin]), np.array([end]))
                result.setdefault(length, []).append(whole)
    return {length: np.unique(np.concatenate(hashes)) for length, hashes in result.items()}


def united(parts: Iterable[Grams]) -> Grams:
    """The n-grams of several batches or sets."""
    result: dict[int, NDArray[np.uint64]] = {}
    for part in parts:
        for length, hashes in part.items():
            result[length] = np.union1d(result[length], hashes) if length in result else hashes
    return result


def overlap(texts: Sequence[str], known: Known) -> Overlap:
    """How much of each text is in known n-grams, which may overlap."""
    total, matches = _matches(texts, known)
    result = Overlap(np.zeros(len(texts)), *(np.full(len(texts), -1) for _ in range(2)))
    if not len(matches):
        return result
    # Places of all texts on one line, so that stretches of several texts are put together at once.
    origin = np.cumsum(total) - total
    matches = matches[np.argsort(origin[matches[:, 0]] + matches[:, 1], kind="stable")]
    text, begin, end, _, last = matches.T
    reached = np.maximum.accumulate(origin[text] + end)
    apart = np.ones(len(text), np.bool_)
    apart[1:] = origin[text[1:]] + begin[1:] > reached[:-1]
    apart[1:] |= text[1:] != text[:-1]
    groups = np.flatnonzero(apart)
    close = np.append(groups[1:], len(text)) - 1
    covered = np.bincount(text[groups], reached[close] - origin[text[groups]] - begin[groups], len(texts))
    result.share[:] = covered / np.maximum(total, 1)
    first = groups[np.flatnonzero(np.diff(text[groups], prepend=-1))]
    result.begins[text[first]] = matches[first, 3]
    result.ends[text[first]] = np.maximum.reduceat(last, groups)[np.searchsorted(groups, first)]
    return result


def found(texts: Sequence[str], known: Known) -> Grams:
    """The known n-grams that stand in `texts`."""
    result: dict[int, NDArray[np.uint64]] = {}
    for _, words in shingles.blocks(texts, max(0, known.longest - 1)):
        for length, wanted in known.by_length.items():
            hashes = shingles.hashed(words.hashes, *_runs(words, length))
            there = np.unique(hashes[wanted.holds(hashes)])
            result[length] = np.union1d(result.get(length, there), there)
    return result


def _matches(texts: Sequence[str], known: Known) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(texts,): half words of each text; (matches, 5): text, first half word and the one after the last,
    first character and the one after the last."""
    total = np.zeros(len(texts), np.int64)
    matches = [np.empty((0, 5), np.int64)]
    carried, before = max(0, known.longest - 1), -1
    for first, words in shingles.blocks(texts, carried):
        sums = np.concatenate([[0], np.cumsum(words.halves)])
        text = np.repeat(np.arange(len(words.offsets) - 1), np.diff(words.offsets))
        # A block of a long text begins with words that were counted before.
        shift = -sums[words.offsets[:-1]]
        shift[0] += total[first] - sums[carried] if first == before else 0
        for length, wanted in known.by_length.items():
            begins, ends = _runs(words, length)
            hit = np.flatnonzero(wanted.holds(shingles.hashed(words.hashes, begins, ends)))
            begins, ends = begins[hit], ends[hit]
            own = text[begins]
            halves = sums[begins] + shift[own], sums[ends] + shift[own]
            places = words.begins[begins], words.ends[ends - 1]
            matches.append(np.stack([own + first, *halves, *places], axis=1))
        total[first : first + len(shift)] = sums[words.offsets[1:]] + shift
        before = first
    return total, np.concatenate(matches)


def _runs(words: Words, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From every word on, as many words of its text as make `length` half words; one half more if the last
    is a whole word. Where the text ends before, there is none."""
    sums = np.concatenate([[0], np.cumsum(words.halves)])
    word_of_half = np.repeat(np.arange(len(words.hashes)), words.halves)
    whole = sums[:-1] + length <= np.repeat(sums[words.offsets[1:]], np.diff(words.offsets))
    begins = np.flatnonzero(whole)
    return begins, word_of_half[sums[begins] + length - 1] + 1

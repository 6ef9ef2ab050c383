"""Near copies: texts most of whose n-grams of words are the same, found without comparing every pair.

What two texts have in common is told by the Jaccard similarity of their sets of n-grams, common / all of both
(Broder, 1997). Three steps, of which the first can run on any part of the texts anywhere:

1. `signatures`: a text becomes 128 numbers, of which two texts share as large a part as their similarity is,
   give or take √(J (1 − J) / 128). One pass with one hash: each n-gram falls into one of 128 bins, and the
   lowest of each bin stays (one-permutation hashing; Li, Owen and Zhang, 2012). Bins that stay empty take the
   number of another by rules that are the same for all texts (optimal densification, Shrivastava, 2017, done
   from the full bins as in Mai et al., 2019). So an n-gram costs the same however many bins there are.
2. Bands: numbers are put together in bands of a few rows; texts which are equal in a whole band are
   candidates (locality-sensitive hashing, Indyk and Motwani, 1998): 1 − (1 − Jʳ)ᵇ of the pairs.
3. `clusters`: candidates whose signatures agree in at least `threshold` are joined, and what is joined
   directly or through others is one cluster.

The result depends on the texts and their order alone, not on how they were divided.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.data import shingles

__all__ = [
    "BINS",
    "EMPTY",
    "Banding",
    "band_keys",
    "banding",
    "clusters",
    "found",
    "signatures",
    "similarity",
]

BINS: Final = 128
"""Numbers of a signature."""
EMPTY: Final = 0xFFFF_FFFF
"""The signature of a text without words has this in every place; such texts are copies of none."""
_AT_ONCE: Final = 1 << 14
"""Pairs, or documents, whose signatures are held in memory at once."""
_ALL_PAIRS: Final = 16
"""Up to so many texts with an equal band, all pairs are compared."""
_LEADERS: Final = 64
_BANDS: Final = 4
"""Bands whose keys are made in one pass over the signatures."""


class Banding(NamedTuple):
    """How a signature is put together for the search."""

    bands: int
    rows: int


def signatures(texts: Sequence[str], n: int = 5, bins: int = BINS) -> NDArray[np.uint32]:
    """(texts, bins): the MinHash signatures of `texts` by their n-grams of words.

    A text with fewer than n words is one n-gram. `bins` is at most 1,024. Memory beside the result is some
    tens of megabytes, however long the texts are.
    """
    assert n > 0 and 0 < bins <= 1 << 10, (n, bins)
    result = np.full((len(texts), bins), EMPTY, np.uint32)
    for group in shingles.batches(texts):
        part = result[group.start : group.stop]
        if len(group) == 1 and len(texts[group.start]) > shingles.PIECE:
            _lower_by_long(part, texts[group.start], n)
        else:
            words = shingles.words(texts[group.start : group.stop])
            _lower(part, shingles.grams(words.hashes, words.offsets, n))
        _fill(part)
    return result


def similarity(first: NDArray[np.uint32], second: NDArray[np.uint32]) -> NDArray[np.float64]:
    """(pairs,): estimated Jaccard similarity of pairs of signatures, both (pairs, bins)."""
    same = np.count_nonzero(first == second, axis=1) / first.shape[1]
    return np.where(first[:, 0] == EMPTY, 0.0, same)


def found(similarity: float, chosen: Banding) -> float:
    """The chance that texts of this Jaccard similarity become candidates: the S-curve."""
    return 1 - (1 - similarity**chosen.rows) ** chosen.bands


def banding(threshold: float, bins: int = BINS, wanted: float = 0.95) -> Banding:
    """The most rows, so the fewest comparisons in vain, with which a pair right at the threshold still
    becomes a candidate with a chance of `wanted`; if none has it, one row."""
    choices = (Banding(bins // rows, rows) for rows in range(bins, 0, -1))
    return next((c for c in choices if found(threshold, c) >= wanted), Banding(bins, 1))


def band_keys(
    signatures: NDArray[np.uint32], chosen: Banding, first: int = 0, count: int = 0
) -> NDArray[np.uint64]:
    """(texts, count): one number for each of `count` bands of a signature from band `first` on; all of them
    if `count` is 0. Texts without words have keys like others: see `EMPTY`."""
    count = count or chosen.bands - first
    rows = signatures[:, first * chosen.rows : (first + count) * chosen.rows]
    factors = shingles.scrambled(np.arange(1, chosen.rows + 1, dtype=np.uint64)) | np.uint64(1)
    sums = (rows.reshape(len(rows), count, chosen.rows).astype(np.uint64) + np.uint64(1)) @ factors
    return shingles.scrambled(sums + np.arange(first, first + count, dtype=np.uint64))


def clusters(
    signatures: NDArray[np.uint32], threshold: float = 0.55, chosen: Banding | None = None
) -> NDArray[np.int64]:
    """(texts,): the cluster of each text, which is called by the number of its first text; a text that is a
    copy of none is alone in its own.

    `signatures` (texts, bins) may be a memory map; it is read from front to back once for each four bands,
    and candidates' rows when they are compared. Memory beside it: about 80 bytes a text, and some tens of
    megabytes.

    Of more than 16 texts with an equal band not all pairs are compared: all with the first, then those which
    were not like it with the first of them, and so on.
    """
    assert 0 < threshold <= 1, threshold
    bins = signatures.shape[1]
    joined = _Joined(signatures)
    # Equal signatures first: only one text of each has then to be compared with others.
    joined.search(Banding(1, bins), bins)
    joined.search(chosen or banding(threshold, bins), int(np.ceil(threshold * bins - 1e-9)))
    return joined.labels


def _lower_by_long(part: NDArray[np.uint32], text: str, n: int) -> None:
    """As `_lower`, for one text that is taken piece by piece."""
    before = np.empty(0, np.uint64)
    for _, piece in shingles.pieces(text):
        hashes = np.concatenate([before, shingles.words([piece]).hashes])
        if len(hashes) >= n:
            _lower(part, shingles.grams(hashes, np.array([0, len(hashes)]), n))
        before = hashes[max(0, len(hashes) - n + 1) :]
    if part[0].min() == EMPTY:
        _lower(part, shingles.grams(before, np.array([0, len(before)]), n))


def _lower(part: NDArray[np.uint32], found: shingles.Grams) -> None:
    """Put each n-gram into its bin, where the lowest stays. The upper half of a hash names the bin, the lower
    half is the number."""
    bins = np.uint64(part.shape[1])
    place = ((found.hashes >> np.uint64(32)) * bins) >> np.uint64(32)
    place += np.repeat(np.arange(len(part), dtype=np.uint64) * bins, np.diff(found.offsets))
    number = np.minimum(found.hashes.astype(np.uint32), np.uint32(EMPTY - 1))
    np.minimum.at(part.reshape(-1), place.astype(np.int64), number)


def _fill(part: NDArray[np.uint32]) -> None:
    """Give every empty bin the number of a full one.

    Each bin has an order in which it offers its number to the others. In turn k all bins that were full to
    begin with offer it to the k-th of their order; an empty bin takes the first offer, and of several in one
    turn that of the first bin. Which bin an empty one takes from depends on which are full and not on the
    numbers, so two texts agree in it as often as in a bin that was full in both.
    """
    bins = part.shape[1]
    full = np.count_nonzero(part != EMPTY, axis=1)
    poor = np.flatnonzero((full > 0) & (full < bins))
    numbers = part[poor]
    row, column = np.nonzero(numbers != EMPTY)
    row, column = row[::-1], column[::-1]  # of equal places the last is assigned
    flat, offered = numbers.reshape(-1), numbers[row, column]
    for turn, targets in enumerate(_offers(bins)):
        place = row * bins + targets[column]
        free = flat[place] == EMPTY
        flat[place[free]] = offered[free]
        if turn % 4 == 3:
            wanting = (numbers == EMPTY).any(axis=1)[row]
            row, column, offered = row[wanting], column[wanting], offered[wanting]
            if not len(row):
                break
    part[poor] = numbers


@cache
def _offers(bins: int) -> NDArray[np.int64]:
    """(turns, bins): to which bin each offers its number in each turn; a permutation for each bin."""
    chance = shingles.scrambled(np.arange(1, bins * bins + 1, dtype=np.uint64)).reshape(bins, bins)
    return np.ascontiguousarray(np.argsort(chance, axis=1, kind="stable").T)


class _Joined:
    """Texts and what they were joined with: union-find (Tarjan, 1975), whose trees point to lower numbers."""

    def __init__(self, signatures: NDArray[np.uint32]) -> None:
        self.signatures = signatures
        self.labels = np.arange(len(signatures), dtype=np.int64)

    def search(self, chosen: Banding, wanted: int) -> None:
        """Join texts that are equal in a band and agree in `wanted` numbers; of those already joined only the
        first is looked at."""
        texts = np.flatnonzero(self.labels == np.arange(len(self.labels)))
        for band in range(0, chosen.bands, _BANDS):
            for keys in self._packed(texts, chosen, band, min(_BANDS, chosen.bands - band)):
                keys.sort()
                self._join_equal(*_runs(keys, self._bits), wanted)
                self._shorten()

    @property
    def _bits(self) -> int:
        return max(1, (len(self.labels) - 1).bit_length())

    def _packed(
        self, texts: NDArray[np.int64], chosen: Banding, first: int, count: int
    ) -> list[NDArray[np.uint64]]:
        """For each of `count` bands, (texts,): the upper bits of the key, and below them the number of the
        text. So one sort of plain numbers does; keys cut short only give candidates more."""
        keys = [np.empty(len(texts), np.uint64) for _ in range(count)]
        mask, size = np.uint64((1 << self._bits) - 1), 0
        for begin in range(0, len(texts), _AT_ONCE):
            these = texts[begin : begin + _AT_ONCE]
            rows = self.signatures[these]
            these, rows = these[worded := rows[:, 0] != EMPTY], rows[worded]
            found = (band_keys(rows, chosen, first, count) & ~mask) | these.astype(np.uint64)[:, None]
            for key, column in zip(keys, found.T, strict=True):
                key[size : size + len(these)] = column
            size += len(these)
        return [key[:size] for key in keys]

    def _join_equal(self, texts: NDArray[np.int64], begins: NDArray[np.int64], wanted: int) -> None:
        """Compare texts that share a band: `texts` with runs that begin at `begins`."""
        run = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(texts)))
        for _ in range(_LEADERS):
            size = np.bincount(run)
            if not size.size or size.max() <= _ALL_PAIRS:
                break
            first = np.searchsorted(run, run)
            followers = np.flatnonzero((size[run] > _ALL_PAIRS) & (first < np.arange(len(run))))
            alike = self._compare(texts[first[followers]], texts[followers], wanted)
            stay = (size[run] <= _ALL_PAIRS) | (first < np.arange(len(run)))
            stay[followers[alike]] = False
            texts, run = texts[stay], run[stay]
        for lag in range(1, _ALL_PAIRS):
            pairs = np.flatnonzero(run[lag:] == run[:-lag])
            if not len(pairs):
                break
            self._compare(texts[pairs], texts[pairs + lag], wanted)

    def _compare(self, first: NDArray[np.int64], second: NDArray[np.int64], wanted: int) -> NDArray[np.bool_]:
        """Join pairs of texts that agree in `wanted` numbers; (pairs,): which are in one cluster now."""
        alike: NDArray[np.bool_] = self._root(first) == self._root(second)
        unknown = np.flatnonzero(~alike)
        for begin in range(0, len(unknown), _AT_ONCE):
            these = unknown[begin : begin + _AT_ONCE]
            same = self.signatures[first[these]] == self.signatures[second[these]]
            alike[these] = np.count_nonzero(same, axis=1) >= wanted
        self._join(first[alike], second[alike])
        return alike

    def _join(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        while len(first):
            first, second = self._root(first), self._root(second)
            apart = first != second
            first, second = first[apart], second[apart]
            np.minimum.at(self.labels, np.maximum(first, second), np.minimum(first, second))

    def _root(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        while True:
            above = self.labels[texts]
            if np.array_equal(above, texts):
                return above
            texts = above

    def _shorten(self) -> None:
        while True:
            above = self.labels[self.labels]
            if np.array_equal(above, self.labels):
                return
            self.labels = above


def _runs(packed: NDArray[np.uint64], bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The texts whose key another text has too, by key and number, and where each key begins."""
    keys = packed >> np.uint64(bits)
    same = keys[1:] == keys[:-1]
    shared = np.zeros(len(keys), np.bool_)
    shared[1:] = same
    shared[:-1] |= same
    keys = keys[shared]
    texts = (packed[shared] & np.uint64((1 << bits) - 1)).astype(np.int64)
    begins = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
    return texts, begins

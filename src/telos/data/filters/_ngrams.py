"""A language model of character n-grams: interpolated Kneser–Ney smoothing (Kneser and Ney, 1995; Chen and
Goodman, 1999), in whole arrays.

    p_k(c | h) = max(n(hc) − D, 0) / n(h·) + D · N(h·) / n(h·) · p_{k−1}(c | h without its first)

`n` counts occurrences for the longest n-grams, and different characters before them for shorter ones; N(h·)
counts the different characters after h; D = n₁ / (n₁ + 2 n₂). Below one character: uniform over the
characters of the text it was learned from and one more, for all others.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ngrams"]

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_EMPTY: Final = -1
_LOAD: Final = 4
"""Places in a table for each n-gram."""


class _Level(NamedTuple):
    """All n-grams of one length."""

    keys: NDArray[np.uint64]
    table: NDArray[np.int32]
    log_p: NDArray[np.float32]
    log_weight: NDArray[np.float32]
    """Of what shorter contexts say, where this n-gram is the context."""


class Ngrams:
    """How probable text is, character by character."""

    def __init__(self, text: str, order: int) -> None:
        """Learn from `text`; n-grams of at most `order` characters."""
        codes, self._known = _alphabet(text)
        self._levels: list[_Level] = []
        uniform = -float(np.log(len(self._known) + 1))
        self._log_unknown = uniform
        keys = _keys(codes, order)
        here, below = _unique(keys[0]), None
        for k in range(1, order + 1):
            longer = _unique(keys[k]) if k < order else None
            if longer is None:
                counts = here.counts
            else:  # how many different characters stand before each
                counts = np.bincount(here.ids[longer.places + 1], minlength=len(here.keys))
            self._add(here, below, counts, uniform)
            here, below = longer or here, here

    def _add(
        self, here: "_Unique", below: "_Unique | None", counts: NDArray[np.int64], uniform: float
    ) -> None:
        """The n-grams `here`; `below` are those of one character less."""
        contexts = below.ids[here.places] if below else np.zeros(len(counts), dtype=np.int64)
        size, discount = len(below.keys) if below else 1, _discount(counts)
        total = np.bincount(contexts, counts, size)
        different = np.bincount(contexts, counts > 0, size)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(total > 0, discount * different / total, 1.0)
            direct = np.where(total[contexts] > 0, np.maximum(counts - discount, 0) / total[contexts], 0.0)
        if below is None:
            lower = np.full(len(counts), np.exp(uniform))
            self._log_unknown = float(np.log(weight[0]) + uniform)
        else:
            last = self._levels[-1]
            self._levels[-1] = last._replace(log_weight=np.log(weight).astype(np.float32))
            lower = np.exp(last.log_p[below.ids[here.places + 1]])
        log_p = np.log(direct + weight[contexts] * lower).astype(np.float32)
        none = np.zeros(0, dtype=np.float32)
        self._levels.append(_Level(here.keys, _table(here.keys), log_p, none))

    def log_probabilities(self, text: str) -> NDArray[np.float32]:
        """The natural logarithm of the probability of each character after those before it, (characters,)."""
        codes = _codes(text, self._known)
        keys = _keys(codes, len(self._levels))
        found = _find(self._levels[0], keys[0])
        log_p = np.where(found >= 0, self._levels[0].log_p[found], np.float32(self._log_unknown))
        for k in range(2, len(self._levels) + 1):
            if len(codes) < k:
                break
            below, level = self._levels[k - 2], self._levels[k - 1]
            context = found[:-1]
            found = np.full(len(keys[k - 1]), _EMPTY, dtype=np.int64)
            seen = np.flatnonzero(context >= 0)
            found[seen] = _find(level, keys[k - 1][seen])
            tail = log_p[k - 1 :]
            tail[seen] += below.log_weight[context[seen]]
            hit = np.flatnonzero(found >= 0)
            tail[hit] = level.log_p[found[hit]]
        return log_p


class _Unique(NamedTuple):
    """The different n-grams of one length, sorted by their keys."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.int64]
    places: NDArray[np.int64]
    """Where each begins, once."""
    ids: NDArray[np.int32]
    """For each place of the text, which begins there."""


def _alphabet(text: str) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    known, codes = np.unique(points, return_inverse=True)
    return codes.astype(np.int64) + 1, known


def _codes(text: str, known: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Numbers of characters from 1; 0 for one that was not in the text it was learned from."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    places = np.minimum(np.searchsorted(known, points), len(known) - 1)
    return np.where(known[places] == points, places + 1, 0)


def _keys(codes: NDArray[np.int64], order: int) -> list[NDArray[np.uint64]]:
    """Hashes of the n-grams of 1, 2, … characters that begin at each place."""
    single = (codes.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93)
    single ^= single >> np.uint64(32)
    keys = [single]
    for k in range(2, order + 1):
        shorter = keys[-1][: max(len(codes) - k + 1, 0)]
        mixed = (shorter ^ (shorter >> np.uint64(29))) * _MULTIPLIER
        keys.append(mixed + single[k - 1 :] if len(shorter) else shorter)
    return keys


def _unique(keys: NDArray[np.uint64]) -> _Unique:
    order = np.argsort(keys)
    ordered = keys[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(begins, append=len(keys))
    ids = np.empty(len(keys), dtype=np.int32)
    ids[order] = np.repeat(np.arange(len(begins), dtype=np.int32), counts)
    return _Unique(ordered[begins], counts, order[begins], ids)


def _discount(counts: NDArray[np.int64]) -> float:
    once, twice = int(np.count_nonzero(counts == 1)), int(np.count_nonzero(counts == 2))
    return once / (once + 2 * twice) if once and twice else 0.5


def _table(keys: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Where each key is, by open addressing: at the first place from its hash on that was free."""
    table = np.full(1 << (_LOAD * len(keys) - 1).bit_length(), _EMPTY, dtype=np.int32)
    left = np.arange(len(keys), dtype=np.int32)
    at = _slots(keys, table)
    while len(left):
        free = table[at] == _EMPTY
        table[at[free]] = left[free]  # of several, the last stays
        lost = table[at] != left
        left, at = left[lost], (at[lost] + 1) & (len(table) - 1)
    return table


def _slots(keys: NDArray[np.uint64], table: NDArray[np.int32]) -> NDArray[np.int64]:
    mixed = (keys ^ (keys >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
    return (mixed >> np.uint64(40)).astype(np.int64) & (len(table) - 1)


def _find(level: _Level, wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Which n-grams these are, or −1, (wanted,)."""
    at = _slots(wanted, level.table)
    found = level.table[at].astype(np.int64)
    wrong = np.flatnonzero((level.keys[found] != wanted) & (found != _EMPTY))
    while len(wrong):
        at[wrong] = (at[wrong] + 1) & (len(level.table) - 1)
        found[wrong] = level.table[at[wrong]]
        again = found[wrong]
        wrong = wrong[(level.keys[again] != wanted[wrong]) & (again != _EMPTY)]
    return found

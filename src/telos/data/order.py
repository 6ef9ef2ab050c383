"""The shuffled order of an epoch, as a function of its index, and the randomness of each sample.

A Feistel network is a bijection whatever its round function is (Luby and Rackoff, 1988),
so the way from an index to its place in the shuffled order needs no table: memory does not
grow with the corpus, and place k is known without the k − 1 before it. The network works
on the next power of four; what falls outside of 0 … n − 1 is put through it again until it
falls inside (cycle walking: Black and Rogaway, 2002), which keeps it a bijection.
"""

from typing import Any, TypeVar, cast

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import ArrayLike, NDArray

__all__ = ["block_rng", "mixed", "permuted", "sample_rng"]

T = TypeVar("T", int, NDArray[np.uint64])

ROUNDS = 8
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def permuted(index: ArrayLike, n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Which of n things stands at place `index` of the order of `epoch`; `index` is a number or an array.

    For every n, seed and epoch it is a bijection of 0 … n − 1.
    """
    places = np.asarray(index, dtype=np.uint64)
    assert n > 0 and (places.size == 0 or int(places.max()) < n), (n, index)
    half = max((n - 1).bit_length() + 1, 2) // 2
    keys = _keys(seed, epoch)
    result = _network(places.reshape(-1), half, keys)
    outside = np.flatnonzero(result >= n)
    while outside.size:
        result[outside] = _network(result[outside], half, keys)
        outside = outside[result[outside] >= n]
    return result.reshape(places.shape).astype(np.int64)


def sample_rng(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """The randomness that belongs to one sample in one epoch, whoever asks and in which order."""
    return _generator(mixed(seed, epoch), mixed(sample, 1))


def block_rng(seed: int, epoch: int, block: int) -> np.random.Generator:
    """The randomness that belongs to one block of an epoch's order: how its rows are shuffled."""
    return _generator(mixed(seed, epoch), mixed(block, 2))


class _Key(ISeedSequence):
    """The key of a Philox generator, given as its seed: given as a key, NumPy asks the operating system for
    chance first and throws it away, which takes twice as long as all the rest."""

    def __init__(self, key: NDArray[np.uint64]) -> None:
        self._key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[Any]:
        return self._key


def _generator(first: int, second: int) -> np.random.Generator:
    # As NumPy makes a key of a list: where only one has the highest bit, both are rounded to 53 bits. So it
    # has been from the first, and every run's order hangs on it.
    seed: Any = _Key(np.asarray([first, second]).astype(np.uint64))
    return np.random.Generator(np.random.Philox(seed))


def _network(value: NDArray[np.uint64], half: int, keys: list[int]) -> NDArray[np.uint64]:
    """One pass through the Feistel network on 2 · half bits."""
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = value >> shift, value & mask
    for key in keys:
        left, right = right, left ^ (_scrambled(right + np.uint64(key)) & mask)
    return (left << shift) | right


def _scrambled(value: T) -> T:
    """The finaliser of SplitMix64: each bit of the value moves all of the result (Steele et al., 2014)."""
    bits: Any = value
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return cast(T, bits ^ (bits >> 31))


def _keys(seed: int, epoch: int) -> list[int]:
    start = mixed(seed, epoch)
    return [(start + _GOLDEN * turn) & _MASK for turn in range(1, ROUNDS + 1)]


def mixed(first: int, second: int) -> int:
    """Two numbers as one of 64 bits; neighbouring numbers give unrelated results."""
    once = _scrambled(first * _GOLDEN & _MASK)
    return _scrambled((once + (second + 1) * _GOLDEN) & _MASK)

"""The order of an epoch is a permutation that is a function of its key alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.data.order import block_rng, mixed, permuted, sample_rng


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**63), epoch=st.integers(0, 2**40))
def test_every_index_stands_in_the_order_once(n: int, seed: int, epoch: int) -> None:
    order = permuted(np.arange(n), n, seed, epoch)
    assert order.dtype == np.int64 and np.array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025])
def test_sizes_around_powers_of_two(n: int) -> None:
    assert sorted(permuted(np.arange(n), n, 3, 4).tolist()) == list(range(n))


def test_a_place_is_known_without_the_others() -> None:
    """One place of an order of 10¹⁵ costs nothing, and slices agree with the whole."""
    whole = permuted(np.arange(1000), 1000, 1, 2)
    assert [int(permuted(k, 1000, 1, 2)) for k in range(1000)] == whole.tolist()
    assert np.array_equal(permuted(np.arange(300, 400), 1000, 1, 2), whole[300:400])
    assert 0 <= int(permuted(10**15 - 1, 10**15, 1, 2)) < 10**15


@given(n=st.integers(30, 2000), seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_epochs_and_seeds_differ_and_none_is_the_order_of_the_files(n: int, seed: int, epoch: int) -> None:
    """Trap 43: each epoch has an order of its own, the same each time it is asked for."""
    order = permuted(np.arange(n), n, seed, epoch)
    assert np.array_equal(order, permuted(np.arange(n), n, seed, epoch))
    assert not np.array_equal(order, np.arange(n))
    assert not np.array_equal(order, permuted(np.arange(n), n, seed, epoch + 1))
    assert not np.array_equal(order, permuted(np.arange(n), n, seed + 1, epoch))
    assert not np.array_equal(order, permuted(np.arange(n), n, epoch, seed)) or seed == epoch


def test_the_order_is_near_to_a_random_one() -> None:
    """Over many epochs each index stands in each tenth of the order equally often (χ² with 9 degrees of
    freedom).
    """
    n, epochs = 1000, 2000
    places = np.stack([np.argsort(permuted(np.arange(n), n, 0, epoch))[:20] for epoch in range(epochs)])
    for index in range(20):
        counts = np.bincount(places[:, index] * 10 // n, minlength=10)
        assert ((counts - epochs / 10) ** 2 / (epochs / 10)).sum() < 33  # p < 0.0002
    neighbours = np.concatenate([np.diff(permuted(np.arange(n), n, 0, epoch)) for epoch in range(200)])
    assert (neighbours == 1).mean() < 2.5 / n


def test_randomness_belongs_to_the_sample() -> None:
    """It does not depend on what was drawn before, and no two samples, epochs or seeds share it."""
    keys = [(seed, epoch, sample) for seed in range(4) for epoch in range(4) for sample in range(40)]
    first = [sample_rng(*key).integers(2**63) for key in keys]
    assert [sample_rng(*key).integers(2**63) for key in reversed(keys)] == first[::-1]
    assert len({*first, *(block_rng(*key).integers(2**63) for key in keys)}) == 2 * len(keys)


def test_mixing_spreads_neighbours() -> None:
    values = [mixed(a, b) for a in range(64) for b in range(64)]
    assert len(set(values)) == len(values) and all(0 <= value < 2**64 for value in values)
    ones = np.mean([(mixed(a, 0) ^ mixed(a + 1, 0)).bit_count() for a in range(1000)])
    assert 31 < ones < 33

"""BART: the damaged text is read, the whole text is said."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from telos.batch import Piece
from telos.errors import ConfigError
from telos.objectives.bart import Bart, shuffled, span_lengths, with_gaps
from tests.objectives.world import Pieces, answers, characters, draw

MASK = 1000


@given(
    n=some.integers(1, 300), hidden=some.integers(0, 300), mean=some.floats(0.5, 40), seed=some.integers(0)
)
@settings(max_examples=150, deadline=None)
def test_a_text_with_gaps_is_its_tokens_in_order_and_masks(
    n: int, hidden: int, mean: float, seed: int
) -> None:
    """Trap 14: exactly as many tokens are gone as asked for, and what is read is never longer than the
    text."""
    rng = np.random.default_rng(seed)
    lengths = span_lengths(hidden, n, mean, rng)
    assert lengths.sum() == min(n, max(1, hidden)) and lengths.min() >= 0
    read = with_gaps(np.arange(n), lengths, MASK, rng)
    kept = read[read != MASK]
    assert (np.diff(kept) > 0).all() and len(kept) == n - lengths.sum()
    assert 1 <= len(read) <= n and (read == MASK).any()


def test_spans_are_as_long_as_asked_and_some_are_empty() -> None:
    """Of a Poisson distribution with mean 3, e⁻³ = 5 % of the spans are empty. (The last one of each text is
    cut, so texts are long.)"""
    lengths = np.concatenate([span_lengths(3000, 10_000, 3.0, np.random.default_rng(s)) for s in range(20)])
    assert abs(lengths.mean() - 3.0) < 0.05 and abs((lengths == 0).mean() - np.exp(-3)) < 0.006


def test_empty_spans_put_in_masks_where_nothing_is_missing() -> None:
    """Two spans of length 2 leave room for two masks more: a text of 9 is then read as 5 tokens and 4
    masks."""
    for seed in range(20):
        read = with_gaps(np.arange(9), np.array([0, 2, 0, 2, 0]), MASK, np.random.default_rng(seed))
        assert (read == MASK).sum() == 4 and len(read) == 9


def test_sentences_are_shuffled_whole() -> None:
    start = np.array([1, 0, 0, 1, 0, 1, 0, 0, 0], bool)
    orders = set()
    for seed in range(60):
        order = shuffled(start, np.random.default_rng(seed)).tolist()
        assert sorted(order) == list(range(9))
        orders.add(tuple(order))
        for first, length in ((0, 3), (3, 2), (5, 4)):
            place = order.index(first)
            assert order[place : place + length] == list(range(first, first + length))
    assert len(orders) == 6


class Sentences(Pieces):
    """Pieces whose sentences begin at every fifth token."""

    def __getitem__(self, index: int) -> Piece:
        piece = super().__getitem__(index)
        return replace(piece, columns={"sentence_start": np.arange(len(piece)) % 5 == 0})


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_whole_text_is_said(shuffle: bool) -> None:
    """Each token once, and then the end; what is read holds 30 % less, in its order or not."""
    tokenizer, objective = characters(), Bart(shuffle=shuffle)
    ids = np.arange(30)
    in_order = 0
    for seed in range(20):
        example = draw(objective, Sentences(ids), seed)
        assert answers(example) == [*ids.tolist(), tokenizer.end]
        assert example.main.ids.tolist() == [tokenizer.begin, *ids.tolist()]
        assert example.source is not None and example.source.ids[-1] == tokenizer.end
        kept = example.source.ids[:-1][example.source.ids[:-1] != tokenizer.mask]
        assert len(kept) == 30 - 9
        in_order += bool((np.diff(kept) > 0).all())
    assert in_order < 3 if shuffle else in_order == 20


def test_a_prompt_is_a_text_with_a_gap_after_it() -> None:
    tokenizer = characters()
    prompt = Bart().prompt(np.array([4, 5]), tokenizer)
    assert prompt.source is not None
    assert prompt.source.ids.tolist() == [4, 5, tokenizer.mask, tokenizer.end]
    assert prompt.main.ids.tolist() == [tokenizer.begin, 4, 5]


def test_a_window_without_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.window = 1: must be at least 2"):
        Bart().cut(1)


def test_a_text_that_fills_its_window_fits() -> None:
    example = draw(Bart(length=0.5), Sentences(np.arange(31) % 30), 1)
    assert Bart().cut(32).length == 31 and example.source is not None
    assert len(example.main) == 32 and len(example.source) <= 32

"""Unlikelihood: what is asked and what must not come again, in the mean all of it, and `causal` beside it."""

from collections import Counter

import numpy as np
import pytest
import torch

from telos.batch import Ask, Example
from telos.data.packing import collate
from telos.objectives.causal import Causal
from telos.objectives.unlikelihood import Unlikelihood
from tests.objectives.table import Table
from tests.objectives.world import Pieces, characters, draw

TOKENIZER = characters(())
BEGIN, END = TOKENIZER.begin, TOKENIZER.end
THE, CAT, SAT = (int(TOKENIZER.encode(letter)[0]) for letter in "abc")
IDS = [BEGIN, THE, CAT, SAT, END]


def repeated(example: Example) -> Ask:
    (ask,) = [ask for ask in example.asks if ask.negative]
    return ask


def test_the_likelihood_is_asked_as_causal_asks_it() -> None:
    ours, plain = draw(Unlikelihood(), Pieces(IDS)), draw(Causal(), Pieces(IDS))
    assert np.array_equal(ours.main.ids, plain.main.ids)
    for one, other in zip(
        (ours.asks[0].at, ours.asks[0].target), (plain.asks[0].at, plain.asks[0].target), strict=True
    ):
        assert np.array_equal(one, other)


def test_the_worked_example() -> None:
    """Right answers get 1/2, what stood before 1/6 each: (4 ln 2 − 6 ln(5/6)) / 4, however drawn."""
    said = torch.full((TOKENIZER.size, TOKENIZER.size), 1e-9)
    for place, token in enumerate(IDS[:-1]):
        said[token, IDS[1 : place + 1]] = 1 / 6
        said[token, IDS[place + 1]] = 1 / 2
        said[token, TOKENIZER.mask] = 1 / 2 - place / 6
    objective = Unlikelihood()
    network = Table(said.clamp(min=1e-9).log())
    for seed in range(5):
        batch = collate([[draw(objective, Pieces(IDS), seed, TOKENIZER)]])
        sums = objective.step({"main": network}, batch, None, 0).sums
        divided_by = objective.denominators(batch.asked)
        assert dict(batch.asked) == {"tokens": 4, "repeated": 6} and set(divided_by.values()) == {4}
        loss = sum(objective.coefficient(term) * sums[term].item() / divided_by[term] for term in sums)
        assert loss == pytest.approx(0.967, abs=1e-3)


@pytest.mark.parametrize("draws", [1, 3])
def test_in_the_mean_every_token_before_counts_once(draws: int) -> None:
    """By place and token: the summed weights over many draws are those of the whole inner sum."""
    ids = [BEGIN, THE, CAT, THE, SAT, CAT, END]
    wanted = {(1, THE), (2, CAT), (3, THE), (3, CAT), (4, THE), (4, SAT), (5, THE), (5, CAT), (5, SAT)}
    found: Counter[tuple[int, int]] = Counter()
    for seed in range(3000):
        ask = repeated(draw(Unlikelihood(draws=draws), Pieces(ids), seed, TOKENIZER))
        assert len(ask.at) == 5 * draws
        for place, token, weight in zip(
            ask.at.tolist(), ask.target.tolist(), ask.weight.tolist(), strict=True
        ):
            found[place, token] += weight / 3000
    assert found.keys() == wanted
    assert all(value == pytest.approx(1, abs=0.1) for value in found.values())


def test_what_comes_next_and_special_tokens_are_never_unlikely() -> None:
    """Trap 4: a token that comes again is right; and nothing is asked where nothing else stood before."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        ids = [BEGIN, *rng.choice([THE, CAT, SAT], 12).tolist(), END]
        ask = repeated(draw(Unlikelihood(draws=2), Pieces(ids), seed, TOKENIZER))
        for place, token in zip(ask.at.tolist(), ask.target.tolist(), strict=True):
            assert token != ids[place + 1] and token in ids[1 : place + 1]
    assert [ask.negative for ask in draw(Unlikelihood(), Pieces([BEGIN, THE, THE]), 0, TOKENIZER).asks] == [
        False
    ]


def test_context_is_not_asked_again_but_counts_as_before() -> None:
    example = draw(Unlikelihood(), Pieces(IDS, ask_from=3), 0, TOKENIZER)
    assert example.asks[0].at.tolist() == [2, 3]
    assert repeated(example).at.tolist() == [2, 3] and repeated(example).weight.tolist() == [2, 3]


def test_held_out_text_is_scored_by_its_likelihood() -> None:
    (piece,) = Pieces(IDS).pieces
    example = Unlikelihood().whole(piece, TOKENIZER)
    assert example is not None
    assert [ask.negative for ask in example.asks] == [False]

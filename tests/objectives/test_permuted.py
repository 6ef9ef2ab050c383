"""Factorisation orders: the table written out, sights by gradient on a real model, all orders as likely."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from telos import models
from telos.batch import HeadSpec, Piece
from telos.data.packing import collate
from telos.errors import ConfigError
from telos.find import find, names
from telos.models._base import Model
from telos.objectives.permuted import Permuted
from tests.contract import world
from tests.objectives.table import Table
from tests.objectives.world import Pieces, draw

IDS = [1, 10, 11, 12, 2]
GENERAL = [name for name in names(models) if find(models, name, Model).serves(Permuted().requires())]


class Ordered:
    """Chance that draws this order: the rank of each token, from 0."""

    def __init__(self, *ranks: int) -> None:
        self.ranks = np.array(ranks)

    def permutation(self, count: int) -> np.ndarray:
        assert count == len(self.ranks)
        return self.ranks


def example_of(objective: Permuted, ids: list[int], *ranks: int) -> Any:
    return objective.example(Pieces(ids), 0, Ordered(*ranks), world.vocabulary())  # type: ignore[arg-type]


def test_the_worked_example() -> None:
    """Trap 4: the table of `⊢ the cat sat ⊣` in the order sat, ⊣, the, cat, as in the docstring."""
    mask = world.vocabulary().mask
    example = example_of(Permuted(one_in=2), IDS, 2, 3, 0, 1)
    main, (ask,) = example.main, example.asks
    assert main.ids.tolist() == [*IDS, mask, mask]
    assert main.positions.tolist() == [0, 1, 2, 3, 4, 1, 2]
    assert main.order.tolist() == [1, 7, 9, 3, 5, 6, 8]
    assert main.seen.tolist() == [True] * 5 + [False] * 2
    assert dict(zip(ask.at.tolist(), ask.target.tolist(), strict=True)) == {5: 10, 6: 11}
    network = Table(torch.zeros(world.vocabulary().size, 4), HeadSpec(name="tokens", outputs=4))
    sums = Permuted().step(
        {"main": network}, collate([[example_of(Permuted(one_in=4), [0, 1, 2], 0, 1)]]), None, 0
    )
    assert sums.sums["tokens"].item() == pytest.approx(math.log(4))
    assert (math.log(4) + math.log(2)) / 2 == pytest.approx(1.040, abs=1e-3)


@pytest.mark.parametrize("model", GENERAL)
@pytest.mark.parametrize("hidden", [None, (2, 4)], ids=["trained", "hidden"])
def test_a_query_sees_what_came_before_and_never_its_own_token(
    model: str, hidden: tuple[int, ...] | None
) -> None:
    """Trap 15, by gradient: what a query says depends on a token's embedding exactly if the token comes
    before it in the order; packed beside another text in one row, too."""
    objective = Permuted(one_in=1)
    ids = [1, 10, 11, 12, 13, 2]
    rank = np.array([0, 4, 1, 5, 3, 2])
    example = example_of(objective, ids, *(rank[1:] - 1))
    if hidden is not None:
        places = np.array(hidden)
        example = objective.hide(Piece(ids=np.array(ids), document=0), places, places, world.vocabulary())
        rank = np.isin(np.arange(6), places).astype(int)
    other = draw(objective, Pieces([1, 14, 15, 2]))
    sizes = world.sizes_for(objective, world.vocabulary(), 24)
    network = world.built(world.make_model(model), sizes).double().eval()
    kept: list[torch.Tensor] = []
    network.embedding.register_forward_hook(lambda module, given, out: kept.append(out))
    main = collate([[other, example]]).main
    states, _ = network.encode(main)
    first, content = len(other.main), len(example.main) - len(example.asks[0].at)
    assert len(example.asks[0].at) == (2 if hidden else 5)
    for query in example.asks[0].at.tolist():
        (slope,) = torch.autograd.grad(states[0, first + query].square().sum(), kept[0], retain_graph=True)
        found = set((slope[0].abs().sum(-1) > 1e-12).nonzero().flatten().tolist())
        mine = rank[example.main.positions[query]]
        before = {p for p in range(content) if rank[example.main.positions[p]] < mine}
        assert found == {first + p for p in before} | {first + query}


def test_every_order_is_as_likely() -> None:
    """And the last of it is asked: each token as often as any other, context never."""
    orders: Counter[tuple[int, ...]] = Counter()
    asked: Counter[int] = Counter()
    for seed in range(2400):
        example = draw(Permuted(one_in=3), Pieces(IDS, ask_from=2), seed, world.vocabulary())
        content = example.main.order[:5]
        assert content[:2].tolist() == [1, 1]
        orders[tuple(content[2:].tolist())] += 1
        assert len(example.asks[0].at) == 1
        asked[int(example.asks[0].target[0])] += 1
    assert len(orders) == 6 and all(abs(n / 400 - 1) < 0.2 for n in orders.values())
    assert set(asked) == {11, 12, 2} and all(abs(n / 800 - 1) < 0.15 for n in asked.values())


@pytest.mark.parametrize("one_in", [1, 2, 6])
@pytest.mark.parametrize("window", [3, 4, 7, 16, 64])
def test_the_longest_piece_fits_with_its_queries(one_in: int, window: int) -> None:
    objective = Permuted(one_in=one_in)
    length = objective.cut(window).length
    assert len(draw(objective, Pieces(range(length))).main) <= window
    assert len(draw(objective, Pieces(range(length + 1))).main) > window


def test_a_window_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.window = 2: .* at least 3 places"):
        Permuted().cut(2)


def test_a_piece_of_context_alone_asks_nothing() -> None:
    """Trap 8."""
    example = draw(Permuted(), Pieces([1]))
    assert len(example.main) == 1 and len(example.asks[0].at) == 0


def test_hidden_places_are_queries_or_left_out() -> None:
    """So a row with hidden places is no longer than the text."""
    piece = Piece(ids=np.array(IDS), document=0)
    hidden, asked = np.array([1, 2, 4]), np.array([2])
    example = Permuted().hide(piece, hidden, asked, world.vocabulary())
    assert example.main.positions.tolist() == [0, 3, 2]
    assert example.main.order.tolist() == [1, 1, 2] and example.main.seen.tolist() == [True, True, False]
    assert example.asks[0].at.tolist() == [2] and example.asks[0].target.tolist() == [11]

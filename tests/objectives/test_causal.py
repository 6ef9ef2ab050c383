"""Each token from those before it: what goes in, what is asked, and who finds it (traps 4 and 5)."""

import numpy as np
import pytest
import torch

from telos.batch import HeadSpec, Piece
from telos.data.packing import collate
from telos.objectives._framing import inside
from telos.objectives._sequence import text
from telos.objectives.causal import Causal
from tests.objectives.table import Table
from tests.objectives.world import Pieces, answers, draw

IDS = [1, 10, 11, 12, 2]
CYCLE = [0, 3, 1, 4, 2]
"""Each token has one that follows it."""


@pytest.mark.parametrize(
    ("ask_from", "at", "asked"),
    [(0, [0, 1, 2, 3], [10, 11, 12, 2]), (1, [0, 1, 2, 3], [10, 11, 12, 2]), (3, [2, 3], [12, 2])],
)
def test_the_table_of_places_and_answers(ask_from: int, at: list[int], asked: list[int]) -> None:
    """Trap 4: of `⊢ the cat sat ⊣`, written out; with a stride, context goes in and is not asked."""
    example = draw(Causal(), Pieces(IDS, ask_from=ask_from))
    assert example.main.ids.tolist() == [1, 10, 11, 12]
    assert example.asks[0].at.tolist() == at and answers(example) == asked
    assert example.main.order.tolist() == example.main.positions.tolist() == [0, 1, 2, 3]


def loss_of_a_model_that_says(following: list[int]) -> float:
    """Nats per token of `CYCLE` under a model that after token i is sure of `following[i]`."""
    said = torch.zeros(5, 5)
    said[torch.arange(5), torch.tensor(following)] = 60.0
    batch = collate([[draw(Causal(), Pieces(CYCLE))]])
    sums = Table(said, HeadSpec(name="tokens", outputs=5))(batch).sums
    return sums["tokens"].item() / batch.asked["tokens"]


def test_who_knows_the_next_token_pays_nothing() -> None:
    """Trap 4: and who says the token itself, or the one after the next, pays all."""
    following = [CYCLE[(CYCLE.index(token) + 1) % 5] for token in range(5)]
    after_it = [following[token] for token in following]
    assert loss_of_a_model_that_says(following) == pytest.approx(0, abs=1e-6)
    assert loss_of_a_model_that_says(list(range(5))) == pytest.approx(60)
    assert loss_of_a_model_that_says(after_it) == pytest.approx(60)


class OneForAll:
    """A vocabulary in which one token begins, ends and pads, as GPT-2's does."""

    begin = end = pad = 0


def test_an_end_token_is_asked_though_it_is_padding_too() -> None:
    """Trap 5: its weight is 1; padding's is 0, by place; and the end token is seen by what comes after it."""
    long, short = ([0, *ids, 0] for ids in ([5, 6, 7, 8], [5]))
    batch = collate([[draw(Causal(), Pieces(ids))] for ids in (long, short)])
    (asked,) = batch.asks
    assert batch.asked["tokens"] == 5 + 2
    assert asked.target[asked.weight > 0].tolist() == [5, 6, 7, 8, 0, 5, 0]
    assert batch.main.seen.sum().item() == 5 + 2 and batch.main.segment[1].tolist()[:3] == [0, 0, -1]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [([0, 5, 6, 0], [5, 6]), ([5, 6, 0], [5, 6]), ([0, 5], [5]), ([0, 0], []), ([0], []), ([5], [5])],
)
def test_text_is_found_between_two_tokens_that_are_one(ids: list[int], expected: list[int]) -> None:
    """Trap 5: by where they stand."""
    piece = Piece(ids=np.array(ids), document=0)
    assert piece.ids[inside(piece, OneForAll())].tolist() == expected  # type: ignore[arg-type]
    assert text(piece, OneForAll()).ids.tolist() == expected  # type: ignore[arg-type]

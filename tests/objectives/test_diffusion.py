"""Masked diffusion: what is hidden and what it weighs, and that the loss bounds −log p of the text."""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, permutations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from telos.batch import Example, Piece
from telos.data.packing import collate
from telos.data.shards import Shards
from telos.evaluate.likelihood import EvaluateSettings, score
from telos.losses import LossSettings
from telos.models._base import Network, Sizes
from telos.objectives.diffusion import Diffusion
from tests.contract import world
from tests.objectives.world import Pieces, characters, draw

BEGIN, END, MASK = 1, 2, 3
TOY: Any = SimpleNamespace(mask=MASK, begin=BEGIN, end=END)
"""As much of a vocabulary as the objective looks at; its tokens are 0 … 5."""
IDS = [BEGIN, 10, 11, 12, 13, 14, END]


def test_the_table_of_what_is_hidden_and_asked() -> None:
    """Trap 4: what is asked stands where it is hidden; the begin token is neither; the weights add up to the
    number of tokens."""
    seen = set()
    for seed in range(60):
        example = draw(Diffusion(), Pieces(IDS), seed, TOY)
        (ask,) = example.asks
        restored = example.main.ids.copy()
        assert (restored[ask.at] == MASK).all()
        restored[ask.at] = ask.target
        assert restored.tolist() == IDS and 0 not in ask.at
        assert ask.weight.sum() == pytest.approx(6) and len(set(ask.weight)) == 1
        seen.add(len(ask.at))
    assert seen == {1, 2, 3, 4, 5, 6}


def test_every_number_and_every_place_is_as_likely() -> None:
    """Trap 9 for chance: numbers 1 … n evenly, and of each number every place."""
    counts: Counter[int] = Counter()
    places: Counter[int] = Counter()
    for seed in range(3000):
        at = draw(Diffusion(), Pieces(IDS), seed, TOY).asks[0].at
        counts[len(at)] += 1
        places.update(at.tolist())
    assert all(abs(counts[k] / 500 - 1) < 0.2 for k in range(1, 7))
    assert all(abs(places[i] / 1750 - 1) < 0.07 for i in range(1, 7))


def test_context_is_seen_and_not_asked() -> None:
    for seed in range(20):
        example = draw(Diffusion(), Pieces(IDS, ask_from=4), seed, TOY)
        assert example.asks[0].at.min() >= 4 and example.asks[0].weight.sum() == pytest.approx(3)
        assert example.main.ids[:4].tolist() == IDS[:4]


def test_held_out_text_is_tried_at_even_shares() -> None:
    """As many draws as tokens: each number of hidden tokens once; the same each time; weights as of one."""
    objective = Diffusion(draws=6)
    tries = objective.tries(Pieces(IDS), 0, TOY)
    assert [len(example.asks[0].at) for example in tries] == [1, 2, 3, 4, 5, 6]
    assert sum(example.asks[0].weight.sum() for example in tries) == pytest.approx(6)
    again = objective.tries(Pieces(IDS), 0, TOY)
    assert all(np.array_equal(a.main.ids, b.main.ids) for a, b in zip(tries, again, strict=True))


def test_a_piece_without_a_token_to_ask_asks_nothing() -> None:
    """Trap 8: no division by 0, and the sum is 0."""
    example = draw(Diffusion(), Pieces([BEGIN]), 0, TOY)
    assert len(example.asks[0].at) == 0
    batch = collate([[example]])
    answer = Diffusion().step({"main": tiny()}, batch, None, 0)
    assert answer.sums["tokens"].item() == 0.0


# ---------------------------------------------------------------- a bound


def tiny(tokens: int = 6, seed: int = 3) -> Network:
    """A network on a few tokens, with logits of some size, in float64."""
    sizes = Sizes(tokens, 8, Diffusion().heads(tokens), LossSettings())
    network = world.built(world.make_model("decoder"), sizes, seed).double()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(12)
    return network


def nats(network: Network, examples: list[Example]) -> list[list[float]]:
    """−log q of each target of each example."""
    rows = collate([[example] for example in examples])
    with network.at_rest():
        hidden, _ = network.encode(rows.main)
        said = [network.logits(hidden[row, e.asks[0].at]).log_softmax(-1) for row, e in enumerate(examples)]
    return [
        (-each.gather(1, torch.from_numpy(e.asks[0].target)[:, None])).squeeze(1).tolist()
        for each, e in zip(said, examples, strict=True)
    ]


def every_mask(ids: list[int], tokenizer: Any = TOY) -> Iterator[tuple[tuple[int, ...], Example]]:
    """Every non-empty set of places hidden, but for the first."""
    places = range(1, len(ids))
    piece = Piece(ids=np.array(ids), document=0)
    for hidden in (s for k in places for s in combinations(places, k)):
        yield hidden, Diffusion().hide(piece, np.array(hidden), np.array(hidden), tokenizer)


def bound_and_exact(network: Network, ids: list[int], tokenizer: Any = TOY) -> tuple[float, float, float]:
    """Of one text: the loss over all that can be hidden; the mean of −log Π q over all orders; and −log p, p
    being the mean of Π q over all orders."""
    masks = list(every_mask(ids, tokenizer))
    found = dict(zip([m for m, _ in masks], nats(network, [e for _, e in masks]), strict=True))
    n = len(ids) - 1
    bound = np.mean(
        [np.mean([n / k * sum(found[s]) for s in combinations(range(1, n + 1), k)]) for k in range(1, n + 1)]
    )
    orders = []
    for order in permutations(range(1, n + 1)):
        hidden = [tuple(sorted(order[step:])) for step in range(n)]
        orders.append(sum(found[s][s.index(p)] for s, p in zip(hidden, order, strict=True)))
    return float(bound), float(np.mean(orders)), -math.log(np.mean(np.exp(-np.array(orders))))


def test_the_loss_is_an_upper_bound_of_the_exact_one() -> None:
    """On every text of three tokens: what the model says of them, found one by one in an order drawn by
    chance, is a distribution, and the loss bounds its −log. It is no bound of anything if it is less."""
    network = tiny()
    total, gaps = 0.0, []
    for text in product(range(6), repeat=3):
        bound, mean, exact = bound_and_exact(network, [BEGIN, *text])
        assert bound == pytest.approx(mean, rel=1e-9)
        assert bound >= exact - 1e-9
        gaps.append(bound - exact)
        total += math.exp(-exact)
    assert total == pytest.approx(1, rel=1e-9)
    assert max(gaps) > 0.1, "orders must matter, or nothing was shown"


def test_the_worked_example() -> None:
    found = {(1,): [0.0], (2,): [math.log(4)], (1, 2): [math.log(2), math.log(2)]}
    bound = np.mean([2 / k * np.mean([sum(v) for s, v in found.items() if len(s) == k]) for k in (1, 2)])
    exact = -math.log((1 / 2 * 1 / 4 + 1 / 2 * 1) / 2)
    assert bound == pytest.approx(1.386, abs=1e-3) and exact == pytest.approx(1.163, abs=1e-3)


def test_training_draws_have_the_bound_as_their_mean() -> None:
    network, ids = tiny(), [BEGIN, 4, 5, 0, END]
    wanted, _, _ = bound_and_exact(network, ids)
    drawn = [draw(Diffusion(), Pieces(ids), seed, TOY) for seed in range(1500)]
    sums = [
        float(np.dot(each, example.asks[0].weight))
        for each, example in zip(nats(network, drawn), drawn, strict=True)
    ]
    error = np.std(sums) / math.sqrt(len(sums))
    assert abs(np.mean(sums) - wanted) < 4 * error and error < 0.05 * wanted


def test_held_out_text_is_scored_as_a_bound_whatever_the_batch(tmp_path: Path) -> None:
    """Over the whole split: every token counts once, the label says what it is, and it is near the bound."""
    tokenizer = characters()
    writer = world.ShardWriter(tmp_path / "s", tokenizer.hash, tokenizer.size)
    for text in ("abc", "de", "a"):
        writer.add(tokenizer.encode(text), len(text))
    writer.close()
    network = tiny(tokenizer.size)
    objective = Diffusion(draws=24)
    found = [
        score(network, objective, Shards(tmp_path / "s"), tokenizer, EvaluateSettings(batch=b), window=8)
        for b in (1, 32)
    ]
    assert found[0].kind == "bound" and found[0].tokens == 4 + 3 + 2 and found[0].documents == 3
    assert found[0].nats == pytest.approx(found[1].nats, rel=1e-9)
    assert found[0].bits_per_byte is not None
    wanted = 0.0
    for text in ("abc", "de", "a"):
        ids = [tokenizer.begin, *tokenizer.encode(text).tolist(), tokenizer.end]
        wanted += bound_and_exact(network, ids, tokenizer)[0]
    assert found[0].nats == pytest.approx(wanted, rel=0.05)

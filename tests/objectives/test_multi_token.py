"""Several next tokens: which head is asked what, head 1 alone is `causal`, and the heads can differ."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from telos.batch import Batch, HeadSpec
from telos.config import read
from telos.data.packing import collate
from telos.errors import ConfigError
from telos.evaluate.likelihood import surprise
from telos.objectives.causal import Causal
from telos.objectives.multi_token import MultiToken
from tests.contract import world
from tests.objectives.table import Table
from tests.objectives.world import Pieces, draw

IDS = [1, 10, 11, 12, 2]


def batch_of(objective: Any, *pieces: list[int], ask_from: int = 0) -> Batch:
    return collate([[draw(objective, Pieces(ids, ask_from=ask_from))] for ids in pieces])


def test_each_head_is_asked_the_token_so_far_ahead() -> None:
    """Trap 4: the table of places and answers for `⊢ the cat sat ⊣`, written out."""
    example = draw(MultiToken(tokens=3), Pieces(IDS))
    found = {ask.head: dict(zip(ask.at.tolist(), ask.target.tolist(), strict=True)) for ask in example.asks}
    assert found == {
        "tokens": {0: 10, 1: 11, 2: 12, 3: 2},
        "tokens2": {0: 11, 1: 12, 2: 2},
        "tokens3": {0: 12, 1: 2},
    }
    assert example.main.ids.tolist() == IDS[:-1]


def test_context_is_not_asked_again() -> None:
    """A piece that answers for its tokens from 3 on; heads reach back into the context for them."""
    example = draw(MultiToken(tokens=2), Pieces(IDS, ask_from=3))
    assert [(ask.at.tolist(), ask.target.tolist()) for ask in example.asks] == [
        ([2, 3], [12, 2]),
        ([1, 2], [12, 2]),
    ]


def test_the_worked_example() -> None:
    """Head 1 says 1/2 of everything, head 2 1/4."""
    objective = MultiToken(tokens=2)
    heads = HeadSpec(name="tokens", outputs=2), HeadSpec(name="tokens2", outputs=4, ahead=1)
    network = Table(torch.zeros(2, 2), *heads)
    batch = batch_of(objective, [1, 0, 1, 1, 0])
    sums = objective.step({"main": network}, batch, None, 0).sums
    divided_by = objective.denominators(batch.asked)
    assert divided_by == {"tokens": 4.0, "tokens2": 3.0}
    losses = {term: objective.coefficient(term) * sums[term].item() / divided_by[term] for term in sums}
    assert losses == pytest.approx({"tokens": math.log(2), "tokens2": math.log(4)})
    assert sum(losses.values()) == pytest.approx(2.079, abs=1e-3)


@pytest.mark.parametrize("model", ["decoder", "gru"])
def test_head_1_alone_is_causal_to_the_bit(model: str) -> None:
    tokenizer = world.vocabulary()
    found = []
    for objective in (MultiToken(tokens=1), Causal()):
        sizes = world.sizes_for(objective, tokenizer, 16)
        network = world.built(world.make_model(model), sizes)
        batch = batch_of(objective, IDS, IDS[1:])
        answer = objective.step({"main": network}, batch, None, 0)
        sum(answer.sums.values()).backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        found.append((answer.sums, batch.asked, gradients))
    (sums, asked, gradients), (wanted, wanted_asked, wanted_gradients) = found
    assert asked == wanted_asked and sums.keys() == wanted.keys()
    assert torch.equal(sums["tokens"], wanted["tokens"])
    assert gradients.keys() == wanted_gradients.keys()
    assert all(torch.equal(gradients[name], wanted_gradients[name]) for name in gradients)


@pytest.mark.parametrize("model", ["decoder", "gru"])
def test_heads_that_share_a_projection_differ(model: str) -> None:
    """And what they need is counted: parameters in closed form as built."""
    tokenizer = world.vocabulary()
    description = world.make_model(model)
    sizes = world.sizes_for(MultiToken(tokens=3), tokenizer, 16)
    network = world.built(description, sizes)
    assert sum(p.numel() for p in network.parameters()) == description.parameter_count(sizes)
    alone = world.sizes_for(MultiToken(tokens=1), tokenizer, 16)
    assert description.flops_per_token(sizes) > description.flops_per_token(alone)
    width = network.heads["tokens"].table.shape[1]
    hidden = torch.randn(1, width, generator=torch.Generator().manual_seed(0))
    said = [network.logits(hidden, head) for head in ("tokens", "tokens2", "tokens3")]
    assert not torch.allclose(said[0], said[1]) and not torch.allclose(said[1], said[2])
    assert [network.heads[name].ahead for name in network.heads] == [0, 1, 2]


def test_a_piece_too_short_for_the_further_heads_asks_them_nothing() -> None:
    """Trap 8: their sums are 0 and so are their gradients."""
    objective = MultiToken(tokens=4)
    batch = batch_of(objective, [1, 10])
    assert batch.asked == {"tokens": 1.0, "tokens2": 0.0, "tokens3": 0.0, "tokens4": 0.0}
    network = world.built(world.make_model("decoder"), world.sizes_for(objective, world.vocabulary(), 16))
    sums = objective.step({"main": network}, batch, None, 0).sums
    assert [sums[f"tokens{k}"].item() for k in (2, 3, 4)] == [0.0, 0.0, 0.0]
    sum(sums[f"tokens{k}"] for k in (2, 3, 4)).backward()
    assert all(p.grad is None or float(p.grad.abs().max()) == 0 for p in network.parameters())


def test_a_text_is_scored_by_head_1_alone() -> None:
    objective = MultiToken(tokens=3)
    example = objective.whole(Pieces(IDS)[0], world.vocabulary())
    assert example is not None and [ask.head for ask in example.asks] == ["tokens"]
    batch = batch_of(objective, IDS)
    network = Table(torch.zeros(20, 20), *objective.heads(20))
    for ask in batch.asks:  # and each head can be scored, in chunks that suit its outputs
        nats = surprise(network, network.encode(batch.main)[0].flatten(0, 1), ask)
        np.testing.assert_allclose(nats.detach().numpy(), math.log(20))


def test_a_weight_without_further_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"weight does nothing with tokens = 1"):
        read(MultiToken, {"tokens": 1, "weight": 0.5})
    assert MultiToken(weight=0.25).coefficient("tokens2") == 0.25
    assert MultiToken(weight=0.25).coefficient("tokens") == 1.0

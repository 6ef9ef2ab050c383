"""Adapters: nothing changes when they are put on, only they learn, and merged they say the same."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from telos import objectives
from telos.batch import Batch
from telos.data.packing import collate, pack, singly
from telos.errors import ConfigError
from telos.find import names
from telos.models._adapters import Adapted, adapt, adapters, bared, merged
from telos.models._base import Network
from telos.recipe import models_that_fit
from tests.contract import world

BOTH = ("attention", "feed_forward")
ADAPTABLE = ("decoder", "encoder", "encoder_decoder")


def batch_of(name: str, folder: Path, packed: bool = True) -> tuple[Any, Batch, Any]:
    objective = world.make_objective(name)
    tokenizer = world.vocabulary(objective.specials())
    corpus = world.corpus(folder / "shards", objective.cut(24), tokenizer)
    made = [objective.example(corpus, i, np.random.default_rng(i), tokenizer) for i in range(len(corpus))]
    return objective, collate((pack if packed else singly)(made, 24), 24), tokenizer


def built(model: str, objective: Any, tokenizer: Any, **changes: Any) -> Network:
    return world.built(world.make_model(model, **changes), world.sizes_for(objective, tokenizer, 24)).eval()


def serving(name: str) -> str:
    """An adaptable model for an objective, where there is one."""
    fit = models_that_fit(world.make_objective(name))
    return next((model for model in ADAPTABLE if model in fit), "")


def put_on(network: Network, **changes: Any) -> list[str]:
    return adapt(network, BOTH, **{"rank": 4, "alpha": 6.0, "dropout": 0.0, "seed": 1, **changes})


def sums(network: Network, batch: Batch) -> dict[str, Tensor]:
    return {term: value.detach() for term, value in network(batch).sums.items()}


@torch.no_grad()
def moved(network: Network, seed: int = 3) -> Network:
    """Adapters as they might be after training."""
    draw = torch.Generator().manual_seed(seed)
    for layer in adapters(network).values():
        layer.up.copy_(torch.randn(layer.up.shape, generator=draw) * 0.3)
    return network


EVERY = [name for name in names(objectives) if name not in ("distil", "replaced") and serving(name)]
"""All that need no second model, which would be in the way of the comparison alone."""


@pytest.mark.parametrize("name", EVERY)
def test_every_objective_with_new_adapters_begins_to_the_bit_as_without(name: str, tmp_path: Path) -> None:
    """And then each adapter has a gradient, and nothing else changes what is asked."""
    objective, batch, tokenizer = batch_of(name, tmp_path)
    network = built(serving(name), objective, tokenizer)
    before = sums(network, batch)
    chosen = put_on(network)
    after = network(batch).sums
    assert before.keys() == after.keys() and all(torch.equal(before[term], after[term]) for term in before)
    torch.stack(list(after.values())).sum().backward()
    for layer in chosen:
        found = adapters(network)[layer]
        assert found.up.grad is not None and float(found.up.grad.abs().max()) > 0, layer
        assert found.down.grad is not None and float(found.down.grad.abs().max()) == 0, "up is zero yet"


def test_in_bfloat16_it_begins_so_too(tmp_path: Path) -> None:
    objective, batch, tokenizer = batch_of("causal", tmp_path)
    network = built("decoder", objective, tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        before = sums(network, batch)["tokens"]
        put_on(network, dropout=0.5)
        assert torch.equal(sums(network, batch)["tokens"], before)


@pytest.mark.parametrize("model", ADAPTABLE)
def test_merged_they_say_what_they_said_apart(model: str, tmp_path: Path) -> None:
    """In float64 to rounding; and every name and shape is that of the plain network."""
    name = {"decoder": "causal", "encoder": "masked", "encoder_decoder": "span"}[model]
    objective, batch, tokenizer = batch_of(name, tmp_path)
    network = built(model, objective, tokenizer).double()
    plain = copy.deepcopy(network)
    put_on(network)
    moved(network)
    apart = sums(network, batch)["tokens"]
    together = merged(copy.deepcopy(network))
    assert not adapters(together) and together.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(sums(together, batch)["tokens"], apart, rtol=1e-12, atol=0)
    assert abs(float(apart - sums(plain, batch)["tokens"])) > 1e-3, "the adapters did something"
    back = bared(network)
    assert all(torch.equal(tensor, plain.state_dict()[key]) for key, tensor in back.state_dict().items())


def test_a_layer_computes_what_the_paper_says() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(6, 5).double()
    layer = Adapted(plain, 2, 3.0, 0.0)
    with torch.no_grad():
        layer.down.normal_()
        layer.up.normal_()
    x = torch.randn(4, 6, dtype=torch.float64)
    by_hand = x @ (plain.weight + 3.0 / 2 * layer.up @ layer.down).T + plain.bias
    torch.testing.assert_close(layer(x), by_hand, rtol=1e-12, atol=1e-12)
    assert layer.down.shape == (2, 6) and layer.up.shape == (5, 2) and layer.weight is plain.weight


def test_dropout_is_of_what_goes_into_the_adapter_alone_and_of_training_alone() -> None:
    torch.manual_seed(0)
    layer = Adapted(nn.Linear(64, 8), 4, 4.0, 0.5)
    with torch.no_grad():
        layer.down.normal_()
        layer.up.normal_()
    x = torch.randn(3, 64)
    resting = layer.eval()(x)
    assert torch.equal(layer(x), resting)
    trained = layer.train()(x)
    assert not torch.allclose(trained, resting)
    torch.manual_seed(5)
    first = layer(x)
    torch.manual_seed(5)
    assert torch.equal(layer(x), first)
    with torch.no_grad():
        layer.up.zero_()
    assert torch.equal(layer(x), functional.linear(x, layer.weight, layer.bias)), "W is given all of it"


def test_first_values_are_of_the_seed_and_the_name_alone(tmp_path: Path) -> None:
    objective, _, tokenizer = batch_of("causal", tmp_path)
    one, other, third = (built("decoder", objective, tokenizer) for _ in range(3))
    put_on(one)
    put_on(other, rank=4, alpha=99.0)
    put_on(third, seed=2)
    name = "blocks.1.attend.inward"
    first, same, another = (adapters(each)[name].down for each in (one, other, third))
    assert torch.equal(first, same) and not torch.equal(first, another)
    assert not torch.equal(first, adapters(one)["blocks.0.attend.inward"].down)
    assert 0.8 * 16**-0.5 < float(first.detach().abs().max()) <= 16**-0.5


def test_which_layers_have_one(tmp_path: Path) -> None:
    objective, _, tokenizer = batch_of("causal", tmp_path)
    chosen = put_on(built("decoder", objective, tokenizer))
    parts = [f"{owner}.{way}" for owner in ("attend", "feed") for way in ("inward", "outward")]
    assert chosen == [f"blocks.{block}.{part}" for block in (0, 1) for part in parts]
    network = built("decoder", objective, tokenizer)
    assert adapt(network, ["blocks.1.feed.*"], rank=1, alpha=1.0, dropout=0.0, seed=0) == chosen[-2:]


def test_heads_and_routers_have_none(tmp_path: Path) -> None:
    """A router's weight is read and the layer never called: an adapter on it would learn nothing."""
    objective, _, tokenizer = batch_of("causal", tmp_path)
    network = built("decoder", objective, tokenizer, feed={"experts": {"count": 4}, "width": 8})
    with pytest.raises(ConfigError, match=r"'feed_forward'.*There are: blocks\.\*\.attend\.inward, blocks"):
        put_on(network)
    objective, _, tokenizer = batch_of("masked", tmp_path / "masked")
    with pytest.raises(ConfigError, match=r"'heads\.\*'.*called so"):
        adapt(built("encoder", objective, tokenizer), ["heads.*"], rank=1, alpha=1.0, dropout=0.0, seed=0)


def test_a_model_without_linear_layers_is_refused(tmp_path: Path) -> None:
    objective, _, tokenizer = batch_of("causal", tmp_path)
    with pytest.raises(ConfigError, match="this model has no linear layers between"):
        put_on(built("gru", objective, tokenizer))

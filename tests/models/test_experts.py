"""Experts: used evenly without a second loss, by counts that add up and leave padding out."""

from typing import Any

import pytest
import torch
from torch import Tensor

from telos.errors import ConfigError
from telos.models._base import Network
from telos.models._experts import Experts, Routed
from tests.models.small import asked_all, built, described, drawn, rows_of

ROWS = rows_of([drawn(16)], [drawn(9, 1)], [drawn(12, 2)])


def routed(network: Network) -> list[Routed]:
    return [module for module in network.modules() if isinstance(module, Routed)]


def lopsided(rate: float) -> Network:
    """Experts of which one would get nearly every token, in training mode."""
    network = built("experts", feed={"width": 24, "experts": {"count": 5, "active": 2, "rate": rate}})
    with torch.no_grad():
        for layer in routed(network):
            layer.bias[3] += 0.3
    return network.train()


def trained(network: Network, steps: int) -> list[float]:
    """The load after each step of real training on the same rows."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loads = []
    for _ in range(steps):
        network(asked_all(ROWS)).sums["tokens"].backward()
        optimizer.step()
        optimizer.zero_grad()
        loads.append(float(network.stepped(True)["load"]))
    return loads


def test_a_bias_brings_them_into_balance() -> None:
    """With rate 0 one expert keeps more than twice the mean; with 0.02 all are near it soon."""
    unmoved, moved = trained(lopsided(0.0), 60), trained(lopsided(0.02), 60)
    assert min(unmoved) > 2.2 and moved[0] > 2.2
    assert sum(moved[-20:]) / 20 < 1.6, "of 37 tokens a step, so never quite even"


def counted(network: Network, batches: list[Any]) -> list[Tensor]:
    for batch in batches:
        network(batch)
    return [layer.counts.clone() for layer in routed(network)]


def test_counts_add_up_over_micro_batches_and_leave_padding_out() -> None:
    """One step of three rows is three of one; each real place counts `active` times."""
    documents = [drawn(16), drawn(9, 1), drawn(12, 2)]
    whole, parts = lopsided(0.1), lopsided(0.1)
    at_once = counted(whole, [asked_all(rows_of(*([d] for d in documents)))])
    one_by_one = counted(parts, [asked_all(rows_of([d])) for d in documents])
    for a, b in zip(at_once, one_by_one, strict=True):
        assert torch.equal(a, b) and a.sum() == 2 * (16 + 9 + 12)
    whole.stepped(True), parts.stepped(True)
    for one, other in zip(routed(whole), routed(parts), strict=True):
        assert torch.equal(one.bias, other.bias) and not one.counts.any()


def test_evaluation_and_broken_steps_move_nothing() -> None:
    network = lopsided(0.1)
    before = [layer.bias.clone() for layer in routed(network)]
    with network.at_rest():
        network.encode(ROWS)
    assert not any(layer.counts.any() for layer in routed(network))
    network(asked_all(ROWS))
    network.stepped(False)
    assert all(torch.equal(layer.bias, b) for layer, b in zip(routed(network), before, strict=True))
    assert not any(layer.counts.any() for layer in routed(network)), "and its counts are forgotten"


def test_the_bias_chooses_and_does_not_count() -> None:
    """By hand: scores 0.5, 0.5, 0.5 and a bias for the last two: they answer, half and half."""
    layer = Routed(2, 1, "gelu", Experts(count=3))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.inward += 1
        layer.outward += torch.tensor([100.0, 1.0, 3.0])[:, None, None]
        layer.bias += torch.tensor([0.0, 0.2, 0.9])
    x = torch.tensor([[[0.5, 1.0]]])
    answer = torch.nn.functional.gelu(torch.tensor(1.5), approximate="tanh")
    torch.testing.assert_close(layer(x, torch.ones(1, 1, dtype=torch.bool)), (2 * answer).expand(1, 1, 2))


def test_the_router_learns() -> None:
    network = built("experts").train()
    network(asked_all(ROWS)).sums["tokens"].backward()
    for layer in routed(network):
        assert layer.router.weight.grad is not None and float(layer.router.weight.grad.abs().max()) > 0


def test_the_router_is_exact_in_any_precision() -> None:
    """Under bfloat16 the choice is that of float32 for the same inputs."""
    layer = routed(built("experts"))[0]
    with torch.no_grad():
        layer.router.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    tokens = torch.randn(4000, 32, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = layer.choose(tokens)
    exact = layer.choose(tokens.float())
    assert torch.equal(rough.experts.sort(-1).values, exact.experts.sort(-1).values)
    assert rough.shares.dtype == torch.float32


def test_the_state_holds_the_bias_and_not_the_counts() -> None:
    names = built("experts").state_dict().keys()
    assert "blocks.0.feed.bias" in names and not any(name.endswith("counts") for name in names)


@pytest.mark.parametrize(
    ("experts", "why"),
    [
        ({"count": 2}, "leaves no choice"),
        ({"active": 3}, "do nothing without a count"),
        ({"count": 4, "active": 0}, "active"),
    ],
)
def test_what_cannot_be_is_refused(experts: dict[str, int], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        described("experts", feed={"experts": experts})
    with pytest.raises(ConfigError, match="experts have no biases"):
        described("experts", norm="layer")


def test_only_the_active_ones_cost() -> None:
    """By hand, width 32, inner 24, swiglu: an expert multiplies 3 · 32 · 24 weights, the router 32 · 5."""
    from tests.models.small import sizes

    plain = described("experts", feed={"width": 24})
    many = described("experts")
    expert, router = 3 * 32 * 24, 32 * 5
    assert many.parameter_count(sizes()) - plain.parameter_count(sizes()) == 2 * (4 * expert + router)
    assert many.flops_per_token(sizes()) - plain.flops_per_token(sizes()) == 6 * 2 * (expert + router)

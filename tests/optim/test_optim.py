"""Optimizers against their formulas, groups of parameters, and the schedule."""

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from telos import optim
from telos.config import read
from telos.errors import ConfigError
from telos.find import find, names
from telos.models._base import Network
from telos.optim._base import Optimizer
from telos.optim._groups import parameter_groups
from telos.optim._schedule import ScheduleSettings, rate_at
from telos.optim.adam import Adam
from telos.optim.adamw import AdamW
from telos.optim.sgd import Sgd
from tests.models.small import MODELS, asked_all, built, drawn, rows_of


def adamw_reference(weights: Tensor, gradients: list[Tensor], settings: AdamW, decay: float) -> Tensor:
    """Algorithm 2 of Loshchilov and Hutter (2019), in float64."""
    w = weights.double()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate((g.double() for g in gradients), 1):
        m = settings.betas[0] * m + (1 - settings.betas[0]) * g
        v = settings.betas[1] * v + (1 - settings.betas[1]) * g**2
        m_hat, v_hat = m / (1 - settings.betas[0] ** t), v / (1 - settings.betas[1] ** t)
        w = w - settings.peak * (m_hat / (v_hat.sqrt() + settings.epsilon) + decay * w)
    return w


def groups_of(parameter: nn.Parameter, decay: float) -> list[dict[str, Any]]:
    return [{"params": [("w", parameter)], "weight_decay": decay}]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_its_formula(decay: float) -> None:
    """Trap 27: five steps, between them one that is skipped, and a state that is saved and loaded."""
    settings = read(AdamW, {"rate": 0.01, "betas": [0.9, 0.95]})
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(7, 5, generator=draw)
    gradients = [torch.randn(7, 5, generator=draw) for _ in range(5)]
    parameter = nn.Parameter(weights.clone())
    optimizer = settings.build(groups_of(parameter, decay))
    for step, gradient in enumerate(gradients):
        parameter.grad = gradient.clone()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step == 1:
            optimizer.step()  # without gradients: a step that was skipped counts nothing
        if step == 2:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = settings.build(groups_of(parameter, decay))
            optimizer.load_state_dict(saved)
    wanted = adamw_reference(weights, gradients, settings, decay)
    torch.testing.assert_close(parameter.detach().double(), wanted, rtol=1e-5, atol=1e-6)


def test_adam_is_adamw_without_decay() -> None:
    settings, reference = Adam(rate=0.01), AdamW(rate=0.01, betas=(0.9, 0.999))
    weights = torch.arange(6.0).reshape(2, 3)
    gradients = [weights.sin() + step for step in range(4)]
    parameter = nn.Parameter(weights.clone())
    optimizer = settings.build(groups_of(parameter, 0.0))
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    wanted = adamw_reference(weights, gradients, reference, 0.0)
    torch.testing.assert_close(parameter.detach().double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_its_formula(nesterov: bool) -> None:
    settings = Sgd(rate=0.1, momentum=0.8, nesterov=nesterov)
    weights = torch.arange(6.0).reshape(2, 3)
    parameter = nn.Parameter(weights.clone())
    optimizer = settings.build(groups_of(parameter, 0.5))
    w, b = weights.double(), torch.zeros(2, 3).double()
    for step in range(4):
        parameter.grad = weights.cos() + step
        optimizer.step()
        g = weights.cos().double() + step + 0.5 * w
        b = 0.8 * b + g if step else g
        w = w - 0.1 * (g + 0.8 * b if nesterov else b)
    torch.testing.assert_close(parameter.detach().double(), w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", names(optim))
def test_every_optimizer_steps_at_the_rate_of_its_groups(name: str) -> None:
    """The trainer sets `lr` of each group; a rate of 0 moves nothing, and a group without decay is not
    decayed."""
    network = built("llama")
    settings = read(find(optim, name, Optimizer), {"decay": 0.5})
    optimizer = settings.build(parameter_groups({"main": network}, settings.decay or 0.0))
    assert {group["lr"] for group in optimizer.param_groups} == {settings.peak}
    network(asked_all(rows_of([drawn(9)]))).sums["tokens"].backward()
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    assert all(torch.equal(p, before[n]) for n, p in network.named_parameters())
    for group in optimizer.param_groups:
        group["lr"] = settings.peak
    optimizer.step()
    assert all(not torch.equal(p, before[n]) for n, p in network.named_parameters())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_decay_leaves_alone_what_it_should(name: str) -> None:
    """Trap 25: with gradients of 0 and a decay, matrices shrink and everything else is the same to the
    bit."""
    network = built(name)
    settings = AdamW(rate=0.1, decay=0.5)
    optimizer = settings.build(parameter_groups({"main": network}, settings.decay or 0.0))
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for label, parameter in network.named_parameters():
        if label in network.undecayed():
            assert torch.equal(parameter, before[label]), label
        else:
            torch.testing.assert_close(parameter.detach(), before[label] * 0.95)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_each_parameter_is_in_one_group_once(name: str) -> None:
    """Traps 25 and 29: tied ones too, and those that two networks share."""
    network, other = built(name), built(name, seed=1)
    other.embedding.weight = network.embedding.weight
    groups = parameter_groups({"main": network, "generator": other}, 0.1)
    listed = [(label, id(p)) for group in groups for label, p in group["params"]]
    wanted = {id(p) for net in (network, other) for p in net.parameters()}
    assert len(listed) == len({place for _, place in listed}) == len(wanted)
    assert {place for _, place in listed} == wanted
    assert {label.partition(".")[0] for label, _ in listed} == {"main", "generator"}
    labels = [label for label, _ in listed]
    assert "main.embedding.weight" in labels and "generator.embedding.weight" not in labels


def test_frozen_parameters_are_in_no_group() -> None:
    network = built("llama")
    network.embedding.weight.requires_grad_(False)
    groups = parameter_groups({"main": network}, 0.1)
    assert not any("embedding" in label for group in groups for label, _ in group["params"])
    with pytest.raises(ConfigError, match="nothing to train"):
        parameter_groups({"main": network.requires_grad_(False)}, 0.1)


def test_a_name_that_matches_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 25: `undecayed` names a parameter that is not there (any more)."""
    monkeypatch.setattr(Network, "undecayed", lambda self: ["norm.wieght"])
    with pytest.raises(ConfigError, match="wieght"):
        parameter_groups({"main": built("llama")}, 0.1)


STEPS = 200


def factors(settings: ScheduleSettings, stop: int = STEPS) -> list[float]:
    return [rate_at(settings, step, step / STEPS) for step in range(stop)]


def test_the_first_and_the_last_rate_are_pinned() -> None:
    """Trap 62: no step is lost to a rate of 0 at the beginning, and none comes after the end."""
    cosine = factors(ScheduleSettings(kind="cosine", warmup=10, final=0.1))
    assert cosine[0] == pytest.approx(1 / 10)
    assert cosine[9] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 9 / 200)) / 2)
    assert cosine[-1] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 199 / 200)) / 2)
    stable = factors(ScheduleSettings(kind="wsd", warmup=10, decay=0.25, final=0.0))
    assert stable[0] == pytest.approx(1 / 10)
    assert stable[9:151] == pytest.approx([1.0] * 142)
    assert stable[-1] == pytest.approx(1 / 50)
    assert stable[150] > stable[151] == pytest.approx(1 - 1 / 50)
    constant = factors(ScheduleSettings(kind="constant", warmup=4))
    assert constant[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0]) and constant[-1] == 1.0
    assert factors(ScheduleSettings(kind="constant", warmup=0)) == [1.0] * STEPS


def test_a_warm_up_may_be_a_share_of_the_budget() -> None:
    found = factors(ScheduleSettings(kind="constant", warmup=0.1))
    assert found[0] == 0.01
    assert found[10] == pytest.approx(0.5)
    assert found[20:] == [1.0] * 180


@given(
    kind=st.sampled_from(["cosine", "wsd", "constant"]),
    warmup=st.sampled_from([0, 0.05, 1, 30]),
    final=st.floats(0, 1),
    cut=st.integers(0, STEPS),
)
def test_a_rate_depends_on_nothing_but_its_place(kind: Any, warmup: float, final: float, cut: int) -> None:
    """Trap 62: a run that stops early, and one that goes on from there, has the rates of the run in one go;
    and they are between 0 and the peak, even where a budget is overdrawn."""
    settings = ScheduleSettings(kind=kind, warmup=warmup, final=0.0 if kind == "constant" else final)
    whole = factors(settings)
    assert factors(settings, cut) + [rate_at(settings, s, s / STEPS) for s in range(cut, STEPS)] == whole
    assert all(
        0 <= factor <= 1 for factor in [*whole, rate_at(settings, STEPS, 1.0), rate_at(settings, 999, 1.5)]
    )
    assert rate_at(settings, 999, 1.5) == pytest.approx(1.0 if kind == "constant" else final)


@pytest.mark.parametrize(
    ("given", "word"),
    [({"kind": "cosine", "decay": 0.5}, "decay"), ({"kind": "constant", "final": 0.1}, "final")],
)
def test_a_setting_that_would_do_nothing_is_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=f"{word} does nothing"):
        read(ScheduleSettings, given)

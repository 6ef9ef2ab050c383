"""Muon: which parameters it turns, that the step is that of its formula, and that the rest is AdamW's."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from telos.optim._groups import parameter_groups
from telos.optim.adamw import AdamW
from telos.optim.muon import Muon, orthogonal
from tests.contract.test_models import batch_of, network_of
from tests.train import tiny


def taught(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> dict[str, Tensor]:
    """The parameters after some steps by drawn gradients."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in network.named_parameters()}


def built(kind: type[Muon] | type[AdamW], name: str = "decoder", **changed: Any) -> dict[str, Tensor]:
    network = network_of(name)
    groups = parameter_groups({"main": network}, 0.1)
    return taught(network, kind(rate=0.01, decay=0.1, **changed).build(groups))


@pytest.mark.parametrize("name", ["decoder", "encoder", "encoder_decoder", "gru", "state_space"])
def test_matrices_are_turned_and_all_else_is_adamws(name: str) -> None:
    """Embeddings, heads and vectors come out to the bit as by AdamW alone; no matrix does."""
    ours, theirs = built(Muon, name), built(AdamW, name)
    spared = set(network_of(name).undecayed())
    turned = [label for label in ours if not torch.equal(ours[label], theirs[label])]
    matrices = {n for n, p in ours.items() if p.ndim == 2 and n not in spared and not n.startswith("heads.")}
    assert set(turned) == matrices and matrices


def test_a_step_is_that_of_the_formula() -> None:
    """By the singular value decomposition, in float64: of the right size, and near the orthogonal matrix,
    which five steps of Newton and Schulz find to within a third for every singular value."""
    torch.manual_seed(0)
    start, gradient = torch.randn(24, 40), torch.randn(24, 40)
    weight = nn.Parameter(start.clone())
    other = nn.Parameter(torch.ones(3))
    groups = [{"params": [("main.m", weight), ("main.v", other)], "weight_decay": 0.1}]
    optimizer = Muon(rate=0.01, decay=0.1, momentum=0.9).build(groups)
    weight.grad, other.grad = gradient.clone(), torch.ones(3)
    optimizer.step()
    moved = ((1 - 0.01 * 0.1) * start - weight.detach()).double() / (0.01 * 0.2 * math.sqrt(40))
    left, _, right = torch.linalg.svd(gradient.double(), full_matrices=False)
    values = (left.T @ moved @ right.T).diagonal()
    assert values.min() > 0.6 and values.max() < 1.35
    torch.testing.assert_close(moved, left @ values.diag() @ right, atol=0.02, rtol=0)


SHAPES = ((24, 40), (16, 16), (40, 24), (16, 16), (24, 40), (16, 16))


def moved(steps: int = 3, build: Any = None) -> list[Tensor]:
    """Matrices of `SHAPES` after some steps by drawn gradients; the last one has none in the second step."""
    draw = torch.Generator().manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape, generator=draw)) for shape in SHAPES]
    groups = [{"params": [(f"main.{n}", matrix) for n, matrix in enumerate(matrices)], "weight_decay": 0.1}]
    optimizer = (build or Muon(rate=0.01).build)(groups)
    for step in range(steps):
        for place, matrix in enumerate(matrices):
            gone = step == 1 and place == len(matrices) - 1
            matrix.grad = None if gone else torch.randn(matrix.shape, generator=draw)
        optimizer.step()
    return [matrix.detach() for matrix in matrices]


def test_it_moves_as_pytorchs_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which knows bfloat16 alone: a step in it is off by some hundredths of a step."""
    theirs = moved(
        build=lambda groups: torch.optim.Muon(
            [{**group, "params": [p for _, p in group["params"]]} for group in groups],
            lr=0.01,
            adjust_lr_fn="match_rms_adamw",
        )
    )
    for half in (False, True):
        monkeypatch.setattr("telos.optim.muon.multiplies_bfloat16", lambda device, half=half: half)
        for one, other in zip(moved(), theirs, strict=True):
            torch.testing.assert_close(one, other, atol=3 * 0.05 * 0.01, rtol=0)


@pytest.mark.parametrize("at_once", [1, 2 * 24 * 40])
def test_matrices_of_one_shape_move_as_each_would_alone(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = moved()
    monkeypatch.setattr("telos.optim.muon.AT_ONCE", at_once)
    for one, other in zip(moved(), together, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("flags", ["fpu avx2", "avx512f avx512_bf16"])
def test_bfloat16_only_where_the_hardware_multiplies_in_it(
    flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telos.processor.processor_flags", lambda: set(flags.split()))
    wanted = torch.bfloat16 if "bf16" in flags else torch.float32
    assert orthogonal(torch.randn(2, 8, 4)).dtype == wanted


def test_no_gradient_at_all_moves_nothing() -> None:
    """Zeros divided by their norm would be no numbers."""
    assert torch.equal(orthogonal(torch.zeros(1, 8, 4)).float(), torch.zeros(1, 8, 4))


def test_experts_are_adamws() -> None:
    """What has three dimensions has no one orthogonal matrix."""
    weight = nn.Parameter(torch.randn(2, 3, 4))
    groups = [{"params": [("main.experts", weight)], "weight_decay": 0.0}]
    assert type(Muon().build(groups)) is torch.optim.AdamW


def test_a_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Trap 63: of both optimizers, through a checkpoint; the schedule reaches the groups of both."""
    settings = ("optimizer.name=muon", "schedule.kind=constant", "budget.steps=6")
    whole = tiny.trainer(tmp_path / "a", *settings, model="decoder")
    whole.run()
    halted = tiny.trainer(tmp_path / "b", *settings, "budget.steps=3", model="decoder")
    halted.run()
    again = tiny.trainer(tmp_path / "b", *settings, model="decoder")
    assert again.resume() == 3
    again.run()
    rates = {group["lr"] for group in again.optimizer.param_groups}
    assert len(again.optimizer.param_groups) == 2 and len(rates) == 1
    for one, other in zip(whole.models["main"].parameters(), again.models["main"].parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_learns_faster_than_it_forgets() -> None:
    """A real network on one batch: the loss falls at once."""
    network, batch = network_of("decoder"), batch_of(16)
    optimizer = Muon(rate=0.02).build(parameter_groups({"main": network}, 0.1))
    losses = []
    for _ in range(30):
        loss = network(batch).sums["tokens"] / batch.asked["tokens"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]

"""The state space against its recurrence, written out place by place in float64."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from telos.config import read
from telos.errors import ConfigError
from telos.models import state_space
from telos.models._base import Network
from telos.models._initial import initialise
from telos.models.state_space import EPSILON, GOLDEN, State, StateSpace
from tests.models.small import asked_all, drawn, rows_of, sizes

SMALL: dict[str, Any] = {"width": 12, "depth": 2, "head": 6, "state": 5, "convolution": 3}


def built(**changed: Any) -> Network:
    """In float64, with every parameter away from its first value."""
    network = read(StateSpace, SMALL | changed).build(sizes())
    initialise(network, 0)
    network = network.double()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    return network.eval()


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.square().mean() + EPSILON).sqrt()


def one_block(w: dict[str, Tensor], xs: list[Tensor], model: StateSpace) -> list[Tensor]:
    """The block on one document, place by place, by the equations in the file's first lines."""
    inner, heads, n = model.inner, model.heads, model.state
    memory = torch.zeros(heads, model.head, n, dtype=torch.float64)
    inputs: list[Tensor] = []
    told = []
    for x in xs:
        projected = w["inward.weight"] @ x
        gate, step = projected[:inner], projected[inner + model.convolved :]
        inputs.append(projected[inner : inner + model.convolved])
        mixed = w["convolution_bias"].clone()
        for back in range(min(model.convolution, len(inputs))):
            mixed = mixed + w["convolution"][:, model.convolution - 1 - back] * inputs[-1 - back]
        mixed = functional.silu(mixed)
        out = []
        for head in range(heads):
            first = 0.001 * 100 ** ((head + 1) * GOLDEN % 1)
            size = torch.log1p(torch.exp(step[head] + w["step_bias"][head] + math.log(math.expm1(first))))
            rate = torch.exp(w["fading"][head]) * 16 ** ((head + 0.5) / heads)
            value = mixed[head * model.head : (head + 1) * model.head]
            write, look = mixed[inner : inner + n], mixed[inner + n :]
            memory[head] = torch.exp(-rate * size) * memory[head] + size * torch.outer(value, write)
            out.append(memory[head] @ look + w["skip"][head] * value)
        whole = torch.cat(out) * functional.silu(gate)
        told.append(w["outward.weight"] @ rms(whole, w["norm.weight"]))
    return told


def by_hand(network: Any, ids: list[int]) -> Tensor:
    """Hidden states (T, width) of one document."""
    w = {name: p.detach() for name, p in network.named_parameters()}
    xs = [w["embedding.weight"][i] for i in ids]
    for number in range(network.model.depth):
        prefix = f"mixers.{number}."
        block = {name.removeprefix(prefix): p for name, p in w.items() if name.startswith(prefix)}
        told = one_block(block, [rms(x, w[f"norms.{number}.weight"]) for x in xs], network.model)
        xs = [x + t for x, t in zip(xs, told, strict=True)]
    return torch.stack([rms(x, w["norm.weight"]) for x in xs])


@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
def test_chunks_are_the_recurrence(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Documents packed in a row, cut by chunks anywhere, beside a padded row."""
    monkeypatch.setattr(state_space, "CHUNK", chunk)
    network = built()
    a, b, c, d = drawn(9), drawn(1), drawn(6), drawn(5)
    hidden, _ = network.encode(rows_of([a, b, c], [d]))
    torch.testing.assert_close(hidden[0, :9], by_hand(network, a), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(hidden[0, 9:10], by_hand(network, b), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(hidden[0, 10:], by_hand(network, c), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(hidden[1, :5], by_hand(network, d), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("chunk", [3, 64])
@pytest.mark.parametrize("training", [False, True])
def test_the_state_is_that_of_the_last_real_place(
    monkeypatch: pytest.MonkeyPatch, chunk: int, training: bool
) -> None:
    """Trap 23: padded rows, a row of nothing but padding, and rows shorter than the convolution reaches."""
    monkeypatch.setattr(state_space, "CHUNK", chunk)
    network = built(convolution=4).train(training)
    before = [drawn(3, row) for row in range(4)]
    going = torch.tensor([True] * 4)
    _, first = network.encode(rows_of(*([ids] for ids in before)), None, None, ~going)
    documents = [drawn(length, 5) for length in (6, 2, 4, 0)]
    hidden, after = network.encode(rows_of(*([ids] for ids in documents)), None, first, going)
    for row, ids in enumerate(documents):
        alone, wanted = network.encode(rows_of([before[row] + ids]), None, None, torch.tensor([False]))
        torch.testing.assert_close(hidden[row, : len(ids)], alone[0, 3:], rtol=1e-9, atol=1e-10)
        for found, block in zip(after, wanted, strict=True):
            torch.testing.assert_close(found.inputs[row], block.inputs[0], rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(found.memory[row], block.memory[0], rtol=1e-9, atol=1e-10)


def test_the_state_of_a_row_is_that_of_its_last_document() -> None:
    """Trap 28: what an earlier document of the row left is gone, from the convolution's reach too."""
    network = built(convolution=4)
    _, together = network.encode(rows_of([drawn(8), drawn(2)]))
    _, alone = network.encode(rows_of([drawn(2)]))
    for found, wanted in zip(together, alone, strict=True):
        torch.testing.assert_close(found.inputs, wanted.inputs)
        torch.testing.assert_close(found.memory, wanted.memory)


def test_gradients_are_those_of_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a head forgets at once, so that differences of logarithms are large."""
    monkeypatch.setattr(state_space, "CHUNK", 4)
    found = []
    for kind in (torch.float32, torch.float64):
        network = built().train().to(kind)
        with torch.no_grad():
            network.get_parameter("mixers.0.fading")[0] = 8.0
        network(asked_all(rows_of([drawn(12)], [drawn(5), drawn(4)]))).sums["tokens"].backward()
        found.append([p.grad.double() for p in network.parameters() if p.grad is not None])
    assert all(bool(torch.isfinite(gradient).all()) for gradient in found[0])
    for single, double in zip(*found, strict=True):
        assert (single - double).norm() <= 1e-4 * double.norm() + 1e-7


def test_carrying_under_bfloat16() -> None:
    """The state is kept in float32."""
    network = built().float().train()
    state: Any = None
    for window in range(3):
        rows = rows_of([drawn(4, window)], [drawn(3, window)])
        batch = asked_all(rows, continues=torch.tensor([window > 0] * 2))
        with torch.autocast("cpu", torch.bfloat16):
            answer = network(batch, state)
        state = answer.state
        assert all(isinstance(block, State) and block.memory.dtype == torch.float32 for block in state)
        answer.sums["tokens"].backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_heads_fade_at_speeds_that_are_spread() -> None:
    network: Any = read(StateSpace, SMALL | {"width": 48, "head": 6}).build(sizes())
    initialise(network, 0)
    fade, size = network.mixers[0]._speeds(torch.zeros(1, 1, 16), torch.ones(1, 1, dtype=torch.bool))
    assert 0.001 <= size.min() < 0.0015 and 0.07 < size.max() <= 0.1
    rates = (-fade / size).flatten()
    assert rates.diff().gt(0).all() and 1 < rates[0] < 1.2 and 14 < rates[-1] < 16


@pytest.mark.parametrize(("changed", "said"), [({"head": 7}, "must be a multiple of head")])
def test_what_does_not_fit_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(StateSpace, SMALL | changed)

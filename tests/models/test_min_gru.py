"""The minimal GRU against its recurrence, written out place by place in numpy."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from telos.config import read
from telos.models._base import Network
from telos.models._initial import initialise
from telos.models._runs import State
from telos.models.min_gru import MinGru, scan
from tests.models.small import asked_all, drawn, part, rows_of, sizes

SMALL: dict[str, Any] = {"width": 12, "depth": 2, "expand": 2, "convolution": 3, "feed": 20}
Array = NDArray[np.float64]


def built(**changed: Any) -> Network:
    """In float64, with every parameter away from its first value."""
    network = read(MinGru, SMALL | changed).build(sizes())
    initialise(network, 0)
    network = network.double()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    return network.eval()


def norm(x: Array, weight: Array) -> Array:
    return weight * (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def by_hand(network: Any, ids: list[int]) -> Array:
    """Hidden states (T, width) of one document."""
    w = {name: p.detach().numpy() for name, p in network.named_parameters()}
    xs = [w["embedding.weight"][i] for i in ids]
    for n in range(network.model.depth):
        taps, bias = w[f"units.{n}.convolution"], w[f"units.{n}.convolution_bias"]
        state, inputs = np.zeros(network.model.inner), []
        for place, x in enumerate(xs):
            inputs.append(norm(x, w[f"norm_units.{n}.weight"]))
            mixed = bias.copy()
            for back in range(min(taps.shape[1], len(inputs))):
                mixed += taps[:, -1 - back] * inputs[-1 - back]
            z, new = np.split(w[f"units.{n}.inward.weight"] @ mixed + w[f"units.{n}.inward.bias"], 2)
            new = np.where(new >= 0, new + 0.5, sigmoid(new))
            state = (1 - sigmoid(z)) * state + sigmoid(z) * new
            y = x + w[f"units.{n}.outward.weight"] @ state
            inside = gelu(w[f"feeds.{n}.inward.weight"] @ norm(y, w[f"norm_feeds.{n}.weight"]))
            xs[place] = y + w[f"feeds.{n}.outward.weight"] @ inside
    return np.stack([norm(x, w["norm.weight"]) for x in xs])


def test_the_hidden_states_are_those_of_the_equations() -> None:
    """Documents packed in a row, beside a padded row."""
    network = built()
    a, b, c, d = drawn(9), drawn(1), drawn(6), drawn(5)
    hidden, _ = network.encode(rows_of([a, b, c], [d]))
    said = hidden.detach().numpy()
    for row, places, ids in (
        (0, slice(0, 9), a),
        (0, slice(9, 10), b),
        (0, slice(10, 16), c),
        (1, slice(0, 5), d),
    ):
        np.testing.assert_allclose(said[row, places], by_hand(network, ids), rtol=1e-9, atol=1e-10)


def one_by_one(fade: Tensor, add: Tensor, start: Tensor) -> Tensor:
    state, states = start, []
    for place in range(add.shape[1]):
        state = fade[:, place] * state + add[:, place]
        states.append(state)
    return torch.stack(states, 1)


@pytest.mark.parametrize("places", [1, 2, 3, 4, 5, 16, 17, 100])
def test_side_by_side_is_one_by_one(places: int) -> None:
    """States and gradients, for lengths that the parts divide and others; some places forget all."""
    torch.manual_seed(places)
    fade = torch.rand(3, places, 5, dtype=torch.float64)
    fade[1, places // 2] = 0
    given = [fade, torch.randn(3, places, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)]
    above = torch.randn(3, places, 5, dtype=torch.float64)
    found = []
    for way in (scan, one_by_one):
        leaves = [each.clone().requires_grad_() for each in given]
        out = way(*leaves)
        found.append((out, *torch.autograd.grad(out, leaves, above)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_scan_gives_the_gradients_of_differences() -> None:
    torch.manual_seed(0)
    fade, add = torch.rand(2, 7, 2, dtype=torch.float64), torch.randn(2, 7, 2, dtype=torch.float64)
    start = torch.randn(2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(scan, tuple(x.requires_grad_() for x in (fade, add, start)))


@pytest.mark.parametrize("training", [False, True])
def test_windows_with_carried_state_are_one_long_pass(training: bool) -> None:
    """Traps 23 and 28: chunk by chunk equals all at once, of any chunk's length, place by place too."""
    network = built().train(training)
    rows = rows_of([drawn(20)], [drawn(20, 1)])
    whole, _ = network.encode(rows)
    for cuts in ([0, 1, 7, 20], list(range(21))):
        state, parts = None, []
        for begin, end in itertools.pairwise(cuts):
            going = torch.tensor([begin > 0] * 2)
            hidden, state = network.encode(part(rows, begin, end), None, state, going)
            parts.append(hidden)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-10)


def test_the_state_is_that_of_the_last_real_place() -> None:
    """Trap 23: padded rows, a row of nothing but padding, and rows shorter than the convolution reaches."""
    network = built(convolution=4)
    before = [drawn(3, row) for row in range(4)]
    _, first = network.encode(rows_of(*([ids] for ids in before)))
    documents = [drawn(length, 5) for length in (6, 2, 4, 0)]
    going = torch.tensor([True] * 4)
    _, after = network.encode(rows_of(*([ids] for ids in documents)), None, first, going)
    for row, ids in enumerate(documents):
        _, wanted = network.encode(rows_of([before[row] + ids]))
        for found, block in zip(after, wanted, strict=True):
            torch.testing.assert_close(found.inputs[row], block.inputs[0], rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(found.memory[row], block.memory[0], rtol=1e-9, atol=1e-10)


def test_carrying_under_bfloat16() -> None:
    """The state is kept in float32, and has no history."""
    network = built().float().train()
    state: Any = None
    for window in range(3):
        rows = rows_of([drawn(4, window)], [drawn(3, window)])
        batch = asked_all(rows, continues=torch.tensor([window > 0] * 2))
        with torch.autocast("cpu", torch.bfloat16):
            answer = network(batch, state)
        state = answer.state
        for block in state:
            assert isinstance(block, State) and block.memory.dtype == torch.float32
            assert not block.memory.requires_grad and not block.inputs.requires_grad
        answer.sums["tokens"].backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)

"""Recurrent networks: state across windows, where it ends, and where it begins anew."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from telos.config import read
from telos.errors import ConfigError
from telos.models._base import Network
from telos.models.gru import Gru
from tests.models.small import RECURRENT, asked_all, built, drawn, part, rows_of

parametrized = pytest.mark.parametrize("name", RECURRENT)


def oracle(network: Network, ids: list[int]) -> Tensor:
    """Output (T, width) of the last layer for one document, in float64, from the textbook's equations."""
    model: Gru = network.model  # type: ignore[assignment]
    gates = 3 if model.cell == "gru" else 4
    w = {name: value.detach().double() for name, value in network.named_parameters()}
    x = w["embedding.weight"][ids]
    for layer in range(model.depth):
        inward, across = w[f"layers.{layer}.weight_ih_l0"], w[f"layers.{layer}.weight_hh_l0"]
        bias, bias_across = w[f"layers.{layer}.bias_ih_l0"], w[f"layers.{layer}.bias_hh_l0"]
        hidden = cell = torch.zeros(model.width, dtype=torch.float64)
        said = []
        for token in x:
            a, b = (
                (inward @ token + bias).chunk(gates),
                (across @ hidden + bias_across).chunk(gates),
            )
            if model.cell == "gru":
                reset, update = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
                hidden = (1 - update) * torch.tanh(a[2] + reset * b[2]) + update * hidden
            else:
                enter, forget, leave = (torch.sigmoid(a[i] + b[i]) for i in (0, 1, 3))
                cell = forget * cell + enter * torch.tanh(a[2] + b[2])
                hidden = leave * torch.tanh(cell)
            said.append(hidden)
        x = torch.stack(said)
    return x @ w["projection.weight"].T if model.projected else x


@parametrized
def test_the_hidden_states_are_those_of_the_equations(name: str) -> None:
    network = built(name).double()
    document = drawn(9)
    hidden, _ = network.encode(rows_of([document]))
    torch.testing.assert_close(hidden[0], oracle(network, document), rtol=1e-10, atol=1e-12)


@parametrized
def test_the_future_is_not_seen(name: str) -> None:
    """Trap 28: and neither does a row see the rows beside it."""
    network = built(name).eval()
    document, beside = drawn(16), drawn(16, 1)
    changed = [*document[:9], document[9] % 49 + 1, *document[10:]]
    before, _ = network.encode(rows_of([document], [beside]))
    after, _ = network.encode(rows_of([changed], [beside]))
    assert torch.equal(before[0, :9], after[0, :9])
    assert not torch.equal(before[0, 9:], after[0, 9:])
    assert torch.equal(before[1], after[1])


@parametrized
@pytest.mark.parametrize("training", [False, True])
def test_windows_with_carried_state_are_one_long_pass(name: str, training: bool) -> None:
    """Traps 23 and 28: chunk by chunk equals all at once, of any chunk's length, in evaluation and in
    training."""
    network = built(name).train(training)
    rows = rows_of([drawn(20)], [drawn(20, 1)])
    whole, _ = network.encode(rows)
    state, parts = None, []
    for begin, end in ((0, 1), (1, 7), (7, 20)):
        hidden, state = network.encode(part(rows, begin, end), None, state, torch.tensor([begin > 0] * 2))
        parts.append(hidden)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-6, rtol=1e-5)


@parametrized
def test_carried_state_has_no_history(name: str) -> None:
    """Trap 28: no gradient goes beyond a window, and the graph is as large after 50 windows as after one."""
    network = built(name)
    sizes = []
    state = None
    for window in range(50):
        continues = torch.tensor([window > 0])
        answer = network(asked_all(rows_of([drawn(4, window)]), continues=continues), state)
        state = answer.state
        assert all(part.grad_fn is None and not part.requires_grad for part in state.values())
        sizes.append(graph_size(answer.sums["tokens"]))
        answer.sums["tokens"].backward()
    assert len(set(sizes[1:])) == 1


def graph_size(root: Tensor) -> int:
    seen: set[Any] = set()
    front = [root.grad_fn]
    while front:
        node = front.pop()
        if node is not None and node not in seen:
            seen.add(node)
            front += [before for before, _ in node.next_functions]
    return len(seen)


@parametrized
def test_a_row_that_starts_anew_forgets_and_no_other_does(name: str) -> None:
    """Trap 28: by row, not by batch, and not the row of another layer."""
    network = built(name).eval()
    _, state = network.encode(rows_of([drawn(5)], [drawn(5, 1)], [drawn(5, 2)]))
    rows = rows_of(*([drawn(6, row)] for row in range(3)))
    mixed, _ = network.encode(rows, None, state, torch.tensor([True, False, True]))
    fresh, _ = network.encode(rows)
    carried, _ = network.encode(rows, None, state)
    assert torch.equal(mixed[1], fresh[1])
    assert torch.equal(mixed[[0, 2]], carried[[0, 2]])
    assert not torch.equal(mixed[0], fresh[0]) and not torch.equal(mixed[2], fresh[2])


@parametrized
@pytest.mark.parametrize("training", [False, True])
def test_the_state_is_that_of_the_last_real_place(name: str, training: bool) -> None:
    """Trap 23: padded rows, and a row of nothing but padding, whose state stays as it was."""
    network = built(name).train(training)
    lengths, going = [6, 2, 4, 0], torch.tensor([True] * 4)
    before = [drawn(3, row) for row in range(4)]
    _, first = network.encode(rows_of(*([ids] for ids in before)), None, None, ~going)
    documents = [drawn(length, 5) for length in lengths]
    hidden, state = network.encode(rows_of(*([document] for document in documents)), None, first, going)
    for row, document in enumerate(documents):
        alone, wanted = network.encode(rows_of([before[row] + document]), None, None, torch.tensor([False]))
        for key, value in wanted.items():
            torch.testing.assert_close(state[key][row], value[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(hidden[row, : len(document)], alone[0, 3:], atol=1e-6, rtol=1e-5)


@parametrized
def test_training_keeps_no_state_that_nobody_asks_for(name: str) -> None:
    network = built(name)
    assert network(asked_all(rows_of([drawn(4)]))).state is None
    assert network(asked_all(rows_of([drawn(4)]), continues=torch.tensor([False]))).state is not None


@parametrized
def test_carrying_under_bfloat16(name: str) -> None:
    network = built(name, dropout={"weights": 0.2, "words": 0.1})
    state = None
    for window in range(3):
        batch = asked_all(
            rows_of([drawn(4, window)], [drawn(3, window)]), continues=torch.tensor([window > 0] * 2)
        )
        with torch.autocast("cpu", torch.bfloat16):
            answer = network(batch, state)
        state = answer.state
        answer.sums["tokens"].backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tied": True, "embedding": 30, "projection": 20}, "projection must be 0 or"),
        ({"dropout": {"between": 0.1}}, "dropout.between does nothing"),
        ({"cell": "rnn"}, "cell"),
        ({"dropout": {"inputs": 0.1}}, "dropout.inputs"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        read(Gru, wrong)

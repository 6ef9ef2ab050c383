"""The GRU layer with its gradients written out, against PyTorch's."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from telos import switches
from telos.errors import ConfigError
from telos.models import _fused
from tests.models.small import asked_all, built, drawn, rows_of

Found = tuple[Tensor, tuple[Tensor, ...]]


def layer(kind: torch.dtype, rows: int = 5, places: int = 13, inward: int = 7, width: int = 11) -> Any:
    """x, the first state, the kernel, and what comes from above; x with room between its rows."""
    torch.manual_seed(3)
    gru = nn.GRU(inward, width, batch_first=True).to(kind)
    x = torch.randn(rows, places, 2 * inward, dtype=kind)[..., ::2].requires_grad_()
    start = torch.randn(rows, width, dtype=kind, requires_grad=True)
    return x, start, list(gru.parameters()), torch.randn(rows, places, width, dtype=kind)


def found(ours: bool, x: Tensor, start: Tensor, kernel: list[Tensor], above: Tensor) -> Found:
    """States, and the gradients by x, the first state, W, U, b and c."""
    if ours:
        out = _fused.gru(x, start, kernel)
    else:
        out = torch.gru(x, start[None], kernel, True, 1, 0.0, True, False, True)[0]
    return out.detach(), torch.autograd.grad(out, (x, start, *kernel), above.to(out.dtype))


def furthest(ours: Found, theirs: Found) -> float:
    """The largest difference, as a share of the largest number of each."""
    pairs = zip((ours[0], *ours[1]), (theirs[0], *theirs[1]), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("block", [1, 200, 1 << 18])
@pytest.mark.parametrize(("kind", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_states_and_gradients_are_pytorchs(
    monkeypatch: pytest.MonkeyPatch, kind: torch.dtype, near: float, block: int
) -> None:
    """Whether blocks are of one place, of several with some left over, or of all."""
    monkeypatch.setattr(_fused, "BLOCK", block)
    given = layer(kind)
    assert furthest(found(True, *given), found(False, *given)) < near


@pytest.mark.parametrize("places", [2, 20])
def test_a_matrix_laid_out_for_it_gives_the_same(monkeypatch: pytest.MonkeyPatch, places: int) -> None:
    monkeypatch.setattr(_fused, "SMALL", 0)
    given = layer(torch.float32, places=places)
    assert furthest(found(True, *given), found(False, *given)) < 1e-5


def test_the_gradients_are_those_of_differences() -> None:
    x, start, kernel, _ = layer(torch.float64, rows=2, places=3, inward=2, width=3)
    assert torch.autograd.gradcheck(lambda a, b, *c: _fused.gru(a, b, list(c)), (x, start, *kernel))


@pytest.mark.parametrize("small", [0, 1 << 20])
def test_bfloat16_is_as_near_as_its_digits(monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    """States stay in float32, and errors are a share of what PyTorch's own layer makes in bfloat16."""
    monkeypatch.setattr(_fused, "SMALL", small)
    given = layer(torch.float32, rows=8, places=30, inward=24, width=40)
    exact = found(False, *given)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = found(True, *given), found(False, *given)
    assert ours[0].dtype == torch.float32
    assert all(gradient.dtype == torch.float32 for gradient in ours[1])
    assert furthest(ours, exact) < 0.02
    assert furthest(ours, exact) < furthest(theirs, exact)


def test_a_gradient_that_nobody_asks_for_is_not_needed() -> None:
    x, start, kernel, above = layer(torch.float64)
    out = _fused.gru(x.detach(), start.detach(), kernel)
    wanted = found(False, x, start, kernel, above)[1][2:]
    for ours, theirs in zip(torch.autograd.grad(out, kernel, above), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_graph_can_be_gone_through_twice() -> None:
    """The backward pass leaves what it needs as it is."""
    x, start, kernel, above = layer(torch.float64)
    out = _fused.gru(x, start, kernel)
    first = torch.autograd.grad(out, (x, *kernel), above, retain_graph=True)
    for once, again in zip(first, torch.autograd.grad(out, (x, *kernel), above), strict=True):
        assert torch.equal(once, again)


def gradients(dropout: dict[str, float] | None = None) -> list[Tensor]:
    network = built("gru", dropout=dropout or {}).double().train()
    torch.manual_seed(0)
    network(asked_all(rows_of([drawn(9)], [drawn(4)]))).sums["tokens"].backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("dropout", [{}, {"weights": 0.5, "input": 0.2}])
def test_a_network_learns_the_same_without_it(
    monkeypatch: pytest.MonkeyPatch, dropout: dict[str, float]
) -> None:
    calls = []
    right = _fused.gru
    monkeypatch.setattr(_fused, "gru", lambda *given: calls.append(1) or right(*given))
    fast = gradients(dropout)
    assert len(calls) == 2
    with switches.without("recurrent"):
        plain = gradients(dropout)
    assert len(calls) == 2
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_one_place_and_other_types_are_pytorchs() -> None:
    x, _, kernel, _ = layer(torch.float32)
    assert _fused.serves(x, kernel[1])
    assert not _fused.serves(x[:, :1], kernel[1])
    assert not _fused.serves(x, kernel[1].bfloat16())
    assert not _fused.serves(x.to("meta"), kernel[1].to("meta"))


def test_what_cannot_be_turned_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "_off", set())
    with pytest.raises(ConfigError, match="TELOS_WITHOUT: there is no 'recurent' to turn off"):
        switches.turn_off("recurent")
    assert switches.on("recurrent")
    switches.turn_off(" recurrent, ")
    assert not switches.on("recurrent")
    with switches.without("recurrent"):
        pass
    assert not switches.on("recurrent")


@pytest.mark.parametrize(("small", "expected"), [(1 << 20, 1), (0, 2)])
def test_small_places_are_gone_through_by_one_thread(
    monkeypatch: pytest.MonkeyPatch, small: int, expected: int
) -> None:
    """Forward and backward; afterwards there are as many as before."""
    monkeypatch.setattr(_fused, "SMALL", small)
    used = []
    call = _fused._Product.__call__

    def watched(self: Any, x: Tensor) -> Tensor:
        used.append(torch.get_num_threads())
        return call(self, x)

    monkeypatch.setattr(_fused._Product, "__call__", watched)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        layer = nn.GRU(4, 8, batch_first=True)
        kernel = [getattr(layer, name) for name in layer._all_weights[0]]
        _fused.gru(torch.randn(3, 5, 4), torch.zeros(3, 8), kernel).sum().backward()
        assert used == [expected] * 10 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

"""Dropout by draws of our own: what stays, how large, gradients, and attention with it."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from telos import switches
from telos.models import _attention
from telos.models._attention import added, attention
from telos.models._dropout import PIECE, drawn, dropout, relu_dropout


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.85])
def test_a_share_is_dropped_and_the_rest_made_larger(share: float, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    count = 200_001
    out = dropout(torch.ones(count, dtype=kind), share)
    zeros = (out == 0).double().mean().item()
    assert zeros == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)
    (value,) = out[out != 0].unique().tolist()
    assert value == pytest.approx(1 / (1 - share), rel=1e-2 if kind == torch.bfloat16 else 1e-4)


def test_no_place_is_like_its_neighbour() -> None:
    """Four numbers come out of one draw: none of them tells of another, nor of the next draw."""
    torch.manual_seed(1)
    stays = drawn(torch.empty(100_000, 8), 0.5).places.double() - 0.5
    together = (stays.T @ stays / len(stays)) * 4
    torch.testing.assert_close(together, torch.eye(8).double(), rtol=0, atol=0.02)


def test_the_scale_is_that_of_the_share_that_is_drawn() -> None:
    """The mean stays, even of shares that are no multiple of what is drawn."""
    kept = drawn(torch.empty(1), 0.3 * 2**-16 + 0.25)
    assert kept.scale == pytest.approx(4 / 3, rel=1e-12)
    assert drawn(torch.empty(1), 0.9999999).scale == 2**16, "something always stays"


def test_what_is_drawn_follows_the_seed() -> None:
    x = torch.randn(5, 7)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), first) and not torch.equal(first, second)


def test_gradients_go_where_the_numbers_went() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 11, dtype=torch.float64, requires_grad=True)
    out = dropout(x, 0.4)
    up = torch.randn_like(out)
    out.backward(up)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, up * out.detach() / x.detach())
    assert 0 < int((x.grad == 0).sum()) < x.numel()


def test_a_large_tensor_is_drawn_in_parts_that_differ_by_as_many_threads_as_there_are() -> None:
    """What is drawn is of the seed alone, and no thread draws what another does."""
    x, before = torch.empty(3, PIECE - 5), torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.manual_seed(4)
        torch.set_num_threads(threads)
        found.append(drawn(x, 0.5).places.flatten())
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    first, second = found[0][:PIECE].bool(), found[0][PIECE : 2 * PIECE].bool()
    assert (first == second).double().mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_behind_a_relu_is_the_one_after_the_other(kind: torch.dtype) -> None:
    """Values and gradients, to the bit, by the same draws."""
    above, found = torch.randn(31, 17).to(kind), []
    for way in (relu_dropout, lambda x, share: dropout(functional.relu(x), share)):
        x = torch.linspace(-3, 3, 31 * 17).view(31, 17).to(kind).requires_grad_()
        torch.manual_seed(2)
        out = way(x, 0.3)
        out.backward(above)
        found.append((out.detach(), x.grad))
    assert all(torch.equal(*both) for both in zip(*found, strict=True))
    x = torch.randn(3, 4)
    assert torch.equal(relu_dropout(x, 0.5, training=False), x.relu())


def test_nothing_is_dropped_at_rest() -> None:
    x = torch.randn(3, 4)
    assert dropout(x, 0.5, training=False) is x and dropout(x, 0.0) is x
    assert dropout(torch.empty(0, 4), 0.5).shape == (0, 4)


def test_it_can_be_turned_off() -> None:
    x = torch.randn(50, 50)
    with switches.without("dropout"):
        torch.manual_seed(0)
        plain = dropout(x, 0.3)
    torch.manual_seed(0)
    assert torch.equal(plain, functional.dropout(x, 0.3))


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, share: float) -> Tensor:
    """The formula, with the draw that attention makes."""
    logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(logits.shape[2:], dtype=torch.bool).tril()
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    said = logits.softmax(3)
    kept = drawn(said, share)
    return (said * kept.places * kept.scale) @ v


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("sight", ["causal", "mask", "bias", "all"])
@pytest.mark.parametrize("compiled", [False, True])
def test_attention_with_dropout_is_the_formula(
    sight: str, kind: torch.dtype, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients; the probabilities that are dropped are so in both directions. Compiled code has
    a backward pass of its own, which is gone through here as it is written."""
    monkeypatch.setattr(_attention.compiler, "is_compiling", lambda: compiled)
    draw = torch.Generator().manual_seed(5)
    parts = [torch.randn(2, 3, 9, 8, generator=draw, dtype=kind).requires_grad_() for _ in range(3)]
    mask = None
    if sight == "mask":
        mask = torch.rand(2, 1, 9, 9, generator=draw) < 0.7
        mask |= torch.eye(9, dtype=torch.bool)
    if sight == "bias":
        mask = torch.randn(1, 3, 9, 9, generator=draw, dtype=kind).requires_grad_()
    leaves = [*parts, *([mask] if mask is not None and mask.requires_grad else [])]
    up = torch.randn(2, 3, 9, 8, generator=draw, dtype=kind)
    found = []
    for way in ("ours", "plain"):
        torch.manual_seed(11)
        if way == "ours":
            put = added(mask, kind) if sight == "mask" and mask is not None else mask
            out = attention(*parts, put, causal=sight == "causal", dropout=0.3)
        else:
            out = _plain(*parts, mask, sight == "causal", 0.3)
        found.append([out.detach(), *torch.autograd.grad(out, leaves, up)])
    for mine, true in zip(*found, strict=True):
        torch.testing.assert_close(mine, true)

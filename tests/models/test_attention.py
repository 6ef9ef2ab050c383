"""Attention in bfloat16 on a CPU, whose probabilities are kept: equal to the formula in float64."""

import pytest
import torch
from torch import Tensor

from telos import switches
from telos.models import _attention
from telos.models._attention import added, attention

ROWS, HEADS, PLACES, OTHERS, WIDTH = 3, 4, 33, 47, 16


def drawn(kind: torch.dtype) -> list[Tensor]:
    """Queries, keys, values and a gradient, the same in every type up to rounding."""
    torch.manual_seed(0)
    shapes = [PLACES, OTHERS, OTHERS, PLACES]
    rounded = [torch.randn(ROWS, places, HEADS, WIDTH).bfloat16() for places in shapes]
    return [each.to(kind).transpose(1, 2) for each in rounded]


def masks(what: str) -> Tensor | None:
    torch.manual_seed(1)
    seen = torch.rand(ROWS, 1, PLACES, OTHERS) < 0.5
    seen[:, :, :, 0] = True
    bias = torch.randn(ROWS, HEADS, PLACES, OTHERS).bfloat16().masked_fill(~seen, -torch.inf)
    return {"none": None, "seen": seen, "bias": bias}[what]


def formula(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    logits = queries @ keys.transpose(2, 3) * scale
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    weights = (logits - logits.amax(3, keepdim=True)).exp()
    found: Tensor = weights / weights.sum(3, keepdim=True) @ values
    return found


@pytest.mark.parametrize("scale", [None, 1.0])
@pytest.mark.parametrize("what", ["none", "seen", "bias"])
def test_kept_probabilities_give_the_formulas_values_and_gradients(what: str, scale: float | None) -> None:
    mask = masks(what)
    rounded = [each.requires_grad_() for each in drawn(torch.bfloat16)]
    exact = [each.requires_grad_() for each in drawn(torch.float64)]
    near, far = mask, mask
    if mask is not None and what == "seen":
        near = added(mask, torch.bfloat16)
    if mask is not None and what == "bias":
        near, far = mask.clone().requires_grad_(), mask.double().requires_grad_()
    found = attention(rounded[0], rounded[1], rounded[2], near, scale=scale)
    wanted = formula(exact[0], exact[1], exact[2], far, WIDTH**-0.5 if scale is None else scale)
    assert found.dtype == torch.bfloat16 and "_Kept" in type(found.grad_fn).__name__
    found.backward(rounded[3].detach())
    wanted.backward(exact[3].detach())
    pairs = [(found, wanted), *((a.grad, b.grad) for a, b in zip(rounded[:3], exact[:3], strict=True))]
    if what == "bias":
        pairs.append((near.grad, far.grad))  # type: ignore[union-attr]
    for ours, theirs in pairs:
        assert ours is not None and theirs is not None
        error = (ours.double() - theirs).abs().max() / theirs.abs().max()
        assert error < 0.02, error  # bfloat16 has 8 bits: 0.004 for each rounding


def test_causal_is_the_mask_of_what_came_before() -> None:
    queries, _, _, up = drawn(torch.bfloat16)
    gradients = []
    before = torch.ones(PLACES, PLACES, dtype=torch.bool).tril().expand(ROWS, 1, -1, -1)
    for mask in (None, added(before, torch.bfloat16)):
        given = [queries.detach().clone().requires_grad_() for _ in range(3)]
        attention(given[0], given[1], given[2], mask, causal=mask is None).backward(up)
        gradients.append([each.grad for each in given])
    for one, other in zip(*gradients, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one, other)


def test_all_else_is_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32, long rows, too many of them, shared heads, plain dropout, and what needs no gradient."""

    def never(*given: object) -> Tensor:
        raise AssertionError("probabilities were kept")

    monkeypatch.setattr(_attention, "_kept", never)
    monkeypatch.setattr(_attention, "LONGEST", OTHERS)
    queries, keys, values, _ = drawn(torch.bfloat16)
    wide = [each.float().requires_grad_() for each in (queries, keys, values)]
    assert attention(wide[0], wide[1], wide[2]).dtype == torch.float32
    attention(queries, keys, values)
    queries.requires_grad_()
    with switches.without("dropout"):
        attention(queries, keys, values, dropout=0.5)
    attention(queries, keys[:, :2], values[:, :2])
    monkeypatch.setattr(_attention, "LONGEST", OTHERS - 1)
    attention(queries, keys, values)
    monkeypatch.setattr(_attention, "LONGEST", OTHERS)
    monkeypatch.setattr(_attention, "MOST", ROWS * HEADS * PLACES * OTHERS - 1)
    attention(queries, keys, values)
    monkeypatch.setattr(_attention, "MOST", ROWS * HEADS * PLACES * OTHERS)
    with pytest.raises(AssertionError, match="kept"):
        attention(queries, keys, values)

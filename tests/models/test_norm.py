"""Root mean square norms by passes of our own, beside PyTorch's layer."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from telos import switches
from telos.models._norm import RmsNorm


def both(kind: torch.dtype, width: int = 24) -> tuple[RmsNorm, nn.RMSNorm]:
    """Our layer and PyTorch's, with the same weight."""
    torch.manual_seed(0)
    ours, theirs = RmsNorm(width, eps=1e-5, dtype=kind), nn.RMSNorm(width, eps=1e-5, dtype=kind)
    nn.init.normal_(theirs.weight, 1.0, 0.5)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def said(layer: nn.Module, x: Tensor, above: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a layer says of `x`, and its gradients by `x` and its weight."""
    x = x.clone().requires_grad_()
    out = layer(x)
    out.backward(above)
    assert x.grad is not None and isinstance(layer.weight, Tensor) and layer.weight.grad is not None
    return out.detach(), x.grad, layer.weight.grad


@pytest.mark.parametrize(("kind", "close"), [(torch.float64, 1e-12), (torch.float32, 3e-6)])
@pytest.mark.parametrize("shape", [(24,), (5, 24), (3, 7, 24), (2, 3, 5, 24), (0, 24)])
def test_it_is_pytorchs(kind: torch.dtype, close: float, shape: tuple[int, ...]) -> None:
    """Rows whose mean is far from nought: what layer normalisation would take off is not taken off."""
    ours, theirs = both(kind)
    x, above = torch.randn(shape, dtype=kind) + 2, torch.randn(shape, dtype=kind) + 1
    for mine, other in zip(said(ours, x, above), said(theirs, x, above), strict=True):
        assert mine.dtype == other.dtype
        torch.testing.assert_close(mine, other, atol=close * 24, rtol=close)


def test_numbers_that_do_not_lie_one_after_the_other() -> None:
    ours, theirs = both(torch.float64)
    x, above = (torch.randn(24, 6, dtype=torch.float64).T for _ in range(2))
    for mine, other in zip(said(ours, x, above), said(theirs, x, above), strict=True):
        torch.testing.assert_close(mine, other)


def test_gradcheck() -> None:
    ours, _ = both(torch.float64, 5)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(ours, {"weight": w}, x), (x, ours.weight)
    )


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = both(torch.float32)
    x, called = torch.randn(3, 24), []
    plain = functional.rms_norm
    monkeypatch.setattr(functional, "rms_norm", lambda *given: called.append(1) or plain(*given))
    ours(x)
    assert not called
    with switches.without("norms"):
        plainly = ours(x)
    assert called and torch.equal(plainly, theirs(x))


def test_other_types_are_pytorchs() -> None:
    ours, theirs = both(torch.bfloat16)
    x = torch.randn(3, 24, dtype=torch.bfloat16)
    assert torch.equal(ours(x), theirs(x)) and ours(x).dtype == theirs(x).dtype

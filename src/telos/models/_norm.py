"""Root mean square normalisation: x / √(mean x² + ε) ⊙ w, over the last dimension (Zhang and Sennrich, 2019).

PyTorch has no kernel of its own for its gradients on a CPU, and goes through memory a dozen times. But with
r = 1 / √(mean x² + ε)

    ∂x = r (∂y ⊙ w − x r · mean(∂y ⊙ x r ⊙ w))        ∂w = Σ ∂y ⊙ x r

are what the kernel of layer normalisation makes of a mean of 0 and a scale of r, but for the mean of ∂y ⊙ w
times r, which that takes off and is put back here.
"""

from typing import Any

import torch
from torch import Tensor, compiler, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from telos import switches

__all__ = ["RmsNorm"]


class RmsNorm(nn.RMSNorm):
    """PyTorch's layer; on a CPU, while no graph is traced, with gradients by fewer passes, which are turned
    off as `norms`."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` (…, width); the same shape and type."""
        exact = x.dtype == self.weight.dtype and x.dtype in (torch.float32, torch.float64)
        if compiler.is_compiling() or not (exact and x.device.type == "cpu" and switches.on("norms")):
            plain: Tensor = functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)
            return plain
        if not torch.is_grad_enabled():  # what keeps things for gradients takes half the time of a short row
            return _scaled(x, self.weight, self.eps)[0]
        out: Tensor = _apply(x, self.weight, self.eps)
        return out


def _scaled(x: Tensor, weight: Tensor, eps: Any) -> tuple[Tensor, Tensor]:
    """The layer's answer, and r."""
    scale: Tensor = x.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    return (x * scale).mul_(weight), scale


class _Norm(torch.autograd.Function):
    """y (…, width) of x (…, width) and the weight (width,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out, scale = _scaled(x, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        shape, none, wanted = [len(weight)], torch.zeros_like(scale), [True, True, False]
        by_x, by_weight, _ = torch.ops.aten.native_layer_norm_backward(
            upstream, x, shape, none, scale, weight, None, wanted
        )
        taken = (upstream @ weight).div_(len(weight)).unsqueeze(-1).mul_(scale)
        return by_x.add_(taken), by_weight, None


_apply: Any = _Norm.apply

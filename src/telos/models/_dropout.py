"""Dropout (Srivastava et al., 2014): a share of the numbers becomes 0, the others 1 / (1 − share) as large.

On a CPU PyTorch draws one number after the other, at 5 to 6 ns each, whatever the number of threads. Here
four of them come out of one draw of 64 bits, as integers of 16; so a share is a multiple of 2⁻¹⁶, and what is
kept is scaled by that very share. Draws are of PyTorch's generator, as ever: the same seed, the same draws.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from telos import switches

__all__ = ["Dropout", "Kept", "drawn", "draws_here", "dropout"]

STEPS = 1 << 16
"""Values of what is drawn for a number."""


class Kept:
    """Which numbers of a tensor stay."""

    def __init__(self, places: Tensor, scale: float) -> None:
        self.places, self.scale = places, scale

    def of(self, x: Tensor) -> Tensor:
        """`x` of the same shape: 0 where it does not stay, else scaled. Gradients go the same way."""
        out: Tensor = torch.ops.aten.native_dropout_backward(x, self.places, self.scale)
        return out


def draws_here(x: Tensor) -> bool:
    """Whether the numbers of `x` are dropped by draws of our own: on a CPU, unless it is turned off as
    `dropout`."""
    return x.device.type == "cpu" and switches.on("dropout")


def drawn(like: Tensor, share: float) -> Kept:
    """What stays of a tensor like this one (any shape), where a share of it is dropped."""
    count = like.numel()
    draws = torch.randint(-(1 << 63), (1 << 63) - 1, (-(-count // 4),), dtype=torch.int64)
    dropped = min(round(share * STEPS), STEPS - 1)
    places = draws.view(torch.int16)[:count].view(like.shape) >= dropped - STEPS // 2
    return Kept(places, STEPS / (STEPS - dropped))


def dropout(x: Tensor, share: float, training: bool = True) -> Tensor:
    """`x` with a share of its numbers dropped in training."""
    if not (training and share):
        return x
    if not draws_here(x):
        return functional.dropout(x, share)
    out: Tensor = _apply(x, share)
    return out


class Dropout(nn.Dropout):
    """PyTorch's layer with these draws."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


class _Dropout(torch.autograd.Function):
    """Of `x` and a share above 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        kept = drawn(x, share)
        ctx.save_for_backward(kept.places)
        ctx.scale = kept.scale
        return kept.of(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return Kept(places, ctx.scale).of(upstream), None


_apply: Any = _Dropout.apply

"""Dropout (Srivastava et al., 2014): a share of the numbers becomes 0, the others 1 / (1 − share) as large.

On a CPU PyTorch draws one number after the other, at 5 to 6 ns each, whatever the number of threads. Here
PyTorch's generator draws a seed, and NumPy's SFC64 (Doty-Humphrey, 2010) all numbers of a tensor from it,
four out of 64 bits, as integers of 16: 0.7 ns each. So a share is a multiple of 2⁻¹⁶, and what is kept is
scaled by that very share; and the same seed of PyTorch's makes the same draws, as ever.

What stays is one operation to the compiler, and kept as 0 and 1 in a byte each. The compiler's code takes
integers of 16 bits, and booleans, one by one, and all that it fuses with them; bytes it takes 32 at a time,
and so do PyTorch's own operations.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from telos import switches

__all__ = ["Dropout", "Kept", "drawn", "draws_here", "dropout", "relu_dropout"]

STEPS = 1 << 16
"""Values of what is drawn for a number."""
PIECE = 1 << 19
"""Numbers that are drawn by one thread, from a seed of their own: 1 MiB, which a processor's cache holds."""


class Kept:
    """Which numbers of a tensor stay: 1, and the others 0, int8."""

    def __init__(self, places: Tensor, scale: float) -> None:
        self.places, self.scale = places, scale

    def of(self, x: Tensor) -> Tensor:
        """`x` of the same shape: 0 where it does not stay, else scaled. Gradients go the same way."""
        return (x * self.places.to(x.dtype)).mul_(self.scale)


def draws_here(x: Tensor) -> bool:
    """Whether the numbers of `x` are dropped by draws of our own: on a CPU, unless it is turned off as
    `dropout`."""
    return x.device.type == "cpu" and switches.on("dropout")


def drawn(like: Tensor, share: float) -> Kept:
    """What stays of a tensor like this one (any shape), where a share of it is dropped."""
    dropped = min(round(share * STEPS), STEPS - 1)
    seed = torch.randint((1 << 63) - 1, (1,), dtype=torch.int64)
    return Kept(_places(seed, like.shape, dropped), STEPS / (STEPS - dropped))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """For NumPy's work, which holds no lock."""
    return ThreadPoolExecutor(threads, "draws")


@torch.library.custom_op("telos::places_kept", mutates_args=(), device_types="cpu")
def _places(seed: Tensor, shape: Sequence[int], dropped: int) -> Tensor:
    """1 where a draw is none of the `dropped` lowest of `STEPS`, else 0: of this shape, int8, of nothing but
    the seed (1,)."""
    places = np.empty(math.prod(shape), dtype=np.bool_)
    first, lowest = int(seed.item()), np.int16(dropped - STEPS // 2)

    def fill(start: int) -> None:
        piece = places[start : start + PIECE]
        draws = np.random.SFC64([first, start // PIECE])
        numbers = draws.random_raw(-(-len(piece) // 4)).view(np.int16)
        np.greater_equal(numbers[: len(piece)], lowest, out=piece)

    starts, threads = range(0, len(places), PIECE), torch.get_num_threads()
    each = map if min(threads, len(starts)) <= 1 else _pool(threads).map
    list(each(fill, starts))
    return torch.from_numpy(places.view(np.int8)).view(shape)


@_places.register_fake
def _(seed: Tensor, shape: Sequence[int], dropped: int) -> Tensor:
    return seed.new_empty(shape, dtype=torch.int8)


def dropout(x: Tensor, share: float, training: bool = True) -> Tensor:
    """`x` with a share of its numbers dropped in training."""
    if not (training and share):
        return x
    if not draws_here(x):
        return functional.dropout(x, share)
    out: Tensor = _apply(x, share)
    return out


def relu_dropout(x: Tensor, share: float, training: bool = True) -> Tensor:
    """max(0, x) with a share of its numbers dropped in training. What is left says by itself where a gradient
    goes, so neither the draws nor the signs of `x` are kept for it."""
    if not (training and share and draws_here(x)):
        return dropout(functional.relu(x), share, training)
    out: Tensor = _apply_to_relu(x, share)
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


class _ReluDropout(torch.autograd.Function):
    """Of `x` and a share above 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        kept = drawn(x, share)
        out = kept.of(functional.relu(x))
        ctx.save_for_backward(out)
        ctx.scale = kept.scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        # by the sign, since a comparison would be made by the compiler going forward, and kept as booleans
        return (upstream * out.sign()).mul_(ctx.scale), None


_apply: Any = _Dropout.apply
_apply_to_relu: Any = _ReluDropout.apply

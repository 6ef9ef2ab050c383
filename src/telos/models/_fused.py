"""A layer of gated recurrent units on a CPU with its gradients written out (Cho et al., 2014; the reset gate
after the product, as cuDNN has it).

    r, z    σ(W x + b + U h + c)                        reset, update
    n       tanh(W x + b + r ⊙ m),  m = U h + c         what is new
    h′      n + z ⊙ (h − n)

PyTorch's own layer for a CPU multiplies place by place, and its backward pass adds up the gradients of the
weights place by place. Here W x is one product over all places, and so are the gradients of W, U and x: of
what has to wait for the place before, U h is left, and in the backward pass its transpose, by a matrix that
is laid out for that once. The slopes of the gates do not depend on what comes from above, so they are made
for many places at once:

    a = ∂h′/∂(W x + b) of n         (1 − z)(1 − n²)
    ∂h′/∂m                          a ⊙ r
    ∂h′/∂(…) of z                   (h − n) z (1 − z)
    ∂h′/∂(…) of r                   a ⊙ m ⊙ r (1 − r)

Under autocast products are in its type; states, gates and the gradients between places are in float32.

A product of a place that is small is over before a second thread has woken up: such places are gone through
by one thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, compiler
from torch.autograd.function import once_differentiable
from torch.nn import functional

from telos import switches

__all__ = ["gru", "serves"]

BLOCK = 1 << 18
"""Numbers of a gate worked on at once where places need not wait: in float32 1 MiB, which a cache holds."""
SMALL = 1 << 20
"""Multiplications of a place's product up to which PyTorch's own, in float32, is the fastest."""
FEW = 8
"""Places for which it does not pay to lay out a matrix."""


def serves(x: Tensor, across: Tensor) -> bool:
    """Whether `gru` is to read x (B, T, inward) with that U: several places, on a CPU, while no graph is
    traced. It is turned off as `recurrent`."""
    exact = across.dtype in (torch.float32, torch.float64)
    here = x.device.type == "cpu" and x.shape[1] > 1 and not compiler.is_compiling()
    return here and exact and switches.on("recurrent")


def gru(x: Tensor, start: Tensor, kernel: list[Tensor]) -> Tensor:
    """States (B, T, width) of a layer that reads x (B, T, inward), from `start` (B, width), in the type of U.

    Differentiable once, in all arguments. `kernel` is W (3 · width, inward), U (3 · width, width), b and c
    (3 · width,), the rows for r before those for z and n.
    """
    product = kind = kernel[1].dtype
    if kind == torch.float32 and torch.is_autocast_enabled("cpu"):
        product = torch.get_autocast_dtype("cpu")
    out: Tensor = _apply(x.transpose(0, 1), start.to(kind), *kernel, product)
    return out.transpose(0, 1)


class _Gru(torch.autograd.Function):
    """States (T, B, width) of x (T, B, inward)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        start: Tensor,
        inward: Tensor,
        across: Tensor,
        bias: Tensor,
        bias_across: Tensor,
        product: torch.dtype,
    ) -> Tensor:
        ctx.kind = x.dtype
        x = x.to(product).contiguous()
        with torch.autocast("cpu", enabled=False):
            run = _run_of(x, start, len(across) // 3)
            _read(run, x, inward.to(product), bias, bias_across)
            multiply = _Product(across, product, *x.shape[:2])
            with _threads(multiply):
                _step(run, multiply, bias_across)
        ctx.save_for_backward(x, inward, across, *run)
        return run.states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, inward, across, *kept = ctx.saved_tensors
        run = _Run(*kept)
        with torch.autocast("cpu", enabled=False):
            multiply = _Product(across.T, x.dtype, *x.shape[:2])
            with _threads(multiply):
                slopes = _step_back(run, multiply, upstream, x.dtype)
            rows = slopes.gates.flatten(0, 1).flatten(1).to(x.dtype)
            of_across = rows.T @ run.states[:-1].to(x.dtype).flatten(0, 1)
            rows[:, -across.shape[1] :] = slopes.new.flatten(0, 1)
            of_inward = rows.T @ x.flatten(0, 1)
            of_x = (rows @ inward.to(x.dtype)).view(x.shape).to(ctx.kind) if ctx.needs_input_grad[0] else None
        kind = across.dtype
        biases = slopes.bias, slopes.bias_across
        return of_x, slopes.start, of_inward.to(kind), of_across.to(kind), *biases, None


_apply: Any = _Gru.apply


class _Run(NamedTuple):
    """What the backward pass needs of the forward pass."""

    gates: Tensor
    """r and z, (T, B, 2, width)."""
    new: Tensor
    """n, (T, B, width)."""
    held: Tensor
    """m, (T, B, width)."""
    states: Tensor
    """The first and all others, (T + 1, B, width)."""


class _Slopes(NamedTuple):
    """Gradients by what the places added up."""

    gates: Tensor
    """By r's sum, z's sum and m, (T, B, 3, width)."""
    new: Tensor
    """By n's sum, (T, B, width)."""
    start: Tensor
    bias: Tensor
    bias_across: Tensor


class _Product:
    """x (B, K) → x · weightᵀ (B, N), for many x one after the other; the weight (N, K) is laid out once."""

    def __init__(self, weight: Tensor, kind: torch.dtype, places: int, rows: int) -> None:
        self.large = large = rows * weight.numel() > SMALL
        self.kind = kind if large else weight.dtype
        self.out = weight.new_empty(rows, len(weight))
        weight = weight.to(self.kind)
        self._packed = _packed(weight, rows) if large and places >= FEW else None
        self._turned = weight.T if self._packed is not None or places < FEW else weight.T.contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """The product in the type of the weight; the next one takes its place."""
        x = x.to(self.kind)
        if self._packed is not None:
            said = torch.ops.mkldnn._linear_pointwise.default(x, self._packed, None, "none", [], "")
            return self.out.copy_(said)
        if self.kind == self.out.dtype:
            return torch.mm(x, self._turned, out=self.out)
        return self.out.copy_(x @ self._turned)


@contextmanager
def _threads(multiply: _Product) -> Iterator[None]:
    """One where the product is small, else as many as before. Setting the number takes less than a
    microsecond."""
    before = torch.get_num_threads()
    if not multiply.large:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _packed(weight: Tensor, rows: int) -> Tensor | None:
    """The weight as oneDNN lays it out for that many rows; none where it cannot."""
    if not (torch._C._has_mkldnn and torch.backends.mkldnn.enabled):
        return None
    half = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if weight.dtype != torch.float32 and not half:
        return None
    laid: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return laid


def _blocks(run: _Run) -> list[slice]:
    """Places that are worked on together."""
    places, rows, width = run.new.shape
    size = max(1, BLOCK // max(1, rows * width))
    return [slice(begin, min(places, begin + size)) for begin in range(0, places, size)]


def _run_of(x: Tensor, start: Tensor, width: int) -> _Run:
    places, rows, _ = x.shape
    states = start.new_empty(places + 1, rows, width)
    states[0] = start
    gates = start.new_empty(places, rows, 2, width)
    return _Run(gates, start.new_empty(places, rows, width), start.new_empty(places, rows, width), states)


def _read(run: _Run, x: Tensor, inward: Tensor, bias: Tensor, bias_across: Tensor) -> None:
    """What all places add up without U h: for n twice that, because tanh(s) = 2 σ(2 s) − 1."""
    width = run.new.shape[2]
    both = (bias + bias_across)[: 2 * width]
    twice = 2 * bias[2 * width :]
    gates = run.gates.flatten(2)
    for block in _blocks(run):
        said = functional.linear(x[block], inward)
        torch.add(said[..., : 2 * width], both, out=gates[block])
        torch.add(twice, said[..., 2 * width :], alpha=2, out=run.new[block])


def _step(run: _Run, multiply: _Product, bias_across: Tensor) -> None:
    """Place by place."""
    width = run.new.shape[2]
    reset, update = run.gates.unbind(2)
    parts = (run.states[:-1], run.gates.flatten(2), reset, update, run.new, run.held, run.states[1:])
    bias, minus = bias_across[2 * width :], bias_across.new_tensor(-1.0)
    to_gates, to_held = multiply.out[:, : 2 * width], multiply.out[:, 2 * width :]
    for state, gates, r, z, n, m, after in zip(*(part.unbind() for part in parts), strict=True):
        multiply(state)
        gates.add_(to_gates).sigmoid_()
        torch.add(to_held, bias, out=m)
        n.addcmul_(r, m, value=2).sigmoid_()
        torch.add(minus, n, alpha=2, out=n)
        torch.lerp(n, state, z, out=after)


def _step_back(run: _Run, multiply: _Product, upstream: Tensor, product: torch.dtype) -> _Slopes:
    """Place by place, from the last to the first; `upstream` (T, B, width)."""
    above = torch.empty_like(run.states)
    above[0], above[1:] = 0, upstream
    places, rows, width = run.new.shape
    gates = torch.empty(places, rows, 3, width, dtype=multiply.kind)
    new = torch.empty(places, rows, width, dtype=product)
    bias_across, bias = above.new_zeros(2, 3, width)
    for block in reversed(_blocks(run)):
        own, of_gates = _gate_slopes(run, block)
        here = above[1:][block]
        parts = (here, here.unsqueeze(2), above[:-1][block], of_gates, run.gates[block, :, 1], gates[block])
        for up, up_gates, before, slope, z, out in zip(*(reversed(p.unbind()) for p in parts), strict=True):
            torch.mul(up_gates, slope, out=out)
            before.addcmul_(up, z).add_(multiply(out.flatten(1)))
        by_new = own.mul_(here)
        new[block] = by_new
        bias[2] += by_new.sum((0, 1))
        bias_across += gates[block].sum((0, 1), dtype=above.dtype)
    bias[:2] = bias_across[:2]
    return _Slopes(gates, new, above[0], bias.flatten(), bias_across.flatten())


def _gate_slopes(run: _Run, block: slice) -> tuple[Tensor, Tensor]:
    """a (t, B, width), and the slopes of h′ by r's sum, z's sum and m (t, B, 3, width)."""
    (r, z), n, m, before = run.gates[block].unbind(2), run.new[block], run.held[block], run.states[:-1][block]
    own = torch.ops.aten.tanh_backward(1 - z, n)
    slopes = torch.empty(*z.shape[:2], 3, z.shape[2], dtype=z.dtype)
    by_reset, by_update, by_held = slopes.unbind(2)
    torch.ops.aten.sigmoid_backward.grad_input(own * m, r, grad_input=by_reset)
    torch.ops.aten.sigmoid_backward.grad_input(before - n, z, grad_input=by_update)
    torch.mul(own, r, out=by_held)
    return own, slopes

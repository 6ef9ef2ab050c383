"""Muon: matrices move by their momentum made orthogonal (Jordan et al., 2024); all else by AdamW.

    m ← momentum · m + gradient,    U Σ Vᵀ = gradient + momentum · m
    W ← W − rate · (decay · W + 0.2 · √max(rows, columns) · U Vᵀ)

U Vᵀ is found by five steps of Newton and Schulz, in bfloat16 where the hardware multiplies in it and else in
float32, all matrices of one shape at once. (`torch.optim.Muon` does it in bfloat16 everywhere, one by one.)
The factor gives an update the size that one of AdamW has, so that both go at one rate (Liu et al., 2025).
Embeddings, heads, vectors, and what has more than two dimensions (experts) are AdamW's.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, final

import torch
from pydantic import Field

from telos.config import Lax
from telos.optim._base import Optimizer, fused
from telos.processor import multiplies_bfloat16

__all__ = ["Muon", "orthogonal"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, x³ and x⁵ in a step of Newton and Schulz: steep at 0, and near 1 after five steps."""
STEPS = 5
AT_ONCE = 2**24
"""Numbers of one shape that are turned together: larger matrices gain nothing by it."""


@final
class Muon(Optimizer):
    """Orthogonal steps for matrices, AdamW for the rest, at one rate."""

    momentum: float = Field(0.95, ge=0, lt=1)
    """Memory of a matrix's gradient."""
    betas: Annotated[tuple[float, float], Lax] = (0.9, 0.95)
    """AdamW's memory of the gradient's mean and of its square's mean."""
    epsilon: float = Field(1e-8, gt=0)
    """Keeps AdamW's division from zero."""
    decay: float | None = Field(None, ge=0)
    """Share of a matrix that is taken off in a step, in units of the rate. By default 0.1, or 1 where the
    budget is more than 8 passes over the text."""

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        turned, rest = _parted(groups)
        adamw: dict[str, Any] = {
            "lr": self.peak,
            "betas": self.betas,
            "eps": self.epsilon,
            "fused": fused(groups),
        }
        muon: dict[str, Any] = {"lr": self.peak, "momentum": self.momentum}
        if not turned:
            return torch.optim.AdamW(rest, **adamw)
        if not rest:
            return _Turned(turned, muon)
        return _Both(_Turned(turned, muon), rest, adamw)


def _parted(groups: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The groups' matrices between embeddings and heads, and all else; empty groups left out."""

    def is_turned(group: dict[str, Any], name: str, parameter: torch.Tensor) -> bool:
        return parameter.ndim == 2 and not group.get("spared") and ".heads." not in f".{name}"

    parts = []
    for wanted in (True, False):
        found = [
            {**group, "params": [pair for pair in group["params"] if is_turned(group, *pair) is wanted]}
            for group in groups
        ]
        parts.append([group for group in found if group["params"]])
    return parts[0], parts[1]


class _Turned(torch.optim.Optimizer):
    """The matrices. State of each: `momentum_buffer`, a mean of its gradients, in its shape."""

    def step(self, closure: Any = None) -> Any:
        """One step of all that have a gradient."""
        assert closure is None, "no optimizer here needs the loss again"
        with torch.no_grad():
            for group in self.param_groups:
                moved = [parameter for parameter in group["params"] if parameter.grad is not None]
                if moved:
                    self._move(moved, group)

    def _move(self, moved: list[torch.Tensor], group: dict[str, Any]) -> None:
        for parameter in moved:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
        means = [self.state[parameter]["momentum_buffer"] for parameter in moved]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])
        torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
        for alike in _alike(ahead):
            turned = orthogonal(torch.stack([ahead[n] for n in alike]))
            size = 0.2 * math.sqrt(max(turned.shape[1:]))
            torch._foreach_add_(
                [moved[n] for n in alike], turned.to(means[0].dtype).unbind(), alpha=-group["lr"] * size
            )


def _alike(matrices: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    """Places of matrices of one shape, device and type: `AT_ONCE` numbers together, or a single matrix."""
    found: dict[Any, list[int]] = defaultdict(list)
    for place, matrix in enumerate(matrices):
        found[matrix.shape, matrix.device, matrix.dtype].append(place)
    for (shape, *_), places in found.items():
        many = max(1, AT_ONCE // shape.numel())
        yield from (places[n : n + many] for n in range(0, len(places), many))


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Near U Vᵀ for each matrix U Σ Vᵀ: its singular values become 0.7 to 1.2, but for those near 0.

    Args:
        matrices: `[number, rows, columns]`, of floats.

    Returns:
        The same shape, in bfloat16 where the hardware multiplies in it, else in the type of `matrices`.
    """
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    if multiplies_bfloat16(matrices.device):
        wide = wide.bfloat16()
    wide = wide / torch.linalg.matrix_norm(wide, keepdim=True).clamp(min=1e-7)
    first, third, fifth = COEFFICIENTS
    for _ in range(STEPS):
        gram = wide @ wide.mT
        gram = torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth)
        wide = torch.baddbmm(wide, gram, wide, beta=first)
    return wide.mT if matrices.shape[1] > matrices.shape[2] else wide


class _Both(torch.optim.AdamW):
    """AdamW with a second optimizer beside it, whose groups and state are among its own."""

    def __init__(
        self, other: torch.optim.Optimizer, groups: list[dict[str, Any]], settings: dict[str, Any]
    ) -> None:
        super().__init__(groups, **settings)
        self.other = other
        self.own = self.param_groups
        self.param_groups = [*other.param_groups, *self.own]
        other.state = self.state

    def step(self, closure: Any = None) -> Any:
        """One step of both."""
        assert closure is None, "no optimizer here needs the loss again"
        self.other.step()
        whole, self.param_groups = self.param_groups, self.own
        super().step()
        self.param_groups = whole

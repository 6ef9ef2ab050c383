"""Muon: matrices move by their momentum made orthogonal (Jordan et al., 2024); all else by AdamW.

    m ← momentum · m + gradient,    U Σ Vᵀ = gradient + momentum · m
    W ← W − rate · (decay · W + 0.2 · √max(rows, columns) · U Vᵀ)

U Vᵀ is found by five steps of Newton and Schulz, in bfloat16. The factor gives an update the size that one of
AdamW has, so that both go at one rate (Liu et al., 2025). Embeddings, heads, vectors, and what has more than
two dimensions (experts) are AdamW's.
"""

from collections.abc import Sequence
from typing import Annotated, Any, final

import torch
from pydantic import Field

from telos.config import Lax
from telos.optim._base import Optimizer, fused

__all__ = ["Muon"]


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
        muon: dict[str, Any] = {"lr": self.peak, "momentum": self.momentum, "adjust_lr_fn": "match_rms_adamw"}
        if not turned:
            return torch.optim.AdamW(rest, **adamw)
        if not rest:
            return torch.optim.Muon(turned, **muon)
        return _Both(torch.optim.Muon(turned, **muon), rest, adamw)


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

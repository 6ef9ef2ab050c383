"""AdamW: Adam with decay that is apart from the gradient (Loshchilov and Hutter, 2019)."""

from collections.abc import Sequence
from typing import Annotated, Any, final

import torch
from pydantic import Field

from telos.config import Lax
from telos.optim._base import Optimizer, fused

__all__ = ["AdamW"]


@final
class AdamW(Optimizer):
    """w ← w − rate · (decay · w + m̂ / (√v̂ + epsilon))."""

    betas: Annotated[tuple[float, float], Lax] = (0.9, 0.95)
    """Memory of the gradient's mean m and of its square's mean v."""
    epsilon: float = Field(1e-8, gt=0)
    """Keeps the division from zero; larger, it damps rows whose gradient is tiny."""
    decay: float | None = Field(None, ge=0)
    """Share of a matrix that is taken off in a step, in units of the rate. By default 0.1, or 1 where the
    budget is more than 8 passes over the text."""

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            list(groups), lr=self.peak, betas=self.betas, eps=self.epsilon, fused=fused(groups)
        )

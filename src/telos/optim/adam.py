"""Adam (Kingma and Ba, 2015); its decay, if any, is added to the gradient (`adamw` keeps it apart)."""

from collections.abc import Sequence
from typing import Annotated, Any, final

import torch
from pydantic import Field

from telos.config import Lax
from telos.optim._base import Optimizer, fused

__all__ = ["Adam"]


@final
class Adam(Optimizer):
    """w ← w − rate · m̂ / (√v̂ + epsilon)."""

    betas: Annotated[tuple[float, float], Lax] = (0.9, 0.999)
    """Memory of the gradient's mean m and of its square's mean v."""
    epsilon: float = Field(1e-8, gt=0)
    """Keeps the division from zero; larger, it damps rows whose gradient is tiny."""

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            list(groups), lr=self.peak, betas=self.betas, eps=self.epsilon, fused=fused(groups)
        )

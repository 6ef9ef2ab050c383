"""Stochastic gradient descent with momentum (Robbins and Monro, 1951; Sutskever et al., 2013)."""

from collections.abc import Sequence
from typing import Any, final

import torch
from pydantic import Field, model_validator

from telos.optim._base import Optimizer, fused

__all__ = ["Sgd"]


@final
class Sgd(Optimizer):
    """b ← momentum · b + g, then w ← w − rate · b; with `nesterov`, w ← w − rate · (g + momentum · b)."""

    rate: float | None = Field(0.1, gt=0)
    """Peak learning rate."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the last step's direction that is kept; 0 for plain gradient descent."""
    nesterov: bool = False
    """Look ahead along the momentum."""

    @model_validator(mode="after")
    def _something_to_look_ahead_along(self) -> "Sgd":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0")
        return self

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            list(groups), lr=self.peak, momentum=self.momentum, nesterov=self.nesterov, fused=fused(groups)
        )

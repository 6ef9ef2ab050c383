"""What an optimizer is: frozen settings that build a `torch.optim.Optimizer`.

To add one, write a file in this folder with one final class
that derives from `Optimizer`. Nothing else is edited.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field

from telos.config import Member

__all__ = ["RATE", "Optimizer", "fused"]

RATE = 1e-3
"""Where neither the recipe nor the budget says what the rate is."""


class Optimizer(Member, ABC):
    """Base of all optimizers. Groups come from `parameter_groups`, which has put the decay into them."""

    rate: float | None = Field(None, gt=0)
    """Peak learning rate: what the schedule's factor is multiplied with. By default it follows from the
    model's size and the budget, and is 1e-3 where the budget is in minutes."""
    decay: float | None = Field(0.0, ge=0)
    """Weight decay of the matrices; norms, biases and embeddings have none."""

    @property
    def peak(self) -> float:
        """The rate, or the usual one where nothing says it."""
        return RATE if self.rate is None else self.rate

    @abstractmethod
    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of these groups, at the peak rate."""


def fused(groups: Sequence[dict[str, Any]]) -> bool:
    """Whether one kernel can update all parameters: where each of them is on a device that has it."""
    devices = {parameter.device.type for group in groups for _, parameter in group["params"]}
    return devices <= {"cpu", "cuda"}

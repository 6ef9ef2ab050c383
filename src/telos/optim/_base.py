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

__all__ = ["Optimizer", "fused"]


class Optimizer(Member, ABC):
    """Base of all optimizers. Groups come from `parameter_groups`, which has put the decay into them."""

    rate: float = Field(1e-3, gt=0)
    """Peak learning rate: what the schedule's factor is multiplied with."""
    decay: float | None = Field(0.0, ge=0)
    """Weight decay of the matrices; norms, biases and embeddings have none."""

    @abstractmethod
    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of these groups, at the peak rate."""


def fused(groups: Sequence[dict[str, Any]]) -> bool:
    """Whether one kernel can update all parameters: where each of them is on a device that has it."""
    devices = {parameter.device.type for group in groups for _, parameter in group["params"]}
    return devices <= {"cpu", "cuda"}

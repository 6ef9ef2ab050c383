"""In what precision a run computes: chosen once, and kept when the run is resumed.

Weights, gradients and the optimizer's state stay float32;
with bfloat16, matrix products are computed in it (autocast).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from telos.processor import multiplies_bfloat16

__all__ = ["Precision", "autocast", "resolved"]

Precision = Literal["float32", "bfloat16"]


def resolved(wanted: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """`wanted`, with "auto" decided: bfloat16 where the hardware multiplies in it, float32 elsewhere."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the forward pass runs."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)

"""In what precision a run computes: chosen once, and kept when the run is resumed.

Weights, gradients and the optimizer's state stay float32;
with bfloat16, matrix products are computed in it (autocast).
"""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import torch

__all__ = ["Precision", "autocast", "resolved"]

Precision = Literal["float32", "bfloat16"]


def resolved(wanted: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """`wanted`, with "auto" decided: bfloat16 where the hardware multiplies in it, float32 elsewhere."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the forward pass runs."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool({"amx_bf16", "avx512_bf16"} & processor_flags())


def processor_flags() -> set[str]:
    """The processor's features as Linux names them; none where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))

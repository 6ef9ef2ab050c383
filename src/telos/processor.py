"""What a processor can multiply in."""

from functools import cache
from pathlib import Path

import torch

__all__ = ["multiplies_bfloat16", "processor_flags"]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware has products of bfloat16; elsewhere they are far slower than those of float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool({"amx_bf16", "avx512_bf16"} & processor_flags())


@cache
def processor_flags() -> frozenset[str]:
    """The processor's features as Linux names them; none where they cannot be read. Read once: with
    many cores that takes milliseconds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2].split() for line in lines if line.startswith("flags"))
    return frozenset(next(flags, []))

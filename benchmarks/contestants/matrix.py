"""The machine's matrix rate: what utilisation is a share of.

    settings    precision: "float32" or "bfloat16"
    shape       matrix: the side of the square matrices

A unit is a thousand million floating-point operations, 2 · side³ of them in a product.
"""

import torch
from harness.worker_side import Session, Spec


def run(spec: Spec, session: Session) -> None:
    """Multiply until the process is ended."""
    side = spec.shape["matrix"]
    kind = torch.bfloat16 if spec.settings["precision"] == "bfloat16" else torch.float32
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(side, side, generator=draw).to(kind) for _ in range(2))
    out = torch.empty(side, side, dtype=kind)
    while True:
        torch.mm(left, right, out=out)
        session.tick(2 * side**3 / 1e9)

"""Projection to the vocabulary and cross-entropy, forward and backward, alone.

    settings    kind: "ours", or "plain": linear, then PyTorch's cross-entropy in float32
                precision: "float32" or "bfloat16" (autocast)
    shape       rows, vocabulary, width

The memory noted is what the first forward and backward needs beside its inputs, the gradients included.
"""

from collections.abc import Callable

import torch
from harness.process import peak_bytes, reset_peak, resident_bytes
from harness.worker_side import Session, Spec
from torch import Tensor
from torch.nn import functional


def run(spec: Spec, session: Session) -> None:
    """Work until the process is ended; a unit is a row."""
    rows, vocabulary, width = (spec.shape[name] for name in ("rows", "vocabulary", "width"))
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=draw).requires_grad_()
    weight = (0.02 * torch.randn(vocabulary, width, generator=draw)).requires_grad_()
    target = torch.randint(0, vocabulary, (rows,), generator=draw)
    loss_of = _ours() if spec.settings["kind"] == "ours" else _plain
    half = spec.settings["precision"] == "bfloat16"

    def work(count: int) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = loss_of(hidden[:count], weight, target[:count])
        loss.backward()  # type: ignore[no-untyped-call]
        hidden.grad = weight.grad = None
        return float(loss) / count

    work(min(rows, 8))  # what is needed once: threads, kernels
    before, counted = resident_bytes(), reset_peak()
    work(rows)
    session.noted["memory_bytes"] = peak_bytes() - before if counted else 0
    while True:
        loss = work(rows)
        session.tick(rows, lambda loss=loss: loss)  # type: ignore[misc]


def _plain(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight).float()
    return functional.cross_entropy(logits, target, reduction="sum")


def _ours() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from telos.losses import LossSettings, linear_cross_entropy

    settings = LossSettings()

    def loss(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
        counts = torch.ones(len(target))
        found = linear_cross_entropy(hidden, weight, None, target, counts, settings=settings, training=True)
        return found.entropy

    return loss

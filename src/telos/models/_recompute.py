"""Activation recomputation: a block keeps what goes into it, and is computed again when its gradient is due
(Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost").

Computed again, it draws the dropout that it drew before, in the precision that it had, and what it counts is
counted once: so loss and gradients are the same to the bit.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

__all__ = ["recomputed"]

T = TypeVar("T")


def recomputed(block: Callable[..., T], *given: Any) -> T:
    """`block(*given)`, of which only `given` is kept for the backward pass."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _counted_once(block)

    answer: T = checkpoint(block, *given, use_reentrant=False, preserve_rng_state=True, context_fn=contexts)
    return answer


@contextmanager
def _counted_once(block: Callable[..., Any]) -> Iterator[None]:
    """Afterwards the block's buffers are as they were: what its first run counted is there already."""
    owner = block.args[0] if isinstance(block, partial) else block
    buffers = list(owner.buffers()) if isinstance(owner, nn.Module) else []
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, was in zip(buffers, before, strict=True):
                buffer.copy_(was)

"""Rows of tokens for the peers, from the stream that all share. Reading them costs next to nothing."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["blocks", "columns", "stream"]


def stream(corpus: Mapping[str, Any]) -> NDArray[Any]:
    """All ids, (tokens,), memory-mapped."""
    ids: NDArray[Any] = np.load(corpus["stream"], mmap_mode="r")
    return ids


def blocks(corpus: Mapping[str, Any], batch: int, length: int, seed: int = 0) -> Iterator[Tensor]:
    """Without end: `batch` stretches from random places, (batch, length), int64."""
    ids, draw = stream(corpus), np.random.default_rng(seed)
    while True:
        starts = draw.integers(0, len(ids) - length, batch)
        yield torch.from_numpy(np.stack([ids[start : start + length] for start in starts]).astype(np.int64))


def columns(corpus: Mapping[str, Any], batch: int, window: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Without end: the stream cut into `batch` equal parts that are read side by side, window by window:
    what goes in and what comes next, both (batch, window), and whether state goes on from the step before."""
    ids = stream(corpus)
    length = len(ids) // batch
    laid = ids[: batch * length].reshape(batch, length)
    while True:
        for start in range(0, length - window - 1, window):
            rows = torch.from_numpy(laid[:, start : start + window + 1].astype(np.int64))
            yield rows[:, :-1], rows[:, 1:], start > 0

"""States of several batches beside each other, and over each other: what a decoder needs so that rows can
join it, and begin anew.

A state is what `Network.encode` returned: tensors whose first dimension is the rows', in tuples, named tuples
and dictionaries. Where two differ in another dimension, it is that of the places that were read, or of a
source's: the shorter one is filled up in front, with nothing, which `seen` says that nobody sees.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from telos.models._cache import mapped

__all__ = ["beside", "lay_over"]


def beside(first: Any, second: Any) -> Any:
    """The state of the rows of both, those of the first before those of the second."""
    return mapped(_stacked, first, second)


def lay_over(state: Any, rows: Tensor, fresh: Any) -> None:
    """Put the state `fresh` of these rows (n,) where `state` holds theirs, in place, so that there still is
    room behind it. `state` was made from at least as many places. What `fresh` has nothing of stays: sources,
    where none of its rows has one."""
    mapped(lambda new, held: held.index_copy_(0, rows, _filled(new, list(held.shape[1:]))), fresh, state)


def _stacked(first: Tensor, second: Tensor) -> Tensor:
    shape = [max(pair) for pair in zip(first.shape[1:], second.shape[1:], strict=True)]
    return torch.cat([_filled(first, shape), _filled(second, shape)])


def _filled(tensor: Tensor, shape: list[int]) -> Tensor:
    """Zeros, or false, in front of what is there, up to a shape (without the rows)."""
    missing = [wanted - size for wanted, size in zip(shape, tensor.shape[1:], strict=True)]
    if not any(missing):
        return tensor
    assert min(missing) >= 0, "a state is laid over one that has fewer places"
    return functional.pad(tensor, [amount for each in reversed(missing) for amount in (each, 0)])

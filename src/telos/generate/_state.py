"""States of several batches beside each other: what a decoder needs so that rows can join it.

A state is what `Network.encode` returned: tensors whose first dimension is the rows', in tuples, named tuples
and dictionaries. Where two differ in another dimension, it is that of the places that were read, or of a
source's: the shorter one is filled up in front, with nothing, which `seen` says that nobody sees.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from telos.models._cache import Room

__all__ = ["beside"]


def beside(first: Any, second: Any) -> Any:
    """The state of the rows of both, those of the first before those of the second."""
    return _mapped(_stacked, first, second)


def _mapped(change: Callable[..., Tensor], *states: Any) -> Any:
    first = states[0]
    if isinstance(first, Tensor):
        return change(*states)
    if first is None or isinstance(first, Room):  # what is laid beside something else lies elsewhere
        return None
    if isinstance(first, dict):
        return {name: _mapped(change, *(state[name] for state in states)) for name in first}
    assert isinstance(first, tuple), f"a state holds {type(first).__name__}"
    parts = [_mapped(change, *each) for each in zip(*states, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def _stacked(first: Tensor, second: Tensor) -> Tensor:
    shape = [max(pair) for pair in zip(first.shape[1:], second.shape[1:], strict=True)]
    return torch.cat([_filled(first, shape), _filled(second, shape)])


def _filled(tensor: Tensor, shape: list[int]) -> Tensor:
    """Zeros, or false, in front of what is there, up to a shape (without the rows)."""
    missing = [wanted - size for wanted, size in zip(shape, tensor.shape[1:], strict=True)]
    if not any(missing):
        return tensor
    return functional.pad(tensor, [amount for each in reversed(missing) for amount in (each, 0)])

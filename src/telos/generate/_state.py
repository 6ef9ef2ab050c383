"""States of several batches beside each other, and some rows of one: what a decoder needs so that rows can
join and leave it.

A state is what `Network.encode` returned: tensors whose first dimension is the rows', in tuples, named tuples
and dictionaries. Where two differ in another dimension, it is that of the places that were read, or of a
source's: the shorter one is filled up in front, with nothing, which `seen` says that nobody sees.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["beside", "chosen_rows"]


def beside(first: Any, second: Any) -> Any:
    """The state of the rows of both, those of the first before those of the second."""
    return _mapped(_stacked, first, second)


def chosen_rows(state: Any, rows: Tensor) -> Any:
    """The state of these rows (n,), by their numbers."""
    return _mapped(lambda tensor: tensor.index_select(0, rows), state)


def _mapped(change: Callable[..., Tensor], *states: Any) -> Any:
    first = states[0]
    if isinstance(first, Tensor):
        return change(*states)
    if first is None:
        assert all(state is None for state in states), "one state holds what another lacks"
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

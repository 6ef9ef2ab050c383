"""Keys and values of earlier places, which grow by a few with each token that is written."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Past", "Room", "mapped"]


class Past(NamedTuple):
    """Keys and values of one layer, each (B, key heads, places, width of a head)."""

    keys: Tensor
    values: Tensor
    room: "Room | None" = None
    """Where they lie, if there are places to spare behind them."""

    def then(self, keys: Tensor, values: Tensor) -> "Past":
        """These places and new ones behind them. Where nothing is trained, only the new ones are copied, most
        times."""
        if torch.is_grad_enabled():
            return Past(torch.cat((self.keys, keys), 2), torch.cat((self.values, values), 2))
        room = self.room
        if room is None or not room.takes(self, keys):
            room = Room(self, keys.shape[2])
        return room.put(keys, values)


class Room:
    """Keys and values with places to spare, as many as there are in use when it is made: n places that come
    one after the other are copied about twice each, in place of n times."""

    def __init__(self, past: Past, more: int) -> None:
        rows, heads, self.used, width = past.keys.shape
        self.capacity = 2 * (self.used + more)
        self.keys, self.values = (past.keys.new_empty(rows, heads, self.capacity, width) for _ in range(2))
        self.keys[:, :, : self.used], self.values[:, :, : self.used] = past.keys, past.values

    def takes(self, past: Past, keys: Tensor) -> bool:
        """Whether these places can go right behind `past`: it is what lies here, nothing has been put behind
        it since, and there is room."""
        last = past.keys.shape[2] == self.used and past.keys.data_ptr() == self.keys.data_ptr()
        return last and keys.dtype == self.keys.dtype and self.used + keys.shape[2] <= self.capacity

    def put(self, keys: Tensor, values: Tensor) -> Past:
        """All places, with these behind the others."""
        begin, self.used = self.used, self.used + keys.shape[2]
        self.keys[:, :, begin : self.used], self.values[:, :, begin : self.used] = keys, values
        return Past(self.keys[:, :, : self.used], self.values[:, :, : self.used], self)


def mapped(change: Callable[..., Tensor], *states: Any) -> Any:
    """States of the same build, tensor by tensor: `change` gets the tensors that stand in one place. What is
    made lies elsewhere, so that there is no room behind it."""
    first = states[0]
    if isinstance(first, Tensor):
        return change(*states)
    if first is None or isinstance(first, Room):
        return None
    if isinstance(first, Mapping):
        return {name: mapped(change, *(state[name] for state in states)) for name in first}
    assert isinstance(first, tuple), f"a state holds {type(first).__name__}"
    parts = [mapped(change, *each) for each in zip(*states, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)

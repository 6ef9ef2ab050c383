"""What recurrent networks share: layers that read all places of their rows in one call of the fused kernel,
the state that rows begin with and leave, and where they forget.

A state is `{"hidden": …}`, for LSTM `{"hidden": …, "cells": …}`, each (B, depth, width).
"""

from functools import cache
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from telos.batch import Rows
from telos.config import Settings
from telos.models import _fused
from telos.models._dropout import dropout

__all__ = [
    "GATES",
    "PARTS",
    "Cell",
    "Dropout",
    "Layers",
    "State",
    "dropped",
    "embedded",
    "last",
    "real",
    "resumed",
    "run",
    "weights",
]

Cell = Literal["gru", "lstm"]
GATES: dict[Cell, int] = {"gru": 3, "lstm": 4}
"""Blocks of a layer's matrices."""
PARTS: dict[Cell, tuple[str, ...]] = {"gru": ("hidden",), "lstm": ("hidden", "cells")}
"""Of a state."""
State = dict[str, Tensor]


class Dropout(Settings):
    """Where a recurrent network forgets, each a share."""

    words: float = Field(0.0, ge=0, lt=1)
    """Whole words of the vocabulary: all places of a word in a batch at once."""
    input: float = Field(0.0, ge=0, lt=1)
    """The embedded tokens."""
    between: float = Field(0.0, ge=0, lt=1)
    """What one layer hands to the next."""
    output: float = Field(0.0, ge=0, lt=1)
    """What the last layer says."""
    weights: float = Field(0.0, ge=0, lt=1)
    """Weights from state to state."""
    locked: bool = True
    """Input, between and output drop the same units at all places of a row."""


def weights(cell: Cell, inward: int, width: int) -> int:
    """Weights of one layer that multiply."""
    return GATES[cell] * width * (inward + width)


class Layers(nn.ModuleList):
    """Recurrent layers, one upon the other, from left to right."""

    def __init__(self, cell: Cell, inward: int, width: int, depth: int) -> None:
        kind = nn.GRU if cell == "gru" else nn.LSTM
        widths = [inward] + [width] * (depth - 1)
        super().__init__(kind(each, width, batch_first=True) for each in widths)

    def forward(
        self, x: Tensor, before: State, lengths: Tensor | None, dropout: Dropout
    ) -> tuple[Tensor, State | None]:
        """The last layer's output (B, T, width) for x (B, T, inward), and the state after the last real place
        of each row, detached; without `lengths` (B,) there is none."""
        after = []
        for place, layer in enumerate(self):
            x = dropped(x, dropout.between if place else dropout.input, dropout.locked, self.training)
            x, end = run(layer, x, [part[:, place] for part in before.values()], lengths, dropout.weights)
            after.append(end)
        return x, None if lengths is None else collected(tuple(before), after)


def real(rows: Rows) -> Tensor:
    """How many places of each row (B,) are no padding."""
    return (rows.segment >= 0).sum(1)


def resumed(first: State, state: State | None, continues: Tensor | None) -> State:
    """The state that each row starts from: `first` where it starts anew."""
    if state is None:
        return first
    if continues is None:
        return {name: state[name] for name in first}
    kept = continues[:, None, None]
    return {name: torch.where(kept, state[name], begin.to(state[name])) for name, begin in first.items()}


def embedded(embedding: nn.Embedding, ids: Tensor, share: float) -> Tensor:
    """(B, T, width); a share of the vocabulary's words is dropped in training."""
    x: Tensor = embedding(ids)
    if not embedding.training or not share:
        return x
    kept = dropout(torch.ones(embedding.num_embeddings, device=x.device), share)
    return x * kept[ids].unsqueeze(-1)


def dropped(x: Tensor, share: float, locked: bool, training: bool) -> Tensor:
    """x (B, T, width) after dropout; `locked` drops the same units at all places of a row (Gal and
    Ghahramani, 2016)."""
    if not training or not share:
        return x
    if not locked:
        return dropout(x, share)
    return x * dropout(x.new_ones(x.shape[0], 1, x.shape[2]), share)


def run(
    layer: nn.Module, x: Tensor, start: list[Tensor], lengths: Tensor | None, dropped_weights: float
) -> tuple[Tensor, list[Tensor]]:
    """One layer over x (B, T, inward): its output (B, T, width) and each row's last state; without `lengths`
    that is the state after the padding."""
    kernel = _weights(layer, dropped_weights if layer.training else 0.0)
    if isinstance(layer, nn.GRU) and _fused.serves(x, kernel[1]):
        out = _fused.gru(x, start[0], kernel)
        return out, [out[:, -1] if lengths is None else last(out, lengths, start[0])]
    first = [part.unsqueeze(0).contiguous() for part in start]
    if isinstance(layer, nn.GRU):
        out, end = torch.gru(x, first[0], kernel, True, 1, 0.0, layer.training, False, True)
        return out, [end[0] if lengths is None else last(out, lengths, start[0])]
    out, *ends = _lstm(x, first, kernel, True, 1, 0.0, layer.training, False, True)
    if lengths is not None and bool((short := lengths < x.shape[1]).any()):
        ends = _with_short_rows(ends, x, first, kernel, lengths, short)
    return out, [end[0] for end in ends]


def _lstm(*given: Any) -> list[Tensor]:
    """`torch.lstm`: the output and the last state and cells; in float32 where this processor has no bfloat16
    kernel for it."""
    mixed = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if given[0].device.type != "cpu" or not mixed or _lstm_in_bfloat16():
        return list(torch.lstm(*given))
    with torch.autocast("cpu", enabled=False):
        return [part.bfloat16() for part in torch.lstm(*map(_in_float32, given))]


def _in_float32(given: Any) -> Any:
    """Numbers as float32, in lists too; what is no such tensor as it is."""
    if isinstance(given, list):
        return [_in_float32(part) for part in given]
    return given.float() if isinstance(given, Tensor) and given.is_floating_point() else given


@cache
def _lstm_in_bfloat16() -> bool:
    """Whether oneDNN has an LSTM in bfloat16 for this processor: those without AVX-512 have none."""
    x, state = torch.zeros(1, 2, 8), torch.zeros(1, 1, 8)
    kernel = [torch.zeros(32, 8), torch.zeros(32, 8), torch.zeros(32), torch.zeros(32)]
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            torch.lstm(x, [state, state], kernel, True, 1, 0.0, True, False, True)
    except RuntimeError:
        return False
    return True


def _weights(layer: Any, share: float) -> list[Tensor]:
    """A layer's parameters in the kernel's order; a share of those from state to state dropped."""
    inward, across, *biases = (getattr(layer, name) for name in layer._all_weights[0])
    return [inward, dropout(across, share) if share else across, *biases]


def last(out: Tensor, lengths: Tensor, start: Tensor) -> Tensor:
    """What a layer says (B, width) at each row's last real place, or `start` where there is none. Of a GRU
    that is its state."""
    place = (lengths - 1).clamp(min=0)
    found = out[torch.arange(len(out), device=out.device), place]
    return torch.where((lengths == 0).unsqueeze(1), start.to(found.dtype), found)


@torch.no_grad()
def _with_short_rows(
    ends: list[Tensor], x: Tensor, first: list[Tensor], kernel: list[Tensor], lengths: Tensor, short: Tensor
) -> list[Tensor]:
    """`ends` with the state and cells that short rows have at their last real place: those rows once more,
    packed, for the fused kernel gives no cells on the way. State has no gradient."""
    start = [part[:, short] for part in first]
    there = lengths[short]
    packed = pack_padded_sequence(x[short], there.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    assert packed.sorted_indices is not None and packed.unsorted_indices is not None
    ordered = [part.index_select(1, packed.sorted_indices) for part in start]
    _, *after = _lstm(packed.data, packed.batch_sizes, ordered, kernel, True, 1, 0.0, False, False)
    after = [part.index_select(1, packed.unsorted_indices) for part in after]
    kept = (there == 0).unsqueeze(1)
    after = [torch.where(kept, old, new) for old, new in zip(start, after, strict=True)]
    return [_replaced(end, short, new) for end, new in zip(ends, after, strict=True)]


def _replaced(end: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    end = end.detach().clone()
    end[:, rows] = new.to(end.dtype)
    return end


def collected(names: tuple[str, ...], after: list[list[Tensor]]) -> State:
    """Detached: a window's gradient ends where the window begins."""
    return {
        name: torch.stack([layer[place].detach() for layer in after], 1) for place, name in enumerate(names)
    }

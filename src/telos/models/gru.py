"""Recurrent networks: embedding → GRU (Cho et al., 2014) or LSTM (Hochreiter, Schmidhuber, 1997) → linear.

The classic baseline is `{ embedding = 300, width = 1024 }` over a vocabulary of 5000. The dropouts are those
of word-level models (Zaremba et al., 2014; Gal and Ghahramani, 2016; Merity et al., 2018). One document per
row: state cannot be cleared inside a row, but it can go on from window to window.

First values:

    embedding, head's weight, projection    uniform, ±0.1
    recurrent matrices and biases           uniform, ±1 / √width
    head's bias                             0
"""

from typing import Any, ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from telos.batch import Rows
from telos.config import Settings
from telos.models._base import Initial, Model, Network, Sizes
from telos.models._heads import build_heads, head_counts

__all__ = ["Dropout", "Gru"]


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


@final
class Gru(Model):
    """A recurrent network."""

    gives: ClassVar[frozenset[str]] = frozenset({"causal", "carries"})

    embedding: int = Field(300, ge=1)
    """Width of the embedding."""
    width: int = Field(1024, ge=1)
    """Of the state."""
    depth: int = Field(1, ge=1)
    """Layers."""
    cell: Literal["gru", "lstm"] = "gru"
    """Gated recurrent unit, or long short-term memory, which has a cell beside its state."""
    projection: int = Field(0, ge=0)
    """Width that the last layer's output is brought to by a matrix before the head; 0 for none. A tied head
    needs the embedding's width, and gets this matrix by itself."""
    tied: bool = False
    """The head shares the embedding's weight."""
    dropout: Dropout = Dropout()

    @model_validator(mode="after")
    def _settings_fit(self) -> "Gru":
        if self.tied and self.projection not in (0, self.embedding):
            raise ValueError(
                f"projection must be 0 or the embedding's width, {self.embedding}, where the head is tied"
            )
        if self.dropout.between and self.depth == 1:
            raise ValueError("dropout.between does nothing with depth = 1; set dropout.output instead")
        return self

    @property
    def projected(self) -> int:
        """Width of the projection, resolved; 0 for none."""
        if self.tied and self.embedding != self.width:
            return self.embedding
        return self.projection

    def parameter_count(self, sizes: Sizes) -> int:
        tied_rows = sizes.vocabulary if self.tied else 0
        outward = self.projected or self.width
        heads, _ = head_counts(sizes.heads, outward, tied_rows=tied_rows, bias=True)
        biases = 2 * self.gates * self.width * self.depth
        return sizes.vocabulary * self.embedding + self._recurrent_weights() + biases + heads

    def flops_per_token(self, sizes: Sizes) -> int:
        _, heads = head_counts(sizes.heads, self.projected or self.width)
        return 6 * (self._recurrent_weights() + heads)

    @property
    def gates(self) -> int:
        """Blocks of a layer's matrices."""
        return 3 if self.cell == "gru" else 4

    def _recurrent_weights(self) -> int:
        """Weights that multiply, between the embedding and the heads."""
        inward = self.embedding + (self.depth - 1) * self.width
        return self.gates * self.width * (inward + self.depth * self.width) + self.width * self.projected

    def build(self, sizes: Sizes) -> "GruNetwork":
        return GruNetwork(self, sizes)


class GruNetwork(Network):
    """Embedding, recurrent layers, an optional projection, heads.

    State is `{"hidden": …}`, for LSTM `{"hidden": …, "cells": …}`, each (B, depth, width): after the last
    place of each row.
    """

    def __init__(self, model: Gru, sizes: Sizes) -> None:
        super().__init__()
        self.model = model
        self.embedding = nn.Embedding(sizes.vocabulary, model.embedding)
        kind = nn.GRU if model.cell == "gru" else nn.LSTM
        widths = [model.embedding] + [model.width] * (model.depth - 1)
        self.layers = nn.ModuleList(kind(width, model.width, batch_first=True) for width in widths)
        self.projection = nn.Linear(model.width, model.projected, bias=False) if model.projected else None
        tied = self.embedding if model.tied else None
        width = model.projected or model.width
        self.heads = build_heads(sizes.heads, width, sizes.loss, tied=tied, bias=True)

    def encode(
        self, main: Rows, source: Rows | None = None, state: Any = None, continues: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Hidden states (B, T, width), and the state; in training only where rows may be continued."""
        assert source is None, "a recurrent network has no source side"
        before = self._start(main, state, continues)
        keep = not self.training or continues is not None
        lengths = (main.segment >= 0).sum(1) if keep else None
        x = self._embed(main.ids)
        after = []
        for place, layer in enumerate(self.layers):
            x = self._drop(x, self.model.dropout.between if place else self.model.dropout.input)
            x, end = self._run(layer, x, [part[:, place] for part in before.values()], lengths)
            after.append(end)
        hidden = self._drop(x, self.model.dropout.output)
        if self.projection is not None:
            hidden = self.projection(hidden)
        return hidden, _collected(tuple(before), after) if keep else None

    def initial(self, name: str) -> Initial:
        if name.startswith("layers."):
            return Initial("uniform", self.model.width**-0.5)
        return Initial("constant", 0.0) if name.endswith("bias") else Initial("uniform", 0.1)

    def _start(self, main: Rows, state: Any, continues: Tensor | None) -> dict[str, Tensor]:
        """The state that each row starts from: zeros where it starts anew."""
        names = ("hidden",) if self.model.cell == "gru" else ("hidden", "cells")
        if state is None:
            shape = (main.shape[0], self.model.depth, self.model.width)
            return {name: torch.zeros(shape, device=main.ids.device, dtype=self._type()) for name in names}
        if continues is None:
            return {name: state[name] for name in names}
        kept = continues[:, None, None]
        return {name: torch.where(kept, state[name], torch.zeros_like(state[name])) for name in names}

    def _type(self) -> torch.dtype:
        return self.embedding.weight.dtype

    def _embed(self, ids: Tensor) -> Tensor:
        x: Tensor = self.embedding(ids)
        share = self.model.dropout.words
        if not self.training or not share:
            return x
        kept = functional.dropout(torch.ones(self.embedding.num_embeddings, device=x.device), share)
        return x * kept[ids].unsqueeze(-1)

    def _drop(self, x: Tensor, share: float) -> Tensor:
        if not self.training or not share:
            return x
        if not self.model.dropout.locked:
            return functional.dropout(x, share)
        return x * functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), share)

    def _run(
        self, layer: nn.Module, x: Tensor, start: list[Tensor], lengths: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """One layer over x (B, T, inward): its output (B, T, width) and each row's last state."""
        weights = _weights(layer, self.model.dropout.weights if self.training else 0.0)
        first = [part.unsqueeze(0).contiguous() for part in start]
        if self.model.cell == "gru":
            out, end = torch.gru(x, first[0], weights, True, 1, 0.0, self.training, False, True)
            return out, [end[0] if lengths is None else _last(out, lengths, start[0])]
        out, *ends = torch.lstm(x, first, weights, True, 1, 0.0, self.training, False, True)
        if lengths is not None and bool((short := lengths < x.shape[1]).any()):
            ends = _with_short_rows(ends, x, first, weights, lengths, short)
        return out, [end[0] for end in ends]


def _weights(layer: Any, dropped: float) -> list[Tensor]:
    """A layer's parameters in the kernel's order; a share of those from state to state dropped."""
    inward, across, *biases = (getattr(layer, name) for name in layer._all_weights[0])
    return [inward, functional.dropout(across, dropped) if dropped else across, *biases]


def _last(out: Tensor, lengths: Tensor, start: Tensor) -> Tensor:
    """A GRU's output is its state: at each row's last real place, or the first state where there is none."""
    place = (lengths - 1).clamp(min=0)
    found = out[torch.arange(len(out), device=out.device), place]
    return torch.where((lengths == 0).unsqueeze(1), start.to(found.dtype), found)


@torch.no_grad()
def _with_short_rows(
    ends: list[Tensor], x: Tensor, first: list[Tensor], weights: list[Tensor], lengths: Tensor, short: Tensor
) -> list[Tensor]:
    """`ends` with the state and cells that short rows have at their last real place: those rows once more,
    packed, for the fused kernel gives no cells on the way. State has no gradient."""
    start = [part[:, short] for part in first]
    real = lengths[short]
    packed = pack_padded_sequence(x[short], real.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
    assert packed.sorted_indices is not None and packed.unsorted_indices is not None
    ordered = [part.index_select(1, packed.sorted_indices) for part in start]
    _, *after = torch.lstm(packed.data, packed.batch_sizes, ordered, weights, True, 1, 0.0, False, False)
    after = [part.index_select(1, packed.unsorted_indices) for part in after]
    kept = (real == 0).unsqueeze(1)
    after = [torch.where(kept, old, new) for old, new in zip(start, after, strict=True)]
    return [_replaced(end, short, new) for end, new in zip(ends, after, strict=True)]


def _replaced(end: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    end = end.detach().clone()
    end[:, rows] = new.to(end.dtype)
    return end


def _collected(names: tuple[str, ...], after: list[list[Tensor]]) -> dict[str, Tensor]:
    """Detached: a window's gradient ends where the window begins."""
    return {
        name: torch.stack([layer[place].detach() for layer in after], 1) for place, name in enumerate(names)
    }

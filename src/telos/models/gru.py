"""Recurrent networks: embedding → GRU (Cho et al., 2014) or LSTM (Hochreiter, Schmidhuber, 1997) → linear.

The classic baseline is `{ embedding = 300, width = 1024 }` over a vocabulary of 5000. The dropouts are those
of word-level models (Zaremba et al., 2014; Gal and Ghahramani, 2016; Merity et al., 2018). One document per
row: state cannot be cleared inside a row, but it can go on from window to window.

First values:

    embedding, head's weight, projection    uniform, ±0.1
    recurrent matrices and biases           uniform, ±1 / √width
    head's bias                             0
"""

from typing import Any, ClassVar, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from telos.batch import Rows
from telos.models import _recurrent
from telos.models._base import Initial, Model, Network, Sizes
from telos.models._heads import build_heads, head_counts
from telos.models._recurrent import GATES, PARTS, Cell, Dropout, Layers, dropped, embedded, real, resumed

__all__ = ["Gru"]


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
    cell: Cell = "gru"
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
        outward = self.projected or self.width
        heads, _ = head_counts(sizes, outward, tied=self.tied, bias=True)
        biases = 2 * GATES[self.cell] * self.width * self.depth
        return sizes.vocabulary * self.embedding + self._recurrent_weights() + biases + heads

    def flops_per_token(self, sizes: Sizes) -> int:
        _, heads = head_counts(sizes, self.projected or self.width)
        return 6 * (self._recurrent_weights() + heads)

    def _recurrent_weights(self) -> int:
        """Weights that multiply, between the embedding and the heads."""
        inward = [self.embedding] + [self.width] * (self.depth - 1)
        layers = sum(_recurrent.weights(self.cell, each, self.width) for each in inward)
        return layers + self.width * self.projected

    def build(self, sizes: Sizes) -> "GruNetwork":
        return GruNetwork(self, sizes)


class GruNetwork(Network):
    """Embedding, recurrent layers, an optional projection, heads.

    State (see `_recurrent.py`) is that after the last place of each row.
    """

    def __init__(self, model: Gru, sizes: Sizes) -> None:
        super().__init__()
        self.model = model
        self.embedding = nn.Embedding(sizes.vocabulary, model.embedding)
        self.layers = Layers(model.cell, model.embedding, model.width, model.depth)
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
        dropout = self.model.dropout
        x = embedded(self.embedding, main.ids, dropout.words)
        x, after = self.layers(x, before, real(main) if keep else None, dropout)
        hidden = dropped(x, dropout.output, dropout.locked, self.training)
        return hidden if self.projection is None else self.projection(hidden), after

    def initial(self, name: str) -> Initial:
        if name.startswith("layers."):
            return Initial("uniform", self.model.width**-0.5)
        return Initial("constant", 0.0) if name.endswith("bias") else Initial("uniform", 0.1)

    def _start(self, main: Rows, state: Any, continues: Tensor | None) -> dict[str, Tensor]:
        """The state that each row starts from: zeros where it starts anew."""
        shape = (main.shape[0], self.model.depth, self.model.width)
        nothing = torch.zeros(shape, device=main.ids.device, dtype=self.embedding.weight.dtype)
        return resumed(dict.fromkeys(PARTS[self.model.cell], nothing), state, continues)

"""A model that is a table: what it says after a token, or at one, is a row of logits that the test writes."""

from typing import Any

import torch
from torch import Tensor, nn

from telos.batch import HeadSpec, Rows
from telos.losses import LossSettings
from telos.models._base import Initial, Network
from telos.models._heads import build_heads

__all__ = ["Table"]


class Table(Network):
    """The hidden state at a place is its token's row of `logits` (tokens, outputs), and so is what each head
    says."""

    def __init__(self, logits: Tensor, *specs: HeadSpec) -> None:
        super().__init__()
        tokens, outputs = logits.shape
        self.embedding = nn.Embedding(tokens, outputs, _weight=logits.clone())
        self.heads = build_heads(specs or [HeadSpec(name="tokens", outputs=outputs)], outputs, LossSettings())
        for head in self.heads.values():
            torch.nn.init.eye_(head.weight)

    def encode(
        self, main: Rows, source: Rows | None = None, state: Any = None, continues: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        return self.embedding(main.ids), None

    def initial(self, name: str) -> Initial:
        raise AssertionError

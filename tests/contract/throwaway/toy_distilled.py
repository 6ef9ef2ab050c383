"""A teacher: what is asked is the causal objective's, what is true is what another model says (Hinton et
al., 2015)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
from torch import nn

from telos import objectives
from telos.batch import Answer, Batch, Cut, Example, Read
from telos.config import member
from telos.objectives._base import Objective, Partner
from telos.tokenizer import Tokenizer


@final
class ToyDistilled(Objective):
    """Soft targets from a frozen model; where its run is not named, from a frozen copy of the untrained
    model."""

    of: member(objectives, Objective)  # type: ignore[valid-type]
    """What is asked."""
    teacher: str = ""
    """The teacher's run."""

    def cut(self, window: int) -> Cut:
        return self.of.cut(window)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        return self.of.example(read, index, rng, tokenizer)

    def requires(self) -> frozenset[str]:
        return self.of.requires()

    def partners(self) -> Mapping[str, Partner]:
        return {"teacher": Partner(role="frozen", run=self.teacher)}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, state: Any, seed: int) -> Answer:
        teacher: Any = models["teacher"]
        with torch.no_grad():
            hidden, _ = teacher.encode(batch.main, batch.source)
            flat = hidden.flatten(0, 1)
            asks = tuple(
                replace(ask, target=teacher.logits(flat[ask.at], ask.head).softmax(-1)) for ask in batch.asks
            )
        return super().step(models, replace(batch, asks=asks), state, seed)

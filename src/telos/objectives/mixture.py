"""A mixture of objectives: each sample draws one (UL2: Tay et al., 2022).

    loss = Σ over the asked tokens of all objectives / number of asked tokens of all objectives

so that every asked token counts the same, whichever objective asked for it. Each objective's own loss is
logged apart, under `name.term`, and its share of the samples is its share of the weights.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, final

import numpy as np
from pydantic import model_validator

from telos.batch import Cut, Example, Read
from telos.config import Lax
from telos.errors import ConfigError
from telos.objectives._combined import Combined
from telos.tokenizer import Tokenizer

__all__ = ["Mixture"]


@final
class Mixture(Combined):
    """Any objectives that one model can serve, mixed per sample."""

    shares: Annotated[tuple[float, ...], Lax] = ()
    """Their shares of the samples, in any unit; equal where nothing is said."""

    @model_validator(mode="after")
    def _one_share_each(self) -> "Mixture":
        if self.shares and (
            len(self.shares) != len(self.of) or min(self.shares) < 0 or sum(self.shares) <= 0
        ):
            raise ValueError(
                f"shares must be {len(self.of)} numbers ≥ 0, not all 0, one for each objective of the mixture"
            )
        return self

    def cut(self, window: int) -> Cut:
        """One cut must serve all, since a sample's objective is drawn after it is read: the shortest pieces
        that any of them wants, with the overlap and the begin and end tokens that any of them wants."""
        cuts = [objective.cut(window) for objective in self.of]
        length, overlap = min(cut.length for cut in cuts), max(cut.overlap for cut in cuts)
        if length <= overlap:
            raise ConfigError(
                f"train.window = {window}: too small for all objectives of the mixture; make it larger."
            )
        return Cut(
            length=length,
            overlap=overlap,
            begin=any(cut.begin for cut in cuts),
            end=any(cut.end for cut in cuts),
        )

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        shares = np.array(self.shares or [1.0] * len(self.of))
        drawn = int(rng.choice(len(self.of), p=shares / shares.sum()))
        example: Example = self.of[drawn].example(read, index, rng, tokenizer)
        return replace(
            example, asks=tuple(replace(ask, term=f"{self._label(drawn)}.{ask.name}") for ask in example.asks)
        )

    def _label(self, drawn: int) -> str:
        name = self.of[drawn].name
        same = [index for index, objective in enumerate(self.of) if objective.name == name]
        return name if len(same) == 1 else f"{name}{same.index(drawn) + 1}"

    def denominators(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        """Terms of one head are divided by all that this head was asked."""
        total: dict[str, float] = defaultdict(float)
        for term, weight in asked.items():
            total[term.partition(".")[2]] += weight
        return {term: total[term.partition(".")[2]] for term in asked}

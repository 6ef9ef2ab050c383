"""A mixture of objectives: each sample draws one (UL2: Tay et al., 2022).

    loss = Σ over the asked tokens of all objectives / number of asked tokens of all objectives

so that every asked token counts the same, whichever objective asked for it. Each objective's own loss, the
mean over what it asked, is logged apart under `loss.name.term`, and its share of all that was asked under
`share.name.term`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, cast, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from telos.batch import Cut, Example, Read
from telos.config import Lax, Settings
from telos.errors import ConfigError
from telos.objectives._combined import Combined, per_head
from telos.tokenizer import Tokenizer

__all__ = ["Mixture"]


class MixtureStartSettings(Settings):
    """Shares that move evenly from these to `objective.shares`."""

    shares: Annotated[tuple[float, ...], Lax]
    """Shares at the start, in any unit."""
    passes: float = Field(1.0, gt=0)
    """Passes over the text after which `objective.shares` are reached, and kept."""


@final
class Mixture(Combined):
    """Any objectives that one model can serve, mixed per sample."""

    shares: Annotated[tuple[float, ...], Lax] = ()
    """Their shares of the samples, in any unit; equal where nothing is said."""
    start: MixtureStartSettings | None = None
    """The shares at the beginning of training, where they move."""

    @model_validator(mode="after")
    def _one_share_each(self) -> "Mixture":
        for name, shares in (("shares", self.shares), ("start.shares", self.start and self.start.shares)):
            if shares and (len(shares) != len(self.of) or min(shares) < 0 or sum(shares) <= 0):
                raise ValueError(
                    f"{name} must be {len(self.of)} numbers ≥ 0, not all 0, one for each objective of the "
                    "mixture"
                )
        return self

    def after(self, passes: float) -> "Mixture":
        """With the shares of that time, between those of the start and the recipe's."""
        now = super().after(passes)
        if self.start is not None:
            way = min(1.0, passes / self.start.passes)
            shares = (1 - way) * _whole(self.start.shares) + way * _whole(self._shares)
            now = now.model_copy(update={"shares": tuple(shares.tolist())})
        return cast(Mixture, now)

    @property
    def _shares(self) -> tuple[float, ...]:
        return self.shares or (1.0,) * len(self.of)

    def cut(self, window: int) -> Cut:
        """One cut must serve all, since a sample's objective is drawn after it is read: the shortest pieces
        that any of them wants, with the overlap and the begin and end tokens that any of them wants."""
        cuts = [objective.cut(window) for objective in self.of]
        if len({(cut.whole, cut.target) for cut in cuts}) > 1:
            named = ", ".join(repr(objective.name) for objective in self.of)
            raise ConfigError(
                f"objective.of: {named}: some read each text as a whole with what belongs to it, others in "
                "pieces; these do not mix."
            )
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
            whole=cuts[0].whole,
            target=cuts[0].target,
        )

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        drawn = self._draw(rng)
        return self._labelled(drawn, self.of[drawn].example(read, index, rng, tokenizer))

    def tries(self, read: Read, index: int, tokenizer: Tokenizer) -> tuple[Example, ...]:
        """As the objective that is drawn is scored by itself. Its draw is none of those that it makes."""
        drawn = self._draw(np.random.default_rng((1, index)))
        return tuple(self._labelled(drawn, each) for each in self.of[drawn].tries(read, index, tokenizer))

    def _draw(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.of), p=_whole(self._shares)))

    def _labelled(self, drawn: int, example: Example) -> Example:
        asks = tuple(replace(ask, term=f"{self._label(drawn)}.{ask.name}") for ask in example.asks)
        return replace(example, asks=asks)

    def _label(self, drawn: int) -> str:
        name = self.of[drawn].name
        same = [index for index, objective in enumerate(self.of) if objective.name == name]
        return name if len(same) == 1 else f"{name}{same.index(drawn) + 1}"

    def denominators(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        """Terms of one head are divided by all that this head was asked."""
        return per_head(asked)

    def coefficient(self, term: str) -> float:
        """What the objective says that this head counts, whatever it calls its own parts: those are mixed by
        the token."""
        label, _, rest = term.partition(".")
        for number, objective in enumerate(self.of):
            if self._label(number) == label:
                named = rest if isinstance(objective, Combined) else rest.rpartition(".")[2]
                return float(objective.coefficient(named))
        return 1.0

    def logged(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        """Each by itself, so that they can be compared."""
        return asked


def _whole(shares: Sequence[float]) -> NDArray[np.float64]:
    """The shares in a unit in which they add up to 1."""
    return np.array(shares) / sum(shares)

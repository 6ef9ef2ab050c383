"""Unlikelihood training: the next token, and of the tokens that stood before, that they are not it (Welleck
et al., 2020). Models trained by likelihood alone repeat themselves; here that costs something.

    loss = −( Σₜ log q(xₜ | x₁ … xₜ₋₁)  +  α Σₜ Σ over c in Cₜ  log(1 − q(c | x₁ … xₜ₋₁)) ) / tokens asked
    Cₜ   = the different tokens of x₁ … xₜ₋₁ without xₜ and special ones

Hidden: the future. Seen: the past of the same document, as in `causal`. For `the cat sat` with ⊢ and ⊣:

    sees        ⊢     ⊢ the   ⊢ the cat   ⊢ the cat sat
    is asked    the   cat     sat         ⊣
    and not     –     the     the, cat    the, cat, sat

**By hand.** If every right answer gets 1/2 and every wrong one above 1/6, with α = 1 the loss is
(4 · ln 2 − 6 · ln(5/6)) / 4 = 0.967.

The inner sum has a term for every token that came before. So for each place only `draws` of Cₜ are asked,
drawn by chance, and count |Cₜ| / draws each: the same in the mean (one of n tokens that counts n times).
Held-out text is scored by its likelihood alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Ask, Cut, Example, Piece, Read
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.tokenizer import Tokenizer

__all__ = ["Unlikelihood"]

REPEATED = "repeated"
"""The term of what must not come again."""


class Again(NamedTuple):
    """Questions about tokens that stood before: where, which, and what each counts."""

    at: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float32]


@final
class Unlikelihood(Objective):
    """Predict the next token, and not one that was there."""

    weight: float = Field(1.0, gt=0)
    """α: what the unlikelihood counts in the loss, where the likelihood counts 1."""
    draws: int = Field(1, ge=1)
    """Tokens from before each place that are asked about, drawn by chance; more are steadier and dearer."""
    end: bool = True
    """Documents end with an end token, which is asked too."""

    def cut(self, window: int) -> Cut:
        """As `causal`."""
        return Causal(end=self.end).cut(window)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """What `causal` asks, and at the same places about tokens from before."""
        example = Causal(end=self.end).example(read, index, rng, tokenizer)
        places = example.asks[0].at
        chances = rng.random((len(places), self.draws))
        at, target, weight = _again(read[index].ids, places, chances, tokenizer.special_ids)
        ask = Ask(head="tokens", at=at, target=target, weight=weight, term=REPEATED, negative=True)
        return replace(example, asks=(*example.asks, ask) if len(at) else example.asks)

    def whole(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """By its likelihood alone."""
        return Causal(end=self.end).whole(piece, tokenizer)

    def denominators(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        """Both terms by the tokens asked: a token costs what all those before it cost together."""
        return dict.fromkeys(asked, asked.get("tokens", 0.0))

    def coefficient(self, term: str) -> float:
        return self.weight if term == REPEATED else 1.0


def _again(
    ids: NDArray[np.int64], places: NDArray[np.int64], chances: NDArray[np.float64], special: frozenset[int]
) -> Again:
    """For each of `places` (k,), ascending, tokens up to there that are not the next one: those that
    `chances` (k, draws) fall on."""
    seen: dict[int, int] = {}
    order: list[int] = []
    at, target, weight = [], [], []
    begun = 0
    row = ids.tolist()
    for place, drawn in zip(places.tolist(), chances.tolist(), strict=True):
        for token in row[begun : place + 1]:
            if token not in seen and token not in special:
                seen[token] = len(order)
                order.append(token)
        begun = place + 1
        right = seen.get(row[place + 1], len(order))
        count = len(order) - (right < len(order))
        for chance in drawn if count else ():
            number = int(chance * count)
            at.append(place)
            target.append(order[number + (number >= right)])
            weight.append(count / len(drawn))
    return Again(np.array(at, np.int64), np.array(target, np.int64), np.array(weight, np.float32))

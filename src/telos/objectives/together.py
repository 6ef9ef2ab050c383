"""Several objectives on one example: the first makes it, the others add their asks (Devlin et al., 2019).

    loss = Σ over terms   weight · the term's sum / the term's denominator

so that each objective counts as a whole, however few tokens it asks for.
"""

from collections.abc import Iterable
from typing import Annotated, final

import numpy as np
from pydantic import Field, model_validator

from telos import objectives
from telos.batch import Cut, Example, HeadSpec, Read
from telos.config import Lax, member
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Together"]


@final
class Together(Objective):
    """One example, several terms."""

    of: Annotated[tuple[member(objectives, Objective), ...], Lax] = Field(min_length=1)  # type: ignore[valid-type]
    """The objectives: the first makes the example, the rest extend it."""
    weights: Annotated[dict[str, float], Lax] = Field(default_factory=dict)
    """What each term counts in the loss, by its name; 1 where nothing is said."""

    @model_validator(mode="after")
    def _weights_name_terms(self) -> "Together":
        terms = [head.name for head in self.heads(vocabulary=1)]
        for term in self.weights:
            if term not in terms:
                raise ValueError(f"weights names {term!r}, which is none of the terms: {', '.join(terms)}")
        return self

    def cut(self, window: int) -> Cut:
        first: Objective = self.of[0]
        return first.cut(window)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        example: Example = self.of[0].example(read, index, rng, tokenizer)
        for objective in self.of[1:]:
            example = objective.extend(example, rng, tokenizer)
        return example

    def requires(self) -> frozenset[str]:
        return frozenset().union(*(objective.requires() for objective in self.of))

    def heads(self, vocabulary: int) -> tuple[HeadSpec, ...]:
        return union(objective.heads(vocabulary) for objective in self.of)

    def specials(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for objective in self.of for name in objective.specials()))

    def coefficient(self, term: str) -> float:
        return self.weights.get(term, 1.0)


def union(groups: Iterable[tuple[HeadSpec, ...]]) -> tuple[HeadSpec, ...]:
    """Each head once, in the order of first mention."""
    return tuple(dict.fromkeys(head for group in groups for head in group))

"""Several objectives on one example: the first makes it, the others add their asks (Devlin et al., 2019).

    loss = Σ over terms   weight · the term's sum / the term's denominator

so that each objective counts as a whole, however few tokens it asks for.
"""

from typing import Annotated, final

import numpy as np
from pydantic import Field, model_validator

from telos.batch import Cut, Example, Read
from telos.config import Lax
from telos.objectives._base import Objective
from telos.objectives._combined import Combined
from telos.tokenizer import Tokenizer

__all__ = ["Together"]


@final
class Together(Combined):
    """One example, several terms: the first of `of` makes the example, the rest extend it."""

    weights: Annotated[dict[str, float], Lax] = Field(default_factory=dict)
    """What each term counts in the loss, by its name; where nothing is said, what its objective says."""

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

    def coefficient(self, term: str) -> float:
        """What `weights` says, else what the objective says whose head it is."""
        owners = (each for each in self.of if term in {head.name for head in each.heads(vocabulary=1)})
        own = next((float(each.coefficient(term)) for each in owners), 1.0)
        return self.weights.get(term, own)

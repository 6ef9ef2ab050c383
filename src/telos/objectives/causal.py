"""Causal language modelling: each token from those before it (Bengio et al., 2003; Radford et al., 2018;
Brown et al., 2020).

    loss = −Σₜ log q(xₜ | x₁ … xₜ₋₁) / number of tokens asked

Hidden: the future. Seen: the past of the same document. For `the cat sat` with begin ⊢ and end ⊣:

    sees      ⊢     ⊢ the   ⊢ the cat   ⊢ the cat sat
    is asked  the   cat     sat         ⊣
"""

from typing import final

import numpy as np

from telos.batch import Ask, Cut, Example, Read, Side
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Causal"]


@final
class Causal(Objective):
    """GPT's objective: predict the next token."""

    end: bool = True
    """Documents end with an end token, which is asked too: so the model learns to stop."""

    def cut(self, window: int) -> Cut:
        """`window` places in, the same number asked one further
        on; the first token of a document is the begin token."""
        return Cut(length=window + 1, overlap=1, begin=True, end=self.end)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """All tokens of the piece but the last go in; all that the piece answers for are asked."""
        piece = read[index]
        at = np.arange(max(piece.ask_from, 1) - 1, len(piece) - 1)
        return Example(
            main=Side.of(piece.ids[:-1], causal=True),
            asks=(Ask(head="tokens", at=at, target=piece.ids[at + 1], weight=np.ones(len(at), np.float32)),),
            pattern="causal",
            unit=piece.document,
            sample=index,
        )

"""Several next tokens from each place, by heads on shared states (Gloeckle et al., 2024).

    loss = Σₖ wₖ · ( −Σₜ log qₖ(xₜ₊ₖ | x₁ … xₜ) / number of tokens that head k was asked )     k = 1 … n

Hidden: the future. Seen: the past of the same document. Head 1 is the model itself and asks as `causal` does;
w₁ = 1, and the others' w is a setting. For `the cat sat` with begin ⊢ and end ⊣, and n = 2:

    sees      ⊢      ⊢ the   ⊢ the cat   ⊢ the cat sat
    head 1    the    cat     sat         ⊣
    head 2    cat    sat     ⊣           (not asked: nothing is there)

**By hand.** If head 1 gives its four right answers the probability 1/2 each, and head 2 its three 1/4 each,
the loss is 4 · ln 2 / 4 + 3 · ln 4 / 3 = 3 · ln 2 = 2.079. With n = 1 it is `causal`, to the bit.

In the paper each head is a whole transformer layer of its own before one shared projection. Here it is one
residual layer, x + silu(W x), as in Medusa (Cai et al., 2024): a head gets only the places that it is asked
about, gathered, so it cannot look at others; and so the heads suit models without attention too. They share
the projection where the model shares it with the embedding (`model.tied`).

Held-out text is scored by head 1 alone. In generation the further heads guess ahead: the same text with fewer
runs of the model (`generate/speculative.py`).
"""

from dataclasses import replace
from typing import ClassVar, final

import numpy as np
from pydantic import Field, model_validator

from telos.batch import Ask, Cut, Example, HeadSpec, Piece, Read, Side
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["MultiToken"]


@final
class MultiToken(Objective):
    """Predict the next tokens, several at once."""

    decoded: ClassVar[str] = "speculative"

    tokens: int = Field(4, ge=1)
    """n: tokens that are predicted from each place; 1 is `causal`."""
    weight: float = Field(1.0, gt=0)
    """What each further token counts in the loss, where the next one counts 1."""
    end: bool = True
    """Documents end with an end token, which is asked too."""

    @model_validator(mode="after")
    def _weight_counts(self) -> "MultiToken":
        if self.tokens == 1 and self.weight != 1:
            raise ValueError("weight does nothing with tokens = 1: there are no further tokens; leave it out")
        return self

    def cut(self, window: int) -> Cut:
        """As `causal`. Head k is not asked for the first k − 1 tokens that a piece answers for, unless they
        have that many tokens of context before them."""
        return Cut(length=window + 1, overlap=1, begin=True, end=self.end)

    def heads(self, vocabulary: int) -> tuple[HeadSpec, ...]:
        return tuple(
            HeadSpec(name=_name(k), outputs=vocabulary, ahead=k - 1) for k in range(1, self.tokens + 1)
        )

    def coefficient(self, term: str) -> float:
        return 1.0 if term == _name(1) else self.weight

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """All tokens of the piece but the last go in; each head is asked all that the piece answers for and
        that has a place so far before it."""
        piece = read[index]
        return Example(
            main=Side.of(piece.ids[:-1], causal=True),
            asks=tuple(_ask(piece, k) for k in range(1, self.tokens + 1)),
            pattern="causal",
            unit=piece.document,
            sample=index,
        )

    def whole(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """By head 1 alone."""
        example = super().whole(piece, tokenizer)
        return None if example is None else replace(example, asks=example.asks[:1])


def _name(k: int) -> str:
    """Of head k."""
    return "tokens" if k == 1 else f"tokens{k}"


def _ask(piece: Piece, k: int) -> Ask:
    """The tokens of the piece, each k places before where it stands."""
    asked = np.arange(max(piece.ask_from, k), len(piece))
    return Ask(head=_name(k), at=asked - k, target=piece.ids[asked], weight=np.ones(len(asked), np.float32))

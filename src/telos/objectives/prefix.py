"""Prefix language modelling: a beginning is read in both directions, the rest is asked (Raffel et al., 2020).

    loss = −Σₜ log q(xₜ | x₁ … xₜ₋₁) over t > n / number of tokens asked

Hidden: all that comes after the first n tokens, n drawn anew for each sample. Seen: those n by all of them,
the rest by what follows. For `the cat sat down` with begin ⊢ and end ⊣, and n = 3:

    goes in    ⊢            the          cat          sat              down
    sees       ⊢ the cat    ⊢ the cat    ⊢ the cat    ⊢ the cat sat    ⊢ the cat sat down
    is asked                             sat          down             ⊣
"""

from typing import ClassVar, Literal, final

import numpy as np
from pydantic import Field

from telos.batch import Ask, Cut, Example, Piece, Read
from telos.objectives._base import Objective, Prompt
from telos.objectives._sequence import Ids, prefixed
from telos.tokenizer import Tokenizer

__all__ = ["Prefix"]


@final
class Prefix(Objective):
    """Go on from a beginning that is read in both directions."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    share: float = Field(0.5, gt=0, lt=1)
    """The prefix is at most this share of a piece; how much of that is drawn for each sample."""

    def cut(self, window: int) -> Cut:
        """`window` places in, the same number one further on; begin and end tokens as in `causal`."""
        return Cut(length=window + 1, overlap=1, begin=True, end=True)

    def requires(self) -> frozenset[str]:
        return frozenset({"prefix"})

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """The last place of the prefix is the first that is asked: those before it would see their answer."""
        piece = read[index]
        prefix = int(rng.integers(1, max(1, int(self.share * len(piece))), endpoint=True))
        return _after(piece, prefix, index)

    def whole(self, piece: Piece, tokenizer: Tokenizer) -> Example:
        """With a prefix of one token, which sees itself alone: from left to right."""
        return _after(piece, 1, -1)

    def prompt(self, ids: Ids, tokenizer: Tokenizer) -> Prompt:
        """The text is the prefix."""
        return Prompt(main=prefixed(np.concatenate([[tokenizer.begin], ids]), 1 + len(ids)))


def _after(piece: Piece, prefix: int, sample: int) -> Example:
    """The piece with its first `prefix` tokens as the prefix, and what follows asked."""
    at = np.arange(max(piece.ask_from, prefix) - 1, len(piece) - 1)
    return Example(
        main=prefixed(piece.ids[:-1], prefix),
        asks=(Ask(head="tokens", at=at, target=piece.ids[at + 1], weight=np.ones(len(at), np.float32)),),
        pattern="prefix",
        unit=piece.document,
        sample=sample,
    )

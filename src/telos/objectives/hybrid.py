"""Hybrid language modelling: one model that is causal and masked at once (GPT-BERT: Charpentier and Samuel,
2024).

    loss = (1 − share) · causal loss + share · masked loss      each over the tokens that it asked

Each sample draws one of the two. A masked token is asked where a causal one is: at the place **before** it.
So both halves answer the same question at the same place, what comes next, and differ in what may be seen.
For `the cat sat` after the begin token ⊢, with `sat` hidden (▒):

    causal   goes in   ⊢     the   cat   sat      sees the past
             asked     the   cat   sat   ⊣
    masked   goes in   ⊢     the   cat   ▒        sees the whole row
             asked                 sat

The causal half is `causal` to the bit. In the masked half nothing is asked of a piece's first token, before
which nothing stands, nor of its last, which does not go in. So documents must begin with a begin token: the
first token of the text is predicted from it.

Held-out text is scored by the causal half alone: exactly, as under `causal`.
"""

from dataclasses import replace
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Cut, Example, Piece, Read, Side
from telos.errors import DataError
from telos.objectives._base import Objective
from telos.objectives._framing import stretch
from telos.objectives.causal import Causal
from telos.objectives.masked import Masked, asking
from telos.tokenizer import Tokenizer

__all__ = ["Hybrid"]

Ids = NDArray[np.int64]


@final
class Hybrid(Objective):
    """GPT-BERT's objective: the next token, from the past or from all but what is hidden."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "exact"

    share: float = Field(0.5, gt=0, lt=1)
    """Share of the samples, and of the loss, that is masked."""
    causal: Causal = Causal()
    """The causal half."""
    masked: Masked = Masked()
    """The masked half: rate, unit, and what stands in hidden places."""

    @property
    def reconstructs(self) -> bool:  # type: ignore[override]
        """As the masked half does."""
        return self.masked.reconstructs

    def cut(self, window: int) -> Cut:
        """As `causal`, for both halves."""
        return self.causal.cut(window)

    def requires(self) -> frozenset[str]:
        return frozenset({"causal", "full"})

    def columns(self) -> tuple[str, ...]:
        return self.masked.columns()

    def after(self, passes: float) -> "Hybrid":
        return self.model_copy(update={"masked": self.masked.after(passes)})

    def coefficient(self, term: str) -> float:
        return {"causal.tokens": 1 - self.share, "masked.tokens": self.share}.get(term, 1.0)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """One half or the other.

        Raises:
            DataError: the document does not begin with a begin token.
        """
        piece = read[index]
        if piece.start == 0 and piece.ids[0] != tokenizer.begin:
            raise DataError(
                "hybrid predicts each token at the place before it, so a document must begin with a begin "
                "token, and this one does not. Cut documents as the objective asks: Hybrid().cut(window) has "
                "that token."
            )
        if rng.random() >= self.share:
            return _named(self.causal.example(read, index, rng, tokenizer), "causal")
        row = _seen_whole(piece, index)
        free = np.arange(len(row.main)) >= max(1, piece.ask_from)
        hidden = self.masked.choose(row, free, rng, tokenizer)
        ids = self.masked.replaced(row.main.ids, hidden, rng, tokenizer)
        return _named(asking(row, ids, hidden.at - 1, hidden.at), "masked")

    def tries(self, read: Read, index: int, tokenizer: Tokenizer) -> tuple[Example, ...]:
        """The causal half."""
        return self.causal.tries(read, index, tokenizer)

    def whole(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """Exactly, by the causal half."""
        return self.causal.whole(piece, tokenizer)

    def hide(self, piece: Piece, hidden: Ids, asked: Ids, tokenizer: Tokenizer) -> Example:
        """As in the masked half; the place 0 is never asked."""
        row = _seen_whole(piece, 0, whole=True)
        ids = row.main.ids.copy()
        ids[hidden] = tokenizer.mask
        asked = asked[asked > 0]
        return asking(row, ids, asked - 1, asked)


def _seen_whole(piece: Piece, sample: int, *, whole: bool = False) -> Example:
    """The tokens that go in, all but the last unless `whole`, seen in both directions."""
    part = stretch(piece, slice(0, len(piece) if whole else len(piece) - 1))
    return Example(
        main=Side.of(part.ids, causal=False),
        asks=(),
        pattern="full",
        unit=piece.document,
        sample=sample,
        columns=part.columns,
    )


def _named(example: Example, half: str) -> Example:
    return replace(example, asks=tuple(replace(ask, term=f"{half}.{ask.name}") for ask in example.asks))

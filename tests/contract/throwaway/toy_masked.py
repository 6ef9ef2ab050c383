"""Masked language modelling in its plainest form: a share of the tokens is hidden, everything else may be
seen."""

from dataclasses import replace
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Ask, Cut, Example, Piece, Read, Side
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer


@final
class ToyMasked(Objective):
    """Hide tokens, ask for them."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    rate: float = Field(0.15, gt=0, le=1)
    """Share of the tokens that is hidden; at least one."""

    def cut(self, window: int) -> Cut:
        return Cut(length=window)

    def requires(self) -> frozenset[str]:
        return frozenset({"full"})

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        piece = read[index]
        whole = Example(
            main=Side.of(piece.ids, causal=False), asks=(), pattern="full", unit=piece.document, sample=index
        )
        return self.extend(whole, rng, tokenizer)

    def extend(self, example: Example, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        ids = example.main.ids.copy()
        free = np.flatnonzero(~np.isin(ids, list(tokenizer.special_ids)))
        at = (
            np.sort(rng.choice(free, size=max(1, round(self.rate * len(free))), replace=False))
            if len(free)
            else free
        )
        ask = Ask(head="tokens", at=at, target=ids[at], weight=np.ones(len(at), np.float32))
        ids[at] = tokenizer.mask
        return replace(example, main=replace(example.main, ids=ids), asks=(*example.asks, ask))

    def hide(
        self, piece: Piece, hidden: NDArray[np.int64], asked: NDArray[np.int64], tokenizer: Tokenizer
    ) -> Example:
        ids = piece.ids.copy()
        ids[hidden] = tokenizer.mask
        ask = Ask(head="tokens", at=asked, target=piece.ids[asked], weight=np.ones(len(asked), np.float32))
        return Example(main=Side.of(ids, causal=False), asks=(ask,), pattern="full")

"""What the tests of objectives share: documents that are one piece each, and the parts of an example."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from telos.batch import Example, Piece
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer

__all__ = ["Pieces", "answers", "characters", "draw"]

LETTERS = "abcdefghijklmnopqrstuvwxyz .床前明月光"


@cache
def characters(specials: tuple[str, ...] = ()) -> Tokenizer:
    """A vocabulary in which every character of `LETTERS` is a token."""
    settings = TokenizerSettings(kind="character", size=200 + len(specials))
    return train_tokenizer(settings, iter([LETTERS]), specials)


class Pieces:
    """Each of these id vectors is a document and a piece."""

    def __init__(self, *pieces: Sequence[int] | NDArray[np.int64], ask_from: int = 0) -> None:
        self.pieces = [
            Piece(ids=np.array(ids, np.int64), document=n, ask_from=ask_from) for n, ids in enumerate(pieces)
        ]

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> Piece:
        return self.pieces[index]


def draw(objective: Objective, pieces: Pieces, seed: int = 0, tokenizer: Tokenizer | None = None) -> Example:
    """The first piece as an example."""
    vocabulary = tokenizer or characters(objective.specials())
    return objective.example(pieces, 0, np.random.default_rng(seed), vocabulary)


def answers(example: Example) -> list[int]:
    """What is asked, in order; each at a place of its own."""
    (ask,) = example.asks
    assert len(set(ask.at.tolist())) == len(ask.at)
    return ask.target.tolist()

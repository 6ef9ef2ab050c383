"""Pairs of stretches of text, and the question whether the second follows the first.

    ⊢ A | B |     types 0 0 0 1 1     asked at ⊢, of the head `follows`: 1 yes, 0 no

Stretches are whole sentences, whatever the answer: one that ended in the middle of a sentence would give the
answer away. A sentence that the end of a piece cuts through is completed from the next piece, where that
takes no more than an eighth of the piece, for which room is kept; a longer one is left out. A text of one
sentence is divided at a word, or at a token; of one token nothing is asked.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.batch import Ask, Cut, Example, HeadSpec, Read
from telos.errors import DataError
from telos.objectives._base import Objective
from telos.objectives._framing import Stretch, framed, inside, joined, room, stretch
from telos.tokenizer import Tokenizer

__all__ = ["Pair", "Pairs", "whole_sentences"]

SENTENCE = "sentence_start"
_SLACK = 8
"""A piece may grow by one token in so many, to complete its last sentence."""


class Pair(NamedTuple):
    """Two stretches of one document, the second of which follows the first."""

    first: Stretch
    second: Stretch
    document: int
    most: int
    """Tokens that both together may have."""


class Pairs(Objective, ABC):
    """Base of the objectives that ask whether one stretch of text follows another."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"
    decoded: ClassVar[str] = "unmasking"

    def cut(self, window: int) -> Cut:
        """Pieces that leave room for the three marks, and to complete a sentence."""
        left = room(window, 2)
        return Cut(length=next(n for n in range(left, 0, -1) if n + n // _SLACK <= left))

    def requires(self) -> frozenset[str]:
        return frozenset({"full", "types"})

    def columns(self) -> tuple[str, ...]:
        return (SENTENCE,)

    def heads(self, vocabulary: int) -> tuple[HeadSpec, ...]:
        return (HeadSpec(name="follows", outputs=2, kind="classes"),)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """The whole sentences of a piece in two stretches; yes and no are equally likely."""
        piece = read[index]
        whole = whole_sentences(read, index, tokenizer)
        if len(whole.ids) < 2:
            return framed((whole,), tokenizer, unit=piece.document, sample=index)
        place = _divided(whole, rng)
        first, second = whole.part(0, place), whole.part(place, len(whole.ids))
        pair = Pair(first, second, piece.document, len(piece) + len(piece) // _SLACK)
        follows = int(rng.integers(2))
        other = self.apart(pair, read, rng, tokenizer)  # drawn whatever the answer: it must be possible
        ask = Ask(
            head="follows",
            at=np.zeros(1, np.int64),
            target=np.array([follows]),
            weight=np.ones(1, np.float32),
        )
        shown = (first, second) if follows else other
        return framed(shown, tokenizer, unit=piece.document, sample=index, asks=(ask,))

    @abstractmethod
    def apart(
        self, pair: Pair, read: Read, rng: np.random.Generator, tokenizer: Tokenizer
    ) -> tuple[Stretch, Stretch]:
        """Two stretches like those of `pair`, of which the second does not follow the first."""


def whole_sentences(read: Read, index: int, tokenizer: Tokenizer) -> Stretch:
    """The sentences that begin in a piece, the last one completed from the next piece. Where none begins in
    it, or the last one is too long, the piece as it is, or what is whole of it.

    Raises:
        DataError: the text was prepared without the column of sentences.
    """
    piece = read[index]
    if SENTENCE not in piece.columns:
        raise DataError(
            f"This objective needs the column {SENTENCE}, and the text was prepared without it. Prepare it "
            "with this objective in the recipe: telos prepare …"
        )
    text = stretch(piece, inside(piece, tokenizer))
    starts = np.flatnonzero(text.columns[SENTENCE])
    begin = int(starts[0]) if len(starts) else 0
    rest = _rest_of_the_sentence(read, index, tokenizer)
    if len(rest.ids) <= len(piece) // _SLACK:
        return joined(text.part(begin, len(text.ids)), rest)
    last = int(starts[-1]) if len(starts) else 0
    return text.part(begin, last if last > begin else len(text.ids))


def _rest_of_the_sentence(read: Read, index: int, tokenizer: Tokenizer) -> Stretch:
    """What the next piece of the same document holds of the sentence that this one ends in."""
    piece = read[index]
    if index + 1 == len(read) or read[index + 1].document != piece.document:
        return stretch(piece, slice(0, 0))
    after = read[index + 1]
    part = inside(after, tokenizer)
    fresh = stretch(after, slice(max(part.start, after.ask_from), part.stop))
    starts = np.flatnonzero(fresh.columns[SENTENCE])
    return fresh.part(0, int(starts[0]) if len(starts) else len(fresh.ids))


def _divided(whole: Stretch, rng: np.random.Generator) -> int:
    """Where the second stretch begins: at a sentence, else at a word, else at a token."""
    for name in (SENTENCE, "word_start"):
        if len(places := 1 + np.flatnonzero(whole.columns.get(name, np.zeros(1, np.bool_))[1:])):
            return int(rng.choice(places))
    return int(rng.integers(1, len(whole.ids)))


def ends(whole: Stretch) -> NDArray[np.int64]:
    """Where its sentences end, ascending."""
    return np.append(1 + np.flatnonzero(whole.columns[SENTENCE][1:]), len(whole.ids))

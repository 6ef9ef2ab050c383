"""BART's denoising: a text with gaps and its sentences shuffled is read, then the whole text is said (Lewis
et al., 2020).

    loss = −Σₜ log q(xₜ | x₁ … xₜ₋₁, the damaged text) / number of tokens asked

Hidden: 30 % of the tokens, in spans whose length is drawn from a Poisson distribution with a mean of 3; each
span becomes one mask token □, and a span of length 0 puts one in where nothing is missing. Seen: the rest in
both directions, and of the answer what has been said of it. For the two sentences `the cat sat . it was late
.`, of which the spans `cat sat` and, of length 0, the one after `was` are drawn:

    read       it was □ late . the □ . ⊣
    goes in    ⊢    the  cat  sat  .    it   was   late  .
    is asked   the  cat  sat  .    it   was  late  .     ⊣

Of the spans of length 0 only as many are put in as leave the damaged text no longer than the text, so pieces
of `window − 1` tokens always fit.
"""

from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Cut, Example, Piece, Read
from telos.errors import ConfigError
from telos.objectives import _sequence, _spans
from telos.objectives._base import Objective, Prompt
from telos.objectives._sequence import FORM_NEEDS, Ids, Sequences
from telos.tokenizer import Tokenizer

__all__ = ["Bart"]


@final
class Bart(Objective):
    """BART's objective: say a whole text that was damaged."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"
    reconstructs: ClassVar[bool] = True

    density: float = Field(0.3, gt=0, lt=1)
    """Share of the tokens that is hidden."""
    length: float = Field(3.0, ge=0.5, le=1000)
    """Mean tokens of a span: the λ of a Poisson distribution."""
    shuffle: bool = True
    """Sentences are read in another order than they are to be said."""

    def cut(self, window: int) -> Cut:
        """One place is for the begin token, and of what is read for the end token.

        Raises:
            ConfigError: the window holds no text.
        """
        if window < 2:
            raise ConfigError(f"train.window = {window}: must be at least 2, for a token and its end.")
        return Cut(length=window - 1)

    def requires(self) -> frozenset[str]:
        return FORM_NEEDS["source"]

    def columns(self) -> tuple[str, ...]:
        return ("sentence_start",) if self.shuffle else ()

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """The piece is read damaged and said whole."""
        piece = read[index]
        ids, ours, first = _sequence.text(piece, tokenizer)
        order = np.arange(len(ids))
        if self.shuffle:
            order = shuffled(piece.columns["sentence_start"][first : first + len(ids)], rng)
        lengths = span_lengths(round(self.density * len(ids)), len(ids), self.length, rng)
        read_ids = with_gaps(ids[order], lengths, tokenizer.mask, rng)
        both = _said_whole(read_ids, ids, np.append(ours, True), tokenizer)
        return _sequence.example("source", both, piece, index, tokenizer)

    def hide(self, piece: Piece, hidden: Ids, asked: Ids, tokenizer: Tokenizer) -> Example:
        """Each run of hidden places becomes one mask token; the sentences keep their order."""
        ids, _, first = _sequence.text(piece, tokenizer)
        places = np.arange(len(ids)) + first
        read_ids = _spans.corrupt(ids, np.isin(places, hidden), tokenizer.mask).read
        both = _said_whole(read_ids, ids, np.append(np.isin(places, asked), False), tokenizer)
        return _sequence.example("source", both, piece, -1, tokenizer)

    def prompt(self, ids: Ids, tokenizer: Tokenizer) -> Prompt:
        """The text with a gap after it is read; what is said begins with the text."""
        return _sequence.prompt("source", np.append(ids, tokenizer.mask), ids, tokenizer)


def _said_whole(read: Ids, ids: Ids, asked: NDArray[np.bool_], tokenizer: Tokenizer) -> Sequences:
    return Sequences(np.append(read, tokenizer.end), np.append(ids, tokenizer.end), asked)


def shuffled(sentence_start: NDArray[np.bool_], rng: np.random.Generator) -> Ids:
    """The places of a text (n,) with its sentences in another order; they stay whole."""
    sentence = np.cumsum(sentence_start)
    rank = rng.permutation(int(sentence.max(initial=0)) + 1)
    return np.argsort(rank[sentence], kind="stable")


def span_lengths(hidden: int, n: int, mean: float, rng: np.random.Generator) -> Ids:
    """Lengths that add up to `hidden`, but to at least 1 of n tokens: drawn until that is reached, the last
    one cut."""
    hidden = min(n, max(1, hidden))
    lengths = np.zeros(0, np.int64)
    while lengths.sum() < hidden:
        lengths = np.append(lengths, rng.poisson(mean, 8 + int(2 * hidden / mean)))
    reached = int(np.searchsorted(np.cumsum(lengths), hidden))
    lengths = lengths[: reached + 1]
    lengths[reached:] -= lengths.sum() - hidden
    return lengths


def with_gaps(ids: Ids, lengths: Ids, mask: int, rng: np.random.Generator) -> Ids:
    """A text (n,) in which spans of these lengths became one mask each.

    Between two spans a token stays; where too few stay for that, the last spans are one. Those of length 0
    stand anywhere, as many as leave the text no longer than it was.
    """
    spans, empty = lengths[lengths > 0], int((lengths == 0).sum())
    kept = len(ids) - int(spans.sum())
    if len(spans) > kept + 1:
        spans = np.append(spans[:kept], spans[kept:].sum())
    hidden = _spans.placed(spans, len(ids), rng)
    left = _spans.corrupt(ids, hidden, mask).read
    places = rng.integers(0, len(left), min(empty, len(ids) - len(left)), endpoint=True)
    return np.insert(left, places, mask)

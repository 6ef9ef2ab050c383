"""Spans taken out of a text: how many, where, and what is left of it (Raffel et al., 2020, section 3.1.4).

Of n tokens, `density · n` are hidden (rounded, at least one and at most n − 1), in `hidden / length` spans
(rounded, at least one, and few enough that a token stays between each two). **Every choice of so many tokens
in so many spans is equally likely.** So a text may begin or end with a span or not; in the published scheme
the first token is never hidden and the last one always.

With a length of 0 there is one span, the end of the text.
"""

from abc import ABC
from dataclasses import replace
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Piece
from telos.errors import ConfigError
from telos.objectives import _sequence
from telos.objectives._base import Objective, Prompt
from telos.objectives._sequence import FORM_NEEDS, Form, Sequences, longest, places, text
from telos.tokenizer import Tokenizer

__all__ = [
    "Corrupted",
    "Counts",
    "Noise",
    "Spans",
    "check_marks",
    "corrupt",
    "longest_piece",
    "mark",
    "mark_names",
    "placed",
    "take",
    "take_these",
]

Ids = NDArray[np.int64]


class Spans(Objective, ABC):
    """What objectives share that ask for spans, each after the mark that stands in its place."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    form: Form = "source"
    """`source`: an encoder reads the text with gaps, a decoder says the spans. `prefix`: one model does both
    in one row, reading in both directions."""
    marks: int = Field(100, ge=1)
    """Marks for gaps that the vocabulary holds; a longer window needs more."""

    def requires(self) -> frozenset[str]:
        return FORM_NEEDS[self.form]

    def otherwise(self, gives: frozenset[str]) -> str:
        return _sequence.other_form(gives)

    def gap_in(self, before: Ids, after: Ids, tokenizer: Tokenizer) -> Prompt:
        """A text with a gap in it, which is what is asked for: up to the end token or, as in T5's own
        targets, to the next mark."""
        gap, *others = (tokenizer.special(mark(number)) for number in range(self.marks))
        read = np.concatenate([before, [gap], after])
        asked = _sequence.prompt(self.form, read, np.array([gap]), tokenizer)
        return replace(asked, ends=tuple(others))


class Counts(NamedTuple):
    """Of a text: its hidden tokens and their spans."""

    hidden: int
    spans: int


class Noise(NamedTuple):
    """How much of a text is hidden, and in spans how long."""

    density: float
    """Share of the tokens, between 0 and 1."""
    length: float
    """Mean tokens of a span; 0 for one span, the end of the text."""

    def counts(self, n: int) -> Counts:
        """Of a text of n tokens."""
        if n == 0:
            return Counts(0, 0)
        hidden = max(1, min(round(self.density * n), n - 1))
        if not self.length:
            return Counts(hidden, 1)
        spans = max(1, min(round(hidden / self.length), hidden, n - hidden + 1))
        return Counts(hidden, spans)

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which of n tokens are hidden (n,)."""
        hidden, spans = self.counts(n)
        if not self.length or n == 0:
            return np.arange(n) >= n - hidden
        return placed(_parts(hidden, spans, rng), n, rng)


def placed(lengths: Ids, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which of n tokens are hidden (n,) by spans of these lengths, in this order, with a token or more
    between each two: every such choice equally likely."""
    runs = np.empty(2 * len(lengths) + 1, np.int64)  # kept, hidden, kept, …, kept
    runs[1::2] = lengths
    runs[::2] = _parts(n - int(lengths.sum()) + 2, len(lengths) + 1, rng)
    runs[0] -= 1  # the first and the last may be empty, and without a span they are one
    runs[-1] -= 1
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def _parts(total: int, count: int, rng: np.random.Generator) -> Ids:
    """`count` numbers ≥ 1 that add up to `total`, every such list equally likely."""
    edges = np.empty(count + 1, np.int64)
    edges[0], edges[-1] = 0, total
    edges[1:-1] = 1 + np.sort(rng.choice(total - 1, count - 1, replace=False))
    return edges[1:] - edges[:-1]


class Corrupted(NamedTuple):
    """A text without its spans, and the spans."""

    read: Ids
    """What is left, with a mark for each span."""
    said: Ids
    """The spans, each after its mark."""
    places: Ids
    """Where in the text each token of `said` was; a mark is where its span begins."""


def corrupt(ids: Ids, hidden: NDArray[np.bool_], marks: Ids | int) -> Corrupted:
    """Take the runs of `hidden` (n,) out of a text (n,): the k-th is marked with `marks[k]`, or all alike.

    a b c d e f, of which b, c and f are hidden → a ⟨0⟩ d e ⟨1⟩ and ⟨0⟩ b c ⟨1⟩ f.
    """
    begins = hidden.copy()
    begins[1:] &= ~hidden[:-1]
    read = ids.copy()
    read[begins] = marks
    places, starts = np.flatnonzero(hidden), np.flatnonzero(begins)
    order = np.repeat(places, 1 + begins[places])  # the first place of a run twice: for its mark, for itself
    said = ids[order]
    at_mark = np.flatnonzero(begins[places]) + np.arange(len(starts))
    said[at_mark] = marks
    return Corrupted(read=read[begins | ~hidden], said=said, places=order)


def take(noise: Noise, piece: Piece, rng: np.random.Generator, tokenizer: Tokenizer) -> Sequences:
    """The piece with gaps, and its spans; each ends with the end token.

    Tokens that are context only, for which another piece answers, may be hidden but are not asked.
    """
    ids, ours, _ = text(piece, tokenizer)
    made = _marked(ids, noise.draw(len(ids), rng), tokenizer)
    return _ended(made, np.append(ours[made.places], True), tokenizer)


def take_these(
    piece: Piece, hidden: NDArray[np.int64], asked: NDArray[np.int64], tokenizer: Tokenizer
) -> Sequences:
    """The same with given places of the piece hidden, and only the tokens at those `asked` asked."""
    ids, _, first = text(piece, tokenizer)
    made = _marked(ids, np.isin(np.arange(len(ids)) + first, hidden), tokenizer)
    wanted = np.isin(made.places + first, asked) & (made.said == ids[made.places])
    return _ended(made, np.append(wanted, False), tokenizer)


def _marked(ids: Ids, hidden: NDArray[np.bool_], tokenizer: Tokenizer) -> Corrupted:
    """`corrupt` with as many marks as are needed."""
    spans = int(hidden[:1].sum() + (hidden[1:] & ~hidden[:-1]).sum())
    return corrupt(ids, hidden, mark_ids(tokenizer, spans))


def _ended(made: Corrupted, asked: NDArray[np.bool_], tokenizer: Tokenizer) -> Sequences:
    return Sequences(np.append(made.read, tokenizer.end), np.append(made.said, tokenizer.end), asked)


def longest_piece(noise: Noise, form: Form, window: int, front: int = 0) -> int:
    """The most tokens of text that fit a window, with `front` more tokens before what is read.

    Raises:
        ConfigError: not even one does.
    """

    def row(n: int) -> int:
        hidden, spans = noise.counts(n)
        return places(form, front + n - hidden + spans + 1, hidden + spans + 1)

    found = longest(window, row)
    if not found:
        raise ConfigError(
            f"train.window = {window}: a token with its marks takes {row(1)} places; set it to more."
        )
    return found


def mark(number: int) -> str:
    """The name of the token that marks span `number`, as T5's vocabulary has it."""
    return f"<extra_id_{number}>"


@lru_cache(maxsize=1024)
def mark_ids(tokenizer: Tokenizer, spans: int) -> Ids:
    """The ids of the first so many marks (spans,)."""
    return np.array([tokenizer.special(mark(number)) for number in range(spans)], np.int64)


def mark_names(count: int) -> tuple[str, ...]:
    """The marks in the order of T5's vocabulary: the first span's has the highest id."""
    return tuple(mark(number) for number in reversed(range(count)))


def check_marks(spans: int, marks: int, length: int, window: int) -> None:
    """Whether each span of the longest piece has a mark of its own.

    Raises:
        ConfigError: there are too few.
    """
    if spans > marks:
        raise ConfigError(
            f"objective.marks = {marks}: with train.window = {window} a piece has {length} tokens and "
            f"{spans} gaps, and each needs a mark of its own. Set objective.marks to at least {spans}."
        )

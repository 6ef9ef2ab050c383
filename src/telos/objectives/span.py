"""Span corruption: a text with gaps is read, then what stood in each gap is said (T5: Raffel et al., 2020).

    loss = −Σₜ log q(yₜ | y₁ … yₜ₋₁, the text with its gaps) / number of tokens asked

Hidden: 15 % of the tokens, in spans of 3 on average. Seen: the rest in both directions, with a mark for each
gap; and of the answer y, what has been said of it. For the 13 tokens `the cat sat on the mat and the dog
slept near the door`, of which 2 are hidden, in one span:

    read       the cat sat on ⟨0⟩ and the dog slept near the door ⊣
    goes in    ⊢    ⟨0⟩   the   mat
    is asked   ⟨0⟩  the   mat   ⊣

**Lengths.** Of n tokens h are hidden in s spans (see `_spans.py`): n − h + s + 1 are read and h + s + 1 said,
the 1 being the end token ⊣ of each. The largest n with which both fit their window is how long pieces are
cut: 568 tokens for T5's window of 512 (85 hidden in 28 spans: 512 read, 114 said).

Marks are special tokens of the vocabulary by their published names, `<extra_id_0>` first in the text.
"""

from typing import final

import numpy as np
from pydantic import Field

from telos.batch import Cut, Example, Piece, Read
from telos.objectives import _sequence, _spans
from telos.objectives._base import Prompt
from telos.objectives._sequence import Ids
from telos.objectives._spans import Noise, Spans
from telos.tokenizer import Tokenizer

__all__ = ["Span"]


@final
class Span(Spans):
    """T5's objective: say the spans that were taken out of a text."""

    density: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens that is hidden."""
    length: float = Field(3.0, ge=1)
    """Mean tokens of a span."""

    @property
    def noise(self) -> Noise:
        """How spans are drawn."""
        return Noise(self.density, self.length)

    def cut(self, window: int) -> Cut:
        """The longest pieces with which what is read and what is said fit a row of `window` places.

        Raises:
            ConfigError: the window is too small, or the marks are too few for it.
        """
        length = _spans.longest_piece(self.noise, self.form, window)
        _spans.check_marks(self.noise.counts(length).spans, self.marks, length, window)
        return Cut(length=length)

    def specials(self) -> tuple[str, ...]:
        return _spans.mark_names(self.marks)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """What is left of the piece, and then its spans."""
        piece = read[index]
        both = _spans.take(self.noise, piece, rng, tokenizer)
        return _sequence.example(self.form, both, piece, index, tokenizer)

    def hide(self, piece: Piece, hidden: Ids, asked: Ids, tokenizer: Tokenizer) -> Example:
        """Each run of hidden places is a span."""
        both = _spans.take_these(piece, hidden, asked, tokenizer)
        return _sequence.example(self.form, both, piece, -1, tokenizer)

    def prompt(self, ids: Ids, tokenizer: Tokenizer) -> Prompt:
        """The text with a gap after it is read; what is said is that span."""
        return self.gap(ids, np.zeros(0, np.int64), tokenizer)

    def gap(self, before: Ids, after: Ids, tokenizer: Tokenizer) -> Prompt:
        """The gap is a span."""
        return self.gap_in(before, after, tokenizer)

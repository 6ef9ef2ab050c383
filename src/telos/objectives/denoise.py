"""A mixture of denoisers: spans of several lengths and shares are hidden, and a mode token says in which
manner (UL2: Tay et al., 2022).

    loss = −Σₜ log q(yₜ | y₁ … yₜ₋₁, mode, the text with its gaps) / number of tokens asked, of all denoisers

Each sample draws one denoiser, and is then as in `span`, with the mode before what is read:

| mode | hidden | in spans of | the model learns to |
|---|---|---|---|
| R, regular | 15 % | 3 or 8 | know |
| S, sequential | 25 %, at the end | one span | go on |
| X, extreme | 50 %, or 15 % in one long span | 3, 8 or 64 | write much from little |

For eight tokens a … h, of which S hides the last 25 % and R 15 %:

    S    read  ⟨S⟩ a b c d e f ⟨0⟩ ⊣      said  ⟨0⟩ g h ⊣
    R    read  ⟨R⟩ a b ⟨0⟩ d e f g h ⊣    said  ⟨0⟩ c ⊣

Pieces are as long as the least that any denoiser can hold, so none ever drops a token. Each mode's loss is
logged apart, and so is its share of the tokens that are asked.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, final

import numpy as np
from pydantic import Field

from telos.batch import Cut, Example, Piece, Read
from telos.config import Lax, Settings
from telos.objectives import _sequence, _spans
from telos.objectives._base import Prompt
from telos.objectives._combined import per_head
from telos.objectives._sequence import Ids, Sequences
from telos.objectives._spans import Noise, Spans
from telos.tokenizer import Tokenizer

__all__ = ["Denoise", "Denoiser"]


class Denoiser(Settings):
    """One way to take spans out of a text."""

    mode: str = Field(pattern="^[A-Za-z]+$")
    """The mode token is called so: `R` is `<|R|>` in the vocabulary."""
    density: float = Field(gt=0, lt=1)
    """Share of the tokens that is hidden."""
    length: float = Field(ge=0)
    """Mean tokens of a span; 0 for one span, the end of the text."""
    share: float = Field(1.0, gt=0)
    """How often it is drawn, in any unit."""

    @property
    def noise(self) -> Noise:
        """How spans are drawn."""
        return Noise(self.density, self.length)


_UL2 = tuple(
    Denoiser(mode=mode, density=density, length=length)
    for mode, density, length in (
        ("R", 0.15, 3.0),
        ("R", 0.15, 8.0),
        ("S", 0.25, 0.0),
        ("X", 0.5, 3.0),
        ("X", 0.5, 8.0),
        ("X", 0.15, 64.0),
        ("X", 0.5, 64.0),
    )
)
"""The seven of the paper's table 1."""


@final
class Denoise(Spans):
    """UL2's objective: say the spans that were taken out of a text in one of several manners."""

    of: Annotated[tuple[Denoiser, ...], Lax] = Field(_UL2, min_length=1)
    """The denoisers; by default the seven of the paper, each as often."""

    def cut(self, window: int) -> Cut:
        """The longest pieces that fit a row of `window` places whichever denoiser is drawn.

        Raises:
            ConfigError: the window is too small, or the marks are too few for it.
        """
        length = min(_spans.longest_piece(each.noise, self.form, window, front=1) for each in self.of)
        spans = max(each.noise.counts(length).spans for each in self.of)
        _spans.check_marks(spans, self.marks, length, window)
        return Cut(length=length)

    def specials(self) -> tuple[str, ...]:
        modes = dict.fromkeys(f"<|{each.mode}|>" for each in self.of)
        return (*modes, *_spans.mark_names(self.marks))

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """As the denoiser that is drawn."""
        piece, shares = read[index], np.array([each.share for each in self.of])
        drawn = self.of[int(rng.choice(len(self.of), p=shares / shares.sum()))]
        both = _with_mode(drawn, _spans.take(drawn.noise, piece, rng, tokenizer), tokenizer)
        example = _sequence.example(self.form, both, piece, index, tokenizer)
        return replace(example, asks=tuple(replace(a, term=f"{drawn.mode}.{a.name}") for a in example.asks))

    def hide(self, piece: Piece, hidden: Ids, asked: Ids, tokenizer: Tokenizer) -> Example:
        """As the first denoiser, each run of hidden places a span."""
        both = _with_mode(self.of[0], _spans.take_these(piece, hidden, asked, tokenizer), tokenizer)
        return _sequence.example(self.form, both, piece, -1, tokenizer)

    def prompt(self, ids: Ids, tokenizer: Tokenizer) -> Prompt:
        """As the first denoiser that hides the end of a text, if there is one."""
        last = next((each for each in self.of if not each.length), self.of[0])
        return self._gap(last, ids, np.zeros(0, np.int64), tokenizer)

    def gap(self, before: Ids, after: Ids, tokenizer: Tokenizer) -> Prompt:
        """As the first denoiser that hides spans within a text, if there is one."""
        within = next((each for each in self.of if each.length), self.of[0])
        return self._gap(within, before, after, tokenizer)

    def _gap(self, denoiser: Denoiser, before: Ids, after: Ids, tokenizer: Tokenizer) -> Prompt:
        before = np.append(tokenizer.special(denoiser.mode), before)
        return self.gap_in(before, after, tokenizer)

    def denominators(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        """Every token that is asked counts the same, whichever denoiser hid it."""
        return per_head(asked)

    def logged(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        """Each by itself, so that they can be compared."""
        return asked


def _with_mode(denoiser: Denoiser, both: Sequences, tokenizer: Tokenizer) -> Sequences:
    return both._replace(read=np.append(tokenizer.special(denoiser.mode), both.read))

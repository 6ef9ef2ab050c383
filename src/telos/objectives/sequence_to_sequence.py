"""Sequence to sequence: say the target of a pair after reading its text (Sutskever et al., 2014): a
translation, a summary, an answer, the name of a class.

    loss = −Σₜ log q(yₜ | y₁ … yₜ₋₁, x) / number of tokens of all targets

Hidden: the target. Seen: all of the text x, and of the target y what has been said of it. For the pair
`a b` → `x y`, in the three forms of `_sequence.py`:

    source   reads a b ⊣     goes in  ⊢ x y          asked  x y ⊣
    prefix                   goes in  a b ⊣ x y      asked  x y ⊣
    causal                   goes in  ⊢ a b ⊣ x y    asked  x y ⊣

A pair is read as a whole: what a window has no room for is not read, on either side. The data must have
targets (docs/translation.md); with `loss.smoothing` this is the loss of Vaswani et al. (2017).
"""

from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from telos.batch import Cut, Example, Piece, Read
from telos.errors import ConfigError, DataError
from telos.objectives import _sequence
from telos.objectives._base import Objective, Prompt
from telos.objectives._sequence import FORM_NEEDS, AnyForm, Sequences
from telos.tokenizer import Tokenizer

__all__ = ["SequenceToSequence"]


@final
class SequenceToSequence(Objective):
    """Read the text of a pair, say its target."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    form: AnyForm = "source"
    """`source`: an encoder reads the text, a decoder says the target. `prefix`: one model does both in one
    row, and reads in both directions. `causal`: the same from left to right, for models that do nothing
    else."""
    text: float = Field(0.5, gt=0, lt=1)
    """In the forms of one row, the share of it that is kept for the text; the rest is the target's."""

    @model_validator(mode="after")
    def _share_counts(self) -> "SequenceToSequence":
        if self.form == "source" and self.text != 0.5:
            raise ValueError(
                'text does nothing with form = "source", where text and target have a row each; leave it out'
            )
        return self

    def cut(self, window: int) -> Cut:
        """Both sides with an end token; the target, or a row from left to right, after a begin token.

        Raises:
            ConfigError: the window has no room for a token of each.
        """
        if self.form == "source":
            text = target = window - 1
        else:
            both = window - 1 - (self.form == "causal")
            text = min(max(1, round(self.text * both)), both - 1)
            target = both - text
        if min(text, target) < 1:
            least = {"source": 2, "prefix": 3, "causal": 4}[self.form]
            raise ConfigError(
                f"train.window = {window}: no room for a text and its target; at least {least}."
            )
        return Cut(length=text, whole=True, target=target)

    def requires(self) -> frozenset[str]:
        return FORM_NEEDS[self.form]

    def otherwise(self, gives: frozenset[str]) -> str:
        forms = [form for form, needs in FORM_NEEDS.items() if needs <= gives]
        return f' Or set objective.form = "{forms[0]}".' if forms else ""

    def columns(self) -> tuple[str, ...]:
        return ("target",)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """The whole target is asked, and its end token.

        Raises:
            DataError: the text was prepared without targets.
        """
        piece = read[index]
        said = np.append(_target(piece), tokenizer.end)
        both = Sequences(np.append(piece.ids, tokenizer.end), said, np.ones(len(said), np.bool_))
        return _sequence.example(self.form, both, piece, index, tokenizer)

    def prompt(self, ids: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt:
        """What is generated is the target of the text."""
        return _sequence.prompt(self.form, ids, np.zeros(0, np.int64), tokenizer)


def _target(piece: Piece) -> NDArray[np.int64]:
    if "target" not in piece.columns:
        raise DataError(
            "This objective needs targets, and the text was prepared without them. Prepare it with this "
            "objective in the recipe: telos prepare …"
        )
    return piece.columns["target"].astype(np.int64)

"""Examples that read one sequence and then say another, in three forms.

| form | what reads | what says | row |
|---|---|---|---|
| `source` | an encoder, in both directions | a decoder, causally, after ⊢ | the longer of the two |
| `prefix` | the first part of a row, in both directions | the rest of that row, causally | both together |
| `causal` | the first part of a row, causally, after ⊢ | the rest of that row, causally | both together |

For what is read `a b ⊣` and what is said `x y ⊣`:

    source   reads a b ⊣     goes in  ⊢ x y          asked  x y ⊣
    prefix                   goes in  a b ⊣ x y      asked  x y ⊣ at the places ⊣ x y
    causal                   goes in  ⊢ a b ⊣ x y    asked  x y ⊣ at the places ⊣ x y
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.batch import Ask, Example, Piece, Side
from telos.objectives._base import Prompt
from telos.tokenizer import Tokenizer

__all__ = [
    "FORM_NEEDS",
    "AnyForm",
    "Form",
    "Ids",
    "Sequences",
    "Text",
    "example",
    "longest",
    "places",
    "prefixed",
    "prompt",
    "text",
]

Form = Literal["source", "prefix"]
AnyForm = Literal["source", "prefix", "causal"]
FORM_NEEDS: dict[AnyForm, frozenset[str]] = {
    "source": frozenset({"causal", "source"}),
    "prefix": frozenset({"prefix"}),
    "causal": frozenset({"causal"}),
}
"""What a model must give for a form."""

Ids = NDArray[np.int64]


def other_form(gives: frozenset[str]) -> str:
    """For a model that cannot read a source."""
    return ' Or set objective.form = "prefix".' if gives >= FORM_NEEDS["prefix"] else ""


class Sequences(NamedTuple):
    """What is read, what is said then, and which tokens of that are asked."""

    read: Ids
    said: Ids
    asked: NDArray[np.bool_]


def prefixed(ids: Ids, prefix: int) -> Side:
    """A row whose first `prefix` places see one another; those after them see all that is before."""
    place = np.arange(len(ids))
    return Side(
        ids=ids.astype(np.int64),
        positions=place,
        segment=np.zeros(len(ids), np.int64),
        order=np.maximum(0, place - prefix + 1),
        seen=np.ones(len(ids), np.bool_),
    )


def places(form: AnyForm, read: int, said: int) -> int:
    """The longest row that so many tokens of each take."""
    return max(read, said) if form == "source" else read + said - (form == "prefix")


def example(form: AnyForm, both: Sequences, piece: Piece, sample: int, tokenizer: Tokenizer) -> Example:
    """Read the one, say the other."""
    read, said = both.read, both.said
    first = {"source": 0, "prefix": len(read) - 1, "causal": len(read)}[form]
    at = np.flatnonzero(both.asked)
    ask = Ask(head="tokens", at=first + at, target=said[at], weight=np.ones(len(at), np.float32))
    if form != "source":
        main, pattern = _row(form, read, said[:-1], tokenizer), form
        return Example(main=main, asks=(ask,), pattern=pattern, unit=piece.document, sample=sample)
    return Example(
        main=Side.of(np.concatenate([[tokenizer.begin], said[:-1]]), causal=True),
        source=Side.of(read, causal=False),
        asks=(ask,),
        unit=piece.document,
        sample=sample,
    )


def _row(form: Literal["prefix", "causal"], read: Ids, said: Ids, tokenizer: Tokenizer) -> Side:
    """Both in one row."""
    if form == "prefix":
        return prefixed(np.concatenate([read, said]), len(read))
    return Side.of(np.concatenate([[tokenizer.begin], read, said]), causal=True)


def prompt(form: AnyForm, read: Ids, said: Ids, tokenizer: Tokenizer) -> Prompt:
    """Read the one with an end token, and go on from the other."""
    read = np.append(read, tokenizer.end)
    if form != "source":
        return Prompt(main=_row(form, read, said, tokenizer))
    main = Side.of(np.concatenate([[tokenizer.begin], said]), causal=True)
    return Prompt(main=main, source=Side.of(read, causal=False))


class Text(NamedTuple):
    """The tokens of a piece without its begin and end token, which are there only if another objective of a
    mixture asked for them."""

    ids: Ids
    """(n,)"""
    ours: NDArray[np.bool_]
    """Which of them the piece answers for (n,); the others are context."""
    first: int
    """Where in the piece the first of them is."""


def text(piece: Piece, tokenizer: Tokenizer) -> Text:
    """The text of a piece."""
    first = int(len(piece) > 0 and piece.ids[0] == tokenizer.begin)
    last = len(piece) - int(len(piece) > first and piece.ids[-1] == tokenizer.end)
    return Text(piece.ids[first:last], np.arange(first, last) >= piece.ask_from, first)


def longest(window: int, row: Callable[[int], int]) -> int:
    """The most tokens of text for which `row`, the places that so many take, is at most `window`.

    `row` must not fall, and must be at least half of its argument.
    """
    return bisect_right(range(1, 2 * window + 1), window, key=row)

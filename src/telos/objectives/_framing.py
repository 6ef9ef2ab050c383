"""One or two stretches of text as a row of BERT's: ⊢ A | or ⊢ A | B |, seen in both directions.

⊢ is the begin token (BERT's [CLS]), | the separate token ([SEP]). With two stretches a place's type says
which it belongs to: 0 for ⊢ A |, 1 for B |. The columns of the stretches are laid along the row, so that
another objective of `together` finds its words there; ⊢ and | are words of their own.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.batch import Ask, Example, Piece, Side
from telos.errors import ConfigError
from telos.tokenizer import Tokenizer

__all__ = ["Stretch", "framed", "inside", "joined", "room", "stretch"]


class Stretch(NamedTuple):
    """Some tokens of a document (n,), and for each what its columns say (n,)."""

    ids: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.bool_]]

    def part(self, begin: int, end: int) -> "Stretch":
        """The tokens `begin` … `end` − 1."""
        return Stretch(self.ids[begin:end], {name: c[begin:end] for name, c in self.columns.items()})


def stretch(piece: Piece, part: slice) -> Stretch:
    """A part of a piece, with its columns per token: those of booleans."""
    per_token = {name: column for name, column in piece.columns.items() if column.dtype == np.bool_}
    return Stretch(piece.ids[part], {name: column[part] for name, column in per_token.items()})


def joined(first: Stretch, second: Stretch) -> Stretch:
    """Two stretches of one corpus, one after the other."""
    columns = {name: np.concatenate([c, second.columns[name]]) for name, c in first.columns.items()}
    return Stretch(np.concatenate([first.ids, second.ids]), columns)


def inside(piece: Piece, tokenizer: Tokenizer) -> slice:
    """Where the piece is text, not the begin or end token that another objective of a mixture asked for."""
    first = int(len(piece) > 0 and piece.ids[0] == tokenizer.begin)
    return slice(first, len(piece) - int(len(piece) > first and piece.ids[-1] == tokenizer.end))


def room(window: int, stretches: int) -> int:
    """The tokens of text that fit a row of `window` places beside the begin and separate tokens.

    Raises:
        ConfigError: not even one for each stretch.
    """
    left = window - 1 - stretches
    if left < stretches:
        raise ConfigError(
            f"train.window = {window}: a begin and {stretches} separate tokens stand around the text; "
            f"set it to at least {1 + 2 * stretches}."
        )
    return left


def framed(
    stretches: tuple[Stretch, ...],
    tokenizer: Tokenizer,
    *,
    unit: int,
    sample: int,
    asks: tuple[Ask, ...] = (),
) -> Example:
    """The row ⊢ A | (B |), from document `unit`."""
    parts: list[NDArray[np.int64]] = [np.array([tokenizer.begin])]
    for each in stretches:
        parts += [each.ids, np.array([tokenizer.separate])]
    side = Side.of(np.concatenate(parts), causal=False)
    if len(stretches) > 1:
        lengths = [1 + (number == 0) + len(each.ids) for number, each in enumerate(stretches)]
        side = replace(side, types=np.repeat(np.arange(len(stretches)), lengths))
    columns = {name: _laid([each.columns[name] for each in stretches]) for name in stretches[0].columns}
    return Example(main=side, asks=asks, pattern="full", unit=unit, sample=sample, columns=columns)


def _laid(parts: list[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """A column along the row; the put-on tokens begin something."""
    one = np.ones(1, np.bool_)
    return np.concatenate([one, *(each for part in parts for each in (part, one))])

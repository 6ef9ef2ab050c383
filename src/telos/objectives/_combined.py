"""What `together` and `mixture` share: objectives made of objectives."""

from abc import ABC
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from telos import objectives
from telos.batch import Example, HeadSpec, Piece
from telos.config import Lax, member
from telos.objectives._base import Objective, Prompt
from telos.tokenizer import Tokenizer

__all__ = ["Combined", "per_head"]

T = TypeVar("T")

_SCORED: tuple[Literal["exact", "bound", "pseudo"], ...] = ("exact", "bound", "pseudo")


class Combined(Objective, ABC):
    """Base of the objectives that are made of others."""

    of: Annotated[tuple[member(objectives, Objective), ...], Lax] = Field(min_length=1)  # type: ignore[valid-type]
    """The objectives; in `together` the first makes the example and the rest extend it."""

    @model_validator(mode="after")
    def _no_steps_of_their_own(self) -> "Combined":
        """Their data halves can be combined; a device half (a teacher, a generator) would be left out in
        silence."""
        for objective in self.of:
            if objective.partners() or type(objective).step is not Objective.step:
                raise ValueError(
                    f"of: objective {objective.name!r} trains with a step of its own, so it cannot be "
                    "combined here; "
                    "combine inside of it instead, where it is made of another objective"
                )
        return self

    @property
    def scored(self) -> Literal["exact", "bound", "pseudo"]:  # type: ignore[override]
        """As the least exact of its objectives."""
        return max((objective.scored for objective in self.of), key=_SCORED.index)

    @property
    def reconstructs(self) -> bool:  # type: ignore[override]
        """Whether any of its objectives does."""
        return any(objective.reconstructs for objective in self.of)

    @property
    def decoded(self) -> str:  # type: ignore[override]
        """From left to right if any of its objectives is, else as the first."""
        if any(objective.decoded == Objective.decoded for objective in self.of):
            return Objective.decoded
        return str(self.of[0].decoded)

    def requires(self) -> frozenset[str]:
        return frozenset().union(*(objective.requires() for objective in self.of))

    def whole(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """As the first of its objectives that scores texts so."""
        return _first(objective.whole(piece, tokenizer) for objective in self.of)

    def hide(
        self, piece: Piece, hidden: NDArray[np.int64], asked: NDArray[np.int64], tokenizer: Tokenizer
    ) -> Example | None:
        """As the first of its objectives that hides places."""
        return _first(objective.hide(piece, hidden, asked, tokenizer) for objective in self.of)

    def unhidden(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """As the first of its objectives that reads texts as they are."""
        return _first(objective.unhidden(piece, tokenizer) for objective in self.of)

    def prompt(self, ids: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt:
        """As the first of its objectives puts it."""
        first: Objective = self.of[0]
        return first.prompt(ids, tokenizer)

    def gap(self, before: NDArray[np.int64], after: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt | None:
        """As the first of its objectives that fills gaps so."""
        return _first(objective.gap(before, after, tokenizer) for objective in self.of)

    def heads(self, vocabulary: int) -> tuple[HeadSpec, ...]:
        return _union(objective.heads(vocabulary) for objective in self.of)

    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for objective in self.of for name in objective.columns()))

    def informed(self, classes: Mapping[str, Mapping[str, int]]) -> "Combined":
        return self.model_copy(update={"of": tuple(objective.informed(classes) for objective in self.of)})

    def classes(self) -> tuple[str, ...]:
        """As the first of its objectives that has any."""
        return next((names for objective in self.of if (names := objective.classes())), ())

    def judged(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """As the same."""
        return _first(objective.judged(piece, tokenizer) for objective in self.of if objective.classes())

    def after(self, passes: float) -> "Combined":
        return self.model_copy(update={"of": tuple(objective.after(passes) for objective in self.of)})

    def specials(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for objective in self.of for name in objective.specials()))


def per_head(asked: Mapping[str, float]) -> Mapping[str, float]:
    """Terms `name.head` of one head, each divided by all that this head was asked: every question counts the
    same, whoever asked it, and however deep objectives are made of others."""
    total: dict[str, float] = defaultdict(float)
    for term, weight in asked.items():
        total[term.rpartition(".")[2]] += weight
    return {term: total[term.rpartition(".")[2]] for term in asked}


def _union(groups: Iterable[tuple[HeadSpec, ...]]) -> tuple[HeadSpec, ...]:
    """Each head once, in the order of first mention."""
    return tuple(dict.fromkeys(head for group in groups for head in group))


def _first(found: Iterable[T | None]) -> T | None:
    return next((each for each in found if each is not None), None)

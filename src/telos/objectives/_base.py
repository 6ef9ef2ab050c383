"""What a training objective is: what is hidden, what may be seen, what is asked.

To add one, write a file in this folder with one final class
that derives from `Objective`. Nothing else is edited.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from telos.batch import Answer, Batch, Cut, Example, HeadSpec, Piece, Read, Side
from telos.config import Member
from telos.errors import ConfigError
from telos.tokenizer import Tokenizer
from telos.turns import Turn

__all__ = ["Learned", "Objective", "Partner", "Prompt", "after_begin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner:
    """A second model that an objective trains with: ELECTRA's
    generator (trained), a teacher (frozen), an average."""

    role: Literal["trained", "frozen", "averaged"]
    model: Mapping[str, Any] | None = None
    """Its description as a recipe would write it; what is left out is as in the main model's, unless it is a
    model of another name. `None` for one like the main model."""
    heads: tuple[HeadSpec, ...] = ()
    """Those of the main model if there are none; with 0 outputs, as many as the vocabulary has tokens."""
    run: str = ""
    """A finished run to take its weights from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """How a text is put to a model that is to go on from it."""

    main: Side
    """At least one place: what the model says comes after it."""
    source: Side | None = None
    """What is read before anything is said."""
    ends: tuple[int, ...] = ()
    """Tokens that end what is said, beside the end token."""


class Learned(NamedTuple):
    """A head that puts texts in classes, which a model to start from brings with it, and how it was asked."""

    names: tuple[str, ...]
    """Of its classes, in the order of its rows; empty where nobody named them."""
    rows: int
    """How many they are."""
    read: Literal["full", "causal"]
    """Texts were read in both directions, or from left to right."""
    asked: Literal["first", "last", "all"]
    """At which place of a row, special tokens included; or the mean of all."""

    def fits(self, names: Sequence[str]) -> bool:
        """Whether its rows can be those of classes of these names, in this order."""
        return tuple(names) == self.names if self.names else len(names) == self.rows


def after_begin(ids: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt:
    """A text as documents stand: after a begin token."""
    return Prompt(main=Side.of(np.concatenate([[tokenizer.begin], ids]), causal=True))


class Objective(Member, ABC):
    """Base of all objectives: a data half (`example`) and, rarely changed, a device half (`step`)."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "exact"
    """What its loss on held-out text is: the exact −log p of the text, an upper bound, or a
    pseudo-likelihood."""
    reconstructs: ClassVar[bool] = False
    """Whether a place may see what it is asked: BERT leaves one hidden token in ten as it is, and asks for it
    all the same."""
    decoded: ClassVar[str] = "left_to_right"
    """The member of `generate/` that a model trained so is decoded with."""

    @abstractmethod
    def cut(self, window: int) -> Cut:
        """How documents are to be cut so that an example fits a row of `window` places."""

    @abstractmethod
    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """Sample `index` of the corpus as rows, sights and asks. All randomness comes from `rng`."""

    def tries(self, read: Read, index: int, tokenizer: Tokenizer) -> tuple[Example, ...]:
        """The examples by which sample `index` of held-out text is scored, always the same: one; or, where
        much is decided by chance, several whose weights add up to those of one."""
        return (self.example(read, index, np.random.default_rng((0, index)), tokenizer),)

    def requires(self) -> frozenset[str]:
        """Capabilities that the model must give: of `causal`,
        `full`, `prefix`, `general`, `source`, `types`."""
        return frozenset({"causal"})

    def otherwise(self, gives: frozenset[str]) -> str:
        """What else can be set, as a sentence after a blank, where a model gives these capabilities and not
        all that is required."""
        return ""

    def extend(self, example: Example, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """`example`, made by another objective, with this one's asks added: the second half of `together`.

        Raises:
            ConfigError: this objective can only make examples, not extend them.
        """
        raise ConfigError(f"objective {self.name!r} cannot come second in `together`; put it first.")

    def whole(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """`piece` with each of its tokens from `ask_from` on asked once, from those before it: the sum is the
        exact −log p of a given text. `None` where this objective never asks so; then `hide` scores a text."""
        if self.scored != "exact":
            return None
        return self.example(_Alone(piece), 0, np.random.default_rng(0), tokenizer)

    def hide(
        self, piece: Piece, hidden: NDArray[np.int64], asked: NDArray[np.int64], tokenizer: Tokenizer
    ) -> Example | None:
        """`piece` with exactly its places `hidden` hidden and of those `asked` asked for, each with weight 1:
        one place at a time makes a pseudo-likelihood, random ones a bound. Both ascend and may be empty.
        `None` where this objective hides no single places."""
        return None

    def unhidden(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """`piece` as it is read with nothing hidden, for what is made of a model's states. `None` where no
        text is read as it is."""
        nothing = np.zeros(0, np.int64)
        return self.hide(piece, nothing, nothing, tokenizer) or self.whole(piece, tokenizer)

    def prompt(self, ids: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt:
        """How a text is put to a trained model to go on from: after a begin token; or, where the model has a
        source, as the source with an end token, and what is said begins after a begin token."""
        if "source" not in self.requires():
            return after_begin(ids, tokenizer)
        source = Side.of(np.concatenate([ids, [tokenizer.end]]), causal=False)
        return Prompt(main=Side.of(np.array([tokenizer.begin]), causal=True), source=source)

    def gap(self, before: NDArray[np.int64], after: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt | None:
        """How a gap between two texts is put to a trained model, so that it goes on with what stands there
        and ends with an end token. `None` where none is learned so; then `hide` fills it, if it can."""
        return None

    def beginning(self, ids: NDArray[np.int64], tokenizer: Tokenizer) -> str:
        """What of a document, as the shards hold it, a trained model may be shown to go on from."""
        return tokenizer.decode(ids[:12])

    def chat(self, turns: Sequence[Turn], tokenizer: Tokenizer) -> Prompt | None:
        """How a conversation is put to a trained model that is to go on with it; `None` where it has learned
        none."""
        return None

    def template(self, tokenizer: Tokenizer) -> str:
        """The same as a template of Jinja, for other programs; empty where it has learned none."""
        return ""

    def heads(self, vocabulary: int) -> tuple[HeadSpec, ...]:
        """The heads it needs at the end of the model; by default the one that predicts tokens."""
        return (HeadSpec(name="tokens", outputs=vocabulary),)

    def specials(self) -> tuple[str, ...]:
        """Special tokens that the vocabulary must hold beside the ones it always has."""
        return ()

    def columns(self) -> tuple[str, ...]:
        """Columns of the shards that it reads beside `ids`: `word_start`, `sentence_start`, …; the text is
        prepared with them."""
        return ()

    def after(self, passes: float) -> "Objective":
        """This objective as it is after so many passes over the text, 1.5 being the middle of the second.

        What moves in the course of training moves by this alone, never by the budget: so any batch can be
        made again from its place, and a larger budget changes nothing of what was. Held-out text is always
        scored by the objective as it is in the recipe.
        """
        return self

    def informed(self, classes: Mapping[str, Mapping[str, int]]) -> "Objective":
        """This objective with what is known only once the text is prepared: by the names of the classes in
        it, how many documents of each split are of them (`Card.classes`).

        Raises:
            DataError: they cannot be learned.
        """
        return self

    @classmethod
    def knowing(cls, given: Mapping[str, Any], head: Learned) -> dict[str, Any]:
        """Its settings, `given` as a recipe has them, with what the head for classes of the model to start
        from decides of them; by default nothing.

        Raises:
            ConfigError: the head cannot be asked by the settings that are given.
        """
        return dict(given)

    def classes(self) -> tuple[str, ...]:
        """Names of the classes that it puts whole texts in; none by default."""
        return ()

    def judged(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """`piece` with the one question which of its `classes` it is of. `None` where it has none."""
        return None

    def partners(self) -> Mapping[str, Partner]:
        """Other models it trains with, by name; the main model is always `main`."""
        return {}

    def denominators(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        """What each term's sum is divided by, once per step,
        given the weight asked in all micro-batches and ranks."""
        return asked

    def logged(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        """What each term's sum is divided by where its loss is logged apart; by default as in the loss."""
        return self.denominators(asked)

    def coefficient(self, term: str) -> float:
        """What a term counts in the loss that is minimised; logged losses are without it."""
        return 1.0

    def bind(self, models: Mapping[str, nn.Module]) -> None:
        """Once, before training: what models share is tied together. Their first values are there."""

    def settle(self, models: Mapping[str, nn.Module]) -> None:
        """Once, after training: what `bind` tied to other models becomes the main model's own."""

    def completed(self, models: Mapping[str, nn.Module], batch: Batch, seed: int) -> Batch:
        """The batch as the main model gets it, where other models have a part in making it: in training by
        `step`, and where held-out text is scored."""
        return batch

    def step(self, models: Mapping[str, nn.Module], batch: Batch, state: Any, seed: int) -> Answer:
        """Put the batch to the models. `seed` is the step's, the same for all its micro-batches and ranks:
        draws that make targets are keyed by (`seed`, sample id)."""
        answer = models["main"](self.completed(models, batch, seed), state)
        assert isinstance(answer, Answer)
        return answer


class _Alone:
    """A corpus of one piece."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Piece:
        return self._piece

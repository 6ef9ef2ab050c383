"""Classification: which of a few classes a text as a whole is of, such as a sentiment or a topic (Radford et
al., 2018; Devlin et al., 2019).

    loss = −Σ wₖ log q(k | text) / Σ wₖ          over texts, k the class of each, wₖ what that class weighs

Hidden: the class. Seen: the text, in one of two ways, with begin ⊢, separate | and end token ⊣:

    read = "full"       ⊢ text |     seen in both directions; asked at ⊢
    read = "causal"     ⊢ text ⊣     each place sees those before it; asked at ⊣, the first to see all

With `pool = "mean"` the question is put to the mean of the text's places, with `pool = "all"` to that of the
whole row, as ModernBERT has it. Of a text that is longer than the window its beginning is read.

Classes are names, everywhere: those of the data's column `label`. Which number a class has in the model is
decided by `labels` alone, which the run's own recipe holds, and never by the order of lines in a file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, final

import numpy as np
from pydantic import model_validator

from telos import config
from telos.batch import Ask, Cut, Example, HeadSpec, Piece, Read, Side
from telos.config import Lax
from telos.errors import ConfigError, DataError
from telos.find import suggestion
from telos.objectives._base import Learned, Objective
from telos.objectives._framing import framed, inside, room, stretch
from telos.tokenizer import Tokenizer

__all__ = ["Classify"]

COLUMN = "label"
HEAD = "label"
Counts = Mapping[str, Mapping[str, int]]


@final
class Classify(Objective):
    """Say which class a text is of."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    labels: Annotated[tuple[str, ...], Lax] = ()
    """Names of the classes, in the order of their numbers. Empty: those of the text to train on, in the order
    of their names; the run's own recipe has them written out."""
    read: Literal["full", "causal"] = "full"
    """A text is read in both directions and asked about at its begin token, or from left to right and asked
    about at its end token, as recurrent models and decoders read."""
    pool: Literal["mark", "mean", "all"] = "mark"
    """What is asked: that token's state, the mean of the states of the text's tokens, or the mean of all,
    with those around the text."""
    weights: Literal["equal", "balanced"] | dict[str, float] = "equal"
    """What a text of each class weighs in the loss: all the same; in proportion to 1 / (texts of its class to
    train on), so that classes weigh the same; or by name, 1 where nothing is said."""

    @model_validator(mode="after")
    def _classes_are_told_apart(self) -> "Classify":
        names = self.labels
        if names and (len(names) < 2 or len(set(names)) < len(names) or "" in names):
            raise ValueError("labels must be two names at least, no two of them alike and none empty")
        if isinstance(self.weights, dict):
            if wrong := [name for name, weight in self.weights.items() if weight <= 0]:
                raise ValueError(f"weights: that of {wrong[0]!r} must be more than 0")
            if names and (strange := sorted(set(self.weights) - set(names))):
                raise ValueError(f"weights names {strange[0]!r}, which is none of: {', '.join(names)}")
        return self

    def cut(self, window: int) -> Cut:
        """A text is one piece, with room for the two tokens around it."""
        return Cut(length=room(window, 1), whole=True)

    def requires(self) -> frozenset[str]:
        return frozenset({self.read})

    def otherwise(self, gives: frozenset[str]) -> str:
        return ' Or set objective.read = "causal".' if "causal" in gives else ""

    def columns(self) -> tuple[str, ...]:
        return (COLUMN,)

    def heads(self, vocabulary: int) -> tuple[HeadSpec, ...]:
        return (HeadSpec(name=HEAD, outputs=max(2, len(self.labels)), kind="classes", names=self.labels),)

    def classes(self) -> tuple[str, ...]:
        return self.labels

    @classmethod
    def knowing(cls, given: Mapping[str, Any], head: Learned) -> dict[str, Any]:
        """With the classes of a trained head, and asked as it was. Where `given` names other classes nothing
        is added: then the head starts anew.

        Raises:
            ConfigError: nobody named its classes; or it is to be asked in another way.
        """
        labels = given.get("labels") or list(head.names)
        if not isinstance(labels, list | tuple):
            return dict(given)  # what is wrong with them is said with all other settings
        if not labels:
            raise ConfigError(
                f"the head there is for {head.rows} classes, and nobody named them. Name them in the order "
                'of its rows: objective.labels=["…", "…"]'
            )
        if not head.fits(labels):
            return dict(given)
        found = {"labels": labels, "read": head.read, "pool": "all" if head.asked == "all" else "mark"}
        for key in ("read", "pool"):
            if given.get(key, found[key]) != found[key]:
                raise ConfigError(
                    f"the head for classes there was not asked so: objective.{key} = {given[key]!r}. Set it "
                    f"to {found[key]!r}; or name other classes in objective.labels, and it starts anew."
                )
        return {**given, **found}

    def informed(self, classes: Counts) -> "Classify":
        """With the names and weights of the classes.

        Raises:
            DataError: there are no two classes to train on, or one of the text's is not among them.
        """
        labels = self.labels or tuple(sorted(name for name, of in classes.items() if name and of["train"]))
        if len(labels) < 2:
            raise DataError(
                f"the text to train on has {len(labels)} classes, and two are needed at least. Say which key "
                "holds them, data.label_key, or name the columns of a file without names: data.columns."
            )
        _check_known(labels, classes)
        found: dict[str, Any] = {**self.table(), "labels": labels}
        if self.weights == "balanced":
            found["weights"] = _balanced(labels, classes)
        return config.read(Classify, found, "objective")

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """The text, and its class if it has one.

        Raises:
            DataError: the text was prepared without classes, or this one's is none of `labels`.
        """
        piece = read[index]
        row = self._row(piece, tokenizer, index)
        if COLUMN not in piece.columns:
            raise DataError(
                f"This objective needs the column {COLUMN}, and the text was prepared without it. Prepare it "
                "with this objective in the recipe: telos prepare …"
            )
        name = str(piece.columns[COLUMN][0])
        return replace(row, asks=(self._ask(row, name),)) if name else row

    def judged(self, piece: Piece, tokenizer: Tokenizer) -> Example:
        """The text, and the question, as if its class were the first."""
        row = self._row(piece, tokenizer, 0)
        return replace(row, asks=(self._ask(row, self.labels[0]),))

    def unhidden(self, piece: Piece, tokenizer: Tokenizer) -> Example:
        """As in training."""
        return self._row(piece, tokenizer, 0)

    def _row(self, piece: Piece, tokenizer: Tokenizer, sample: int) -> Example:
        """The text between its two tokens."""
        text = stretch(piece, inside(piece, tokenizer))
        if self.read == "full":
            return framed((text,), tokenizer, unit=piece.document, sample=sample)
        ids = np.concatenate([[tokenizer.begin], text.ids, [tokenizer.end]])
        side = Side.of(ids, causal=True)
        return Example(main=side, asks=(), pattern="causal", unit=piece.document, sample=sample)

    def _ask(self, row: Example, name: str) -> Ask:
        if name not in self.labels:
            raise DataError(_unknown(name, self.labels))
        weights = self.weights if isinstance(self.weights, dict) else {}
        last = len(row.main) - 1
        several = {"mark": np.arange(0), "mean": np.arange(1, last), "all": np.arange(last + 1)}[self.pool]
        mean = len(several) > 0
        return Ask(
            head=HEAD,
            at=several if mean else np.array([0 if self.read == "full" else last]),
            target=np.array([self.labels.index(name)]),
            weight=np.array([weights.get(name, 1.0)], np.float32),
            of=np.zeros(len(several), np.int64) if mean else None,
        )


def _balanced(labels: Sequence[str], classes: Counts) -> dict[str, float]:
    """Weights in proportion to 1 / texts, 1 in the mean over the texts."""
    texts = {name: classes[name]["train"] for name in labels if name in classes and classes[name]["train"]}
    return {name: sum(texts.values()) / (len(texts) * number) for name, number in texts.items()}


def _check_known(labels: Sequence[str], classes: Counts) -> None:
    for name, counts in classes.items():
        held_out = [split for split, number in counts.items() if split != "train" and number]
        if name and held_out and not counts["train"]:
            raise DataError(
                f"the class {name!r} is in the {held_out[0]} split and of no text to train on, so it cannot "
                "be learned. Add such texts, or take those that are held out away."
            )
        if name and name not in labels and counts["train"]:
            raise DataError(_unknown(name, labels))


def _unknown(name: str, labels: Sequence[str]) -> str:
    return (
        f"the class {name!r} is none of the classes to train on.{suggestion(name, list(labels))} There are: "
        f"{', '.join(labels)}. Mend the label, add texts of it to train on, or name it in objective.labels. "
        "(The classes of a model to start from that has such a head are its own, by its names for them.)"
    )

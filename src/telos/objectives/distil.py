"""Distillation: what is true is what a trained model says, the teacher (Hinton, Vinyals and Dean, 2015).

    loss = (1 − h) · T² · H(p, q) + h · (−log q₁(x))
    p = softmax(teacher's logits / T)      q = softmax(own logits / T)      q₁: q at T = 1

each part divided by what was asked. What is hidden, seen and asked is another objective's, `of`. The teacher
is a finished run with the same vocabulary; it sees what the student sees, and learns nothing. At T = 1 a
teacher that is sure of the right answer makes both parts the same: the loss of `of`.

**By hand.** Two tokens, T = 2, h = 0.5, the first is right. Teacher's logits 2 · ln 3, 0: at T = 2 it says
3/4, 1/4. Own logits 0, 0: q = 1/2, 1/2, so H(p, q) = ln 2, and so is −ln q₁. The loss is
0.5 · 4 · ln 2 + 0.5 · ln 2 = 2.5 · ln 2 = 1.733.

The factor T² keeps the gradient's size: by the logits it is T · (q − p), and q − p shrinks as 1 / T.
The teacher's distributions are made for a few places at a time, while the student's loss is summed.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from telos import objectives
from telos.batch import Answer, Asked, Batch, Cut, Example, HeadSpec, Piece, Read, Soft, gathered
from telos.config import member
from telos.errors import ConfigError
from telos.objectives._base import Objective, Partner, Prompt
from telos.tokenizer import Tokenizer

__all__ = ["Distil"]

SOFT = "teacher."
"""Before the name of a term: the same term by the teacher's word."""


@final
class Distil(Objective):
    """Learn what another model says, beside what the text says."""

    of: member(objectives, Objective, "causal") = Field("causal", validate_default=True)  # type: ignore[valid-type]
    """The objective that says what is hidden, seen and asked."""
    teacher: str = Field(min_length=1)
    """The folder of the teacher's run."""
    temperature: float = Field(2.0, gt=0)
    """T: both models' logits are divided by it; above 1, what the teacher thinks unlikely counts for more."""
    hard: float = Field(0.5, ge=0, lt=1)
    """Share of the text's own answers in the loss; the teacher's have the rest."""

    @model_validator(mode="after")
    def _steps_once(self) -> "Distil":
        if self.of.partners() or type(self.of).step is not Objective.step:
            raise ValueError(
                f"of: objective {self.of.name!r} trains with a step of its own, so its targets cannot be a "
                "teacher's"
            )
        return self

    # ---- as `of`

    @property
    def scored(self) -> Literal["exact", "bound", "pseudo"]:  # type: ignore[override]
        """As `of`: held-out text is scored by what it says, without the teacher."""
        kind: Literal["exact", "bound", "pseudo"] = self.of.scored
        return kind

    @property
    def reconstructs(self) -> bool:  # type: ignore[override]
        """As `of`."""
        return bool(self.of.reconstructs)

    @property
    def decoded(self) -> str:  # type: ignore[override]
        """As `of`."""
        return str(self.of.decoded)

    def cut(self, window: int) -> Cut:
        cut: Cut = self.of.cut(window)
        return cut

    def requires(self) -> frozenset[str]:
        required: frozenset[str] = self.of.requires()
        return required

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        example: Example = self.of.example(read, index, rng, tokenizer)
        return example

    def tries(self, read: Read, index: int, tokenizer: Tokenizer) -> tuple[Example, ...]:
        examples: tuple[Example, ...] = self.of.tries(read, index, tokenizer)
        return examples

    def prompt(self, ids: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt:
        prompt: Prompt = self.of.prompt(ids, tokenizer)
        return prompt

    def gap(self, before: NDArray[np.int64], after: NDArray[np.int64], tokenizer: Tokenizer) -> Prompt | None:
        prompt: Prompt | None = self.of.gap(before, after, tokenizer)
        return prompt

    def whole(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        example: Example | None = self.of.whole(piece, tokenizer)
        return example

    def hide(
        self, piece: Piece, hidden: NDArray[np.int64], asked: NDArray[np.int64], tokenizer: Tokenizer
    ) -> Example | None:
        example: Example | None = self.of.hide(piece, hidden, asked, tokenizer)
        return example

    def unhidden(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        example: Example | None = self.of.unhidden(piece, tokenizer)
        return example

    def heads(self, vocabulary: int) -> tuple[HeadSpec, ...]:
        return tuple(self.of.heads(vocabulary))

    def specials(self) -> tuple[str, ...]:
        return tuple(self.of.specials())

    def columns(self) -> tuple[str, ...]:
        return tuple(self.of.columns())

    def informed(self, classes: Mapping[str, Mapping[str, int]]) -> "Distil":
        return self.model_copy(update={"of": self.of.informed(classes)})

    def classes(self) -> tuple[str, ...]:
        return tuple(self.of.classes())

    def judged(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        example: Example | None = self.of.judged(piece, tokenizer)
        return example

    def after(self, passes: float) -> "Distil":
        return self.model_copy(update={"of": self.of.after(passes)})

    # ---- the teacher

    def partners(self) -> Mapping[str, Partner]:
        return {"teacher": Partner(role="frozen", run=self.teacher)}

    def denominators(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        """As `of`; by the teacher's word the same as by the text's."""
        divided_by: Mapping[str, float] = self.of.denominators(asked)
        return {**divided_by, **{SOFT + term: number for term, number in divided_by.items()}}

    def logged(self, asked: Mapping[str, float]) -> Mapping[str, float]:
        divided_by: Mapping[str, float] = self.of.logged(asked)
        return {**divided_by, **{SOFT + term: number for term, number in divided_by.items()}}

    def coefficient(self, term: str) -> float:
        share = 1 - self.hard if term.startswith(SOFT) else self.hard
        return share * float(self.of.coefficient(term.removeprefix(SOFT)))

    def step(self, models: Mapping[str, nn.Module], batch: Batch, state: Any, seed: int) -> Answer:
        """Each ask is put twice: with the teacher's answers and, unless `hard` is 0, with the text's.

        Raises:
            ConfigError: the teacher was never asked such questions.
        """
        teacher: Any = models["teacher"]
        with torch.no_grad():
            hidden, _ = teacher.encode(batch.main, batch.source)
        soft = [self._soft(teacher, hidden.flatten(0, 1), ask) for ask in batch.asks]
        return super().step(
            models, replace(batch, asks=(*soft, *(batch.asks if self.hard else ()))), state, seed
        )

    def _soft(self, teacher: Any, flat: Tensor, ask: Asked) -> Asked:
        """`ask` with the teacher's answers from its hidden states at all places, flat."""
        if ask.head not in teacher.heads:
            raise ConfigError(
                f"objective.teacher = {self.teacher!r}: this run has no head {ask.head!r}, only "
                f"{', '.join(teacher.heads)}, so it cannot answer what objective.of = {self.of.name!r} asks. "
                "Train a teacher by that objective, or change objective.of."
            )
        kind = flat.device.type
        outside = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def of(rows: slice) -> Tensor:
            with torch.no_grad(), torch.autocast(kind, enabled=outside[0], dtype=outside[1]):
                logits = teacher.logits(gathered(flat, ask, rows), ask.head)
            return torch.softmax(logits / self.temperature, -1)

        return replace(ask, term=SOFT + ask.term, soft=Soft(of=of, temperature=self.temperature))

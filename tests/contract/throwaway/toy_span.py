"""Span corruption for an encoder and a decoder: the source loses spans, the main side says them (Raffel et
al., 2020)."""

from typing import ClassVar, Literal, final

import numpy as np
from pydantic import Field

from telos.batch import Ask, Cut, Example, Read, Side
from telos.errors import ConfigError
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer


@final
class ToySpan(Objective):
    """a b c d e f → source: a ⟨0⟩ d e ⟨1⟩, main: begin ⟨0⟩ b c ⟨1⟩ f, asked: ⟨0⟩ b c ⟨1⟩ f end."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    spans: int = Field(2, ge=1)
    """Spans that are taken out, each of one token or two."""

    def cut(self, window: int) -> Cut:
        if window < 3 * self.spans + 1:
            raise ConfigError(
                f"train.window = {window}: {self.spans} spans need at least {3 * self.spans + 1} places."
            )
        return Cut(length=window)

    def requires(self) -> frozenset[str]:
        return frozenset({"causal", "source"})

    def specials(self) -> tuple[str, ...]:
        return tuple(f"<|span {number}|>" for number in range(self.spans))

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        piece = read[index]
        source, target = self.corrupt(piece.ids, rng, [tokenizer.special(name) for name in self.specials()])
        target = [*target, tokenizer.end]
        ask = Ask(
            head="tokens",
            at=np.arange(len(target)),
            target=np.array(target),
            weight=np.ones(len(target), np.float32),
        )
        return Example(
            main=Side.of(np.array([tokenizer.begin, *target[:-1]]), causal=True),
            source=Side.of(np.array(source), causal=False),
            asks=(ask,),
            unit=piece.document,
            sample=index,
        )

    def corrupt(
        self, ids: np.ndarray, rng: np.random.Generator, marks: list[int]
    ) -> tuple[list[int], list[int]]:
        """What stays, with a mark for each span, and the spans, each after its mark."""
        source: list[int] = []
        target: list[int] = []
        starts = sorted(rng.choice(len(ids), size=min(self.spans, len(ids)), replace=False).tolist())
        place = 0
        for mark, start, limit in zip(marks, starts, [*starts[1:], len(ids)], strict=False):
            stop = min(start + int(rng.integers(1, 3)), limit)
            source += [*ids[place:start].tolist(), mark]
            target += [mark, *ids[start:stop].tolist()]
            place = stop
        return source + ids[place:].tolist(), target

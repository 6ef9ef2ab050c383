"""Span corruption for one decoder: the corrupted text is a prefix that sees itself whole, the spans follow
it causally."""

from typing import ClassVar, Literal, final

import numpy as np
from telos.objectives.toy_span import ToySpan

from telos.batch import Ask, Cut, Example, Read, Side
from telos.errors import ConfigError
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer


@final
class ToySpanPrefix(Objective):
    """a b c d e f → a ⟨0⟩ d e ⟨1⟩ | begin ⟨0⟩ b c ⟨1⟩ f, asked after the bar."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    of: ToySpan = ToySpan()
    """How spans are taken out."""

    def cut(self, window: int) -> Cut:
        spans = 3 * self.of.spans + 1
        if window <= spans:
            raise ConfigError(
                f"train.window = {window}: {self.of.spans} spans and a prefix need more than {spans} places."
            )
        return Cut(length=window - spans)

    def requires(self) -> frozenset[str]:
        return frozenset({"prefix"})

    def specials(self) -> tuple[str, ...]:
        return self.of.specials()

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        two = self.of.example(read, index, rng, tokenizer)
        assert two.source is not None
        prefix, whole = len(two.source), len(two.source) + len(two.main)
        place = np.arange(whole)
        side = Side(
            ids=np.concatenate([two.source.ids, two.main.ids]),
            positions=place,
            segment=np.zeros(whole, np.int64),
            order=np.maximum(0, place - prefix + 1),
            seen=np.ones(whole, np.bool_),
        )
        (ask,) = two.asks
        moved = Ask(head="tokens", at=ask.at + prefix, target=ask.target, weight=ask.weight)
        return Example(main=side, asks=(moved,), pattern="prefix", unit=two.unit, sample=index)

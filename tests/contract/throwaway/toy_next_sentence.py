"""Does the second half follow the first? The other answer's second half comes from another document (Devlin
et al., 2019)."""

from typing import ClassVar, Literal, final

import numpy as np

from telos.batch import Ask, Cut, Example, HeadSpec, Read, Side
from telos.errors import ConfigError, DataError
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer


@final
class ToyNextSentence(Objective):
    """Two halves, one question with two answers."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    def cut(self, window: int) -> Cut:
        if window < 5:
            raise ConfigError(
                f"train.window = {window}: two sentences and three marks need at least 5 places."
            )
        return Cut(length=window - 3)

    def requires(self) -> frozenset[str]:
        return frozenset({"full"})

    def heads(self, vocabulary: int) -> tuple[HeadSpec, ...]:
        return (HeadSpec(name="follows", outputs=2, kind="classes"),)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        piece = read[index]
        middle = (len(piece) + 1) // 2
        follows = int(rng.integers(2))
        second = (
            piece.ids[middle:] if follows else self._other(read, piece.document, rng)[: len(piece) - middle]
        )
        joint = [tokenizer.begin], piece.ids[:middle], [tokenizer.separate], second, [tokenizer.separate]
        side = Side.of(np.concatenate(joint).astype(np.int64), causal=False)
        ask = Ask(head="follows", at=np.array([0]), target=np.array([follows]), weight=np.ones(1, np.float32))
        return Example(main=side, asks=(ask,), pattern="full", unit=piece.document, sample=index)

    def _other(self, read: Read, document: int, rng: np.random.Generator) -> np.ndarray:
        for _ in range(100):
            other = read[int(rng.integers(len(read)))]
            if other.document != document and len(other):
                return other.ids
        raise DataError("Next-sentence prediction needs text from at least two documents.")

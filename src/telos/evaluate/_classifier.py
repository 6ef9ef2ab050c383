"""A trained model whose objective puts texts in classes, ready to be asked."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.batch import Cut, Example, Piece, gathered
from telos.data.corpus import Corpus
from telos.data.packing import collate
from telos.data.shards import Shards
from telos.evaluate.classification import Classified, measure, probabilities, temperature_of
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Answers", "Classifier"]

Matrix = NDArray[np.float64]
Numbers = NDArray[np.int64]


class Answers(NamedTuple):
    """What a model says to texts whose class is known."""

    logits: Matrix
    """(n, classes)."""
    truth: Numbers
    """(n,)."""
    documents: Numbers
    """Their numbers in the split, (n,)."""
    unlabelled: int
    """Texts of the split without a class."""


class Classifier(NamedTuple):
    """A network and how it is asked. Answers are in float32, with the network at rest."""

    network: Network
    objective: Objective
    tokenizer: Tokenizer
    window: int
    """That it was trained with: of a longer text its beginning is read."""
    temperature: float = 1.0

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        return self.objective.classes()

    @property
    def cut(self) -> Cut:
        """How texts are cut: `length` tokens are read."""
        return self.objective.cut(self.window)

    def shares(self, texts: Sequence[str], batch: int = 32) -> Matrix:
        """The probability of each class (n, classes) for each text."""
        return probabilities(self.logits(texts, batch), self.temperature)

    def logits(self, texts: Sequence[str], batch: int = 32) -> Matrix:
        """Answers (n, classes) to texts as they are."""
        rows = [ids[: self.cut.length] for ids in self.tokenizer.encode_batch(texts)]
        pieces = [Piece(ids=ids, document=number) for number, ids in enumerate(rows)]
        return self._answered([self._question(piece) for piece in pieces], batch)

    def answers(self, shards: Shards, batch: int = 32) -> Answers:
        """What it says to every text of a split that has a class."""
        corpus = Corpus(shards, self.cut, self.tokenizer)
        pieces = [corpus[index] for index in range(len(corpus))]
        labelled = [piece for piece in pieces if str(piece.columns["label"][0])]
        truth = [self.labels.index(str(piece.columns["label"][0])) for piece in labelled]
        return Answers(
            self._answered([self._question(piece) for piece in labelled], batch),
            np.array(truth, np.int64),
            np.array([piece.document for piece in labelled], np.int64),
            len(pieces) - len(labelled),
        )

    def fitted(self, shards: Shards) -> tuple[float, int] | None:
        """The temperature that suits a split best, and how many texts say so; `None` if none has a class."""
        found = self.answers(shards)
        return (temperature_of(found.logits, found.truth), len(found.truth)) if len(found.truth) else None

    def figures(self, shards: Shards) -> Classified | None:
        """How well it does on a split; `None` if no text of it has a class."""
        found = self.answers(shards)
        if not len(found.truth):
            return None
        return measure(
            self.labels,
            found.logits,
            found.truth,
            lambda n: self.tokenizer.decode(shards.document(int(found.documents[n])).tolist()),
            temperature=self.temperature,
            unlabelled=found.unlabelled,
        )

    def _question(self, piece: Piece) -> Example:
        example = self.objective.judged(piece, self.tokenizer)
        assert example is not None, "an objective with classes judges texts"
        return replace(example, sample=-1)

    def _answered(self, examples: Sequence[Example], batch: int) -> Matrix:
        """Answers (n, classes) to examples that ask one question each, those of like length together."""
        found = np.zeros((len(examples), len(self.labels)))
        order = sorted(range(len(examples)), key=lambda index: -len(examples[index].main))
        device = next(self.network.parameters()).device
        with self.network.at_rest():
            for start in range(0, len(order), batch):
                group = order[start : start + batch]
                given = collate([[examples[index]] for index in group]).to(device)
                hidden, _ = self.network.encode(given.main, given.source)
                (asked,) = given.asks
                logits = self.network.logits(gathered(hidden.flatten(0, 1), asked), asked.head)
                found[group] = logits[: len(group)].cpu().double().numpy()  # the rest fills up a bucket
        return found

"""A linear probe: how much of what a text is about can be read off a model's states by a linear map (Alain
and Bengio, 2017).

    features = mean over the text's places of the last hidden states          the model itself stays as it is
    answer   = argmax (W · standardised features + b)                W, b: logistic regression with L2 penalty

The strength of the penalty is chosen on a fifth of the training texts. Texts are read as the objective reads
them, in both directions where it can, and nothing is hidden; of a text longer than the window, its beginning.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from telos.batch import Example, Piece, Rows
from telos.data.packing import collate
from telos.errors import DataError
from telos.evaluate._intervals import Interval, share
from telos.evaluate._records import records, wanted
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Labelled", "Probe", "features", "probe", "read_labelled"]

Labelled = Sequence[tuple[str, str]]
"""Texts, and each one's label."""
Matrix = NDArray[np.float64]

_PENALTIES = (1e-4, 1e-2, 1.0)
"""Per text: times half the squared weights."""


def read_labelled(path: Path, limit: int = 0) -> Labelled:
    """Texts and labels of JSON lines with `text` and `label`; of many `limit`, drawn once.

    Raises:
        DataError: a line has no text or no label, or all have the same.
    """
    found = [(wanted(record, "text"), wanted(record, "label")) for record in records(path)]
    if len({label for _, label in found}) < 2:
        raise DataError(f"{path}: all labels are the same; there is nothing to tell apart.")
    order = np.random.default_rng(0).permutation(len(found)).tolist()
    return [found[index] for index in sorted(order[: limit or len(found)])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How many labels were right on texts that the map was not fitted to."""

    accuracy: Interval
    majority: float
    """What always saying the commonest label comes to."""
    labels: tuple[str, ...]
    texts: int
    fitted: int
    """Texts that the map was fitted to."""

    def table(self) -> dict[str, Any]:
        """All figures as plain data for JSON."""
        counts = {"texts": self.texts, "fitted": self.fitted, "majority": self.majority}
        return {"accuracy": self.accuracy.table(), **counts, "labels": list(self.labels)}


def probe(train: Matrix, labels: Sequence[str], test: Matrix, expected: Sequence[str]) -> Probe:
    """Fit a linear map to the features (n, width) of some texts, and try it on those of others.

    Raises:
        DataError: a label of the test is none of training's.
    """
    names = sorted(set(labels))
    if strange := sorted(set(expected) - set(names)):
        raise DataError(
            f"the label {strange[0]!r} of the test is none of the training's: {', '.join(names)}."
        )
    numbers = np.array([names.index(label) for label in labels])
    centre, spread = train.mean(0), train.std(0)
    spread[spread < 1e-12] = 1.0
    inputs, outputs = ((part - centre) / spread for part in (train, test))
    answers = _Map(inputs, numbers, _penalty(inputs, numbers))(outputs)
    right = sum(names[answer] == label for answer, label in zip(answers.tolist(), expected, strict=True))
    commonest = Counter(labels).most_common(1)[0][0]
    return Probe(
        accuracy=share(right, len(expected)),
        majority=sum(label == commonest for label in expected) / len(expected),
        labels=tuple(names),
        texts=len(expected),
        fitted=len(labels),
    )


def _penalty(inputs: Matrix, numbers: NDArray[np.int64]) -> float:
    """The strength that does best on a fifth of the texts, drawn once for all."""
    order = np.random.default_rng(0).permutation(len(inputs))
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]
    if not len(held):
        return _PENALTIES[-1]

    def right(penalty: float) -> int:
        found = _Map(inputs[kept], numbers[kept], penalty, int(numbers.max()) + 1)(inputs[held])
        return int((found == numbers[held]).sum())

    return max(reversed(_PENALTIES), key=right)


class _Map:
    """Multinomial logistic regression, fitted by L-BFGS in float64."""

    def __init__(self, inputs: Matrix, numbers: NDArray[np.int64], penalty: float, classes: int = 0) -> None:
        x, y = torch.from_numpy(inputs), torch.from_numpy(numbers)
        self.weight = torch.zeros(classes or int(y.max()) + 1, x.shape[1], dtype=torch.float64)
        self.bias = torch.zeros(len(self.weight), dtype=torch.float64)
        parameters = [self.weight.requires_grad_(), self.bias.requires_grad_()]
        optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            fit = functional.cross_entropy(functional.linear(x, self.weight, self.bias), y)
            total = fit + penalty / 2 * self.weight.square().sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]

    def __call__(self, inputs: Matrix) -> NDArray[np.int64]:
        with torch.no_grad():
            logits = functional.linear(torch.from_numpy(inputs), self.weight, self.bias)
        answers: NDArray[np.int64] = logits.argmax(1).numpy()
        return answers


# ---- features


def features(
    network: Network,
    objective: Objective,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    window: int,
    batch: int = 32,
) -> Matrix:
    """The mean hidden state of each text (n, width), in float64.

    Raises:
        DataError: the objective reads no texts as they are.
    """
    examples = [_read(objective, tokenizer, text, window) for text in texts]
    order = sorted(range(len(texts)), key=lambda index: -_length(examples[index]))
    device = next(network.parameters()).device
    found: list[Matrix] = [np.zeros(0)] * len(texts)
    with network.at_rest():
        for start in range(0, len(order), batch):
            group = order[start : start + batch]
            given = collate([[replace(examples[index], asks=())] for index in group]).to(device)
            states, rows = _states(network, given.main, given.source)
            for index, state in zip(group, _means(states, rows), strict=True):
                found[index] = state
    return np.stack(found)


def _read(objective: Objective, tokenizer: Tokenizer, text: str, window: int) -> Example:
    """The text as the objective reads it with nothing hidden."""
    cut = objective.cut(window)
    encoded = tokenizer.encode_words(text)
    for room in range(cut.length - cut.begin - cut.end, -1, -1):
        ids = np.concatenate([[tokenizer.begin] * cut.begin, encoded.ids[:room], [tokenizer.end] * cut.end])
        columns = {
            name: np.concatenate([[put_on] * cut.begin, column[:room], [put_on] * cut.end]).astype(np.bool_)
            for name, column, put_on in (
                ("word_start", encoded.word_start, True),
                ("sentence_start", encoded.sentence_start, False),
            )
        }
        piece = Piece(ids=ids.astype(np.int64), document=0, columns=columns)
        example = objective.unhidden(piece, tokenizer)
        if example is None:
            raise DataError(
                f"objective = {objective.name!r} reads no text as it is, so nothing can be probed."
            )
        if _length(example) <= window:
            return example
    raise AssertionError(f"no text fits a window of {window}")


def _length(example: Example) -> int:
    return max(len(example.main), 0 if example.source is None else len(example.source))


def _states(network: Network, main: Rows, source: Rows | None) -> tuple[Tensor, Rows]:
    """Hidden states of the side that holds the text: an encoder's where there is one."""
    if source is None:
        return network.encode(main)[0], main
    reader: Any = network
    return reader.read(source), source


def _means(states: Tensor, rows: Rows) -> Matrix:
    """Over the real places of each row (B, width)."""
    real = (rows.segment >= 0).unsqueeze(-1)
    means: Tensor = (states.double() * real).sum(1) / real.sum(1)
    return means.cpu().numpy()

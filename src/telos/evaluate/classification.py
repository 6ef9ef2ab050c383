"""How well texts are put in classes, and whether the probabilities mean what they say.

    accuracy    right / all
    precision   of a class: right / said to be of it          recall   right / of it
    F1          2 · precision · recall / (precision + recall); macro-F1 is its mean over classes that occur
    ECE         Σₘ |Bₘ| / n · | share of Bₘ that is right − mean confidence in Bₘ |       (Guo et al., 2017)
    T           q = softmax(logits / T), with the T by which −log q of the validation split is least

The expected calibration error has 15 bins Bₘ of equal width; a text is in that of its confidence, the highest
of its probabilities. A temperature T changes no answer, only how sure it is. Shares have Wilson's interval
(1927); macro-F1 and ECE that of a bootstrap over texts (Efron, 1979), drawn once for all.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from telos.evaluate._exchanged import exchanged
from telos.evaluate._intervals import Interval, share

__all__ = [
    "BINS",
    "Calibration",
    "ClassFigures",
    "Classified",
    "Mistake",
    "calibration_error",
    "measure",
    "probabilities",
    "temperature_of",
]

BINS = 15
"""Of the calibration error."""
_DRAWS = 1000
"""Samples of the bootstrap."""
_SHOWN, _LENGTH = 10, 400
"""Mistakes that are shown, and characters of each at most."""
_FURTHEST = 3.0
"""|log T| is at most this."""
Matrix = NDArray[np.float64]
Numbers = NDArray[np.int64]


def probabilities(logits: Matrix, temperature: float = 1.0) -> Matrix:
    """softmax(logits / T) by rows."""
    scaled = logits / temperature
    risen = np.exp(scaled - scaled.max(1, keepdims=True, initial=-np.inf))
    shares: Matrix = risen / risen.sum(1, keepdims=True)
    return shares


def temperature_of(logits: Matrix, truth: Numbers) -> float:
    """The temperature by which −log q of the truth is least, by L-BFGS on its logarithm, between e⁻³ and e³.
    1 where no answer is wrong: then any lower one would be better still, and nothing is known."""
    if (logits.argmax(1) == truth).all():
        return 1.0
    x, y = torch.from_numpy(logits), torch.from_numpy(truth)
    warmth = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([warmth], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = functional.cross_entropy(x / warmth.clamp(-_FURTHEST, _FURTHEST).exp(), y)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(warmth.detach().clamp(-_FURTHEST, _FURTHEST).exp())


# ---- figures


class ClassFigures(NamedTuple):
    """One class. A share of nothing is `None`."""

    texts: int
    said: int
    precision: Interval | None
    recall: Interval | None
    f1: float


class Calibration(NamedTuple):
    """Whether of answers that are 90 % sure 90 % are right; as the model says it, and with a temperature."""

    bins: int
    ece: Interval
    nats: float
    """−log q of the truth, in the mean."""
    temperature: float
    ece_after: Interval
    nats_after: float
    reliability: tuple[tuple[float, float, int], ...]
    """With the temperature, by bin: mean confidence, share that is right, texts; those without a text are
    left out."""


class Mistake(NamedTuple):
    """A text that was put in the wrong class."""

    text: str
    right: str
    said: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """What is known of a classifier from texts whose class is known."""

    labels: tuple[str, ...]
    texts: int
    unlabelled: int
    accuracy: Interval
    macro_f1: Interval
    majority: float
    """What always saying the commonest class of these texts comes to."""
    classes: Mapping[str, ClassFigures]
    confusion: tuple[tuple[int, ...], ...]
    """Rows: the right class; columns: the one that was said; in the order of `labels`."""
    calibration: Calibration
    mistakes: tuple[Mistake, ...]
    """Those it was surest of, with the temperature."""
    threshold: float
    answered: Interval
    """Share of the texts of whose class it is at least as sure as the threshold."""
    right_where_answered: Interval | None
    notes: tuple[str, ...] = ()

    def table(self) -> dict[str, Any]:
        """All figures as plain data for JSON."""
        plain = {name: getattr(self, name) for name in ("texts", "unlabelled", "majority", "threshold")}
        intervals = {name: getattr(self, name) for name in ("accuracy", "macro_f1", "answered")}
        where = self.right_where_answered
        return {
            "labels": list(self.labels),
            **plain,
            **{name: value.table() for name, value in intervals.items()},
            "right_where_answered": None if where is None else where.table(),
            "classes": {name: _plain(figures) for name, figures in self.classes.items()},
            "confusion": [list(row) for row in self.confusion],
            "calibration": _plain(self.calibration),
            "mistakes": [mistake._asdict() for mistake in self.mistakes],
            "notes": list(self.notes),
        }


def _plain(figures: ClassFigures | Calibration) -> dict[str, Any]:
    return {
        name: value.table() if isinstance(value, Interval) else value
        for name, value in figures._asdict().items()
    }


def measure(
    labels: Sequence[str],
    logits: Matrix,
    truth: Numbers,
    text: Callable[[int], str],
    *,
    temperature: float = 1.0,
    threshold: float = 0.0,
    unlabelled: int = 0,
) -> Classified:
    """All figures of answers (n, classes) to n texts whose right classes are `truth`, n at least 1.

    Args:
        text: the text of that number, for the mistakes that are shown.
        temperature: of the probabilities, found on other texts.
        threshold: below this probability no answer is given.
    """
    said, sure = logits.argmax(1), probabilities(logits, temperature).max(1)
    counts = np.bincount(truth * len(labels) + said, minlength=len(labels) ** 2)
    confusion = counts.reshape(len(labels), -1)
    right = said == truth
    accuracy, answered = share(int(right.sum()), len(truth)), sure >= threshold
    answers = [(labels[a], labels[b]) for a, b in zip(truth.tolist(), said.tolist(), strict=True)]
    why = exchanged(accuracy, labels, answers)
    return Classified(
        labels=tuple(labels),
        texts=len(truth),
        unlabelled=unlabelled,
        accuracy=accuracy,
        macro_f1=_macro_f1(confusion),
        majority=Counter(truth.tolist()).most_common(1)[0][1] / len(truth),
        classes={name: _of_class(confusion, number) for number, name in enumerate(labels)},
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        calibration=_calibration(logits, truth, temperature),
        mistakes=_mistakes(labels, truth, said, sure, text),
        threshold=threshold,
        answered=share(int(answered.sum()), len(truth)),
        right_where_answered=_share(int((right & answered).sum()), int(answered.sum())),
        notes=(why,) if why else (),
    )


def _share(right: int, of: int) -> Interval | None:
    return share(right, of) if of else None


def _of_class(confusion: Numbers, number: int) -> ClassFigures:
    right, texts, said = (
        int(confusion[number, number]),
        int(confusion[number].sum()),
        int(confusion[:, number].sum()),
    )
    f1 = 2 * right / (texts + said) if texts + said else 0.0
    return ClassFigures(texts, said, _share(right, said), _share(right, texts), f1)


def _macro_f1(confusion: Numbers) -> Interval:
    cells = confusion.ravel()
    drawn = np.random.default_rng(0).multinomial(cells.sum(), cells / cells.sum(), size=_DRAWS)
    values = _f1_of(drawn.reshape(_DRAWS, *confusion.shape))
    return _bootstrapped(float(_f1_of(confusion[None])[0]), values)


def _f1_of(confusions: Numbers) -> Matrix:
    """Macro-F1 of each of several confusions (k, classes, classes): the mean over classes that are right or
    said at least once."""
    right = np.diagonal(confusions, axis1=1, axis2=2)
    both = confusions.sum(1) + confusions.sum(2)
    values: Matrix = (2 * right / np.maximum(both, 1)).sum(1) / (both > 0).sum(1)
    return values


def _bootstrapped(value: float, drawn: Matrix) -> Interval:
    """The value, and between what 95 % of those of the bootstrap's samples lie."""
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Interval(value, min(low, value), max(high, value))


def _calibration(logits: Matrix, truth: Numbers, temperature: float) -> Calibration:
    before, after = probabilities(logits), probabilities(logits, temperature)
    right = logits.argmax(1) == truth
    return Calibration(
        bins=BINS,
        ece=_error_of(before.max(1), right),
        nats=_nats(logits, truth, 1.0),
        temperature=temperature,
        ece_after=_error_of(after.max(1), right),
        nats_after=_nats(logits, truth, temperature),
        reliability=_reliability(after.max(1), right),
    )


def _nats(logits: Matrix, truth: Numbers, temperature: float) -> float:
    x = torch.from_numpy(logits) / temperature
    return float(functional.cross_entropy(x, torch.from_numpy(truth)))


def calibration_error(confidence: Matrix, right: NDArray[np.bool_]) -> float:
    """The expected calibration error of n answers, from the confidence and the rightness of each."""
    place = _bin(confidence)
    gap = np.bincount(place, right - confidence, BINS)
    return float(np.abs(gap).sum() / len(confidence))


def _bin(confidence: Matrix) -> Numbers:
    """The bins are 0 … 1/15, 1/15 … 2/15, …, each without its lower end."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _error_of(confidence: Matrix, right: NDArray[np.bool_]) -> Interval:
    rng = np.random.default_rng(0)
    drawn = np.zeros(_DRAWS // 4)
    for number in range(len(drawn)):
        chosen = rng.integers(len(right), size=len(right))
        drawn[number] = calibration_error(confidence[chosen], right[chosen])
    return _bootstrapped(calibration_error(confidence, right), drawn)


def _reliability(confidence: Matrix, right: NDArray[np.bool_]) -> tuple[tuple[float, float, int], ...]:
    place = _bin(confidence)
    texts = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, confidence, BINS), np.bincount(place, right, BINS)
    rows = zip(*(each.tolist() for each in (*sums, texts)), strict=True)
    return tuple((sure / n, hits / n, n) for sure, hits, n in rows if n)


def _mistakes(
    labels: Sequence[str], truth: Numbers, said: Numbers, sure: Matrix, text: Callable[[int], str]
) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(said != truth)
    surest = wrong[np.argsort(-sure[wrong], kind="stable")][:_SHOWN].tolist()
    return tuple(Mistake(_cut(text(n)), labels[truth[n]], labels[said[n]], float(sure[n])) for n in surest)


def _cut(text: str) -> str:
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"

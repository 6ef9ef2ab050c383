"""Putting texts in classes with a trained run, and how well that goes.

A run whose objective has classes is asked directly; its probabilities have the temperature that was found
when it was trained. Any other that scores texts can be asked which word it holds likeliest after a text
(Brown et al., 2020; Schick and Schütze, 2021):

    great film It was ___      q(positive) = p(" great" | …) / ( p(" great" | …) + p(" bad" | …) )
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.data.clean import cleaner
from telos.errors import ConfigError, DataError
from telos.evaluate.classification import Classified, measure, probabilities
from telos.evaluate.few_shot import Item, prompt_of
from telos.evaluate.texts import Judge
from telos.measure import judge_of
from telos.opened import Run

__all__ = ["TEMPLATE", "Judged", "classify", "score_labelled"]

TEMPLATE = "{text} It was {label}."
"""How a language model is asked; the answer is scored where `{label}` stands, and what is after it is left
out."""
Matrix = NDArray[np.float64]


class Judged(NamedTuple):
    """A text's class."""

    label: str | None
    """Its name; `None` where the model is less sure than was asked for."""
    probability: float
    """The highest."""
    probabilities: Mapping[str, float]
    """Of every class, by name."""
    abstained: bool


def classify(
    run: Run,
    texts: Sequence[str],
    *,
    threshold: float = 0.0,
    batch: int = 32,
    words: Mapping[str, str] | None = None,
    template: str = TEMPLATE,
    examples: Sequence[tuple[str, str]] = (),
) -> list[Judged]:
    """The class of each text, one after the other.

    Args:
        threshold: below this probability there is no answer.
        batch: texts at a time: changes time and memory, never the answers.
        words: by the name of each class, a word by which a language model is asked for it.
        template: the sentence it is asked in, with `{text}` and after it `{label}`.
        examples: solved ones, (text, class), that it is shown before.

    Raises:
        ConfigError: the run puts texts in no classes, and no words are given; or they are and it scores no
            texts; or the template or the threshold cannot be.
        DataError: a text is empty.
    """
    asking = None if words is None else _Asking(words, template, examples)
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold = {threshold}: a probability lies between 0 and 1.")
    labels, logits, temperature = _answers(run, texts, batch, asking)
    shares = probabilities(logits, temperature)
    return [_judged(labels, row, threshold) for row in shares.tolist()]


def score_labelled(
    run: Run,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    threshold: float = 0.0,
    batch: int = 32,
    words: Mapping[str, str] | None = None,
    template: str = TEMPLATE,
    examples: Sequence[tuple[str, str]] = (),
) -> Classified:
    """How well the run does on texts whose classes are known; those with an empty label are counted only.

    Raises:
        ConfigError, DataError: as of `classify`; or a label is none of the classes, or none is given.
    """
    known = [(text, label) for text, label in zip(texts, labels, strict=True) if label]
    if not known:
        raise DataError("none of the texts has a label, so nothing can be scored.")
    asking = None if words is None else _Asking(words, template, examples)
    names, logits, temperature = _answers(run, [text for text, _ in known], batch, asking)
    if strange := sorted({label for _, label in known} - set(names)):
        raise DataError(f"the label {strange[0]!r} is none of the model's classes: {', '.join(names)}.")
    return measure(
        names,
        logits,
        np.array([names.index(label) for _, label in known], np.int64),
        lambda n: known[n][0],
        temperature=temperature,
        threshold=threshold,
        unlabelled=len(texts) - len(known),
    )


def _judged(labels: Sequence[str], shares: Sequence[float], threshold: float) -> Judged:
    best = max(range(len(shares)), key=shares.__getitem__)
    sure = shares[best] >= threshold
    by_name = dict(zip(labels, shares, strict=True))
    return Judged(labels[best] if sure else None, shares[best], by_name, not sure)


class _Asking(NamedTuple):
    """How a language model is asked."""

    words: Mapping[str, str]
    template: str
    examples: Sequence[tuple[str, str]]


class _Said(NamedTuple):
    """Answers (n, classes), as logits."""

    labels: tuple[str, ...]
    logits: Matrix
    temperature: float


def _answers(run: Run, texts: Sequence[str], batch: int, asking: _Asking | None) -> _Said:
    """What the run says to texts (n, classes), which are cleaned as those it was trained on."""
    texts = [*map(cleaner(run.recipe.data.clean), texts)]
    if empty := [number for number, text in enumerate(texts, 1) if not text or text.isspace()]:
        raise DataError(f"text {empty[0]} of {len(texts)} is empty: there is nothing to judge.")
    if asking is not None:
        return _likeliest(run, texts, asking)
    if not run.recipe.objective.classes():
        raise ConfigError(
            f"objective = {run.recipe.objective.name!r} puts texts in no classes. Train with one that does, "
            'objective = "classify"; or, of a model that scores texts, say by which words it is to be asked: '
            "--words positive=great --words negative=bad."
        )
    classifier = run.classifier
    return _Said(classifier.labels, classifier.logits(texts, batch), classifier.temperature)


# ---- by words


def _likeliest(run: Run, texts: Sequence[str], asking: _Asking) -> _Said:
    """−nats of each class's word after each text, as logits."""
    _check(asking)
    judge = judge_of(run)
    form = f"{asking.template}\n"
    shown = [Item(text, asking.words[label]) for text, label in asking.examples]
    words = list(asking.words.values())
    room = _room(judge, form, words)
    prompts = [prompt_of(judge, form, shown, _shortened(text, judge, room), words) for text in texts]
    scores = judge.score([text for prompt in prompts for text in prompt.texts])
    logits = -np.array(scores.nats).reshape(len(texts), len(words))
    return _Said(tuple(asking.words), logits, 1.0)


def _check(asking: _Asking) -> None:
    words, template = asking.words, asking.template
    if len(words) < 2 or not all(words.values()) or len(set(words.values())) < len(words):
        raise ConfigError("words: two classes at least, and for each a word of its own that is not empty.")
    if template.count("{text}") != 1 or template.partition("{text}")[2].count("{label}") != 1:
        raise ConfigError(
            f"template = {template!r}: it must hold {{text}} once, and after it {{label}} once."
        )
    if strange := sorted({label for _, label in asking.examples} - set(words)):
        raise ConfigError(f"examples: for the class {strange[0]!r} no word is given.")


def _room(judge: Judge, form: str, words: Sequence[str]) -> int | None:
    """Tokens of a text that leave room for the question and each of the answers."""
    if judge.room is None:
        return None
    frame = form.partition("{label}")[0].replace("{text}", " ")
    longest = max(len(judge.tokenizer.encode(frame + word)) for word in words)
    if longest + 1 >= judge.room:
        raise ConfigError(
            f"template: with its longest word it has {longest} tokens, and the model reads {judge.room} at "
            "once. Make it shorter."
        )
    return judge.room - longest - 1


def _shortened(text: str, judge: Judge, room: int | None) -> str:
    """The text, or as much of its beginning as there is room for."""
    if room is None or len(text) <= room // 4:
        return text
    _, at = judge.tokenizer.encode_offsets(text)
    return text if len(at) <= room else text[: int(at[room - 1, 1])]

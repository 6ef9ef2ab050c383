"""Few-shot classification (Brown et al., 2020): a model is shown k solved examples and one unsolved, and that
answer counts as its own which it holds likeliest.

    prompt(k)  =  example₁ answer₁ … exampleₖ answerₖ example          chosen: argmax log q(answer | prompt)

Nothing is trained. Examples are JSON lines with `text` and `label`: the answers to choose from are the
labels' own names, never numbers (so their order in a file means nothing); or with `text` and `target`, such
as a translation: then the answers are the right target and three of other lines. The examples shown are drawn
from the other lines of the file, by (seed, line) alone; those shown for a smaller k are the first of those
for a larger one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from telos.config import Lax, Settings
from telos.errors import DataError
from telos.evaluate._exchanged import exchanged
from telos.evaluate._intervals import Interval, share
from telos.evaluate._records import records, wanted
from telos.evaluate.texts import Judge, Kind, Text

__all__ = ["FewShot", "FewShotSettings", "Item", "Prompt", "Task", "judge_few_shot", "prompt_of", "read_task"]

_CHOICES = 4
"""Answers to choose from where each line has its own."""


class FewShotSettings(Settings):
    """How examples are shown."""

    shots: Annotated[tuple[int, ...], Lax] = (0, 1, 4, 8)
    """How many solved examples are shown, one figure for each."""
    form: str = "{text}\nLabel: {label}\n\n"
    """How an example is written; the unsolved one ends where `{label}` stands."""
    limit: int = Field(0, ge=0)
    """So many lines are asked, drawn once; 0 for all."""
    seed: int = Field(0, ge=0)
    """Decides which lines are asked and which examples are shown."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> "FewShotSettings":
        if not self.shots or min(self.shots) < 0:
            raise ValueError("shots must be numbers of examples, 0 or more, such as 0,1,4,8")
        if self.form.count("{text}") != 1 or self.form.partition("{text}")[2].count("{label}") != 1:
            raise ValueError("form must hold {text} once, and after it {label} once")
        return self


class Item(NamedTuple):
    """A text and its right answer."""

    text: str
    answer: str


class Task(NamedTuple):
    """Items, and the answers they share; none where each has its own."""

    items: tuple[Item, ...]
    labels: tuple[str, ...]


def read_task(path: Path) -> Task:
    """The items of a file of JSON lines, or of all files of a folder.

    Raises:
        DataError: a line has no text or no answer, or there is nothing to choose between.
    """
    items, keys = [], set()
    for record in records(path):
        key = "label" if "label" in record.values else "target"
        keys.add(key)
        items.append(Item(wanted(record, "text"), wanted(record, key)))
    answers = Counter(item.answer for item in items)
    if len(keys) > 1:
        raise DataError(f"{path}: some lines have a label and some a target. Put them in two files.")
    if len(answers) < 2:
        raise DataError(f"{path}: there are {len(answers)} different answers; a choice needs two at least.")
    return Task(tuple(items), tuple(sorted(answers)) if keys == {"label"} else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """How often the right answer was chosen, by the number of examples shown."""

    kind: Kind
    labels: tuple[str, ...]
    items: int
    chance: float
    """What choosing blindly comes to."""
    majority: float
    """What always choosing the commonest answer comes to."""
    accuracy: Mapping[int, Interval]
    """By the number of examples asked for."""
    shown: Mapping[int, float]
    """By the same: how many were shown in the mean. Less where they did not fit the window."""
    notes: tuple[str, ...] = ()

    def table(self) -> dict[str, Any]:
        """All figures as plain data for JSON."""
        shots = {
            str(k): {**interval.table(), "shown": self.shown[k]} for k, interval in self.accuracy.items()
        }
        plain = {"kind": self.kind, "items": self.items, "chance": self.chance, "majority": self.majority}
        return {**plain, "labels": list(self.labels), "shots": shots, "notes": list(self.notes)}


def judge_few_shot(judge: Judge, task: Task, settings: FewShotSettings | None = None) -> FewShot:
    """How well the model chooses, shown 0, 1, … examples."""
    settings = settings or FewShotSettings()
    order = np.random.default_rng(settings.seed).permutation(len(task.items)).tolist()
    asked = sorted(order[: settings.limit or len(order)])
    accuracy, shown, notes = {}, {}, []
    choices = [_choices(task, index, settings.seed) for index in asked]
    for k in settings.shots:
        prompts = [
            _prompt(judge, task, index, k, settings, answers)
            for index, answers in zip(asked, choices, strict=True)
        ]
        texts = [text for prompt in prompts for text in prompt.texts]
        chosen = _chosen(judge.score(texts).nats, choices)
        right = [task.items[index].answer for index in asked]
        accuracy[k] = share(sum(map(str.__eq__, chosen, right)), len(asked))
        shown[k] = float(np.mean([prompt.shown for prompt in prompts]))
        why = exchanged(accuracy[k], task.labels, list(zip(right, chosen, strict=True)))
        notes += [f"With {k} examples {why}"] if why else []
    commonest = Counter(task.items[index].answer for index in asked).most_common(1)[0][1]
    return FewShot(
        kind=judge.kind,
        labels=task.labels,
        items=len(asked),
        chance=1 / len(choices[0]),
        majority=commonest / len(asked),
        accuracy=accuracy,
        shown=shown,
        notes=tuple(notes),
    )


class Prompt(NamedTuple):
    """A text for every answer, and how many examples it shows."""

    texts: list[Text]
    shown: int


def _prompt(
    judge: Judge, task: Task, index: int, k: int, settings: FewShotSettings, choices: Sequence[str]
) -> Prompt:
    """The prompt with k examples that are drawn from the other items."""
    rng = np.random.default_rng((settings.seed, index, 1))
    others = [place for place in range(len(task.items)) if place != index]
    drawn = [task.items[place] for place in rng.permutation(others)[:k].tolist()]
    return prompt_of(judge, settings.form, drawn, task.items[index].text, choices)


def prompt_of(judge: Judge, form: str, examples: Sequence[Item], text: str, choices: Sequence[str]) -> Prompt:
    """The examples, or as many of the last ones as fit what the model reads at once, and `text` with each of
    the answers, of which the answer is to be scored, with the blanks before it: in some of the answers they
    are a token of their own, in others they begin one."""
    parts = [_written(form, example) for example in examples]
    asked = form.partition("{label}")[0].replace("{text}", text)
    room = judge.room
    while True:
        before = "".join(parts) + asked
        stem = before.rstrip(" ")
        blanks = before[len(stem) :]
        texts = [judge.text(blanks + choice, stem) for choice in choices]
        if not parts or room is None or max(len(each.ids) for each in texts) <= room:
            return Prompt(texts, len(parts))
        del parts[0]


def _written(form: str, item: Item) -> str:
    before, _, after = form.partition("{text}")
    return before + item.text + after.replace("{label}", item.answer)


def _choices(task: Task, index: int, seed: int) -> list[str]:
    """The answers that an item is to be chosen from."""
    if task.labels:
        return list(task.labels)
    right = task.items[index].answer
    others = sorted({item.answer for item in task.items} - {right})
    rng = np.random.default_rng((seed, index, 0))
    drawn = rng.permutation(len(others))[: _CHOICES - 1]
    return sorted([right, *(others[place] for place in drawn.tolist())])


def _chosen(nats: Sequence[float], choices: Sequence[Sequence[str]]) -> list[str]:
    """The likeliest answer of each item."""
    found, start = [], 0
    for answers in choices:
        scores = nats[start : start + len(answers)]
        found.append(answers[int(np.argmin(scores))])
        start += len(answers)
    return found

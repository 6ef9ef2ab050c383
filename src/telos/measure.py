"""What can be measured of a trained run beyond the loss that it was trained by: figures that compare across
objectives, each with its kind."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from telos.config import read
from telos.data.clean import cleaner
from telos.errors import DataError
from telos.evaluate._intervals import Interval
from telos.evaluate.few_shot import FewShot, FewShotSettings, judge_few_shot, read_task
from telos.evaluate.pairs import PairScores, judge_pairs, read_pairs
from telos.evaluate.probe import Probe, features, probe, read_labelled
from telos.evaluate.texts import Judge, Kind, TextSettings, text_of
from telos.opened import Run

__all__ = [
    "HeldOut",
    "held_out",
    "judge_of",
    "lines_of",
    "measure_few_shot",
    "measure_pairs",
    "measure_probe",
    "sampled",
]

KINDS = {"exact": "exact", "pseudo": "pseudo-likelihood", "bound": "upper bound"}
"""What a figure of each kind is called."""


def judge_of(run: Run, settings: TextSettings | None = None) -> Judge:
    """The run's model, ready to score texts as its objective says, cleaned as those it was trained on.

    Raises:
        ConfigError: the objective has no such score.
    """
    recipe = run.recipe
    return Judge(
        run.network,
        recipe.objective,
        run.tokenizer,
        settings,
        window=recipe.train.window,
        gives=recipe.model.gives,
        clean=cleaner(recipe.data.clean, part=True),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The score of held-out text, of whatever kind the objective has."""

    kind: Kind
    words: bool
    nats: float
    tokens: int
    bytes: int
    documents: int

    @property
    def bits_per_byte(self) -> float:
        """Compares with figures of the same kind only."""
        return self.nats / math.log(2) / self.bytes

    def table(self) -> dict[str, Any]:
        """All figures as plain data for JSON."""
        return {**asdict(self), "loss": self.nats / self.tokens, "bits_per_byte": self.bits_per_byte}


def held_out(
    run: Run, tokens: int = 10_000, settings: TextSettings | None = None, split: str = "test"
) -> HeldOut:
    """The score of about so many tokens of a split: documents in one fixed random order, the last one cut.

    A pseudo-likelihood reads a window for every token, so it is as slow as it is long.

    Raises:
        DataError: the split is empty, or its text cannot be had back from a lossy vocabulary.
        ConfigError: the objective has no such score.
    """
    judge, shards, tokenizer = judge_of(run, settings), run.shards(split), run.tokenizer
    if not tokenizer.lossless:
        raise DataError(
            "the vocabulary is lossy: what it cannot say costs nothing, so its bits do not compare."
        )
    texts, size = [], 0
    for ids in sampled(shards, tokens):
        texts.append(text_of(tokenizer.decode(ids.tolist()), tokenizer))
        size += sum(len(tokenizer.token_bytes(token)) for token in texts[-1].ids.tolist())
    if not size:
        raise DataError(f"the {split} split holds no text to score. Hold out more (data.split).")
    found = judge.score(texts)
    return HeldOut(
        kind=found.kind,
        words=found.words,
        nats=math.fsum(found.nats),
        tokens=sum(found.tokens),
        bytes=size,
        documents=len(texts),
    )


def sampled(shards: Any, tokens: int) -> Iterator[Any]:
    """About so many tokens of a split, document by document in one fixed random order, the last one cut."""
    for document in np.random.default_rng(0).permutation(len(shards.lengths)).tolist():
        ids = shards.document(document)[:tokens]
        if len(ids):
            yield ids
        tokens -= len(ids)
        if tokens <= 0:
            return


def measure_pairs(run: Run, path: Path, limit: int = 0, settings: TextSettings | None = None) -> PairScores:
    """How many of the minimal pairs in a file or folder come out right; `limit` of each paradigm, 0 for all.

    Raises:
        DataError: they cannot be read.
        ConfigError: the objective scores no texts.
    """
    return judge_pairs(judge_of(run, settings), read_pairs(path, limit))


def measure_few_shot(run: Run, path: Path, settings: FewShotSettings | None = None) -> FewShot:
    """How often the model chooses the right answer, shown a few examples in its prompt.

    Raises:
        DataError: the examples cannot be read.
        ConfigError: the objective scores no texts.
    """
    return judge_few_shot(judge_of(run), read_task(path), settings)


def measure_probe(run: Run, train: Path, test: Path, limit: int = 0) -> Probe:
    """How many labels of `test` a linear map of the model's states gets right that was fitted to `train`;
    of each file `limit` texts, 0 for all.

    Raises:
        DataError: the texts cannot be read, or the objective reads none as they are.
    """
    parts = [read_labelled(path, limit) for path in (train, test)]
    window, objective = run.recipe.train.window, run.recipe.objective
    clean = cleaner(run.recipe.data.clean)
    states = [
        features(run.network, objective, run.tokenizer, [clean(text) for text, _ in part], window=window)
        for part in parts
    ]
    labels = [[label for _, label in part] for part in parts]
    return probe(states[0], labels[0], states[1], labels[1])


# ---- for the command line


class Measured(NamedTuple):
    """Measures as plain data and as a table for people."""

    table: dict[str, Any]
    lines: list[str]


def measured(
    run: Run,
    *,
    split: str = "test",
    tokens: int | None = None,
    pairs: Path | None = None,
    few_shot: Path | None = None,
    probe: tuple[Path, Path] | None = None,
    shots: str = "0,1,4,8",
    limit: int = 0,
    words: bool = False,
) -> Measured:
    """Those measures that are given something to measure by.

    Raises:
        DataError, ConfigError: as of each.
    """
    found: dict[str, HeldOut | PairScores | FewShot | Probe] = {}
    settings = TextSettings(words=words)
    if tokens is not None:
        found["held_out"] = held_out(run, tokens, settings, split)
    if pairs is not None:
        found["pairs"] = measure_pairs(run, pairs, limit, settings)
    if few_shot is not None:
        parts = [part.strip() for part in shots.split(",")]
        given = {"shots": [int(part) if part.isdecimal() else part for part in parts], "limit": limit}
        found["few_shot"] = measure_few_shot(run, few_shot, read(FewShotSettings, given, "few-shot"))
    if probe is not None:
        found["probe"] = measure_probe(run, *probe, limit)
    return Measured(
        {name: each.table() for name, each in found.items()},
        [line for each in found.values() for line in lines_of(each)],
    )


# ---- for people


def lines_of(found: HeldOut | PairScores | FewShot | Probe) -> list[str]:
    """A measure as a table for people."""
    if isinstance(found, HeldOut):
        return [
            f"{found.documents:,} documents, {found.tokens:,} tokens, {found.bytes:,} bytes",
            f"{f'bits per byte ({_kind(found.kind, found.words)})':44} {found.bits_per_byte:8.4f}",
        ]
    if isinstance(found, PairScores):
        head = f"{sum(found.pairs.values()):,} minimal pairs, scored by {_kind(found.kind, found.words)}"
        rows = {"all": found.accuracy, **found.phenomena}
        return [head, *(_row(name, interval) for name, interval in rows.items())]
    if isinstance(found, FewShot):
        head = f"{found.items:,} items; chance {found.chance:.1%}, commonest answer {found.majority:.1%}"
        rows = {
            f"{k} examples ({found.shown[k]:.1f} fit)": interval for k, interval in found.accuracy.items()
        }
        notes = [f"Note: {note}" for note in found.notes]
        return [head, *(_row(name, interval) for name, interval in rows.items()), *notes]
    head = f"{found.texts:,} texts, fitted to {found.fitted:,}; commonest label {found.majority:.1%}"
    return [head, _row("linear probe", found.accuracy)]


def _kind(kind: Kind, words: bool) -> str:
    return KINDS[kind] + (", rest of each word hidden" if words else "")


def _row(name: str, interval: Interval) -> str:
    assert interval.low is not None and interval.high is not None
    return f"{name:44} {interval.value:7.1%}   {interval.low:.1%} – {interval.high:.1%}"

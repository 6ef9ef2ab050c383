"""Translations by a run that was trained on pairs of texts; any other answers to texts, too, where that is
what it was trained to give."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from telos.data.clean import cleaner
from telos.data.shards import Shards
from telos.errors import ConfigError, DataError
from telos.evaluate.translation import Quality, quality
from telos.explain.alignment import Alignment, alignment, draw
from telos.folder import read_json
from telos.generate._rows import Sample
from telos.generate._settings import DrawSettings, GenerateSettings
from telos.generate.beam import rank
from telos.opened import Run

__all__ = ["Translation", "answers", "evaluate", "noted", "pairs_of", "picture", "pointer", "translate"]

WIDTH = 5
"""Of the beam, where neither the recipe nor the caller says it."""
TOGETHER = 64
"""Texts that are translated side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """One of the best that were found for a text."""

    text: str
    score: float
    """Σ log q / length^α, by which they are ranked; nats per token where α is 1."""
    finished: bool
    """The model ended it by itself; else it was cut at the greatest length."""

    def table(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def translate(
    run: Run, texts: Sequence[str], *, n: int = 1, overrides: Iterable[str] = (), together: int = TOGETHER
) -> list[list[Translation]]:
    """The `n` best translations of each text, the best first; of an empty text an empty one.

    Args:
        overrides: settings of generation laid over the recipe's: `beam.width=8`. Without any, a beam of 5 is
            searched, unless the recipe has another.
        together: texts that are translated side by side; changes time and memory, never what comes out but
            for rounding.

    Raises:
        ConfigError: the run was not trained on pairs, or a setting of generation is wrong.
        DataError: a text is longer than the run's model reads.
    """
    asked = _asked(run, n, overrides)
    settings = run.generate_settings(asked)
    texts = _read(run, texts)
    order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(texts[i]))
    nothing = Translation(text="", score=0.0, finished=True)
    found: list[list[Translation]] = [[nothing] for _ in texts]
    for at in range(0, len(order), together):
        chosen = order[at : at + together]
        samples = run.generate([texts[index] for index in chosen], [*asked, f"batch={together * n}"])
        for place, index in enumerate(chosen):
            own = samples[place * n : (place + 1) * n]
            found[index] = [_translation(sample, settings) for sample in own]
    return found


def _translation(sample: Sample, settings: GenerateSettings) -> Translation:
    penalty = settings.beam.length_penalty
    return Translation(
        text=sample.text.strip(),
        score=rank(sample.logprob, max(len(sample.ids), 1), penalty),
        finished=sample.finished != "length",
    )


def picture(run: Run, texts: Sequence[str], path: Path, *, overrides: Iterable[str] = ()) -> Alignment:
    """Draw where the run's model looks in a text while it says its best translation, into `path`.

    Raises:
        ConfigError: there is more than one text, or the model has no attention to a source.
        DataError: as of `translate`.
    """
    if len(texts) != 1 or not texts[0].strip():
        raise ConfigError(f"a picture of attention is of one text, and there are {len(texts)}.")
    texts = _read(run, texts)
    (sample,) = run.generate(texts, _asked(run, 1, overrides))
    said = np.array(sample.ids, np.int64)
    found = alignment(run.network, run.recipe.objective, run.tokenizer, texts[0], said)
    draw(found, path)
    return found


def _asked(run: Run, n: int, overrides: Iterable[str]) -> list[str]:
    """What is laid over the recipe's settings: what draws is left out, there is a beam, and as many texts as
    are wanted."""
    drawn = [f"{name}={field.default}" for name, field in DrawSettings.model_fields.items()]
    beam = [] if run.recipe.generate.beam.width > 1 else [f"beam.width={max(WIDTH, n)}"]
    return [*drawn, *beam, f"length={run.recipe.train.window}", *overrides, f"samples={n}"]


def _read(run: Run, texts: Sequence[str]) -> list[str]:
    """The texts, cleaned as those the run was trained on: it answers texts, and can read each whole."""
    objective = run.recipe.objective
    if not answers(run):
        raise ConfigError(
            f"{run.folder}: objective = {objective.name!r} goes on with texts and does not answer them. "
            'Train on pairs: objective = "sequence_to_sequence", see docs/translation.md.'
        )
    longest = objective.cut(run.recipe.train.window).length
    texts = [*map(cleaner(run.recipe.data.clean), texts)]
    for number, text in enumerate(texts, start=1):
        if len(text.encode()) > longest:  # no text has more tokens than bytes, but for what is put on
            tokens = len(run.tokenizer.encode(text))
            if tokens > longest:
                raise DataError(
                    f"text {number} has {tokens:,} tokens, and the model reads {longest:,}: divide it, for "
                    "instance into its sentences."
                )
    return texts


def answers(run: Run) -> bool:
    """Whether the run was trained to answer texts, as translators are."""
    return "target" in run.recipe.objective.columns()


def evaluate(
    run: Run, split: str = "test", *, source: str = "", limit: int = 0, overrides: Iterable[str] = ()
) -> Quality:
    """BLEU and chrF of the run on pairs that were held out: of the whole split or of one of its sources, or
    of the first `limit` of these.

    Raises:
        ConfigError, DataError: as of `translate`, and of a split without pairs.
    """
    sources, references = pairs_of(run, split, limit, source)
    found = translate(run, sources, overrides=overrides)
    return quality(sources, [best[0].text for best in found], references)


def noted(run: Run, split: str) -> dict[str, Any]:
    """As `pairs`, the figures of `evaluate` that were noted when training ended, of the first texts of the
    test split; nothing where they are of another split, or of other weights than the run's are now."""
    found = run.figures().get("evaluation", {}).get(split, {})
    known = "pairs" in found and found["step"] == run.saved.step
    return {"pairs": found["pairs"]} if known else {}


def pointer(run: Run, split: str, figures: Mapping[str, Any]) -> list[str]:
    """How to have BLEU and chrF where the figures are without them: a search takes its time."""
    if "pairs" in figures or not answers(run):
        return []
    return [f"{'BLEU and chrF':34} telos translate {run.folder} --split {split}"]


def pairs_of(run: Run, split: str, limit: int = 0, source: str = "") -> tuple[list[str], list[str]]:
    """Texts and targets of a split, as the vocabulary gives them back; those that are longer than what the
    model reads are left out, with a warning that counts them.

    Raises:
        DataError: the split holds no pairs.
        ConfigError: the data has no such source.
    """
    shards = run.shards(split)
    if "target" not in shards.columns:
        raise DataError(f"{shards.folder}: this text has no targets. Train on pairs: docs/translation.md.")
    longest = run.recipe.objective.cut(run.recipe.train.window).length
    asked = _of_source(run, shards, source)[: limit or None]
    chosen = [index for index in asked if shards.lengths[index] <= longest]
    if len(chosen) < len(asked):
        message = (
            f"{len(asked) - len(chosen):,} of {len(asked):,} texts are longer than the {longest} tokens that "
            "the model reads, and are not translated."
        )
        warnings.warn(message, UserWarning, stacklevel=2)
    decode = run.tokenizer.decode
    sources = [decode(shards.document(index)) for index in chosen]
    return sources, [decode(shards.column("target", index)) for index in chosen]


def _of_source(run: Run, shards: Shards, source: str) -> list[int]:
    """The documents of a source, or all."""
    if not source:
        return list(range(len(shards)))
    names = list(read_json(run.folder / "card.json").get("sources", {}))
    if source not in names:
        there = f"There are: {', '.join(names)}." if names else "Its data has one source only: leave it out."
        raise ConfigError(f"source = {source!r}: {run.folder} has no such source. {there}")
    found: list[int] = (shards.columns["source"] == names.index(source)).nonzero()[0].tolist()
    return found

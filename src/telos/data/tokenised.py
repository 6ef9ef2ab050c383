"""The third stage: the kept texts of a task as tokens; and how those of all tasks become the shards.

    cleaned/NUMBER/ + codes + tokenizer → tokens/NUMBER/{train,validation,test}/ → train/ validation/ test/

What is measured on the way is added up in the order of the tasks, so the data card does not tell how many
workers there were.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from telos.chat import FORMATS, framed
from telos.data.card import UNKNOWN, Counts, Scripts
from telos.data.cleaned import Cleaned, Written, batches
from telos.data.cutting import cuts_at
from telos.data.documents import DROPPED, SPLITS
from telos.data.folders import finished
from telos.data.passages import without
from telos.data.shards import COLUMNS, Shards, ShardWriter
from telos.errors import ConfigError
from telos.tokenizer import Tokenizer
from telos.turns import parted, unmarked
from telos.words import jieba

__all__ = ["Measured", "TokenPlan", "measured", "tokenise_task", "write_shards"]

BATCH = 1 << 21
"""Characters that are tokenised together, about."""


@dataclass(frozen=True, kw_only=True)
class TokenPlan:
    """What all tasks of this stage share."""

    vocabulary: Path
    """The tokenizer's file."""
    columns: tuple[str, ...]
    """Of the shards, beside the ids."""
    labels: tuple[str, ...]
    origins: tuple[str, ...]
    """Names of the sources."""
    languages: tuple[str, ...]
    """By which texts are mixed in place of their sources, if there are any here."""
    share: float
    """Of the texts, on how many bytes per token are measured by script."""


class Measured(NamedTuple):
    """Counts over texts that were tokenised. They add up."""

    splits: tuple[Counts, ...]
    changed: Counts = Counts()
    """Texts that do not come back from their tokens."""
    unknown: int = 0
    """Tokens that stand for what the vocabulary does not hold."""
    lost: tuple[tuple[int, int], ...] = ((0, 0),) * len(SPLITS)
    """Of each split: unknown tokens, and the bytes they stand for."""
    origins: tuple[tuple[str, Counts], ...] = ()
    """What there is of each source, by its name."""
    languages: tuple[tuple[str, Counts], ...] = ()
    """And in each language."""

    def __add__(self, other: "Measured") -> "Measured":  # type: ignore[override]
        return Measured(
            tuple(a + b for a, b in zip(self.splits, other.splits, strict=True)),
            self.changed + other.changed,
            self.unknown + other.unknown,
            tuple((a + c, b + d) for (a, b), (c, d) in zip(self.lost, other.lost, strict=True)),
            tuple(_added(dict(self.origins), other.origins).items()),
            tuple(_added(dict(self.languages), other.languages).items()),
        )


def _added(counts: dict[str, Counts], more: Iterable[tuple[str, Counts]]) -> dict[str, Counts]:
    for name, each in more:
        counts[name] = counts.get(name, Counts()) + each
    return counts


def tokenise_task(
    plan: TokenPlan,
    cleaned: Path,
    codes: Path,
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Do a task, unless it is done: afterwards its shards are in `folder`. `codes`: a file of numpy with the
    splits of its texts. How many texts it keeps; `progress` is told on the way how many are tokenised."""
    if not folder.is_dir():
        with finished(folder) as building:
            writing = _Writing(building, plan, Tokenizer.load(plan.vocabulary))
            try:
                for batch in batches(_kept(Cleaned(cleaned), codes), lambda kept: len(kept.text.text), BATCH):
                    writing.add(batch)
                    if progress is not None:
                        progress(writing.documents)
                writing.close()
            except BaseException:
                writing.abandon()
                raise
    return int((np.load(codes, allow_pickle=False) != DROPPED).sum())


class _Kept(NamedTuple):
    """A text and the place of its split."""

    text: Written
    split: int
    origin: int


def _kept(cleaned: Cleaned, codes: Path) -> Iterator[_Kept]:
    decided = np.load(codes, allow_pickle=False)
    cuts = cuts_at(codes.parents[1] / "cuts" / f"{codes.stem}.npz")
    chosen = np.flatnonzero(decided != DROPPED)
    (origins,) = cleaned.table("origins")
    values = zip(decided[chosen].tolist(), origins[chosen].tolist(), strict=True)
    for at, text, (split, origin) in zip(chosen.tolist(), cleaned.written(chosen), values, strict=True):
        cut = cuts.get(at)
        text = text if cut is None else text._replace(text=without(text.text, cut))
        yield _Kept(text, split, origin)


class _Writing:
    """Tokens to the shards of each split, counted and measured on the way."""

    def __init__(self, folder: Path, plan: TokenPlan, tokenizer: Tokenizer) -> None:
        self._folder, self._plan, self._tokenizer = folder, plan, tokenizer
        self._format = _format(plan.columns)
        self._writers = [
            ShardWriter(folder / s, tokenizer.hash, tokenizer.size, plan.columns, plan.labels) for s in SPLITS
        ]
        self._found = Measured(splits=(Counts(),) * len(SPLITS))
        self._numbers = {label: number for number, label in enumerate(plan.labels)}
        self._spoken = {language: number for number, language in enumerate(plan.languages)}
        self._scripts = Scripts()

    @property
    def documents(self) -> int:
        """Written so far."""
        return sum(counts.documents for counts in self._found.splits)

    def add(self, batch: Sequence[_Kept]) -> None:
        """Tokenise and write some texts."""
        for kept, text, ids, more in zip(batch, *self._encoded(batch), strict=True):
            size = len(text.encode())
            self._writers[kept.split].add(ids, bytes=size, **self._values(kept, text), **more)
            self._found += self._measure(kept, text, ids, Counts(1, size, len(text), len(ids)))

    def _encoded(self, batch: Sequence[_Kept]) -> tuple[list[str], list[Any], list[dict[str, Any]]]:
        """The texts, their tokens, and what these alone tell. Where conversations are wanted, every text is
        one: what is said in it, in a frame."""
        if self._format is None:
            texts = [unmarked(kept.text.text) for kept in batch]
            return texts, self._tokenizer.encode_batch(texts), [{}] * len(batch)
        several = [parted(kept.text.text, kept.text.target) for kept in batch]
        found = [framed(turns, FORMATS[self._format], self._tokenizer) for turns in several]
        answers = [{self._format: each.answers} for each in found]
        return (
            ["".join(turn.text for turn in turns) for turns in several],
            [each.ids for each in found],
            answers,
        )

    def _values(self, kept: _Kept, text: str) -> Mapping[str, Any]:
        columns, values = self._plan.columns, dict[str, Any]()
        if "word_start" in columns or "sentence_start" in columns:
            encoded = self._tokenizer.encode_words(text)
            values |= {"word_start": encoded.word_start, "sentence_start": encoded.sentence_start}
        if "jieba_word_start" in columns:
            values["jieba_word_start"] = self._tokenizer.encode_words(text, jieba()).word_start
        if "target" in columns:
            values["target"] = self._tokenizer.encode(kept.text.target or "")
        if "label" in columns:
            values["label"] = -1 if kept.text.label is None else self._numbers[kept.text.label]
        if "source" in columns:
            values["source"] = self._spoken.get(kept.text.language or UNKNOWN, kept.origin)
        return {name: values[name] for name in columns if name != self._format}

    def _measure(self, kept: _Kept, text: str, ids: Any, counts: Counts) -> Measured:
        """A sample chosen by content for bytes per token; and, where text can be lost, whether it was."""
        tokenizer = self._tokenizer
        digest = hashlib.blake2b(text[:4096].encode(), digest_size=4).digest()
        if int.from_bytes(digest, "big") / 2**32 < self._plan.share:
            self._scripts.add(text[: 1 << 20], tokenizer)
        names = self._plan.origins
        origins = ((names[kept.origin], counts),) if 0 <= kept.origin < len(names) else ()
        found = Measured(
            splits=_at(kept.split, counts, Counts()),
            origins=origins,
            languages=((kept.text.language or UNKNOWN, counts),),
        )
        if tokenizer.lossless or self._format is not None:  # what a frame adds is not in the text
            return found
        if tokenizer.decode(ids) != text:
            found = found._replace(changed=counts)
        if tokenizer.unknown is None:
            return found
        lost = tokenizer.unknown_in(text) if kept.split else (0, 0)
        return found._replace(
            unknown=int((ids == tokenizer.unknown).sum()), lost=_at(kept.split, lost, (0, 0))
        )

    def close(self) -> None:
        """Everything to the disk."""
        for writer in self._writers:
            writer.close()
        table = {"measured": self._found, "scripts": self._scripts.state()}
        (self._folder / "measured.json").write_text(json.dumps(table), encoding="ascii")

    def abandon(self) -> None:
        """Close the files of a task that failed."""
        for writer in self._writers:
            writer.abandon()


def _format(columns: Sequence[str]) -> str | None:
    """The format of conversations that is wanted, if one is.

    Raises:
        ConfigError: another objective wants to know of the same tokens what cannot be known of a frame.
    """
    found = [name for name in columns if name in FORMATS]
    others = [name for name in columns if COLUMNS[name].per == "token" and name not in found[:1]]
    if found and others:
        raise ConfigError(
            f"objective: {found[0]!r} puts conversations in a frame, and another part of the objective wants "
            f"{', '.join(others)} of the same text, which a frame has not. Take one of them."
        )
    return found[0] if found else None


def _at(place: int, value: Any, rest: Any) -> tuple[Any, ...]:
    """`value` at one place of a tuple with a place for each split, `rest` elsewhere."""
    return tuple(value if number == place else rest for number in range(len(SPLITS)))


def measured(folders: Sequence[Path]) -> tuple[Measured, Scripts]:
    """What was measured in all tasks."""
    total, scripts = Measured(splits=(Counts(),) * len(SPLITS)), Scripts()
    for folder in folders:
        table = json.loads((folder / "measured.json").read_bytes())
        splits, changed, unknown, lost, *named = table["measured"]
        total += Measured(
            tuple(Counts(*each) for each in splits),
            Counts(*changed),
            unknown,
            tuple((tokens, size) for tokens, size in lost),
            *(tuple((name, Counts(*each)) for name, each in counts) for counts in named),
        )
        scripts.add_state(table["scripts"])
    return total, scripts


def write_shards(
    folder: Path,
    parts: Sequence[Path],
    tokenizer: Tokenizer,
    columns: Sequence[str],
    labels: Sequence[str] = (),
) -> None:
    """The shards of all tasks, one after the other, as `folder`/train, validation and test."""
    for split in SPLITS:
        writer = ShardWriter(folder / split, tokenizer.hash, tokenizer.size, columns, labels)
        try:
            for part in parts:
                writer.extend(Shards(part / split))
            writer.close()
        except BaseException:
            writer.abandon()
            raise

"""From text to tokens on disk, once per (text, settings, special tokens): `runs/prepared/KEY/`.

    tokenizer.json   card.json   card.md   train/   validation/   test/   whole.json (written last)

KEY is a hash of the bytes of the input, the settings, the special tokens and the version of this format, so
that whatever changes what comes out changes the key. Everything is built in a folder of another name and
renamed when it is on the disk. What is there already is read through and compared with its digests before it
is used; what is damaged is built again.

Memory does not grow with the input but for 16 bytes of hash per document (about 100 as Python holds them):
the input is read twice, the vocabulary is learned from a bounded sample, and tokens go to the disk in
batches.
"""

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final

from filelock import FileLock

from telos.config import fingerprint
from telos.data import documents
from telos.data.card import Card, Counts, Scripts, make_card, read_card
from telos.data.documents import SPLITS, Decisions, Findings, Kept, Reader
from telos.data.settings import DataSettings
from telos.data.shards import FORMAT, Shards, ShardWriter
from telos.errors import DataError, explained
from telos.json_files import read_object
from telos.tokenizer import Tokenizer, TokenizerSettings, check_size, train_tokenizer
from telos.words import jieba

__all__ = ["Prepared", "found", "key_of", "prepare"]

VERSION = 1
"""Raised whenever the same input would give another result."""
BATCH = 1 << 21
"""Characters that are tokenised together, about."""
MEASURED = 8_000_000
"""Bytes of text, about, that bytes per token by script is measured on."""
TOO_MANY_UNKNOWN = 0.2
"""A warning is given where more than this share of a held-out split's tokens are unknown."""


class Progress(Protocol):
    """Told now and then what is being done, how many are done, and of how many where that is known."""

    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


@final
@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Prepared data: where it is, its vocabulary and its card."""

    folder: Path
    tokenizer: Tokenizer
    card: Card

    def shards(self, split: str) -> Shards:
        """The tokens of `train`, `validation` or `test`."""
        assert split in SPLITS, split
        return Shards(self.folder / split)

    def verify(self) -> None:
        """Read every byte and compare with the digests.

        Raises:
            DataError: names the file that is damaged.
        """
        advice = f"Delete {self.folder} and prepare again."
        for name, digest in read_object(self.folder / "whole.json", DataError, advice)["files"].items():
            if not (self.folder / name).is_file() or _digest(self.folder / name) != digest:
                raise DataError(
                    f"{self.folder / name}: prepared data is damaged. Delete {self.folder} and prepare again."
                )
        for split in SPLITS:
            self.shards(split).verify()


def prepare(
    data: DataSettings,
    tokenizer: TokenizerSettings,
    root: Path,
    *,
    specials: Sequence[str] = (),
    columns: Sequence[str] = (),
    progress: Progress | None = None,
) -> Prepared:
    """The prepared data for these settings: found under `root`, or built there.

    `specials`: special tokens beside those that a vocabulary always has. `columns`: names out of
    `shards.COLUMNS`.

    Raises:
        DataError: the text cannot be read or is too little, or the disk is full. Nothing half-written keeps a
        final name. ConfigError: the vocabulary that is asked for cannot be; a size
        that is too small is refused before any text is read.

    Warns:
        RuntimeWarning: what was there is damaged, and is made again. UserWarning: the vocabulary does not
        hold much of the held-out text.
    """
    check_size(tokenizer, specials)
    findings = Findings()
    report = _now_and_then(progress) if progress else _silent
    job = _Job(data, tokenizer, specials, columns, Reader(data, findings), findings, report)
    key = _key(job)
    folder = root / key
    with _disk(root), _alone(root, key):
        if (ready := _open(folder)) is not None:
            return ready
        building = root / f".building-{key}-{os.getpid()}"
        try:
            building.mkdir(parents=True)
            _build(building, key, job)
            _rename(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    ready = _open(folder)
    assert ready is not None, f"{folder} was just built"
    return ready


def found(root: Path, key: str) -> Prepared | None:
    """The prepared data `root`/KEY, read through but never written to; `None` if it is not there or damaged.
    The text that it was made from is not needed."""
    try:
        return _read(root / key)
    except DataError:
        return None


def key_of(
    data: DataSettings,
    tokenizer: TokenizerSettings,
    *,
    specials: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> str:
    """The key that the text has with these settings, without preparing it.

    Raises:
        DataError: the text cannot be read.
    """
    findings = Findings()
    return _key(_Job(data, tokenizer, specials, columns, Reader(data, findings), findings, _silent))


class _Job(NamedTuple):
    """All that a build is told, and what it finds."""

    data: DataSettings
    settings: TokenizerSettings
    specials: Sequence[str]
    columns: Sequence[str]
    reader: Reader
    findings: Findings
    report: Progress


def _silent(stage: str, done: int, total: int | None) -> None:
    """Nobody wants to know."""


def _now_and_then(progress: Progress) -> Progress:
    """The same, told at most ten times a second, and of each stage's beginning."""
    last = ("", 0.0)

    def report(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if stage != last[0] or now - last[1] >= 0.1:
            last = (stage, now)
            progress(stage, done, total)

    return report


# ---- the key and the folder


def _key(job: _Job) -> str:
    """Of the content of everything that is read and every setting; not of where the files are."""
    files = []
    for done, (path, _, split) in enumerate(job.reader.files):
        job.report("reading", done, len(job.reader.files))
        files.append([split, job.reader.named(path), _digest(path)])
    data = {k: v for k, v in job.data.table().items() if k not in ("path", "validation", "test")}
    settings = {k: v for k, v in job.settings.table().items() if k != "path"}
    vocabulary = _digest(job.settings.path) if job.settings.path else ""
    rest = list(job.specials), sorted(job.columns), *_segmenter(job.columns)
    return fingerprint(VERSION, FORMAT, files, [data, settings], vocabulary, *rest)


def _segmenter(columns: Sequence[str]) -> Iterator[str]:
    """The version of the segmenter's package, where a column is made by it: its dictionary may change.

    Raises:
        ConfigError: the package is not installed.
    """
    if "jieba_word_start" in columns:
        jieba()
        yield version("rjieba")


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _open(folder: Path) -> Prepared | None:
    """What is in `folder`, if it is whole to the last byte; if it is damaged, it is put out of the way."""
    if not folder.exists():
        return None
    try:
        return _read(folder)
    except DataError as error:
        warnings.warn(
            f"The prepared data in {folder} is damaged, and is made again: {error}",
            RuntimeWarning,
            stacklevel=3,
        )
        broken = folder.with_name(f".damaged-{folder.name}-{os.getpid()}")
        folder.rename(broken)
        shutil.rmtree(broken, ignore_errors=True)
        return None


def _read(folder: Path) -> Prepared:
    """What is in `folder`, whole to the last byte."""
    ready = Prepared(
        folder=folder, tokenizer=Tokenizer.load(folder / "tokenizer.json"), card=read_card(folder)
    )
    ready.verify()
    return ready


@contextmanager
def _alone(root: Path, key: str) -> Iterator[None]:
    """One process at a time builds a key; the others wait and find it there. A process that dies lets go by
    itself."""
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{key}.lock"):
        for stale in root.glob(f".building-{key}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


@contextmanager
def _disk(root: Path) -> Iterator[None]:
    """Errors of the operating system while writing, as errors that say what to do."""
    try:
        yield
    except OSError as error:
        free = (
            f"{shutil.disk_usage(root).free:,} bytes are free there" if root.exists() else "it does not exist"
        )
        raise DataError(
            f"{root}: cannot write the prepared data: {explained(error)} "
            f"Nothing half-written is left ({free})."
        ) from error


def _rename(building: Path, folder: Path) -> None:
    _sync(building)
    try:
        building.rename(folder)
    except OSError:
        if not (folder / "whole.json").is_file():  # it is not that another process was first
            raise
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Make sure that names in a folder are on the disk, where the operating system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- building


def _build(folder: Path, key: str, job: _Job) -> None:
    documents.choose_unit(job.reader, job.findings)
    decisions = documents.decide(
        job.reader, job.findings, job.settings.sample, lambda count: job.report("cleaning", count, None)
    )
    tokenizer, learned_from = _learn(job, decisions)
    total = sum(decisions.bytes.values())
    writing = _Writing(folder, tokenizer, job.columns, min(1.0, MEASURED / max(total, 1)))
    try:
        for batch in _batches(documents.kept(job.reader, decisions)):
            writing.add(batch)
            kept = len(decisions.codes) - decisions.codes.count(len(SPLITS))
            job.report("tokenising", writing.documents, kept)
        counts = writing.close()
    except BaseException:
        writing.abandon()
        raise
    vocabulary = {**writing.vocabulary(), "asked": job.settings.size, "learned_from_bytes": learned_from}
    card = make_card(key, job.data, job.findings, counts, writing.scripts, vocabulary, tuple(writing.labels))
    tokenizer.save(folder / "tokenizer.json")
    card.write(folder)
    _warn_of_unknown(tokenizer.kind, vocabulary)
    whole = {"files": {name: _digest(folder / name) for name in ("tokenizer.json", "card.json", "card.md")}}
    _write_synced(folder / "whole.json", json.dumps(whole))


def _learn(job: _Job, decisions: Decisions) -> tuple[Tokenizer, int]:
    """The vocabulary, and how many bytes of the sample it was learned from. The sample is let go of."""
    job.report("learning the vocabulary", 0, None)
    used = 0

    def sample() -> Iterator[str]:
        nonlocal used
        for text in decisions.sample:
            used += len(text.encode())
            yield text

    tokenizer = train_tokenizer(job.settings, sample(), job.specials)
    decisions.sample.clear()
    _note_size(job, tokenizer)
    return tokenizer, used


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _note_size(job: _Job, tokenizer: Tokenizer) -> None:
    """A vocabulary that is smaller than asked for is said on the way and noted on the card."""
    settings = job.settings
    learned = settings.path is None and settings.kind in ("bpe", "wordpiece", "unigram", "word")
    if learned and tokenizer.size < settings.size:
        what = (
            f"he vocabulary has {tokenizer.size:,} tokens instead of the {settings.size:,} asked for: "
            "the training text is too small for more"
        )
        job.report(f"t{what}", 0, None)
        job.findings.notes.append(f"T{what}. Add text, or ask for fewer (tokenizer.size).")


def _warn_of_unknown(kind: str, vocabulary: Mapping[str, Any]) -> None:
    """Held-out text of which much is unknown cannot be scored in earnest: its words are all one token."""
    for split, lost in vocabulary.get("held_out", {}).items():
        if lost["unknown"] > TOO_MANY_UNKNOWN:
            other = "" if kind == "character" else ' or "character"'
            warnings.warn(
                f"{lost['unknown']:.1%} of the tokens of the {split} split are unknown, "
                f"{lost['unknown_bytes']:.1%} of its bytes: this {kind} vocabulary does not suit the text, "
                "and the figures will mean little. A word is what stands between spaces, which Chinese, "
                f'for one, does not write. Set tokenizer.kind to "bpe" (nothing is ever unknown){other}.',
                UserWarning,
                stacklevel=2,
            )


def _batches(texts: Iterator[Kept]) -> Iterator[list[Kept]]:
    batch: list[Kept] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text.text)
        if characters >= BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class _Writing:
    """The second reading: tokens to the shards of each split, counted and measured on the way."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, columns: Sequence[str], share: float) -> None:
        self._tokenizer, self._columns, self._share = tokenizer, tuple(columns), share
        self._writers = {s: ShardWriter(folder / s, tokenizer.hash, tokenizer.size, columns) for s in SPLITS}
        self._counts = dict.fromkeys(SPLITS, Counts())
        self._changed = Counts()
        self._unknown = 0
        self._lost = dict.fromkeys(SPLITS[1:], (0, 0))
        self.scripts = Scripts()
        self.labels: dict[str, int] = {}

    @property
    def documents(self) -> int:
        """Written so far."""
        return sum(counts.documents for counts in self._counts.values())

    def add(self, batch: Sequence[Kept]) -> None:
        """Tokenise and write some documents."""
        texts = [kept.text for kept in batch]
        for kept, ids in zip(batch, self._tokenizer.encode_batch(texts), strict=True):
            self._writers[kept.split].add(ids, bytes=kept.bytes, **self._column_values(kept, ids))
            self._counts[kept.split] += Counts(1, kept.bytes, len(kept.text), len(ids))
            self._measure(kept, ids)

    def _column_values(self, kept: Kept, ids: Any) -> Mapping[str, Any]:
        values: dict[str, Any] = {}
        if "word_start" in self._columns or "sentence_start" in self._columns:
            encoded = self._tokenizer.encode_words(kept.text)
            values |= {"word_start": encoded.word_start, "sentence_start": encoded.sentence_start}
        if "jieba_word_start" in self._columns:
            values["jieba_word_start"] = self._tokenizer.encode_words(kept.text, jieba()).word_start
        if "target" in self._columns:
            values["target"] = self._tokenizer.encode(kept.document.target or "")
        if "label" in self._columns:
            label = kept.document.label
            values["label"] = -1 if label is None else self.labels.setdefault(label, len(self.labels))
        return {name: values[name] for name in self._columns}

    def _measure(self, kept: Kept, ids: Any) -> None:
        """A sample chosen by content for bytes per token; and, where text can be lost, whether it was."""
        tokenizer = self._tokenizer
        drawn = (
            int.from_bytes(hashlib.blake2b(kept.text[:4096].encode(), digest_size=4).digest(), "big") / 2**32
        )
        if drawn < self._share:
            self.scripts.add(kept.text[: 1 << 20], tokenizer)
        if not tokenizer.lossless:
            if tokenizer.decode(ids) != kept.text:
                self._changed += Counts(1, kept.bytes, len(kept.text), len(ids))
            self._unknown += int((ids == tokenizer.unknown).sum()) if tokenizer.unknown is not None else 0
            if kept.split in self._lost and tokenizer.unknown is not None:
                tokens, size = self._lost[kept.split]
                more, longer = tokenizer.unknown_in(kept.text)
                self._lost[kept.split] = tokens + more, size + longer

    def vocabulary(self) -> dict[str, Any]:
        """What the card says of the vocabulary."""
        tokenizer, total = self._tokenizer, sum(self._counts.values(), Counts())
        found = {
            "kind": tokenizer.kind,
            "size": tokenizer.size,
            "hash": tokenizer.hash,
            "lossless": tokenizer.lossless,
            "documents_changed": self._changed.documents / max(total.documents, 1),
            "bytes_changed": self._changed.bytes / max(total.bytes, 1),
            "unknown": self._unknown / max(total.tokens, 1),
        }
        if tokenizer.lossless or tokenizer.unknown is None:
            return found
        return {**found, "held_out": {split: self._lost_of(split) for split in self._lost}}

    def _lost_of(self, split: str) -> dict[str, float]:
        """Shares of a split's tokens and bytes that the vocabulary does not hold."""
        (tokens, size), total = self._lost[split], self._counts[split]
        return {"unknown": tokens / max(total.tokens, 1), "unknown_bytes": size / max(total.bytes, 1)}

    def close(self) -> dict[str, Counts]:
        """Everything to the disk."""
        for writer in self._writers.values():
            writer.close()
        return self._counts

    def abandon(self) -> None:
        """Close the files of a build that failed."""
        for writer in self._writers.values():
            writer.abandon()

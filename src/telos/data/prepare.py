"""From text to tokens on disk, once per (text, settings, special tokens): `runs/prepared/KEY/`.

    tokenizer.json   card.json   card.md   train/   validation/   test/   whole.json (written last)

KEY is a hash of the bytes of the input, the settings, the special tokens and the version of this format, so
that whatever changes what comes out changes the key. Everything is built in a folder of another name and
renamed when it is on the disk. What is there already is read through and compared with its digests before it
is used; what is damaged is built again.

It is done in stages, each of tasks that any number of workers do in any order, and a decision in between
that needs the hashes of all texts:

    files → chunks/ of large ones → cleaned/ → which are kept, in which split → vocabulary/ → tokens/ → shards

What a task has done is on the disk at once under a name that says that it is whole, so that after a kill the
same command goes on from there. Memory does not grow with the input but for about 70 bytes per text; the
cleaned text needs as much room on the disk as itself, until the end.
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from filelock import FileLock

from telos.data.card import Card, Counts, Scripts, make_card, read_card
from telos.data.cleaned import Cleaned, clean_task, save_grams
from telos.data.decisions import Decisions, decide
from telos.data.documents import SPLITS, Task, choose_unit, chunks_in, find_chunks
from telos.data.elsewhere import Elsewhere, fetched
from telos.data.engine import Call, WorkerDied, run, workers_for
from telos.data.findings import Findings
from telos.data.folders import UNFINISHED, finished, sync, write_synced
from telos.data.job import Job, Progress, described, digest_of, job_of, key_of_job, state_of
from telos.data.settings import DataSettings
from telos.data.shards import Shards
from telos.data.sources._base import Chunk
from telos.data.tokenised import Measured, TokenPlan, measured, tokenise_task, write_shards
from telos.errors import ConfigError, DataError, explained
from telos.json_files import read_object
from telos.memory import give_back
from telos.tokenizer import Tokenizer, TokenizerSettings, check_size, train_tokenizer

__all__ = ["Prepared", "decided", "found", "key_of", "prepare"]

BUILDING = ".building-2-"
"""How the names of folders begin in which data is being prepared. The number is raised whenever tasks leave
something else there, so that nothing goes on from what another Telos began."""
WHOLE = "whole"
"""Of those folders, the one that becomes the prepared data."""
MEASURED = 8_000_000
"""Bytes of text, about, that bytes per token by script is measured on."""
TOO_MANY_UNKNOWN = 0.2
"""A warning is given where more than this share of a held-out split's tokens are unknown."""


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
            if not (self.folder / name).is_file() or digest_of(self.folder / name) != digest:
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
    """The prepared data for these settings: found under `root`, or built there; or where the settings say
    that it is already, fetched to `root` where that is a URL.

    `specials`: special tokens beside those that a vocabulary always has. `columns`: names out of
    `shards.COLUMNS`.

    Raises:
        DataError: the text cannot be read or is too little, or the disk is full. Nothing half-written keeps a
        final name. ConfigError: the vocabulary that is asked for cannot be; a size
        that is too small is refused before any text is read; what is prepared already was so with other
        settings.

    Warns:
        RuntimeWarning: what was there is damaged, and is made again. UserWarning: the vocabulary does not
        hold much of the held-out text.
    """
    check_size(tokenizer, specials)
    if data.prepared is not None:
        there = Elsewhere(data, described(data, tokenizer, specials, columns))
        if isinstance(data.prepared, Path):
            there.check(data.prepared)
            return _read(data.prepared)
        return _fetched(there, root, progress)
    job = job_of(data, tokenizer, specials, columns, progress)
    key = key_of_job(job)
    folder = root / key
    with _disk(root), _alone(root, key):
        if (ready := _open(folder)) is not None:
            return ready
        work = root / f"{BUILDING}{key}"
        with _working(work):
            _build(work, key, job)
            _rename(work / WHOLE, folder)
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
    if data.prepared is not None:
        return Elsewhere(data, {}).key
    return key_of_job(job_of(data, tokenizer, specials, columns))


# ---- what is prepared already


def _fetched(there: Elsewhere, root: Path, progress: Progress | None) -> Prepared:
    """What is at a URL, by way of `root`."""
    folder = root / there.key
    with _disk(root), _alone(root, there.key):
        if (ready := _open(folder)) is not None:
            there.check(folder)
            return ready
        if progress is not None:
            progress("fetching", 0, None)
        url = str(there.data.prepared).rstrip("/")
        _rename(fetched(url, root, there.data.remote.access, there.check), folder)
    return _read(folder)


# ---- the key and the folder


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
        yield


@contextmanager
def _working(folder: Path) -> Iterator[None]:
    """A folder to work in, deleted at the end. It stays where the work may go on from what is done: after
    Ctrl-C, the death of a worker or of the process itself."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"*/*{UNFINISHED}"):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        yield
    except (KeyboardInterrupt, WorkerDied):
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


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
    for path in building.iterdir():
        sync(path)
    sync(building)
    try:
        building.rename(folder)
    except OSError:
        if not (folder / "whole.json").is_file():  # it is not that another process was first
            raise
    sync(folder.parent)


# ---- building


def _build(work: Path, key: str, job: Job) -> None:
    """All stages, each going on from what is there, into `work`/WHOLE."""
    findings = Findings(files=len(job.reader.files))
    tasks, workers = _tasks(work, job)
    _, decisions = _decided(work, job, findings, tasks, workers)
    tokenizer, learned_from = _learn(work, job, decisions, findings)
    whole = work / WHOLE
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    found, scripts = _tokenise(work, job, decisions, workers)
    job.report("writing", 0, None)
    write_shards(whole, _folders(work / "tokens", len(tasks)), tokenizer, job.columns, decisions.labels)
    vocabulary = {
        **_vocabulary(tokenizer, found),
        "asked": job.settings.size,
        "learned_from_bytes": learned_from,
    }
    splits = dict(zip(SPLITS, found.splits, strict=True))
    sources = _mixed(job, decisions, found)
    card = make_card(
        key,
        job.data,
        findings,
        splits,
        scripts,
        vocabulary,
        decisions.labels,
        job.reader.unknown,
        sources,
        dict(found.languages),
    )
    classes = _classes(whole, decisions.labels) if "label" in job.columns else {}
    settings = described(job.data, job.settings, job.specials, job.columns)
    card = replace(card, classes=classes, settings=settings)
    tokenizer.save(whole / "tokenizer.json")
    card.write(whole)
    _warn_of_unknown(tokenizer.kind, vocabulary)
    proof = {"files": {name: digest_of(whole / name) for name in ("tokenizer.json", "card.json", "card.md")}}
    write_synced(whole / "whole.json", json.dumps(proof))


def _tasks(work: Path, job: Job) -> tuple[list[Task], int]:
    """What there is to do, and how many work on it."""
    for each in job.data.filters:
        each.ready()
    choose_unit(job.reader)
    tasks = job.reader.tasks(_chunks(work, job))
    size = sum(file.size for file in job.reader.files)
    return tasks, workers_for(job.data.engine, size, len(tasks))


def _chunks(work: Path, job: Job) -> dict[int, list[Chunk]]:
    """How the large files are shared out, by their places. To find that, a file is read through."""
    files = job.reader.large()
    if not files:
        return {}
    folders = [work / "chunks" / f"{place:06}" for place in files]
    calls = [Call(find_chunks, each) for each in zip(files.values(), folders, strict=True)]
    workers = workers_for(job.data.engine, sum(file.size for file in files.values()), len(calls))
    run(job.data.engine, workers, calls, lambda done: job.report("sharing out", done, len(calls)))
    return dict(zip(files, map(chunks_in, folders), strict=True))


def _decided(
    work: Path, job: Job, findings: Findings, tasks: Sequence[Task], workers: int
) -> tuple[list[Cleaned], Decisions]:
    """What was read, and what becomes of it."""
    cleaned = _clean(work, job, tasks, workers)
    for each in cleaned:
        findings.add(each.findings)
    findings.notes[:0] = job.reader.notes
    return cleaned, decide(job.data, cleaned, findings, job.settings.sample, work, job.columns)


def decided(data: DataSettings, sample: int, work: Path) -> tuple[list[Cleaned], Decisions]:
    """All but the tokens: texts as they were cleaned, in the folder `work`, and what becomes of each.
    `sample`: bytes to learn a vocabulary from.

    Raises:
        DataError: as of `prepare`.
    """
    if data.prepared is not None:
        raise ConfigError("data.prepared: the text itself is read here. Leave it out, and give data.path.")
    job = job_of(data, TokenizerSettings(sample=sample), (), ())
    return _decided(work, job, Findings(files=len(job.reader.files)), *_tasks(work, job))


def _folders(folder: Path, count: int) -> list[Path]:
    return [folder / f"{number:06}" for number in range(count)]


def _clean(work: Path, job: Job, tasks: Sequence[Task], workers: int) -> list[Cleaned]:
    folders = _folders(work / "cleaned", len(tasks))
    known = work / "known.npz" if job.data.decontaminate.action != "off" else None
    if known:
        save_grams(job.data, job.reader.evaluation, known)
    calls = [Call(clean_task, (job.data, *each, known)) for each in zip(tasks, folders, strict=True)]
    run(job.data.engine, workers, calls, lambda count: job.report("cleaning", count, None))
    for path, state in job.seen.items():
        if state_of(path) != state:
            raise DataError(f"{path}: it changed while it was read. Prepare again when nothing writes to it.")
    return [Cleaned(folder) for folder in folders]


def _tokenise(work: Path, job: Job, decisions: Decisions, workers: int) -> tuple[Measured, Scripts]:
    (work / "codes").mkdir(exist_ok=True)
    count, total = len(decisions.codes), sum(decisions.bytes.values())
    share = min(1.0, MEASURED / max(total, 1))
    plan = TokenPlan(
        vocabulary=work / "vocabulary" / "tokenizer.json",
        columns=job.columns,
        labels=decisions.labels,
        origins=tuple(origin.name for origin in job.data.sources),
        languages=decisions.languages,
        share=share,
    )
    calls = []
    for number, codes in enumerate(decisions.codes):
        path = work / "codes" / f"{number:06}.npy"
        np.save(path, codes)
        cleaned, tokens = (_folders(work / name, count)[number] for name in ("cleaned", "tokens"))
        calls.append(Call(tokenise_task, (plan, cleaned, path, tokens)))
    run(job.data.engine, workers, calls, lambda done: job.report("tokenising", done, decisions.kept))
    return measured(_folders(work / "tokens", count))


def _learn(work: Path, job: Job, decisions: Decisions, findings: Findings) -> tuple[Tokenizer, int]:
    """The vocabulary, and how many bytes of the sample it was learned from. The sample is let go of, and what
    memory learning took."""
    job.report("learning the vocabulary", 0, None)
    folder = work / "vocabulary"
    if not folder.is_dir():
        with finished(folder) as building:
            used = _Counted(decisions.sample)
            train_tokenizer(job.settings, iter(used), job.specials).save(building / "tokenizer.json")
            (building / "bytes.json").write_text(json.dumps(used.bytes))
    decisions.sample.clear()
    give_back()
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    _note_size(job, tokenizer, findings)
    return tokenizer, int(json.loads((folder / "bytes.json").read_text()))


class _Counted:
    """Texts, and how many bytes of them were taken."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.bytes = texts, 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.bytes += len(text.encode())
            yield text


def _note_size(job: Job, tokenizer: Tokenizer, findings: Findings) -> None:
    """A vocabulary that is smaller than asked for is said on the way and noted on the card."""
    settings = job.settings
    learned = settings.path is None and settings.kind in ("bpe", "wordpiece", "unigram", "word")
    if learned and tokenizer.size < settings.size:
        what = (
            f"he vocabulary has {tokenizer.size:,} tokens instead of the {settings.size:,} asked for: "
            "the training text is too small for more"
        )
        job.report(f"t{what}", 0, None)
        findings.notes.append(f"T{what}. Add text, or ask for fewer (tokenizer.size).")


def _mixed(job: Job, decisions: Decisions, found: Measured) -> dict[str, Counts]:
    """What there is of each of those by which the text can be mixed, in the order of their numbers."""
    names = decisions.languages or tuple(origin.name for origin in job.data.sources)
    counts = dict(found.languages if decisions.languages else found.origins)
    return {name: counts.get(name, Counts()) for name in names}


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


def _classes(whole: Path, labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many documents of each split are of each class, and of none, under the empty name."""
    columns = {split: Shards(whole / split).columns["label"] for split in SPLITS}
    counts = {split: np.bincount(column + 1, minlength=len(labels) + 1) for split, column in columns.items()}
    names = sorted(enumerate(["", *labels]), key=lambda each: each[1])
    return {name: {split: int(counts[split][at]) for split in SPLITS} for at, name in names}


def _vocabulary(tokenizer: Tokenizer, found: Measured) -> dict[str, Any]:
    """What the card says of the vocabulary."""
    total = sum(found.splits, Counts())
    said = {
        "kind": tokenizer.kind,
        "size": tokenizer.size,
        "hash": tokenizer.hash,
        "lossless": tokenizer.lossless,
        "documents_changed": found.changed.documents / max(total.documents, 1),
        "bytes_changed": found.changed.bytes / max(total.bytes, 1),
        "unknown": found.unknown / max(total.tokens, 1),
    }
    if tokenizer.lossless or tokenizer.unknown is None:
        return said
    shares = {}
    for split, (tokens, size), counts in zip(SPLITS, found.lost, found.splits, strict=True):
        if split != "train":
            unknown, of_bytes = tokens / max(counts.tokens, 1), size / max(counts.bytes, 1)
            shares[split] = {"unknown": unknown, "unknown_bytes": of_bytes}
    return {**said, "held_out": shares}

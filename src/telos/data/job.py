"""What one preparation is told, and the key of what comes out of it: a hash of all that decides it."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from telos.config import fingerprint
from telos.data.documents import Reader
from telos.data.settings import DataSettings
from telos.data.shards import FORMAT
from telos.errors import DataError
from telos.tokenizer import TokenizerSettings
from telos.words import jieba

__all__ = ["Job", "Progress", "described", "digest_of", "job_of", "key_of_job", "state_of"]

VERSION = 3
"""Raised whenever the same input would give another result."""


class Progress(Protocol):
    """Told now and then what is being done, how many are done, and of how many where that is known."""

    def __call__(self, stage: str, done: int, total: int | None) -> None: ...


class Job(NamedTuple):
    """All that a build is told, and what it finds."""

    data: DataSettings
    settings: TokenizerSettings
    specials: Sequence[str]
    columns: tuple[str, ...]
    reader: Reader
    report: Progress
    seen: dict[Path, tuple[int, int]]
    """Size and time of each file when its digest was taken."""


def job_of(
    data: DataSettings,
    settings: TokenizerSettings,
    specials: Sequence[str],
    columns: Sequence[str],
    progress: Progress | None = None,
) -> Job:
    report = _now_and_then(progress) if progress else _silent
    return Job(data, settings, specials, _with_sources(data, columns), Reader(data), report, {})


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


_NO_PART_OF_THE_KEY = ("path", "prepared", "validation", "test", "engine", "remote")
"""Of the settings of the data: where it is, and who does the work."""


def key_of_job(job: Job) -> str:
    """Of the content of everything that is read and every setting; not of where the files are."""
    files = []
    every = [*job.reader.files, *job.reader.against]
    for done, file in enumerate(every):
        job.report("reading", done, len(every))
        digests = []
        for path in file.source.reads(file.path):
            job.seen[path] = state_of(path)
            digests.append(digest_of(path))
        files.append([file.split, file.origin, file.name, *digests])
    data, settings = _decisive(job.data, job.settings)
    data["outside"] = [each.digest() for each in job.data.filters]
    vocabulary = digest_of(job.settings.path) if job.settings.path else ""
    rest = list(job.specials), sorted(job.columns), *_segmenter(job.columns)
    return fingerprint(VERSION, FORMAT, files, [data, settings], vocabulary, *rest)


def _decisive(data: DataSettings, settings: TokenizerSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the data and of the vocabulary that are a part of the key."""
    table = {k: v for k, v in data.table().items() if k not in _NO_PART_OF_THE_KEY}
    table["sources"] = [
        {k: v for k, v in each.items() if k not in _NO_PART_OF_THE_KEY} for each in table.get("sources", [])
    ]
    table.get("decontaminate", {}).pop("against", None)
    return table, {k: v for k, v in settings.table().items() if k != "path"}


def described(
    data: DataSettings, settings: TokenizerSettings, specials: Sequence[str], columns: Sequence[str]
) -> dict[str, Any]:
    """The same for the card, with what an objective asks for; less the seed of stand-ins for personal data,
    by which guesses could be tested."""
    table, vocabulary = _decisive(data, settings)
    table["privacy"].pop("seed")
    named = sorted({*_with_sources(data, columns)})
    return {"data": table, "tokenizer": vocabulary, "specials": [*specials], "columns": named}


def _with_sources(data: DataSettings, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that are asked for, and the one that the text can be mixed by, where there is one."""
    return (*columns, "source") if data.sources or data.mix_by else tuple(columns)


def state_of(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None
    return stat.st_size, stat.st_mtime_ns


def _segmenter(columns: Sequence[str]) -> Iterator[str]:
    """The version of the segmenter's package, where a column is made by it: its dictionary may change.

    Raises:
        ConfigError: the package is not installed.
    """
    if "jieba_word_start" in columns:
        jieba()
        yield version("rjieba")


def digest_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=16)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None

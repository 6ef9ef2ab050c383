"""The first stage: the documents of a task, cleaned, judged and hashed, on the disk.

    task → documents → cleaned → (filtered) → (personal data replaced) → hashed → cleaned/NUMBER/

A task depends on its files and the settings alone, so tasks are done in any order, by any number of workers,
and what is done stays done when the rest is interrupted. What is kept here may still be dropped when all
tasks are known: copies of other documents, say.

    texts.bin      UTF-8 of all texts, one after the other
    table.npz      per text: where it ends, its digest, its answer's, its unit, the split it was given
                   for, its source …
    signatures.npy  MinHash signatures, where near copies are looked for
    rest.json      names of the documents, and their targets, labels and languages where there are such
    findings.json  what was dropped and changed, and why
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from telos.batch import Document
from telos.data import clean
from telos.data.documents import DROPPED, SPLITS, File, Read, Task, read
from telos.data.filters._base import Filter
from telos.data.findings import Findings, counted
from telos.data.folders import UNFINISHED, finished
from telos.data.near import signatures
from telos.data.overlap import Known, grams, overlap, united
from telos.data.passages import Spans, fingerprints, paragraphs
from telos.data.privacy._scrub import Scrubber
from telos.data.settings import DataSettings
from telos.errors import DataError

__all__ = ["Cleaned", "Cleaner", "Written", "batches", "clean_task", "save_grams"]

LONGEST_CODE = 35
"""Characters of a language's code (BCP 47), at most."""
BATCH = 1 << 20
"""Characters whose signatures are computed together, about."""


class Written(NamedTuple):
    """A text as it was written, to be read again."""

    text: str
    target: str | None
    label: str | None
    language: str | None


class Cleaner:
    """All that is done to one document on its own, with what was found on the way."""

    def __init__(self, settings: DataSettings, findings: Findings | None = None) -> None:
        self._settings = settings
        self._policy, self._findings = settings.clean.invalid, findings
        self._steps = clean.steps(settings.clean)
        self._filters: tuple[Filter, ...] = settings.filters
        self._scrubber = Scrubber(settings.privacy) if settings.privacy.action != "off" else None

    def passed(self, document: Document, where: str, before: int) -> Document | None:
        """What goes on, or `None` where it is dropped: with text and target cleaned, and without personal
        data where that is asked for. `before`: its place in its document, in bytes.

        Raises:
            DataError: it holds what is not UTF-8, and the policy is to refuse.
        """
        text = self.clean(document.text, where, before)
        if text is None:
            return None
        for each in self._filters:
            if reason := each.judge(document, text):
                self._drop(reason, text, where)
                return None
            document = each.mark(document, text)
        target = None if document.target is None else self._target.clean(document.target) or ""
        return self._scrubbed(replace(document, text=text, target=target), where)

    @cached_property
    def _target(self) -> "Cleaner":
        """Cleans what goes with a text, which is not counted."""
        return Cleaner(self._settings)

    def _scrubbed(self, document: Document, where: str) -> Document | None:
        if self._scrubber is None:
            return document
        found = [self._scrubber.scrub(text or "") for text in (document.text, document.target)]
        if self._findings:
            for each in found:
                self._findings.count("privacy", each.counts)
                self._findings.show(each.shapes)
        if any(each.drop for each in found):
            self._drop("personal data", "", where)
            return None
        text, target = (each.text for each in found)
        return replace(document, text=text, target=None if document.target is None else target)

    def scrub(self, text: str) -> str:
        """A text without personal data, where that is asked for; nothing is counted."""
        return self._scrubber.scrub(text).text if self._scrubber else text

    def _drop(self, reason: str, text: str, where: str) -> None:
        if self._findings:
            self._findings.drop(reason, text, where)

    def clean(self, text: str, where: str = "", before: int = 0) -> str | None:
        """The cleaned text, or `None` where nothing is left of it."""
        original, findings = text, self._findings
        if places := clean.invalid(text):
            offset = before + len(text[: places[0]].encode("utf-8", "replace"))
            self._report_invalid(text, len(places), f"{where}, byte {offset}")
            if self._policy == "drop":
                return None
        for step in self._steps:
            after = step.does(text)
            if findings and after != text:
                findings.change(step.name, text, after)
            text = after
        if not text or text.isspace():
            if findings:
                findings.drop("empty", original, where)
            return None
        return text

    def _report_invalid(self, text: str, count: int, where: str) -> None:
        if self._policy == "refuse":
            raise DataError(
                f"{where}: not UTF-8 ({counted(count, 'bad byte')} in this text). If it is in another "
                "encoding, convert it: iconv -f GB18030 -t UTF-8 OLD > NEW for Chinese, -f LATIN1 for "
                'western Europe; or set data.clean.invalid to "replace" or "drop".'
            )
        if self._findings:
            self._findings.invalid += count
            self._findings.first_invalid = self._findings.first_invalid or where
            if self._policy == "drop":
                self._findings.drop("not UTF-8", text, where)


@lru_cache(maxsize=1)
def known_at(path: Path) -> Known:
    """The n-grams of evaluation sets, from their file."""
    with np.load(path, allow_pickle=False) as parts:
        return Known({int(length): parts[length] for length in parts.files})


def save_grams(settings: DataSettings, files: Sequence[File], path: Path) -> None:
    """The n-grams of evaluation sets, cleaned as the text is, into a file of numpy."""
    if path.exists():
        return
    cleaner, found = Cleaner(settings), dict[int, NDArray[np.uint64]]()
    for batch in batches((each.document.text for file in files for each in read(file, 0)), len):
        cleaned = [cleaner.scrub(text) for text in map(cleaner.clean, batch) if text]
        found = dict(united([found, grams(cleaned, settings.decontaminate.words)]))
    part = path.with_suffix(UNFINISHED)
    with part.open("wb") as out:
        np.savez(out, allow_pickle=False, **{str(length): hashes for length, hashes in found.items()})
    part.replace(path)


T = TypeVar("T")


def batches(things: Iterable[T], length: Callable[[T], int], most: int = BATCH) -> Iterator[list[T]]:
    """Things in lists of about `most` characters, for what is computed for many at once."""
    batch, size = list[T](), 0
    for thing in things:
        batch.append(thing)
        size += length(thing)
        if size >= most:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def clean_task(
    settings: DataSettings,
    task: Task,
    folder: Path,
    known: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Do a task, unless it is done: afterwards `Cleaned(folder)` is there. How many documents it has;
    `known`: a file of `save_grams`; `progress` is told on the way how many have been read.

    Raises:
        DataError: a file cannot be read, or is not what its suffix says.
    """
    if not folder.is_dir():
        with finished(folder) as building:
            with (building / "texts.bin").open("wb", buffering=1 << 20) as out:
                writing = _Writing(out, settings, known_at(known) if known else None)
                for number, read in enumerate(task.reads(writing.skip), 1):
                    writing.take(read)
                    if progress is not None:
                        progress(number)
            writing.save(building)
    return Cleaned(folder).findings.documents


@dataclass
class _Rest:
    """What few documents have, by the place of the document."""

    names: list[str] = field(default_factory=list)
    targets: dict[int, str] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    languages: dict[int, str] = field(default_factory=dict)


class _Writing:
    """The texts of a task on their way to the disk."""

    def __init__(self, out: BinaryIO, settings: DataSettings, known: Known | None) -> None:
        self._out, self._findings, self._known = out, Findings(), known
        self._cleaner = Cleaner(settings, self._findings)
        self._dedupe = settings.dedupe
        self._near = settings.dedupe.near != "off"
        self._rest = _Rest()
        self._ends, self._units, self._digests = [0], list[int](), bytearray()
        self._answers = list[int]()
        self._given, self._origins = bytearray(), list[int]()
        self._signed: list[NDArray[np.uint32]] = []
        self._overlaps: list[NDArray[np.float64]] = []
        self._unread: list[str] = []
        self._paragraphs: list[Spans] = []
        self._fingerprints: list[NDArray[np.uint64]] = []
        self._waiting = self._unit = self._before = 0

    def take(self, read: Read) -> None:
        """One document, or part of one."""
        self._findings.documents += 1
        if read.first:
            self._unit, self._before = self._unit + 1, 0
        document = self._cleaner.passed(read.document, read.where, self._before)
        self._before += len(read.document.text.encode("utf-8", "replace"))
        if document is not None:
            self._write(read, document)

    def skip(self, reason: str, where: str) -> None:
        """What a source leaves out."""
        self._findings.count("left out", {reason: 1})

    def _write(self, read: Read, document: Document) -> None:
        raw, at = document.text.encode(), len(self._units)
        self._out.write(raw)
        self._ends.append(self._ends[-1] + len(raw))
        self._digests += hashlib.blake2b(raw, digest_size=16).digest()
        self._answers.append(_answer(document))
        self._units.append(self._unit)
        self._given.append(SPLITS.index(read.file.split) if read.file.split else DROPPED)
        self._origins.append(read.file.origin)
        self._rest.names.append(read.where)
        if document.target is not None:
            self._rest.targets[at] = document.target
        if document.label is not None:
            self._rest.labels[at] = document.label
        if document.language:
            self._rest.languages[at] = document.language[:LONGEST_CODE]
        if self._near or self._known or self._dedupe.paragraphs or self._dedupe.stretches:
            self._unread.append(document.text)
            self._waiting += len(document.text)
            if self._waiting >= BATCH:
                self._together()

    def _together(self) -> None:
        """What is found out about many texts at once, of those that wait for it."""
        if self._near:
            self._signed.append(signatures(self._unread))
        if self._known:
            self._overlaps.append(overlap(self._unread, self._known).share)
        if self._dedupe.paragraphs:
            found = paragraphs(self._unread, self._dedupe.paragraphs)
            first = len(self._units) - len(self._unread)
            self._paragraphs.append(found._replace(texts=found.texts + first))
        if self._dedupe.stretches:
            self._fingerprints.append(fingerprints(self._unread, self._dedupe.stretches))
        self._unread, self._waiting = [], 0

    def save(self, folder: Path) -> None:
        """The rest to the disk."""
        table: dict[str, Any] = {
            "ends": np.array(self._ends, np.int64),
            "digests": np.frombuffer(bytes(self._digests), ">u8").reshape(-1, 2).astype(np.uint64),
            "answers": np.array(self._answers, np.uint64),
            "units": np.array(self._units, np.int64),
            "given": np.frombuffer(bytes(self._given), np.uint8),
            "origins": np.array(self._origins, np.int16),
        }
        self._together()
        if self._known:
            table["overlaps"] = np.concatenate(self._overlaps)
        if self._dedupe.paragraphs:
            columns = (np.concatenate(each) for each in zip(*self._paragraphs, strict=True))
            np.savez(folder / "paragraphs.npz", *columns, allow_pickle=False)
        if self._dedupe.stretches:
            np.save(folder / "fingerprints.npy", np.concatenate(self._fingerprints))
        if self._near:
            np.save(folder / "signatures.npy", np.concatenate(self._signed))
        np.savez(folder / "table.npz", allow_pickle=False, **table)
        for name, value in (("rest.json", asdict(self._rest)), ("findings.json", self._findings.table())):
            (folder / name).write_text(json.dumps(value, ensure_ascii=True), encoding="ascii")


def _answer(document: Document) -> int:
    """A number for what a text is answered with, a target or a class; 0 without."""
    if document.target is None and document.label is None:
        return 0
    both = json.dumps([document.target, document.label]).encode()
    return int.from_bytes(hashlib.blake2b(both, digest_size=8).digest(), "big") | 1


@final
class Cleaned:
    """What the first stage made of a task. Arrays are read when they are asked for, and not kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, *names: str) -> list[NDArray[Any]]:
        """Columns of the table, one value per text (`ends`: one more; `digests`: two)."""
        with np.load(self.folder / "table.npz", allow_pickle=False) as table:
            return [table[name] for name in names]

    @cached_property
    def findings(self) -> Findings:
        """What was dropped and changed."""
        return Findings.of(json.loads((self.folder / "findings.json").read_bytes()))

    def signatures(self) -> NDArray[np.uint32]:
        """(texts, bins): those for near copies, where they are wanted; a memory map."""
        found: NDArray[np.uint32] = np.load(self.folder / "signatures.npy", mmap_mode="r", allow_pickle=False)
        return found

    def paragraphs(self) -> list[NDArray[Any]]:
        """Where they are wanted: hashes, texts by their places, the characters where each begins and ends."""
        with np.load(self.folder / "paragraphs.npz", allow_pickle=False) as table:
            return [table[f"arr_{number}"] for number in range(4)]

    def fingerprints(self) -> NDArray[np.uint64]:
        """Those for stretches, where they are wanted."""
        found: NDArray[np.uint64] = np.load(self.folder / "fingerprints.npy", allow_pickle=False)
        return found

    @property
    def count(self) -> int:
        """How many texts there are."""
        return len(self.table("ends")[0]) - 1

    def rest(self) -> dict[str, Any]:
        """`names`, a list; `targets`, `labels` and `languages` by the place of the text."""
        given: dict[str, Any] = json.loads((self.folder / "rest.json").read_bytes())
        for name in ("targets", "labels", "languages"):
            given[name] = {int(at): value for at, value in given[name].items()}
        return given

    def texts(self, chosen: Sequence[int] | NDArray[np.integer], longest: int = -1) -> Iterator[bytes]:
        """Some of the texts, by their places, in that order; of each at most `longest` bytes."""
        (ends,) = self.table("ends")
        with (self.folder / "texts.bin").open("rb") as file:
            for at in chosen:
                file.seek(int(ends[at]))
                size = int(ends[at + 1] - ends[at])
                yield file.read(size if longest < 0 else min(size, longest))

    def written(self, chosen: NDArray[np.integer]) -> Iterator[Written]:
        """Some of the texts with what belongs to them."""
        rest = self.rest()
        more = [rest[name] for name in ("targets", "labels", "languages")]
        for at, raw in zip(chosen.tolist(), self.texts(chosen), strict=True):
            yield Written(raw.decode(), *(each.get(at) for each in more))

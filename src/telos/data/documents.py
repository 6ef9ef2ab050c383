"""From files to the texts that are kept, and the split that each of them is in.

    files → documents → (parts) → cleaned → empty ones and exact copies dropped → train, validation or test

Nothing is held in memory but 16 bytes of hash per document that is kept: the input is read twice, and the
second reading follows the decisions of the first. Copies are exact ones, of the cleaned text; what differs in
one character is another text.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from telos.batch import Document
from telos.data import clean, sources
from telos.data.settings import DataSettings
from telos.data.sources import _base
from telos.data.sources._base import Source
from telos.errors import DataError
from telos.find import find, names

__all__ = ["SPLITS", "Decisions", "Findings", "Kept", "Reader", "counted", "decide"]

SPLITS = ("train", "validation", "test")
FEW = 20
"""Fewer documents than this, and `auto` holds out parts of them."""
PART = 8192
"""Characters of a part, about; less where the whole text would make fewer than `PARTS`."""
PARTS = 100
_DROPPED = len(SPLITS)


class Drop(NamedTuple):
    """Documents dropped for one reason."""

    documents: int
    bytes: int
    examples: tuple[str, ...]


@dataclass
class Findings:
    """What was seen on the way, for the data card."""

    files: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    """Files that no source reads, by suffix."""
    dropped: dict[str, Drop] = field(default_factory=dict)
    changed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By step of cleaning: documents and characters."""
    invalid: int = 0
    first_invalid: str = ""
    notes: list[str] = field(default_factory=list)

    def drop(self, reason: str, text: str, where: str) -> None:
        """Count a document that is not kept, and show the first five."""
        old = self.dropped.get(reason, Drop(0, 0, ()))
        shown = f"{where}: {' '.join(text[:200].split())[:80]}"
        examples = (*old.examples, shown) if len(old.examples) < 5 else old.examples
        self.dropped[reason] = Drop(
            old.documents + 1, old.bytes + len(text.encode("utf-8", "replace")), examples
        )

    def change(self, step: str, before: str, after: str) -> None:
        """Count what a step of cleaning did to a text."""
        documents, characters = self.changed.get(step, (0, 0))
        self.changed[step] = documents + 1, characters + clean.changed_characters(before, after)


class Read(NamedTuple):
    """A document, or a part of one, as its source gave it."""

    document: Document
    first: bool
    """It begins a unit; what follows with `first` false belongs
    to the same document, and goes to the same split."""
    given: str
    """The split it was given for, or nothing where its content decides."""
    folder: str
    """Of its file, under the root; empty or with a slash at its end."""

    @property
    def where(self) -> str:
        """What to call it: its file, and its line or row."""
        return self.folder + self.document.id


class Kept(NamedTuple):
    """A cleaned text that stays, and where."""

    document: Document
    text: str
    bytes: int
    split: str


class Reader:
    """All documents that the settings name, in a fixed order:
    first what was given for the test and for validation.

    Raises:
        DataError: there are no files, or none that a source reads.
    """

    def __init__(self, settings: DataSettings, findings: Findings) -> None:
        self.settings, self.part = settings, 0
        self._sources = self._make_sources()
        self.files = [entry for split in ("test", "validation", "") for entry in self._files(split, findings)]
        findings.files = len(self.files)
        if not any(split == "" for _, _, split in self.files):
            raise self._no_files(findings)

    def _no_files(self, findings: Findings) -> DataError:
        counts = (f"{count} {suffix or 'without suffix'}" for suffix, count in findings.unknown.items())
        skipped = f" (skipped: {', '.join(counts)})" if findings.unknown else ""
        suffixes = ", ".join(sorted(self._sources))
        return DataError(
            f"{self.settings.path}: no text here{skipped}. Files must end in {suffixes}, "
            f"plain or compressed ({', '.join(_base.COMPRESSIONS)}); or say what they all are: "
            'data.source = "text".'
        )

    def _make_sources(self) -> dict[str, Source]:
        """Sources by suffix; the one under `""` reads every file."""
        settings = self.settings
        found: dict[str, Source] = {}
        for name in names(sources) if settings.source == "files" else [settings.source]:
            kind = find(sources, name, Source)
            given = {
                key: getattr(settings, key)
                for key in ("text_key", "document_start")
                if key in kind.model_fields
            }
            found |= {
                suffix: kind(**given) for suffix in (kind.suffixes if settings.source == "files" else [""])
            }
        return found

    def _files(self, split: str, findings: Findings) -> Iterator[tuple[Path, Source, str]]:
        path = getattr(self.settings, split) if split else self.settings.path
        if split and path is None:
            return
        everything = self._sources.get("")
        held_out = {file.resolve() for file, _, _ in self._held_out} if not split else set()
        for file in everything.files(path) if everything else _base.walk(path or Path()):
            if file.resolve() in held_out:
                continue
            if source := everything or self._sources.get(_base.plain_suffix(file)):
                yield file, source, split
            else:
                suffix = file.suffix.lower()
                findings.unknown[suffix] = findings.unknown.get(suffix, 0) + 1

    @cached_property
    def _held_out(self) -> list[tuple[Path, Source, str]]:
        return [entry for split in ("test", "validation") for entry in self._files(split, Findings())]

    @cached_property
    def root(self) -> Path:
        """What names of files are told relative to."""
        return (
            self.settings.path
            if self.settings.path and self.settings.path.is_dir()
            else self.files[-1][0].parent
        )

    def named(self, path: Path) -> str:
        """A file's name without this machine's folders."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name

    def __iter__(self) -> Iterator[Read]:
        for path, source, split in self.files:
            last, folder = None, self.named(path).removesuffix(path.name)
            for document in source.documents(path):
                if not self.part:
                    yield Read(document, document.id != last, split, folder)
                    last = document.id
                    continue
                for text in _parts(document.text, self.part):
                    yield Read(replace(document, text=text), True, split, folder)

    def count(self, enough: int) -> tuple[int, int]:
        """How many documents there are to split, and their characters, counted until there are `enough`."""
        documents = characters = 0
        for read in self:
            if not read.given:
                documents, characters = documents + read.first, characters + len(read.document.text)
            if documents >= enough:
                break
        return documents, characters


def _parts(text: str, size: int) -> Iterator[str]:
    """`text` cut into parts of about `size` characters: at
    blank lines, else line ends, sentences, spaces, anywhere."""
    begin = 0
    while len(text) - begin > 2 * size:
        low, high = begin + size // 2, begin + 2 * size
        for mark in ("\n\n", "\n", "。", ". ", " "):
            place = text.find(mark, begin + size, high)
            place = place if place >= 0 else text.rfind(mark, low, high)
            if place >= 0:
                break
        end = place + len(mark) if place >= 0 else begin + size
        yield text[begin:end]
        begin = end
    if begin < len(text):
        yield text[begin:]


def choose_unit(reader: Reader, findings: Findings) -> None:
    """Whole documents or parts of them: sets `reader.part`
    by `split.unit`, and notes what was done and why."""
    settings = reader.settings
    if settings.split.unit == "document" or (settings.split.unit == "auto" and not _by_share(settings)):
        return
    documents, characters = reader.count(FEW)
    if settings.split.unit == "auto" and documents >= FEW:
        return
    reader.part = PART if documents >= FEW else max(256, min(PART, characters // PARTS))
    why = (
        f"there {'is' if documents == 1 else 'are'} only {counted(documents, 'document')}"
        if settings.split.unit == "auto"
        else 'split.unit = "part" asks for it'
    )
    findings.notes.append(
        f"Documents were cut into parts of about {reader.part:,} characters, because {why}. "
        "Neighbouring parts of one text are in different splits, so held-out figures are a bit better than "
        "for texts that are new altogether."
    )


class Decisions(NamedTuple):
    """What the first reading decided."""

    codes: bytearray
    """One byte for each thing read, in order: its place in `SPLITS`, or one more where it is dropped."""
    bytes: dict[str, int]
    sample: list[str]
    """Texts of the training split to learn a vocabulary from, in the order of their hashes."""


class _Unit:
    """A document of the training split, and which of the things read are it."""

    def __init__(self, key: int, at: int) -> None:
        self.key, self.first, self.last = key, at, at

    def __lt__(self, other: "_Unit") -> bool:
        return self.key > other.key  # a heap that gives up its largest


class _Decider:
    """The first reading: cleans, drops, splits, and keeps a sample."""

    def __init__(self, reader: Reader, findings: Findings, sample: int) -> None:
        self.reader, self.findings, self.budget = reader, findings, sample
        self.codes = bytearray()
        self.bytes = dict.fromkeys(SPLITS, 0)
        self._seen: dict[str, set[bytes]] = {split: set() for split in SPLITS}
        self._sample: list[tuple[int, int, bytes]] = []
        self._sampled = 0
        self._lowest: list[_Unit] = []
        self._unit: _Unit | None = None
        self._split = ""
        self._before = 0
        self._cleaner = Cleaner(reader.settings, findings)

    def take(self, read: Read) -> None:
        """Decide about one thing read."""
        self._before = 0 if read.first else self._before
        text = self._cleaner.clean(read.document.text, read.where, self._before)
        self._before += len(read.document.text.encode("utf-8", "replace"))
        if read.first:
            self._split, self._unit = "", None
        split = None if text is None else self._place(read, text)
        self.codes.append(_DROPPED if split is None else SPLITS.index(split))

    def _place(self, read: Read, text: str) -> str | None:
        raw = text.encode()
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        split = self._split = read.given or self._split or _split_of(digest, self.reader.settings)
        for other in reversed(SPLITS):
            if digest in self._seen[other]:
                self.findings.drop("exact copy" if other == split else f"in {other}", text, read.where)
                return None
        self._seen[split].add(digest)
        self.bytes[split] += len(raw)
        if split == "train":
            self._remember(digest, raw)
        return split

    def _remember(self, digest: bytes, raw: bytes) -> None:
        """Keep the three units with the lowest hashes, and as many texts of the lowest as are allowed."""
        at = len(self.codes)
        if self._unit is None:
            self._unit = _Unit(int.from_bytes(digest[:8], "big"), at)
            heapq.heappush(self._lowest, self._unit)
            if len(self._lowest) > 3:
                heapq.heappop(self._lowest)
        self._unit.last = at
        raw = raw[: self.budget]
        heapq.heappush(self._sample, (-int.from_bytes(digest[8:], "big"), at, raw))
        self._sampled += len(raw)
        while self._sampled > self.budget and len(self._sample) > 1:
            self._sampled -= len(heapq.heappop(self._sample)[2])

    def finish(self) -> Decisions:
        """Make sure that no split that was asked for is empty."""
        settings = self.reader.settings
        moved = []
        if not any(self.bytes.values()):
            raise _nothing(settings, self.findings)
        for split in ("test", "validation"):
            if (
                self.bytes[split] == 0
                and getattr(settings.split, split) > 0
                and getattr(settings, split) is None
            ):
                moved.append(self._move(split))
            elif self.bytes[split] == 0 and getattr(settings, split) is not None:
                raise _too_little(settings, f"nothing in {getattr(settings, split)} is left for {split}")
        if not self.bytes["train"]:
            raise _too_little(settings, "nothing is left to train on")
        kept = sorted(
            (-key, at, raw)
            for key, at, raw in self._sample
            if not any(u.first <= at <= u.last for u in moved)
        )
        return Decisions(self.codes, self.bytes, [raw.decode("utf-8", "ignore") for _, _, raw in kept])

    def _move(self, split: str) -> _Unit:
        """Give an empty split the training document with the lowest hash."""
        if len(self._lowest) < 2:
            raise _too_little(self.reader.settings, f"nothing is left for {split}")
        unit = max(self._lowest)
        self._lowest.remove(unit)
        heapq.heapify(self._lowest)
        for at in range(unit.first, unit.last + 1):
            if self.codes[at] == SPLITS.index("train"):
                self.codes[at] = SPLITS.index(split)
        self.bytes[split] = 1  # exact figures come from the second reading
        self.findings.notes.append(
            f"By its hash no document was in {split}: the one with the lowest hash was taken for it."
        )
        return unit


class Cleaner:
    """The steps of cleaning, with their findings."""

    def __init__(self, settings: DataSettings, findings: Findings | None = None) -> None:
        self._policy, self._findings = settings.clean.invalid, findings
        self._steps = clean.steps(settings.clean)

    def clean(self, text: str, where: str = "", before: int = 0) -> str | None:
        """The cleaned text, or `None` where it is dropped. `before` is its place in its document, in bytes.

        Raises:
            DataError: it holds what is not UTF-8, and the policy is to refuse.
        """
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


def _split_of(digest: bytes, settings: DataSettings) -> str:
    """A split drawn by content: the same text in the same split, whatever else there is."""
    drawn = int.from_bytes(digest[:8], "big") / 2**64
    test = 0.0 if settings.test else settings.split.test
    validation = 0.0 if settings.validation else settings.split.validation
    return "test" if drawn < test else "validation" if drawn < test + validation else "train"


def decide(reader: Reader, findings: Findings, sample: int, progress: Callable[[int], None]) -> Decisions:
    """Read everything once and decide what is kept and where. `sample`: bytes of the training split to give
    back as texts.

    Raises:
        DataError: too few documents to fill every split.
    """
    decider = _Decider(reader, findings, sample)
    for number, read in enumerate(reader):
        decider.take(read)
        progress(number + 1)
    return decider.finish()


def kept(reader: Reader, decisions: Decisions) -> Iterator[Kept]:
    """Read everything again, and give out what was kept.

    Raises:
        DataError: the files have changed in between.
    """
    cleaner = Cleaner(reader.settings)
    count = 0
    for count, read in enumerate(reader, 1):
        code = decisions.codes[count - 1] if count <= len(decisions.codes) else None
        if code == _DROPPED:
            continue
        text = cleaner.clean(read.document.text)
        if code is None or text is None:
            raise _changed(read.where)
        document = read.document
        if document.target is not None:
            document = replace(document, target=cleaner.clean(document.target) or "")
        yield Kept(document, text, len(text.encode()), SPLITS[code])
    if count != len(decisions.codes):
        raise _changed(str(reader.root))


def _changed(where: str) -> DataError:
    return DataError(
        f"{where}: the files changed while they were read. Prepare again when nothing writes to them."
    )


def _nothing(settings: DataSettings, findings: Findings) -> DataError:
    dropped = [
        f"{counted(drop.documents, 'document')} dropped: {why}" for why, drop in findings.dropped.items()
    ]
    files = counted(findings.files, "file")
    why = "; ".join(dropped) or "no documents there"
    return DataError(f"{settings.path or settings.source}: no text in {files} ({why}).")


def counted(number: int, what: str) -> str:
    """`1 file`, `2,000 files`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _too_little(settings: DataSettings, what: str) -> DataError:
    """Advises what can help with these settings, and nothing else."""
    cures = ["Add text"]
    if settings.split.unit == "document":
        cures += [
            "set data.document_start to a pattern of the lines that begin a document",
            'set data.split.unit = "part" to hold out parts of documents',
        ]
    if by_share := _by_share(settings):
        own = " and ".join(f"data.{split}" for split in by_share)
        shares = " and ".join(f"data.split.{split}" for split in by_share)
        cures.append(f"set {own} to text of your own that is held out")
        cures.append(f"to hold nothing out, set {shares} to 0")
    else:
        cures.append("take copies of the held-out text out of it")
    return DataError(f"{settings.path or settings.source}: too few documents: {what}. {'; or '.join(cures)}.")


def _by_share(settings: DataSettings) -> list[str]:
    """The splits that are held out as a share of the text, rather than not at all or from files."""
    held_out = ("validation", "test")
    return [s for s in held_out if getattr(settings, s) is None and getattr(settings.split, s) > 0]

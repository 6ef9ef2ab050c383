"""From files to documents, in a fixed order, as tasks that can be done one by one in any order.

    origins → files → tasks → documents → (parts)

First comes what was given for the test and for validation, then the text of each source in the order of the
recipe; the files of each by name. A task is a stretch of that order.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from telos.batch import Document
from telos.data import sources
from telos.data.findings import counted
from telos.data.folders import finished
from telos.data.remote import fetch, listing
from telos.data.settings import DataSettings, OriginSettings
from telos.data.sources import _base
from telos.data.sources._base import Chunk, Skip, Source, ignore
from telos.errors import DataError
from telos.find import find, names
from telos.turns import has_turns

__all__ = [
    "DROPPED",
    "SPLITS",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "File",
    "Read",
    "Reader",
    "Task",
    "by_share",
    "choose_unit",
    "chunks_in",
    "find_chunks",
]

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(len(SPLITS))
DROPPED = len(SPLITS)
"""What stands in place of a split's number where a text is in none."""
FEW = 20
"""Fewer documents than this, and `auto` holds out parts of them."""
PART = 8192
"""Characters of a part, about; less where the whole text would make fewer than `PARTS`."""
PARTS = 100
TASK_BYTES = 1 << 25
"""A task is of at most so many bytes on the disk, where it is of several files."""
TASK_FILES = 1000
"""And of at most so many files."""


class File(NamedTuple):
    """A file to read, and how."""

    path: Path
    source: Source
    split: str
    """The split it was given for, or nothing where content decides."""
    origin: int
    """Its source, by its place among `DataSettings.origins`; −1 for what was given for a split."""
    name: str
    """Of the file, without this machine's folders."""
    chunk: Chunk | None = None
    """The stretch of it that is read; `None` for all of it."""
    prefix: str = ""
    """Put before each of its texts."""

    @property
    def size(self) -> int:
        """Bytes that are read, about."""
        files = self.source.reads(self.path)
        return sum(file.stat().st_size for file in files) if files else TASK_BYTES


@dataclass(frozen=True)
class Task:
    """A stretch of the input that one worker reads from its beginning to its end."""

    number: int
    files: tuple[File, ...]
    part: int
    """Characters of the parts that documents are cut into; 0 leaves them whole."""

    def reads(self, skip: Skip = ignore) -> Iterator["Read"]:
        """Its documents, in order. `skip` is told of what is left out of files."""
        for file in self.files:
            yield from read(file, self.part, skip)


class Read(NamedTuple):
    """A document, or a part of one, as its source gave it."""

    document: Document
    first: bool
    """It begins a unit; what follows with `first` false belongs
    to the same document, and goes to the same split."""
    file: File

    @property
    def where(self) -> str:
        """What to call it: its file, and its line or row."""
        return self.file.name.removesuffix(self.file.path.name) + self.document.id


def read(file: File, part: int, skip: Skip = ignore) -> Iterator[Read]:
    """The documents of one file, or their parts."""
    last = None
    for document in _prefixed(file, file.source.documents(file.path, file.chunk, skip)):
        if not part:
            yield Read(document, document.id != last, file)
            last = document.id
            continue
        whole = has_turns(document.text)  # a conversation makes no sense without its beginning
        for text in [document.text] if whole else _parts(document.text, part):
            yield Read(replace(document, text=text), True, file)


def _prefixed(file: File, documents: Iterable[Document]) -> Iterator[Document]:
    """The documents with what is put before their texts; what is empty stays so, and is dropped."""
    for each in documents:
        empty = not file.prefix or not each.text or each.text.isspace()
        yield each if empty else replace(each, text=file.prefix + each.text)


class Reader:
    """All files that the settings name, in a fixed order.

    Raises:
        DataError: there are no files, or none that a source reads.
    """

    def __init__(self, settings: DataSettings) -> None:
        self.settings, self.part = settings, 0
        self.unknown: dict[str, int] = {}
        """Files that no source reads, by suffix."""
        self.notes: list[str] = []
        held_out = [file for split in ("test", "validation") for file in self._held_out(split)]
        taken = {file.path.resolve() for file in held_out}
        given = [
            file
            for number, origin in enumerate(settings.origins)
            for file in self._files(number, origin, taken)
        ]
        self.files: list[File] = held_out + given
        against = settings.decontaminate.against if settings.decontaminate.action != "off" else ()
        self.against = [*self._found_in(against)]
        """Files of evaluation sets that are not held-out text of this data."""
        if not given:
            raise self._no_files()

    def _no_files(self) -> DataError:
        counts = (f"{count} {suffix or 'without suffix'}" for suffix, count in self.unknown.items())
        skipped = f" (skipped: {', '.join(counts)})" if self.unknown else ""
        suffixes = ", ".join(sorted(_by_suffix(self.settings.origins[0])))
        places = ", ".join(str(origin.path) for origin in self.settings.origins)
        return DataError(
            f"{places}: no text here{skipped}. Files must end in {suffixes}, "
            f"plain or compressed ({', '.join(_base.COMPRESSIONS)}); or say what they all are: "
            'data.source = "text".'
        )

    def _held_out(self, split: str) -> Iterator[File]:
        """What was given for a split, read as the settings say of the text as a whole."""
        path: Path | str | None = getattr(self.settings, split)
        if path is not None:
            kinds = _by_suffix(self.settings.origins[0])
            for file, source, name in self._found(path, kinds, self._root):
                prefix = "" if self.settings.sources else self.settings.prefix
                yield File(file, source, split, -1, name, prefix=prefix)

    def _found_in(self, places: Iterable[Path | str]) -> Iterator[File]:
        kinds = _by_suffix(self.settings.origins[0])
        for place in places:
            for file, source, name in self._found(place, kinds, _root(place)):
                yield File(file, source, "test", -1, name)

    @property
    def evaluation(self) -> list[File]:
        """The files of all evaluation sets that the settings name."""
        return [*self.against, *(file for file in self.files if file.split)]

    def _files(self, number: int, origin: OriginSettings, taken: set[Path]) -> Iterator[File]:
        prefix = f"{origin.name}/" if self.settings.sources else ""
        for file, source, name in self._found(origin.path, _by_suffix(origin), _root(origin.path)):
            if file.resolve() not in taken:
                yield File(file, source, "", number, prefix + name, prefix=origin.prefix)

    def _found(
        self, path: Path | str | None, kinds: dict[str, Source], root: Path | None
    ) -> Iterator[tuple[Path, Source, str]]:
        """Files, what reads each, and what to call it."""
        everything = kinds.get("")
        for file, name in self._listed(path, everything, root):
            if source := everything or kinds.get(_base.plain_suffix(file)):
                yield file, source, name
            else:
                suffix = file.suffix.lower()
                self.unknown[suffix] = self.unknown.get(suffix, 0) + 1

    def _listed(
        self, path: Path | str | None, everything: Source | None, root: Path | None
    ) -> Iterator[tuple[Path, str]]:
        if isinstance(path, str):
            yield from self._fetched(path)
            return
        files = everything.files(path) if everything else _base.walk(path or Path())
        root = root or (files[-1].parent if files else None)
        for file in files:
            yield file, file.relative_to(root).as_posix() if root and file.is_relative_to(root) else file.name

    def _fetched(self, url: str) -> Iterator[tuple[Path, str]]:
        """The files at a URL, on this machine."""
        access = self.settings.remote.access
        files = listing(url, access)
        if (size := sum(file.size or 0 for file in files)) > access.most:
            raise DataError(
                f"{url}: {size:,} bytes do not fit into the {access.most:,} of the cache: raise "
                "data.remote.gigabytes."
            )
        for file in files:
            yield fetch(file, access), file.name

    @cached_property
    def _root(self) -> Path | None:
        """What names of held-out files are told relative to: the text's folder, if they are in it."""
        path = self.settings.origins[0].path
        return None if not isinstance(path, Path) else path if path.is_dir() else path.parent

    def __iter__(self) -> Iterator[Read]:
        for file in self.files:
            yield from read(file, self.part)

    def large(self) -> dict[int, File]:
        """The files that several workers may share, if there are chunks of them, by their places."""
        return {place: file for place, file in enumerate(self.files) if file.size >= TASK_BYTES}

    def tasks(self, chunks: Mapping[int, Sequence[Chunk]]) -> list[Task]:
        """The files in stretches of at most `TASK_BYTES`; what is larger is alone, or its chunks are, which
        are found by its place."""
        groups: list[list[File]] = []
        size = 0
        for file in (part for place in range(len(self.files)) for part in self._parts(place, chunks)):
            more = TASK_BYTES if file.chunk else file.size
            if not groups or size + more > TASK_BYTES or len(groups[-1]) == TASK_FILES:
                groups.append([])
                size = 0
            groups[-1].append(file)
            size += more
        return [Task(number, tuple(group), self.part) for number, group in enumerate(groups)]

    def _parts(self, place: int, chunks: Mapping[int, Sequence[Chunk]]) -> list[File]:
        """A file as its chunks, or itself."""
        file = self.files[place]
        return [file._replace(chunk=chunk) for chunk in chunks.get(place, ())] or [file]

    def count(self, enough: int) -> tuple[int, int]:
        """How many documents there are to split, and their characters, counted until there are `enough`."""
        documents = characters = 0
        for read in self:
            if not read.file.split:
                documents, characters = documents + read.first, characters + len(read.document.text)
            if documents >= enough:
                break
        return documents, characters


def _root(path: Path | str | None) -> Path | None:
    return path if isinstance(path, Path) and path.is_dir() else None


def find_chunks(file: File, folder: Path, progress: Callable[[int], None] | None = None) -> int:
    """The stretches of a large file that its source can read one by one, into `folder`, unless they are
    there: afterwards `chunks_in(folder)` has them. How many files it was: one.

    Raises:
        DataError: it cannot be read, or is not what its suffix says.
    """
    if not folder.is_dir():
        with finished(folder) as building:
            (building / "chunks.json").write_text(json.dumps(file.source.chunks(file.path)))
    return 1


def chunks_in(folder: Path) -> list[Chunk]:
    """What `find_chunks` found."""
    return [Chunk(*each) for each in json.loads((folder / "chunks.json").read_text())]


def _by_suffix(origin: OriginSettings) -> dict[str, Source]:
    """Sources by suffix; the one under `""` reads every file."""
    found: dict[str, Source] = {}
    for name in names(sources) if origin.source == "files" else [origin.source]:
        kind = find(sources, name, Source)
        given = {key: getattr(origin, key) for key in kind.model_fields if hasattr(origin, key)}
        found |= {suffix: kind(**given) for suffix in (kind.suffixes if origin.source == "files" else [""])}
    return found


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


def choose_unit(reader: Reader) -> None:
    """Whole documents or parts of them: sets `reader.part`
    by `split.unit`, and notes what was done and why."""
    settings = reader.settings
    if settings.split.unit == "document" or (settings.split.unit == "auto" and not by_share(settings)):
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
    reader.notes.append(
        f"Documents were cut into parts of about {reader.part:,} characters, because {why}. "
        "Neighbouring parts of one text are in different splits, so held-out figures are a bit better than "
        "for texts that are new altogether."
    )


def by_share(settings: DataSettings) -> Sequence[str]:
    """The splits that are held out as a share of the text, rather than not at all or from files."""
    held_out = ("validation", "test")
    return [s for s in held_out if getattr(settings, s) is None and getattr(settings.split, s) > 0]

"""What a source of documents is, and how files are found and opened.

To add a format, write a file in this folder with one final class that derives from `Source`, or from `Rows`
where a document is a row of named values. Nothing else is edited: a file is read by the source that names its
suffix.
"""

import bz2
import gzip
import io
import lzma
import os
import zlib
from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

from telos import turns
from telos.batch import Document
from telos.config import Settings
from telos.errors import DataError

__all__ = [
    "Chunk",
    "Rows",
    "Skip",
    "Source",
    "explained",
    "ignore",
    "kind_of",
    "lines",
    "no_such_key",
    "open_bytes",
    "opened",
    "plain_suffix",
    "to_text",
    "walk",
    "whole_bytes",
]

COMPRESSIONS = (".gz", ".xz", ".bz2", ".zst")
LONGEST_LINE = 1 << 28
"""Bytes of a JSON line, at most: what has to be in memory at once."""
LONGEST_TEXT = 1 << 24
"""Bytes of plain text that make one document, at most; longer ones come in consecutive parts with one id."""
EXPANSION = 500
"""How many times its size a compressed file may expand to, at most, once past `EXPANSION_FREE` bytes."""
EXPANSION_FREE = 1 << 30
LARGEST_TABLE = 1 << 28
"""Bytes of a table that is not a file of its own, at most: it is read with jumps, so it must be in memory."""

Skip = Callable[[str, str], None]
"""Told of everything that is no document and is left out: the reason, and where it is."""


def ignore(reason: str, where: str) -> None:
    """A `Skip` that counts nothing."""


class Chunk(NamedTuple):
    """A stretch of a file that can be read by itself. All chunks of a file, in order, are the file."""

    begin: int
    """A byte of the file, or a group of its rows, as its source has it."""
    end: int
    """One past the last."""
    first: int
    """The number, from 1, of the chunk's first line or row; of a web archive, the byte that its first record
    begins at, expanded."""


class Source(Settings, ABC):
    """Base of all sources. Settings of the recipe reach it by name: `text_key`, `document_start`.

    Bytes that are not UTF-8 stay in the text as lone surrogates (PEP 383), so that cleaning finds, counts and
    mends them in one place. Consecutive documents with the same id are parts of one text.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Of the files it reads, without a compression's; none for a source that brings its own text."""

    def documents(self, path: Path, chunk: Chunk | None = None, skip: Skip = ignore) -> Iterator[Document]:
        """The documents of one file, or of a chunk of it, in order, streamed. `skip` is told of what is left
        out.

        Raises:
            DataError: the file is not what its suffix says; with file, line and what to do.
        """
        assert chunk is None, "a file that is read by `read` comes whole"
        with open_bytes(path) as file:
            yield from self.read(file, path, skip)

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        """The documents in a stream of bytes, already expanded; `path` is what to call it. A source that
        names suffixes has this method, so that a file inside an archive is read as one on the disk is.

        Raises:
            DataError: as of `documents`.
        """
        raise AssertionError(f"{type(self).__name__} reads no streams")

    def chunks(self, path: Path) -> list[Chunk]:
        """How a large file can be shared out; empty where it is read whole."""
        return []

    def reads(self, path: Path) -> tuple[Path, ...]:
        """Every file whose bytes `documents(path)` depends on; empty where its name alone says what is in
        it."""
        return (path,)

    def files(self, path: Path | None) -> list[Path]:
        """The files to read, in a fixed order: those under `path`, or the source's own."""
        assert path is not None
        return walk(path)


class Rows(Source):
    """Base of the sources whose documents are rows of named values."""

    text_key: str = "text"
    """Where the text is: a string, a list of strings that are joined as lines, or a list of messages, each
    with its `role` and `content`. Of several keys, `instruction+input`, the texts become paragraphs."""
    target_key: str = "target"
    """Where the text to learn to answer with is, if there is one."""
    label_key: str = "label"
    """Where the class of the text is, if it has one."""

    @property
    def keys(self) -> dict[str, str]:
        """Which key a part of a `Document` is under."""
        return {"target": self.target_key, "label": self.label_key, "language": "language"}

    def record(self, values: Mapping[str, Any], id: str, path: Path) -> Document:
        """A row of a table or a JSON object as a document. A text that is null is empty, and dropped. A key
        with dots, as `translation.de`, leads into objects.

        Raises:
            DataError: there is no text under `text_key`; lists the keys that there are.
        """
        where = str(path.parent / id)
        text = self._text(values, self.text_key, where)
        if text is _NOTHING:
            raise no_such_key(self.text_key, values, where)
        rest = {}
        for part, key in self.keys.items():
            value = self._text(values, key, where) if part == "target" else _at(values, key)
            if value is None or value is _NOTHING or (part == "label" and value == ""):  # an empty cell
                continue
            rest[part] = str(value)
        return Document(text=text or "", id=id, **rest)

    def _text(self, values: Mapping[str, Any], key: str, where: str) -> Any:
        if key not in values and "+" in key:
            found = [self._text(values, part, where) for part in key.split("+")]
            known = [text or "" for text in found if text is not _NOTHING]
            return "\n\n".join(filter(None, known)) if known else _NOTHING
        text = _at(values, key)
        if isinstance(text, list) and text and all(isinstance(each, Mapping) for each in text):
            return turns.conversation(text, where)
        if isinstance(text, list) and all(isinstance(line, str) for line in text):
            text = "\n".join(text)
        if text is _NOTHING or isinstance(text, str | None):
            return turns.neutral(text) if isinstance(text, str) else text
        if key == self.target_key and isinstance(text, int | float):
            return str(text)
        what = f"{key!r} is {kind_of(text)}"
        raise DataError(f"{where}: {what}; it must be a string, a list of strings, or a list of messages.")

    def wanted(self, columns: Iterable[str], path: Path) -> list[str]:
        """Those of a table's columns that a document is made of.

        Raises:
            DataError: the text is in none of them; lists those that there are.
        """
        columns = list(columns)
        if not _leading(self.text_key, columns):
            raise no_such_key(self.text_key, columns, str(path))
        keys = {name for key in (self.text_key, *self.keys.values()) for name in _leading(key, columns)}
        return [column for column in columns if column in keys]


def _leading(key: str, columns: list[str]) -> list[str]:
    """The columns that a key is, leads into or joins."""
    if key in columns:
        return [key]
    return [first for part in key.split("+") if (first := part.partition(".")[0]) in columns]


_NOTHING = object()


def _at(values: Mapping[str, Any], key: str) -> Any:
    """The value under a key, which may lead into objects by dots; `_NOTHING` where there is none."""
    if key in values:
        return values[key]
    first, dot, rest = key.partition(".")
    inner = values.get(first)
    return _at(inner, rest) if dot and isinstance(inner, Mapping) else _NOTHING


def walk(path: Path) -> list[Path]:
    """Every file under `path`, or itself, sorted by name, less hidden files and runs; links may form circles.

    Raises:
        DataError: there is nothing at `path`.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            f"{path}: there is no such file or folder (data.path is relative to where you are: {Path.cwd()})."
        )
    found, seen = [], {path.resolve()}
    for folder, inner, files in os.walk(path, followlinks=True, onerror=_unreadable):
        if _is_ours(files):
            inner.clear()
            continue
        fresh = [
            name for name in sorted(inner) if name[0] != "." and (Path(folder) / name).resolve() not in seen
        ]
        seen.update((Path(folder) / name).resolve() for name in fresh)
        inner[:] = fresh
        found += [Path(folder) / name for name in files if name[0] != "." and (Path(folder) / name).is_file()]
    return sorted(found, key=lambda file: file.relative_to(path).parts)


def _is_ours(files: list[str]) -> bool:
    """Whether a folder is a run or prepared data: what came out of a text is not text to learn from."""
    return "whole.json" in files or (
        "recipe.toml" in files and not {"card.json", "metrics.jsonl"}.isdisjoint(files)
    )


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: the folder cannot be read: {error.strerror}.")


def plain_suffix(path: Path) -> str:
    """The suffix that says the format, lower-case, less a compression's: `.jsonl` of `a.JSONL.gz`."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return Path(name).suffix


@contextmanager
def open_bytes(path: Path, chunk: Chunk | None = None) -> Iterator[BinaryIO]:
    """The bytes of a file, or of a stretch of it, expanded if its suffix says that it is compressed.

    Raises:
        DataError: the file cannot be read, is not whole, or expands beyond `EXPANSION` times its size.
    """
    with explained(path), path.open("rb") as whole:
        file = whole if chunk is None else io.BufferedReader(_Part(whole, chunk), buffer_size=1 << 18)
        expanded = _expand(file, path)
        yield expanded if expanded is file else _Bounded(expanded, path, path.stat().st_size)


@contextmanager
def opened(file: BinaryIO, path: Path, size: int) -> Iterator[BinaryIO]:
    """The same of a stream of `size` bytes that is called `path`.

    Raises:
        DataError: as of `open_bytes`.
    """
    with explained(path):
        expanded = _expand(file, path)
        yield expanded if expanded is file else _Bounded(expanded, path, size)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What goes wrong in reading a file, as a `DataError` that names it."""
    broken = (lzma.LZMAError, EOFError, zlib.error, gzip.BadGzipFile)
    try:
        yield
    except broken as error:
        raise DataError(
            f"{path}: the compressed file is damaged or cut short: {error}. Fetch or make it again."
        ) from None
    except OSError as error:
        if error.errno is None:  # bz2 says so that its data is bad
            raise DataError(f"{path}: the compressed file is damaged or cut short: {error}.") from None
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _expand(file: Any, path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix in (".gz", ".tgz"):
        return gzip.GzipFile(fileobj=file)
    if suffix == ".xz":
        return lzma.LZMAFile(file)
    if suffix == ".bz2":
        return bz2.BZ2File(file)
    return _zstandard(file, path) if suffix == ".zst" else file


def _zstandard(file: Any, path: Path) -> Any:
    try:
        import zstandard
    except ImportError:
        raise DataError(f"{path}: .zst files need a package more: pip install 'telos-lm[data]'") from None
    return _Zstandard(file, zstandard)


class _Zstandard:
    """Reads frames one after the other. The library's own takes one that is cut short for whole."""

    def __init__(self, file: BinaryIO, library: Any) -> None:
        self._file, self._library = file, library
        self._frame: Any = None
        self._input, self._output = b"", io.BytesIO()

    def read(self, size: int) -> bytes:
        """At most `size` bytes, and none only at the end."""
        while not (data := self._output.read(size)):
            given = self._input or self._file.read(1 << 11)  # two KiB expand to 64 MiB at most
            if not given:
                if self._frame is not None:
                    raise EOFError("it ends inside a frame")
                return b""
            self._output = io.BytesIO(self._feed(given))
        return data

    def _feed(self, data: bytes) -> bytes:
        if self._frame is None:
            self._frame = self._library.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        try:
            expanded: bytes = self._frame.decompress(data)
        except self._library.ZstdError as error:
            raise EOFError(str(error)) from None
        self._input = b""
        if self._frame.eof:
            self._input, self._frame = self._frame.unused_data, None
        return expanded


class _Part(io.RawIOBase):
    """A stretch of the bytes of a file, as a file."""

    def __init__(self, file: BinaryIO, chunk: Chunk) -> None:
        file.seek(chunk.begin)
        self._file, self._left = file, chunk.end - chunk.begin

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


class _Bounded(io.BufferedReader):
    """Expanded bytes, until there are so many more than on the disk that it must be a bomb."""

    def __init__(self, expanded: Any, path: Path, size: int) -> None:
        super().__init__(_Counted(expanded, path, size), buffer_size=1 << 18)


class _Counted(io.RawIOBase):
    def __init__(self, expanded: Any, path: Path, size: int) -> None:
        self._expanded, self._path, self._size, self._bytes = expanded, path, size, 0
        self._limit = most_expanded(size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._expanded.read(len(buffer))
        buffer[: len(data)] = data
        self._bytes += len(data)
        if self._bytes > self._limit:
            raise bomb(self._path, self._bytes, self._size)
        return len(data)


def most_expanded(size: int) -> int:
    """To how many bytes a compressed file of `size` bytes may expand."""
    return max(EXPANSION_FREE, EXPANSION * size)


def bomb(path: Path, expanded: int, size: int) -> DataError:
    """It expands to more than is believable."""
    return DataError(
        f"{path}: expands to more than {expanded:,} bytes from {size:,} on the disk: refused as a "
        "decompression bomb. If it is genuine, expand it yourself and give the plain file."
    )


def lines(
    file: BinaryIO, path: Path, longest: int | None = None, first: int = 1
) -> Iterator[tuple[int, bytes]]:
    """The lines of a file and their numbers from `first`, cut at line feeds and nothing else; without the
    byte order mark that a file, whose first line is 1, may begin with.

    Raises:
        DataError: a line is longer than `longest` bytes, by default `LONGEST_LINE`.
    """
    number, longest = first - 1, longest or LONGEST_LINE
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise DataError(f"{path}:{number}: longer than {longest:,} bytes. Cut the document in several.")
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def to_text(data: bytes, path: Path, beginning: bool = False) -> str:
    """UTF-8 bytes as text; those that are not UTF-8 as lone surrogates. `beginning`: of the file.

    Raises:
        DataError: the bytes begin with the mark of UTF-16 or UTF-32.
    """
    if beginning and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: this is UTF-16, not UTF-8. Convert it: iconv -f UTF-16 -t UTF-8 IN > OUT")
    return turns.neutral(data.decode("utf-8", "surrogateescape"))


def whole_bytes(file: BinaryIO, path: Path) -> Any:
    """Something that can be read with jumps: the stream itself if it can, else all of it in memory.

    Raises:
        DataError: it is larger than `LARGEST_TABLE`.
    """
    if type(file) is io.BufferedReader and file.seekable():
        return file
    data = file.read(LARGEST_TABLE + 1)
    if len(data) > LARGEST_TABLE:
        raise DataError(
            f"{path}: more than {LARGEST_TABLE:,} bytes that are compressed or in an archive, and have to be "
            "in memory at once. Take the file out of it."
        )
    return io.BytesIO(data)


def kind_of(value: Any) -> str:
    """What a value of JSON or of a table is, with its article: `an integer`."""
    names = {"int": "an integer", "float": "a number", "bool": "true or false", "NoneType": "null"}
    names |= {"str": "a string", "list": "a list", "dict": "an object", "bytes": "binary data"}
    return names.get(type(value).__name__, f"of the type {type(value).__name__}")


def no_such_key(text_key: str, keys: Iterable[str], where: str) -> DataError:
    """The text is not where it was looked for."""
    listed = ", ".join(repr(key) for key in keys) or "none"
    return DataError(
        f"{where}: there is no {text_key!r}; there are: {listed}. Say which holds the text: data.text_key=…"
    )

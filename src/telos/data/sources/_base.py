"""What a source of documents is, and how files are found and opened.

To add a format, write a file in this folder with one final class that derives from `Source`. Nothing else is
edited: a file is read by the source that names its suffix.
"""

import bz2
import gzip
import io
import lzma
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from telos.batch import Document
from telos.config import Settings
from telos.errors import DataError

__all__ = [
    "OPTIONAL",
    "Source",
    "kind_of",
    "lines",
    "no_such_key",
    "open_bytes",
    "plain_suffix",
    "record",
    "to_text",
    "walk",
]

COMPRESSIONS = (".gz", ".xz", ".bz2", ".zst")
OPTIONAL = ("target", "label", "language")
"""Further keys of a record that a `Document` takes, where they are there."""
LONGEST_LINE = 1 << 28
"""Bytes of a JSON line, at most: what has to be in memory at once."""
LONGEST_TEXT = 1 << 24
"""Bytes of plain text that make one document, at most; longer ones come in consecutive parts with one id."""
EXPANSION = 500
"""How many times its size a compressed file may expand to, at most, once past `EXPANSION_FREE` bytes."""
EXPANSION_FREE = 1 << 30


class Source(Settings, ABC):
    """Base of all sources. Settings of the recipe reach it by name: `text_key`, `document_start`.

    Bytes that are not UTF-8 stay in the text as lone surrogates (PEP 383), so that cleaning finds, counts and
    mends them in one place. Consecutive documents with the same id are parts of one text.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Of the files it reads, without a compression's; none for a source that brings its own text."""

    @abstractmethod
    def documents(self, path: Path) -> Iterator[Document]:
        """The documents of one file, in order, streamed.

        Raises:
            DataError: the file is not what its suffix says; with file, line and what to do.
        """

    def files(self, path: Path | None) -> list[Path]:
        """The files to read, in a fixed order: those under `path`, or the source's own."""
        assert path is not None
        return walk(path)


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
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, expanded if its suffix says that it is compressed.

    Raises:
        DataError: the file cannot be read, is not whole, or expands beyond `EXPANSION` times its size.
    """
    broken = (lzma.LZMAError, EOFError, zlib.error, gzip.BadGzipFile)
    try:
        with path.open("rb") as file:
            expanded = _expand(file, path)
            yield expanded if expanded is file else _Bounded(expanded, path)
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
    if suffix == ".gz":
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


class _Bounded(io.BufferedReader):
    """Expanded bytes, until there are so many more than on the disk that it must be a bomb."""

    def __init__(self, expanded: Any, path: Path) -> None:
        super().__init__(_Counted(expanded, path), buffer_size=1 << 18)


class _Counted(io.RawIOBase):
    def __init__(self, expanded: Any, path: Path) -> None:
        self._expanded, self._path, self._bytes = expanded, path, 0
        self._limit = max(EXPANSION_FREE, EXPANSION * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._expanded.read(len(buffer))
        buffer[: len(data)] = data
        self._bytes += len(data)
        if self._bytes > self._limit:
            size = f"{self._bytes:,} bytes from {self._path.stat().st_size:,} on the disk"
            raise DataError(
                f"{self._path}: expands to more than {size}: refused as a decompression bomb. "
                "If it is genuine, expand it yourself and give the plain file."
            )
        return len(data)


def lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file and their numbers from 1, cut at line feeds and nothing else; no byte order mark.

    Raises:
        DataError: a line is longer than `LONGEST_LINE`.
    """
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{path}:{number}: longer than {LONGEST_LINE:,} bytes. Cut the document in several."
            )
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def to_text(data: bytes, path: Path, beginning: bool = False) -> str:
    """UTF-8 bytes as text; those that are not UTF-8 as lone surrogates. `beginning`: of the file.

    Raises:
        DataError: the bytes begin with the mark of UTF-16 or UTF-32.
    """
    if beginning and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: this is UTF-16, not UTF-8. Convert it: iconv -f UTF-16 -t UTF-8 IN > OUT")
    return data.decode("utf-8", "surrogateescape")


def record(values: Mapping[str, Any], text_key: str, id: str, path: Path) -> Document:
    """A row of a table or a JSON object as a document. A text that is null is empty, and dropped.

    Raises:
        DataError: there is no text under `text_key`; lists the keys that there are.
    """
    if text_key not in values:
        raise no_such_key(text_key, values, str(path.parent / id))
    text = values[text_key]
    if isinstance(text, list) and all(isinstance(line, str) for line in text):
        text = "\n".join(text)
    if not isinstance(text, str | None):
        what = f"{text_key!r} is {kind_of(text)}"
        raise DataError(f"{path.parent / id}: {what}; it must be a string or a list of strings.")
    rest = {key: str(value) for key in OPTIONAL if (value := values.get(key)) is not None}
    return Document(text=text or "", id=id, **rest)


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

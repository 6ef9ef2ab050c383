"""Tokens on disk: one folder per split, memory-mapped
columns, a header that says what they are and proves it.

    header.json        format, dtype, vocabulary hash, counts; bytes and BLAKE2b digest of every file
    ids.bin            all tokens of all documents, one after the other (uint16; uint32 above 65,536 tokens)
    offsets.bin        documents + 1 places in ids.bin (int64)
    text_bytes.bin     UTF-8 bytes of each document's text as the tokenizer saw it (int64)
    word_start.bin …   other columns: a value per token, per document, or a run of tokens per document

Documents stand there as they are: no begin and no end token.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from telos.errors import DataError

__all__ = ["COLUMNS", "Column", "Header", "ShardWriter", "Shards"]

FORMAT = 1
"""Raised whenever what is on disk changes its meaning; older files are then refused and prepared anew."""


class Column(NamedTuple):
    """What a column holds: a value per token, one per document,
    or a run of tokens per document (with its own offsets)."""

    per: Literal["token", "document", "run"]
    dtype: str = ""
    """Empty for the dtype of token ids."""


COLUMNS: Mapping[str, Column] = {
    "word_start": Column("token", "bool"),
    "jieba_word_start": Column("token", "bool"),
    "sentence_start": Column("token", "bool"),
    "chatml": Column("token", "bool"),
    "plain": Column("token", "bool"),
    "target": Column("run"),
    "label": Column("document", "int32"),
    "source": Column("document", "int16"),
}
"""The columns that a split can have beside `ids`. In `word_start` each Chinese character is a word, in
`jieba_word_start` what jieba makes of them. `chatml` and `plain` are formats of `telos.chat`, in which the
ids of conversations then are: what is an answer. `label` is a number in the header's list of names, −1 where
a document has none; `source` is the number of the source that a document is from, or of its language, by
which the loader mixes."""


class Header(NamedTuple):
    """What `header.json` says."""

    format: int
    dtype: str
    vocabulary_hash: str
    size: int
    documents: int
    tokens: int
    bytes: int
    columns: Sequence[str]
    files: Mapping[str, Mapping[str, Any]]
    labels: Sequence[str] = ()
    """Names of the classes in the column `label`, by number."""


def _dtype(size: int) -> Any:
    """The smallest unsigned integer that holds every id of a vocabulary of `size`."""
    return np.uint16 if size <= 1 << 16 else np.uint32


@final
class ShardWriter:
    """Writes one split, document by document; it is there once `close` has written the header."""

    def __init__(
        self,
        folder: Path,
        vocabulary_hash: str,
        size: int,
        columns: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> None:
        self._labels = tuple(labels)
        unknown = [name for name in columns if name not in COLUMNS]
        assert not unknown, f"unknown columns {unknown}; there are {sorted(COLUMNS)}"
        self._folder, self._vocabulary_hash, self._size, self._columns = (
            folder,
            vocabulary_hash,
            size,
            tuple(columns),
        )
        self._dtype = np.dtype(_dtype(size))
        self._documents = self._tokens = self._bytes = 0
        self._run_ends = dict.fromkeys((c for c in columns if COLUMNS[c].per == "run"), 0)
        folder.mkdir(parents=True, exist_ok=True)
        runs = [f"{name}_offsets" for name in self._run_ends]
        self._files = {
            n: _File(folder / f"{n}.bin") for n in ("ids", "offsets", "text_bytes", *columns, *runs)
        }
        for name in ("offsets", *runs):
            self._files[name].write(np.zeros(1, np.int64))

    def add(self, ids: NDArray[np.integer], bytes: int, **columns: Any) -> None:
        """One document: its tokens (n,), the UTF-8 bytes of its text, and every column that was announced."""
        assert sorted(columns) == sorted(self._columns), (
            f"columns {sorted(columns)} given, {sorted(self._columns)} announced"
        )
        self._documents, self._tokens, self._bytes = (
            self._documents + 1,
            self._tokens + len(ids),
            self._bytes + bytes,
        )
        self._files["ids"].write(self._checked(ids))
        self._files["offsets"].write(np.array([self._tokens], np.int64))
        self._files["text_bytes"].write(np.array([bytes], np.int64))
        for name, value in columns.items():
            self._add_column(name, value, len(ids))

    def _add_column(self, name: str, value: Any, tokens: int) -> None:
        column = COLUMNS[name]
        if column.per == "run":
            self._run_ends[name] += len(value)
            self._files[name].write(self._checked(value))
            self._files[f"{name}_offsets"].write(np.array([self._run_ends[name]], np.int64))
            return
        values = np.atleast_1d(np.asarray(value)).astype(column.dtype)
        assert len(values) == (tokens if column.per == "token" else 1), (
            f"{name}: {len(values)} values for {tokens} tokens"
        )
        self._files[name].write(values)

    def extend(self, part: "Shards") -> None:
        """All documents of shards with the same vocabulary and columns, as they are."""
        assert part.header.vocabulary_hash == self._vocabulary_hash, part.folder
        assert tuple(part.header.columns) == self._columns, part.folder
        runs = {f"{name}_offsets": part.run_offsets[name] for name in self._run_ends}
        for name, file in self._files.items():
            if name == "offsets":
                file.write(np.asarray(part.offsets[1:]) + self._tokens)
            elif name in runs:
                file.write(np.asarray(runs[name][1:]) + self._run_ends[name.removesuffix("_offsets")])
            else:
                file.copy(part.folder / f"{name}.bin")
        for name in self._run_ends:
            self._run_ends[name] += int(part.run_offsets[name][-1])
        self._documents += part.header.documents
        self._tokens += part.header.tokens
        self._bytes += part.header.bytes

    def _checked(self, ids: NDArray[np.integer]) -> NDArray[Any]:
        if len(ids):
            low, high = int(ids.min()), int(ids.max())
            assert low >= 0 and high < self._size, f"ids {low} … {high} in a vocabulary of {self._size}"
        return np.asarray(ids).astype(self._dtype)

    def close(self) -> Header:
        """Flush everything to the disk, the header last."""
        files = {f"{name}.bin": file.close() for name, file in self._files.items()}
        header = Header(
            FORMAT,
            self._dtype.name,
            self._vocabulary_hash,
            self._size,
            self._documents,
            self._tokens,
            self._bytes,
            self._columns,
            files,
            self._labels,
        )
        with (self._folder / "header.json").open("w", encoding="utf-8") as out:
            json.dump(header._asdict(), out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        return header

    def abandon(self) -> None:
        """Close the files of a split that will not be finished."""
        for file in self._files.values():
            file.abandon()


class _File:
    """A file that is only ever appended to, and its digest."""

    def __init__(self, path: Path) -> None:
        self._out: BinaryIO = path.open("wb", buffering=1 << 18)
        self._digest = hashlib.blake2b(digest_size=16)
        self._bytes = 0

    def write(self, values: NDArray[Any]) -> None:
        self._append(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())

    def copy(self, path: Path) -> None:
        """The bytes of another file."""
        with path.open("rb") as file:
            while data := file.read(1 << 22):
                self._append(data)

    def _append(self, data: bytes) -> None:
        self._out.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def close(self) -> dict[str, Any]:
        self._out.flush()
        os.fsync(self._out.fileno())
        self._out.close()
        return {"bytes": self._bytes, "blake2b": self._digest.hexdigest()}

    def abandon(self) -> None:
        try:
            self._out.close()
        except OSError:  # a full disk: what is in the buffer has nowhere to go, and is not wanted
            self._out.raw.close()  # type: ignore[attr-defined]


@final
class Shards:
    """One prepared split, memory-mapped. Opening it checks
    the header and the sizes; `verify` reads every byte.

    Raises:
        DataError: it is not there, of another format, or not whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.header = _read_header(folder)
        self._check_sizes()
        self.ids = self._map("ids", self.header.dtype)
        """Every token of every document, (tokens,)."""
        self.offsets = self._map("offsets", "int64")
        """Document i is ids[offsets[i]:offsets[i + 1]]; (documents + 1,)."""
        self.text_bytes = self._map("text_bytes", "int64")
        """UTF-8 bytes of each document's text, (documents,)."""
        self.columns = {
            name: self._map(name, COLUMNS[name].dtype or self.header.dtype) for name in self.header.columns
        }
        self.run_offsets = {
            n: self._map(f"{n}_offsets", "int64") for n in self.columns if COLUMNS[n].per == "run"
        }

    def __len__(self) -> int:
        return self.header.documents

    def __reduce__(self) -> Any:
        return Shards, (self.folder,)  # a worker maps the files again instead of being sent them

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, (documents,)."""
        return np.diff(self.offsets)

    def document(self, index: int) -> NDArray[np.int64]:
        """Tokens of one document, (n,)."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]].astype(np.int64)

    def column(self, name: str, index: int, part: slice = slice(None)) -> NDArray[Any]:
        """A column of one document: `part` of its values per
        token, or its whole run, or its single value as (1,)."""
        per, values = COLUMNS[name].per, self.columns[name]
        if per == "document":
            return np.array(values[index : index + 1])
        offsets = self.run_offsets[name] if per == "run" else self.offsets
        whole = values[offsets[index] : offsets[index + 1]]
        return whole.astype(np.int64) if per == "run" else np.array(whole[part])

    def verify(self) -> None:
        """Read every byte and compare with the digests.

        Raises:
            DataError: names the file that is not what was written.
        """
        for name, expected in self.header.files.items():
            digest = hashlib.blake2b(digest_size=16)
            with (self.folder / name).open("rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
            if digest.hexdigest() != expected["blake2b"]:
                raise _corrupt(self.folder / name, "its content is not what was written")

    def _check_sizes(self) -> None:
        header, folder = self.header, self.folder
        counts = {"ids": header.tokens, "offsets": header.documents + 1, "text_bytes": header.documents}
        for name, expected in header.files.items():
            path = folder / name
            size = path.stat().st_size if path.is_file() else None
            if size != expected["bytes"]:
                found = "it is missing" if size is None else f"it has {size} bytes"
                raise _corrupt(path, f"{found}, not {expected['bytes']}")
        for name, count in counts.items():
            width = np.dtype(header.dtype if name == "ids" else "int64").itemsize
            if header.files[f"{name}.bin"]["bytes"] != count * width:
                raise _corrupt(folder / f"{name}.bin", f"the header says {count} values of {width} bytes")

    def _map(self, name: str, dtype: DTypeLike) -> NDArray[Any]:
        path = self.folder / f"{name}.bin"
        kind = np.dtype(dtype).newbyteorder("<")
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            return np.zeros(0, kind)
        return np.asarray(np.memmap(path, dtype=kind, mode="r"))  # slices of a plain array are cheaper


def _read_header(folder: Path) -> Header:
    path = folder / "header.json"
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        header = Header(**given)
    except FileNotFoundError:
        raise DataError(
            f"{folder}: no prepared data here (there is no header.json). Run `telos prepare` first."
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise _corrupt(path, f"it cannot be read: {error}") from None
    if header.format != FORMAT:
        raise DataError(
            f"{path}: this is format {header.format}, and {FORMAT} is needed. Run `telos prepare` again."
        )
    if header.dtype != np.dtype(_dtype(header.size)).name:
        raise _corrupt(path, f"{header.dtype} is not the dtype of a vocabulary of {header.size}")
    return header


def _corrupt(path: Path, why: str) -> DataError:
    return DataError(
        f"{path}: the prepared data is damaged: {why}. Delete the folder {path.parent} and prepare again."
    )

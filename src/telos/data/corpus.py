"""Prepared documents as pieces of the length that an objective wants: the `Read` of `batch.py`."""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from telos.batch import Cut, Piece
from telos.data.shards import COLUMNS, Shards
from telos.errors import DataError
from telos.tokenizer import Tokenizer

__all__ = ["Corpus"]


@final
class Corpus:
    """Every piece of a split by its index, by the formula of
    `Cut`: documents in order, the pieces of each in order.

    A document whose stream is no longer than the cut's overlap has no pieces: there is nothing to ask of it.
    Tokens that are put on (begin, end) start a word, and are nothing else that the columns per token tell.

    Raises:
        DataError: the split was prepared with another vocabulary.
    """

    def __init__(self, shards: Shards, cut: Cut, tokenizer: Tokenizer) -> None:
        if shards.header.vocabulary_hash != tokenizer.hash:
            have, want = shards.header.vocabulary_hash, tokenizer.hash
            raise DataError(
                f"{shards.folder}: prepared with vocabulary {have}, not {want}. Run `telos prepare` again."
            )
        self.shards, self.cut, self.tokenizer = shards, cut, tokenizer
        self._columns = tuple(name for name in shards.columns if name != "source")  # that is for the loader
        asked = np.maximum(shards.lengths + cut.begin + cut.end - cut.overlap, 0)
        self.asked: NDArray[np.int64] = np.minimum(asked, cut.step) if cut.whole else asked
        """How many tokens of each document's stream its pieces answer for, (documents,)."""
        self.first: NDArray[np.int64]
        """The first piece of each document, and the number of pieces: (documents + 1,)."""
        self.first = np.concatenate([np.zeros(1, np.int64), np.cumsum(-(-self.asked // cut.step))])

    def __len__(self) -> int:
        return int(self.first[-1])

    @property
    def sources(self) -> NDArray[np.int64] | None:
        """The number of each document's source, (documents,); `None` where the data does not say."""
        column = self.shards.columns.get("source")
        return None if column is None else column.astype(np.int64)

    def asked_of(self, pieces: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens of its document's stream each of these pieces answers for, (n,)."""
        document = np.searchsorted(self.first, pieces, side="right") - 1
        before = (pieces - self.first[document]) * self.cut.step
        asked: NDArray[np.int64] = np.minimum(self.asked[document] - before, self.cut.step)
        return asked

    @property
    def shortened(self) -> int:
        """How many documents are longer than what is read of them, on either side."""
        long = self.asked < self.shards.lengths + self.cut.begin + self.cut.end - self.cut.overlap
        if self.cut.target and "target" in self._columns:
            long |= np.diff(self.shards.run_offsets["target"]) > self.cut.target
        return int(long.sum()) if self.cut.whole else 0

    def pieces_of(self, document: int) -> range:
        """Indices of the pieces of a document."""
        return range(int(self.first[document]), int(self.first[document + 1]))

    def __getitem__(self, index: int) -> Piece:
        if not 0 <= index < len(self):
            raise IndexError(f"piece {index} of {len(self)}")
        document = int(np.searchsorted(self.first, index, side="right")) - 1
        begin, ask, end = self._span(index - int(self.first[document]), self._stream_length(document))
        return Piece(
            ids=self._ids(document, begin, end),
            document=document,
            start=begin,
            ask_from=ask - begin,
            columns={name: self._column(name, document, begin, end) for name in self._columns},
        )

    def _class(self, number: int) -> str:
        """A class by its name: numbers mean something in one split alone."""
        names = self.shards.header.labels
        if number >= len(names):
            raise DataError(
                f"{self.shards.folder}: prepared without the names of its classes. Delete the folder and "
                "prepare again."
            )
        return names[number] if number >= 0 else ""

    def _stream_length(self, document: int) -> int:
        return int(self.shards.lengths[document]) + self.cut.begin + self.cut.end

    def _span(self, k: int, length: int) -> tuple[int, int, int]:
        """Of piece k of a stream: its first place, the first it answers for, and the place after its last."""
        asked = self.cut.overlap + k * self.cut.step
        end = asked + self.cut.step
        return max(0, end - self.cut.length), asked, min(end, length)

    def _inside(self, document: int, begin: int, end: int) -> tuple[int, int, int, int]:
        """The part of the document that a stretch of its stream covers, and how many put-on tokens precede
        and follow it."""
        tokens = int(self.shards.lengths[document])
        first, last = max(0, begin - self.cut.begin), min(tokens, end - self.cut.begin)
        before = int(self.cut.begin and begin == 0)
        return first, last, before, end - begin - before - (last - first)

    def _ids(self, document: int, begin: int, end: int) -> NDArray[np.int64]:
        first, last, before, after = self._inside(document, begin, end)
        offset = int(self.shards.offsets[document])
        ids = np.empty(before + last - first + after, np.int64)
        ids[:before] = self.tokenizer.begin
        ids[before : before + last - first] = self.shards.ids[offset + first : offset + last]
        ids[before + last - first :] = self.tokenizer.end
        return ids

    def _column(self, name: str, document: int, begin: int, end: int) -> NDArray[Any]:
        if name == "label":
            return np.array([self._class(int(self.shards.column(name, document)[0]))])
        if COLUMNS[name].per != "token":
            values = self.shards.column(name, document)
            return values[: self.cut.target or None] if name == "target" else values
        first, last, before, after = self._inside(document, begin, end)
        values = self.shards.column(name, document, slice(first, last))
        if not before and not after:
            return values
        put_on = np.full(1, name.endswith("word_start"), dtype=values.dtype)
        return np.concatenate([put_on[:before], values, put_on[:after]])

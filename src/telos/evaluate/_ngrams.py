"""An index of all runs of n tokens in a split: where they stand, sorted by a hash of what they are.

    copies.bin     a place in ids.bin for each run of n tokens within a document, by (hash, place)
    copies.json    n, how many, of what vocabulary and text; written last, so that half an index is none

The hash is not stored: it is computed again from the tokens at the places that a search looks at. So the
index takes 4 bytes for each token of the text (8 above 2³² tokens). It is built in parts of equal ranges of
the hash, so that one part at a time is in memory.
"""

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from telos.data.shards import Shards
from telos.errors import DataError, explained

__all__ = ["LENGTH", "NGrams"]

LENGTH = 6
"""Tokens of a run: about a verse of a Chinese poem, or five words of English."""
PART = 1 << 23
"""Runs that are sorted at once, about."""
CHUNK = 1 << 22
"""Tokens that are hashed at once."""
FORMAT = 1
_ODD = np.uint64(0x9E3779B97F4A7C15)

Ids = NDArray[Any]
Places = NDArray[np.int64]


@final
class NGrams:
    """The index of a split, found beside it or built there.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        path = shards.folder / "copies.bin"
        kind = np.dtype(np.uint32 if len(shards.ids) < 1 << 32 else np.uint64).newbyteorder("<")
        about = {
            "format": FORMAT,
            "length": LENGTH,
            "vocabulary_hash": shards.header.vocabulary_hash,
            "ids": shards.header.files["ids.bin"]["blake2b"],
        }
        if not _whole(path, about, kind.itemsize):
            _build(shards, path, about, kind)
        size = path.stat().st_size
        self.places: Ids = np.asarray(np.memmap(path, kind, "r")) if size else np.zeros(0, kind)

    def __len__(self) -> int:
        return len(self.places)

    def ranges(self, ids: Ids) -> tuple[Places, Places]:
        """For each run of n tokens of a text, (runs,), where in the index its equals begin and end. They are
        those of equal hash: what stands at these places is still to be compared."""
        wanted = hashes(ids)
        return self._search(wanted, after=False), self._search(wanted, after=True)

    def _search(self, wanted: NDArray[np.uint64], after: bool) -> Places:
        """Binary search for all at once: the first entry that is not less, or that is greater."""
        low, high = np.zeros(len(wanted), np.int64), np.full(len(wanted), len(self.places), np.int64)
        while (going := low < high).any():
            middle = (low + high) // 2
            here = self._hash_at(middle[going])
            right = here <= wanted[going] if after else here < wanted[going]
            low[going], high[going] = (
                np.where(right, middle[going] + 1, low[going]),
                np.where(right, high[going], middle[going]),
            )
        return low

    def _hash_at(self, entries: Places) -> NDArray[np.uint64]:
        runs = self.shards.ids[self.places[entries].astype(np.int64)[:, None] + np.arange(LENGTH)]
        return hashes(runs.reshape(-1), every=LENGTH)


def hashes(ids: Ids, every: int = 1) -> NDArray[np.uint64]:
    """A hash of 64 bits of each run of n tokens that begins at a multiple of `every`; an empty array for
    fewer tokens than n."""
    count = (len(ids) - LENGTH) // every + 1 if len(ids) >= LENGTH else 0
    value = np.zeros(count, np.uint64)
    for offset in range(LENGTH):
        token = ids[offset::every][:count].astype(np.uint64) + np.uint64(1)
        value = (value ^ token) * _ODD
        value ^= value >> np.uint64(29)
    return value


def _whole(path: Path, about: dict[str, Any], width: int) -> bool:
    try:
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        size = path.stat().st_size
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said == {**about, "runs": size // width} and size % width == 0


def _build(shards: Shards, path: Path, about: dict[str, Any], kind: Any) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.with_suffix(".json").unlink(missing_ok=True)
        with unfinished.open("wb") as out:
            runs = 0
            for part in _parts(shards):
                out.write(part.astype(kind).tobytes())
                runs += len(part)
        unfinished.replace(path)
        unfinished.write_text(json.dumps({**about, "runs": runs}, indent=1), encoding="utf-8")
        unfinished.replace(path.with_suffix(".json"))
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise DataError(
            f"{path}: the index of the training text, by which copies are found, cannot be written: "
            f"{explained(error)}"
        ) from None


def _parts(shards: Shards) -> Iterator[Places]:
    """Places of all runs, by (hash, place), a range of hashes after the other."""
    number = max(1, -(-len(shards.ids) // PART))
    edges = [(part << 64) // number for part in range(number + 1)]
    for first, last in pairwise(edges):
        values, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for value, place in _hashed(shards):
            mine = (value >= np.uint64(first)) & (value <= np.uint64(last - 1))
            values.append(value[mine])
            places.append(place[mine])
        yield np.concatenate(places)[np.argsort(np.concatenate(values), kind="stable")]


def _hashed(shards: Shards) -> Iterator[tuple[NDArray[np.uint64], Places]]:
    """Hashes and places of the runs that lie within a document, some after the other, places ascending."""
    total, ends = len(shards.ids), np.asarray(shards.offsets)
    for begin in range(0, total, CHUNK):
        value = hashes(shards.ids[begin : begin + CHUNK + LENGTH - 1])
        place = begin + np.arange(len(value))
        document = np.searchsorted(ends, place, side="right")  # the first end beyond the place
        inside = place + LENGTH <= ends[np.minimum(document, len(ends) - 1)]
        yield value[inside], place[inside]

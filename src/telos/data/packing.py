"""Examples into rows, rows into batches.

Rows are filled best fit, decreasing: the longest example first, each into the fullest row that still holds it
(Johnson et al., 1974, bound the waste: at most two places in eleven, in practice hardly any).
Documents in one row never meet: each has its own segment numbers.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from telos.batch import Ask, Asked, Batch, Example, Pattern, Rows, Side

__all__ = ["Row", "collate", "pack", "singly"]

Row = list[Example]
"""What stands in one row of a batch, from left to right."""

_NOTHING = Side.of(np.zeros(0, np.int64), causal=False)
"""The source of an example without one, beside others that have one."""
_MULTIPLE = 8  # rows are padded to a multiple of this, so that few different shapes occur


def pack(examples: Sequence[Example], window: int) -> list[Row]:
    """The examples in rows of at most `window` places on either side, best fit, decreasing."""
    order = sorted(range(len(examples)), key=lambda index: -_longest(examples[index]))
    rows: list[Row] = []
    open_rows: list[tuple[int, int, int]] = []  # (places left, source places left, row), ascending
    least, least_source = (min(lengths, default=0) for lengths in zip(*map(_lengths, examples), strict=True))
    for index in order:
        example = examples[index]
        main, source = _lengths(example)
        _assert_fits(example, window)
        found = _best(open_rows, main, source)
        left, source_left, row = open_rows.pop(found) if found >= 0 else (window, window, len(rows))
        if found < 0:
            rows.append([])
        rows[row].append(example)
        if left - main >= least and source_left - source >= least_source:  # another may still fit
            insort(open_rows, (left - main, source_left - source, row))
    return rows


def singly(examples: Sequence[Example], window: int) -> list[Row]:
    """One example per row, the shortest first, so that rows of like length meet in a batch."""
    for example in examples:
        _assert_fits(example, window)
    return [[example] for example in sorted(examples, key=_longest)]


def collate(rows: Sequence[Row], window: int | None = None) -> Batch:
    """Rows as one batch, padded on the right to the longest row, rounded up but never beyond `window`.

    Each example's segments are renumbered so that they are unique within its row, alike on both sides. An
    example without a source, beside others that have one, has an empty one. What is asked is gathered per
    (head, term, negative) and padded to a bucket with weight 0. `packed` is true if some row holds more than
    one segment or hides a place, or is padded where the pattern does not hide padding by itself.
    """
    examples = [example for row in rows for example in row]
    main = _side_rows([[example.main for example in row] for row in rows], _offsets(rows), window)
    pattern = _common_pattern(examples)
    source = None
    if any(example.source is not None for example in examples):
        sides = [[example.source or _NOTHING for example in row] for row in rows]
        source = _side_rows(sides, _offsets(rows), window)
    asks, asked = _gather(rows, main["ids"].shape[1])
    return Batch(
        main=_rows(main, pattern),
        asks=asks,
        source=None if source is None else _rows(source, "general" if source["order"].any() else "full"),
        asked=asked,
        samples=tuple(tuple(example.sample for example in row if example.sample >= 0) for row in rows),
    )


def _lengths(example: Example) -> tuple[int, int]:
    return len(example.main), 0 if example.source is None else len(example.source)


def _longest(example: Example) -> int:
    return max(_lengths(example))


def _assert_fits(example: Example, window: int) -> None:
    main, source = _lengths(example)
    assert 0 < main <= window and source <= window, f"{main} + {source} places, window {window}"


def _best(open_rows: list[tuple[int, int, int]], main: int, source: int) -> int:
    """The fullest row with room for both sides, or −1."""
    for found in range(bisect_left(open_rows, (main, source, -1)), len(open_rows)):
        if open_rows[found][1] >= source:
            return found
    return -1


def _offsets(rows: Sequence[Row]) -> list[list[int]]:
    """What to add to each example's segment numbers, so that they are unique within the row."""
    offsets = []
    for row in rows:
        starts, used = [], 0
        for example in row:
            starts.append(used)
            sides = (example.main, example.source or _NOTHING)
            used += 1 + max(int(side.segment.max(initial=0)) for side in sides)
        offsets.append(starts)
    return offsets


def _side_rows(
    rows: Sequence[Sequence[Side]], offsets: list[list[int]], window: int | None
) -> dict[str, NDArray[Any]]:
    """Matrices (rows, places) of one side."""
    longest = max(sum(len(side) for side in row) for row in rows)
    rounded = -(-max(longest, 1) // _MULTIPLE) * _MULTIPLE
    shape = (len(rows), rounded if window is None else max(longest, min(rounded, window)))
    made: dict[str, NDArray[Any]]
    made = {name: np.zeros(shape, np.int64) for name in ("ids", "positions", "order")}
    made["segment"] = np.full(shape, -1, np.int64)
    made["seen"] = np.zeros(shape, np.bool_)
    if any(side.types is not None for row in rows for side in row):
        made["types"] = np.zeros(shape, np.int64)
    for index, row in enumerate(rows):
        start = 0
        for side, offset in zip(row, offsets[index], strict=True):
            _lay(made, side, offset, index, start)
            start += len(side)
    return made


def _lay(made: dict[str, NDArray[Any]], side: Side, offset: int, row: int, start: int) -> None:
    """One side of one example into its place of the matrices."""
    place = (row, slice(start, start + len(side)))
    made["ids"][place] = side.ids
    made["positions"][place] = side.positions
    made["order"][place] = side.order
    made["segment"][place] = side.segment + offset
    made["seen"][place] = side.seen
    if side.types is not None:
        made["types"][place] = side.types


def _rows(made: dict[str, NDArray[Any]], pattern: Pattern) -> Rows:
    segment, real = made["segment"], made["segment"] >= 0
    several = bool(((segment != segment[:, :1]) & real).any())
    hidden = bool((real & ~made["seen"]).any())
    padded = pattern != "causal" and not bool(real.all())
    tensors = {name: torch.from_numpy(array) for name, array in made.items()}
    return Rows(**tensors, pattern=pattern, packed=several or hidden or padded)


def _common_pattern(examples: Sequence[Example]) -> Pattern:
    patterns = {example.pattern for example in examples}
    return patterns.pop() if len(patterns) == 1 else "general"


def _gather(rows: Sequence[Row], width: int) -> tuple[tuple[Asked, ...], dict[str, float]]:
    """All asks, by what is asked of whom, with flat places; and the weight asked under each term."""
    groups: dict[tuple[str, str, bool, int, bool], list[tuple[int, Ask]]] = defaultdict(list)
    asked: dict[str, float] = defaultdict(float)
    for index, row in enumerate(rows):
        start = index * width
        for example in row:
            for ask in example.asks:
                unsigned = ask.at.astype(np.int64, copy=False).view(np.uint64)  # what is below 0 is large
                assert not len(unsigned) or int(unsigned.max()) < len(example.main), ask
                key = (ask.head, ask.name, ask.negative, ask.target.ndim, ask.of is not None)
                groups[key].append((start, ask))
                asked[ask.name] += float(ask.weight.sum(dtype=np.float64))
            start += len(example.main)
    return tuple(_asked(*key[:3], groups[key]) for key in sorted(groups)), dict(asked)


def _asked(head: str, term: str, negative: bool, asks: list[tuple[int, Ask]]) -> Asked:
    at = np.concatenate([ask.at.astype(np.int64) + start for start, ask in asks])
    target = np.concatenate([ask.target for _, ask in asks])
    spare = _bucket(len(target)) - len(target)
    of = _owners([ask for _, ask in asks], len(target) + spare)
    target = target.astype(np.int64 if target.ndim == 1 else np.float32)
    weight = np.concatenate([ask.weight for _, ask in asks]).astype(np.float32)
    return Asked(
        head=head,
        term=term,
        at=_padded(at, spare if of is None else len(of) - len(at)),
        target=_padded(target, spare),
        weight=_padded(weight, spare),
        negative=negative,
        of=None if of is None else torch.from_numpy(of),
    )


def _owners(asks: Sequence[Ask], questions: int) -> NDArray[np.int64] | None:
    """Which question each place belongs to, where they have several; `questions` for the places that fill up
    a bucket."""
    found, first = [], 0
    for ask in asks:
        if ask.of is None:
            return None
        found.append(ask.of + first)
        first += len(ask.target)
    of = np.concatenate(found)
    return np.pad(of, (0, _bucket(len(of)) - len(of)), constant_values=questions).astype(np.int64)


def _bucket(count: int) -> int:
    """The next multiple of a sixteenth of its power of two: few sizes, at most a sixteenth to spare."""
    grain = max(_MULTIPLE, 1 << max(count.bit_length() - 5, 0))
    return max(-(-count // grain), 1) * grain


def _padded(array: NDArray[Any], spare: int) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([array, np.zeros((spare, *array.shape[1:]), array.dtype)]))

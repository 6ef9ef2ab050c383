"""Decoders that keep what was read: a key–value cache or a recurrent state, for all rows side by side.

Where a row has no places left, it slides: it goes on from its last half window, the tokens before that are
forgotten, and positions begin at 0 again, as in training they do in each window of a long document. So a row
sees half a window at least, and for each half window that is written half a window is read once more. Rows
that slide are read on their own, and what comes of it is laid over what the state held of them; the others go
on as they were.

Rows that join have been read on their own, too; their state is then laid beside that of the others
(`generate/_state.py`). As rows slide, come and go, a cache fills with places that no row sees any more: it is
rid of them every half window.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from telos.batch import Rows, Side
from telos.errors import ConfigError
from telos.generate._base import Decoder
from telos.generate._rows import Gap, Row, closed
from telos.generate._state import beside, lay_over

__all__ = ["Part", "Past", "padded", "sources_of"]


class Past(Decoder):
    """The state of all rows, and for each row where in its tokens the part begins that the state holds."""

    reads: ClassVar[frozenset[str]] = frozenset({"constraint"})

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.starts = [0] * len(self.rows)
        self.read = [0] * len(self.rows)
        self.state: Any = None
        self._always: Tensor | None = None
        """Which outputs are never drawn, where that is always the same."""
        self.added = 0
        """Places that the state has got since it was last rid of those that no row sees."""
        for row in self.rows:
            if isinstance(row.prompt, Gap) and self.window:
                row.length = min(row.length, self._room(row))

    def _room(self, row: Row) -> int:
        """How much can be said of a gap without forgetting what is around it.

        Raises:
            ConfigError: nothing.
        """
        read = max(row.given, len(row.source) if row.source else 0)
        if read > self.window:
            raise ConfigError(
                f"the text around the gap takes {read} places, and the model has {self.window}: give less of "
                "it, the part that is nearest to the gap"
            )
        return self.window - row.given + 1

    def logits(self, going: Sequence[int]) -> Tensor:
        """The logits (rows that are going, outputs) of the next token of these rows."""
        self.make_room()
        parts = [self.part(*each) for each in zip(self.rows, self.starts, self.read, strict=True)]
        hidden = self.encode(parts)
        self.read = [read + len(part.ids) for read, part in zip(self.read, parts, strict=True)]
        last = torch.tensor([len(parts[row].ids) - 1 for row in going], device=self.device)
        return self.network.logits(hidden[torch.tensor(list(going), device=self.device), last])

    def encode(self, parts: Sequence["Part"]) -> Tensor:
        """Hidden states (rows, places, width) of one part of each row, which the state holds afterwards."""
        source = self._sources(self.rows) if self.state is None else None
        goes_on = torch.full((len(parts),), self.state is not None, device=self.device)
        rows = padded(parts, self.tokenizer.pad, self.device)
        self.added += rows.shape[1]
        hidden, self.state = self.network.encode(rows, source, self.state, goes_on)
        return hidden

    def _sources(self, rows: Sequence[Row]) -> Rows | None:
        return sources_of([row.source for row in rows], self.window, self.tokenizer.pad, self.device)

    def make_room(self) -> None:
        """Rows without a place for another token slide; places that no row sees any more are given up."""
        slid = self.slide()
        if self.state is None:
            return
        if slid:
            self._read_again(slid)
        if self.window and self.added >= self.window // 2:
            going = [index for index, row in enumerate(self.rows) if not row.finished]
            self.state = self.network.narrowed(self.state, torch.tensor(going, device=self.device))
            self.added = 0

    def _read_again(self, slid: Sequence[int]) -> None:
        """Of these rows, alone, all that they see now but the last token, which is read with those of the
        others."""
        rows = [self.rows[index] for index in slid]
        parts = [self.part(self.rows[index], self.starts[index], self.read[index]) for index in slid]
        known = [Part(part.ids[:-1], part.positions[:-1], part.order[:-1]) for part in parts]
        begin = torch.zeros(len(slid), dtype=torch.bool, device=self.device)
        read = padded(known, self.tokenizer.pad, self.device)
        _, state = self.network.encode(read, self._sources(rows), None, begin)
        lay_over(self.state, torch.tensor(slid, device=self.device), state)
        for index, part in zip(slid, known, strict=True):
            self.read[index] += len(part.ids)

    def forget(self) -> None:
        """All rows are read once more."""
        self.state, self.read, self.added = None, list(self.starts), 0

    def goes_with(self, other: Decoder) -> bool:
        """Rows with a source and rows without one keep different things."""
        return super().goes_with(other) and has_source(self.rows) == has_source(other.rows)

    def join(self, other: Decoder) -> None:
        assert isinstance(other, Past)
        super().join(other)
        self.starts, self._always = self.starts + other.starts, None
        if self.state is None or other.state is None:
            self.forget()
            return
        self.state, self.read = beside(self.state, other.state), self.read + other.read
        self.added = max(self.added, other.added)

    def keep(self, chosen: Sequence[int]) -> None:
        super().keep(chosen)
        self.starts, self.read = ([each[index] for index in chosen] for each in (self.starts, self.read))
        self._always = None
        if self.state is not None:
            rows = torch.tensor(chosen, dtype=torch.int64, device=self.device)
            self.state = self.network.chosen(self.state, rows)

    def shut(self, going: Sequence[int], outputs: int) -> Tensor:
        """Which outputs may not be drawn now: (rows that are going, outputs)."""
        rows = [self.rows[row] for row in going]
        if any(row.matcher for row in rows):
            return closed(rows, outputs).to(self.device)
        if self._always is None:
            self._always = closed(self.rows, outputs).to(self.device)
        return self._always if len(going) == len(self.rows) else self._always[list(going)]

    def part(self, row: Row, start: int, read: int) -> "Part":
        """What the state does not hold yet; nothing of a finished row."""
        if row.finished:
            return Part([], *(np.zeros(0, np.int64) for _ in range(2)))
        return Part(row.ids[read:], *row.places(start, read))

    def slide(self) -> list[int]:
        """Rows without a place for another token go on from their last half window, of which the state holds
        nothing yet: their numbers."""
        slid = []
        for index, row in enumerate(self.rows):
            if self.window and not row.finished and len(row.ids) - self.starts[index] > self.window:
                self.starts[index] = self.read[index] = len(row.ids) - max(1, self.window // 2)
                slid.append(index)
        return slid


class Part(NamedTuple):
    """Places of one row (n,)."""

    ids: Sequence[int] | NDArray[np.int64]
    positions: NDArray[np.int64]
    order: NDArray[np.int64]


def has_source(rows: Sequence[Row]) -> bool:
    """Whether there is something that is read before anything is said."""
    return any(row.source for row in rows)


def sources_of(sources: Sequence[Side | None], window: int, pad: int, device: torch.device) -> Rows | None:
    """The rows that are read before anything is said: of what is longer than the window, the end."""
    if not any(sources):
        return None
    parts = []
    for side in sources:
        side = side or Side.of(np.zeros(0, np.int64), causal=False)
        kept = slice(max(0, len(side) - window) if window else 0, None)
        parts.append(Part(side.ids[kept], side.positions[kept], side.order[kept]))
    return padded(parts, pad, device)


def padded(parts: Sequence[Part], pad: int, device: torch.device) -> Rows:
    """Rows (B, longest part), padded on the right."""
    shape = (len(parts), max(1, *(len(part.ids) for part in parts)))
    ids, segment, positions, order = (np.full(shape, value, np.int64) for value in (pad, -1, 0, 0))
    if shape[1] == 1:  # as always but in the beginning: with many rows, one assignment each would take long
        real = [row for row, part in enumerate(parts) if len(part.ids)]
        ids[real, 0], segment[real] = [parts[row].ids[0] for row in real], 0
        positions[real, 0] = [parts[row].positions[0] for row in real]
        order[real, 0] = [parts[row].order[0] for row in real]
    else:
        for row, part in enumerate(parts):
            end = len(part.ids)
            ids[row, :end], segment[row, :end] = part.ids, 0
            positions[row, :end], order[row, :end] = part.positions, part.order
    tensors = [torch.from_numpy(array).to(device) for array in (ids, positions, segment, order)]
    causal = bool((positions == order).all())
    return Rows(
        **dict(zip(("ids", "positions", "segment", "order"), tensors, strict=True)),
        seen=tensors[2] >= 0,
        pattern="causal" if causal else "general",
        packed=not causal,
    )

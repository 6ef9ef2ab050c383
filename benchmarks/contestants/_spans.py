"""T5's span corruption as published (Raffel et al., 2020, section 3.1.4), for libraries that have none.

15 % of a text's tokens are hidden in spans of 3 on average. Hidden and visible tokens are each split at
random into as many parts as there are spans, and laid in turn, a visible part first. What is read has a mark
in place of each span; what is said is each span after its mark. Both end with an end token.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Collator", "text_length"]

DENSITY, MEAN = 0.15, 3.0
Ids = NDArray[np.int64]


def _counts(length: int) -> tuple[int, int]:
    """Hidden tokens of a text, and their spans."""
    hidden = min(max(round(length * DENSITY), 1), length - 1)
    return hidden, max(round(hidden / MEAN), 1)


def text_length(window: int) -> int:
    """Tokens of the longest text of which no more than `window` are read: 568 for 512."""
    length = window
    while (after := length + 1) - _counts(after)[0] + _counts(after)[1] + 1 <= window:
        length = after
    return length


def _split(total: int, parts: int, draw: np.random.Generator) -> Ids:
    """`total` as a sum of so many numbers ≥ 1."""
    cuts = 1 + np.sort(draw.choice(total - 1, parts - 1, replace=False))
    return np.diff(cuts, prepend=0, append=total)


class Collator:
    """Rows {"input_ids": (n,)} of one length to a batch for an encoder and a decoder."""

    def __init__(self, marks: Sequence[int], end: int) -> None:
        self._marks, self._end = np.array(marks, np.int64), end
        self._draw = np.random.default_rng(0)

    def __call__(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """`input_ids` (B, read) and `labels` (B, said)."""
        both = [self._corrupted(np.asarray(row["input_ids"], np.int64)) for row in rows]
        read, said = (torch.from_numpy(np.stack(side)) for side in zip(*both, strict=True))
        return {"input_ids": read, "labels": said}

    def _corrupted(self, ids: Ids) -> tuple[Ids, Ids]:
        hidden, spans = _counts(len(ids))
        seen, out = _split(len(ids) - hidden, spans, self._draw), _split(hidden, spans, self._draw)
        begins = np.cumsum(seen) + np.concatenate([[0], np.cumsum(out)[:-1]])
        covered = np.repeat(np.tile([False, True], spans), np.stack([seen, out], 1).reshape(-1))
        marks = self._marks[:spans]
        read = ids.copy()
        read[begins] = marks
        visible = ~covered
        visible[begins] = True
        said = np.insert(ids[covered], np.concatenate([[0], np.cumsum(out)[:-1]]), marks)
        return np.append(read[visible], self._end), np.append(said, self._end)

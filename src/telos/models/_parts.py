"""Attention in parts: where rows hold several documents, or places see only what is near, only those products
are computed that can count.

A mask (B, 1, T, T) hides what must not be seen, but all T² products of a row are made first. Here rows are
cut into pieces instead. A document is one; where places see no further than `reach`, a long document is
several: some queries, and the keys within their reach. Pieces of like length make a part, which is one call
of `attention`, with no mask or one as small as the pieces. What a shorter piece lacks is filled up with its
last place again: nothing that is real sees these places, and nothing is asked of them.

    rows        a a a a b b · ·     pieces    a a a a     b b     ·     ·
                c c d d d d d d               c c     d d d d d d

Which pieces there are is read from the rows, so this is for processors, where reading them stops nothing.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, compiler
from torch.autograd.function import once_differentiable

from telos import switches
from telos.batch import Rows
from telos.models._attention import added, attention

__all__ = ["Part", "Parts", "cut", "in_parts"]

Places = NDArray[np.int64]

CAUSAL, FULL, MASKED = 0, 1, 2
"""What places of a piece see: those before, all, or what the rule says."""
CALL, PLACE, SMALL = 1 << 13, 64, 32
"""What a call costs, and in a piece each place up to so many, in products of a query and a key."""
WORTH = 0.8
"""Taken if it costs less than so much of what the products of whole rows cost."""
CHUNK = 64
"""Queries of a piece of a long document, at least, where places see only what is near."""


class Part(NamedTuple):
    """Pieces of like length."""

    pieces: int
    queries: int
    """Of each piece, filled up."""
    keys: int
    mask: Tensor | None
    """(pieces, 1, queries or 1, keys), 0 where a place is seen, else −∞; or none."""
    causal: bool


class Parts(NamedTuple):
    """How the places of rows are laid out as pieces, part by part."""

    parts: tuple[Part, ...]
    queries: Tensor
    """Flat places of the queries of all pieces, one after the other."""
    answers: Tensor
    """(B·T,): where among these each place is answered."""
    keys: Tensor
    """Flat places of the keys of all pieces."""


class _Pieces(NamedTuple):
    """Stretches of flat places: what looks, what is looked at, and how."""

    query: Places
    queries: Places
    key: Places
    keys: Places
    kind: Places

    def of(self, chosen: NDArray[Any]) -> "_Pieces":
        return _Pieces(*(each[chosen] for each in self))


def cut(rows: Rows, dtype: torch.dtype, reach: int = 0) -> Parts | None:
    """The parts of rows on a processor, by the rule of `may_see`, with masks of this type; with a reach, of
    places that are at most so many positions apart. None where the rows do not fall into stretches of one
    segment each, or where that would save too little."""
    here = rows.segment.device.type == "cpu" and not compiler.is_compiling()
    if not (here and switches.on("parts")):
        return None
    pieces = _pieces(rows, reach)
    if pieces is None:
        return None
    wide, far = _rounded(pieces.queries), _rounded(pieces.keys)
    kinds = np.stack((pieces.kind, wide, far))
    groups, which = np.unique(kinds, axis=1, return_inverse=True)
    cost = int((wide * far + PLACE * np.minimum(wide, SMALL)).sum()) + CALL * groups.shape[1]
    count, places = rows.shape
    if cost > WORTH * count * places**2:
        return None
    return _laid_out(rows, dtype, reach, pieces, groups, which.ravel())


def _pieces(rows: Rows, reach: int) -> _Pieces | None:
    """Every stretch of a segment, and every padding place, as a piece; long ones with a reach in several."""
    segment = rows.segment.numpy()
    first = np.ones(segment.shape, np.bool_)
    first[:, 1:] = (segment[:, 1:] != segment[:, :-1]) | (segment[:, 1:] < 0)
    new = first.reshape(-1)
    start = np.flatnonzero(new)
    named = np.stack((start // segment.shape[1], segment.ravel()[start]))[:, segment.ravel()[start] >= 0]
    if np.unique(named, axis=1).shape[1] < named.shape[1]:
        return None  # a segment that goes on after another one
    length = np.diff(start, append=new.size)
    pieces = _Pieces(start, length, start, length, _kinds(rows, new, start, length))
    return _nearby(rows, pieces, new, reach) if reach else pieces


def _kinds(rows: Rows, new: NDArray[np.bool_], start: Places, length: Places) -> Places:
    """What the places of each stretch see, read off their order."""
    step = np.diff(rows.order.numpy().ravel(), prepend=0)
    rises = np.logical_and.reduceat(new | (step > 0), start)
    stays = np.logical_and.reduceat(new | (step == 0), start)
    seen = np.logical_and.reduceat(rows.seen.numpy().ravel(), start)
    kind = np.where(seen & rises, CAUSAL, np.where(seen & stays, FULL, MASKED))
    return np.where(length == 1, CAUSAL, kind)


def _nearby(rows: Rows, whole: _Pieces, new: NDArray[np.bool_], reach: int) -> _Pieces:
    """The same pieces for places that see only so far; positions that do not count up leave theirs whole."""
    step = np.diff(rows.positions.numpy().ravel(), prepend=0)
    straight = np.logical_and.reduceat(new | (step == 1), whole.query)
    near = straight & (whole.queries <= reach + 1)
    size = _chunk(reach)
    times = np.where(straight & (whole.queries > size + reach), -(-whole.queries // size), 1)
    ordinal = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    long = whole.of(np.repeat(np.arange(len(times)), times))
    parted = np.repeat(times > 1, times)
    end = long.query + long.queries
    query = long.query + size * ordinal
    stop = np.where(parted, np.minimum(query + size, end), end)
    ahead = np.where(long.kind == CAUSAL, 0, reach)
    key = np.where(parted, np.maximum(query - reach, long.query), long.query)
    last = np.where(parted, np.minimum(stop + ahead, end), end)
    kind = np.where(np.repeat(near, times), long.kind, MASKED)
    return _Pieces(query, stop - query, key, last - key, kind)


def _chunk(reach: int) -> int:
    """Queries of a piece, where places see only so far."""
    return max(reach, CHUNK)


def _rounded(length: Places) -> Places:
    """Up to a multiple of at most an eighth, so that pieces of like length meet in one call; 1 stays 1."""
    grain = np.maximum(8, 1 << np.maximum(np.frexp(length)[1] - 4, 0))
    return np.where(length == 1, 1, -(-length // grain) * grain)


def _laid_out(
    rows: Rows, dtype: torch.dtype, reach: int, pieces: _Pieces, groups: Places, which: Places
) -> Parts:
    parts, queries, keys = [], [], []
    answers = np.empty(rows.segment.numel(), np.int64)
    done = 0
    for number, (kind, wide, far) in enumerate(groups.T.tolist()):
        these = pieces.of(which == number)
        query, key = _places(these.query, these.queries, wide), _places(these.key, these.keys, far)
        real = np.arange(wide) < these.queries[:, None]
        answers[query[real]] = done + np.flatnonzero(real)
        done += query.size
        seen = _mask(rows, reach, kind, query, key, these.keys)
        mask = None if seen is None else added(seen, dtype)
        parts.append(Part(len(query), wide, far, mask, kind == CAUSAL))
        queries.append(query.ravel())
        keys.append(key.ravel())
    asked = torch.from_numpy(np.concatenate(queries))
    alike = all(one is other for one, other in zip(pieces[:2], pieces[2:4], strict=True))
    looked = asked if alike else torch.from_numpy(np.concatenate(keys))
    return Parts(tuple(parts), asked, torch.from_numpy(answers), looked)


def _places(start: Places, length: Places, longest: int) -> Places:
    """(pieces, longest): the places of each piece, its last one repeated."""
    return start[:, None] + np.minimum(np.arange(longest), length[:, None] - 1)


def _mask(rows: Rows, reach: int, kind: int, query: Places, key: Places, length: Places) -> Tensor | None:
    """The rule of `may_see` within pieces, where nothing that fills up is seen; none if nothing is hidden."""
    there = np.arange(key.shape[1]) < length[:, None]
    if kind == CAUSAL or (kind == FULL and there.all()):
        return None
    if kind == FULL:
        return torch.from_numpy(there[:, None, None, :])
    order, positions = rows.order.numpy().ravel(), rows.positions.numpy().ravel()
    seen = (order[key][:, None, :] <= order[query][:, :, None]) & rows.seen.numpy().ravel()[key][:, None, :]
    seen |= query[:, :, None] == key[:, None, :]
    if reach:
        seen &= np.abs(positions[query][:, :, None] - positions[key][:, None, :]) <= reach
    return torch.from_numpy((seen & there[:, None, :])[:, None])


def in_parts(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    parts: Parts,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """What places find in others, (B, heads, T, width of a head), of rows that `parts` were cut from.

    `queries` (B, heads, T, width); keys and values (B, key heads, T, width)."""
    rows, heads, places, _ = queries.shape
    alike = parts.answers if parts.keys is parts.queries else None
    query = _take(_flat(queries), parts.queries, parts.answers)
    key, value = (_take(_flat(each), parts.keys, alike) for each in (keys, values))
    asked = query.split([part.pieces * part.queries for part in parts.parts])
    looked = [each.split([part.pieces * part.keys for part in parts.parts]) for each in (key, value)]
    found = []
    for part, *these in zip(parts.parts, asked, *looked, strict=True):
        q, k, v = (_pieced(each, part.pieces) for each in these)
        found.append(attention(q, k, v, part.mask, causal=part.causal, dropout=dropout))
    answered: Tensor = _take(torch.cat([_flat(each) for each in found]), parts.answers, None)
    return answered.view(rows, places, heads, -1).transpose(1, 2)


def _flat(heads: Tensor) -> Tensor:
    """(B, heads, T, width) → (B·T, heads, width)."""
    return heads.transpose(1, 2).flatten(0, 1)


def _pieced(flat: Tensor, pieces: int) -> Tensor:
    """(pieces · longest, heads, width) → (pieces, heads, longest, width)."""
    return flat.view(pieces, -1, *flat.shape[1:]).transpose(1, 2)


class _Take(torch.autograd.Function):
    """`x[places]`; where that is known, `back` says where the gradient of each of x stands."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, back: Tensor | None) -> Tensor:
        ctx.many = len(x)
        ctx.save_for_backward(places, back)
        return x.index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        places, back = ctx.saved_tensors
        if back is not None:
            return upstream.index_select(0, back), None, None
        sums = upstream.new_zeros(ctx.many, *upstream.shape[1:])
        return sums.index_add_(0, places, upstream), None, None


_take: Any = _Take.apply

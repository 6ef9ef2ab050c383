"""T5's layers: attention that knows places by their distance, attention to another side, feed-forwards, and
the blocks that they make (Raffel et al., 2020).

A bias per head is added to what attention says of two places, looked up by the bucket of their distance. Half
of the buckets hold one distance each; the rest grow like powers, and the last holds all that is further away:

    bucket(n) = n                                                          for n < half
                half + ⌊(buckets − half) · log(n / half) / log(distance / half)⌋, at most buckets − 1

with half = ⌊buckets / 2⌋. Where both directions are seen, half of all buckets is for places that come later.

Logits of attention are not scaled, so queries begin as small as a scale would make them: T5 was trained by
Adafactor, whose steps are shares of what they change. Steps of AdamW and Muon have one size for all matrices,
far too large for such small ones. So the weights are kept as large as those of the keys, times `root(k)`
for heads of width k, and logits are divided by that: the function is T5's to the bit, since a power of two
takes nothing from a number.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from telos.batch import Rows, may_see
from telos.models._attention import added, attention
from telos.models._dropout import Dropout, relu_dropout
from telos.models._layers import Past

__all__ = [
    "Attend",
    "GatedGelu",
    "Reading",
    "ReadingBlock",
    "RelativeBias",
    "RelativeBlock",
    "Relu",
    "backwards",
    "both_ways",
    "bucket_starts",
    "reading",
    "root",
]


def root(number: int) -> float:
    """The power of two that is nearest to √number, by its logarithm."""
    return 2.0 ** round(math.log2(number) / 2)


def bucket_starts(buckets: int, distance: int) -> tuple[int, ...]:
    """The smallest distance of each bucket but the first: the formula above in exact arithmetic."""
    half = buckets // 2
    rest = buckets - half
    grown = (_smallest(half ** (rest - k) * distance**k, rest) for k in range(1, rest))
    return (*range(1, half + 1), *grown)


def _smallest(value: int, power: int) -> int:
    """The smallest n with n^power ≥ value."""
    n = round(math.exp(math.log(value) / power))
    while n**power >= value:
        n -= 1
    while n**power < value:
        n += 1
    return n


@lru_cache(maxsize=16)
def _starts_on(device: torch.device, buckets: int, distance: int) -> Tensor:
    return torch.tensor(bucket_starts(buckets, distance), device=device)


def _bucket(away: Tensor, buckets: int, distance: int) -> Tensor:
    """Buckets of distances ≥ 0."""
    return torch.bucketize(away, _starts_on(away.device, buckets, distance), right=True)


def both_ways(offset: Tensor, buckets: int, distance: int) -> Tensor:
    """Buckets of offsets (where the place that is seen is, less where the one that looks is), any shape."""
    side = buckets // 2
    return (offset > 0) * side + _bucket(offset.abs(), side, distance)


def backwards(offset: Tensor, buckets: int, distance: int) -> Tensor:
    """The same where only what came before is seen; what comes later is as near as the place itself."""
    return _bucket((-offset).clamp(min=0), buckets, distance)


class RelativeBias(nn.Module):
    """What is added to the logits of attention: a number per head and bucket, or −∞ for what is not seen."""

    def __init__(self, heads: int, buckets: int, bucket: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.bucket = bucket

    def forward(self, query: Rows, key: Rows, kind: torch.dtype) -> Tensor:
        """(B, heads, queries, keys), as `may_see` has it; no row of it is −∞ throughout."""
        offset = key.positions[:, None, :] - query.positions[:, :, None]
        bucket = self.bucket(offset)
        if bucket.device.type == "cpu":
            bias: Tensor = _looked_up(self.table.weight, bucket, kind)
        else:
            bias = self.table(bucket).to(kind).permute(0, 3, 1, 2).contiguous()
        return bias + added(may_see(query, key), kind)


class _LookUp(torch.autograd.Function):
    """Rows of a table (buckets, heads), as PyTorch's embedding has them, for (B, queries, keys) of them: (B,
    heads, queries, keys) in a type of their own. Its gradient is added up head by head, and not pair by pair:
    on a CPU nine times as fast."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, bucket: Tensor, kind: torch.dtype) -> Tensor:
        ctx.save_for_backward(bucket)
        ctx.table = table.shape, table.dtype
        return functional.embedding(bucket, table.to(kind)).permute(0, 3, 1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (bucket,) = ctx.saved_tensors
        (buckets, heads), kind = ctx.table
        sums = upstream.new_zeros(len(bucket), heads, buckets, dtype=kind)
        each = bucket.flatten(1).unsqueeze(1).expand(-1, heads, -1)
        return sums.scatter_add_(2, each, upstream.flatten(2).to(kind)).sum(0).T, None, None


_looked_up: Any = _LookUp.apply


class Reading(NamedTuple):
    """What the places of one side may see of the other."""

    mask: Tensor
    """(B, 1, places, places of the other side), 0 where it is seen, else −∞; 0 throughout for the blind."""
    blind: Tensor
    """(B, places, 1): the place sees nothing there, and nothing is added to it."""


def reading(segment: Tensor, other: Tensor, seen: Tensor, kind: torch.dtype) -> Reading:
    """Equal segment and seen: `segment` (B, T) looks at `other` (B, S), of which `seen` may be seen; the mask
    is of this type."""
    mask = (segment[:, :, None] == other[:, None, :]) & seen[:, None, :]
    blind = ~mask.any(2, keepdim=True)
    return Reading(added((mask | blind).unsqueeze(1), kind), blind)


class Attend(nn.Module):
    """Multi-head attention without a scale but the one that `query` is kept with, `enlarged`; the heads are
    as wide as they are told to be.

    The rows of `memory` are the keys', then the values'.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.enlarged = root(head_width)
        inner = heads * head_width
        self.query = nn.Linear(width, inner, bias=False)
        self.memory = nn.Linear(width, 2 * inner, bias=False)
        self.outward = nn.Linear(inner, width, bias=False)

    def remember(self, x: Tensor) -> Past:
        """Keys and values of `x` (B, T, width)."""
        keys, values = self.memory(x).chunk(2, -1)
        return Past(self._split(keys), self._split(values))

    def forward(self, x: Tensor, memory: Past, mask: Tensor) -> Tensor:
        """What places `x` (B, T, width) find in `memory`; `mask` is added to logits."""
        mixed = attention(
            self._split(self.query(x)),
            memory.keys,
            memory.values,
            mask,
            dropout=self.dropout if self.training else 0.0,
            scale=1 / self.enlarged,
        )
        out: Tensor = self.outward(mixed.transpose(1, 2).flatten(2))
        return out

    def weights(self, x: Tensor, memory: Past, mask: Tensor) -> Tensor:
        """The shares in which places `x` (B, T, width) look at those of `memory`: (B, heads, T, S)."""
        logits = self._split(self.query(x)) @ memory.keys.transpose(2, 3) / self.enlarged
        return (logits + mask).softmax(-1)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class Relu(nn.Module):
    """Two matrices, max(0, ·) and dropout between them."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.inward = nn.Linear(width, inner, bias=False)
        self.outward = nn.Linear(inner, width, bias=False)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.outward(self.between(self.inward(x)))
        return out

    def between(self, x: Tensor) -> Tensor:
        """What is done between the two matrices."""
        return relu_dropout(x, self.drop.p, self.training)


class GatedGelu(Relu):
    """gelu(x · gate) ⊙ (x · up), then down (Shazeer, 2020), with the tanh form of GELU.

    The rows of `inward` are the gate's, which go through the GELU, then up's.
    """

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__(width, inner, dropout)
        self.inward = nn.Linear(width, 2 * inner, bias=False)

    def between(self, x: Tensor) -> Tensor:
        gate, up = x.chunk(2, -1)
        out: Tensor = self.drop(functional.gelu(gate, approximate="tanh") * up)
        return out


class RelativeBlock(nn.Module):
    """x + attend(norm(x)), then x + feed(norm(x)); dropout on what is added."""

    def __init__(
        self, attend: Attend, feed: nn.Module, norm: Callable[[], nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.norm_attend, self.attend = norm(), attend
        self.norm_feed, self.feed = norm(), feed
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """`x` (B, T, width); the same shape, and the keys and values up to here."""
        x, memory = self.look(x, bias, past)
        return x + self.drop(self.feed(self.norm_feed(x))), memory

    def look(self, x: Tensor, bias: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """The first half: attention to the side itself, whose earlier places are `past`."""
        normed = self.norm_attend(x)
        memory = self.attend.remember(normed)
        if past is not None:
            memory = past.then(memory.keys, memory.values)
        return x + self.drop(self.attend(normed, memory, bias)), memory


class ReadingBlock(RelativeBlock):
    """Between the two, x + read(norm(x)): attention to another side, without a bias."""

    def __init__(
        self, attend: Attend, read: Attend, feed: nn.Module, norm: Callable[[], nn.Module], dropout: float
    ) -> None:
        super().__init__(attend, feed, norm, dropout)
        self.norm_read, self.read = norm(), read

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        past: Past | None = None,
        other: tuple[Past, Reading] | None = None,
    ) -> tuple[Tensor, Past]:
        """`other`: keys and values of the other side and what may be seen of it, if there is one."""
        x, memory = self.look(x, bias, past)
        if other is not None:
            found = self.read(self.norm_read(x), other[0], other[1].mask)
            x = x + self.drop(found.masked_fill(other[1].blind, 0))
        return x + self.drop(self.feed(self.norm_feed(x))), memory

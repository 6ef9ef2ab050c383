"""Layers that architectures are put together from: positions, attention, feed-forwards, and their block.

Each takes its parts as arguments; a variant is another class, not another flag.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from telos.models._attention import attention
from telos.models._cache import Past
from telos.models._dropout import dropout
from telos.models._parts import Parts, in_parts

__all__ = [
    "Attention",
    "Block",
    "ExactGelu",
    "GeGlu",
    "Gelu",
    "LevelHeads",
    "Past",
    "PostBlock",
    "Rotary",
    "Sight",
    "SwiGlu",
    "Turn",
    "near",
    "stay",
]


class Sight(NamedTuple):
    """What the places of a forward pass may see: made once, used by every layer."""

    mask: Tensor | None
    """(B, 1, queries, keys), 0 where place i sees place j, else −∞, in the type that attention works in; or
    none, and then `causal` says it all."""
    causal: bool = False
    real: Tensor | None = None
    """(B, T), true where a place holds a token and not padding, for layers that count tokens."""
    parts: Parts | None = None
    """In place of a mask: the pieces of rows that have to be looked at."""


def near(query: Tensor, key: Tensor, reach: int) -> Tensor:
    """(B, 1, queries, keys), true where two places are at most `reach` positions apart, to either side.

    `query` (B, queries) and `key` (B, keys) are positions. A place is near itself, so no row is empty.
    """
    return ((query[:, :, None] - key[:, None, :]).abs() <= reach).unsqueeze(1)


class Turn(Protocol):
    """What is done to queries and keys so that they know their place."""

    def __call__(self, heads: Tensor) -> Tensor: ...


class Rotary:
    """Rotary positions (Su et al., 2021), the half-split convention of Hugging Face's Llama.

    The pair (x[i], x[i + width / 2]) of a head is turned by position · base^(−2i / width). Angles are made
    anew for each batch from its positions: there is no table to outgrow and no buffer to initialise.
    """

    def __init__(self, positions: Tensor, width: int, base: float, kind: torch.dtype) -> None:
        exact = torch.promote_types(kind, torch.float32)
        steps = torch.arange(0, width, 2, device=positions.device, dtype=exact)
        angles = positions.unsqueeze(-1).to(exact) * base ** (-steps / width)
        cos, sin = angles.cos(), angles.sin()
        self.cos = torch.cat((cos, cos), -1).to(kind).unsqueeze(2)
        self.sin = torch.cat((-sin, sin), -1).to(kind).unsqueeze(2)

    def __call__(self, heads: Tensor) -> Tensor:
        """`heads` (B, T, any number, width), turned."""
        return torch.addcmul(heads * self.cos, heads.roll(heads.shape[-1] // 2, -1), self.sin)


def stay(heads: Tensor) -> Tensor:
    """No turning: positions are known from elsewhere, for example from an embedding."""
    return heads


class Attention(nn.Module):
    """Multi-head attention with one matrix for queries, keys and values; query heads may share a key head.

    Grouped-query attention: Ainslie et al., 2023. The rows of `inward` are the queries', then the keys',
    then the values'. `level` is put to queries and keys, (B, T, heads + key heads, width of a head), before
    they are turned.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        key_heads: int,
        dropout: float,
        bias: bool,
        level: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.key_heads, self.dropout = heads, key_heads, dropout
        self.inward = nn.Linear(width, (heads + 2 * key_heads) * (width // heads), bias=bias)
        self.outward = nn.Linear(width, width, bias=bias)
        self.level = nn.Identity() if level is None else level

    def forward(self, x: Tensor, sight: Sight, turn: Turn, past: Past | None) -> tuple[Tensor, Past]:
        """`x` (B, T, width); returns the same shape, and the keys and values up to here."""
        rows, places, width = x.shape
        projected = self.inward(x).view(rows, places, self.heads + 2 * self.key_heads, -1)
        level, values = torch.split(projected, [self.heads + self.key_heads, self.key_heads], 2)
        queries, keys = torch.split(turn(self.level(level)), [self.heads, self.key_heads], 2)
        queries, keys, values = (each.transpose(1, 2) for each in (queries, keys, values))
        whole = Past(keys, values) if past is None else past.then(keys, values)
        mixed = self._mixed(queries, whole.keys, whole.values, sight)
        out: Tensor = self.outward(mixed.transpose(1, 2).reshape(rows, places, width))
        return out, Past(whole.keys.detach(), whole.values.detach(), whole.room)

    def _mixed(self, queries: Tensor, keys: Tensor, values: Tensor, sight: Sight) -> Tensor:
        """What places find in those that they see: (B, heads, queries, width of a head)."""
        if sight.parts is not None:
            return in_parts(
                queries, keys, values, sight.parts, dropout=self.dropout if self.training else 0.0
            )
        return attention(
            queries,
            keys,
            values,
            sight.mask,
            causal=sight.causal,
            dropout=self.dropout if self.training else 0.0,
        )


class LevelHeads(nn.Module):
    """Queries and keys normalised head by head, each with weights of its own (Dehghani et al., 2023)."""

    def __init__(self, heads: int, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.heads = heads
        self.norm_queries, self.norm_keys = norm(), norm()

    def forward(self, x: Tensor) -> Tensor:
        """`x` (B, T, heads + key heads, width of a head); the same shape and type."""
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        queries, keys = exact[:, :, : self.heads], exact[:, :, self.heads :]
        return torch.cat((self.norm_queries(queries), self.norm_keys(keys)), 2).to(x.dtype)


class Gelu(nn.Module):
    """Two matrices with a GELU between them, in the tanh form of GPT-2 (Hendrycks and Gimpel, 2016)."""

    def __init__(self, width: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.inward = nn.Linear(width, inner, bias=bias)
        self.outward = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.outward(self.bend(self.inward(x)))
        return out

    def bend(self, x: Tensor) -> Tensor:
        """The function between the two matrices."""
        return functional.gelu(x, approximate="tanh")


class ExactGelu(Gelu):
    """The same with the exact GELU of BERT: x · Φ(x), Φ the normal distribution by its error function."""

    def bend(self, x: Tensor) -> Tensor:
        return functional.gelu(x)


class SwiGlu(nn.Module):
    """silu(x · gate) ⊙ (x · up), then down (Shazeer, 2020). Rows of `inward`: the gate's, then up's."""

    def __init__(self, width: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.inward = nn.Linear(width, 2 * inner, bias=bias)
        self.outward = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.inward(x).chunk(2, -1)
        out: Tensor = self.outward(self.bend(gate) * up)
        return out

    def bend(self, x: Tensor) -> Tensor:
        """What the gate goes through."""
        return functional.silu(x)


class GeGlu(SwiGlu):
    """gelu(x · gate) ⊙ (x · up), then down, with the exact GELU (Shazeer, 2020). Rows of `inward`: the
    gate's, which go through the GELU, then up's: as ModernBERT has them."""

    def bend(self, x: Tensor) -> Tensor:
        return functional.gelu(x)


class Block(nn.Module):
    """x + attend(norm(x)), then x + feed(norm(x)); dropout on what is added.

    `first` stands in place of the norm before attention: the identity, where what comes in is normalised.
    """

    def __init__(
        self,
        attend: Attention,
        feed: nn.Module,
        norm: Callable[[], nn.Module],
        dropout: float,
        first: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm_attend, self.attend = norm() if first is None else first, attend
        self.norm_feed, self.feed = norm(), feed
        self.dropout = dropout

    def forward(self, x: Tensor, sight: Sight, turn: Turn, past: Past | None) -> tuple[Tensor, Past]:
        attended, past = self.attend(self.norm_attend(x), sight, turn, past)
        x = x + self._drop(attended)
        return x + self._drop(self.fed(self.norm_feed(x), sight)), past

    def fed(self, x: Tensor, sight: Sight) -> Tensor:
        """Through the feed-forward: (B, T, width)."""
        out: Tensor = self.feed(x)
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)


class PostBlock(Block):
    """norm(x + attend(x)), then norm(x + feed(x)), as in the first Transformer (Vaswani et al., 2017)."""

    def forward(self, x: Tensor, sight: Sight, turn: Turn, past: Past | None) -> tuple[Tensor, Past]:
        attended, past = self.attend(x, sight, turn, past)
        x = self.norm_attend(x + self._drop(attended))
        return self.norm_feed(x + self._drop(self.feed(x))), past

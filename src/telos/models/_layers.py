"""Layers that architectures are put together from: positions, attention, feed-forwards, and their block.

Each takes its parts as arguments; a variant is another class, not another flag.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Attention", "Block", "Gelu", "Past", "Rotary", "Sight", "SwiGlu"]


class Past(NamedTuple):
    """Keys and values of one layer, each (B, key heads, places, width of a head)."""

    keys: Tensor
    values: Tensor


class Sight(NamedTuple):
    """What the places of a forward pass may see: made once, used by every layer."""

    mask: Tensor | None
    """(B, 1, queries, keys), true where place i sees place j; or none, and then `causal` says it all."""
    causal: bool = False


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
    then the values'.
    """

    def __init__(self, width: int, heads: int, key_heads: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.heads, self.key_heads, self.dropout = heads, key_heads, dropout
        self.inward = nn.Linear(width, (heads + 2 * key_heads) * (width // heads), bias=bias)
        self.outward = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, sight: Sight, turn: Turn, past: Past | None) -> tuple[Tensor, Past]:
        """`x` (B, T, width); returns the same shape, and the keys and values up to here."""
        rows, places, width = x.shape
        projected = self.inward(x).view(rows, places, self.heads + 2 * self.key_heads, -1)
        turned = turn(projected[:, :, : self.heads + self.key_heads])
        queries = turned[:, :, : self.heads].transpose(1, 2)
        keys = turned[:, :, self.heads :].transpose(1, 2)
        values = projected[:, :, self.heads + self.key_heads :].transpose(1, 2)
        if past is not None:
            keys = torch.cat((past.keys, keys), 2)
            values = torch.cat((past.values, values), 2)
        mixed = functional.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=sight.mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=sight.causal,
            enable_gqa=self.key_heads != self.heads,
        )
        out: Tensor = self.outward(mixed.transpose(1, 2).reshape(rows, places, width))
        return out, Past(keys.detach(), values.detach())


class Gelu(nn.Module):
    """Two matrices with a GELU between them, in the tanh form of GPT-2 (Hendrycks and Gimpel, 2016)."""

    def __init__(self, width: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.inward = nn.Linear(width, inner, bias=bias)
        self.outward = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.outward(functional.gelu(self.inward(x), approximate="tanh"))
        return out


class SwiGlu(nn.Module):
    """silu(x · gate) ⊙ (x · up), then down (Shazeer, 2020). Rows of `inward`: the gate's, then up's."""

    def __init__(self, width: int, inner: int, bias: bool) -> None:
        super().__init__()
        self.inward = nn.Linear(width, 2 * inner, bias=bias)
        self.outward = nn.Linear(inner, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.inward(x).chunk(2, -1)
        out: Tensor = self.outward(functional.silu(gate) * up)
        return out


class Block(nn.Module):
    """x + attend(norm(x)), then x + feed(norm(x)); dropout on what is added."""

    def __init__(
        self, attend: Attention, feed: nn.Module, norm: Callable[[], nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.norm_attend, self.attend = norm(), attend
        self.norm_feed, self.feed = norm(), feed
        self.dropout = dropout

    def forward(self, x: Tensor, sight: Sight, turn: Turn, past: Past | None) -> tuple[Tensor, Past]:
        attended, past = self.attend(self.norm_attend(x), sight, turn, past)
        x = x + self._drop(attended)
        return x + self._drop(self.feed(self.norm_feed(x))), past

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x

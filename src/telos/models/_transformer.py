"""What transformers have in common: settings of their attention, what a forward pass may see, the cache."""

from abc import abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from telos.batch import Rows, may_see
from telos.config import Settings
from telos.models._attention import added, type_at_work
from telos.models._base import Network, Sizes
from telos.models._layers import Past, Rotary, Sight, Turn, near, stay
from telos.models._parts import cut

__all__ = [
    "Cache",
    "Heads",
    "Local",
    "Positions",
    "Transformer",
    "check_heads",
    "pairs_seen",
    "short",
]


def short(key: str) -> BeforeValidator:
    """`feed = "gelu"` is short for `feed = { kind = "gelu" }`."""

    def widen(given: Any) -> Any:
        if (
            isinstance(given, dict) and "name" in given and key not in given
        ):  # an override of what was written short
            return {(key if k == "name" else k): v for k, v in given.items()}
        return given if isinstance(given, dict | Settings) else {key: given}

    return BeforeValidator(widen)


class Local(Settings):
    """Blocks whose places see only those near by (Beltagy et al., 2020)."""

    reach: int = Field(0, ge=0)
    """Places to either side, by position, that a place of a local block sees, of those that it may see; 0: no
    block is local."""
    every: int = Field(0, ge=0)
    """Every so many blocks, beginning with the first, one is not local; 0: all are."""
    base: float = Field(0.0, ge=0)
    """Base of the rotary angles in local blocks; 0 for that of the others."""

    @model_validator(mode="after")
    def _counts(self) -> "Local":
        if not self.reach and (self.every or self.base):
            raise ValueError("every and base do nothing without a reach: no block is local")
        if self.every == 1:
            raise ValueError("every = 1 leaves no block local; take more, or leave reach out")
        if 0 < self.base <= 1:
            raise ValueError("base must be more than 1, or 0 for that of the other blocks")
        return self

    def at(self, block: int) -> bool:
        """Whether the block of that number, from 0, is local."""
        return bool(self.reach) and not (self.every and block % self.every == 0)


class Heads(Settings):
    """Attention heads."""

    count: int = Field(6, ge=1)
    """Query heads; each is width / count wide."""
    keys: int = Field(0, ge=0)
    """Heads for keys and values, each shared by count / keys query heads; 0 means as many as query heads."""
    normed: bool = False
    """Queries and keys are normalised, head by head, before they meet: logits of attention cannot run away
    (Henry et al., 2020; Dehghani et al., 2023)."""
    local: Local = Local()
    """Blocks whose places see only those near by."""

    @model_validator(mode="after")
    def _shared_evenly(self) -> "Heads":
        if self.keys and self.count % self.keys:
            raise ValueError(
                f"keys must divide count: {self.count} query heads cannot share {self.keys} evenly"
            )
        return self

    def pairs(self, depth: int, window: int) -> int:
        """Pairs of places in a row that look at each other, if all may see all, summed over the blocks."""
        near_by = sum(self.local.at(block) for block in range(depth))
        return near_by * pairs_seen(window, self.local.reach) + (depth - near_by) * window**2


class Positions(Settings):
    """How a place knows where it is."""

    kind: Literal["rotary", "learned"] = "rotary"
    """Rotary turns queries and keys; learned adds a vector per place of the window."""
    base: float = Field(10000.0, gt=1)
    """Base of the rotary angles: larger for longer windows."""

    @model_validator(mode="after")
    def _base_counts(self) -> "Positions":
        if self.kind == "learned" and self.base != 10000.0:
            raise ValueError(
                'base does nothing with learned positions; set kind = "rotary" or leave base out'
            )
        return self


def check_heads(width: int, heads: Heads, positions: Positions) -> None:
    """Refuse what does not fit together."""
    if width % heads.count:
        raise ValueError(f"width must be a multiple of heads: {width} is not one of {heads.count}")
    if positions.kind == "rotary" and width // heads.count % 2:
        raise ValueError(
            f"rotary positions need heads of even width, not width / heads = {width // heads.count}"
        )
    if positions.kind == "learned" and heads.local.base:
        raise ValueError("heads.local.base does nothing with learned positions; leave it out")


def pairs_seen(window: int, reach: int) -> int:
    """Pairs (i, j) of places of a row with |i − j| ≤ reach, i = j included."""
    reach = min(reach, window - 1)
    return window * (2 * reach + 1) - reach * (reach + 1)


class Cache(NamedTuple):
    """What later places need of earlier ones: keys and values by layer, and what may be seen of them."""

    layers: tuple[Past, ...]
    segment: Tensor
    order: Tensor
    seen: Tensor
    positions: Tensor


class View(NamedTuple):
    """What a block's places may see, and how they know where they are."""

    sight: Sight
    turn: Turn


class Transformer(Network):
    """Embedded tokens through blocks and a norm; base of the architectures that are just that."""

    blocks: nn.ModuleList
    norm: nn.Module
    """After the last block."""

    def __init__(
        self, width: int, heads: Heads, positions: Positions, sizes: Sizes, embedding: int = 0
    ) -> None:
        """Tables are `embedding` wide, where that is not 0; else as wide as the blocks."""
        super().__init__()
        self._head_width, self._local, self._base = width // heads.count, heads.local, positions.base
        within = heads.local.reach < sizes.window - 1  # or else no two places of a row are too far apart
        self._reach = heads.local.reach if within else 0
        inward = embedding or width
        self.embedding = nn.Embedding(sizes.vocabulary, inward)
        self.places = nn.Embedding(sizes.window, inward) if positions.kind == "learned" else None

    @abstractmethod
    def embed(self, main: Rows) -> Tensor:
        """What goes into the first block: (B, T, width)."""

    def encode(
        self, main: Rows, source: Rows | None = None, state: Any = None, continues: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Hidden states (B, T, width), and a `Cache` of all places so far.

        There is none in training, and none where all see all: such places would have looked at later ones.
        New places come after all that the cache holds, padding included, which they do not see.
        """
        assert source is None, "this model has no source side"
        past = forget(state, continues)
        views = self._views(main, past)
        x = self.embed(main)
        layers = []
        kept = not self.training and main.pattern != "full"
        for number, block in enumerate(self.blocks):
            sight, turn = views[self._local.at(number)]
            x, layer = self.through(block, x, sight, turn, past.layers[number] if past else None)
            if kept:
                layers.append(layer)
        hidden: Tensor = self.norm(x)
        return hidden, remember(main, past, tuple(layers)) if kept else None

    def unread(self, state: Any, places: Tensor) -> Any:
        """Their keys and values stay where they are and are not seen."""
        assert isinstance(state, Cache)
        read = state.seen.shape[1] - places.shape[1]
        return state._replace(seen=state.seen & ~functional.pad(places, (read, 0)))

    def narrowed(self, state: Any, rows: Tensor) -> Any:
        assert isinstance(state, Cache)
        return seen_by(state, rows)

    def _views(self, main: Rows, past: Cache | None) -> tuple[View, View]:
        """Of a block that sees all it may, and of a local one."""
        kind = type_at_work(self.embedding.weight)
        whole = View(sight(main, past, kind), self._turn(main.positions, self._base))
        if not self._local.reach:
            return whole, whole
        seen = sight(main, past, kind, self._reach) if self._reach else whole.sight
        base = self._local.base
        return whole, View(seen, self._turn(main.positions, base) if base else whole.turn)

    def _turn(self, positions: Tensor, base: float) -> Turn:
        if self.places is not None:
            return stay
        return Rotary(positions, self._head_width, base, type_at_work(self.embedding.weight))


def sight(main: Rows, past: Cache | None, kind: torch.dtype, reach: int = 0) -> Sight:
    """The fast kernels where the pattern says it all, and else the rule of `may_see`, in parts if that saves
    enough; with a reach, only what is at most so many positions away. A mask is of type `kind`."""
    real = main.segment >= 0
    if past is None and not main.packed and not reach:
        if main.pattern == "causal":
            return Sight(None, causal=True, real=real)
        if main.pattern == "full":
            return Sight(None, real=real)
    parts = cut(main, kind, reach) if past is None else None
    if parts is not None:
        return Sight(None, real=real, parts=parts)
    keys = main if past is None else joined(main, past)
    seen = may_see(main, keys)
    if reach:
        seen = seen & near(main.positions, keys.positions, reach)
    return Sight(added(seen, kind), real=real)


def joined(main: Rows, past: Cache | None) -> Rows:
    """Past and present as one side; only what says what may be seen is joined."""
    if past is None:
        return main
    return Rows(
        ids=main.ids,
        positions=torch.cat((past.positions, main.positions), 1),
        segment=torch.cat((past.segment, main.segment), 1),
        order=torch.cat((past.order, main.order), 1),
        seen=torch.cat((past.seen, main.seen), 1),
    )


def forget(past: Cache | None, continues: Tensor | None) -> Cache | None:
    """Rows that start anew do not see what came before them."""
    if past is None or continues is None:
        return past
    return past._replace(seen=past.seen & continues.unsqueeze(1))


def remember(main: Rows, past: Cache | None, layers: tuple[Past, ...]) -> Cache:
    """The cache after `main`."""
    rows = joined(main, past)
    return Cache(layers, rows.segment, rows.order, rows.seen, rows.positions)


def seen_by(cache: Cache, rows: Tensor) -> Cache:
    """The cache without places that none of these rows (n,) sees."""
    seen = cache.seen.index_select(0, rows).any(0)
    if bool(seen.all()):
        return cache
    kept = seen.nonzero().squeeze(1)
    layers = tuple(
        Past(past.keys.index_select(2, kept), past.values.index_select(2, kept)) for past in cache.layers
    )
    return Cache(layers, *(part.index_select(1, kept) for part in cache[1:]))

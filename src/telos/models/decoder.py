"""The decoder: GPT-2 (Radford et al., 2019) and Llama (Touvron et al., 2023), its parts chosen by name.

    GPT-2 style    positions = "learned"   norm = "layer"   feed = "gelu"      biases with norm = "layer"
    Llama style    positions = "rotary"    norm = "rms"     feed = "swiglu"    no biases

Blocks normalise before they mix, and once more after the last. What a place may see comes with the rows, so
the same network is causal, bidirectional or anything between.

First values, for depth N (GPT-2's):

    embedding, learned positions, head (untied)     normal, 0.02
    inward matrices of attention and feed-forward   normal, 0.02
    outward matrices of both                        normal, 0.02 / √(2N)
    norms' weights                                  1
    all biases                                      0
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, final

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from telos.batch import Rows, may_see
from telos.config import Settings
from telos.models._base import Initial, Model, Network, Sizes
from telos.models._heads import build_heads, head_counts
from telos.models._layers import Attention, Block, Gelu, Past, Rotary, Sight, SwiGlu, Turn, stay

__all__ = ["Decoder", "Feed", "Heads", "Positions"]

EPSILON = 1e-5


def _short(key: str) -> BeforeValidator:
    """`feed = "gelu"` is short for `feed = { kind = "gelu" }`."""

    def widen(given: Any) -> Any:
        if (
            isinstance(given, dict) and "name" in given and key not in given
        ):  # an override of what was written short
            return {(key if k == "name" else k): v for k, v in given.items()}
        return given if isinstance(given, dict | Settings) else {key: given}

    return BeforeValidator(widen)


class Heads(Settings):
    """Attention heads."""

    count: int = Field(6, ge=1)
    """Query heads; each is width / count wide."""
    keys: int = Field(0, ge=0)
    """Heads for keys and values, each shared by count / keys query heads; 0 means as many as query heads."""

    @model_validator(mode="after")
    def _shared_evenly(self) -> "Heads":
        if self.keys and self.count % self.keys:
            raise ValueError(
                f"keys must divide count: {self.count} query heads cannot share {self.keys} evenly"
            )
        return self


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


class Feed(Settings):
    """The feed-forward part of a block."""

    kind: Literal["swiglu", "gelu"] = "swiglu"
    """A gate times a value and back (Shazeer, 2020), or out through one GELU and back (GPT-2)."""
    width: int = Field(0, ge=0)
    """Inner width; 0 means 4 · width for gelu, and 8/3 · width rounded up to a multiple of 64 for swiglu,
    which has three matrices where gelu has two: so both hold nearly the same number of weights."""


@final
class Decoder(Model):
    """A transformer of equal blocks."""

    gives: ClassVar[frozenset[str]] = frozenset({"causal", "full", "prefix", "general", "packed"})

    width: int = Field(384, ge=1)
    """Of the residual stream."""
    depth: int = Field(6, ge=1)
    """Blocks."""
    heads: Annotated[Heads, _short("count")] = Heads()
    positions: Annotated[Positions, _short("kind")] = Positions()
    norm: Literal["rms", "layer"] = "rms"
    """RMSNorm without biases anywhere, or LayerNorm with biases in every layer."""
    feed: Annotated[Feed, _short("kind")] = Feed()
    tied: bool = True
    """The head shares the embedding's weight."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the embeddings, the attention weights and what each block adds."""

    @model_validator(mode="after")
    def _widths_fit(self) -> "Decoder":
        if self.width % self.heads.count:
            raise ValueError(
                f"width must be a multiple of heads: {self.width} is not one of {self.heads.count}"
            )
        if self.positions.kind == "rotary" and self.head_width % 2:
            raise ValueError(
                f"rotary positions need heads of even width, not width / heads = {self.head_width}"
            )
        return self

    @property
    def head_width(self) -> int:
        """Of one attention head."""
        return self.width // self.heads.count

    @property
    def key_heads(self) -> int:
        """Heads for keys and values, resolved."""
        return self.heads.keys or self.heads.count

    @property
    def feed_width(self) -> int:
        """Inner width of the feed-forward, resolved."""
        if self.feed.width:
            return self.feed.width
        return 4 * self.width if self.feed.kind == "gelu" else -(-8 * self.width // 3 // 64) * 64

    @property
    def bias(self) -> bool:
        """Whether linear layers have biases."""
        return self.norm == "layer"

    def parameter_count(self, sizes: Sizes) -> int:
        norm = 2 * self.width if self.norm == "layer" else self.width
        matrices, biases = self._block_weights()
        block = matrices + (biases if self.bias else 0) + 2 * norm
        places = sizes.window * self.width if self.positions.kind == "learned" else 0
        heads, _ = head_counts(sizes.heads, self.width, tied_rows=sizes.vocabulary if self.tied else 0)
        return sizes.vocabulary * self.width + places + self.depth * block + norm + heads

    def flops_per_token(self, sizes: Sizes) -> int:
        _, heads = head_counts(sizes.heads, self.width)
        attention = 12 * self.depth * self.width * sizes.window // 2
        return 6 * (self.depth * self._block_weights()[0] + heads) + attention

    def _block_weights(self) -> tuple[int, int]:
        """Of one block: weights that multiply, and biases."""
        inward = (self.heads.count + 2 * self.key_heads) * self.head_width
        feed = (2 if self.feed.kind == "swiglu" else 1) * self.feed_width
        matrices = self.width * (inward + self.width + feed + self.feed_width)
        return matrices, inward + self.width + feed + self.width

    def build(self, sizes: Sizes) -> "DecoderNetwork":
        return DecoderNetwork(self, sizes)

    def block(self) -> Block:
        """One block of the description."""
        attend = Attention(self.width, self.heads.count, self.key_heads, self.dropout, self.bias)
        feed = (SwiGlu if self.feed.kind == "swiglu" else Gelu)(self.width, self.feed_width, self.bias)
        return Block(attend, feed, self.norm_maker(), self.dropout)

    def norm_maker(self) -> Callable[[], nn.Module]:
        """Makes one norm of the description's kind and width."""
        kind = nn.LayerNorm if self.norm == "layer" else nn.RMSNorm
        return lambda: kind(self.width, eps=EPSILON)


class Cache(NamedTuple):
    """What later places need of earlier ones: keys and values by layer, and what may be seen of them."""

    layers: tuple[Past, ...]
    segment: Tensor
    order: Tensor
    seen: Tensor


class DecoderNetwork(Network):
    """Embedding, blocks, norm, heads."""

    def __init__(self, model: Decoder, sizes: Sizes) -> None:
        super().__init__()
        self.model = model
        self.embedding = nn.Embedding(sizes.vocabulary, model.width)
        self.places = nn.Embedding(sizes.window, model.width) if model.positions.kind == "learned" else None
        self.blocks = nn.ModuleList(model.block() for _ in range(model.depth))
        self.norm = model.norm_maker()()
        self.heads = build_heads(
            sizes.heads, model.width, sizes.loss, tied=self.embedding if model.tied else None
        )

    def encode(
        self, main: Rows, source: Rows | None = None, state: Any = None, continues: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Hidden states (B, T, width), and a `Cache` of all places so far; in training there is none.

        New places come after all that the cache holds, padding included, which they do not see.
        """
        assert source is None, "a decoder has no source side"
        past = _forget(state, continues)
        sight = _sight(main, past)
        turn = self._turn(main.positions)
        x = self._embed(main)
        layers = []
        for place, block in enumerate(self.blocks):
            x, layer = block(x, sight, turn, past.layers[place] if past else None)
            layers.append(layer)
        hidden: Tensor = self.norm(x)
        return hidden, None if self.training else _remember(main, past, tuple(layers))

    def initial(self, name: str) -> Initial:
        if name.endswith("bias"):
            return Initial("constant", 0.0)
        if "norm" in name.rpartition(".")[0].rpartition(".")[2]:
            return Initial("constant", 1.0)
        if "outward" in name:
            return Initial("normal", 0.02 / (2 * self.model.depth) ** 0.5)
        return Initial("normal", 0.02)

    def _embed(self, main: Rows) -> Tensor:
        x: Tensor = self.embedding(main.ids)
        if self.places is not None:
            x = x + self.places(main.positions)
        return functional.dropout(x, self.model.dropout, self.training) if self.model.dropout else x

    def _turn(self, positions: Tensor) -> Turn:
        if self.places is not None:
            return stay
        device = positions.device.type
        kind = self.embedding.weight.dtype
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        return Rotary(positions, self.model.head_width, self.model.positions.base, kind)


def _sight(main: Rows, past: Cache | None) -> Sight:
    """The fast kernels where the pattern says it all, and else the rule of `may_see`."""
    if past is None and not main.packed:
        if main.pattern == "causal":
            return Sight(None, causal=True)
        if main.pattern == "full":
            return Sight(None)
    return Sight(may_see(main, main if past is None else _joined(main, past)))


def _joined(main: Rows, past: Cache | None) -> Rows:
    """Past and present as one side; only what `may_see` reads is joined."""
    if past is None:
        return main
    return Rows(
        ids=main.ids,
        positions=main.positions,
        segment=torch.cat((past.segment, main.segment), 1),
        order=torch.cat((past.order, main.order), 1),
        seen=torch.cat((past.seen, main.seen), 1),
    )


def _forget(past: Cache | None, continues: Tensor | None) -> Cache | None:
    """Rows that start anew do not see what came before them."""
    if past is None or continues is None:
        return past
    return past._replace(seen=past.seen & continues.unsqueeze(1))


def _remember(main: Rows, past: Cache | None, layers: tuple[Past, ...]) -> Cache:
    rows = _joined(main, past)
    return Cache(layers, rows.segment, rows.order, rows.seen)

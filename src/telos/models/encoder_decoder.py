"""The encoder and decoder of T5 (Raffel et al., 2020): the source is read in both directions, the main side
is said from left to right and looks at all of the source.

    T5 v1.0    feed = "relu"     tied = true     (Raffel et al., 2020)
    T5 v1.1    feed = "geglu"    tied = false    (Shazeer, 2020; the released v1.1 weights)

Blocks normalise before they mix (RMSNorm, ε = 1e−6), and once more after the last of each side; nothing has a
bias. Logits of attention are not scaled. Places are known by a bias for their distance (`_relative.py`): one
table for all blocks of the encoder, one for all of the decoder, none where the decoder looks at the source.
Both sides and a tied head share one embedding; before a tied head, hidden states are divided by √width.
Without a source the decoder is alone: it looks at nothing there, and nothing is added.

Two weights are kept otherwise than T5's files hold them, so that steps of one size fit all of them (see
`_relative.py`): queries times the power of two nearest to √k, and the embedding divided by the one nearest to
√d, by which what is looked up is multiplied again. T5's function is the same to the bit.

First values, for width d, h heads of width k, feed-forward width f (Mesh TensorFlow's, whose logits of
attention have a standard deviation of 1 without a scale), as T5 has them:

    embedding                          normal, 1
    queries                            normal, 1 / √(d · k)
    memory (keys and values)           normal, 1 / √d
    outward matrices of attention      normal, 1 / √(h · k)
    inward matrices of feed-forward    normal, 1 / √d
    outward matrices of feed-forward   normal, 1 / √f
    biases by distance                 normal, 1 / √d
    heads of their own                 normal, 1 / √d; their biases 0
    norms' weights                     1
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from telos.batch import HeadSpec, Rows
from telos.config import Settings
from telos.models._attention import type_at_work
from telos.models._base import Initial, Model, Network, Sizes
from telos.models._dropout import dropout
from telos.models._heads import Scaled, build_heads, head_counts
from telos.models._layers import Past
from telos.models._norm import RmsNorm
from telos.models._relative import (
    Attend,
    GatedGelu,
    ReadingBlock,
    RelativeBias,
    RelativeBlock,
    Relu,
    backwards,
    both_ways,
    reading,
    root,
)
from telos.models._transformer import Cache, forget, joined, remember, seen_by, short

__all__ = ["Depth", "EncoderDecoder", "Relative", "SideFeed", "WideHeads"]

EPSILON = 1e-6


class Depth(Settings):
    """Blocks."""

    encoder: int = Field(6, ge=1)
    """Of the encoder."""
    decoder: int = Field(0, ge=0)
    """Of the decoder; 0 means as many."""


class WideHeads(Settings):
    """Attention heads."""

    count: int = Field(6, ge=1)
    """Heads."""
    width: int = Field(0, ge=0)
    """Of one head; 0 means the model's width / count. T5's are 64 wide, however many and wide the rest is."""


class Relative(Settings):
    """How places know their distance."""

    buckets: int = Field(32, ge=4, multiple_of=2)
    """Distances that are told apart; in the encoder half of them for either direction."""
    distance: int = Field(128, ge=3)
    """From here on all distances are one."""

    @model_validator(mode="after")
    def _grows(self) -> "Relative":
        if self.distance <= self.buckets // 2:
            raise ValueError(
                f"distance must be more than buckets / 2 = {self.buckets // 2}: so many distances have a "
                "bucket each"
            )
        return self


class SideFeed(Settings):
    """The feed-forward part of a block."""

    kind: Literal["relu", "geglu"] = "geglu"
    """Out through max(0, ·) and back (v1.0), or a value times a gate that went through a GELU in its tanh
    form, and back (v1.1)."""
    width: int = Field(0, ge=0)
    """Inner width; 0 means 4 · width for relu, and 8/3 · width rounded up to a multiple of 64 for geglu,
    which has three matrices where relu has two."""


@final
class EncoderDecoder(Model):
    """A transformer that reads one text and says another: T5."""

    gives: ClassVar[frozenset[str]] = frozenset({"causal", "source", "packed"})
    needs: ClassVar[frozenset[str]] = frozenset({"source"})
    recomputes: ClassVar[bool] = True

    width: int = Field(384, ge=1)
    """Of the residual stream."""
    depth: Annotated[Depth, short("encoder")] = Depth()
    heads: Annotated[WideHeads, short("count")] = WideHeads()
    relative: Annotated[Relative, short("buckets")] = Relative()
    feed: Annotated[SideFeed, short("kind")] = SideFeed()
    tied: bool = False
    """The head shares the embedding's weight, and hidden states are divided by √width before it."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the embeddings, the attention weights, inside the feed-forward, on what each part adds and after
    the last norm of each side."""

    @model_validator(mode="after")
    def _widths_fit(self) -> "EncoderDecoder":
        if not self.heads.width and self.width % self.heads.count:
            raise ValueError(
                f"width must be a multiple of heads: {self.width} is not one of {self.heads.count}; or set "
                "heads.width"
            )
        return self

    @property
    def head_width(self) -> int:
        """Of one attention head, resolved."""
        return self.heads.width or self.width // self.heads.count

    @property
    def inner(self) -> int:
        """Of all heads together."""
        return self.heads.count * self.head_width

    @property
    def reduced(self) -> float:
        """What the embedding is divided by where it is kept."""
        return root(self.width)

    @property
    def decoder_depth(self) -> int:
        """Blocks of the decoder, resolved."""
        return self.depth.decoder or self.depth.encoder

    @property
    def feed_width(self) -> int:
        """Inner width of the feed-forward, resolved."""
        if self.feed.width:
            return self.feed.width
        return 4 * self.width if self.feed.kind == "relu" else -(-8 * self.width // 3 // 64) * 64

    @property
    def compiles(self) -> bool:
        return True

    def parameter_count(self, sizes: Sizes) -> int:
        encoder, decoder = self._weights()
        norms = self.width * (2 * self.depth.encoder + 3 * self.decoder_depth + 2)
        tables = 2 * self.relative.buckets * self.heads.count
        heads, _ = head_counts(sizes, self.width, tied=self.tied)
        return sizes.vocabulary * self.width + encoder + decoder + norms + tables + heads

    def flops_per_token(self, sizes: Sizes) -> int:
        """Of a token of the main side together with one of the source: a full row has as many of either."""
        _, heads = head_counts(sizes, self.width)
        # the encoder's places see the whole source, the decoder's all of it and half of their own side
        windows = 2 * self.depth.encoder + 3 * self.decoder_depth
        return 6 * (sum(self._weights()) + heads) + 6 * self.inner * sizes.window * windows

    def _weights(self) -> tuple[int, int]:
        """Weights that multiply in all blocks of the encoder, and in all of the decoder."""
        attention = 4 * self.width * self.inner
        feed = (3 if self.feed.kind == "geglu" else 2) * self.width * self.feed_width
        return self.depth.encoder * (attention + feed), self.decoder_depth * (2 * attention + feed)

    def build(self, sizes: Sizes) -> "EncoderDecoderNetwork":
        return EncoderDecoderNetwork(self, sizes)

    def attend(self) -> Attend:
        """One attention."""
        return Attend(self.width, self.heads.count, self.head_width, self.dropout)

    def feed_forward(self) -> Relu:
        """One feed-forward."""
        kind = GatedGelu if self.feed.kind == "geglu" else Relu
        return kind(self.width, self.feed_width, self.dropout)

    def norm(self) -> RmsNorm:
        """One norm."""
        return RmsNorm(self.width, eps=EPSILON)


class Memory(NamedTuple):
    """What the decoder needs of the source: keys and values by layer, and what may be seen of them."""

    layers: tuple[Past, ...]
    segment: Tensor
    seen: Tensor


class Said(NamedTuple):
    """What later places need of earlier ones: of the main side, and of the source if there was one."""

    cache: Cache
    memory: Memory | None


class Stack(nn.Module):
    """The blocks of one side, the biases that they share, and the norm after the last."""

    def __init__(
        self,
        model: EncoderDecoder,
        blocks: list[RelativeBlock],
        bucket: Callable[..., Tensor],
    ) -> None:
        super().__init__()
        count, distance = model.relative.buckets, model.relative.distance
        self.bias = RelativeBias(model.heads.count, count, partial(bucket, buckets=count, distance=distance))
        self.blocks = nn.ModuleList(blocks)
        self.norm = model.norm()


class EncoderDecoderNetwork(Network):
    """One embedding, the blocks of both sides, heads on the decoder's."""

    def __init__(self, model: EncoderDecoder, sizes: Sizes) -> None:
        super().__init__()
        self.model = model
        self.embedding = nn.Embedding(sizes.vocabulary, model.width)
        alone = [
            RelativeBlock(model.attend(), model.feed_forward(), model.norm, model.dropout)
            for _ in range(model.depth.encoder)
        ]
        readers: list[RelativeBlock] = [
            ReadingBlock(model.attend(), model.attend(), model.feed_forward(), model.norm, model.dropout)
            for _ in range(model.decoder_depth)
        ]
        self.encoder = Stack(model, alone, both_ways)
        self.decoder = Stack(model, readers, backwards)

        def transform(spec: HeadSpec) -> nn.Module | None:
            tied = model.tied and spec.kind == "tokens" and spec.outputs == sizes.vocabulary
            return Scaled(model.reduced / model.width**0.5) if tied else None

        self.heads = build_heads(
            sizes.heads,
            model.width,
            sizes.loss,
            tied=self.embedding if model.tied else None,
            transform=transform,
        )

    def encode(
        self, main: Rows, source: Rows | None = None, state: Any = None, continues: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Hidden states (B, T, width) of the main side, and what its next places need (none in training).

        A source takes the place of the one that the state holds; without one, that goes on being looked at.
        New places come after all that the state holds, padding included, which they do not see.
        """
        cache = forget(state.cache, continues) if state else None
        memory = self._read(source) if source is not None else _kept(state, continues)
        kind = type_at_work(self.embedding.weight)
        bias = self.decoder.bias(main, joined(main, cache), kind)
        sight = None if memory is None else reading(main.segment, memory.segment, memory.seen, kind)
        x = self._embed(main)
        layers = []
        for number, block in enumerate(self.decoder.blocks):
            other = None if memory is None else (memory.layers[number], sight)
            x, layer = self.through(block, x, bias, cache.layers[number] if cache else None, other)
            if not self.training:
                layers.append(layer)
        hidden = dropout(self.decoder.norm(x), self.model.dropout, self.training)
        if self.training:
            return hidden, None
        return hidden, Said(remember(main, cache, _detached(layers)), _rested(memory))

    def chosen(self, state: Any, rows: Tensor, *, same_sources: bool = False) -> Any:
        """What is kept of the sources is the larger part, and stays where it can."""
        if not same_sources:
            return super().chosen(state, rows)
        return super().chosen(state._replace(memory=None), rows)._replace(memory=state.memory)

    def narrowed(self, state: Any, rows: Tensor) -> Any:
        return state._replace(cache=seen_by(state.cache, rows))

    def looks(self, main: Rows, source: Rows) -> Tensor:
        found: list[Tensor] = []

        def noted(attend: nn.Module, given: tuple[Tensor, Past, Tensor]) -> None:
            assert isinstance(attend, Attend)
            found.append(attend.weights(*given).mean(1))

        hooks = [block.read.register_forward_pre_hook(noted) for block in self._readers()]
        try:
            self.encode(main, source)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(found).mean(0)

    def read(self, source: Rows) -> Tensor:
        """What the encoder makes of a source: (B, S, width)."""
        bias = self.encoder.bias(source, source, type_at_work(self.embedding.weight))
        x = self._embed(source)
        for block in self.encoder.blocks:
            x, _ = self.through(block, x, bias)
        return dropout(self.encoder.norm(x), self.model.dropout, self.training)

    def _read(self, source: Rows) -> Memory:
        found = self.read(source)
        layers = tuple(block.read.remember(found) for block in self._readers())
        return Memory(layers, source.segment, source.seen)

    def _readers(self) -> list[ReadingBlock]:
        return [block for block in self.decoder.blocks if isinstance(block, ReadingBlock)]

    def _embed(self, rows: Rows) -> Tensor:
        x: Tensor = self.embedding(rows.ids) * self.model.reduced
        return dropout(x, self.model.dropout, self.training)

    def initial(self, name: str) -> Initial:
        model = self.model
        if name == "embedding.weight":
            return Initial("normal", 1 / model.reduced)
        if name.endswith("bias"):
            return Initial("constant", 0.0)
        *_, owner, kind, _ = f".{name}".split(".")
        if kind.startswith("norm"):
            return Initial("constant", 1.0)
        if kind == "query":
            return Initial("normal", root(model.head_width) / (model.width * model.head_width) ** 0.5)
        spread = {
            ("attend", "outward"): model.inner,
            ("read", "outward"): model.inner,
            ("feed", "outward"): model.feed_width,
        }
        return Initial("normal", spread.get((owner, kind), model.width) ** -0.5)


def _kept(state: Said | None, continues: Tensor | None) -> Memory | None:
    """The source that the state holds; rows that start anew do not see it."""
    if state is None or state.memory is None or continues is None:
        return state.memory if state else None
    return state.memory._replace(seen=state.memory.seen & continues.unsqueeze(1))


def _detached(layers: list[Past] | tuple[Past, ...]) -> tuple[Past, ...]:
    return tuple(Past(layer.keys.detach(), layer.values.detach(), layer.room) for layer in layers)


def _rested(memory: Memory | None) -> Memory | None:
    return memory and memory._replace(layers=_detached(memory.layers))

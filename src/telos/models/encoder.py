"""The encoder: BERT (Devlin et al., 2019), ELECTRA (Clark et al., 2020) and ModernBERT (Warner et al., 2024),
its parts chosen by name.

    BERT style          positions = "learned"   norm = "post"   feed = "gelu"     embedding.types = 2
    ELECTRA style       the same, and embedding.width, for small models less than width
    ModernBERT style    positions = "rotary"    norm = "pre"    feed = "geglu"    heads.local

    post    LayerNorm after the embeddings, after what attention adds and after what the feed-forward adds;
            biases everywhere; ε = 1e−12
    pre     LayerNorm after the embeddings, before attention (but not in the first block, whose input is
            normalised already), before the feed-forward and at the end; no biases; ε = 1e−5

Where embeddings have a width of their own, a linear layer after their norm and dropout brings them to that of
the blocks, and the transform of the head for tokens brings it back.

Before the head that predicts tokens stands a transform, norm(gelu(linear(x))); its projection shares the
embedding's weight and has a bias. With pre, heads for classes and marks have the same; with post, classes
have BERT's pooler, tanh(linear(x)), and marks have ELECTRA's gelu(linear(x)), without a norm. What a place
may see comes with the rows, as in the decoder.

First values, for depth N (BERT's; with pre, outward matrices as ModernBERT's):

    embedding, learned positions, types               normal, 0.02
    inward matrices, what widens embeddings           normal, 0.02
    transforms, pooler, classes, marks                normal, 0.02
    outward matrices of attention and feed-forward    normal, 0.02 (post) or 0.02 / √(2N) (pre)
    norms' weights                                    1
    all biases                                        0
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from telos.batch import HeadSpec, Rows
from telos.config import Settings
from telos.models._base import Initial, Model, Sizes
from telos.models._dropout import dropout
from telos.models._heads import Pooler, Transform, build_heads, head_counts
from telos.models._layers import Attention, Block, ExactGelu, GeGlu, LevelHeads, PostBlock
from telos.models._transformer import Heads, Local, Positions, Transformer, check_heads, short

__all__ = ["Encoder", "EncoderEmbedding", "EncoderFeed", "Heads", "Local", "Positions"]


class EncoderEmbedding(Settings):
    """What tokens are before the first block."""

    width: int = Field(0, ge=0)
    """Of the vectors of tokens, places and types; 0: that of the blocks. A linear layer brings another one to
    it (ELECTRA)."""
    types: int = Field(0, ge=0)
    """Types that a token can have, each with a vector of its own: 2 for BERT's sentences A and B; 0: none."""

    @model_validator(mode="after")
    def _tell_apart(self) -> "EncoderEmbedding":
        if self.types == 1:
            raise ValueError("types = 1 tells no token from another; take 2, or 0 for none")
        return self


class EncoderFeed(Settings):
    """The feed-forward part of a block of the encoder."""

    kind: Literal["geglu", "gelu"] = "geglu"
    """A value times a gate that went through a GELU, and back (Shazeer, 2020), or out through one GELU and
    back (BERT); the exact GELU in both."""
    width: int = Field(0, ge=0)
    """Inner width; 0 means 4 · width for gelu, and 8/3 · width rounded up to a multiple of 64 for geglu,
    which has three matrices where gelu has two."""


@final
class Encoder(Model):
    """A transformer that is made to read in both directions: BERT, ELECTRA and ModernBERT."""

    gives: ClassVar[frozenset[str]] = frozenset({"causal", "full", "prefix", "general", "packed", "types"})
    recomputes: ClassVar[bool] = True

    width: int = Field(384, ge=1)
    """Of the residual stream."""
    depth: int = Field(6, ge=1)
    """Blocks."""
    heads: Annotated[Heads, short("count")] = Heads()
    positions: Annotated[Positions, short("kind")] = Positions()
    norm: Literal["pre", "post"] = "pre"
    """LayerNorm before each part and no biases (ModernBERT), or after each addition and biases (BERT)."""
    feed: Annotated[EncoderFeed, short("kind")] = EncoderFeed()
    embedding: Annotated[EncoderEmbedding, short("width")] = EncoderEmbedding()
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the embeddings, the attention weights and what each block adds."""

    @model_validator(mode="after")
    def _fits(self) -> "Encoder":
        check_heads(self.width, self.heads, self.positions)
        return self

    def lacks(self) -> Mapping[str, str]:
        return {} if self.embedding.types else {"types": "model.embedding.types = 2"}

    @property
    def embedding_width(self) -> int:
        """Of the vectors of tokens, places and types, resolved."""
        return self.embedding.width or self.width

    @property
    def widened(self) -> bool:
        """Whether embeddings have a width of their own."""
        return self.embedding_width != self.width

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
        """Whether linear layers and norms have biases."""
        return self.norm == "post"

    @property
    def epsilon(self) -> float:
        """Of the norms."""
        return 1e-12 if self.norm == "post" else 1e-5

    @property
    def compiles(self) -> bool:
        return True

    def parameter_count(self, sizes: Sizes) -> int:
        each = 2 if self.bias else 1
        norm, inside = each * self.width, self.embedding_width
        matrices, biases = self._block_weights()
        level = 2 * each * self.head_width if self.heads.normed else 0
        block = matrices + (biases if self.bias else 0) + 2 * norm + level
        places = sizes.window if self.positions.kind == "learned" else 0
        tables = (sizes.vocabulary + self.embedding.types + places) * inside + self._widening()
        heads, _ = head_counts(sizes, self.width, tied=True, bias=True, embedding=inside)
        transforms = sum(self._transform_count(spec) for spec in sizes.heads)
        # with pre, one more norm stands at the end, but one less within
        return tables + each * inside + self.depth * block + heads + transforms

    def flops_per_token(self, sizes: Sizes) -> int:
        """As if every place were asked: a masked objective asks a seventh, and spends less in its heads."""
        _, heads = head_counts(sizes, self.width, embedding=self.embedding_width)
        transforms = sum(self.width * self._outward(spec) for spec in sizes.heads)
        ends = heads + transforms + (self.width * self.embedding_width if self.widened else 0)
        attention = 12 * self.width * self.heads.pairs(self.depth, sizes.window) // sizes.window
        return 6 * (self.depth * self._block_weights()[0] + ends) + attention

    def _block_weights(self) -> tuple[int, int]:
        """Of one block: weights that multiply, and biases."""
        inward = (self.heads.count + 2 * self.key_heads) * self.head_width
        feed = (2 if self.feed.kind == "geglu" else 1) * self.feed_width
        matrices = self.width * (inward + self.width + feed + self.feed_width)
        return matrices, inward + self.width + feed + self.width

    def _widening(self) -> int:
        """Parameters of the layer between embeddings and blocks."""
        return self.width * (self.embedding_width + self.bias) if self.widened else 0

    def _transform_count(self, spec: HeadSpec) -> int:
        outward = self._outward(spec)
        dense = (self.width + self.bias) * outward
        return dense + (0 if self._bare(spec) else (1 + self.bias) * outward)

    def _outward(self, spec: HeadSpec) -> int:
        """What a head's projection reads."""
        return self.embedding_width if spec.kind == "tokens" else self.width

    def _bare(self, spec: HeadSpec) -> bool:
        """Whether what stands before a head has no norm."""
        return spec.kind != "tokens" and self.norm == "post"

    def build(self, sizes: Sizes) -> "EncoderNetwork":
        return EncoderNetwork(self, sizes)

    def block(self, number: int) -> Block:
        """The block of that number, from 0."""
        level = None
        if self.heads.normed:
            level = LevelHeads(self.heads.count, lambda: self.layer_norm(self.head_width))
        attend = Attention(self.width, self.heads.count, self.key_heads, self.dropout, self.bias, level)
        feed = (GeGlu if self.feed.kind == "geglu" else ExactGelu)(self.width, self.feed_width, self.bias)
        if self.norm == "post":
            return PostBlock(attend, feed, self.layer_norm, self.dropout)
        return Block(attend, feed, self.layer_norm, self.dropout, None if number else nn.Identity())

    def layer_norm(self, width: int = 0) -> nn.LayerNorm:
        """A LayerNorm of the description's kind, by default as wide as the residual stream."""
        return nn.LayerNorm(width or self.width, eps=self.epsilon, bias=self.bias)

    def transform(self, spec: HeadSpec) -> nn.Module:
        """What a head puts to the hidden states before its projection."""
        outward = self._outward(spec)
        if not self._bare(spec):
            return Transform(self.width, outward, self.layer_norm(outward), self.bias)
        if spec.kind == "classes":
            return Pooler(self.width)
        return Transform(self.width, outward, nn.Identity(), self.bias)


class EncoderNetwork(Transformer):
    """Embeddings and their norm, what widens them, blocks, with pre a norm, heads."""

    def __init__(self, model: Encoder, sizes: Sizes) -> None:
        inside, types = model.embedding_width, model.embedding.types
        super().__init__(model.width, model.heads, model.positions, sizes, inside)
        self.model = model
        self.types = nn.Embedding(types, inside) if types else None
        self.norm_embedded = model.layer_norm(inside)
        self.widen = nn.Linear(inside, model.width, bias=model.bias) if model.widened else nn.Identity()
        self.blocks = nn.ModuleList(model.block(number) for number in range(model.depth))
        self.norm = nn.Identity() if model.norm == "post" else model.layer_norm()
        self.heads = build_heads(
            sizes.heads, model.width, sizes.loss, tied=self.embedding, bias=True, transform=model.transform
        )

    def embed(self, main: Rows) -> Tensor:
        x: Tensor = self.embedding(main.ids)
        if self.types is not None:
            x = x + self.types(torch.zeros_like(main.ids) if main.types is None else main.types)
        if self.places is not None:
            x = x + self.places(main.positions)
        widened: Tensor = self.widen(dropout(self.norm_embedded(x), self.model.dropout, self.training))
        return widened

    def initial(self, name: str) -> Initial:
        if name.endswith("bias"):
            return Initial("constant", 0.0)
        if "norm" in name.rpartition(".")[0].rpartition(".")[2]:
            return Initial("constant", 1.0)
        if "outward" in name and self.model.norm == "pre":
            return Initial("normal", 0.02 / (2 * self.model.depth) ** 0.5)
        return Initial("normal", 0.02)

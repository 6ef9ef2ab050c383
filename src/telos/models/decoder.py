"""The decoder: GPT-2 (Radford et al., 2019) and Llama (Touvron et al., 2023), its parts chosen by name.

    GPT-2 style    positions = "learned"   norm = "layer"   feed = "gelu"      biases with norm = "layer"
    Llama style    positions = "rotary"    norm = "rms"     feed = "swiglu"    no biases

Blocks normalise before they mix, and once more after the last. What a place may see comes with the rows, so
the same network is causal, bidirectional or anything between. Blocks can be local (`heads.local`), as in
Mistral and Gemma, and queries and keys normalised (`heads.normed`), as in OLMo 2 and Qwen 3. The feed-forward
can be many, of which each token goes through a few (`feed.experts`), as in Mixtral and DeepSeek. A head for
classes has no bias, as that of `GPT2ForSequenceClassification` and of Llama's.

First values, for depth N (GPT-2's):

    embedding, learned positions, head (untied)     normal, 0.02
    inward matrices of attention and feed-forward   normal, 0.02
    outward matrices of both                        normal, 0.02 / √(2N)
    routers of experts                              normal, 0.02
    norms' weights                                  1
    all biases                                      0
"""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, model_validator
from torch import Tensor, nn

from telos.batch import Rows
from telos.config import Settings
from telos.models._base import Initial, Model, Sizes
from telos.models._dropout import dropout
from telos.models._experts import ExpertBlock, Experts, Routed, balanced
from telos.models._heads import build_heads, head_counts
from telos.models._layers import Attention, Block, Gelu, LevelHeads, SwiGlu
from telos.models._norm import RmsNorm
from telos.models._transformer import Heads, Local, Positions, Transformer, check_heads, short

__all__ = ["Decoder", "Experts", "Feed", "Heads", "Local", "Norm", "Positions"]


class Norm(Settings):
    """What stands before each part of a block, and at the end."""

    kind: Literal["rms", "layer"] = "rms"
    """RMSNorm without biases anywhere, or LayerNorm with biases in every layer."""
    epsilon: float = Field(1e-5, gt=0)
    """Added to the mean square or the variance, so that nothing is divided by nought."""


class Feed(Settings):
    """The feed-forward part of a block."""

    kind: Literal["swiglu", "gelu"] = "swiglu"
    """A gate times a value and back (Shazeer, 2020), or out through one GELU and back (GPT-2)."""
    width: int = Field(0, ge=0)
    """Inner width; 0 means 4 · width for gelu, and 8/3 · width rounded up to a multiple of 64 for swiglu,
    which has three matrices where gelu has two: so both hold nearly the same number of weights."""
    experts: Annotated[Experts, short("count")] = Experts()
    """Several of them, of which each token goes through a few."""


@final
class Decoder(Model):
    """A transformer of equal blocks."""

    gives: ClassVar[frozenset[str]] = frozenset({"causal", "full", "prefix", "general", "packed"})
    recomputes: ClassVar[bool] = True

    width: int = Field(384, ge=1)
    """Of the residual stream."""
    depth: int = Field(6, ge=1)
    """Blocks."""
    heads: Annotated[Heads, short("count")] = Heads()
    positions: Annotated[Positions, short("kind")] = Positions()
    norm: Annotated[Norm, short("kind")] = Norm()
    feed: Annotated[Feed, short("kind")] = Feed()
    tied: bool = True
    """The head shares the embedding's weight."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the embeddings, the attention weights and what each block adds."""

    @model_validator(mode="after")
    def _widths_fit(self) -> "Decoder":
        check_heads(self.width, self.heads, self.positions)
        if self.feed.experts.count and self.bias:
            raise ValueError('experts have no biases: set norm = "rms", or leave feed.experts out')
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
        return self.norm.kind == "layer"

    @property
    def compiles(self) -> bool:
        """But for experts, whose shares of the tokens are known only when they are computed."""
        return not self.feed.experts.count

    def parameter_count(self, sizes: Sizes) -> int:
        each = 2 if self.bias else 1
        norm = each * self.width
        matrices, biases = self._block_weights(self.feed.experts.count)
        level = 2 * each * self.head_width if self.heads.normed else 0
        block = matrices + (biases if self.bias else 0) + 2 * norm + level
        places = sizes.window * self.width if self.positions.kind == "learned" else 0
        heads, _ = head_counts(sizes, self.width, tied=self.tied, class_bias=False)
        return sizes.vocabulary * self.width + places + self.depth * block + norm + heads

    def flops_per_token(self, sizes: Sizes) -> int:
        _, heads = head_counts(sizes, self.width)
        pairs = self.heads.pairs(self.depth, sizes.window)
        attention = (
            12 * self.width * pairs // sizes.window // 2
        )  # of two places only the later sees the other
        return 6 * (self.depth * self._block_weights(self.feed.experts.active)[0] + heads) + attention

    def _block_weights(self, experts: int) -> tuple[int, int]:
        """Of one block with so many experts, where there are any: weights that multiply, and biases."""
        inward = (self.heads.count + 2 * self.key_heads) * self.head_width
        feed = (2 if self.feed.kind == "swiglu" else 1) * self.feed_width
        feeds, router = (experts, self.feed.experts.count) if self.feed.experts.count else (1, 0)
        matrices = self.width * (inward + self.width + feeds * (feed + self.feed_width) + router)
        return matrices, inward + self.width + feed + self.width

    def build(self, sizes: Sizes) -> "DecoderNetwork":
        return DecoderNetwork(self, sizes)

    def block(self) -> Block:
        """One block of the description."""
        level = LevelHeads(self.heads.count, self.norm_maker(self.head_width)) if self.heads.normed else None
        attend = Attention(self.width, self.heads.count, self.key_heads, self.dropout, self.bias, level)
        if self.feed.experts.count:
            routed = Routed(self.width, self.feed_width, self.feed.kind, self.feed.experts)
            return ExpertBlock(attend, routed, self.norm_maker(self.width), self.dropout)
        feed = (SwiGlu if self.feed.kind == "swiglu" else Gelu)(self.width, self.feed_width, self.bias)
        return Block(attend, feed, self.norm_maker(self.width), self.dropout)

    def norm_maker(self, width: int) -> Callable[[], nn.Module]:
        """Makes one norm of the description's kind."""
        kind = nn.LayerNorm if self.bias else RmsNorm
        return lambda: kind(width, eps=self.norm.epsilon)


class DecoderNetwork(Transformer):
    """Embedding, blocks, norm, heads."""

    def __init__(self, model: Decoder, sizes: Sizes) -> None:
        super().__init__(model.width, model.heads, model.positions, sizes)
        self.model = model
        self.blocks = nn.ModuleList(model.block() for _ in range(model.depth))
        self.norm = model.norm_maker(model.width)()
        self.heads = build_heads(
            sizes.heads,
            model.width,
            sizes.loss,
            tied=self.embedding if model.tied else None,
            class_bias=False,
        )

    def embed(self, main: Rows) -> Tensor:
        x: Tensor = self.embedding(main.ids)
        if self.places is not None:
            x = x + self.places(main.positions)
        return dropout(x, self.model.dropout, self.training)

    def stepped(self, good: bool) -> dict[str, Tensor]:
        return balanced(self, good)

    def initial(self, name: str) -> Initial:
        if name.endswith("bias"):
            return Initial("constant", 0.0)
        if "norm" in name.rpartition(".")[0].rpartition(".")[2]:
            return Initial("constant", 1.0)
        if "outward" in name:
            return Initial("normal", 0.02 / (2 * self.model.depth) ** 0.5)
        return Initial("normal", 0.02)

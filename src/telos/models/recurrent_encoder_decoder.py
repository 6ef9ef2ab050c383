"""The recurrent encoder and decoder with attention (Bahdanau, Cho, Bengio, 2015; Luong, Pham, Manning, 2015):
the source is read in both directions, the main side is said from left to right and looks at all of the
source.

    →hⱼ, ←hⱼ   the encoder's two directions; hⱼ = [→hⱼ; ←hⱼ] is the annotation of place j
    s₀         tanh(B [→h at the last place; ←h at the first]); of an LSTM its cells too (Xu et al., 2015)
    sₜ         the decoder's state: a GRU or LSTM over the main side alone
    eₜⱼ        sₜ · W hⱼ                   score = "general"   (Luong et al., 2015)
               v · tanh(Q sₜ + W hⱼ)       score = "additive"  (Bahdanau et al., 2015)
    cₜ         Σⱼ aₜⱼ hⱼ,  aₜ = softmax over the source of eₜ
    output     tanh(C [cₜ; sₜ])

Attention comes after the recurrence, as Luong has it, so training is one call of the fused kernel for each
layer and a few matrix products; neither Bahdanau's next state nor Luong's next input is fed with what was
found, which would make places wait for each other. Who sees no source starts from s₀ = 0 and has c = 0. One
document per row: state cannot be cleared inside a row.

First values:

    embedding                                  uniform, ±1: from ±0.1 attention stays even for long
    heads' weights                             uniform, ±0.1; a tied one is the embedding's, and what it reads
                                               is divided by √(its width), as T5 has it
    recurrent matrices and biases              uniform, ±1 / √width
    B, C, Q, v, W                              uniform, ±1 / √(numbers that they read)
    heads' biases                              0
"""

from typing import Annotated, Any, ClassVar, Literal, NamedTuple, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from telos.batch import HeadSpec, Rows
from telos.config import Settings
from telos.models import _recurrent
from telos.models._base import Initial, Model, Network, Sizes
from telos.models._heads import Scaled, build_heads, head_counts
from telos.models._recurrent import (
    GATES,
    PARTS,
    Cell,
    Dropout,
    Layers,
    State,
    dropped,
    embedded,
    last,
    real,
    resumed,
    run,
)
from telos.models._relative import Reading, reading
from telos.models._transformer import short

__all__ = ["Alignment", "RecurrentEncoderDecoder", "SideLayers"]


class SideLayers(Settings):
    """Recurrent layers."""

    encoder: int = Field(1, ge=1)
    """Of the encoder, each in both directions."""
    decoder: int = Field(0, ge=0)
    """Of the decoder; 0 means as many."""


class Alignment(Settings):
    """How well a place of the main side and one of the source go together."""

    score: Literal["general", "additive"] = "general"
    """A product of the two through a matrix (Luong et al., 2015), or a small network that has a hidden layer
    for every pair of places (Bahdanau et al., 2015)."""
    width: int = Field(0, ge=0)
    """Of the hidden layer of `additive`; 0 means that of the state."""

    @model_validator(mode="after")
    def _settings_fit(self) -> "Alignment":
        if self.width and self.score == "general":
            raise ValueError(
                'width does nothing with score = "general", which has no hidden layer; leave it out, or set '
                'score = "additive"'
            )
        return self


@final
class RecurrentEncoderDecoder(Model):
    """A recurrent network that reads one text in both directions and says another, with attention."""

    gives: ClassVar[frozenset[str]] = frozenset({"causal", "source"})
    needs: ClassVar[frozenset[str]] = frozenset({"source"})

    embedding: int = Field(300, ge=1)
    """Width of the embedding, which both sides share."""
    width: int = Field(512, ge=1)
    """Of the state: of either direction of the encoder, and of the decoder."""
    depth: Annotated[SideLayers, short("encoder")] = SideLayers()
    cell: Cell = "gru"
    """Gated recurrent unit, or long short-term memory, which has a cell beside its state."""
    attention: Annotated[Alignment, short("score")] = Alignment()
    tied: bool = False
    """The head shares the embedding's weight; the output is then as wide as that, and not as the state."""
    dropout: Dropout = Dropout()

    @model_validator(mode="after")
    def _settings_fit(self) -> "RecurrentEncoderDecoder":
        if self.dropout.between and self.depth.encoder == self.decoder_depth == 1:
            raise ValueError(
                "dropout.between does nothing with one layer on each side; set dropout.output instead"
            )
        return self

    @property
    def decoder_depth(self) -> int:
        """Layers of the decoder, resolved."""
        return self.depth.decoder or self.depth.encoder

    @property
    def outward(self) -> int:
        """Width of the output."""
        return self.embedding if self.tied else self.width

    @property
    def hidden_layer(self) -> int:
        """Width of the additive score's hidden layer, resolved; 0 for the general score."""
        return 0 if self.attention.score == "general" else self.attention.width or self.width

    def parameter_count(self, sizes: Sizes) -> int:
        heads, _ = head_counts(sizes, self.outward, tied=self.tied, bias=True)
        layers = 2 * self.depth.encoder + self.decoder_depth
        biases = 2 * GATES[self.cell] * self.width * layers
        rest = self._bridge() + self.hidden_layer + biases
        return sizes.vocabulary * self.embedding + self._weights() + rest + heads

    def flops_per_token(self, sizes: Sizes) -> int:
        """Of a token of the main side together with one of the source: a full row has as many of either."""
        _, heads = head_counts(sizes, self.outward)
        scores = self.hidden_layer or self.width
        pairs = sizes.window * (scores + 2 * self.width)  # each place sees the whole source
        return 6 * (self._weights() + heads + pairs) + 6 * self._bridge() // sizes.window

    def _weights(self) -> int:
        """Weights that multiply once at every place, between the embedding and the heads."""
        width, hidden = self.width, self.hidden_layer
        encoder = [self.embedding] + [2 * width] * (self.depth.encoder - 1)
        decoder = [self.embedding] + [width] * (self.decoder_depth - 1)
        layers = sum(_recurrent.weights(self.cell, each, width) for each in (*encoder, *encoder, *decoder))
        score = 3 * width * hidden if hidden else 2 * width * width
        return layers + score + 3 * width * self.outward

    def _bridge(self) -> int:
        """Weights of B, which multiply once in a row."""
        return 2 * self.width * len(PARTS[self.cell]) * self.decoder_depth * self.width

    def build(self, sizes: Sizes) -> "RecurrentEncoderDecoderNetwork":
        return RecurrentEncoderDecoderNetwork(self, sizes)

    def align(self) -> "General | Additive":
        """The score."""
        hidden = self.hidden_layer
        return Additive(self.width, 2 * self.width, hidden) if hidden else General(self.width, 2 * self.width)


class Memory(NamedTuple):
    """What the decoder needs of the source."""

    values: Tensor
    """The annotations (B, S, 2 · width)."""
    keys: Tensor
    """W of them (B, S, inner)."""
    segment: Tensor
    seen: Tensor


class Said(NamedTuple):
    """What later places need of earlier ones: of the main side, and of the source if there was one."""

    decoder: State
    memory: Memory | None


class General(nn.Module):
    """s · W h."""

    def __init__(self, width: int, source: int) -> None:
        super().__init__()
        self.memory = nn.Linear(source, width, bias=False)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Scores (B, T, S) of `x` (B, T, width), for W of the source (B, S, width)."""
        return x @ keys.transpose(1, 2)


class Additive(nn.Module):
    """v · tanh(Q s + W h). Its hidden layer exists for all pairs of places at once: B · T · S · inner."""

    def __init__(self, width: int, source: int, inner: int) -> None:
        super().__init__()
        self.queries = nn.Linear(width, inner, bias=False)
        self.memory = nn.Linear(source, inner, bias=False)
        self.score = nn.Linear(inner, 1, bias=False)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Scores (B, T, S) of `x` (B, T, width), for W of the source (B, S, inner)."""
        pairs = torch.tanh(self.queries(x).unsqueeze(2) + keys.unsqueeze(1))
        scores: Tensor = self.score(pairs).squeeze(3)
        return scores


class Bidirectional(nn.Module):
    """Layers of two directions; each reads what both directions of the one before it say."""

    def __init__(self, cell: Cell, inward: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [inward] + [2 * width] * (depth - 1)
        self.width = width
        self.rightward = nn.ModuleList(Layers(cell, each, width, 1)[0] for each in widths)
        self.leftward = nn.ModuleList(Layers(cell, each, width, 1)[0] for each in widths)

    def forward(self, x: Tensor, lengths: Tensor, dropout: Dropout) -> tuple[Tensor, Tensor]:
        """Annotations (B, S, 2 · width) of x (B, S, inward), and of the last layer what either direction says
        at its end (B, 2 · width): zeros where a row has no place."""
        around = backwards(lengths, x.shape[1])
        nothing = x.new_zeros(len(x), self.width)
        for place, both in enumerate(zip(self.rightward, self.leftward, strict=True)):
            x = dropped(x, dropout.between if place else dropout.input, dropout.locked, self.training)
            right, left = (
                self._read(layer, given, nothing, dropout)
                for layer, given in zip(both, (x, turned(x, around)), strict=True)
            )
            ends = [last(direction, lengths, nothing) for direction in (right, left)]
            x = torch.cat((right, turned(left, around)), -1)
        return x, torch.cat(ends, -1)

    def _read(self, layer: nn.Module, x: Tensor, nothing: Tensor, dropout: Dropout) -> Tensor:
        start = [nothing] * (1 if isinstance(layer, nn.GRU) else 2)
        return run(layer, x, start, None, dropout.weights)[0]


def backwards(lengths: Tensor, places: int) -> Tensor:
    """Where each place (B, places) is when the real ones are read from their end; padding stays where it
    is."""
    place = torch.arange(places, device=lengths.device).expand(len(lengths), places)
    return torch.where(place < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - place, place)


def turned(x: Tensor, around: Tensor) -> Tensor:
    """x (B, S, width) in the order `around` (B, S)."""
    return x[torch.arange(len(x), device=x.device).unsqueeze(1), around]


class RecurrentEncoderDecoderNetwork(Network):
    """One embedding, an encoder of both directions, a decoder that begins where that ended, attention, heads
    on the decoder's side."""

    def __init__(self, model: RecurrentEncoderDecoder, sizes: Sizes) -> None:
        super().__init__()
        self.model = model
        cell, inward, width = model.cell, model.embedding, model.width
        self.embedding = nn.Embedding(sizes.vocabulary, inward)
        self.encoder = Bidirectional(cell, inward, width, model.depth.encoder)
        self.bridge = nn.Linear(2 * width, len(PARTS[cell]) * model.decoder_depth * width, bias=False)
        self.decoder = Layers(cell, inward, width, model.decoder_depth)
        self.align = model.align()
        self.combine = nn.Linear(3 * width, model.outward, bias=False)
        tied = self.embedding if model.tied else None

        def transform(spec: HeadSpec) -> nn.Module | None:
            whole = model.tied and spec.kind == "tokens" and spec.outputs == sizes.vocabulary
            return Scaled(model.outward**-0.5) if whole else None

        self.heads = build_heads(
            sizes.heads, model.outward, sizes.loss, tied=tied, bias=True, transform=transform
        )

    def encode(
        self, main: Rows, source: Rows | None = None, state: Any = None, continues: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Hidden states (B, T, outward) of the main side, and what its next places need (none in training).

        A source takes the place of the one that the state holds; without one, that goes on being looked at.
        Rows that go on keep the decoder's state; those that start anew begin where the new source ended.
        """
        dropout = self.model.dropout
        if source is None:
            memory, first = _kept(state, continues), self._nothing(main)
        else:
            memory, first = self._read(source)
        before = resumed(first, state.decoder if state else None, continues)
        x = embedded(self.embedding, main.ids, dropout.words)
        x, after = self.decoder(x, before, None if self.training else real(main), dropout)
        x = torch.tanh(self.combine(torch.cat((self._look(x, main, memory), x), -1)))
        hidden = dropped(x, dropout.output, dropout.locked, self.training)
        return hidden, None if after is None else Said(after, _rested(memory))

    def chosen(self, state: Any, rows: Tensor, *, same_sources: bool = False) -> Any:
        """What is kept of the sources is the larger part, and stays where it can."""
        if not same_sources:
            return super().chosen(state, rows)
        return super().chosen(state._replace(memory=None), rows)._replace(memory=state.memory)

    def looks(self, main: Rows, source: Rows) -> Tensor:
        memory, first = self._read(source)
        x = embedded(self.embedding, main.ids, self.model.dropout.words)
        x, _ = self.decoder(x, first, real(main), self.model.dropout)
        return self._shares(x, memory, self._reading(x, main, memory))

    def read(self, source: Rows) -> Tensor:
        """What the encoder makes of a source: (B, S, 2 · width)."""
        return self._annotated(source)[0]

    def _annotated(self, source: Rows) -> tuple[Tensor, Tensor]:
        x = embedded(self.embedding, source.ids, self.model.dropout.words)
        found: tuple[Tensor, Tensor] = self.encoder(x, real(source), self.model.dropout)
        return found

    def _read(self, source: Rows) -> tuple[Memory, State]:
        """What there is to look at, and the state that the decoder starts from."""
        values, ends = self._annotated(source)
        parts = PARTS[self.model.cell]
        shape = (len(ends), len(parts), self.model.decoder_depth, self.model.width)
        first = dict(zip(parts, torch.tanh(self.bridge(ends)).view(shape).unbind(1), strict=True))
        return Memory(values, self.align.memory(values), source.segment, source.seen), first

    def _nothing(self, main: Rows) -> State:
        shape = (main.shape[0], self.model.decoder_depth, self.model.width)
        nothing = torch.zeros(shape, device=main.ids.device, dtype=self.embedding.weight.dtype)
        return dict.fromkeys(PARTS[self.model.cell], nothing)

    def _look(self, x: Tensor, main: Rows, memory: Memory | None) -> Tensor:
        """What the places `x` (B, T, width) find in the source: (B, T, 2 · width)."""
        if memory is None:
            return x.new_zeros(*x.shape[:2], 2 * self.model.width)
        sight = self._reading(x, main, memory)
        found: Tensor = self._shares(x, memory, sight).to(x.dtype) @ memory.values.to(x.dtype)
        return found.masked_fill(sight.blind, 0)

    def _reading(self, x: Tensor, main: Rows, memory: Memory) -> Reading:
        """What of the source the places may see."""
        return reading(main.segment, memory.segment, memory.seen, x.dtype)

    def _shares(self, x: Tensor, memory: Memory, sight: Reading) -> Tensor:
        """How much of each place of the source they find: (B, T, S)."""
        shares: Tensor = (self.align(x, memory.keys) + sight.mask.squeeze(1)).softmax(-1)
        return shares

    def initial(self, name: str) -> Initial:
        model = self.model
        if name == "embedding.weight":
            return Initial("uniform", 1.0)
        if name.startswith("heads."):
            return Initial("constant", 0.0) if name.endswith("bias") else Initial("uniform", 0.1)
        fan_in = {
            "bridge.weight": 2 * model.width,
            "combine.weight": 3 * model.width,
            "align.memory.weight": 2 * model.width,
            "align.score.weight": model.hidden_layer,
        }
        return Initial("uniform", fan_in.get(name, model.width) ** -0.5)


def _kept(state: Said | None, continues: Tensor | None) -> Memory | None:
    """The source that the state holds; rows that start anew do not see it."""
    if state is None or state.memory is None or continues is None:
        return state.memory if state else None
    return state.memory._replace(seen=state.memory.seen & continues.unsqueeze(1))


def _rested(memory: Memory | None) -> Memory | None:
    return memory and memory._replace(values=memory.values.detach(), keys=memory.keys.detach())

"""The minimal gated recurrent unit (Feng et al., 2024): gates that do not look at the state, so all places
are made at once.

    z       σ(W x)                             update
    n       g(V x),  g(s) = s + ½ for s ≥ 0, and σ(s) below
    h′      (1 − z) ⊙ h + z ⊙ n

A block is what the paper trains language models with: a convolution over four places, the unit, and a
feed-forward, in two branches with a norm before each.

    x + out(unit(convolution(norm(x))))    and    x + feed(norm(x))

The recurrence h′ = a ⊙ h + b is a parallel scan: the row is cut into about √T parts, which are gone through
side by side, and then joined one after the other. Its gradient is the same scan from the other end. Nothing
is divided by and no logarithm is taken, so it is as exact as going place by place.

The state can be cleared inside a row, so documents share rows, and it can go on from window to window.

First values, for depth N:

    embedding, head (untied)        normal, 0.02
    inward matrices                 normal, 0.02
    outward matrices                normal, 0.02 / √(2N)
    convolution                     uniform, ±1 / √(its width)
    norms' weights                  1
    biases                          0
"""

import math
from typing import Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from telos.models._base import Initial, Model, Sizes
from telos.models._heads import build_heads, head_counts
from telos.models._layers import Gelu
from telos.models._runs import Runs, RunsNetwork, State, convolve

__all__ = ["MinGru", "scan"]


@final
class MinGru(Model):
    """Minimal gated recurrent units in residual blocks."""

    gives: ClassVar[frozenset[str]] = frozenset({"causal", "packed", "carries"})
    recomputes: ClassVar[bool] = True

    width: int = Field(384, ge=1)
    """Of the residual stream."""
    depth: int = Field(6, ge=1)
    """Blocks."""
    expand: int = Field(1, ge=1)
    """The state is so many times as wide as the residual stream."""
    convolution: int = Field(4, ge=1)
    """Places that the convolution reaches over: this one and those just before it."""
    feed: int = Field(0, ge=0)
    """Width inside the feed-forward; 0 means four times that of the residual stream."""
    tied: bool = True
    """The head shares the embedding's weight."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the embeddings and on what each branch adds."""

    @property
    def inner(self) -> int:
        """Width of the state."""
        return self.expand * self.width

    @property
    def feed_width(self) -> int:
        """Width inside the feed-forward, resolved."""
        return self.feed or 4 * self.width

    def parameter_count(self, sizes: Sizes) -> int:
        block = self._matrices() + self.width * (self.convolution + 1) + 2 * self.inner + 2 * self.width
        heads, _ = head_counts(sizes, self.width, tied=self.tied)
        return sizes.vocabulary * self.width + self.depth * block + self.width + heads

    def flops_per_token(self, sizes: Sizes) -> int:
        _, heads = head_counts(sizes, self.width)
        return 6 * (self.depth * (self._matrices() + self.width * self.convolution) + heads)

    def _matrices(self) -> int:
        """Weights of a block's four matrices."""
        return self.width * (3 * self.inner + 2 * self.feed_width)

    def build(self, sizes: Sizes) -> "MinGruNetwork":
        return MinGruNetwork(self, sizes)


class Unit(nn.Module):
    """The convolution and the unit."""

    def __init__(self, model: MinGru) -> None:
        super().__init__()
        self.convolution = nn.Parameter(torch.empty(model.width, model.convolution))
        self.convolution_bias = nn.Parameter(torch.empty(model.width))
        self.inward = nn.Linear(model.width, 2 * model.inner)
        self.outward = nn.Linear(model.inner, model.width, bias=False)

    def forward(self, x: Tensor, runs: Runs, state: State) -> tuple[Tensor, State]:
        """`x` (B, T, width); returns the same shape, and the state afterwards."""
        mixed, kept = convolve(x, runs, state.inputs, self.convolution, self.convolution_bias)
        said = self.inward(mixed)
        with torch.autocast(x.device.type, enabled=False):
            fade, add = _gates(said.to(state.memory.dtype), runs)
            states = scan(fade, add, state.memory)
        told: Tensor = self.outward(states)
        return told, State(kept.detach(), states[:, -1].detach())


def _gates(said: Tensor, runs: Runs) -> tuple[Tensor, Tensor]:
    """What is kept of the state, and what is added to it, each (B, T, inner): padding keeps all and adds
    nothing, a document's first place keeps nothing of what was before."""
    update, new = said.chunk(2, -1)
    real = runs.real.unsqueeze(-1)
    update = torch.sigmoid(update) * real
    new = torch.where(new >= 0, new + 0.5, torch.sigmoid(new))
    goes_on = functional.pad(runs.number, (1, 0))[:, :-1] == runs.number
    return (1 - update) * goes_on.unsqueeze(-1), update * new


def scan(fade: Tensor, add: Tensor, start: Tensor) -> Tensor:
    """h′ = fade ⊙ h + add for all places: (B, T, C), from `start` (B, C). Differentiable once."""
    states: Tensor = _scan(fade, add, start)
    return states


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fade: Tensor, add: Tensor, start: Tensor) -> Tensor:
        states = _states(fade, add, start)
        ctx.save_for_backward(fade, states, start)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        fade, states, start = ctx.saved_tensors
        later = functional.pad(fade[:, 1:], (0, 0, 0, 1))
        slopes = _states(later.flip(1), upstream.flip(1), torch.zeros_like(start)).flip(1)
        before = torch.cat((start.unsqueeze(1), states[:, :-1]), 1)
        return slopes * before, slopes, slopes[:, 0] * fade[:, 0]


_scan: Any = _Scan.apply


def _states(fade: Tensor, add: Tensor, start: Tensor) -> Tensor:
    """The recurrence, in parts of about √T places."""
    rows, places, width = add.shape
    size = math.isqrt(places - 1) + 1
    parts = -(-places // size)
    short = (0, 0, 0, parts * size - places)
    kept = functional.pad(fade, short, value=1.0).view(rows, parts, size, width).clone()
    made = functional.pad(add, short).view(rows, parts, size, width).clone()
    for place in range(1, size):
        made[:, :, place].addcmul_(kept[:, :, place], made[:, :, place - 1])
        kept[:, :, place].mul_(kept[:, :, place - 1])
    begins = [start]
    for part in range(parts - 1):
        begins.append(torch.addcmul(made[:, part, -1], kept[:, part, -1], begins[-1]))
    made.addcmul_(kept, torch.stack(begins, 1).unsqueeze(2))
    return made.view(rows, parts * size, width)[:, :places]


class MinGruNetwork(RunsNetwork):
    """Embedding, blocks, norm, heads. A block's memory is (B, inner)."""

    def __init__(self, model: MinGru, sizes: Sizes) -> None:
        super().__init__()
        self.model, self.depth, self.dropout = model, model.depth, model.dropout
        self.embedding = nn.Embedding(sizes.vocabulary, model.width)
        self.norm_units = nn.ModuleList(_norm(model) for _ in range(model.depth))
        self.units = nn.ModuleList(Unit(model) for _ in range(model.depth))
        self.norm_feeds = nn.ModuleList(_norm(model) for _ in range(model.depth))
        self.feeds = nn.ModuleList(
            Gelu(model.width, model.feed_width, bias=False) for _ in range(model.depth)
        )
        self.norm = _norm(model)
        tied = self.embedding if model.tied else None
        self.heads = build_heads(sizes.heads, model.width, sizes.loss, tied=tied)

    def block(self, number: int, x: Tensor, runs: Runs, before: State) -> tuple[Tensor, State]:
        told, left = self.units[number](self.norm_units[number](x), runs, before)
        x = x + self.drop(told)
        return x + self.drop(self.feeds[number](self.norm_feeds[number](x))), left

    def nothing(self, rows: int) -> State:
        model, weight = self.model, self.embedding.weight
        inputs = weight.new_zeros(rows, model.convolution - 1, model.width)
        kind = torch.promote_types(weight.dtype, torch.float32)
        return State(inputs, weight.new_zeros(rows, model.inner, dtype=kind))

    def initial(self, name: str) -> Initial:
        if name.startswith("norm"):
            return Initial("constant", 1.0)
        if name.endswith("bias"):
            return Initial("constant", 0.0)
        if name.endswith("convolution"):
            return Initial("uniform", self.model.convolution**-0.5)
        return Initial("normal", 0.02 / (2 * self.model.depth) ** 0.5 if "outward" in name else 0.02)


def _norm(model: MinGru) -> nn.LayerNorm:
    return nn.LayerNorm(model.width, bias=False)

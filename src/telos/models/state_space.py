"""The selective state space of Mamba-2 (Gu and Dao, 2023; Dao and Gu, 2024): no attention, but a state of
fixed size.

Each head keeps a matrix H that is faded and added to, by how much the token itself says:

    Hₜ = exp(−aδₜ) · Hₜ₋₁ + δₜ · xₜ ⊗ bₜ        yₜ = Hₜ cₜ + d · xₜ

with x, b, c after a short causal convolution, δ = softplus(a number per head and token), and the output
multiplied with silu(z), normalised, and brought back to the residual stream. In chunks of 64 places the
recurrence is matrix products; only the state at the end of each chunk is made one after the other.

The state can be cleared inside a row, so documents share rows, and it can go on from window to window.

First values, for depth N:

    embedding, head (untied)        normal, 0.02
    inward matrices                 normal, 0.02
    outward matrices                normal, 0.02 / √(2N)
    convolution                     uniform, ±1 / √(its width)
    norms' weights, d               1
    fading, biases                  0: with that, a of the heads runs from 1 to 16 and δ from 0.001 to 0.1 in
                                    another order, both evenly in logarithm (in the paper they are drawn)
"""

import math
from typing import ClassVar, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from telos.models._base import Initial, Model, Sizes
from telos.models._heads import build_heads, head_counts
from telos.models._norm import RmsNorm
from telos.models._runs import Runs, RunsNetwork, State, convolve

__all__ = ["StateSpace"]

CHUNK = 64
"""Places whose outputs are made together, by matrix products."""
EPSILON = 1e-5
GOLDEN = (5**0.5 - 1) / 2


@final
class StateSpace(Model):
    """Mamba-2: blocks that keep a state in place of looking back."""

    gives: ClassVar[frozenset[str]] = frozenset({"causal", "packed", "carries"})
    recomputes: ClassVar[bool] = True

    width: int = Field(384, ge=1)
    """Of the residual stream."""
    depth: int = Field(12, ge=1)
    """Blocks; each holds about half as many weights as one of attention and feed-forward."""
    state: int = Field(64, ge=1)
    """Columns of a head's state."""
    head: int = Field(64, ge=1)
    """Rows of a head's state: the width of a head."""
    expand: int = Field(2, ge=1)
    """A block is inside so many times as wide as the residual stream."""
    convolution: int = Field(4, ge=1)
    """Places that the convolution reaches over: this one and those just before it."""
    tied: bool = True
    """The head shares the embedding's weight."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the embeddings and on what each block adds."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "StateSpace":
        if self.inner % self.head:
            raise ValueError(
                f"expand · width = {self.inner} must be a multiple of head, and is not one of {self.head}"
            )
        return self

    @property
    def inner(self) -> int:
        """Width inside a block."""
        return self.expand * self.width

    @property
    def heads(self) -> int:
        """Heads of a block."""
        return self.inner // self.head

    @property
    def convolved(self) -> int:
        """Channels of x, b and c together."""
        return self.inner + 2 * self.state

    def parameter_count(self, sizes: Sizes) -> int:
        convolution = self.convolved * (self.convolution + 1)
        block = self._matrices() + convolution + 3 * self.heads + self.inner + self.width
        heads, _ = head_counts(sizes, self.width, tied=self.tied)
        return sizes.vocabulary * self.width + self.depth * block + self.width + heads

    def flops_per_token(self, sizes: Sizes) -> int:
        """Weights that multiply, and the products of a chunk: with the chunk's places, and with the state."""
        chunk = min(CHUNK, sizes.window)
        scan = chunk * (self.state + self.inner) + 2 * self.state * self.inner
        _, heads = head_counts(sizes, self.width)
        return 6 * (self.depth * (self._matrices() + self.convolved * self.convolution + scan) + heads)

    def _matrices(self) -> int:
        """Weights of a block's two matrices."""
        return self.width * (self.inner + self.convolved + self.heads) + self.inner * self.width

    def build(self, sizes: Sizes) -> "StateSpaceNetwork":
        return StateSpaceNetwork(self, sizes)


class Mixer(nn.Module):
    """The block without its norm and its addition."""

    def __init__(self, model: StateSpace) -> None:
        super().__init__()
        self.model = model
        self.inward = nn.Linear(model.width, model.inner + model.convolved + model.heads, bias=False)
        self.convolution = nn.Parameter(torch.empty(model.convolved, model.convolution))
        self.convolution_bias = nn.Parameter(torch.empty(model.convolved))
        self.fading = nn.Parameter(torch.empty(model.heads))
        self.step_bias = nn.Parameter(torch.empty(model.heads))
        self.skip = nn.Parameter(torch.empty(model.heads))
        self.norm = RmsNorm(model.inner, eps=EPSILON)
        self.outward = nn.Linear(model.inner, model.width, bias=False)

    def forward(self, x: Tensor, runs: Runs, state: State) -> tuple[Tensor, State]:
        """`x` (B, T, width); returns the same shape, and the state afterwards."""
        model = self.model
        parts = [model.inner, model.convolved, model.heads]
        gate, inputs, step = torch.split(self.inward(x), parts, -1)
        mixed, kept = self._convolve(inputs, runs, state.inputs)
        values, write, read = torch.split(mixed, [model.inner, model.state, model.state], -1)
        with torch.autocast(x.device.type, enabled=False):
            kind = state.memory.dtype
            heads = values.to(kind).reshape(*x.shape[:2], model.heads, model.head)
            fade, size = self._speeds(step.to(kind), runs.real)
            out, memory = scan(
                heads * size.unsqueeze(-1), fade, write.to(kind), read.to(kind), runs, state.memory
            )
            out = out + self.skip.to(kind).unsqueeze(-1) * heads
        told: Tensor = self.outward(self.norm(out.flatten(2) * functional.silu(gate)))
        return told, State(kept.detach(), memory.detach())

    def _convolve(self, inputs: Tensor, runs: Runs, before: Tensor) -> tuple[Tensor, Tensor]:
        """Each place with those just before it of its own document; and what later places will reach."""
        out, kept = convolve(inputs, runs, before, self.convolution, self.convolution_bias)
        return functional.silu(out), kept

    def _speeds(self, step: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, heads) twice: −aδ and δ; padding neither fades nor adds."""
        place = torch.arange(self.model.heads, device=step.device, dtype=step.dtype)
        rate = torch.exp(self.fading.to(step.dtype) + (place + 0.5) / len(place) * math.log(16))
        start = 0.001 * 100 ** ((place + 1) * GOLDEN % 1)
        offset = start + torch.log(-torch.expm1(-start))  # softplus(offset) = start
        size = functional.softplus(step + self.step_bias.to(step.dtype) + offset) * real.unsqueeze(-1)
        return -rate * size, size


def scan(
    x: Tensor, fade: Tensor, write: Tensor, read: Tensor, runs: Runs, memory: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence for all places, chunk by chunk (Dao and Gu, 2024, section 6).

    Args:
        x: (B, T, heads, head), what is written, times its step.
        fade: (B, T, heads), logarithms ≤ 0.
        write: (B, T, state), b.
        read: (B, T, state), c.
        memory: (B, heads, head, state), what the rows begin with; only run 0 sees it.

    Returns:
        What is read (B, T, heads, head), and the memory after the last place.
    """
    outputs = []
    last = torch.zeros_like(runs.number[:, 0])
    for start in range(0, x.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        number, faded = runs.number[:, part], fade[:, part].cumsum(1)
        inside = _inside(x[:, part], faded, write[:, part], read[:, part], number)
        held = torch.where((number == last[:, None]).unsqueeze(-1), faded, -torch.inf).exp()
        before = torch.einsum("bts,bhps->bthp", read[:, part], memory) * held.unsqueeze(-1)
        outputs.append(inside + before)
        last = number[:, -1]
        left = torch.where((number == last[:, None]).unsqueeze(-1), faded[:, -1:] - faded, -torch.inf).exp()
        new = torch.einsum("bthp,bts->bhps", x[:, part] * left.unsqueeze(-1), write[:, part])
        memory = memory * held[:, -1, :, None, None] + new
    return torch.cat(outputs, 1), memory


def _inside(x: Tensor, faded: Tensor, write: Tensor, read: Tensor, number: Tensor) -> Tensor:
    """What the places of a chunk read of what the same chunk wrote."""
    places = x.shape[1]
    seen = torch.ones(places, places, dtype=torch.bool, device=x.device).tril()
    seen = seen & (number[:, :, None] == number[:, None, :])
    level = faded.transpose(1, 2)
    decay = torch.where(seen[:, None], level.unsqueeze(-1) - level.unsqueeze(-2), -torch.inf).exp()
    match = (read @ write.mT).unsqueeze(1) * decay
    return (match @ x.transpose(1, 2)).transpose(1, 2)


class StateSpaceNetwork(RunsNetwork):
    """Embedding, blocks, norm, heads. A block's memory is (B, heads, head, state)."""

    def __init__(self, model: StateSpace, sizes: Sizes) -> None:
        super().__init__()
        self.model, self.depth, self.dropout = model, model.depth, model.dropout
        self.embedding = nn.Embedding(sizes.vocabulary, model.width)
        self.norms = nn.ModuleList(RmsNorm(model.width, eps=EPSILON) for _ in range(model.depth))
        self.mixers = nn.ModuleList(Mixer(model) for _ in range(model.depth))
        self.norm = RmsNorm(model.width, eps=EPSILON)
        tied = self.embedding if model.tied else None
        self.heads = build_heads(sizes.heads, model.width, sizes.loss, tied=tied)

    def block(self, number: int, x: Tensor, runs: Runs, before: State) -> tuple[Tensor, State]:
        told, left = self.mixers[number](self.norms[number](x), runs, before)
        return x + self.drop(told), left

    def nothing(self, rows: int) -> State:
        model, weight = self.model, self.embedding.weight
        memory = (rows, model.heads, model.head, model.state)
        inputs = weight.new_zeros(rows, model.convolution - 1, model.convolved)
        return State(inputs, weight.new_zeros(memory, dtype=torch.promote_types(weight.dtype, torch.float32)))

    def initial(self, name: str) -> Initial:
        if name.endswith(("norm.weight", "skip")) or name.startswith("norms."):
            return Initial("constant", 1.0)
        if name.endswith(("bias", "fading")):
            return Initial("constant", 0.0)
        if name.endswith("convolution"):
            return Initial("uniform", self.model.convolution**-0.5)
        return Initial("normal", 0.02 / (2 * self.model.depth) ** 0.5 if "outward" in name else 0.02)

"""What models share whose state can be cleared inside a row: which places belong to one stretch of text, a
convolution over them, and a network of blocks that each keep a state."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from telos.batch import Rows
from telos.models._base import Network
from telos.models._dropout import dropout

__all__ = ["Runs", "RunsNetwork", "State", "convolve"]


class Runs(NamedTuple):
    """Which places of a batch belong to one stretch of text."""

    number: Tensor
    """(B, T): grows where a document begins. What a row carries on has number 0."""
    real: Tensor
    """(B, T), bool: not padding."""

    @staticmethod
    def of(main: Rows, going: Tensor) -> "Runs":
        """`going` (B,): the row goes on where the state ends."""
        real = main.segment >= 0
        before = torch.cat((torch.where(going, main.segment[:, 0], -2)[:, None], main.segment[:, :-1]), 1)
        return Runs(((main.segment != before) & real).cumsum(1), real)


class State(NamedTuple):
    """What a block keeps after the last real place of each row."""

    inputs: Tensor
    """(B, places that the convolution looks back, channels): what it will still reach."""
    memory: Tensor
    """(B, …), at least float32."""


def convolve(
    inputs: Tensor, runs: Runs, before: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Each place of `inputs` (B, T, channels) with those just before it of its own document, channel by
    channel: `weight` (channels, places that it reaches over), the last for the place itself. With it comes
    what later places will reach; `before` is that of the places before."""
    reach, places = weight.shape[1] - 1, inputs.shape[1]
    line = torch.cat((before.to(inputs.dtype), inputs), 1)
    number = functional.pad(runs.number, (reach, 0))
    out = bias.to(inputs.dtype).expand_as(inputs)
    for tap in range(reach + 1):
        same = (number[:, tap : tap + places] == runs.number).unsqueeze(-1)
        out = out + weight[:, tap].to(inputs.dtype) * line[:, tap : tap + places] * same
    last = runs.real.sum(1, keepdim=True) + torch.arange(reach, device=inputs.device)
    same = number.gather(1, last) == runs.number[:, -1:]
    kept = line.gather(1, last.unsqueeze(-1).expand(-1, -1, line.shape[-1])) * same.unsqueeze(-1)
    return out, kept


class RunsNetwork(Network):
    """Embedding, blocks, norm, heads. State is a `State` per block."""

    norm: nn.Module
    depth: int
    dropout: float

    @abstractmethod
    def block(self, number: int, x: Tensor, runs: Runs, before: State) -> tuple[Tensor, State]:
        """`x` (B, T, width) after that block, and what the block keeps, detached."""

    @abstractmethod
    def nothing(self, rows: int) -> State:
        """What a block starts from."""

    def encode(
        self, main: Rows, source: Rows | None = None, state: Any = None, continues: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Hidden states (B, T, width), and the state; in training only where rows may be continued."""
        assert source is None, "this network has no source side"
        rows = main.shape[0]
        going = torch.full((rows,), state is not None, device=main.ids.device)
        if continues is not None:
            going = going & continues
        runs = Runs.of(main, going)
        x = self.drop(self.embedding(main.ids))
        after = []
        for number in range(self.depth):
            begun = self.nothing(rows) if state is None else State(*state[number])
            x, left = self.through(self.block, number, x, runs, begun)
            after.append(left)
        hidden: Tensor = self.norm(x)
        return hidden, tuple(after) if not self.training or continues is not None else None

    def undecayed(self) -> Sequence[str]:
        """The convolutions' weights as well: a few numbers for each channel, which are no matrix."""
        return [*super().undecayed(), *(n for n, _ in self.named_parameters() if n.endswith("convolution"))]

    def drop(self, x: Tensor) -> Tensor:
        """`x` after dropout."""
        return dropout(x, self.dropout, self.training)

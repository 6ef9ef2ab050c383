"""Text from a model that finds hidden tokens: all places hidden at first, then found a few at a time (Nie et
al., 2025; Chang et al., 2022).

    the prompt        ⊢ the cat ▒ ▒ ▒ ▒
    runs of a model   ⊢ the cat ▒ on ▒ ▒      ⊢ the cat ▒ on the ▒      ⊢ the cat sat on the ▒      …

In each run the model answers for all hidden places; at some of them its answer is drawn, as the settings of
generation say, and stands from then on. The prompt stays as it is. Where an end token is found, nothing comes
after it: the places behind it are given up at once.

Text is made in blocks: of `length` tokens, or as many as the window has room for beside what comes before.
Where there is room for none, a row goes on from its last half window, as in `left_to_right`.

A gap of `length` tokens is filled in the same way, with what comes after it (of that, as much as fits a
quarter of the window) in sight. An end token is then never drawn: the text goes on.

How places are hidden is the objective's to say (`Objective.hide`), so any that hides single places can be
decoded so. With one block, order = "random" and a run for each token, samples have exactly the distribution
that the objective `diffusion` bounds.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from telos.batch import Example, Piece
from telos.data.packing import collate
from telos.generate._base import Decoder
from telos.generate._draw import draw, exact
from telos.generate._rows import Row, closed
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Unmasking"]


@final
class Unmasking(Decoder):
    """Some of each row's hidden places in each run of the model.

    A sample's `logprob` is the sum over its tokens of log q when they were found, in the order that was
    taken.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"unmask"})

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        assert self.objective is not None, "an objective says how places are hidden"
        self.fills = [_Fill(row, self.objective, self.tokenizer, self.window) for row in self.rows]

    def join(self, other: Decoder) -> None:
        assert isinstance(other, Unmasking)
        super().join(other)
        self.fills += other.fills

    def keep(self, chosen: Sequence[int]) -> None:
        super().keep(chosen)
        self.fills = [self.fills[index] for index in chosen]

    def advance(self) -> None:
        going = [fill for fill in self.fills if not fill.row.finished]
        said = _answers(self.network, [fill.example() for fill in going], self.device)
        for fill, logits in zip(going, said, strict=True):
            fill.take(logits)


def _answers(network: Network, examples: Sequence[Example], device: torch.device) -> list[Tensor]:
    """What the model says at the places that each example asks: logits (asked, outputs) in float64."""
    batch = collate([[example] for example in examples]).to(device)
    hidden, _ = network.encode(batch.main, batch.source)
    said = []
    for row, example in enumerate(examples):
        at = torch.from_numpy(example.asks[0].at).to(device)
        said.append(exact(network.logits(hidden[row].index_select(0, at))))
    return said


class _Fill:
    """One sample while a block of it is found."""

    def __init__(self, row: Row, objective: Objective, tokenizer: Tokenizer, window: int) -> None:
        self.row, self.objective, self.tokenizer, self.window = row, objective, tokenizer, window
        self.settings = row.settings.unmask
        self.start = 0
        after = np.zeros(0, np.int64) if row.after is None else row.after
        self.after = after[: window // 4] if window else after
        self._begin()

    def _begin(self) -> None:
        """Hide the next block: what is still to be drawn, as far as there is room."""
        left = self.row.length - (len(self.row.ids) - self.row.given)
        wanted = min(left, self.settings.block or left)
        size = self._room(wanted)
        if not size:
            self.start = len(self.row.ids) - max(1, self.window // 2)
            size = max(1, self._room(wanted))
        self.found = np.full(size, -1, np.int64)
        self.chance = np.zeros(size)
        """log q of each token when it was found."""
        self.runs = min(self.settings.steps or size, size)

    def _room(self, wanted: int) -> int:
        """So many places, or fewer, fit the window hidden beside what comes before."""
        while wanted > 0:
            self.found = np.full(wanted, -1, np.int64)
            excess = len(self.example().main) - self.window if self.window else 0
            if excess <= 0:
                return wanted
            wanted -= excess
        return 0

    def example(self) -> Example:
        """What comes before, the block and what comes after, as the objective hides places."""
        before = self.row.ids[self.start :]
        block = np.where(self.found < 0, self.tokenizer.mask, self.found)
        hidden = len(before) + np.flatnonzero(self.found < 0)
        piece = Piece(ids=np.concatenate([before, block, self.after]).astype(np.int64), document=0)
        example = self.objective.hide(piece, hidden, hidden, self.tokenizer)
        assert example is not None, f"{self.objective.name} hides no places"
        return example

    def take(self, logits: Tensor) -> None:
        """Draw at some of the hidden places, given what the model says at all of them (hidden, outputs)."""
        hidden = np.flatnonzero(self.found < 0)
        free = logits.masked_fill(closed([self.row], logits.shape[1]).to(logits.device), -torch.inf)
        which = self._next(free, -(-len(hidden) // self.runs))
        uniform = torch.tensor([self.row.uniform() for _ in which], dtype=torch.float64, device=free.device)
        chosen = torch.from_numpy(which).to(free.device)
        drawn = draw(free[chosen], self.row.settings, uniform)
        said = logits[chosen]
        chance = said.gather(1, drawn.unsqueeze(1)).squeeze(1) - said.logsumexp(1)
        self.found[hidden[which]], self.chance[hidden[which]] = drawn.cpu().numpy(), chance.cpu().numpy()
        self.runs -= 1
        ends = np.flatnonzero(np.isin(self.found, list(self.row.ends)))
        self.found = self.found[: ends[0] + 1] if len(ends) else self.found
        if (self.found >= 0).all():
            self._close()

    def _next(self, free: Tensor, count: int) -> NDArray[np.int64]:
        """Which of the hidden places, ascending, by the logits of what may be drawn there."""
        if self.settings.order == "random":
            chosen = self.row.random.choice(len(free), size=count, replace=False)
        else:
            sure = (free.amax(1) - free.logsumexp(1)).cpu().numpy()
            chosen = np.argsort(-sure, kind="stable")[:count]
        ascending: NDArray[np.int64] = np.sort(chosen)
        return ascending

    def _close(self) -> None:
        """Nothing is hidden any more: read the block, and go on to the next unless the text is at its end."""
        for token, chance in zip(self.found.tolist(), self.chance.tolist(), strict=False):
            self.row.add(token, chance)
            if self.row.finished:
                return
        self._begin()

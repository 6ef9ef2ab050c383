"""The text of `left_to_right` with fewer runs of the model: its own further heads guess ahead, and one run
checks all of their guesses (Stern et al., 2018; Gloeckle et al., 2024).

    read      ⊢ the     cat sat on         head 1 says cat, and after it sat, and after that at: two guesses
    guesses             ✓   ✓   ✗          were right, and with `at` three tokens are known after one run

Head 1 says at each place what `left_to_right` would say there, and each token is drawn from that, with the
same random number. As long as what is drawn is what was guessed, the next place has read the right token too.
So a sample is the same token by token, at any temperature; and a bad guess costs nothing but its place.

A guess that was wrong is taken out of the state again. Where that cannot be done, as with recurrent networks,
nothing is guessed.
"""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch

from telos.generate._base import Decoder
from telos.generate._past import Part, Past
from telos.generate._rows import Row, take

__all__ = ["Speculative"]


@final
class Speculative(Past):
    """One token for each row in each run of the model, and one more for each right guess: the samples of
    `left_to_right`, but for rounding."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        heads: dict[str, Any] = dict(self.network.heads.items())
        ahead = {name: head.ahead for name, head in heads.items() if head.ahead}
        self.further = sorted(ahead, key=lambda name: ahead[name])
        """Heads that look further on, the nearest first."""
        self.guesses: list[list[int]] = [[] for _ in self.rows]

    def advance(self) -> None:
        self.make_room()
        self.guesses = [
            self._fitting(*each) for each in zip(self.rows, self.starts, self.guesses, strict=True)
        ]
        known = [self.part(*each) for each in zip(self.rows, self.starts, self.read, strict=True)]
        parts = [_longer(part, guess) for part, guess in zip(known, self.guesses, strict=True)]
        hidden = self.encode(parts)
        wrong = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=self.device)
        for index, row in enumerate(self.rows):
            if not row.finished:
                first = len(known[index].ids) - 1
                right = self._check(row, self.guesses[index], hidden[index, first : len(parts[index].ids)])
                wrong[index, first + 1 + right : len(parts[index].ids)] = True
                self.read[index] += first + 1 + right
                self.guesses[index] = self._guess(row, hidden[index, first + right])
        self._forget(wrong)

    def join(self, other: Decoder) -> None:
        assert isinstance(other, Speculative)
        super().join(other)
        self.guesses += other.guesses
        self.further = min(self.further, other.further, key=len)

    def keep(self, chosen: Sequence[int]) -> None:
        super().keep(chosen)
        self.guesses = [self.guesses[index] for index in chosen]

    def _fitting(self, row: Row, start: int, guesses: list[int]) -> list[int]:
        """The guesses for which there is room in the window and in the length that is wanted."""
        if row.finished:
            return []
        left = row.length - (len(row.ids) - row.given) - 1
        room = self.window - (len(row.ids) - start) if self.window else left
        return guesses[: max(0, min(left, room))]

    def _check(self, row: Row, guesses: list[int], hidden: torch.Tensor) -> int:
        """Draw at the known end of the row, and on as long as the guesses are right: how many were. `hidden`
        (1 + guesses, width) begins at the row's last known token."""
        said = self.network.logits(hidden)
        here = [self.rows.index(row)]
        for right, logits in enumerate(said.unsqueeze(1)):
            take([row], logits, self.shut(here, said.shape[1]))
            if row.finished or right == len(guesses) or row.ids[-1] != guesses[right]:
                return right
        raise AssertionError

    def _guess(self, row: Row, hidden: torch.Tensor) -> list[int]:
        """What comes after the token that was drawn last, by the further heads at the place before it."""
        if row.finished:
            return []
        shut = torch.from_numpy(row.forbidden).to(self.device)
        said = [self.network.logits(hidden, name) for name in self.further]
        return [int(logits[: row.size].index_fill(0, shut, -torch.inf).argmax()) for logits in said]

    def _forget(self, wrong: torch.Tensor) -> None:
        """Take the places (rows, places) of the last run that hold wrong guesses out of the state."""
        if not bool(wrong.any()):
            return
        self.state = self.network.unread(self.state, wrong)
        if self.state is None:  # it cannot be done: read all once more, and guess no further
            self.forget()
            self.further = []
            self.guesses = [[] for _ in self.rows]


def _longer(part: Part, guesses: list[int]) -> Part:
    """The part with guesses behind it."""
    if not guesses:
        return part
    more = np.arange(1, len(guesses) + 1)
    positions, order = (np.concatenate([each, each[-1] + more]) for each in (part.positions, part.order))
    return Part([*part.ids, *guesses], positions, order)

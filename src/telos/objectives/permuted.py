"""Permuted language modelling: tokens one after the other, in an order drawn by chance (XLNet: Yang et al.,
2019).

    loss = −Σ over the last sixth of the order   log q(xₛ | what comes before it in the order) / number asked

Hidden: what comes later in the order. Seen: what comes before it, wherever it stands. A text is in
its row twice, at the same positions:

    content   the tokens. The one of rank r sees itself and those of lower rank: order 2r + 1.
    queries   mask tokens, one for each token asked. That of rank r sees the content of lower rank, so not its
              own token: order 2r. Nobody sees a query: seen = 0.

So the two streams of the paper are two kinds of places in one row, by the one rule of what may be seen, and
no second network. For `the cat sat`, between ⊢ and ⊣, the order sat, ⊣, the, cat, and one in two asked:

    place           0    1     2     3     4         5         6
    goes in         ⊢    the   cat   sat   ⊣         ▒         ▒
    position        0    1     2     3     4         1         2
    rank            0    3     4     1     2         3         4
    order           1    7     9     3     5         6         8
    seen            yes  yes   yes   yes   yes       no        no
    is asked                                         the       cat
    sees (others)                                    ⊢ sat ⊣   ⊢ sat ⊣ the

**By hand.** If those two answers get the probabilities 1/4 and 1/2, the loss is (ln 4 + ln 2) / 2 = 1.040.

Only the end of the order is asked: what comes early has next to nothing to go by, and learns slowly.
"""

from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Ask, Cut, Example, Piece, Read, Side
from telos.errors import ConfigError
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Permuted"]

Ids = NDArray[np.int64]


@final
class Permuted(Objective):
    """XLNet's objective: predict tokens in any order."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"
    decoded: ClassVar[str] = "unmasking"

    one_in: int = Field(6, ge=1)
    """One token in so many is asked, at least one: those that are last in the order."""
    end: bool = True
    """Documents end with an end token, which takes part like any other."""

    def cut(self, window: int) -> Cut:
        """The longest pieces that fit `window` places with their queries; the first token is context.

        Raises:
            ConfigError: the window is too small.
        """
        longest = max((n for n in range(2, window) if n + self._asked(n - 1) <= window), default=0)
        if not longest:
            raise ConfigError(
                f"train.window = {window}: a token, the one before it and its query need at least 3 places."
            )
        return Cut(length=longest, overlap=1, begin=True, end=self.end)

    def requires(self) -> frozenset[str]:
        return frozenset({"general"})

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """What the piece answers for in an order drawn by chance, after its context."""
        piece = read[index]
        context = min(max(piece.ask_from, 1), len(piece))
        rank = np.zeros(len(piece), np.int64)
        rank[context:] = 1 + rng.permutation(len(piece) - context)
        asked = np.flatnonzero(rank > len(piece) - context - self._asked(len(piece) - context))
        return _streams(piece, np.arange(len(piece)), rank, asked, index, tokenizer)

    def hide(self, piece: Piece, hidden: Ids, asked: Ids, tokenizer: Tokenizer) -> Example:
        """What is not hidden comes first in the order, all of it at once; hidden places are queries or left
        out."""
        kept = np.setdiff1d(np.arange(len(piece)), hidden)
        rank = np.isin(np.arange(len(piece)), hidden).astype(np.int64)
        return _streams(piece, kept, rank, asked, -1, tokenizer)

    def _asked(self, tokens: int) -> int:
        """How many of so many."""
        return max(min(tokens, 1), tokens // self.one_in)


def _streams(piece: Piece, kept: Ids, rank: Ids, asked: Ids, sample: int, tokenizer: Tokenizer) -> Example:
    """The content of the places `kept`, and queries for `asked`; `rank` is of all places (n,)."""
    positions = np.concatenate([kept, asked])
    ids = piece.ids[positions].astype(np.int64)
    ids[len(kept) :] = tokenizer.mask
    content = np.arange(len(positions)) < len(kept)
    at = len(kept) + np.arange(len(asked))
    ask = Ask(head="tokens", at=at, target=piece.ids[asked], weight=np.ones(len(asked), np.float32))
    side = Side(
        ids=ids,
        positions=positions,
        segment=np.zeros(len(positions), np.int64),
        order=2 * rank[positions] + content,
        seen=content,
    )
    return Example(main=side, asks=(ask,), pattern="general", unit=piece.document, sample=sample)

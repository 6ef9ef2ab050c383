"""Masked diffusion: any share of the tokens is hidden, and found from the rest (Austin et al., 2021; Sahoo et
al., 2024; Nie et al., 2025).

    loss = E_t [ Σ over hidden i   1/t · −log q(xᵢ | what is not hidden) ] / number of tokens     0 < t ≤ 1

Hidden: a share t of the tokens, drawn evenly for each sample. Seen: the whole row, in both directions. Each
hidden token is asked with the weight 1/t. For `the cat sat on the mat` and t = 1/2, with the begin token
⊢, the end token ⊣ and ▒ for the mask token:

    text        ⊢   the  cat  sat  on  the  mat  ⊣
    goes in     ⊢   ▒    cat  ▒    on  the  ▒    ▒
    is asked        the       sat           mat  ⊣        weight 7/4 each

**It is a bound.** Find the tokens one after the other, in an order that is drawn by chance: a text then has
the probability p = mean over the orders of Π q. The loss, over all t and all that may be hidden, is the mean
over the orders of −log Π q, which is at least −log p, by Jensen's inequality.

**How many.** Of n tokens exactly k are hidden, k from 1 … n, all equally likely, and the weight is n/k. That
is t after it has been integrated out: if t is even and each token hidden with the chance t, k is even on
0 … n; and weights that add up to n in every sample make a mean of the same value that varies less.

**By hand.** Two tokens a b. The model says q(a) = q(b) = 1/2 if both are hidden, q(a | b) = 1 and
q(b | a) = 1/4. Hidden one (k = 1, weight 2): −ln 1 or −ln 1/4, mean 2 · (0 + 2 ln 2) / 2 = 2 ln 2. Hidden
both (k = 2, weight 1): 2 ln 2. So the bound is 2 ln 2 = 1.386 for both tokens. In truth, a first: 1/2 · 1/4;
b first: 1/2 · 1; p = (1/8 + 1/2) / 2 = 5/16, and −ln p = 1.163.

Text is made by the same way back: all places hidden, then found a few at a time (`generate/unmasking.py`).
"""

from dataclasses import replace
from typing import ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Ask, Cut, Example, Piece, Read, Side
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Diffusion"]

Ids = NDArray[np.int64]


@final
class Diffusion(Objective):
    """Find what is hidden, however much it is."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "bound"
    decoded: ClassVar[str] = "unmasking"

    end: bool = True
    """Documents end with an end token, which is hidden and asked too: so the model learns where to stop."""
    draws: int = Field(8, ge=1)
    """How often each piece of held-out text is scored, with t spread evenly: more vary less, and take longer.
    Training draws once each time."""

    def cut(self, window: int) -> Cut:
        """Rows of `window` tokens, of which the first is context: the begin token, or the last one before."""
        return Cut(length=window, overlap=1, begin=True, end=self.end)

    def requires(self) -> frozenset[str]:
        return frozenset({"full"})

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """A share of what the piece answers for hidden, and asked."""
        return replace(_noised(read[index], rng.random(), 1.0, rng, tokenizer), sample=index)

    def tries(self, read: Read, index: int, tokenizer: Tokenizer) -> tuple[Example, ...]:
        """`draws` examples, their t one from each of as many equal parts of 0 … 1."""
        piece, rng = read[index], np.random.default_rng((0, index))
        times = (np.arange(self.draws) + rng.random(self.draws)) / self.draws
        return tuple(
            replace(_noised(piece, float(time), 1 / self.draws, rng, tokenizer), sample=index)
            for time in times
        )

    def hide(self, piece: Piece, hidden: Ids, asked: Ids, tokenizer: Tokenizer) -> Example:
        """Exactly these places, each with weight 1."""
        return _hiding(piece, hidden, asked, 1.0, tokenizer)


def _noised(
    piece: Piece, time: float, share: float, rng: np.random.Generator, tokenizer: Tokenizer
) -> Example:
    """As many of the n tokens that the piece answers for hidden as `time` says; they weigh n · `share`."""
    free = np.arange(max(piece.ask_from, 1), len(piece))
    count = min(len(free), 1 + int(time * len(free)))
    hidden = np.sort(rng.choice(free, size=count, replace=False))
    return _hiding(piece, hidden, hidden, share * len(free) / max(count, 1), tokenizer)


def _hiding(piece: Piece, hidden: Ids, asked: Ids, weight: float, tokenizer: Tokenizer) -> Example:
    ids = piece.ids.astype(np.int64)
    target = ids[asked]
    ids[hidden] = tokenizer.mask
    return Example(
        main=Side.of(ids, causal=False),
        asks=(Ask(head="tokens", at=asked, target=target, weight=np.full(len(asked), weight, np.float32)),),
        pattern="full",
        unit=piece.document,
    )

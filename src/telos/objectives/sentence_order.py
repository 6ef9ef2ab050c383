"""Sentence order: do two neighbouring stretches of a text stand as they stood, or the other way round
(ALBERT: Lan et al., 2020)?

    loss = −log q(answer | ⊢ A | B |) / number of pairs

Hidden: the order. Seen: both stretches, in both directions. For `It rained. We went in.`:

    goes in    ⊢ It rained. | We went in. |      is asked at ⊢    yes
               ⊢ We went in. | It rained. |                       no

Both stretches are of one document, so what they speak of gives nothing away, as it does in `next_sentence`.
See `_pairs.py` for how stretches are chosen.
"""

from typing import final

import numpy as np

from telos.batch import Read
from telos.objectives._framing import Stretch
from telos.objectives._pairs import Pair, Pairs
from telos.tokenizer import Tokenizer

__all__ = ["SentenceOrder"]


@final
class SentenceOrder(Pairs):
    """ALBERT's second task: are two stretches in order?"""

    def apart(
        self, pair: Pair, read: Read, rng: np.random.Generator, tokenizer: Tokenizer
    ) -> tuple[Stretch, Stretch]:
        """The same two, exchanged."""
        return pair.second, pair.first

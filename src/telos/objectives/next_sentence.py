"""Next sentence: does the second stretch of text follow the first, or is it from another document (BERT:
Devlin et al., 2019)?

    loss = −log q(answer | ⊢ A | B |) / number of pairs

Hidden: where B is from. Seen: both stretches, in both directions. For `It rained. We went in.` beside another
document, `Cats purr. Dogs bark.`:

    goes in    ⊢ It rained. | We went in. |      is asked at ⊢    yes
               ⊢ It rained. | Dogs bark.  |                       no

The false B begins as the true one does, at a sentence but its text's first, or within one; and it is of whole
sentences, as nearly as long as the true B as they can be. So neither its beginning nor its end nor its length
gives the answer away. Each piece of another document is equally likely. See `_pairs.py` for how stretches are
chosen.
"""

from typing import final

import numpy as np

from telos.batch import Read
from telos.errors import DataError
from telos.objectives._framing import Stretch
from telos.objectives._pairs import SENTENCE, Pair, Pairs, ends, whole_sentences
from telos.tokenizer import Tokenizer

__all__ = ["NextSentence"]

_ALONE = (
    "next_sentence takes its false pairs from another document, and one of the splits has text in "
    "only one. Give more documents (data.document_start or data.split.unit divides a file into "
    "several), set aside more for validation and test, or take sentence_order: one is enough for it."
)


@final
class NextSentence(Pairs):
    """BERT's second task: does this follow that?"""

    def apart(
        self, pair: Pair, read: Read, rng: np.random.Generator, tokenizer: Tokenizer
    ) -> tuple[Stretch, Stretch]:
        """The first, and a stretch of another document.

        Raises:
            DataError: there is no other document.
        """
        drawn = _elsewhere(read, pair.document, rng)
        return pair.first, _alike(_with_text(read, drawn, pair.document, tokenizer), pair, rng)


def _with_text(read: Read, drawn: int, document: int, tokenizer: Tokenizer) -> Stretch:
    """What is in a piece; where it is a begin and an end token alone, as in a mixture with an objective that
    wants these tokens, in the next piece of another document that is more than that."""
    for place in (*range(drawn, len(read)), *range(drawn)):
        if read[place].document != document:
            found = whole_sentences(read, place, tokenizer)
            if len(found.ids):
                return found
    raise DataError(_ALONE)


def _elsewhere(read: Read, document: int, rng: np.random.Generator) -> int:
    """A piece of another document, each equally likely."""
    drawn = int(rng.integers(len(read)))
    if read[drawn].document != document:
        return drawn
    before, until = _first(read, document), _first(read, document + 1)
    others = len(read) - (until - before)
    if not others:
        raise DataError(_ALONE)
    drawn = int(rng.integers(others))
    return drawn if drawn < before else drawn + until - before


def _first(read: Read, document: int) -> int:
    """The first piece of a document or of one after it; pieces stand document by document."""
    low, high = 0, len(read)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if read[middle].document < document else (low, middle)
    return low


def _alike(other: Stretch, pair: Pair, rng: np.random.Generator) -> Stretch:
    """A part of another text that begins and ends as the second of the pair does, and is as nearly as long as
    whole sentences can be."""
    wanted, most = len(pair.second.ids), pair.most - len(pair.first.ids)
    stops = ends(other)
    begins = np.arange(1, len(other.ids))
    if pair.second.columns[SENTENCE][0]:
        begins = stops[:-1]
    begins = begins if len(begins) else np.zeros(1, np.int64)
    sentence = stops[np.searchsorted(stops, begins, side="right")] - begins
    fit = (sentence <= most) & (begins + wanted <= len(other.ids))
    if not fit.any():
        fit = sentence <= most
    begin = int(rng.choice(begins[fit])) if fit.any() else int(rng.choice(begins))
    reach = stops[(stops > begin) & (stops <= begin + most)]
    if not len(reach):
        return other.part(begin, begin + most)
    return other.part(begin, int(reach[np.argmin(np.abs(reach - begin - wanted))]))

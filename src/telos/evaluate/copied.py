"""What of a text stands word for word in the text that was learned from.

A match is a run of at least n tokens (`_ngrams.LENGTH`) that stands in one document of the training split as
it stands in the text; then it is extended by characters at both ends, as far as text and document agree. The
text is cut into tokens as the training text was, whatever tokens a model drew; so the same words are the same
tokens, but for the first and last word, which the extension makes up for.

    copied    share of the text's tokens that lie in some match
    longest   the longest match: tokens, characters, where it stands

Carlini et al. (2021) call a text memorised from about 50 tokens on; short matches are everybody's phrases.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.data.shards import Shards
from telos.evaluate._ngrams import LENGTH, NGrams
from telos.tokenizer import Tokenizer

__all__ = ["LONG", "Copied", "Copies"]

LONG = 50
"""Tokens of a match from which on it is worth a warning (Carlini et al., 2021)."""
AROUND = 16
"""Tokens of the document that are looked at on either side of a match."""
EXCERPT = 60
"""Characters of the match that are shown, at most."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What of one text is copied."""

    tokens: int
    """Of the longest match; 0 where nothing of at least n tokens is copied."""
    characters: int
    """Of the longest match, those at both ends that are no whole token included."""
    share: float
    """Of the text's tokens, those that lie in some match."""
    document: int
    """Number of the document in the training split, from 0; −1 for none. The first, where there are more."""
    at: int
    """Token of the document at which the match begins."""
    excerpt: str
    """The beginning of what is copied."""

    @property
    def long(self) -> bool:
        """Whether it is more than a phrase."""
        return self.tokens >= LONG

    def table(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class _Match(NamedTuple):
    """So many tokens from a token of the text on stand at a place of the split."""

    length: int
    start: int
    place: int


class Copies:
    """Looks texts up in a training split. The first use of a split builds its index beside it.

    Raises:
        DataError: the index cannot be written.
    """

    def __init__(self, shards: Shards, tokenizer: Tokenizer) -> None:
        self.shards, self.tokenizer = shards, tokenizer
        self.index = NGrams(shards)
        self._ends = np.asarray(shards.offsets)[1:]

    def find(self, text: str) -> Copied:
        """What of a text stands in the split."""
        ids = self.tokenizer.encode(text)
        covered, best, reach = np.zeros(len(ids), np.bool_), _Match(0, 0, -1), 0
        for start, places in self._candidates(ids):
            place, length = self._longest(ids, start, self._beyond(ids, start, places, reach))
            if length:
                covered[start : start + length] = True
                reach = start + length
            if length > best.length:
                best = _Match(length, start, place)
        share = float(covered.mean()) if len(ids) else 0.0
        if not best.length:
            return Copied(tokens=0, characters=0, share=0.0, document=-1, at=-1, excerpt="")
        return self._described(ids, best, share)

    def _candidates(self, ids: Ids) -> Iterator[tuple[int, Ids]]:
        """Each start of a run of n tokens, and where runs of equal hash stand, ascending."""
        if len(self.index) and len(ids) >= LENGTH:
            low, high = self.index.ranges(ids)
            for start in np.flatnonzero(low < high).tolist():
                yield start, self.index.places[low[start] : high[start]].astype(np.int64)

    def _beyond(self, ids: Ids, start: int, places: Ids, reach: int) -> Ids:
        """Those of the places from which on the text may be followed further than it was already: others add
        nothing, neither a longer match nor a token to what is covered."""
        if reach <= start:
            return places
        if reach == len(ids):
            return places[:0]
        there = places + (reach - start)
        there, places = (each[there < self._ends_of(places)] for each in (there, places))
        return places[self.shards.ids[there] == ids[reach]]

    def _ends_of(self, places: Ids) -> Ids:
        """Where the document that each place is in ends."""
        ends: Ids = self._ends[np.searchsorted(self._ends, places, side="right")]
        return ends

    def _longest(self, ids: Ids, start: int, places: Ids) -> tuple[int, int]:
        """The first of the places from which on most tokens are those of the text, and how many."""
        ends, length = self._ends_of(places), 0
        while start + length < len(ids):
            there = places + length < ends
            there[there] = self.shards.ids[places[there] + length] == ids[start + length]
            if not there.any():
                break
            places, ends, length = places[there], ends[there], length + 1
        return (int(places[0]), length) if length >= LENGTH else (-1, 0)

    def _described(self, ids: Ids, match: _Match, share: float) -> Copied:
        document = int(np.searchsorted(self._ends, match.place, side="right"))
        first = int(self.shards.offsets[document])
        said = self.tokenizer.decode(ids[match.start : match.start + match.length]).strip("\ufffd")
        before, after = self._further(ids, match, first, int(self._ends[document]))
        whole = before + said + after
        return Copied(
            tokens=match.length,
            characters=len(whole),
            share=share,
            document=document,
            at=match.place - first,
            excerpt=whole if len(whole) <= EXCERPT else whole[: EXCERPT - 1] + "…",
        )

    def _further(self, ids: Ids, match: _Match, first: int, last: int) -> tuple[str, str]:
        """Characters that text and document have in common before and after the match."""
        begin, end = match.place, match.place + match.length
        decode, there = self.tokenizer.decode, self.shards.ids
        left = decode(ids[max(0, match.start - AROUND) : match.start])
        right = decode(ids[match.start + match.length :][:AROUND])
        left_there = decode(there[max(first, begin - AROUND) : begin])
        right_there = decode(there[end : min(last, end + AROUND)])
        common = _common(left[::-1], left_there[::-1])
        return left[len(left) - common :], right[: _common(right, right_there)]


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))

"""Repetition: the same lines, paragraphs or phrases over and over (Rae et al., 2021, table A1).

    share of duplicate lines, paragraphs       those that came before, / all; and by their characters
    share of the most frequent n-gram, n ≤ 4   its characters · how often / characters
    share of duplicate n-grams, n ≥ 5          characters within n-grams that came before, each once

All n-grams of one length are sorted at once. An n-gram that comes twice begins with an (n−1)-gram that does,
so only places where the shorter one was repeated are looked at again, which soon are few. And what duplicate
n-grams cover can only shrink as n grows: once it is within the smallest limit that is still to come, no rule
about longer ones can be broken.
"""

from typing import Annotated, Final, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Document
from telos.config import Lax
from telos.data.filters._base import Filter
from telos.data.filters._words import Words, words_of

__all__ = ["Repetition"]

TOP: Final = (2, 3, 4)
"""Words in the n-grams of which the most frequent counts."""
DUPLICATED: Final = (5, 6, 7, 8, 9, 10)
"""Words in the n-grams of which all duplicates count."""
_MULTIPLIER: Final = np.uint64(0xD6E8FEB86659FD93)

Share = Annotated[float, Field(ge=0, le=1)]


@final
class Repetition(Filter):
    """Repetitive documents, by the rules and limits of Gopher. A limit is a share of the document that may
    just be reached; 1 turns a rule off. In Chinese text the words of n-grams are characters."""

    lines: Share = 0.30
    """Duplicate lines, of all lines that are not blank."""
    line_characters: Share = 0.20
    """Characters of duplicate lines."""
    paragraphs: Share = 0.30
    """Duplicate paragraphs, of all; blank lines are between them."""
    paragraph_characters: Share = 0.20
    """Characters of duplicate paragraphs."""
    top: Annotated[tuple[Share, Share, Share], Lax] = (0.20, 0.18, 0.16)
    """Characters of the most frequent n-gram of 2, 3 and 4 words, if it comes more than once."""
    duplicated: Annotated[tuple[Share, Share, Share, Share, Share, Share], Lax] = (
        0.15,
        0.14,
        0.13,
        0.12,
        0.11,
        0.10,
    )
    """Characters within duplicate n-grams of 5, 6, 7, 8, 9 and 10 words; each counts once."""

    def judge(self, document: Document, text: str) -> str | None:
        size = len(text)
        paragraphs = [stripped for part in text.split("\n\n") if (stripped := part.strip())]
        few, characters = _duplicates(paragraphs)
        if few > self.paragraphs or characters > self.paragraph_characters * size:
            return "repetition: paragraphs"
        words = words_of(text)
        few, characters = _duplicates(words.lines)
        if few > self.lines or characters > self.line_characters * size:
            return "repetition: lines"
        return self._phrases(words)

    def _phrases(self, words: Words) -> str | None:
        """The first rule about n-grams that is broken; see the head of this file for where it stops."""
        size, places, keys = len(words.text), np.arange(len(words)), words.hashes
        for n in range(TOP[0], DUPLICATED[-1] + 1):
            places, keys = _longer(words, places, keys, n)
            groups = _Groups(places, keys)
            if not groups.any:
                return None
            if n in TOP and min(groups.top(words, n), size) > self.top[n - TOP[0]] * size:
                return f"repetition: top {n}-gram"
            if n > TOP[0]:
                covered = _characters(words, groups.later(), n)
                if n in DUPLICATED and covered > self.duplicated[n - DUPLICATED[0]] * size:
                    return f"repetition: duplicate {n}-grams"
                if covered <= self._to_come(n) * size and not self._top_to_come(words, groups.most, n):
                    return None
            places, keys = groups.again()
        return None

    def _to_come(self, n: int) -> float:
        """The smallest limit of duplicate n-grams that are longer."""
        return min(self.duplicated[max(n + 1 - DUPLICATED[0], 0) :], default=1.0)

    def _top_to_come(self, words: Words, most: int, n: int) -> bool:
        """Whether a longer n-gram, which cannot be more frequent than `most`, might be beyond its limit."""
        size = len(words.text)
        return any(
            most * _longest(words, longer) > self.top[longer - TOP[0]] * size for longer in TOP if longer > n
        )


def _duplicates(parts: list[str]) -> tuple[float, int]:
    """The share of the parts that came before, and their characters."""
    if len(different := set(parts)) == len(parts):
        return 0.0, 0
    characters = sum(map(len, parts)) - sum(map(len, different))
    return 1 - len(different) / len(parts), characters


def _longest(words: Words, n: int) -> int:
    """Characters of the longest n-gram."""
    return int((words.ends[n - 1 :] - words.starts[: len(words) - n + 1]).max(initial=0))


def _longer(
    words: Words, places: NDArray[np.int64], keys: NDArray[np.uint64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Hashes of the n-grams at `places`, made from those of n − 1 words; none that would end beyond the
    text."""
    fits = places <= len(words) - n
    places, keys = places[fits], keys[fits]
    return places, (keys ^ (keys >> np.uint64(29))) * _MULTIPLIER + words.hashes[places + (n - 1)]


class _Groups:
    """n-grams put together that are equal."""

    def __init__(self, places: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
        order = keys.argsort()
        self._keys, self._places = keys[order], places[order]
        begins = np.ones(len(order), dtype=np.bool_)
        np.not_equal(self._keys[1:], self._keys[:-1], out=begins[1:])
        self._begins = begins.nonzero()[0]
        self._sizes = np.diff(self._begins, append=len(order))
        self.any = len(self._begins) < len(order)
        """Whether anything is repeated."""
        self.most = int(self._sizes.max(initial=0))
        """How often the most frequent comes."""

    def top(self, words: Words, n: int) -> int:
        """Characters of the most frequent n-gram, all its occurrences together; of equally frequent ones, the
        one that comes first."""
        at = self._begins[self._sizes == self.most]
        first = int(self._places[np.add.outer(at, np.arange(self.most))].min())
        return self.most * int(words.ends[first + n - 1] - words.starts[first])

    def later(self) -> NDArray[np.int64]:
        """Where n-grams begin that came before, in any order."""
        firsts = np.minimum.reduceat(self._places, self._begins)
        later = np.ones(self._places.max() + 1, dtype=np.bool_)
        later[firsts] = False
        return self._places[later[self._places]]

    def again(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """The places, and hashes, of what comes more than once."""
        repeated = (self._sizes > 1).repeat(self._sizes)
        return self._places[repeated], self._keys[repeated]


def _characters(words: Words, later: NDArray[np.int64], n: int) -> int:
    """Characters of the words within the n-grams that begin at `later`, with the blanks after each."""
    change = np.zeros(len(words) + 1, dtype=np.int32)
    change[later] += 1
    change[later + n] -= 1
    covered = change[:-1].cumsum() > 0
    lengths = np.diff(words.starts, append=words.ends[-1:])
    return int(lengths[covered].sum())

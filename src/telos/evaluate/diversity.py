"""How varied a set of samples is, and how much each repeats itself.

    distinct-n      different n-grams / n-grams, of all samples together (Li et al., 2016)
    repetition-n    1 − different n-grams / n-grams within a sample, mean over samples (Welleck et al., 2020)
    self-BLEU       BLEU-4 of a sample against all others, mean over samples (Zhu et al., 2018): 100 if all
                    samples are one
    perplexity      exp(−Σ log q / tokens) of what was drawn, under the model itself: below that of held-out
                    text where settings cut the unlikely off

What is counted is a word, and in Chinese, which has no blanks between words, a character; a mark of
punctuation is a word of its own, and so is a line end, with the blank lines after it (`telos.words`). No
n-gram goes beyond a sample. Distinct-n falls with the amount of text, and self-BLEU rises with the number of
samples: compare sets of equal size.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from telos.words import starts

__all__ = ["Diversity", "diversity", "units"]

DISTINCT = (1, 2, 3)
REPEATED = (2, 3, 4)
MOST = 200
"""Samples, the first ones, that are compared with one another: the time grows with the square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """The statistics of a set of samples."""

    samples: int
    units: int
    """Words and Chinese characters of all of them."""
    length: float
    """Mean, in words and Chinese characters."""
    tokens: float
    """Mean number of tokens that were drawn."""
    distinct: dict[int, float | None]
    """By n; none where no sample is so long."""
    repetition: dict[int, float | None]
    """By n: the mean over the samples that are so long."""
    self_bleu: float | None
    """0 … 100; none for fewer than two samples that say something, or without `sacrebleu`."""
    perplexity: float | None

    def table(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = asdict(self)
        return {**found, **{name: {str(n): x for n, x in found[name].items()} for name in _BY_N}}


_BY_N = ("distinct", "repetition")


def diversity(texts: Sequence[str], tokens: Sequence[int], nats: Sequence[float]) -> Diversity:
    """The statistics of samples: their texts, how many tokens were drawn for each, and −log q of these."""
    said = [units(text) for text in texts]
    drawn = sum(tokens)
    return Diversity(
        samples=len(texts),
        units=sum(map(len, said)),
        length=sum(map(len, said)) / max(1, len(said)),
        tokens=drawn / max(1, len(said)),
        distinct={n: _distinct(said, n) for n in DISTINCT},
        repetition={n: _repetition(said, n) for n in REPEATED},
        self_bleu=_self_bleu(said[:MOST]),
        perplexity=math.exp(math.fsum(nats) / drawn) if drawn else None,
    )


def units(text: str) -> list[str]:
    """The words of a text, each Chinese character one, without the blanks between them."""
    places = [*starts(text)[0].tolist(), len(text)]
    words = (text[begin:end] for begin, end in pairwise(places))
    return [word.strip() or "\n" for word in words if word.strip() or "\n" in word]


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def _distinct(said: Sequence[Sequence[str]], n: int) -> float | None:
    grams = [gram for words in said for gram in _grams(words, n)]
    return len(set(grams)) / len(grams) if grams else None


def _repetition(said: Sequence[Sequence[str]], n: int) -> float | None:
    found = [1 - len(set(grams)) / len(grams) for words in said if (grams := _grams(words, n))]
    return math.fsum(found) / len(found) if found else None


def _self_bleu(said: Sequence[Sequence[str]]) -> float | None:
    """By sacrebleu, which gets the words as they are: blanks divide them, and a line end is a mark."""
    lines = [" ".join("¶" if word == "\n" else word for word in words) for words in said if words]
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        return None
    if len(lines) < 2:
        return None
    bleu = BLEU(tokenize="none", effective_order=True)
    scores = [bleu.sentence_score(line, lines[:at] + lines[at + 1 :]).score for at, line in enumerate(lines)]
    return math.fsum(scores) / len(scores)

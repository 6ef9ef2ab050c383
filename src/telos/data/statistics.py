"""What a prepared split looks like: lengths of documents, how often tokens and words come, and how many new
ones keep coming.

Tokens are counted on the memory-mapped shards, words on text that is decoded again. Memory is bounded: what
is large is read in blocks or sampled, and every figure says of how much it is.

* **Zipf's law** (Zipf, 1949): the r-th most frequent word comes about C / r^s times, s near 1.
* **Heaps' law** (Herdan, 1960; Heaps, 1978): n words of running text hold about K · n^β different ones.

Both exponents are slopes of a least-squares line through points at equal distances on two logarithmic axes,
over the part of the curve that its function names.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from telos.data.shards import Shards
from telos.tokenizer import Tokenizer
from telos.words import starts, without_blanks

__all__ = [
    "Bin",
    "Frequent",
    "Lengths",
    "Long",
    "Statistics",
    "Tokens",
    "Words",
    "heaps_exponent",
    "measure",
    "zipf_exponent",
]

BLOCK = 1 << 20
"""Values that are looked at together."""
READ = 200_000_000
"""Tokens that are counted, at most: of a longer split blocks at equal distances."""
LOOKED_UP = 1_000_000
"""Documents that quantiles are taken of, at most: of more, every so many."""
TEXT = 4_000_000
"""Bytes of text that are decoded and cut into words, about."""
GROWN = 20_000_000
"""Tokens among which new ones are counted, at most."""
PIECE = 1 << 12
"""Tokens of a piece. Words, and how new tokens come, are of pieces in one random order: by documents, long
ones would be missed."""
SHOWN = 40
"""Frequent tokens and words that are named."""
LONGEST = 8
BEGINNING = 24
"""Tokens of a document's beginning that are shown."""
BINS_PER_DOUBLING = 2
POINTS = 80
RARE = 100
"""A token that comes less often is learned badly."""
Values = NDArray[np.int64]


class Bin(NamedTuple):
    """Documents with `low` ≤ tokens < `high`."""

    low: float
    high: float
    documents: int


class Long(NamedTuple):
    """One of the longest documents."""

    document: int
    """Its number in the split, from 0."""
    tokens: int
    beginning: str


class Frequent(NamedTuple):
    """A token or word, and how often it came in what was read."""

    text: str
    times: int


@final
@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of the documents in tokens."""

    documents: int
    empty: int
    """Documents without a token."""
    mean: float
    quantiles: dict[str, int]
    """5 %, 25 %, 50 %, 75 %, 95 % and 100 %."""
    bins: tuple[Bin, ...]
    """All that are not empty, two bins for each doubling."""
    longest: tuple[Long, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Tokens:
    """How often the tokens of the vocabulary come."""

    read: int
    of: int
    """Tokens of the split; as many as were read unless it is very large."""
    vocabulary: int
    """Tokens that a text can be made of: all but the special ones."""
    unused: int
    """Of these, how many did not come once."""
    rare: int
    """How many came, but fewer than `RARE` times."""
    frequent: tuple[Frequent, ...]
    ranks: tuple[tuple[int, int], ...]
    """(rank, count) at equal distances on a logarithmic scale."""
    zipf: float | None
    growth: tuple[tuple[int, int], ...]
    """(tokens read, different ones among them)."""
    heaps: float | None


@final
@dataclass(frozen=True, kw_only=True)
class Words:
    """How often words come, in a sample of the text. A word is a run of letters and digits, or one Chinese
    character; upper and lower case are one."""

    bytes: int
    of_bytes: int
    words: int
    """Words in the sample, each Chinese character one."""
    characters: int
    """Those of them that are Chinese characters or kana, each counted."""
    different: int
    once: int
    """Different words that came once only."""
    frequent: tuple[Frequent, ...]
    ranks: tuple[tuple[int, int], ...]
    zipf: float | None
    growth: tuple[tuple[int, int], ...]
    heaps: float | None

    @property
    def scale(self) -> float:
        """What a count in the sample is multiplied by for the whole split."""
        return self.of_bytes / self.bytes if self.bytes else 0.0

    @property
    def all_spaced(self) -> float:
        """Words between blanks in the whole split, about."""
        return (self.words - self.characters) * self.scale

    @property
    def all_characters(self) -> float:
        """Chinese characters and kana in the whole split, about."""
        return self.characters * self.scale


@final
@dataclass(frozen=True, kw_only=True)
class Statistics:
    """All that was measured of a split."""

    lengths: Lengths
    tokens: Tokens
    words: Words

    def table(self) -> dict[str, Any]:
        """As plain data for JSON."""
        found: dict[str, Any] = asdict(self)
        for group, name in (("lengths", "bins"), ("lengths", "longest"), ("tokens", "frequent")):
            found[group][name] = [each._asdict() for each in getattr(getattr(self, group), name)]
        found["words"]["frequent"] = [each._asdict() for each in self.words.frequent]
        words = self.words
        found["words"] |= {"all_spaced": words.all_spaced, "all_characters": words.all_characters}
        return found


def measure(shards: Shards, tokenizer: Tokenizer) -> Statistics:
    """Look through a split. What is sampled is drawn by a fixed seed: the same split, the same figures."""
    return Statistics(
        lengths=_lengths(shards, tokenizer),
        tokens=_tokens(shards, tokenizer),
        words=_words(shards, tokenizer),
    )


def zipf_exponent(counts: Values) -> float | None:
    """The exponent s of counts in falling order (n,), from rank 10 to the last that came ten times: before
    that the curve bends, and after it counts are steps. `None` where fewer than 20 ranks are left."""
    last = int(np.count_nonzero(counts >= 10))
    if last < 29:
        return None
    ranks = _spaced(10, last)
    return -_slope(ranks, counts[ranks - 1])


def heaps_exponent(growth: Sequence[tuple[int, int]]) -> float | None:
    """The exponent β of (n read, different among them), over the last hundredfold of n; `None` where nothing
    is left to fit, or less than a thousand were read."""
    if not growth or growth[-1][0] < 1000:
        return None
    read, different = np.array(growth, np.int64).T
    late = read >= read[-1] / 100
    return _slope(read[late], different[late])


# ---- lengths


def _lengths(shards: Shards, tokenizer: Tokenizer) -> Lengths:
    bins: Counter[int] = Counter()
    longest: list[tuple[int, int]] = []
    for first, lengths in _blocks(shards):
        places = np.floor(BINS_PER_DOUBLING * np.log2(lengths[lengths > 0])).astype(np.int64)
        bins.update(
            dict(zip(*(each.tolist() for each in np.unique(places, return_counts=True)), strict=True))
        )
        top = np.argsort(-lengths, kind="stable")[:LONGEST]
        longest = sorted([*longest, *((-int(lengths[i]), first + int(i)) for i in top)])[:LONGEST]
    return Lengths(
        documents=len(shards),
        empty=len(shards) - sum(bins.values()),
        mean=shards.header.tokens / max(1, len(shards)),
        quantiles=_quantiles(shards),
        bins=tuple(
            Bin(2 ** (place / BINS_PER_DOUBLING), 2 ** ((place + 1) / BINS_PER_DOUBLING), bins[place])
            for place in (range(min(bins), max(bins) + 1) if bins else ())
        ),
        longest=tuple(Long(i, -size, _beginning(shards, i, tokenizer)) for size, i in longest if size),
    )


def _blocks(shards: Shards) -> Iterator[tuple[int, Values]]:
    """The number of a block's first document, and the lengths of all in it."""
    for first in range(0, len(shards), BLOCK):
        yield first, np.diff(shards.offsets[first : first + BLOCK + 1])


def _quantiles(shards: Shards) -> dict[str, int]:
    at = np.arange(0, len(shards), max(1, math.ceil(len(shards) / LOOKED_UP)))
    if not len(at):
        return {}
    lengths = shards.offsets[at + 1] - shards.offsets[at]
    shares = (5, 25, 50, 75, 95)
    found = np.percentile(lengths, shares, method="inverted_cdf").tolist()
    longest = max(int(block.max()) for _, block in _blocks(shards))
    return {**{f"{s} %": int(n) for s, n in zip(shares, found, strict=True)}, "100 %": longest}


def _beginning(shards: Shards, index: int, tokenizer: Tokenizer) -> str:
    begin = int(shards.offsets[index])
    return tokenizer.decode(
        shards.ids[begin : min(begin + BEGINNING, int(shards.offsets[index + 1]))].tolist()
    )


# ---- tokens


def _tokens(shards: Shards, tokenizer: Tokenizer) -> Tokens:
    counts, read = _counted(shards, tokenizer.size)
    ordinary = np.ones(tokenizer.size, np.bool_)
    ordinary[sorted(tokenizer.special_ids)] = False
    top = np.argsort(-counts, kind="stable")
    falling = counts[top]
    growth = _growth_of_tokens(shards, tokenizer.size)
    return Tokens(
        read=read,
        of=shards.header.tokens,
        vocabulary=int(ordinary.sum()),
        unused=int(np.count_nonzero(ordinary & (counts == 0))),
        rare=int(np.count_nonzero(ordinary & (counts > 0) & (counts < RARE))),
        frequent=tuple(
            Frequent(tokenizer.token_bytes(i).decode("utf-8", "replace"), int(counts[i]))
            for i in top[:SHOWN].tolist()
            if counts[i]
        ),
        ranks=_ranks(falling),
        zipf=zipf_exponent(falling),
        growth=growth,
        heaps=heaps_exponent(growth),
    )


def _counted(shards: Shards, size: int) -> tuple[Values, int]:
    """How often each token came (size,), and in how many: all, or blocks at equal distances."""
    counts, read = np.zeros(size, np.int64), 0
    total = len(shards.ids)
    step = max(BLOCK, math.ceil(total / max(1, READ // BLOCK)))
    for begin in range(0, total, step):
        block = shards.ids[begin : begin + BLOCK]
        counts += np.bincount(block, minlength=size)
        read += len(block)
    return counts, read


def _growth_of_tokens(shards: Shards, size: int) -> tuple[tuple[int, int], ...]:
    """How many different tokens there are among the first n, pieces in random order."""
    seen, firsts, read = np.zeros(size, np.bool_), [np.zeros(0, np.int64)], 0
    for begin in _places(shards).tolist():
        ids = shards.ids[begin : begin + PIECE]
        found, at = np.unique(ids, return_index=True)
        firsts.append(at[~seen[found]] + read)
        seen[found] = True
        read += len(ids)
        if read >= GROWN:
            break
    return _growth(np.sort(np.concatenate(firsts)), read)


# ---- words


def _words(shards: Shards, tokenizer: Tokenizer) -> Words:
    counts: Counter[str] = Counter()
    firsts: list[int] = []
    characters = words = size = 0
    for ids in _pieces(shards):
        if size >= TEXT:
            break
        text = tokenizer.decode(ids.tolist())
        size += len(text.encode())
        for word in words_of(text):
            if word not in counts:
                firsts.append(words)
            counts[word] += 1
            units = len(word) if without_blanks(word) else 0
            characters, words = characters + units, words + max(1, units)
    growth = _growth(np.array(firsts, np.int64), words)
    falling = np.sort(np.fromiter(counts.values(), np.int64, len(counts)))[::-1]
    return Words(
        bytes=size,
        of_bytes=int(shards.header.bytes),
        words=words,
        characters=characters,
        different=len(counts),
        once=int(np.count_nonzero(falling == 1)),
        frequent=tuple(Frequent(*pair) for pair in counts.most_common(SHOWN)),
        ranks=_ranks(falling),
        zipf=zipf_exponent(falling),
        growth=growth,
        heaps=heaps_exponent(growth),
    )


def words_of(text: str) -> Iterator[str]:
    """The words of a text in their order, without blanks, marks and signs, and in lower case."""
    begins, _ = starts(text)
    for begin, end in pairwise([*begins.tolist(), len(text)]):
        word = text[begin:end].strip().casefold()
        if _LETTER.search(word):
            yield word


_LETTER = re.compile(r"[^\W_]")


# ---- parts


def _places(shards: Shards) -> Values:
    """Where pieces of the split begin, in one random order: all, or of very many a sample."""
    rng = np.random.default_rng(0)
    pieces = math.ceil(len(shards.ids) / PIECE)
    if pieces <= LOOKED_UP:
        return rng.permutation(pieces) * PIECE
    return rng.permutation(np.unique(rng.integers(pieces, size=LOOKED_UP))) * PIECE


def _pieces(shards: Shards) -> Iterator[NDArray[Any]]:
    """The tokens of pieces in random order, apart where documents meet."""
    for first in _places(shards).tolist():
        last = min(first + PIECE, len(shards.ids))
        low, high = np.searchsorted(shards.offsets, [first, last], side="right")
        ends = sorted({first, *shards.offsets[low:high].tolist(), last})
        yield from (shards.ids[begin:end] for begin, end in pairwise(ends))


def _spaced(first: int, last: int) -> Values:
    """Whole numbers from `first` to `last` at about equal distances on a logarithmic scale, each once."""
    return np.unique(np.geomspace(first, last, POINTS).round().astype(np.int64))


def _ranks(falling: Values) -> tuple[tuple[int, int], ...]:
    used = int(np.count_nonzero(falling))
    return tuple((int(r), int(falling[r - 1])) for r in _spaced(1, used).tolist()) if used else ()


def _growth(firsts: Values, read: int) -> tuple[tuple[int, int], ...]:
    """(n, how many of `firsts`, rising places of what is new, are below n)."""
    if not read:
        return ()
    at = _spaced(1, read)
    return tuple(zip(at.tolist(), np.searchsorted(firsts, at).tolist(), strict=True))


def _slope(across: Values, up: Values) -> float:
    """The slope of the least-squares line through the logarithms of both."""
    slope, _ = np.polyfit(np.log(across), np.log(up), 1)
    return float(slope)

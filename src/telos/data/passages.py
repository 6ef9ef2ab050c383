"""Passages that stand in more than one text: paragraphs, and stretches of words that begin anywhere.

**Paragraphs.** `paragraphs` tells where they are and a number for the words of each; `repeated` says which
numbers came before; `without` cuts them out. The first one stays, in the order of the texts (as in CCNet,
Wenzek et al., 2020).

**Stretches** of `least` words or more, whatever is around them (Lee et al., 2022). Every run of `least`
words is a window; one that came before is cut out. There are as many windows as words, so those that can have
a copy are found first, by fingerprints (winnowing, Schleimer et al., 2003):

    map      fingerprints(texts)         a few n-grams of each text, at least one of each window
    reduce   shared(fingerprints)        those that occur more than once
    map      windows(texts, shared)      the windows whose fingerprint is among them
    reduce   repeated(window hashes)     which of these windows came before
    map      spans, without              the stretches they make together, cut out

A window's fingerprint depends on its words alone, so two equal windows have the same one and **no copy is
missed**; and what is cut is equal to what stays, but for a coincidence of 64 bits. A suffix array finds the
same with the whole corpus in memory, and 8 bytes a character beside it; here a fingerprint is 8 bytes for
about 13 words, and the reductions can be done for a part of the numbers at a time.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.data import shingles
from telos.data.shingles import HashSet

__all__ = ["NONE", "Spans", "fingerprints", "paragraphs", "repeated", "shared", "spans", "windows", "without"]

Either = Callable[[NDArray[np.uint64], NDArray[np.uint64]], NDArray[np.uint64]]
"""Of two arrays the lower, or the higher, at each place."""

_PART: Final = 1 << 22
"""Numbers that are sorted at once."""


class Spans(NamedTuple):
    """Passages of a batch of texts, by text and place."""

    hashes: NDArray[np.uint64]
    """(passages,): a number for the words of each."""
    texts: NDArray[np.int64]
    """(passages,): which text of the batch each is in."""
    begins: NDArray[np.int64]
    """(passages,): the character of its text at which each begins."""
    ends: NDArray[np.int64]
    """(passages,): the character after its last one."""


def paragraphs(
    texts: Sequence[str], least: int = 20, between: Literal["line", "blank line"] = "line"
) -> Spans:
    """The paragraphs of `texts` that have at least `least` words: what stands between line ends, or between
    blank lines. Line ends that follow belong to it. Case, punctuation and white space do not count.

    A paragraph of more than 262,144 characters is taken for several.
    """
    mark = "\n" if between == "line" else "\n\n"
    found = (_paragraphs(group, least, _ENDS[between]) for group in _groups(texts, mark))
    return _together([NONE, *found])


def repeated(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(passages,): which have an equal one before them. `hashes`, of all texts in their order, may be a
    memory map.

    Equal numbers may also be brought together elsewhere: deal them by their value, keep the order within each
    part, and call this for each part.
    """
    result = np.zeros(len(hashes), np.bool_)
    for places in _dealt(hashes):
        order = places[np.argsort(hashes[places], kind="stable")]
        ordered = hashes[order]
        result[order[1:][ordered[1:] == ordered[:-1]]] = True
    return result


def shared(hashes: NDArray[np.uint64]) -> HashSet:
    """Those that occur more than once. `hashes`, in any order, may be a memory map."""
    found = [np.empty(0, np.uint64)]
    for places in _dealt(hashes):
        ordered = np.sort(hashes[places])
        found.append(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    return HashSet(np.sort(np.concatenate(found)))


def fingerprints(texts: Sequence[str], least: int = 50) -> NDArray[np.uint64]:
    """The n-grams that stand for the windows of `texts`: of those in a window, the one with the lowest hash.

    n is half of `least`, and about one word of `least` / 4 begins one. Texts shorter than a window have
    none.
    """
    found = [np.empty(0, np.uint64)]
    for _, words in shingles.blocks(texts, least - 1):
        hashes, lowest, whole = _lowest(words, least)
        # An n-gram is the lowest of a window just where it is the highest of its windows' lowest.
        lowest[~whole] = 0
        span = least - _n(least) + 1
        padded = np.concatenate([np.zeros(span - 1, np.uint64), lowest, np.zeros(span - 1, np.uint64)])
        highest = _sliding(padded, span, np.maximum)
        found.append(hashes[hashes == highest[: len(hashes)]])
    return np.concatenate(found)


def windows(texts: Sequence[str], known: HashSet, least: int = 50) -> Spans:
    """All windows of `least` words whose fingerprint is in `known`, by text and place."""
    found = [NONE]
    for first, words in shingles.blocks(texts, least - 1):
        _, lowest, whole = _lowest(words, least)
        # The fingerprint stays the same for some windows, so it is looked for once for all of them.
        begins = np.flatnonzero(np.diff(lowest, prepend=~lowest[:1]))
        near = np.repeat(known.holds(lowest[begins]), np.diff(begins, append=len(lowest)))
        place = np.flatnonzero(near & whole)
        text = np.searchsorted(words.offsets, place, side="right") - 1
        hashes = shingles.hashed(words.hashes, place, place + least)
        found.append(Spans(hashes, text + first, words.begins[place], words.ends[place + least - 1]))
    return _together(found)


def spans(found: Spans, wanted: NDArray[np.bool_], count: int) -> list[NDArray[np.int64]]:
    """For each of the `count` texts of a batch, (stretches, 2): where the passages that are `wanted` begin
    and end, those that touch put together."""
    texts, begins, ends = found.texts[wanted], found.begins[wanted], found.ends[wanted]
    apart = np.ones(len(texts), np.bool_)
    apart[1:] = (texts[1:] != texts[:-1]) | (begins[1:] > ends[:-1])
    last = np.roll(apart, -1)
    stretches = np.stack([begins[apart], ends[last]], axis=1)
    return np.split(stretches, np.searchsorted(texts[apart], np.arange(1, count)))[:count]


def without(text: str, cut: Iterable[Sequence[int]]) -> str:
    """`text` without the stretches `cut`, which are in order; where it ends without a line end, so does what
    is left."""
    kept, at = [], 0
    for begin, end in cut:
        kept.append(text[at:begin])
        at = end
    kept.append(text[at:])
    left = "".join(kept)
    return left if text.endswith("\n") or not at else left.rstrip("\n")


NONE: Final = Spans(np.empty(0, np.uint64), *(np.empty(0, np.int64) for _ in range(3)))
_ENDS: Final = {"line": re.compile(r"\n\s*"), "blank line": re.compile(r"\n[^\S\n]*\n\s*")}


class _Piece(NamedTuple):
    """A part of a text of the batch, and where it is."""

    text: int
    begin: int
    says: str


def _together(found: Sequence[Spans]) -> Spans:
    return Spans(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _groups(texts: Sequence[str], mark: str) -> Iterator[list[_Piece]]:
    """The texts, in pieces if they are long, in groups that fit a cache."""
    group, size = list[_Piece](), 0
    for number, text in enumerate(texts):
        for begin, says in shingles.pieces(text, (mark,)):
            if group and size + len(says) > shingles.PIECE:
                yield group
                group, size = [], 0
            group.append(_Piece(number, begin, says))
            size += len(says)
    if group:
        yield group


def _paragraphs(group: list[_Piece], least: int, end: re.Pattern[str]) -> Spans:
    words = shingles.words([piece.says for piece in group])
    cuts = [[0, *(found.end() for found in end.finditer(piece.says))] for piece in group]
    lengths = np.array([len(piece.says) for piece in group])
    piece = np.repeat(np.arange(len(group)), [len(places) for places in cuts])
    begins = np.array([place for places in cuts for place in places])
    # Counted through the whole group, each ends where the next one begins.
    through = np.cumsum(lengths) - lengths
    at = through[piece] + begins
    ends = np.append(at[1:], lengths.sum()) - through[piece]
    first = np.searchsorted(words.begins + np.repeat(through, np.diff(words.offsets)), at)
    last = np.append(first[1:], len(words.hashes))
    long = np.flatnonzero(last - first >= max(1, least))
    hashes = shingles.hashed(words.hashes, first[long], last[long])
    texts, places = (np.array([part[i] for part in group])[piece[long]] for i in (0, 1))
    return Spans(hashes, texts, begins[long] + places, ends[long] + places)


def _dealt(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """The places of `hashes` in parts of some millions: equal ones are in one part, in their order."""
    parts = -(-len(hashes) // _PART)
    for part in range(parts):
        yield np.flatnonzero(hashes % np.uint64(parts) == part)


def _lowest(
    words: shingles.Words, least: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    """The hashes of all n-grams of a block; (windows,): the lowest of each window, and whether the window is
    in one text."""
    n, size = _n(least), len(words.hashes)
    begins = np.arange(max(0, size - n + 1))
    hashes = shingles.hashed(words.hashes, begins, begins + n)
    lowest = _sliding(hashes, least - n + 1, np.minimum)
    ends = np.repeat(words.offsets[1:], np.diff(words.offsets))[: len(lowest)]
    return hashes, lowest, np.arange(least, least + len(lowest)) <= ends


def _sliding(values: NDArray[np.uint64], span: int, either: Either) -> NDArray[np.uint64]:
    """(values - span + 1,): of each `span` values in a row; runs of two, four, eight … are put together."""
    if len(values) < span:
        return values[:0].copy()
    size = 1
    while 2 * size <= span:
        values, size = either(values[:-size], values[size:]), 2 * size
    rest = span - size
    return either(values[: len(values) - rest], values[rest:])


def _n(least: int) -> int:
    return max(1, least // 2)

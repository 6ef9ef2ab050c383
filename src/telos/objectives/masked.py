"""Masked language modelling: hidden tokens from those on both sides of them (BERT: Devlin et al., 2019; drawn
anew each time a text is read: RoBERTa, Liu et al., 2019).

    loss = −Σₜ log q(xₜ | the text with its hidden places) / number of tokens asked, over the hidden t

Hidden: 15 % of the tokens. Seen: the whole row, in both directions. For `the cat sat on the mat` with 2 of
its 6 tokens hidden, between the begin token ⊢ and the separate token |, where ▒ is the mask token:

    text           the  cat  sat  on  the  mat
    goes in    ⊢   the  ▒    sat  on  the  ▒    |
    is asked            cat                mat

**How many.** Of n units (tokens, or whole words), `rate · n` are hidden, rounded up or down by chance: of 10
tokens at 15 %, one or two, equally often. So every token has exactly the chance `rate`, in short texts as in
long ones; in a text of one token it is asked 15 times in 100, and the other times nothing is.

**What stands there instead.** In 80 % of the hidden places the mask token, in 10 % a random token, in 10 %
the token itself, which is asked all the same: for later uses, which show no mask tokens.

**Units.** `token`: each by itself. `word`: all tokens of a word or none (Cui et al., 2021); the words are
those of the text, not of the vocabulary, so any vocabulary will do. `span`: runs of words, of 1 … 10 with
chances ∝ 0.8^(length − 1), 3.8 on average (SpanBERT: Joshi et al., 2020). The runs are laid on a ring, which
is turned by chance and cut open: so words at the edges are hidden as often as others, at the price of a run
cut in two.

A higher rate often teaches more (Wettig et al., 2023); `start` lets it begin elsewhere and move to `rate`.
"""

from dataclasses import replace
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from telos.batch import Ask, Cut, Example, Piece, Read, Side
from telos.config import Settings
from telos.errors import ConfigError, DataError
from telos.objectives._base import Objective
from telos.objectives._framing import framed, inside, room, stretch
from telos.tokenizer import Tokenizer

__all__ = ["Masked"]

Ids = NDArray[np.int64]


class InsteadSettings(Settings):
    """What stands in a hidden place: the mask token, a random one, or else the token itself."""

    mask: float = Field(0.8, ge=0, le=1)
    """Share of the hidden places that show the mask token."""
    random: float = Field(0.1, ge=0, le=1)
    """Share that show a random token, all but special ones equally likely. The rest show their own."""

    @model_validator(mode="after")
    def _at_most_all(self) -> "InsteadSettings":
        if self.mask + self.random > 1:
            raise ValueError(f"mask + random = {self.mask + self.random:g} is more than 1, all hidden places")
        return self


class MaskedSpanSettings(Settings):
    """How long hidden runs of words are: after each word a run ends with the same chance."""

    ends: float = Field(0.2, gt=0, le=1)
    """The chance that a run ends after a word."""
    longest: int = Field(10, ge=1)
    """Words of the longest run."""

    def draw(self, total: int, rng: np.random.Generator) -> Ids:
        """Lengths that add up to `total`; the last is shortened to that."""
        drawn = 1 + _below(self.ends, self.longest).searchsorted(rng.random(total), side="right")
        ends = np.minimum(np.cumsum(drawn), total)
        ends = ends[: 1 + int(np.searchsorted(ends, total))]
        lengths: Ids = ends.copy()
        lengths[1:] -= ends[:-1]
        return lengths


@lru_cache(maxsize=4)
def _below(ends: float, longest: int) -> NDArray[np.float64]:
    """The chance of a run of at most 1, 2, … words."""
    chances = (1 - ends) ** np.arange(longest)
    sums = np.cumsum(chances / chances.sum())
    below: NDArray[np.float64] = sums / sums[-1]
    return below


class MaskedStartSettings(Settings):
    """A rate that moves evenly from here to `objective.rate`."""

    rate: float = Field(0.3, gt=0, le=1)
    """The rate at the start."""
    passes: float = Field(1.0, gt=0)
    """Passes over the text after which `objective.rate` is reached, and kept."""


class Hidden(NamedTuple):
    """Hidden places of a row, ascending, and for each which unit of replacement it belongs to."""

    at: Ids
    group: Ids


@final
class Masked(Objective):
    """BERT's objective: find the hidden tokens."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"
    decoded: ClassVar[str] = "unmasking"

    rate: float = Field(0.15, gt=0, le=1)
    """Share of the text that is hidden."""
    unit: Literal["token", "word", "span"] = "token"
    """What is hidden as a whole: a token, a word, or a run of words."""
    segmenter: Literal["none", "jieba"] = "none"
    """What makes words of Chinese characters; with "none" each is a word. jieba is a package more:
    `pip install 'telos-lm[chinese]'`."""
    span: MaskedSpanSettings = MaskedSpanSettings()
    """How long runs are, for unit = "span"."""
    instead: InsteadSettings = InsteadSettings()
    """What stands in a hidden place."""
    start: MaskedStartSettings | None = None
    """The rate at the beginning of training, where it moves."""

    @property
    def reconstructs(self) -> bool:  # type: ignore[override]
        """Whether some hidden places show their own token."""
        return self.instead.mask + self.instead.random < 1

    @model_validator(mode="after")
    def _each_does_something(self) -> "Masked":
        if self.unit != "span" and self.span != MaskedSpanSettings():
            raise ValueError(
                f'span does nothing with unit = "{self.unit}"; set unit = "span" or leave it out'
            )
        if self.unit == "token" and self.segmenter != "none":
            raise ValueError(
                'segmenter does nothing with unit = "token"; set unit = "word" or "span", or leave it out'
            )
        return self

    def cut(self, window: int) -> Cut:
        """Pieces that leave room for the begin and the separate token."""
        return Cut(length=room(window, 1))

    def requires(self) -> frozenset[str]:
        return frozenset({"full"})

    def columns(self) -> tuple[str, ...]:
        return () if self.unit == "token" else (self._words,)

    def after(self, passes: float) -> "Masked":
        if self.start is None or passes >= self.start.passes:
            return self
        rate = self.start.rate + (self.rate - self.start.rate) * passes / self.start.passes
        return self.model_copy(update={"rate": rate})

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """The piece between a begin and a separate token, some of what it answers for hidden."""
        piece = read[index]
        part = inside(piece, tokenizer)
        row = framed((stretch(piece, part),), tokenizer, unit=piece.document, sample=index)
        free = np.arange(len(row.main)) >= 1 + max(0, piece.ask_from - part.start)
        return self._hide_in(row, free, rng, tokenizer)

    def extend(self, example: Example, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """Some of what is not special hidden in an example that is seen in both directions."""
        if example.pattern != "full":
            raise ConfigError(
                f"objective {self.name!r} in `together`: the first objective does not see its text in both "
                "directions, so nothing can be hidden in it. Put `masked` first, or beside next_sentence or "
                "sentence_order."
            )
        return self._hide_in(example, np.ones(len(example.main), np.bool_), rng, tokenizer)

    def hide(self, piece: Piece, hidden: Ids, asked: Ids, tokenizer: Tokenizer) -> Example:
        """These places show the mask token, whatever `instead` says."""
        part = inside(piece, tokenizer)
        row = framed((stretch(piece, part),), tokenizer, unit=piece.document, sample=0)
        covered, at = (_within(places, part) - part.start + 1 for places in (hidden, asked))
        ids = row.main.ids.copy()
        ids[covered] = tokenizer.mask
        return asking(row, ids, at, at)

    def choose(
        self, row: Example, free: NDArray[np.bool_], rng: np.random.Generator, tokenizer: Tokenizer
    ) -> Hidden:
        """Places of the row that are hidden: `free` ones (n,) that hold no special token.

        Raises:
            DataError: words are asked for, and the row does not say where they begin.
        """
        places = np.flatnonzero(free & ~special(tokenizer)[row.main.ids])
        if self.unit == "token":
            total = int(self.rate * len(places) + rng.random())
            at = places[np.sort(rng.choice(len(places), size=total, replace=False))]
            return Hidden(at, np.arange(total))
        unit = self._units(row, places)
        count = int(unit[-1]) + 1 if len(unit) else 0
        total = int(self.rate * count + rng.random())
        if self.unit == "span":
            run = _on_a_ring(count, self.span.draw(total, rng), rng)
        else:
            run = np.full(count, -1)
            run[rng.choice(count, size=total, replace=False)] = 0
        kept = run[unit] >= 0
        at = places[kept]
        return Hidden(at, run[unit][kept] if self.unit == "span" else np.arange(len(at)))

    def replaced(self, ids: Ids, hidden: Hidden, rng: np.random.Generator, tokenizer: Tokenizer) -> Ids:
        """The row as it goes in; the tokens of a run fare alike."""
        drawn = rng.random(1 + int(hidden.group.max(initial=0)))[hidden.group]
        usual = ordinary(tokenizer)
        other = usual[rng.integers(len(usual), size=len(hidden.at))]
        new = ids.copy()
        mask, random = drawn < self.instead.mask, drawn < self.instead.mask + self.instead.random
        new[hidden.at] = np.where(mask, tokenizer.mask, np.where(random, other, ids[hidden.at]))
        return new

    def _hide_in(
        self, row: Example, free: NDArray[np.bool_], rng: np.random.Generator, tokenizer: Tokenizer
    ) -> Example:
        hidden = self.choose(row, free, rng, tokenizer)
        return asking(row, self.replaced(row.main.ids, hidden, rng, tokenizer), hidden.at, hidden.at)

    def _units(self, row: Example, places: Ids) -> Ids:
        """The number of the unit that each place belongs to. After a gap another word begins."""
        if self._words not in row.columns:
            raise DataError(
                f'objective.unit = "{self.unit}" needs the column {self._words}, and the text was prepared '
                "without it. Prepare it with this objective in the recipe: telos prepare …"
            )
        begins = row.columns[self._words][places]  # a copy
        begins[:1] = True
        begins[1:] |= places[1:] - places[:-1] > 1
        return np.cumsum(begins) - 1

    @property
    def _words(self) -> str:
        return "word_start" if self.segmenter == "none" else "jieba_word_start"


def asking(row: Example, ids: Ids, at: Ids, of: Ids) -> Example:
    """`row` with `ids` going in; its own tokens at the places `of` are asked for at the places `at`."""
    ask = Ask(head="tokens", at=at, target=row.main.ids[of], weight=np.ones(len(at), np.float32))
    main = row.main
    read = Side(
        ids=ids,
        positions=main.positions,
        segment=main.segment,
        order=main.order,
        seen=main.seen,
        types=main.types,
    )
    return replace(row, main=read, asks=(*row.asks, ask))


@lru_cache(maxsize=4)
def ordinary(tokenizer: Tokenizer) -> Ids:
    """The ids of a vocabulary that a text can hold: neither special nor unknown."""
    other = tokenizer.special_ids | ({tokenizer.unknown} if tokenizer.unknown is not None else set())
    ids: Ids = np.setdiff1d(np.arange(tokenizer.size), list(other))
    return ids


@lru_cache(maxsize=4)
def special(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Which ids of a vocabulary are special (size,)."""
    found = np.zeros(tokenizer.size, np.bool_)
    found[list(tokenizer.special_ids)] = True
    return found


def _on_a_ring(count: int, lengths: Ids, rng: np.random.Generator) -> Ids:
    """Runs of these lengths on a ring of `count` units, every arrangement equally likely: for each unit the
    number of its run, or −1."""
    slots = count - int(lengths.sum()) + len(lengths)
    chosen = rng.choice(slots, size=len(lengths), replace=False)
    run, wide = np.full(slots, -1), np.ones(slots, np.int64)
    run[chosen], wide[chosen] = np.arange(len(lengths)), lengths
    laid: Ids = np.roll(np.repeat(run, wide), rng.integers(max(1, count)))
    return laid


def _within(places: Ids, part: slice) -> Ids:
    within: Ids = places[(places >= part.start) & (places < part.stop)]
    return within

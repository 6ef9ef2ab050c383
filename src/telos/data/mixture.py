"""Several sources in one run: how much of each is read, and which of its pieces, as a function of the place.

**What a share is.** A piece counts the tokens that it answers for (`Cut`): all of its document's but what is
context, with the begin and end tokens that are asked. A source's share is of these tokens; not of documents,
and not of places in rows.

A run is a line of tokens. Of the first t of them, source s is due

    due_s(t) = ∫₀ᵗ share_s        share_s = weight_s / Σ weights, constant between the stages of a curriculum

and as many of its pieces are read as bring it nearest to that. So after any t no source is further from its
share than half a piece, and nothing has to be remembered: where a run is in each source follows from t.
A source's pieces come pass after pass, each in a shuffled order of its own, so that after any t no two pieces
of a source differ by more than one in how often they were read. Nothing of it is in the prepared data.

**Limits.** A source that its weight would have read more than `max_epochs` times in the run is held at that;
what it leaves goes to the others by their weights, which may bring the next to its limit: water is filled
into vessels of different size (UniMax: Chung et al., 2023). With a curriculum a held source gives up the same
part of its weight, against those that are not held, in all stages. Beyond the length that was planned, or
where none is known, a source is read by its weight until it is used up.

Shares are integers in units of 10⁻¹², so that no rounding of another machine moves a piece.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, NamedTuple, Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from telos.config import Lax, Settings
from telos.data.order import mixed, permuted
from telos.errors import ConfigError, DataError
from telos.find import suggestion

__all__ = ["Course", "Drawn", "MixSettings", "Sourced", "Sources", "StageSettings", "course"]

A = TypeVar("A")
B = TypeVar("B")
Counts = NDArray[np.int64]
Weight = Annotated[float, Field(ge=0)]
Limit = Annotated[float, Field(gt=0)]

KEY = "train.loader.mix"
UNIT = 10**12
"""The whole, in the units of shares."""
_CHUNK = 4096  # draws between two sums that are kept of a pass
_SLICE = 16 * _CHUNK  # draws that are looked at together when the sums are made


class StageSettings(Settings):
    """Other weights from some point of the run on."""

    at: float | None = Field(None, gt=0, lt=1)
    """Where they begin, as a share of the run."""
    step: int | None = Field(None, ge=1)
    """Where they begin, in steps (about: an epoch's steps are estimated)."""
    weights: dict[str, Weight]
    """A weight for every source."""

    @model_validator(mode="after")
    def _is_complete(self) -> "StageSettings":
        if (self.at is None) == (self.step is None):
            raise ValueError("needs one of at (a share of the run) and step: where do the weights begin?")
        _check_sum(self.weights)
        return self


class MixSettings(Settings):
    """How much is read of each source. A change of it changes nothing of what is prepared."""

    weights: dict[str, Weight] = Field({})
    """A weight for every source, in any unit: its share of the tokens. By default sources count by size."""
    temperature: float = Field(1.0, gt=0)
    """T: where no weights are given, a source counts size^(1/T). 1 takes them as they are; more makes small
    ones larger, and very much makes all equal."""
    max_epochs: Limit | dict[str, Limit] | None = None
    """How often a source may be read in the run, for all or by name; what is over goes to the others."""
    curriculum: Annotated[tuple[StageSettings, ...], Lax] = ()
    """Weights that take over from `weights` in the course of the run, in order."""
    passes: float | None = Field(None, gt=0)
    """How long the run is for `at` and `max_epochs`, in passes over the whole text. By default as the budget
    says; must be given where that is in minutes and `at` is used."""

    @model_validator(mode="after")
    def _fits_together(self) -> "MixSettings":
        if self.weights:
            _check_sum(self.weights)
            if self.temperature != 1.0:
                raise ValueError("temperature is for sizes, and does nothing where weights are given")
        for kind in ("at", "step"):
            begin = [getattr(stage, kind) for stage in self.curriculum if getattr(stage, kind) is not None]
            if begin != sorted(set(begin)):
                raise ValueError(f"curriculum: the stages must follow one another, not {kind} = {begin}")
        return self

    def check(self, names: Sequence[str]) -> None:
        """Whether the settings speak of these sources, and of each that they must.

        Raises:
            ConfigError: a name is unknown, or a source is left out.
        """
        if len(names) < 2:
            raise ConfigError(
                f"{KEY}: the prepared data has no named sources to mix. Name several under [[data.sources]], "
                'or set data.mix_by = "language", or leave it out.'
            )
        stages = {f"curriculum.{number}.weights": s.weights for number, s in enumerate(self.curriculum)}
        for key, given in ({"weights": self.weights} | stages).items():
            _check_names(key, given, names)
            left_out = [name for name in names if name not in given]
            if given and left_out:
                raise ConfigError(
                    f"{KEY}.{key}: no weight for {', '.join(left_out)}. Each source needs one; "
                    "0 leaves it out."
                )
        if isinstance(self.max_epochs, dict):
            _check_names("max_epochs", self.max_epochs, names)

    def limit(self, name: str) -> float:
        """How often a source may be read; infinite where nothing is said."""
        if isinstance(self.max_epochs, dict):
            return self.max_epochs.get(name, np.inf)
        return np.inf if self.max_epochs is None else self.max_epochs

    @property
    def needs_length(self) -> bool:
        """Whether something depends on how long the run is."""
        return self.max_epochs is not None or any(stage.at is not None for stage in self.curriculum)


def _check_sum(weights: Mapping[str, float]) -> None:
    if not sum(weights.values()) > 0:
        raise ValueError("weights: at least one must be more than 0")


def _check_names(key: str, given: Mapping[str, float], names: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            near = suggestion(name, list(names))
            raise ConfigError(
                f"{KEY}.{key}: there is no source {name!r}.{near} There are: {', '.join(names)}."
            )


# ---- how much of each source


class Stage(NamedTuple):
    """A stretch of the run in which shares are constant."""

    start: int
    """Its first token."""
    shares: tuple[int, ...]
    """Of each source, in units."""


@final
class Course:
    """How many tokens of each source are due after so many tokens of the run.

    Args:
        stages: From token 0 on, in order.
        most: What is due of each source where all are used up, after the last stage; `None` for never.
    """

    def __init__(self, stages: Sequence[Stage], most: Sequence[int] | None = None) -> None:
        self.stages = tuple(stages)
        self.most = None if most is None else list(most)
        self._starts = [stage.start for stage in stages]
        self._before = [[0] * len(stages[0].shares)]
        for stage, after in pairwise(stages):
            self._before.append(self._gone_on(len(self._before) - 1, stage, after.start))

    def due(self, at: int) -> list[int]:
        """Tokens of each source that are due after the first `at` of the run, rounded to the nearest.

        Raises:
            ConfigError: every source is used up before that.
        """
        number = bisect_right(self._starts, at) - 1
        if (
            self.most is not None and number == len(self.stages) - 1
        ):  # the last stage is where all are used up
            if at > sum(self.most):
                raise ConfigError(
                    f"{KEY}.max_epochs: after {sum(self.most)} tokens every source with a weight has been "
                    "read as often as it may be. Raise max_epochs, or lower train.budget."
                )
            return list(self.most)
        return [(units + UNIT // 2) // UNIT for units in self._gone_on(number, self.stages[number], at)]

    def _gone_on(self, number: int, stage: Stage, at: int) -> list[int]:
        """What is due at a place of a stage, in units of tokens."""
        whole = zip(self._before[number], stage.shares, strict=True)
        return [before + share * (at - stage.start) for before, share in whole]


def course(
    settings: MixSettings, names: Sequence[str], sizes: Sequence[int], passes: float = 0, per_step: float = 1
) -> Course:
    """What the settings make of sources of these sizes in tokens.

    Args:
        passes: The length of the run, in passes over all of the text; 0 where it is not known.
        per_step: Tokens in a step.

    Raises:
        ConfigError: a source without text has a weight, the length of the run must be known, or the limits
            do not leave enough for the run.
    """
    settings.check(names)
    passes = settings.passes or passes
    length = round(passes * sum(sizes))
    limits = [_whole(settings.limit(name) * max(size, 1)) for name, size in zip(names, sizes, strict=True)]
    stages = _asked(settings, names, sizes, length, per_step)
    if length and any(limit is not None for limit in limits):
        most = np.array([np.inf if limit is None else limit for limit in limits], np.float64)
        stages = _held(stages, most, length, names, sizes)
    return _until_used_up(stages, limits)


def _whole(limit: float) -> int | None:
    """A limit in whole tokens; `None` for none."""
    return None if np.isinf(limit) else max(1, round(limit))


class _Wanted(NamedTuple):
    """Weights from some token on."""

    start: int
    weights: NDArray[np.float64]


def _asked(
    settings: MixSettings, names: Sequence[str], sizes: Sequence[int], length: int, per_step: float
) -> list[_Wanted]:
    """The stages as the settings ask for them."""
    by_size = {
        n: (size / max(sizes)) ** (1 / settings.temperature) for n, size in zip(names, sizes, strict=True)
    }
    given: list[tuple[int, Mapping[str, float]]] = [(0, settings.weights or by_size)]
    for stage in settings.curriculum:
        if stage.at is not None and not length:
            raise ConfigError(
                f"{KEY}.curriculum: at is a share of the run, and a budget in minutes does not say how long "
                f"that is. Set {KEY}.passes, or another budget."
            )
        given.append(
            (round(per_step * stage.step) if stage.step else round((stage.at or 0) * length), stage.weights)
        )
    for _, weights in given:
        for name, size in zip(names, sizes, strict=True):
            if weights[name] > 0 and size == 0:
                raise ConfigError(
                    f"{KEY}: source {name!r} has no text in the training split and cannot have a weight. "
                    "Give it 0."
                )
    order = sorted(given, key=lambda each: each[0])
    return [_Wanted(start, np.array([weights[name] for name in names])) for start, weights in order]


def _held(
    stages: Sequence[_Wanted],
    limits: NDArray[np.float64],
    length: int,
    names: Sequence[str],
    sizes: Sequence[int],
) -> list[_Wanted]:
    """The stages of a run of `length` tokens with the weights of some sources lowered, so that none is read
    beyond its limit; after it, the last stage as it was."""
    within = [stage for stage in stages if stage.start < length]
    starts = [stage.start for stage in within]
    spans = np.diff([*starts, length]).astype(np.float64)
    weights = np.stack([stage.weights for stage in within])
    lowered = weights * _factors(weights / weights.sum(1, keepdims=True), spans, limits)
    read = spans @ (lowered / lowered.sum(1, keepdims=True))
    if (read > limits + 1e-6 * length).any():
        lines = [
            f"  {name}: {tokens / max(size, 1):.3g} times, of {limit / max(size, 1):g}"
            for name, tokens, size, limit in zip(names, read, sizes, limits, strict=True)
            if tokens > limit + 1e-6 * length
        ]
        raise ConfigError(
            f"{KEY}.max_epochs: too little for a run of {length} tokens. At best would be read\n"
            + "\n".join(lines)
            + "\nRaise max_epochs, give other sources a weight, or lower train.budget."
        )
    kept = [_Wanted(start, row) for start, row in zip(starts, lowered, strict=True)]
    after = [stage for stage in stages if stage.start >= length]
    return kept + (
        after if after and after[0].start == length else [_Wanted(length, within[-1].weights), *after]
    )


def _factors(
    shares: NDArray[np.float64], spans: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """For each source the part (0, 1] of its weight with which it is read to its limit, or 1 where it is not
    held: Newton's method on the logarithms of those that are held."""
    factor = np.ones(len(limits))
    for _ in range(200):
        now = shares * factor
        now /= now.sum(1, keepdims=True)
        totals = spans @ now
        held = (totals > limits * (1 + 1e-13)) | (factor < 1)
        gap = (limits - totals)[held]
        if not held.any() or np.abs(gap).max() <= 1e-13 * spans.sum():
            break
        slope = np.diag(totals) - now.T @ (spans[:, None] * now)
        step = np.linalg.lstsq(slope[np.ix_(held, held)], gap, rcond=None)[0]
        factor[held] = np.minimum(1.0, factor[held] * np.exp(np.clip(step, -2.0, 2.0)))
    return factor


def _until_used_up(stages: Sequence[_Wanted], limits: Sequence[int | None]) -> Course:
    """Stages of constant shares, in which no source is read beyond its limit."""
    found: list[Stage] = []
    units = [0] * len(limits)
    for number, (start, weights) in enumerate(stages):
        stop = stages[number + 1].start if number + 1 < len(stages) else None
        while stop is None or start < stop:
            left = [None if most is None else most * UNIT - done for most, done in _both(limits, units)]
            shares = _shares(weights, left)
            if shares is None:
                found.append(Stage(start, (0,) * len(limits)))
                return Course(found, [_rest(most, done) for most, done in _both(limits, units)])
            found.append(Stage(start, shares))
            ends = [have // share for have, share in _both(left, shares) if share and have is not None]
            ends += [] if stop is None else [stop - start]
            if not ends:
                return Course(found)
            units = [done + share * min(ends) for done, share in _both(units, shares)]
            start += min(ends)
    return Course(found)


def _rest(most: int | None, done: int) -> int:
    """Tokens of a source where the sources that have a weight are used up, for so many units of it."""
    return most if most is not None and most * UNIT - done < UNIT else done // UNIT


def _both(first: Sequence[A], second: Sequence[B]) -> "zip[tuple[A, B]]":
    return zip(first, second, strict=True)


def _shares(weights: NDArray[np.float64], left: Sequence[int | None]) -> tuple[int, ...] | None:
    """Shares in units that add up to the whole, of the sources that have a token left; `None` where no source
    has."""
    open_ = np.array([have is None or have >= UNIT for have in left])
    whole = float((weights * open_).sum())
    if not whole > 0:
        return None
    shares = [int(weight / whole * UNIT) for weight in (weights * open_).tolist()]
    roomy = [
        -1 if not share else (np.inf if have is None else have)
        for share, have in zip(shares, left, strict=True)
    ]
    shares[int(np.argmax(roomy))] += UNIT - sum(shares)
    return tuple(shares)


# ---- which of its pieces


class Sourced(Protocol):
    """What a corpus must say to be mixed."""

    @property
    def sources(self) -> Counts | None:
        """The number of each document's source, (documents,); `None` where the data does not say."""

    @property
    def first(self) -> Counts:
        """The first piece of each document, and the number of pieces: (documents + 1,)."""

    def asked_of(self, pieces: Counts) -> Counts:
        """How many tokens each of these pieces answers for."""


class Drawn(NamedTuple):
    """Pieces in the order in which they are read, (n,), and which pass of their source it is, (n,)."""

    pieces: Counts
    passes: Counts


@final
class Sources:
    """The sources of a corpus, each of which can be drawn from without end.

    Args:
        names: What the sources are called, by number.

    Raises:
        DataError: the corpus does not say which source a document is from, or names one that there is not.
    """

    def __init__(self, corpus: Sourced, names: Sequence[str], seed: int) -> None:
        of = corpus.sources
        if of is None:
            raise DataError(
                f"{KEY}: the prepared data does not say which source a document is from. Run "
                "`telos prepare` again."
            )
        if of.size and not 0 <= int(of.min()) <= int(of.max()) < len(names):
            raise DataError(
                f"{KEY}: documents are of the sources {int(of.min())} … {int(of.max())}, and {len(names)} "
                "have a name. Run `telos prepare` again."
            )
        self.each = [
            _Source(corpus, np.flatnonzero(of == number), mixed(seed, number + 1))
            for number in range(len(names))
        ]
        self.names = tuple(names)

    @property
    def sizes(self) -> list[int]:
        """Tokens of each source."""
        return [source.tokens for source in self.each]

    def drawn(self, due: Sequence[int], due_then: Sequence[int]) -> list[Drawn]:
        """What is read of each source between two places of the run, by what is due of it there."""
        spans = zip(self.each, due, due_then, strict=True)
        return [source.draws(source.count(before), source.count(then)) for source, before, then in spans]

    def passes(self, due: Sequence[int]) -> dict[str, float]:
        """How often each source has been read where so much of it is due; one without text never."""
        spans = zip(self.names, self.each, due, strict=True)
        return {name: tokens / max(source.tokens, 1) for name, source, tokens in spans}


@final
class _Source:
    """The pieces of one source, drawn pass after pass, each pass in an order of its own."""

    def __init__(self, corpus: Sourced, documents: Counts, seed: int) -> None:
        self._corpus, self._documents, self._seed = corpus, documents, seed
        counts = corpus.first[documents + 1] - corpus.first[documents]
        self._ends = np.cumsum(counts)
        self.pieces = int(counts.sum())
        self._sums = lru_cache(maxsize=2)(self._sums_of)
        self.tokens = int(sum(self._asked(a, b).sum() for a, b in _slices(self.pieces)))

    def count(self, tokens: int) -> int:
        """How many draws come nearest to so many tokens, the fewer of two that are alike."""
        if not self.pieces:
            return 0
        turn, rest = divmod(tokens, self.tokens)
        sums = self._sums(turn)
        chunk = int(np.searchsorted(sums, rest, side="right")) - 1
        start, stop = chunk * _CHUNK, min((chunk + 1) * _CHUNK, self.pieces)
        tokens_of = self._tokens(turn, start, stop)
        twice_middle = 2 * (int(sums[chunk]) + np.cumsum(tokens_of)) - tokens_of
        within = int(np.searchsorted(twice_middle, 2 * rest))
        return turn * self.pieces + start + within

    def draws(self, start: int, stop: int) -> Drawn:
        """The draws start … stop − 1."""
        index = np.arange(start, stop)
        turns = index // max(self.pieces, 1)
        parts = [
            self._order(turn, index[turns == turn] - turn * self.pieces) for turn in np.unique(turns).tolist()
        ]
        return Drawn(np.concatenate([np.zeros(0, np.int64), *parts]), turns)

    def _order(self, turn: int, places: Counts) -> Counts:
        """The pieces at these places of a pass, by their number in the corpus."""
        return self._numbers(permuted(places, self.pieces, self._seed, turn))

    def _numbers(self, own: Counts) -> Counts:
        """From the number of a piece in its source to that in the corpus."""
        at = np.searchsorted(self._ends, own, side="right")
        after: Counts = self._ends[at] - own  # pieces of the document from this one on
        return self._corpus.first[self._documents[at] + 1] - after

    def _asked(self, start: int, stop: int) -> Counts:
        return self._corpus.asked_of(self._numbers(np.arange(start, stop)))

    def _tokens(self, turn: int, start: int, stop: int) -> Counts:
        """Of the pieces at places of a pass."""
        return self._corpus.asked_of(self._order(turn, np.arange(start, stop)))

    def _sums_of(self, turn: int) -> Counts:
        """Tokens of a pass before each chunk of its draws, and no more than that is kept of it."""
        sums = [
            np.add.reduceat(self._tokens(turn, start, stop), np.arange(0, stop - start, _CHUNK))
            for start, stop in _slices(self.pieces)
        ]
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sums))[:-1]])


def _slices(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + _SLICE, count)) for start in range(0, count, _SLICE))

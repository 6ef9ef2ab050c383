"""Which samples stand in which step: the layouts of an epoch, from the plan of a loader.

An epoch is cut into blocks, and a block is made on its own. `Shuffled` has the corpus in a shuffled order,
`Blended` the sources of the corpus by the shares of `mixture.py`, `Carried` documents on tracks.
"""

import heapq
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol, TypeVar, cast, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from telos.batch import Example, Read, Side
from telos.config import Settings
from telos.data.mixture import Course, MixSettings, Sourced, Sources, course
from telos.data.order import block_rng, permuted, sample_rng
from telos.data.packing import Row, pack, singly
from telos.errors import DataError
from telos.tokenizer import Tokenizer

__all__ = [
    "Blended",
    "Documents",
    "Group",
    "Layout",
    "LoaderPlan",
    "LoaderSettings",
    "Makes",
    "filler",
    "layout_of",
    "share",
]

S = TypeVar("S", list[Row], NDArray[np.bool_])

_PROBED = 64  # pieces whose length is looked at to choose the size of a block


class LoaderSettings(Settings):
    """How batches are made; only `block` and `carry` change what is in them."""

    workers: int = Field(0, ge=0, le=256)
    """Processes that make batches ahead of training; 0 makes them in the training process."""
    timeout: float = Field(300.0, gt=0)
    """Seconds to wait for a worker before the run is stopped with an error."""
    block: int = Field(32, ge=1)
    """Steps whose samples are packed into rows together: more fill the rows better and shuffle wider."""
    carry: bool = False
    """Rows go on where the same row of the step before ended, with the model's recurrent state."""
    mix: MixSettings | None = None
    """How much is read of each source, where the data has several; without it, all of each once in an
    epoch."""

    @model_validator(mode="after")
    def _either(self) -> "LoaderSettings":
        if self.carry and self.mix is not None:
            raise ValueError(
                "carry and mix exclude each other: with carry, documents are read whole and one after the "
                "other, so that their shares are those of the text; leave one of the two out"
            )
        return self


_DEFAULT = LoaderSettings()


class Makes(Protocol):
    """What the loader needs of an objective."""

    def after(self, passes: float) -> "Makes": ...

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example: ...


class Documents(Read, Protocol):
    """What the loader needs of a corpus (`pieces_of` to carry state). Pieces stand document by document."""

    def pieces_of(self, document: int) -> range: ...


@dataclass(frozen=True, kw_only=True)
class LoaderPlan:
    """All that decides what is in which batch."""

    corpus: Documents
    objective: Makes
    tokenizer: Tokenizer
    window: int
    """Places in a row."""
    batch: int
    """Rows in a step."""
    micro_batch: int = 0
    """Rows that go through the model at once; 0 for all of the step's."""
    seed: int = 0
    packed: bool = False
    """Rows may hold several documents."""
    settings: LoaderSettings = _DEFAULT
    sources: tuple[str, ...] = ()
    """What the sources of the corpus are called, by their number; for `settings.mix`."""
    passes: float = 0.0
    """How long the run is, in passes over the text; 0 where that is not known. For `settings.mix`."""
    pace: float = 0.0
    """Tokens that a minute of training is expected to read; 0 where that is not known."""


class Group(NamedTuple):
    """The rows of one step."""

    rows: list[Row]
    continues: NDArray[np.bool_] | None = None


class Layout(ABC):
    """Which samples stand where in an epoch."""

    blocks: int
    """Blocks in an epoch."""

    def __init__(self, plan: LoaderPlan) -> None:
        self.plan = plan
        if len(plan.corpus) == 0:
            raise DataError(
                "There is nothing to train on: the training split holds no piece of text. Give more text, or "
                "set aside less for validation and test."
            )

    @abstractmethod
    def groups(self, epoch: int, block: int) -> list[Group]:
        """The steps of one block."""

    @abstractmethod
    def steps(self) -> int:
        """Steps in an epoch."""

    def example(self, epoch: int, sample: int, passes: float) -> Example:
        """A sample that is drawn for the `epoch`-th time, after so many passes over the text."""
        rng = sample_rng(self.plan.seed, epoch, sample)
        objective = self.plan.objective.after(passes)
        return objective.example(self.plan.corpus, sample, rng, self.plan.tokenizer)

    def dealt(self, epoch: int, block: int, examples: list[Example]) -> list[Group]:
        """The examples of a block in rows, and these in steps of nearly equal size."""
        plan = self.plan
        rows = pack(examples, plan.window) if plan.packed else singly(examples, plan.window)
        steps = -(-len(rows) // plan.batch)
        rng = block_rng(plan.seed, epoch, block)
        if plan.packed:  # rows come in order of their examples' length: shuffled, each step has all kinds
            rows = [rows[index] for index in rng.permutation(len(rows))]
        return [Group(share(rows, int(turn), steps)) for turn in rng.permutation(steps)]

    def steps_in(self, samples: float, per_row: float) -> int:
        """About how many steps so many samples are, in blocks."""
        return self.blocks * max(1, round(samples / per_row / self.blocks / self.plan.batch))


@final
class Shuffled(Layout):
    """Samples in shuffled order; those of a block are packed into rows, the rows dealt into steps."""

    def __init__(self, plan: LoaderPlan) -> None:
        super().__init__(plan)
        wanted = plan.settings.block * plan.batch * self.samples_per_row
        self.blocks = max(1, round(len(plan.corpus) / wanted))

    @cached_property
    def samples_per_row(self) -> float:
        """About how many samples a row holds."""
        if not self.plan.packed:
            return 1.0
        number = min(_PROBED, len(self.plan.corpus))
        probes = permuted(np.arange(number), len(self.plan.corpus), 0, 0)
        places = sum(len(self.plan.corpus[int(index)]) for index in probes)
        return max(1.0, self.plan.window * number / places)

    def steps(self) -> int:
        return self.steps_in(len(self.plan.corpus), self.samples_per_row)

    def groups(self, epoch: int, block: int) -> list[Group]:
        plan, samples = self.plan, len(self.plan.corpus)
        places = np.arange(block * samples // self.blocks, (block + 1) * samples // self.blocks)
        chosen = permuted(places, samples, plan.seed, epoch).tolist()
        passes = (epoch + places / samples).tolist()
        return self.dealt(
            epoch, block, [self.example(epoch, *each) for each in zip(chosen, passes, strict=True)]
        )


@final
class Blended(Layout):
    """Several sources by the shares of `mixture.py`. An epoch is as many tokens as the whole text has, of
    whichever source; a block is a stretch of it, and holds of each source what is due in it.
    """

    def __init__(self, plan: LoaderPlan) -> None:
        super().__init__(plan)
        assert plan.settings.mix is not None
        self.mix = plan.settings.mix
        self.mix.check(plan.sources)
        self.sources = Sources(cast(Sourced, plan.corpus), plan.sources, plan.seed)
        self.tokens = sum(self.sources.sizes)
        self.blocks = max(1, round(self._samples / (plan.settings.block * plan.batch * self._per_row)))

    @cached_property
    def course(self) -> Course:
        """What is due of each source where. It is first asked for when a batch is made, since the length of
        the run may hang on the number of steps."""
        per_step = self.tokens / self.steps()
        return course(self.mix, self.sources.names, self.sources.sizes, self.plan.passes, per_step)

    def steps(self) -> int:
        return self.steps_in(self._samples, self._per_row)

    @cached_property
    def _begin(self) -> Course:
        """By the weights that a run begins with."""
        begin = self.mix.model_copy(update={"max_epochs": None, "curriculum": ()})
        return course(begin, self.sources.names, self.sources.sizes)

    @cached_property
    def _samples(self) -> int:
        """Pieces in an epoch."""
        due = zip(self.sources.each, self._begin.due(self.tokens), strict=True)
        return max(1, sum(source.count(tokens) for source, tokens in due))

    @cached_property
    def _per_row(self) -> float:
        """About how many samples a row holds."""
        if not self.plan.packed:
            return 1.0
        stretch = -(-self.tokens * min(_PROBED, self._samples) // self._samples)
        drawn = self.sources.drawn([0] * len(self.sources.each), self._begin.due(stretch))
        probes = np.concatenate([each.pieces for each in drawn])
        places = sum(len(self.plan.corpus[int(piece)]) for piece in probes)
        return max(1.0, self.plan.window * len(probes) / max(places, 1))

    def due(self, epoch: int, block: int) -> list[int]:
        """Tokens of each source that are due before a block."""
        return self.course.due(self.tokens * (epoch * self.blocks + block) // self.blocks)

    def groups(self, epoch: int, block: int) -> list[Group]:
        examples = []
        for drawn in self.sources.drawn(self.due(epoch, block), self.due(epoch, block + 1)):
            passes = epoch + (block + np.arange(len(drawn.pieces)) / max(len(drawn.pieces), 1)) / self.blocks
            each = zip(drawn.passes.tolist(), drawn.pieces.tolist(), passes.tolist(), strict=True)
            examples += [self.example(*one) for one in each]
        return self.dealt(epoch, block, examples)


@final
class Carried(Layout):
    """Documents on tracks: row b of step k + 1 goes on where row b of step k ended."""

    def __init__(self, plan: LoaderPlan) -> None:
        super().__init__(plan)
        longest = -(-len(plan.corpus) // plan.batch)
        self.first, self.count = _runs(plan.corpus, longest)
        self.tracks = min(plan.batch, len(self.first))
        self.on_tracks = lru_cache(maxsize=2)(self._on_tracks)
        self.blocks = max(1, self.steps() // plan.settings.block)

    def steps(self) -> int:
        return max(int(self.count[runs].sum()) for runs in self.on_tracks(0))

    def _on_tracks(self, epoch: int) -> list[NDArray[np.int64]]:
        """The runs of pieces on each track; each run goes to the track that is shortest by then."""
        runs: list[list[int]] = [[] for _ in range(self.tracks)]
        heap = [(0, track) for track in range(self.tracks)]
        for run in permuted(np.arange(len(self.first)), len(self.first), self.plan.seed, epoch).tolist():
            load, track = heapq.heappop(heap)
            runs[track].append(run)
            heapq.heappush(heap, (load + int(self.count[run]), track))
        return [np.array(track, np.int64) for track in runs]

    def groups(self, epoch: int, block: int) -> list[Group]:
        tracks = self.on_tracks(epoch)
        ends = [np.cumsum(self.count[runs]) for runs in tracks]
        windows = max(int(end[-1]) for end in ends)
        span = range(block * windows // self.blocks, (block + 1) * windows // self.blocks)
        return [self._window(epoch, window, windows, tracks, ends) for window in span]

    def _window(
        self,
        epoch: int,
        window: int,
        windows: int,
        tracks: list[NDArray[np.int64]],
        ends: list[NDArray[np.int64]],
    ) -> Group:
        examples: list[Example | None] = []
        continues = np.zeros(len(tracks), np.bool_)
        for track, (runs, end) in enumerate(zip(tracks, ends, strict=True)):
            if window >= end[-1]:
                examples.append(None)
                continue
            at = int(np.searchsorted(end, window, side="right"))
            within = window - int(end[at] - self.count[runs[at]])
            continues[track] = within > 0
            sample = int(self.first[runs[at]]) + within
            examples.append(self.example(epoch, sample, epoch + window / windows))
        some = next(example for example in examples if example is not None)  # rows must keep their place
        return Group([[example or filler(some)] for example in examples], continues)


def _runs(corpus: Documents, longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pieces of each document as (first, count), in runs of at most `longest`."""
    first: list[int] = []
    document = done = 0
    while done < len(corpus):
        pieces = corpus.pieces_of(document)
        assert pieces.start == done, (document, pieces, done)
        parts = max(1, -(-len(pieces) // longest))
        first += [pieces.start + part * len(pieces) // parts for part in range(parts if len(pieces) else 0)]
        document, done = document + 1, pieces.stop
    starts = np.array(first, np.int64)
    return starts, np.diff(starts, append=len(corpus))


def filler(example: Example, source: bool = False) -> Example:
    """A row of which nothing is asked, for one that there is not; with a place of the source if `source`."""
    read = _first_place(example.source) if source and example.source is not None else None
    return replace(example, main=_first_place(example.main), source=read, asks=(), unit=-1, sample=-1)


def _first_place(side: Side) -> Side:
    return Side(
        ids=side.ids[:1],
        positions=side.positions[:1],
        segment=side.segment[:1],
        order=side.order[:1],
        seen=side.seen[:1],
        types=None if side.types is None else side.types[:1],
    )


def layout_of(plan: LoaderPlan) -> Layout:
    """The layout that the settings ask for.

    Raises:
        DataError: the corpus is empty, or does not say which source a document is from.
        ConfigError: the sources cannot be mixed as the settings say.
    """
    if plan.settings.carry:
        return Carried(plan)
    return Shuffled(plan) if plan.settings.mix is None else Blended(plan)


def share(rows: S, turn: int, turns: int) -> S:
    """Part `turn` of the rows, in parts of nearly equal size."""
    return rows[turn * len(rows) // turns : (turn + 1) * len(rows) // turns]

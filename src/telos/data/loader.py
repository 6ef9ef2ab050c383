"""From a corpus to the batches of a training run, any of which can be made again from the seed and its place.

An epoch is a shuffled order of samples, cut into blocks. A block is made on its own: its examples, the rows
they are packed into, the steps that the rows are dealt into. So step k depends on its block alone, going on
after an interruption costs one block, and it does not matter which worker makes what. A row belongs to one
step, and a step has at most `batch` rows.

With `carry`, documents are laid one after the other on `batch` tracks, and window k of every track makes step
k: recurrent state goes on from step to step, row by row. A document longer than an even share of the corpus
is laid on several tracks.
"""

import contextlib
import heapq
import multiprocessing
import signal
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Protocol, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from telos.batch import Asked, Batch, Example, Place, Read, Rows, Side
from telos.config import Settings
from telos.data.order import block_rng, permuted, sample_rng
from telos.data.packing import Row, collate, pack, singly
from telos.errors import DataError, TelosError, TrainingError
from telos.tokenizer import Tokenizer

__all__ = [
    "Documents",
    "LoaderPlan",
    "LoaderSettings",
    "Makes",
    "Step",
    "dead_worker",
    "steps",
    "steps_per_epoch",
]

_LOOK_EVERY = 5.0  # seconds between looks whether the workers live
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The batches of one training step, and where to go on after it."""

    batches: tuple[Batch, ...]
    """Micro-batches: their gradients are added up."""
    place: Place
    """Where to go on after this step."""
    epoch: int
    """The epoch that the samples belong to."""
    share: float
    """How much of that epoch is done after this step; 1 at its end."""


def steps(plan: LoaderPlan, place: Place) -> Generator[Step, None, None]:
    """Steps without end, from `place` on: the same whatever the number of workers.

    Raises:
        DataError: the corpus is empty.
        TrainingError: a worker died, or took longer than `timeout`.
    """
    layout = _layout(plan)
    where = _keys(layout, place)
    made = _by_workers(plan, layout, where) if plan.settings.workers else _here(plan, layout, where)
    skip = place.step
    try:
        for block in made:
            for step in block:
                if skip:
                    skip -= 1
                else:
                    yield step
    finally:
        made.close()


def steps_per_epoch(plan: LoaderPlan) -> int:
    """About how many steps an epoch has; exact where state is carried.

    Raises:
        DataError: the corpus is empty.
    """
    return _layout(plan).steps()


def dead_worker(error: BaseException) -> TrainingError | None:
    """What to raise in place of `error` if it tells of a dead worker; it can come up anywhere."""
    if not (isinstance(error, RuntimeError) and "DataLoader" in str(error)):
        return None
    return TrainingError(
        f"A loader worker died or hangs ({str(error).splitlines()[0]}). Often memory ran out: try "
        "fewer workers (train.loader.workers), or 0. Started again, the run goes on from its last checkpoint."
    )


class _Group(NamedTuple):
    """The rows of one step."""

    rows: list[Row]
    continues: NDArray[np.bool_] | None = None


class _Layout(ABC):
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
    def groups(self, epoch: int, block: int) -> list[_Group]:
        """The steps of one block."""

    @abstractmethod
    def steps(self) -> int:
        """Steps in an epoch."""

    def example(self, epoch: int, sample: int, share: float) -> Example:
        """A sample, when `share` of its epoch is done."""
        rng = sample_rng(self.plan.seed, epoch, sample)
        objective = self.plan.objective.after(epoch + share)
        return objective.example(self.plan.corpus, sample, rng, self.plan.tokenizer)


@final
class _Shuffled(_Layout):
    """Samples in shuffled order; those of a block are packed into rows, the rows dealt into steps."""

    def __init__(self, plan: LoaderPlan) -> None:
        super().__init__(plan)
        samples = len(plan.corpus)
        wanted = plan.settings.block * plan.batch * self.samples_per_row
        self.blocks = max(1, round(samples / wanted))

    @cached_property
    def samples_per_row(self) -> float:
        if not self.plan.packed:
            return 1.0
        number = min(_PROBED, len(self.plan.corpus))
        probes = permuted(np.arange(number), len(self.plan.corpus), 0, 0)
        places = sum(len(self.plan.corpus[int(index)]) for index in probes)
        return max(1.0, self.plan.window * number / places)

    def steps(self) -> int:
        rows = len(self.plan.corpus) / self.samples_per_row / self.blocks
        return self.blocks * max(1, round(rows / self.plan.batch))

    def groups(self, epoch: int, block: int) -> list[_Group]:
        plan, samples = self.plan, len(self.plan.corpus)
        places = np.arange(block * samples // self.blocks, (block + 1) * samples // self.blocks)
        chosen = permuted(places, samples, plan.seed, epoch)
        shares = places / samples
        examples = [self.example(epoch, *each) for each in zip(chosen.tolist(), shares.tolist(), strict=True)]
        rows = pack(examples, plan.window) if plan.packed else singly(examples, plan.window)
        dealt = -(-len(rows) // plan.batch)
        rng = block_rng(plan.seed, epoch, block)
        if plan.packed:  # rows come in order of their examples' length: shuffled, each step has all kinds
            rows = [rows[index] for index in rng.permutation(len(rows))]
        return [_Group(_share(rows, int(turn), dealt)) for turn in rng.permutation(dealt)]


@final
class _Carried(_Layout):
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

    def groups(self, epoch: int, block: int) -> list[_Group]:
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
    ) -> _Group:
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
            examples.append(self.example(epoch, sample, window / windows))
        some = next(example for example in examples if example is not None)
        return _Group([[example or _filler(some)] for example in examples], continues)


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


def _filler(example: Example) -> Example:
    """A row of which nothing is asked, for a track that ended early: rows must keep their place."""
    side = example.main
    one = Side(
        ids=side.ids[:1],
        positions=side.positions[:1],
        segment=side.segment[:1],
        order=side.order[:1],
        seen=side.seen[:1],
        types=None if side.types is None else side.types[:1],
    )
    return replace(example, main=one, source=None, asks=(), unit=-1, sample=-1)


def _layout(plan: LoaderPlan) -> _Layout:
    return _Carried(plan) if plan.settings.carry else _Shuffled(plan)


def _share(rows: list[Row], turn: int, turns: int) -> list[Row]:
    """Part `turn` of the rows, in parts of nearly equal size."""
    return rows[turn * len(rows) // turns : (turn + 1) * len(rows) // turns]


def _keys(layout: _Layout, place: Place) -> Iterator[tuple[int, int]]:
    """(epoch, block) without end, from `place` on."""
    key = place.epoch, place.block
    while True:
        yield key
        key = _next(layout, *key)


def _next(layout: _Layout, epoch: int, block: int) -> tuple[int, int]:
    return (epoch, block + 1) if block + 1 < layout.blocks else (epoch + 1, 0)


def _block(plan: LoaderPlan, layout: _Layout, epoch: int, block: int) -> Iterator[Step]:
    groups = layout.groups(epoch, block)
    for taken, group in enumerate(groups, start=1):
        place = Place(epoch=epoch, block=block, step=taken)
        if taken == len(groups):
            place = Place(epoch=_next(layout, epoch, block)[0], block=_next(layout, epoch, block)[1])
        share = (block + taken / len(groups)) / layout.blocks
        yield Step(batches=_batches(plan, group), place=place, epoch=epoch, share=share)


def _batches(plan: LoaderPlan, group: _Group) -> tuple[Batch, ...]:
    """The rows of a step as micro-batches of nearly equal size."""
    parts = -(-len(group.rows) // (plan.micro_batch or len(group.rows)))
    made = []
    for part in range(parts):
        batch = collate(_share(group.rows, part, parts), plan.window)
        if group.continues is not None:
            start, stop = (turn * len(group.rows) // parts for turn in (part, part + 1))
            batch = replace(batch, continues=torch.from_numpy(group.continues[start:stop].copy()))
        made.append(batch)
    return tuple(made)


def _here(
    plan: LoaderPlan, layout: _Layout, keys: Iterator[tuple[int, int]]
) -> Generator[Iterator[Step], None, None]:
    for epoch, block in keys:
        yield _block(plan, layout, epoch, block)


class _Blocks(Dataset[list[Step] | TelosError]):
    """Whole blocks by (epoch, block), as a worker makes them: in numpy, which needs no shared memory."""

    def __init__(self, plan: LoaderPlan, layout: _Layout) -> None:
        self.plan = plan
        self.layout = layout

    def __getitem__(self, key: tuple[int, int]) -> list[Step] | TelosError:
        try:
            return [_converted(step, Tensor, Tensor.numpy) for step in _block(self.plan, self.layout, *key)]
        except TelosError as error:  # as a value, so that it arrives with its own words
            return error


def _by_workers(
    plan: LoaderPlan, layout: _Layout, keys: Iterator[tuple[int, int]]
) -> Generator[Iterator[Step], None, None]:
    iterator = _start(plan, layout, keys)
    try:
        while True:
            block = _patiently(iterator, plan.settings.timeout)
            if isinstance(block, TelosError):
                raise block
            yield (_converted(step, np.ndarray, torch.from_numpy) for step in block)
    except RuntimeError as error:
        raise dead_worker(error) or error from None
    finally:
        _stop(iterator)


def _patiently(iterator: Iterator[list[Step] | TelosError], timeout: float) -> list[Step] | TelosError:
    """The next block. Every few seconds PyTorch looks whether the workers live, until `timeout` is over."""
    start = time.monotonic()
    while True:
        try:
            return next(iterator)
        except RuntimeError as error:
            if "timed out" not in str(error) or time.monotonic() - start >= timeout:
                raise


def _start(
    plan: LoaderPlan, layout: _Layout, keys: Iterator[tuple[int, int]]
) -> Iterator[list[Step] | TelosError]:
    # Forked workers share the corpus and the plan; elsewhere both are sent.
    context = multiprocessing.get_context("fork") if sys.platform == "linux" else None
    with warnings.catch_warnings(), _no_signals():
        warnings.simplefilter("ignore")  # more workers than processors: as wished; fork beside threads: safe
        loader = DataLoader(
            _Blocks(plan, layout),
            batch_size=None,
            sampler=cast(Iterable[Any], keys),
            num_workers=plan.settings.workers,
            collate_fn=_as_it_is,
            timeout=min(plan.settings.timeout, _LOOK_EVERY),
            multiprocessing_context=context,
            generator=torch.Generator(),  # its own, so that the run's generators are not drawn from
        )
        return iter(loader)


def _stop(iterator: Any) -> None:
    """End the workers; those that hang are killed, since they ignore polite signals."""
    workers = list(iterator._workers)
    iterator._shutdown_workers()
    for worker in workers:
        if worker.is_alive():
            worker.kill()
            worker.join()


def _as_it_is(block: Any) -> Any:
    return block


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    """Processes started in here get no signal to stop that is sent to the whole group.

    It is for the trainer, which still needs their batches to finish its step.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _converted(thing: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """`thing` with all of `kind` in it converted: to arrays before a pipe, to tensors behind it."""
    if isinstance(thing, kind):
        return convert(thing)
    if isinstance(thing, tuple):
        return tuple(_converted(part, kind, convert) for part in thing)
    if isinstance(thing, Step | Batch | Rows | Asked):
        names = [field.name for field in fields(thing) if field.name not in ("samples", "asked")]
        return replace(thing, **{name: _converted(getattr(thing, name), kind, convert) for name in names})
    return thing

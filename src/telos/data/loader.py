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
import multiprocessing
import signal
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from telos.batch import Asked, Batch, Place, Rows
from telos.data.layout import (
    Blended,
    Documents,
    Group,
    Layout,
    LoaderPlan,
    LoaderSettings,
    Makes,
    filler,
    layout_of,
    share,
)
from telos.data.packing import collate
from telos.errors import ConfigError, TelosError, TrainingError

__all__ = [
    "Documents",
    "LoaderPlan",
    "LoaderSettings",
    "Makes",
    "Step",
    "dead_worker",
    "passes_of",
    "steps",
    "steps_per_epoch",
]

_LOOK_EVERY = 5.0  # seconds between looks whether the workers live


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


class _Part(NamedTuple):
    """Which of the processes that train together this one is."""

    rank: int = 0
    world: int = 1


def steps(plan: LoaderPlan, place: Place, rank: int = 0, world: int = 1) -> Generator[Step, None, None]:
    """Steps without end, from `place` on: the same whatever the number of workers.

    Of `world` processes that train together, each gets its part of every step: the rows of all ranks, one
    rank after the other, are those that a single process would get, in the same order. All ranks have the
    same steps, and in each the same number of micro-batches; where there are too few rows for that, a row of
    which nothing is asked stands in. A place is the same for all, so a run can be gone on with by any number
    of processes that divides the rows of a step. Every rank makes the examples of all rows, since how they
    are packed depends on all, and lays out its own.

    Raises:
        DataError: the corpus is empty.
        ConfigError: `world` does not divide the rows of a step, or sources cannot be mixed as wished.
        TrainingError: a worker died, or took longer than `timeout`.
    """
    _check_part(plan, rank, world)
    layout, part = layout_of(plan), _Part(rank, world)
    where = _keys(layout, place)
    made = _by_workers(layout, part, where) if plan.settings.workers else _here(layout, part, where)
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
    return layout_of(plan).steps()


def passes_of(plan: LoaderPlan, place: Place) -> dict[str, float]:
    """How often each source of a mixture has been read at the beginning of the block that `place` is in;
    nothing where none are mixed.

    Raises:
        DataError, ConfigError: as of `steps`.
    """
    layout = layout_of(plan)
    if not isinstance(layout, Blended):
        return {}
    return layout.sources.passes(layout.due(place.epoch, place.block))


def dead_worker(error: BaseException) -> TrainingError | None:
    """What to raise in place of `error` if it tells of a dead worker; it can come up anywhere."""
    if not (isinstance(error, RuntimeError) and "DataLoader" in str(error)):
        return None
    return TrainingError(
        f"A loader worker died or hangs ({str(error).splitlines()[0]}). Often memory ran out: try "
        "fewer workers (train.loader.workers), or 0. Started again, the run goes on from its last checkpoint."
    )


def _check_part(plan: LoaderPlan, rank: int, world: int) -> None:
    assert 0 <= rank < world, (rank, world)
    if plan.batch % world:
        more = -(-plan.batch // world) * world
        fewer = f"{more - world} or " if more > world else ""
        raise ConfigError(
            f"train.batch = {plan.batch}: {world} processes cannot share the rows of a step evenly. Set "
            f"train.batch to {fewer}{more}, or take another number of processes."
        )


def _keys(layout: Layout, place: Place) -> Iterator[tuple[int, int]]:
    """(epoch, block) without end, from `place` on."""
    key = place.epoch, place.block
    while True:
        yield key
        key = _next(layout, *key)


def _next(layout: Layout, epoch: int, block: int) -> tuple[int, int]:
    return (epoch, block + 1) if block + 1 < layout.blocks else (epoch + 1, 0)


def _block(layout: Layout, part: _Part, epoch: int, block: int) -> Iterator[Step]:
    groups = layout.groups(epoch, block)
    for taken, group in enumerate(groups, start=1):
        place = Place(epoch=epoch, block=block, step=taken)
        if taken == len(groups):
            place = Place(epoch=_next(layout, epoch, block)[0], block=_next(layout, epoch, block)[1])
        done = (block + taken / len(groups)) / layout.blocks
        yield Step(batches=_batches(layout.plan, group, part), place=place, epoch=epoch, share=done)


def _batches(plan: LoaderPlan, group: Group, part: _Part) -> tuple[Batch, ...]:
    """A rank's rows of a step as micro-batches of nearly equal size."""
    most = -(-len(group.rows) // part.world)
    parts = -(-most // (plan.micro_batch or most))
    rows, continues = share(group.rows, *part), group.continues
    spare = max(0, parts - len(rows))
    rows += [[filler(group.rows[0][0], source=True)]] * spare
    if continues is not None:
        continues = np.append(share(continues, *part), np.zeros(spare, np.bool_))
    made = []
    for turn in range(parts):
        batch = collate(share(rows, turn, parts), plan.window)
        if continues is not None:
            batch = replace(batch, continues=torch.from_numpy(share(continues, turn, parts).copy()))
        made.append(batch)
    return tuple(made)


def _here(
    layout: Layout, part: _Part, keys: Iterator[tuple[int, int]]
) -> Generator[Iterator[Step], None, None]:
    for epoch, block in keys:
        yield _block(layout, part, epoch, block)


class _Blocks(Dataset[list[Step] | TelosError]):
    """Whole blocks by (epoch, block), as a worker makes them: in numpy, which needs no shared memory."""

    def __init__(self, layout: Layout, part: _Part) -> None:
        self.layout = layout
        self.part = part

    def __getitem__(self, key: tuple[int, int]) -> list[Step] | TelosError:
        try:
            return [_converted(step, Tensor, Tensor.numpy) for step in _block(self.layout, self.part, *key)]
        except TelosError as error:  # as a value, so that it arrives with its own words
            return error


def _by_workers(
    layout: Layout, part: _Part, keys: Iterator[tuple[int, int]]
) -> Generator[Iterator[Step], None, None]:
    settings = layout.plan.settings
    iterator = _start(_Blocks(layout, part), settings, keys)
    try:
        while True:
            block = _patiently(iterator, settings.timeout)
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
    blocks: _Blocks, settings: LoaderSettings, keys: Iterator[tuple[int, int]]
) -> Iterator[list[Step] | TelosError]:
    # Forked workers share the corpus and the plan; elsewhere both are sent.
    context = multiprocessing.get_context("fork") if sys.platform == "linux" else None
    with warnings.catch_warnings(), _no_signals():
        warnings.simplefilter("ignore")  # more workers than processors: as wished; fork beside threads: safe
        loader = DataLoader(
            blocks,
            batch_size=None,
            sampler=cast(Iterable[Any], keys),
            num_workers=settings.workers,
            collate_fn=_as_it_is,
            timeout=min(settings.timeout, _LOOK_EVERY),
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

"""The loader's batches are a function of the seed and the place, on any number of workers."""

import itertools
import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telos.batch import Batch, Cut, Example, Piece, Place, Read
from telos.config import read as read_settings
from telos.data.loader import LoaderPlan, LoaderSettings, Step, steps, steps_per_epoch
from telos.errors import ConfigError, DataError, TrainingError
from telos.objectives.causal import Causal
from telos.objectives.span import Span
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from tests.train import tiny

WINDOW = 16


@dataclass(frozen=True)
class Pieces:
    """A corpus of documents with so many pieces each, whose ids tell the piece and the place in it."""

    counts: tuple[int, ...]
    length: int = WINDOW + 1

    def __len__(self) -> int:
        return sum(self.counts)

    def pieces_of(self, document: int) -> range:
        first = sum(self.counts[:document])
        return range(first, first + self.counts[document])

    def __getitem__(self, index: int) -> Piece:
        document = int(np.searchsorted(np.cumsum(self.counts), index, side="right"))
        last = index == self.pieces_of(document)[-1]
        length = 2 + index % (self.length - 2) if last else self.length
        return Piece(ids=1000 * index + np.arange(length), document=document, start=index)


class Drawing:
    """An objective that uses its randomness: the drawn number is the target."""

    def after(self, passes: float) -> "Drawing":
        return self

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        made = Causal().example(read, index, rng, tokenizer)
        ask = made.asks[0]
        return replace(made, asks=(replace(ask, target=rng.integers(0, 2**40, len(ask.at))),))


def plan(counts: tuple[int, ...] = (1, 4, 2, 9, 1, 1, 3, 6, 2, 2) * 3, **changes: Any) -> LoaderPlan:
    corpus = changes.pop("corpus", Pieces(counts))
    own = {name: changes.pop(name) for name in ("workers", "timeout", "block", "carry") if name in changes}
    return LoaderPlan(
        corpus=corpus,
        objective=changes.pop("objective", Drawing()),
        tokenizer=tiny.vocabulary(),
        window=WINDOW,
        **{"batch": 4, "seed": 3, "packed": True, **changes},
        settings=LoaderSettings(**{"block": 3, "timeout": 60.0, **own}),
    )


def take(plan: LoaderPlan, number: int, place: Place | None = None) -> list[Step]:
    source = steps(plan, place or Place())
    try:
        return list(itertools.islice(source, number))
    finally:
        source.close()


def until(plan: LoaderPlan, epoch: int) -> list[Step]:
    """All steps of the epochs before `epoch`."""
    source = steps(plan, Place())
    try:
        return list(itertools.takewhile(lambda step: step.epoch < epoch, source))
    finally:
        source.close()


def content(step: Step) -> Any:
    """Everything in a step, so that two can be compared."""
    return [
        (b.samples, b.main.ids.tolist(), [a.target.tolist() for a in b.asks], b.asked) for b in step.batches
    ]


def samples(steps: list[Step]) -> list[int]:
    return [sample for step in steps for batch in step.batches for row in batch.samples for sample in row]


VARIANTS: list[dict[str, Any]] = [{}, {"packed": False}, {"packed": False, "carry": True}]


@pytest.mark.parametrize("changes", VARIANTS)
def test_each_epoch_reads_every_sample_once_in_an_order_of_its_own(changes: dict[str, Any]) -> None:
    """Traps 43 and 45: no sample is repeated to fill a batch, none is dropped, no epoch is like another."""
    made = plan(**changes)
    found = until(made, 3)
    epochs = [samples([step for step in found if step.epoch == epoch]) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(len(made.corpus)))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0] and sorted(epochs[0]) != epochs[0]
    assert found[-1].share == 1.0 and found[-1].place == Place(epoch=3)
    assert samples(until(replace(made, seed=4), 1)) != epochs[0]


@pytest.mark.parametrize("changes", VARIANTS)
def test_from_any_place_the_same_batches_follow(changes: dict[str, Any]) -> None:
    """Traps 40, 41 and 42: gone on with after each step of three epochs, a second and a third time too."""
    made = plan(**changes)
    whole = until(made, 3)
    expected = [content(step) for step in whole]
    for index, step in enumerate(whole[:-1]):
        again = take(made, 3, step.place)
        assert [content(s) for s in again[: len(whole) - index - 1]] == expected[index + 1 : index + 4]
        assert [s.place for s in again[:1]] == [whole[index + 1].place]
    place, found = Place(), []
    draw = random.Random(0)
    while len(found) < len(whole):
        found += take(made, min(draw.randint(1, 7), len(whole) - len(found)), place)
        place = found[-1].place
    assert [content(step) for step in found] == expected


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(changes: dict[str, Any], workers: int) -> None:
    """Traps 40 and 44: one, three or no workers, from the start and from the middle of a block of the second
    epoch.
    """
    alone = take(plan(**changes), 40)
    middle = next(step.place for step in alone if step.place.epoch == 1 and step.place.step == 1)
    for place in (Place(), middle):
        helped = take(plan(**changes, workers=workers), 12, place)
        expected = take(plan(**changes), 12, place)
        assert [content(step) for step in helped] == [content(step) for step in expected]
        assert [(s.place, s.share, s.epoch) for s in helped] == [
            (s.place, s.share, s.epoch) for s in expected
        ]


def test_workers_give_the_same_tensors() -> None:
    """Nothing is lost on the way from a worker: every tensor is equal in dtype and content."""
    for one, other in zip(take(plan(), 5), take(plan(workers=2), 5), strict=True):
        for a, b in zip(one.batches, other.batches, strict=True):
            for left, right in [(a.main, b.main), *zip(a.asks, b.asks, strict=True)]:
                for name in left.__slots__:
                    x, y = getattr(left, name), getattr(right, name)
                    assert type(x) is type(y) and (
                        torch.equal(x, y) and x.dtype == y.dtype if torch.is_tensor(x) else x == y
                    )


@pytest.mark.parametrize("changes", VARIANTS)
def test_micro_batches_cut_a_step_and_do_not_change_it(changes: dict[str, Any]) -> None:
    """Trap 45: the rows of a step are the same, in the same order, however many go through at once."""
    whole = until(plan(**changes), 2)
    for rows in (1, 2, 3):
        cut = until(plan(**changes, micro_batch=rows), 2)
        assert [[r for b in s.batches for r in b.samples] for s in cut] == [
            list(s.batches[0].samples) for s in whole
        ]
        assert all(batch.main.shape[0] <= rows for step in cut for batch in step.batches)
        assert [step.place for step in cut] == [step.place for step in whole]


def test_steps_are_of_nearly_equal_size() -> None:
    made = plan(tuple([1] * 997), batch=8, block=32)
    rows = [len(step.batches[0].samples) for step in until(made, 1)]
    assert max(rows) == 8 and min(rows) >= 6
    assert sum(rows) / len(rows) > 7.2


def test_unpacked_batches_are_of_like_length() -> None:
    """Rows of one step differ little in length, and steps come in no order of length."""
    found = until(plan(tuple([1] * 400), packed=False, batch=8, block=50), 1)
    lengths = [(step.batches[0].main.segment >= 0).sum(1) for step in found]
    assert max(int(row.max() - row.min()) for row in lengths) <= 1
    assert sorted(row.tolist() for row in lengths) != [row.tolist() for row in lengths]


def test_randomness_is_of_the_sample_and_the_epoch() -> None:
    """A sample draws the same in one epoch, whatever it is packed with, and another in the next."""

    def drawn(made: LoaderPlan) -> dict[tuple[int, int], tuple[int, ...]]:
        found = {}
        for step in until(made, 2):
            batch = step.batches[0]
            ask = batch.asks[0]
            real = ask.weight > 0
            by_place = dict(zip(ask.at[real].tolist(), ask.target[real].tolist(), strict=True))
            for place, id in enumerate(batch.main.ids.flatten().tolist()):
                if place in by_place and batch.main.segment.flatten()[place] >= 0:
                    found[step.epoch, id] = by_place[place]
        return found

    one = drawn(plan())
    other = drawn(plan(packed=False, batch=3, block=1))
    assert one == other and len(one) > 300
    assert all(one[0, id] != one[1, id] for epoch, id in one if epoch == 0)


def carried(**changes: Any) -> list[Step]:
    return until(plan(packed=False, carry=True, **changes), 2)


def test_carried_rows_go_on_where_they_ended() -> None:
    """Trap 28: a row continues if and only if it holds the piece after that of the same row before."""
    before: dict[int, int] = {}
    starts = 0
    for step in carried():
        batch = step.batches[0]
        assert batch.continues is not None and not batch.main.packed and batch.main.shape[0] == 4
        corpus = plan().corpus
        for row, (held, goes_on) in enumerate(zip(batch.samples, batch.continues.tolist(), strict=True)):
            if not held:
                assert not goes_on
                continue
            (sample,) = held
            follows = before.get(row) == sample - 1 and corpus[sample].document == corpus[sample - 1].document
            assert goes_on == follows
            starts += not goes_on
            before[row] = sample
    documents = 30
    assert 2 * documents <= starts <= 2 * (documents + 4), "long documents are cut at most once per track"


def test_tracks_are_of_nearly_equal_length_and_keep_their_row() -> None:
    found = carried(batch=5)
    assert {len(step.batches[0].samples) for step in found} == {5}
    empty = sum(not row for step in found for row in step.batches[0].samples)
    assert empty <= 0.2 * 5 * len(found)
    quiet = [b for step in found for b in step.batches if any(not row for row in b.samples)]
    for batch in quiet:
        rows = [r for r, held in enumerate(batch.samples) if not held]
        asked = batch.asks[0].at[batch.asks[0].weight > 0] // batch.main.shape[1]
        assert not set(rows) & set(asked.tolist()), "an ended track is asked nothing"


def test_one_long_document_is_laid_on_all_tracks() -> None:
    found = [step for step in carried(counts=(64,), batch=4) if step.epoch == 0]
    assert len(found) == 16 == steps_per_epoch(plan((64,), packed=False, carry=True))
    on = [step.batches[0].continues for step in found]
    assert [c is not None and bool(c.all()) for c in on] == [False] + [True] * 15


def test_carried_micro_batches_keep_their_rows() -> None:
    for step in carried(micro_batch=3):
        assert [len(batch.samples) for batch in step.batches] == [2, 2]
        assert all(batch.continues is not None and len(batch.continues) == 2 for batch in step.batches)


def test_the_estimate_of_steps_is_near() -> None:
    for changes in VARIANTS:
        made = plan(tuple(1 + k % 7 for k in range(200)), **changes, batch=6)
        assert abs(len(until(made, 1)) / steps_per_epoch(made) - 1) < 0.1, changes


@pytest.mark.parametrize("workers", [0, 2])
def test_an_empty_corpus_is_refused(workers: int) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        take(plan((), workers=workers), 1)


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_corpus_smaller_than_a_window_or_a_batch_works(changes: dict[str, Any]) -> None:
    for counts in [(1,), (1, 1), (3,)]:
        found = until(plan(counts, batch=32, **changes), 2)
        assert sorted(samples(found)) == sorted(list(range(sum(counts))) * 2)


def test_on_a_real_corpus(tmp_path: Path) -> None:
    """Every token of every document is asked once in an epoch, and its target is the token after it."""
    corpus = tiny.corpus(tmp_path, Causal().cut(WINDOW))
    found = until(plan(corpus=corpus, objective=Causal()), 1)
    tokens = sum(len(text.encode()) + 1 for text in tiny.texts())
    assert sum(batch.asked["tokens"] for step in found for batch in step.batches) == tokens
    pairs = []
    for batch in (batch for step in found for batch in step.batches):
        flat, asked = batch.main.ids.flatten(), batch.asks[0]
        real = asked.weight > 0
        pairs += zip(flat[asked.at[real]].tolist(), asked.target[real].tolist(), strict=True)
    t = tiny.vocabulary()
    ids = [[t.begin, *t.encode(text).tolist(), t.end] for text in tiny.texts()]
    assert sorted(pairs) == sorted(pair for document in ids for pair in itertools.pairwise(document))


class Deadly:
    """Its worker gets SIGKILL at one of the samples, or hangs for ever."""

    def __init__(self, kind: str, at: int, parent: int) -> None:
        self.kind, self.at, self.parent = kind, at, parent

    def after(self, passes: float) -> "Deadly":
        return self

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        if index == self.at and os.getpid() != self.parent:
            if self.kind == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "hangs":
                time.sleep(600)
            raise {"data": DataError("line 7 is bad"), "ours": ZeroDivisionError("our bug")}[self.kind]
        return Causal().example(read, index, rng, tokenizer)


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        ("killed", TrainingError, r"worker died or hangs .*fewer workers"),
        ("hangs", TrainingError, "worker died or hangs .*timed out"),
        ("data", DataError, "^line 7 is bad$"),
        ("ours", ZeroDivisionError, "our bug"),
    ],
)
def test_a_worker_that_dies_or_hangs_is_an_error_and_soon(
    kind: str, error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 55: never a hang; and the workers are gone afterwards."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 1.0)
    start = time.monotonic()
    timeout = 2.0 if kind == "hangs" else 60.0
    with pytest.raises(error, match=says):
        take(plan(objective=Deadly(kind, 17, os.getpid()), workers=2, timeout=timeout), 1000)
    assert time.monotonic() - start < 20
    assert not multiprocessing.active_children()


def test_workers_survive_polite_signals_and_leave_with_the_loader() -> None:
    """Trap 66: SIGTERM and SIGINT to the whole group do not take the trainer's batches away."""
    source = steps(plan(workers=2), Place())
    next(source)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGTERM)  # type: ignore[arg-type]
        os.kill(worker.pid, signal.SIGINT)  # type: ignore[arg-type]
    found = [content(step) for step in itertools.islice(source, 30)]
    source.close()
    assert found == [content(step) for step in take(plan(), 31)[1:]]
    assert not multiprocessing.active_children()


def test_workers_draw_nothing_from_the_runs_generator() -> None:
    """Trap 61: the loader has a generator of its own."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    take(plan(workers=2), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_is_a_batch() -> None:
    assert all(isinstance(batch, Batch) for step in take(plan(workers=1), 3) for batch in step.batches)
    assert Cut(length=WINDOW + 1, overlap=1) == Cut(length=WINDOW + 1, overlap=1)


# ---- several processes that train together


def union(parts: list[list[Step]]) -> list[Any]:
    """The samples of each step, the rows of all ranks one after the other; those that stand in left out."""
    return [
        [row for step in of for batch in step.batches for row in batch.samples if row]
        for of in zip(*parts, strict=True)
    ]


def on_ranks(made: LoaderPlan, world: int, number: int, place: Place | None = None) -> list[list[Step]]:
    found = []
    for rank in range(world):
        source = steps(made, place or Place(), rank, world)
        try:
            found.append(list(itertools.islice(source, number)))
        finally:
            source.close()
    return found


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_ranks_share_each_step(changes: dict[str, Any], world: int) -> None:
    """Traps 44, 45 and 56: the rows of all ranks are those of one process, in its order; every rank has as
    many steps and micro-batches."""
    made = plan(**changes, batch=12, micro_batch=2)
    alone = take(replace(made, micro_batch=0), 20)
    parts = on_ranks(made, world, 20)
    assert union(parts) == union([alone])
    for of in zip(*parts, strict=True):
        assert len({len(step.batches) for step in of}) == 1
        assert len({(step.place, step.epoch, step.share) for step in of}) == 1
        rows = [sum(bool(row) for batch in step.batches for row in batch.samples) for step in of]
        assert changes.get("carry") or max(rows) - min(rows) <= 1
        assert all(batch.main.shape[0] <= 2 for step in of for batch in step.batches)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_with_workers(world: int, workers: int) -> None:
    alone = take(plan(batch=6), 10)
    assert union(on_ranks(plan(batch=6, workers=workers), world, 10)) == union([alone])


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_number_of_processes_can_change(changes: dict[str, Any]) -> None:
    """Traps 41, 42 and 45: 4 → 1 → 2 → 4 processes, stopped after every number of steps from 0 on, so in the
    middle of blocks, at the ends of epochs, and without a step between two stops."""
    made = plan(**changes)
    whole = union([until(made, 3)])
    place, found = Place(), []
    for world, number in itertools.cycle(itertools.product((4, 1, 2, 4), (0, 3, 1, 0, 2, 5))):
        parts = on_ranks(made, world, min(number, len(whole) - len(found)), place)
        found += union(parts)
        place = parts[0][-1].place if parts[0] else place
        if len(found) == len(whole):
            break
    assert found == whole


def test_ranks_in_processes_of_their_own() -> None:
    """Nothing of a rank's rows hangs on what the process did before."""
    made = plan(batch=4, workers=1)
    context = multiprocessing.get_context("fork")
    queues = [context.SimpleQueue() for _ in range(2)]

    def rank(number: int) -> None:
        source = steps(made, Place(), number, 2)
        queues[number].put([[b.samples for b in step.batches] for step in itertools.islice(source, 12)])
        source.close()

    processes = [context.Process(target=rank, args=(number,)) for number in range(2)]
    for process in processes:
        process.start()
    told = [queue.get() for queue in queues]
    for process in processes:
        process.join()
    rows = [[row for of in step for batch in of for row in batch if row] for step in zip(*told, strict=True)]
    assert rows == union([take(plan(batch=4), 12)])


def test_fewer_rows_than_ranks() -> None:
    """A row of which nothing is asked stands in, so that no rank waits for ever."""
    made = plan((1, 1, 1), packed=False, batch=8)
    parts = on_ranks(made, 8, 4)
    assert [sorted(s for row in step for s in row) for step in union(parts)] == [[0, 1, 2]] * 4
    assert all(len(step.batches) == 1 and step.batches[0].main.shape[0] == 1 for of in parts for step in of)
    asked = [step.batches[0].asked.get("tokens", 0) for of in parts for step in of]
    assert sorted(bool(a) for a in asked) == [False] * 20 + [True] * 12


def test_a_row_that_stands_in_has_a_source_where_the_others_have() -> None:
    """The encoder of a rank without a row reads something too."""
    read = read_settings(Span, {})
    tokenizer = train_tokenizer(TokenizerSettings(kind="byte"), iter(()), specials=read.specials())
    made = plan(packed=False, batch=8, objective=read, corpus=Pieces((1, 1, 1), 9))
    made = replace(made, tokenizer=tokenizer)
    parts = on_ranks(made, 8, 2)
    assert all(batch.source is not None for of in parts for step in of for batch in step.batches)


@pytest.mark.parametrize(
    ("batch", "world", "says"), [(6, 4, "to 4 or 8"), (2, 4, "to 4, or"), (7, 2, "to 6 or 8")]
)
def test_rows_that_cannot_be_shared_evenly_are_refused(batch: int, world: int, says: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"train\.batch = {batch}: {world} processes .* Set train\.batch {says}"
    ):
        next(steps(plan(batch=batch), Place(), 0, world))


@pytest.mark.slow
def test_memory_stays_as_it_is_over_ten_thousand_batches() -> None:
    """Trap 55: of the process and its four workers together, from the first thousand steps on."""
    source = steps(plan((1, 4, 2, 9) * 25, workers=4), Place())
    pages = {}
    for number in range(10_000):
        next(source)
        if number in (2000, 9999):
            processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
            pages[number] = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in processes)
    source.close()
    assert pages[9999] < 1.03 * pages[2000], pages

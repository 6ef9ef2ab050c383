"""Measuring what a training step holds in memory: passes forward and backward, on rows as full as rows can
be, that change nothing of the run."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from telos.batch import Asked, Batch, Place, Rows
from telos.data.loader import LoaderPlan, steps

__all__ = ["Held", "held", "most_held", "template", "undisturbed", "widened"]

TEMPLATE = 8
"""Rows of text that the rows to measure by are made of."""


class Held(NamedTuple):
    """Bytes that a step holds whatever its rows are."""

    weights: int
    """Of all networks; they are there before the first step."""
    gradients: int
    state: int
    """Of the optimizer, after its first step."""
    there: int = 0
    """Of that state, what is there already: in a run that is gone on with."""

    @property
    def more(self) -> int:
        """What comes in the first step."""
        return self.gradients + self.state - self.there


def held(
    networks: Iterable[nn.Module],
    trained: Sequence[Mapping[str, Any]],
    optimizer: torch.optim.Optimizer,
    build: Callable[[Sequence[dict[str, Any]]], torch.optim.Optimizer],
) -> Held:
    """What networks, gradients and optimizer hold. `trained` are the groups that `build` makes an optimizer
    of; `optimizer` is the one that there is."""
    tensors = {id(t): t for network in networks for t in (*network.parameters(), *network.buffers())}
    parameters = [parameter for group in trained for _, parameter in group["params"]]
    return Held(
        weights=_bytes(tensors.values()),
        gradients=_bytes(parameters),
        state=_state(trained, build),
        there=_bytes(tree_leaves(list(optimizer.state.values()))),
    )


def _state(
    trained: Sequence[Mapping[str, Any]], build: Callable[[Sequence[dict[str, Any]]], torch.optim.Optimizer]
) -> int:
    """What the optimizer will hold: it takes a step on parameters that have a shape and no numbers. Where it
    cannot, two numbers a weight, as Adam's."""
    groups: list[dict[str, Any]] = []
    for group in trained:
        bare = [(name, nn.Parameter(torch.empty_like(p, device="meta"))) for name, p in group["params"]]
        for _, parameter in bare:
            parameter.grad = torch.empty_like(parameter)
        groups.append({**group, "params": bare})
    made = build(groups)
    try:
        made.step()
    except (RuntimeError, NotImplementedError):
        return 2 * _bytes(p for group in groups for _, p in group["params"])
    return _bytes(tree_leaves(list(made.state.values())))


def _bytes(things: Iterable[Any]) -> int:
    return sum(thing.numel() * thing.element_size() for thing in things if isinstance(thing, Tensor))


def most_held(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes that `work` holds at a time, in tensors that it makes."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        most: int = torch.cuda.max_memory_allocated(device)
        return most - before
    watch = _Watch()
    with watch:
        work()
    return watch.most


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of tensors that operations make, for as long as these live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {self._key(x) for x in _plain((args, kwargs))}
        answer = operation(*args, **(kwargs or {}))
        for made in _plain(answer):
            if self._key(made) not in given:
                self._count(made)
        return answer

    @staticmethod
    def _key(tensor: Tensor) -> int:
        key: int = tensor.untyped_storage()._cdata
        return key

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self.now += size
        self.most = max(self.most, self.now)
        self._alive[key] = weakref.ref(storage, lambda _: self._gone(key, size))

    def _gone(self, key: int, size: int) -> None:
        del self._alive[key]
        self.now -= size


def _plain(tree: object) -> list[Tensor]:
    """Its tensors but for those that oneDNN has laid out, which are small and do not say where they lie."""
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor) and x.layout == torch.strided]


@contextmanager
def undisturbed(networks: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Gradients are there from the start, as in all micro-batches but a step's first; afterwards they are
    gone, and buffers and generators are as they were."""
    networks = list(networks)
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    buffers = [buffer for network in networks for buffer in network.buffers()]
    before = [buffer.clone() for buffer in buffers]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for parameter in parameters:
            parameter.grad = None
        with torch.no_grad():
            for buffer, was in zip(buffers, before, strict=True):
                buffer.copy_(was)


# ---- rows to measure by


def template(plan: LoaderPlan) -> Batch:
    """A few rows of the run's own text, as its objective makes them, drawn apart from the run's batches.

    Raises:
        DataError: there is no text.
    """
    settings = plan.settings.model_copy(update={"workers": 0, "block": 1, "carry": False})
    few = replace(plan, batch=min(TEMPLATE, plan.batch), micro_batch=0, settings=settings)
    source = steps(few, Place())
    try:
        (batch,) = next(source).batches
    finally:
        source.close()
    return batch


def widened(batch: Batch, rows: int, plan: LoaderPlan) -> Batch:
    """So many rows, each of them filled to the plan's window: what stands in the batch and what is asked of
    it, over and over. Only its sizes mean something."""
    asks = tuple(_repeated(ask, batch.main.shape, rows, plan.window) for ask in batch.asks)
    asked: dict[str, float] = {}
    for ask in asks:
        asked[ask.term] = asked.get(ask.term, 0.0) + float(ask.weight.sum())
    return replace(
        batch,
        main=_filled(batch.main, rows, plan),
        source=None if batch.source is None else _filled(batch.source, rows, plan),
        asks=asks,
        asked=asked,
        continues=torch.zeros(rows, dtype=torch.bool) if plan.settings.carry else None,
        samples=tuple(batch.samples[row % len(batch.samples)] for row in range(rows)),
    )


def _filled(side: Rows, rows: int, plan: LoaderPlan) -> Rows:
    """A side of a batch, (rows, window)."""
    have, places = side.shape
    times = -(-rows // have), -(-plan.window // max(places, 1))

    def fill(tensor: Tensor) -> Tensor:
        return tensor.repeat(times)[:rows, : plan.window]

    return replace(
        side,
        ids=fill(side.ids),
        positions=fill(side.positions),
        segment=fill(side.segment.clamp(min=0)),
        order=fill(side.order),
        seen=fill(side.seen),
        types=None if side.types is None else fill(side.types),
        packed=side.packed or plan.packed,
    )


def _repeated(ask: Asked, shape: tuple[int, int], rows: int, window: int) -> Asked:
    """What is asked, at every copy of its place."""
    have, places = shape
    row, place = ask.at // places, ask.at % places
    down = torch.arange(0, rows, have)[:, None, None]
    right = torch.arange(0, window, places)[None, :, None]
    row, place = torch.broadcast_tensors(row + down, place + right)  # type: ignore[no-untyped-call]
    inside = ((row < rows) & (place < window)).flatten()
    at = (row * window + place).flatten()[inside]
    if ask.of is not None:
        times, questions = row.shape[0] * row.shape[1], len(ask.target)
        first = questions * torch.arange(times).view(*row.shape[:2], 1)
        of = torch.where(ask.of < questions, ask.of + first, questions * times).flatten()[inside]
        return replace(ask, at=at, of=of, target=ask.target.repeat(times), weight=ask.weight.repeat(times))
    copy = torch.arange(len(ask.at)).expand_as(row).flatten()[inside]
    return replace(ask, at=at, target=ask.target[copy], weight=ask.weight[copy])

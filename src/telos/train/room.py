"""Whether a step fits in memory: measured before the first one, on rows that are as full as rows can be.

    needs(n rows) = gradients + the optimizer's state + the most that the passes of n rows hold at a time

Weights are there already. The last part is measured, by passes forward and backward that change nothing of
the run. It grows with the rows at most in proportion: where n times one row fits, nothing more is measured.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch

from telos import switches
from telos.errors import TrainingError
from telos.memory import free_memory, said, whole_memory
from telos.optim._groups import parameter_groups
from telos.train.checkpoint import bare
from telos.train.trial import Held, held, template, widened

if TYPE_CHECKING:
    from telos.train.loop import Trainer

__all__ = ["Room", "check_size", "of", "ran_out", "settle"]

SHARE = 0.85
"""Of the free memory, what a step is expected to fill at most."""
GAPS = 256 * 2**20
"""On a CPU, what goes on libraries that are loaded late and on gaps in the heap: 150 to 350 MiB were seen."""
KILLED = "A process that takes more than there is may be ended by the system without a word."
LOOKS = 3
"""How often a number of rows that fits is measured, to see whether more do."""


@dataclass(slots=True, kw_only=True)
class Room:
    """What memory there is, and what a step needs of it."""

    free: int
    """Bytes that are free, the weights being there; 0 where the system does not say: then all is held to
    fit."""
    whole: int
    """Bytes that there would be if nothing else ran; 0 where the system does not say."""
    batch: int
    """Rows of a step."""
    held: Held
    measure: Callable[[int], int]
    """The most bytes that passes of so many rows hold at a time, gradients left out."""
    spare: int = 0
    """Bytes that are kept free in any case."""
    lean: Callable[[], int] | None = None
    """Measures the same of one row with recomputation; `None` where that is on, or there are no blocks."""
    found: dict[int, int] = field(default_factory=dict)
    """What was measured, by rows."""
    leaner: int = 0
    """What `lean` measured, or 0."""

    def hopeless(self) -> bool:
        """Whether the whole machine is too small, however few rows go through at once."""
        held = self.held
        return 0 < self.whole < held.weights + held.gradients + held.state

    def crowded(self) -> bool:
        """Whether there is too little for anything to be measured: not even a gradient has room now."""
        return 0 < self.free < self.held.more

    def choose(self) -> int:
        """The most rows that fit, as an even share of the step's; 1 where none does, 0 for all of them."""
        if not self.free or self._bound(self.batch) <= self._there:
            return 0
        for _ in range(LOOKS):  # few rows promise too little: some of what they hold does not grow with them
            rows = self._most()
            if rows in self.found:
                break
            self._measured(rows)
        rows = max((rows for rows in self.found if self.fits(rows)), default=1)
        return 0 if rows == self.batch else rows

    def fits(self, rows: int) -> bool:
        """Whether so many rows at once leave some memory free."""
        return not self.free or self.needs(rows) <= self._there

    def needs(self, rows: int) -> int:
        """Bytes that so many rows at once need beside the weights: measured, or more than it will be."""
        bound = self._bound(rows)
        if rows == 1 or bound <= self._there:
            return bound
        return self.held.more + self._estimated(rows)

    @property
    def _there(self) -> float:
        """Bytes that a step is expected to fill at most."""
        return SHARE * self.free - self.spare

    def _bound(self, rows: int) -> int:
        """No less than so many rows need."""
        return self.held.more + rows * self._measured(1)

    def _estimated(self, rows: int) -> int:
        """What the next larger number took that was measured; or by the line through the two largest."""
        self._measured(2)
        if larger := [self.found[more] for more in self.found if more >= rows]:
            return min(larger)
        fewer, most = sorted(self.found)[-2:]
        slope = max(0.0, (self.found[most] - self.found[fewer]) / (most - fewer))
        return round(self.found[most] + slope * (rows - most))

    def _measured(self, rows: int) -> int:
        if rows not in self.found:
            try:
                self.found[rows] = self.measure(rows)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self.found[rows] = self.free + 1
        return self.found[rows]

    def _most(self) -> int:
        """The largest even share of the step's rows that fits; 1 if none does."""
        shares = sorted({-(-self.batch // parts) for parts in range(1, self.batch + 1)}, reverse=True)
        return next((rows for rows in shares if self.fits(rows)), 1)

    # ---- for people

    def sizes(self, rows: int) -> str:
        """What takes how much, as a sentence; nothing is measured for it."""
        weights, gradients, state, _ = map(said, self.held)
        parts = [f"weights {weights}", f"gradients {gradients}", f"the optimizer's state {state}"]
        if 1 in self.found:
            parts.append(f"one row while it is computed {said(self.found[1])}")
        if rows > 1 and self.free and {1, 2} <= self.found.keys():
            parts.append(f"{rows} rows at once {said(self.needs(rows) - self.held.more)}")
        there = f"; {said(self.free)} were free beside the weights" if self.free else ""
        return f"Of memory take: {', '.join(parts)}{there}."

    def advice(self, rows: int) -> str:
        """What helps where `rows` at once are too many, as a sentence; nothing is measured for it."""
        ways = []
        if rows > 1:
            known = bool(self.free) and {1, 2} <= self.found.keys()
            less = min(self._most(), rows // 2) if known else rows // 2
            sure = ", which fits" if known and self.fits(less) else ""
            ways.append(f"train.compute.micro_batch = {less}{sure} (the same result up to rounding)")
        if self.lean is not None:
            row = f"; a row then takes {said(self.leaner)}" if self.leaner else ""
            ways.append(f"train.compute.recompute = true (the same result to the bit, but slower{row})")
        ways.append("a smaller train.window or a smaller model")
        return f"What helps: {', or '.join(ways)}."


def check_size(weights: int, device: torch.device) -> None:
    """Refuse a model of so many weights before it is built, if they and their gradients alone, in float32,
    are more than the whole memory of the device.

    Raises:
        TrainingError: they are.
    """
    needed, whole = 8 * weights, whole_memory(device)
    if 0 < whole < needed:
        raise TrainingError(
            f"This model cannot be trained here: its {weights:,} weights and their gradients alone take "
            f"{said(needed)}, and there are {said(whole)} of memory in all. What helps: a smaller model, or "
            "a larger machine."
        )


def settle(room: Room, rows: int | None, say: Callable[[str], None]) -> int:
    """The rows that go through at once, 0 for all of a step's: `rows`, or, where that is `None`, as many as
    fit. People are told if there are fewer than all, or if they will hardly fit.

    Raises:
        TrainingError: the whole machine is too small.
    """
    if room.hopeless():
        raise TrainingError(
            f"This model cannot be trained here: there are {said(room.whole)} of memory in all. "
            f"{room.sizes(1)} What helps: a smaller model, or a larger machine."
        )
    if room.crowded():
        say(f"Warning: memory will hardly suffice. {room.sizes(1)} {room.advice(1)} {KILLED}")
        return 1 if rows is None else rows
    if rows is None:
        rows = room.choose()
        if rows:
            say(f"{rows} of {room.batch} rows go through the model at once, so that a step fits in memory.")
    if not room.fits(rows or room.batch):
        room.leaner = room.lean() if room.lean is not None else 0
        at_once = rows or room.batch
        say(f"Warning: memory will hardly suffice. {room.sizes(at_once)} {room.advice(at_once)} {KILLED}")
    return rows


def out_of_memory(error: RuntimeError) -> bool:
    """Whether it says that there is not enough memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def ran_out(error: RuntimeError, room: Room | None, rows: int) -> TrainingError | None:
    """What to raise in place of `error` if it says that there is not enough memory, where so many `rows` went
    through at once (0: all)."""
    if not out_of_memory(error):
        return None
    what = f"Memory ran out ({str(error).splitlines()[0]})."
    at_once = rows or (room.batch if room else 0)
    return TrainingError(f"{what} {room.sizes(at_once)} {room.advice(at_once)}" if room else what)


def of(trainer: "Trainer", trained: Mapping[str, Any]) -> Room:
    """What there is for a trainer of these networks, and the ways to measure what its steps need."""
    settings = trainer.settings
    groups = parameter_groups(trained, trainer.settled.decay)
    made = cache(partial(template, trainer.plan))

    def measure(rows: int) -> int:
        with switches.without("parts"):  # other rows may hold longer documents, up to one that fills each
            return trainer.trial(widened(made(), rows, trainer.plan))

    def lean() -> int:
        with _recomputing(trained.values()):
            return measure(1)

    has_blocks = any(network.model.recomputes for network in map(_bare, trained.values()))
    holds = held(trainer.models.values(), groups, trainer.optimizer, settings.optimizer.build)
    return Room(
        free=free_memory(trainer.device),  # last, when libraries that are loaded late are there
        whole=whole_memory(trainer.device),
        batch=trainer.plan.batch,
        held=holds,
        spare=GAPS if trainer.device.type == "cpu" else 0,
        measure=measure,
        lean=lean if has_blocks and not settings.compute.recompute else None,
    )


def _bare(network: Any) -> Any:
    return bare(network)


@contextmanager
def _recomputing(networks: Iterable[Any]) -> Iterator[None]:
    bared = [_bare(network) for network in networks]
    for network in bared:
        network.recompute = True
    try:
        yield
    finally:
        for network in bared:
            network.recompute = False

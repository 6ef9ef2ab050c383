"""A worker that trains for a stretch of time along a schedule, and is scored on held-out text on the way.

    driver → worker                  worker → driver, a line of JSON each
    (the process starts)             {"ready": …}    just before its first step
                                     {"point": …}    where it stands, at even distances of its time
                                     {"end": …}      what all its scores are, when the time is over

The clock starts before the first step, so that what is compiled in it counts; it stands while held-out text
is scored. Start-up and the preparation of the text are before it. The rate follows

    factor(s) = min(1, s / warmup) · (1 + cos π·s) / 2      s = (used − first step) / (all − first step)

for contestants that have no schedule by time of their own: so that whoever compiles long still warms up.
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from .process import peak_bytes, processor_seconds
from .worker_side import Held, Session

__all__ = ["Course", "factor"]

T = TypeVar("T")
LEAST = 0.01
"""What a warm-up starts at, so that no step is without effect."""


def factor(share: float, warmup: float) -> float:
    """Of the peak rate, when so much of the time is over."""
    share = min(max(share, 0.0), 1.0)
    return min(1.0, max(share / warmup, LEAST)) * (1 + math.cos(math.pi * share)) / 2


@dataclass
class _Clock:
    """What was used since it was started, less what passed while it stood."""

    wall: float
    processor: float

    @classmethod
    def started(cls) -> "_Clock":
        return cls(time.perf_counter(), processor_seconds())

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.wall

    @property
    def processor_used(self) -> float:
        return processor_seconds() - self.processor

    def standing(self, act: Callable[[], T]) -> T:
        before = _Clock.started()
        found = act()
        self.wall += before.seconds
        self.processor += before.processor_used
        return found


class Course(Session):
    """What a contestant reports to that is to train for `spec.course["minutes"]`."""

    _begun = False
    _clock: _Clock | None = None
    _units = 0.0
    _first: float | None = None
    _points = 0

    def begin(self) -> None:
        """Start the clock, once; where compiling is not to count, the first step does."""
        if not self._begun:
            self._begun = True
            self._say_ready()
            self._steer()
            if self.spec.course["compiling"]:
                self._clock = _Clock.started()

    def factor(self) -> float:
        """Of the peak rate, for the step that comes."""
        if self._clock is None or self._first is None:
            return LEAST
        return factor((self._clock.seconds - self._first) / (self._budget - self._first), self._warmup)

    def tick(self, units: float, loss: Callable[[], float | None] = lambda: None) -> None:
        """A step was done: so many tokens."""
        self._steps += 1
        self._clock = self._clock or _Clock.started()
        self._units += units
        used = self._clock.seconds
        if self._first is None:
            self._first = used
        over = used >= self._budget
        if over or used >= self._budget * (self._points + 1) / self.spec.course["points"]:
            self._points = int(used * self.spec.course["points"] / self._budget)
            self._point(self._clock, loss())
        if over:
            self._end()
        self._steer()

    def close(self, loss: float | None) -> None:
        """The contestant's own clock says that its time is over, a step before this one does."""
        assert self._clock is not None, "nothing was trained"
        self._point(self._clock, loss)
        self._end()

    def evaluate(self, split: str = "validation") -> Held:
        """Score a split while the clock stands."""
        act = self._scorers[split]
        return act() if self._clock is None else self._clock.standing(act)

    @property
    def _budget(self) -> float:
        """Seconds."""
        return float(self.spec.course["minutes"]) * 60

    @property
    def _warmup(self) -> float:
        return float(self.spec.course["warmup"])

    def _steer(self) -> None:
        now = self.factor()
        for group, peak in self._steered:
            group["lr"] = peak * now

    def _point(self, clock: _Clock, loss: float | None) -> None:
        figures = {"seconds": clock.seconds, "processor": clock.processor_used, "first_step": self._first}
        figures |= {"tokens": self._units, "steps": self._steps, "training_loss": loss}
        held = self.evaluate()
        if not math.isfinite(held.nats):
            raise SystemExit(f"the held-out loss is not finite after {self._steps} steps")
        self._say({"point": figures | _table(held)})

    def _end(self) -> None:
        others = {name: _table(self.evaluate(name)) for name in self._scorers if name != "validation"}
        self._say({"end": {"peak_bytes": peak_bytes(), "scores": others}})
        self._answers.flush()
        os._exit(0)  # libraries that would go on, and what they would still write, are not needed


def _table(held: Held) -> Mapping[str, Any]:
    """Nats per token beside the sums, and bits per byte where the bytes are known."""
    bits = held.nats / math.log(2) / held.bytes if held.bytes else None
    return {"loss": held.nats / held.asked, "bits_per_byte": bits, **asdict(held)}

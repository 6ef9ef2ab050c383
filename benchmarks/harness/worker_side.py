"""The worker's end of the line protocol. One contestant is one process; it works only when it is told to.

    driver → worker                  worker → driver, a line of JSON each
    (the process starts)             {"ready": …}    the contestant, after its first steps
    go SECONDS                       {"units": …}    what was done in about so many seconds, in whole steps
    stop, or the end of the input    (the process ends)

A contestant works in a loop of its own, or of its library, and calls `Session.tick` after each step; between
two windows that call waits for the next command.
"""

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from .process import children, peak_bytes, processor_seconds, resident_bytes

__all__ = ["Held", "Session", "Spec", "channel"]

PACKAGES = ("torch", "transformers", "accelerate", "litgpt", "x-transformers", "keras", "keras-hub", "numpy")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a worker is told when it is started."""

    family: str
    """A file in contestants/."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the contestant: precision, whether it is compiled, and so on."""
    shape: Mapping[str, int] = field(default_factory=dict)
    """Of the model and its rows, the same for all contestants of a work."""
    corpus: Mapping[str, Any] = field(default_factory=dict)
    """Where the tokens are, as `harness.corpus.Tokens` has it."""
    batch: int = 0
    """Rows of a step."""
    warm: int = 4
    """Steps before the contestant is ready."""
    threads: int = 0
    """Of the processor; 0: what the library takes."""
    seed: int = 0
    course: Mapping[str, float] = field(default_factory=dict)
    """How long it trains, and how, where it is not told window by window: `minutes`, `points` at which it is
    scored, `warmup` as a share, `rate` at the peak (0: its own), `compiling` (1: counts). See course.py."""
    spawned: float = 0.0
    """When the process was started, seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A score of held-out text."""

    nats: float
    """−Σ log q over what was asked."""
    asked: int
    """Tokens."""
    bytes: int
    """Of the text that these tokens are; 0 where that is not known."""


@dataclass
class _Window:
    seconds: float
    units: float = 0
    steps: int = 0
    wall: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=processor_seconds)


class Session:
    """What a contestant reports to."""

    def __init__(self, spec: Spec, commands: TextIO, answers: TextIO) -> None:
        self.spec = spec
        self.noted: dict[str, Any] = {}
        """More to say when ready: parameters, resolved settings, memory."""
        self._commands, self._answers = commands, answers
        self._steps = 0
        self._window: _Window | None = None
        self._scorers: dict[str, Callable[[], Held]] = {}
        self._steered: list[tuple[dict[str, Any], float]] = []

    def rate(self, standard: float) -> float:
        """The peak of the learning rate: the driver's, else the contestant's own."""
        return float(self.spec.course.get("rate") or standard)

    def factor(self) -> float:
        """Of the peak rate, for contestants that set it themselves."""
        return 1.0

    def steer(self, optimizer: Any) -> None:
        """Let the rate of an optimizer, which stands at its peak, follow the schedule, if there is one."""
        self._steered += [(group, group["lr"]) for group in optimizer.param_groups]

    def scores(self, **scorers: Callable[[], Held]) -> None:
        """How held-out text is scored: `validation`, and what else is to be at the end."""
        self._scorers |= scorers

    def begin(self) -> None:
        """The first step is about to begin."""

    def tick(self, units: float, loss: Callable[[], float | None] = lambda: None) -> None:
        """A step was done: so many tokens. `loss` is asked for at the end of a window only."""
        self._steps += 1
        if self._window is None:
            self._warm()
            return
        self._window.units += units
        self._window.steps += 1
        if time.perf_counter() - self._window.wall >= self._window.seconds:
            self._say(self._found(self._window, loss()))
            self._wait()

    def _warm(self) -> None:
        since = time.time() - self.spec.spawned
        if self._steps == 1:
            self.noted["first_step_seconds"] = since
        if self._steps >= self.spec.warm:
            self._say_ready()
            self._wait()

    def _say_ready(self) -> None:
        warm = time.time() - self.spec.spawned
        self._say({"ready": {"warm_seconds": warm, "versions": _versions()} | self.noted})

    def _found(self, window: _Window, loss: float | None) -> dict[str, Any]:
        return {
            "units": window.units,
            "steps": window.steps,
            "wall": time.perf_counter() - window.wall,
            "processor": processor_seconds() - window.processor,
            "peak_bytes": peak_bytes(),
            "children_bytes": sum(resident_bytes(pid) for pid in children()),
            "loss": loss,
        }

    def _wait(self) -> None:
        word, _, rest = self._commands.readline().partition(" ")
        if word != "go":  # stop, or nobody is there any more
            self._answers.flush()
            os._exit(0)
        self._window = _Window(float(rest))

    def _say(self, answer: Mapping[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


def channel() -> tuple[TextIO, TextIO]:
    """Where commands come from and answers go to. What else is printed goes to standard error from now on."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    commands = os.fdopen(os.dup(sys.stdin.fileno()), "r", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return commands, answers


def _versions() -> dict[str, str]:
    """Of what is imported, by the names of the packages."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        if name.replace("-", "_") in sys.modules:
            found[name] = importlib.metadata.version(name)
    return found

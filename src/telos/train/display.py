"""The line that shows how training goes: live in a terminal, plain lines anywhere else."""

import sys
import time
from abc import ABC, abstractmethod
from typing import Any, TextIO, final

__all__ = ["Display", "Quiet", "display"]

_EVERY = 10.0  # seconds between plain lines


class Display(ABC):
    """Shows step, loss, speed and the time that is left."""

    @abstractmethod
    def show(self, *, step: int, share: float, loss: float | None, speed: float, left: float | None) -> None:
        """`share` of the budget is used, `speed` in tokens per second, `left` in seconds."""

    @abstractmethod
    def say(self, text: str) -> None:
        """A line of its own."""

    @abstractmethod
    def close(self) -> None:
        """Training has ended."""


def display(stream: TextIO | None = None) -> Display:
    """A live bar if `stream` (standard error by default) is a terminal, plain lines otherwise."""
    stream = sys.stderr if stream is None else stream
    return _Live(stream) if stream.isatty() else _Plain(stream)


@final
class Quiet(Display):
    """Shows nothing."""

    def show(self, *, step: int, share: float, loss: float | None, speed: float, left: float | None) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


@final
class _Plain(Display):
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = -_EVERY

    def show(self, *, step: int, share: float, loss: float | None, speed: float, left: float | None) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY or share >= 1:
            self._last = now
            self.say(f"step {step} ({min(share, 1.0):.1%})  {_figures(loss, speed, left)}")

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        pass


@final
class _Live(Display):
    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress: Any = Progress(
            TextColumn("step {task.fields[step]}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%  {task.fields[figures]}"),
            console=Console(file=stream),
            refresh_per_second=4,
        )
        self._progress.start()
        self._task = self._progress.add_task("", total=1.0, step=0, figures="")

    def show(self, *, step: int, share: float, loss: float | None, speed: float, left: float | None) -> None:
        figures = _figures(loss, speed, left)
        self._progress.update(self._task, completed=min(share, 1.0), step=step, figures=figures)

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def _figures(loss: float | None, speed: float, left: float | None) -> str:
    shown = [f"loss {loss:.3f}" if loss is not None else "loss –", f"{speed:,.0f} tokens/s"]
    return "  ".join([*shown, f"{_duration(left)} left"] if left is not None else shown)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

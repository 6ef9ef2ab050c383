"""Asked to stop: finish the step, save, go. Asked twice: go at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Signals"]

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal came while nothing was under way that has to be finished."""


class Signals:
    """While entered, the first SIGINT or SIGTERM is noted,
    and the second ends the process as it would by default.
    """

    received: int = 0
    """The number of the signal that came; 0 for none."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._at_once = False

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # nowhere else can handlers be set
            self._before = {number: signal.signal(number, self._note) for number in _STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for each in _STOPPING:
            signal.signal(each, signal.SIG_DFL)
        if self._at_once:
            raise Interrupted

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """In here, a signal does not wait: it raises `Interrupted`. For evaluation and waiting for data."""
        self._at_once = True
        try:
            if self.received:
                raise Interrupted
            yield
        finally:
            self._at_once = False

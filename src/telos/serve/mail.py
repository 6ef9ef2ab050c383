"""The way back from a model's thread to the client that waits for it.

A model's thread never waits for a client. What a client does not read is kept for it, up to a limit; over it
the client is given up, and its rows leave the batch. A client that hangs up is given up in the same way.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Mail", "Piece"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of one of the samples that were asked for."""

    index: int
    text: str


class Mail:
    """One request's post: written by a model's thread, read in the event loop."""

    def __init__(self, limit: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._pieces: deque[Piece] = deque()
        self._lock = threading.Lock()
        self._news = asyncio.Event()
        self._answer: asyncio.Future[Any] = self._loop.create_future()
        self._answer.add_done_callback(self._answered)
        self.gone = False
        """Nobody waits for more of it."""
        self.given_up = asyncio.Event()
        """Its client did not read."""

    # ---- written by a model's thread

    def piece(self, index: int, text: str) -> None:
        """Some more text; over the limit, the client is given up."""
        with self._lock:
            if len(self._pieces) < self._limit:
                self._pieces.append(Piece(index, text))
                self._tell(self._news.set)
                return
        self.gone = True
        self._tell(self.given_up.set)

    def answer(self, value: Any) -> None:
        """All of it: the last that is sent."""
        self._tell(lambda: None if self._answer.done() else self._answer.set_result(value))

    def fail(self, error: BaseException) -> None:
        """There will be no answer, and this is why."""
        self._tell(lambda: None if self._answer.done() else self._answer.set_exception(error))

    def _tell(self, news: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(news)

    def _answered(self, answer: "asyncio.Future[Any]") -> None:
        self._news.set()
        if not answer.cancelled():
            answer.exception()  # known from here on, whether or not somebody still waits for it

    # ---- read in the event loop

    def hang_up(self) -> None:
        """Nobody waits any more."""
        self.gone = True
        self._answer.cancel()

    async def wait(self) -> Any:
        """The answer."""
        return await self._answer

    async def pieces(self) -> AsyncIterator[Piece]:
        """Text as it comes, until there is no more; then `wait` has the answer. What came of the same sample
        in the meantime is one piece."""
        while True:
            await self._news.wait()
            self._news.clear()
            with self._lock:
                waiting = list(self._pieces)
                self._pieces.clear()
            for piece in _merged(waiting):
                yield piece
            if self._answer.done() and not self._pieces:
                return


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of the same sample as one."""
    merged: list[Piece] = []
    for piece in pieces:
        if merged and merged[-1].index == piece.index:
            merged[-1] = Piece(piece.index, merged[-1].text + piece.text)
        else:
            merged.append(piece)
    return merged

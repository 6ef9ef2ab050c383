"""How an answer gets out while its client is there: whole, or piece by piece as server-sent events.

A client that hangs up is noticed at once, whether it waits for a whole answer or reads pieces: nobody waits
for the answer any more then, and the model's thread drops what belongs to it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from telos.serve.mail import Mail
from telos.serve.refusals import Refused

__all__ = ["EventStream", "event", "whole_answer"]

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


async def whole_answer(request: Request, mail: Mail) -> Any:
    """What a model's thread answers.

    Raises:
        Refused: the client hung up before.
    """
    await _first(mail, _disconnected(request.receive), answer := asyncio.ensure_future(mail.wait()))
    if not answer.done() or answer.cancelled():
        raise Refused(499, "The client hung up.")
    return answer.result()


class EventStream(Response):
    """Events, each sent as soon as it is there."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], mail: Mail) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["x-accel-buffering"] = "no"  # proxies shall hand each event on
        self.events, self.mail = events, mail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the last event was sent, the client hung up, or it was given up because it does not read."""
        saying = asyncio.ensure_future(self._say(send))
        await _first(self.mail, _disconnected(receive), self.mail.given_up.wait(), saying)
        if saying.done() and not saying.cancelled():
            saying.result()

    async def _say(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for each in self.events:
            await send({"type": "http.response.body", "body": each, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _first(mail: Mail, *waiting: Any) -> None:
    """Wait for the first; then for nothing any more."""
    tasks = [asyncio.ensure_future(each) for each in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        mail.hang_up()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

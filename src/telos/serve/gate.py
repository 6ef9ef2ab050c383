"""What every request passes before anything looks at what it asks, and what every answer carries.

    host and origin     where no key is needed, only browsers that were told this very address come in: a page
                        of somebody else's, or a name that was made to point here, does not (DNS rebinding)
    key                 `Authorization: Bearer KEY`, compared in constant time
    draining            once the server is to stop, nothing new is begun
    how many            more than are allowed at a time are told to come again
    body                read whole, up to its limit, in the time that a client has to say it
    seconds             what takes longer is given up

Files of the page and `/health` are open to all who may come in; what models do, and what is counted, needs
the key.
"""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telos.serve.refusals import Refused, failed, refusal
from telos.serve.settings import ServeSettings

__all__ = ["LOOPBACK", "Counts", "Gate"]

log = logging.getLogger("telos.serve")

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    b"content-security-policy": b"default-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'; object-src 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Counts(Protocol):
    """Whoever counts requests."""

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request is at its end; 499 if its client hung up before it was answered."""


class Gate:
    """An ASGI middleware: the outermost.

    Args:
        key: what clients must show; empty for a server that only this machine can reach.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, key: str, counts: Counts) -> None:
        self.app, self.settings, self.limits, self.counts = app, settings, settings.limits, counts
        self.draining = False
        self.under_way = 0
        """Requests to models that are not answered yet."""
        self._key = _digest(key) if key else b""
        self._names = {*LOOPBACK, settings.host, *settings.names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, answer = time.perf_counter(), _Answer(send)
        try:
            async with asyncio.timeout(self.limits.seconds):
                await self._admit(scope, receive, answer)
        except Refused as refused:
            await self._say(refused, scope, receive, answer)
        except TimeoutError:
            message = f"More than {self.limits.seconds:g} seconds: ask for less."
            await self._say(Refused(504, message, code="timeout"), scope, receive, answer)
        except _HungUp:
            answer.status = answer.status or 499
        except asyncio.CancelledError:
            log.warning("a request was cut off: the server ends")
        except Exception:
            log.exception("a request failed")
            await self._say(failed(), scope, receive, answer)
        finally:
            self.counts.answered(scope["path"], answer.status, time.perf_counter() - begun)

    async def _say(self, refused: Refused, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        """An answer that was begun cannot become another: its connection is closed, unfinished."""
        if not answer.status:
            await refusal(refused)(scope, receive, answer)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        guarded = scope["path"].startswith("/v1/") or scope["path"] == "/metrics"
        if self._key:
            if guarded:
                self._check_key(headers.get("authorization", ""))
        else:
            self._check_host(headers)
        if not scope["path"].startswith("/v1/"):
            await self.app(scope, receive, send)
            return
        if self.draining:
            raise Refused(503, "The server is about to stop.", code="draining", headers={"retry-after": "5"})
        if self.under_way >= self.limits.requests:
            message = f"{self.under_way} requests are under way, and no more are taken at a time."
            raise Refused(429, message, code="rate_limit_exceeded", headers={"retry-after": "1"})
        self.under_way += 1
        try:
            body = await self._body(headers, receive)
            await self.app(scope, _replayed(body, receive), send)
        finally:
            self.under_way -= 1

    def _check_key(self, shown: str) -> None:
        kind, _, key = shown.partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(_digest(key.strip()), self._key):
            message = "Incorrect API key provided, or none. Send it as: Authorization: Bearer KEY."
            raise Refused(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})

    def _check_host(self, headers: dict[str, str]) -> None:
        name, origin = headers.get("host", ""), headers.get("origin")
        host = name if name.endswith("]") else name.rpartition(":")[0] or name
        if host.lower() not in self._names:
            raise Refused(403, "Not served under this name. Set names to allow it.", code="wrong_host")
        if origin is not None and origin.partition("://")[2] != name:
            raise Refused(403, "Pages of other sites may not ask here.", code="wrong_origin")

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        large = Refused(413, f"The request has more than {self.limits.body} bytes.", code="too_large")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self.limits.body:
            raise large
        parts, size, more = [], 0, True
        try:
            async with asyncio.timeout(self.settings.patience):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _HungUp
                    parts.append(message.get("body", b""))
                    size, more = size + len(parts[-1]), message.get("more_body", False)
                    if size > self.limits.body:
                        raise large
        except TimeoutError:
            raise Refused(408, "The request did not come in time.", code="timeout") from None
        return b"".join(parts)


class _HungUp(Exception):
    """The client is not there any more."""


class _Answer:
    """`send`, with our headers on every answer, and the status that was sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            there = {name.lower() for name, _ in message.get("headers", ())}
            ours = [(name, value) for name, value in HEADERS.items() if name not in there]
            message = {**message, "headers": [*message.get("headers", ()), *ours]}
        await self._send(message)


def _replayed(body: bytes, receive: Receive) -> Callable[[], Awaitable[Any]]:
    """`receive` that first tells of the body, which was read already."""
    told = False

    async def tell() -> Any:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return tell


def _digest(key: str) -> bytes:
    """Of equal length for all keys, so that comparing says nothing of theirs."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()

"""A server from its first connection to its last: what it listens at, whom it has no patience with, and how
it ends."""

import asyncio
import ipaddress
import json
import logging
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from telos.errors import ConfigError, explained
from telos.serve.app import gated
from telos.serve.gate import Gate
from telos.serve.metrics import Meters
from telos.serve.models import Served
from telos.serve.refusals import Refused
from telos.serve.runs import Runs
from telos.serve.settings import ServeSettings

__all__ = ["Server", "serve"]

log = logging.getLogger("telos.serve")


def serve(
    folders: Sequence[Path],
    settings: ServeSettings,
    *,
    key: str = "",
    device: str = "auto",
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve runs until SIGTERM or Ctrl-C, and then let what is under way come to its end.

    Args:
        key: what clients must show.
        ready: told the address, once it is listened at.

    Raises:
        ConfigError: others than this machine could reach it and there is no key; the address cannot be
            listened at; two runs have the same name.
        CheckpointError: a folder is no trained run.
    """
    Server(folders, settings, key=key, device=device, ready=ready).run()


class Server(uvicorn.Server):
    """One server of some runs; see `serve`."""

    def __init__(
        self,
        folders: Sequence[Path],
        settings: ServeSettings,
        *,
        key: str = "",
        device: str = "auto",
        ready: Callable[[str], None] = lambda address: None,
    ) -> None:
        check_reach(settings, key)
        meters, self.ready, self.settings = Meters(), ready, settings
        names = [folder.resolve().name for folder in folders]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"Two runs are called {sorted(twice)[0]!r}: rename the folder of one of them.")
        self.models = {
            name: Served(folder, device, settings, meters.of(name))
            for name, folder in zip(names, folders, strict=True)
        }
        runs = Runs([folder.resolve().parent for folder in folders])
        self.socket = listening(settings)
        self.gate: Gate = gated(self.models, runs, settings, key, meters)
        super().__init__(
            uvicorn.Config(
                self.gate,
                http=partial(Impatient, patience=settings.patience),  # type: ignore[arg-type]
                ws="none",
                lifespan="on",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=max(1, min(5, int(settings.patience))),
                timeout_graceful_shutdown=2,
            )
        )
        self._until = 0.0

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Until it is told to stop."""
        super().run(sockets or [self.socket])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Also says that it is ready."""
        await super().startup(sockets)
        if self.started:
            self.ready(self.address)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first time, nothing new is begun, and what is under way has some time; the second time, it
        has none."""
        if self.gate.draining:
            self.should_exit = self.force_exit = True
        self.gate.draining = True
        self._until = time.monotonic() + self.settings.drain

    async def on_tick(self, counter: int) -> bool:
        """A few times a second: is it time to go?"""
        if self.gate.draining and (not self.gate.under_way or time.monotonic() > self._until):
            self.should_exit = True
        return await super().on_tick(counter)


class Impatient(H11Protocol):
    """A connection that is closed if its client takes too long: to say what it asks, or to read the answer.

    HTTP's parser keeps a half-said request for ever, and a transport what nobody reads.
    """

    def __init__(self, *given: Any, patience: float, **named: Any) -> None:
        super().__init__(*given, **named)
        self._patience = patience
        self._alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wake_in(self._if_idle)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._busy():
            self._sleep()
        elif self._alarm is None:
            self._wake_in(self._if_idle)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wake_in(self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._sleep()

    def connection_lost(self, exc: Exception | None) -> None:
        self._sleep()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is refused in the form of all refusals."""
        body = json.dumps(Refused(400, msg).body).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        for event in (
            h11.Response(status_code=400, headers=[*headers, ("connection", "close")], reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _if_idle(self) -> None:
        self._alarm = None
        if not self._busy():
            self.transport.close()

    def _wake_in(self, act: Callable[[], None]) -> None:
        self._sleep()
        self._alarm = self.loop.call_later(self._patience, act)

    def _sleep(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def check_reach(settings: ServeSettings, key: str) -> None:
    """Whether it may listen where it is told to.

    Raises:
        ConfigError: others than this machine could reach it, and no key is needed.
    """
    if not key and not is_loopback(settings.host):
        raise ConfigError(
            f"host = {settings.host!r}: others can reach this address, and anybody who can would be served. "
            "Give a key that clients must show: --key-file FILE, or the variable TELOS_API_KEY. Or leave the "
            "host out: then only this machine can reach it."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name that is not `localhost` may lead anywhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(settings: ServeSettings) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: it cannot be.
    """
    host, port = settings.host, settings.port
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except socket.gaierror as error:
        raise ConfigError(f"host = {host!r}: there is no such address: {error.strerror}.") from None
    except OSError as error:
        way = (
            "Choose another port: --port 8001, or --port 0 for any."
            if error.errno == 98
            else explained(error)
        )
        raise ConfigError(f"{host}:{port} cannot be listened at: {error.strerror}. {way}") from None

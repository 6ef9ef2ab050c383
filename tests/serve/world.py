"""A real server on loopback in a thread of this process, and small runs that it serves."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from telos.config import override, read
from telos.recipe import Recipe
from telos.run import Run, fit
from telos.serve.server import Server
from telos.serve.settings import ServeSettings
from tests.small import NARROW, SHRUNK, write_talks, write_texts

__all__ = ["KINDS", "TALKS", "Client", "counted", "raw", "serving", "train", "until"]

KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "decoder": ("causal", ("train.window=48",)),
    "encoder": ("masked", ("train.window=48",)),
    "gru": ("causal", ("train.window=48",)),
}
"""Models by name: their objective and what else is set."""
TALKS = "talker"
"""The name of the run that was trained on conversations."""
Client = httpx.Client
PATIENCE = 60.0
"""Seconds after which what is waited for will never come."""


def train(root: Path) -> dict[str, Run]:
    """A run of each kind in one folder."""
    texts = write_texts(root / "texts")
    runs = {}
    for kind, (objective, more) in KINDS.items():
        given: dict[str, Any] = {"name": kind, "objective": objective, "data": {"path": str(texts)}}
        changes = (f"model.name={kind}", *NARROW[kind], "tokenizer.size=300", *SHRUNK)
        recipe = read(Recipe, override(given, [*changes, "train.budget={steps=12}", *more]))
        runs[kind] = fit(recipe, root / "runs")
    talks = write_talks(root / "talks.jsonl")
    given = {"name": TALKS, "objective": "instruct", "data": {"path": str(talks), "text_key": "messages"}}
    changes = (
        *NARROW["decoder"],
        "tokenizer.size=300",
        *SHRUNK,
        "train.budget={steps=12}",
        "train.window=96",
    )
    runs[TALKS] = fit(read(Recipe, override(given, changes)), root / "runs")
    return runs


@contextmanager
def serving(*folders: Path, key: str = "", **settings: Any) -> Iterator[Server]:
    """A server of these runs, listening at a port of its own choice, in a thread."""
    ready = threading.Event()
    server = Server(
        folders,
        read(ServeSettings, {"port": 0, **settings}),
        key=key,
        device="cpu",
        ready=lambda address: ready.set(),
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield server
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        server.socket.close()
        assert not thread.is_alive()


def until(true: Any) -> None:
    """Wait until something is so."""
    tried = threading.Event()
    for _ in range(int(PATIENCE * 100)):
        if true():
            return
        tried.wait(0.01)
    raise AssertionError("it never came to be so")


def raw(address: str, request: bytes, *, until_closed: bool = False) -> bytes:
    """What a server says to bytes that no client would send: its first answer, or all until it hangs up."""
    host, port = address.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as link:
        link.sendall(request)
        said = b""
        while more := link.recv(1 << 14):
            said += more
            if not until_closed and b"\r\n\r\n" in said and _whole(said):
                break
        return said


def _whole(said: bytes) -> bool:
    head, _, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return length is not None and len(body) >= int(length[1])


def counted(client: httpx.Client, name: str, **labels: str) -> float:
    """A figure of `/metrics`; 0 where nothing was counted."""
    wanted = "".join(f'(?=[^}}]*{key}="{re.escape(value)}")' for key, value in labels.items())
    found = re.search(rf"^{name}(?:\{{{wanted}[^}}]*\}})? (\S+)$", client.get("/metrics").text, re.M)
    return float(found[1]) if found else 0.0


def refused(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error that an answer tells of, which has the form of OpenAI's, and no more."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = json.loads(response.text)
    assert body.keys() == {"error"} and body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["message"] and "Traceback" not in response.text
    error: dict[str, Any] = body["error"]
    return error

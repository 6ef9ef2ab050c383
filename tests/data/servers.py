"""A web server with ranges, which also misbehaves where it is told to; and servers of object stores."""

import contextlib
import hashlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """A file of the server, and how it is given."""

    data: bytes = b""
    etag: str | None = None
    """By default a hash of the data; empty for none."""
    redirect: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    breaks: int = 0
    """After so many bytes the connection breaks off; once, and then never again."""
    ranges: bool = True
    chunked: bool = False
    more: bytes = b""
    """Sent after the data, though not stated."""
    fails: int = 0
    """So many times the server is out of order."""


class Server(ThreadingHTTPServer):
    """`files` by path; `asked` is what was asked for, with its headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def handle_error(self, request, address) -> None:
        """Whoever hangs up has what they wanted."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.close_connection = True
        served = self.server.files.get(self.path.partition("?")[0])
        if served is None:
            self.send_error(404)
        elif served.fails:
            served.fails -= 1
            self.send_error(503)
        elif served.redirect:
            self.send_response(302)
            self.send_header("Location", served.redirect)
            self.end_headers()
        else:
            with contextlib.suppress(OSError):
                self._give(served)

    def _give(self, served: Served) -> None:
        breaks, served.breaks = served.breaks, 0
        etag = served.etag if served.etag is not None else f'"{hashlib.md5(served.data).hexdigest()}"'
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range", etag) == etag
        begin = int(asked[1]) if asked and fresh and served.ranges else 0
        data = served.data[begin:]
        self.send_response(206 if begin else served.status)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(served.data) - 1}/{len(served.data)}")
        headers = {"ETag": etag, "Content-Length": "" if served.chunked else str(len(data)), **served.headers}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        if served.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data,) if part) + b"0\r\n\r\n"
        self.end_headers()
        data = data[:breaks] if breaks else data
        self.wfile.write(data + served.more)


@contextlib.contextmanager
def web_server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _program(*words: str, port: int) -> Iterator[str]:
    """A server that is a program of its own, once it answers; its address."""
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, f"{words} ended with {process.returncode}"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """A server that speaks S3."""
    port = _free_port()
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    with _program("-c", code, port=port) as url:
        yield url


@contextlib.contextmanager
def gcs_server() -> Iterator[str]:
    """A server that speaks the JSON interface of Google Cloud Storage."""
    port = _free_port()
    words = ("start", "--host", "127.0.0.1", "--port", str(port), "--in-memory")
    code = (
        f"import sys; sys.argv[1:] = {list(words)!r}; from gcp_storage_emulator.__main__ import main; main()"
    )
    with _program("-c", code, port=port) as url:
        yield url

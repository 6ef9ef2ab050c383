"""A server that speaks as `telos serve` does, with canned answers: what the page is tested against.

The page is the real part under test. The answers are what a model or a run could say at worst: markup,
characters that reorder text, tokens without end. Streams wait in their middle for `gate`, so that a test can
look at what is half written without a race.
"""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Self
from urllib.parse import unquote, urlsplit

__all__ = ["HOSTILE", "StandIn", "model", "page_file"]

HOSTILE = (
    '<img src=x onerror="window.hit=1"> </textarea></script><script>window.hit=2</script> '
    '"><svg onload=window.hit=3> '
    '<a href="javascript:window.hit=4">{{7*7}}&lt;b&gt;',
    "a\u202egpj.exe\u202c\u2066\x07",
)
KINDS = {"js": "text/javascript", "css": "text/css", "html": "text/html", "svg": "image/svg+xml"}
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
ABILITIES = ["complete", "infill", "chat", "translate", "classify", "score"]


def page_file(name: str) -> str:
    """A file of the page, as it lies in the package."""
    return (resources.files("telos.serve") / "page" / name).read_text(encoding="utf-8")


def model(name: str = "poems", capabilities: list[str] | None = None, **about: Any) -> dict[str, Any]:
    """A model as `/v1/models` lists it; it can do everything unless something else is said."""
    sizes = {"window": 256, "reach": 256, "parameters": 5_242_880}
    known = {"objective": "causal", "model": "decoder", **sizes, "labels": []}
    able = ABILITIES if capabilities is None else capabilities
    return {"id": name, "object": "model", "telos": {**known, "capabilities": able, **about}}


class StandIn:
    """The server, on a free port of this machine, for as long as the `with` lasts."""

    def __init__(self) -> None:
        self.models = [model()]
        self.runs: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.words = ["There ", "was ", "a ", "cat", "."]
        """What is written, piece by piece; after the second the stream waits for `gate`."""
        self.texts = {"label": "positive", "translation": "Ein Mann.", "token": "cat"}
        self.key = ""
        self.refusals: dict[str, tuple[int, str]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        """Every request for data: method, path with query, body."""
        self.gate, self.hung_up = threading.Event(), threading.Event()
        self.gate.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def bodies(self, path: str) -> list[Any]:
        """What was sent to a path."""
        return [body for _, asked, body in self.asked if asked == path]

    # ---- answers

    def answer(self, path: str, body: Any) -> Any:
        """What is answered, as data; None where there is nothing."""
        place = urlsplit(path)
        if place.path.endswith("/metrics"):
            after = int(place.query.removeprefix("after="))
            lines = self.metrics[after : after + 100]
            return {"lines": lines, "next": after + len(lines)}
        answers = {
            "/v1/models": lambda: {"object": "list", "data": self.models},
            "/v1/runs": lambda: {"data": [self._listed(run) for run in self.runs]},
            "/v1/translate": lambda: {
                "data": [self._translated(i, body["n"]) for i in range(len(body["input"]))]
            },
            "/v1/classify": lambda: {"data": [self._judged(i, text) for i, text in enumerate(body["input"])]},
            "/v1/score": lambda: {"data": [self._scored(body)]},
        }
        return answers[place.path]() if place.path in answers else None

    def _listed(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run that has not finished is where the log is."""
        return {**run, "step": self.metrics[-1]["step"]} if self.metrics and not run["finished"] else run

    def _translated(self, index: int, number: int) -> dict[str, Any]:
        text = self.texts["translation"]
        ways = [{"text": f"{text} {n}", "score": -0.25 * n} for n in range(1, number + 1)]
        return {"index": index, "translations": ways}

    def _judged(self, index: int, text: str) -> dict[str, Any]:
        sure = "?" not in text
        shares = {self.texts["label"]: 0.9 if sure else 0.4, "neutral": 0.06 if sure else 0.35}
        shares["negative"] = 1 - sum(shares.values())
        best = self.texts["label"]
        return {
            "index": index,
            "label": best if sure else None,
            "probability": shares[best],
            "probabilities": shares,
            "abstained": not sure,
        }

    def _scored(self, body: Any) -> dict[str, Any]:
        """Every word a token, each a nat more surprising than the one before; the first is not scored."""
        tokens: list[dict[str, Any]] = []
        at = 0
        for index, piece in enumerate([*_words(body["input"]), self.texts["token"]]):
            nats = float(index) if index else None
            own = {"id": index, "text": piece, "logprob": -float(index)}
            top = [{"id": 900, "text": self.texts["token"], "logprob": math.log(0.5)}, own] if index else []
            token = {
                "id": index,
                "text": piece,
                "start": at,
                "end": at + len(piece),
                "nats": nats,
                "top": top,
            }
            tokens.append(token)
            at += len(piece)
        total = sum(token["nats"] or 0.0 for token in tokens)
        return {"kind": "exact", "nats": total, "bits_per_byte": total / math.log(2) / at, "tokens": tokens}

    def events(self, body: Any) -> Iterator[str]:
        """The stream of a completion or of an answer, which waits after the second piece; comments are sent
        meanwhile. A message is ten tokens."""
        chats = "messages" in body
        samples, piece = (1, _delta) if chats else (body["n"], _text)
        if chats:
            yield _event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        for number, word in enumerate(self.words):
            for index in range(samples):
                yield _event([{"index": index, **piece(word), "finish_reason": None}])
            for _ in range(1000 if number == 1 else 0):
                if self.gate.wait(0.02):
                    break
                yield ": wait\n\n"
        for index in range(samples):
            yield _event([{"index": index, **piece(""), "finish_reason": "length" if index else "stop"}])
        if chats and body["stream_options"]["include_usage"]:
            yield _event([], usage={"total_tokens": 10 * len(body["messages"])})
        yield "data: [DONE]\n\n"


def _text(word: str) -> dict[str, Any]:
    return {"text": word}


def _delta(word: str) -> dict[str, Any]:
    return {"delta": {"content": word} if word else {}}


def _event(choices: list[dict[str, Any]], **more: Any) -> str:
    return f"data: {json.dumps({'choices': choices, **more})}\n\n"


def _words(text: str) -> list[str]:
    """Words with the blank before them, as a vocabulary has them."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def _handler(told: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path.startswith("/v1/"):
                return self._api("GET", None)
            name = "index.html" if path == "/" else path.removeprefix("/page/")
            try:
                text = page_file(unquote(name))
            except (FileNotFoundError, IsADirectoryError):
                told.asked.append(("GET", self.path, None))  # the page asks for nothing that is not there
                return self._send(404, "text/plain", "nothing here")
            return self._send(200, f"{KINDS[name.rpartition('.')[2]]}; charset=utf-8", text)

        def do_POST(self) -> None:
            self._api("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _api(self, method: str, body: Any) -> None:
            told.asked.append((method, self.path, body))
            path = urlsplit(self.path).path
            if told.key and self.headers["Authorization"] != f"Bearer {told.key}":
                return self._refuse(401, "a key is wanted")
            if path in told.refusals:
                return self._refuse(*told.refusals[path])
            if path in ("/v1/completions", "/v1/chat/completions"):
                return self._stream(told.events(body))
            answer = told.answer(self.path, body)
            if answer is None:
                return self._refuse(404, f"no {path}")
            return self._send(200, "application/json", json.dumps(answer))

        def _refuse(self, status: int, message: str) -> None:
            self._send(status, "application/json", json.dumps({"error": {"message": message}}))

        def _stream(self, events: Iterator[str]) -> None:
            self._head(200, "text/event-stream")
            try:
                for event in events:
                    self.wfile.write(event.encode())
                    self.wfile.flush()
            except OSError:
                told.hung_up.set()

        def _send(self, status: int, kind: str, text: str) -> None:
            self._head(status, kind)
            self.wfile.write(text.encode())

        def _head(self, status: int, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler

"""What is too much is refused quickly and in words, and everybody else is served meanwhile."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from telos.run import Run
from telos.serve.server import Server
from tests.serve.world import TALKS, counted, raw, refused, serving, until

DEEP = b'{"model": "gru", "prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
ASKED: dict[str, Any] = {"model": "decoder", "prompt": "a", "max_tokens": 2}


@pytest.fixture(scope="module")
def tight(runs: dict[str, Run]) -> Iterator[httpx.Client]:
    """A server that takes little."""
    limits = {"body": 20_000, "prompt": 30, "tokens": 40, "inputs": 6}
    with (
        serving(*(run.folder for run in runs.values()), limits=limits, patience=1.0) as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        yield client


# ---- hostile requests, each to every address that takes one

HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"\xff\x00\xfe binary \x80",
    "half a JSON": b'{"model": "decoder", "prompt": "a',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "nested deep": DEEP[:60_000],
    "nested deep and whole": b'{"model": "gru", "input": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    "a number of a thousand digits": b'{"model": "decoder", "n": ' + b"9" * 5000 + b"}",
    "a lone surrogate": b'{"model": "decoder", "prompt": "\\ud800", "input": "\\ud800"}',
    "a lone surrogate as the name": b'{"model": "\\udfff", "prompt": "a", "input": "a"}',
    "a lone surrogate as a key": b'{"model": "decoder", "\\ud800": 1}',
    "no model": b'{"prompt": "a", "input": "a"}',
    "a model that is no text": b'{"model": 7, "prompt": "a", "input": "a"}',
    "an unknown field": b'{"model": "decoder", "prompt": "a", "input": "a", "shell": "id"}',
    "not UTF-8 in JSON": b'{"model": "decoder", "prompt": "\xff", "input": "\xff"}',
    "no texts": b'{"model": "decoder", "prompt": [], "input": [], "messages": []}',
    "numbers for text": b'{"model": "decoder", "prompt": [1, 2], "input": [1, 2], "messages": [1]}',
}
ADDRESSES = ("completions", "chat/completions", "embeddings", "score", "translate", "classify")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_request_is_refused(tight: httpx.Client, address: str, what: str) -> None:
    for kind in ("application/json", "text/plain"):
        response = tight.post(f"/v1/{address}", content=HOSTILE[what], headers={"content-type": kind})
        assert 400 <= response.status_code < 500, response.text
        refused(response, response.status_code)
    assert tight.get("/health").json() == {"status": "ok"}


VALUES: dict[str, Any] = {
    "temperature": [-1, float("nan"), float("inf"), "hot", 1e9, True],
    "top_p": [-0.1, 1.1, float("nan"), None.__class__.__name__],
    "top_k": [-1, 1.5],
    "n": [0, -1, 10**9, 2.5, "2"],
    "max_tokens": [0, -5, 10**9, 10**30, "many", 1.5],
    "stop": [[""], "", ["a"] * 17, 5, ["x" * 2000]],
    "seed": [1 << 80, 1.5, "x"],
    "logprobs": [-1, 10**6, True],
    "presence_penalty": [0.5],
    "logit_bias": [{"5": 100}],
    "best_of": [7],
    "stream": ["yes", 1],
    "stream_options": [{"include_usage": True}, {"include": True}],
    "suffix": [7],
    "echo": ["yes"],
    "tools": [[]],
}


@pytest.mark.parametrize("name", VALUES)
def test_values_that_cannot_be_are_refused_by_name(tight: httpx.Client, name: str) -> None:
    for value in VALUES[name]:
        body = json.dumps({**ASKED, name: value})
        error = refused(
            tight.post("/v1/completions", content=body, headers={"content-type": "application/json"}), 400
        )
        assert name in error["message"] or error["param"] == name, error


def test_nothing_of_what_was_sent_comes_back_in_a_refusal(tight: httpx.Client) -> None:
    """Trap 74: not even escaped; but for the first characters of a name."""
    mark = "<script>alert(1)</script>"
    for body in ({"model": "decoder", "prompt": mark, "n": 0}, {"model": "gru", "input": mark, "top": -1}):
        for address in ("completions", "score"):
            assert mark not in tight.post(f"/v1/{address}", json=body).text
    error = refused(tight.post("/v1/score", json={"model": mark * 100, "input": "a"}), 404)
    assert len(error["message"]) < 300


def test_texts_with_nul_and_markup_are_texts(tight: httpx.Client) -> None:
    for text in ("\0", "\x1b[2J", "<|end|>", "\u202egnp.exe", "\ufeff", "&lt;", "a\r\nb"):
        answer = tight.post("/v1/completions", json={**ASKED, "prompt": text, "echo": True})
        assert answer.status_code == 200 and answer.json()["choices"][0]["text"].startswith(text)
        assert answer.headers["content-type"] == "application/json"


# ---- limits (trap 76)


def test_too_much_is_refused(tight: httpx.Client) -> None:
    long = "word " * 100
    for body, code in (
        ({"prompt": long}, "context_length_exceeded"),
        ({"prompt": ["a"] * 4, "n": 2}, "too_many_inputs"),
        ({"max_tokens": 41}, "too_many_tokens"),
    ):
        assert refused(tight.post("/v1/completions", json={**ASKED, **body}), 400)["code"] == code
    messages = [{"role": "user", "content": long}]
    chat = tight.post("/v1/chat/completions", json={"model": TALKS, "messages": messages})
    assert refused(chat, 400)["code"] == "context_length_exceeded"
    for address in ("score", "embeddings"):
        for given, code in ((long, "context_length_exceeded"), (["a"] * 7, "too_many_inputs")):
            answer = tight.post(f"/v1/{address}", json={"model": "gru", "input": given})
            assert refused(answer, 400)["code"] == code
    assert tight.post(
        "/v1/completions", json={**ASKED, "prompt": ["a"] * 3, "n": 2, "max_tokens": 40}
    ).is_success


def test_a_large_body_is_refused_before_it_is_read(tight: httpx.Client) -> None:
    """Trap 76: by what it says of itself, and where it says nothing by what comes."""
    large = b'{"model": "gru", "input": "' + b"x" * 30_000 + b'"}'
    assert refused(tight.post("/v1/score", content=large), 413)["code"] == "too_large"

    def without_end() -> Iterator[bytes]:
        while True:
            yield b"x" * 4096

    with contextlib.suppress(httpx.TransportError):  # it hung up while we went on and on
        assert refused(tight.post("/v1/score", content=without_end()), 413)["code"] == "too_large"
    said = raw(
        str(tight.base_url).rstrip("/"),
        b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999999\r\n\r\n",
    )
    assert said.startswith(b"HTTP/1.1 413")


def test_a_header_that_is_too_large_is_refused(tight: httpx.Client) -> None:
    said = raw(str(tight.base_url).rstrip("/"), b"GET / HTTP/1.1\r\nx: " + b"a" * 80_000)
    assert said.startswith(b"HTTP/1.1 400") and b'"invalid_request_error"' in said


@pytest.fixture
def busy(runs: dict[str, Run], endless: None) -> Iterator[tuple[Server, httpx.Client]]:
    """A server that takes two requests at a time, for as long as they like."""
    limits = {"requests": 2, "tokens": 1_000_000, "unread": 1_000_000}
    with (
        serving(runs["decoder"].folder, limits=limits) as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        yield server, client


def test_more_than_may_be_under_way_are_told_to_come_again(busy: tuple[Server, httpx.Client]) -> None:
    server, client = busy
    forever = {**ASKED, "max_tokens": 1_000_000, "stream": True}
    with client.stream("POST", "/v1/completions", json=forever) as one:
        lines = one.iter_lines()
        next(lines)
        with client.stream("POST", "/v1/completions", json=forever) as two:
            others = two.iter_lines()
            next(others)
            answer = client.post("/v1/completions", json=ASKED)
            assert refused(answer, 429)["code"] == "rate_limit_exceeded"
            assert int(answer.headers["retry-after"]) >= 1
            assert client.get("/health").json() == {"status": "ok"}
    until(lambda: server.gate.under_way == 0)
    assert client.post("/v1/completions", json=ASKED).is_success
    answered = counted(client, "telos_requests_total", endpoint="/v1/completions", status="429")
    assert answered == 1


def test_a_client_that_speaks_slowly_is_not_waited_for(runs: dict[str, Run]) -> None:
    """Trap 76: neither for the rest of its headers, in its first request or a later one, nor for its body."""
    with serving(runs["decoder"].folder, patience=0.5) as server:
        body = b"POST /v1/score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{"
        assert b"HTTP/1.1 408" in raw(server.address, body)
        half = b"POST /v1/score HTTP/1.1\r\nhost: loc"
        assert raw(server.address, half, until_closed=True) == b""
        assert raw(server.address, b"", until_closed=True) == b""
        whole = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
        assert raw(server.address, whole + half, until_closed=True).count(b"HTTP/1.1 200") == 1


def test_many_at_once_are_answered_or_refused(busy: tuple[Server, httpx.Client]) -> None:
    """Trap 76: a thousand connections that say nothing, and the server is well."""
    server, client = busy
    host, port = server.address.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    assert client.get("/health").json() == {"status": "ok"}
    for link in idle:
        link.close()
    found: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=server.address, timeout=60) as own:
            found.append(own.post("/v1/completions", json=ASKED).status_code)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) <= {200, 429} and 200 in found


def test_a_request_has_so_many_seconds(runs: dict[str, Run], endless: None) -> None:
    limits = {"seconds": 0.3, "tokens": 1_000_000}
    with (
        serving(runs["decoder"].folder, limits=limits) as server,
        httpx.Client(base_url=server.address) as http,
    ):
        asked = {**ASKED, "max_tokens": 1_000_000}
        assert refused(http.post("/v1/completions", json=asked), 504)["type"] == "timeout_error"
        with pytest.raises(httpx.RemoteProtocolError):  # a stream that was begun ends without an end
            http.post("/v1/completions", json={**asked, "stream": True})
        until(lambda: server.models["decoder"].worker.rows == 0)

"""Many requests at once: they share runs of the network, and nothing else."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from telos.generate import left_to_right
from telos.generate._base import Decoder
from telos.run import Run
from telos.serve import models
from telos.serve.mail import Mail, Piece
from telos.serve.server import Server
from tests.generate.test_left_to_right import Scripted
from tests.serve.world import KINDS, counted, serving, until

PROMPTS = [
    f"{begin} {number}" for number in range(4) for begin in ("The cat", "", "床前明月光", "def f(x):\n")
]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows each run of a network was for."""
    seen: list[int] = []
    advance = left_to_right.LeftToRight.advance

    def watched(self: Decoder) -> None:
        seen.append(len(self.rows))
        advance(self)

    monkeypatch.setattr(left_to_right.LeftToRight, "advance", watched)
    yield seen


def all_at_once(server: Server, name: str, **more: Any) -> list[str]:
    """Each prompt in a stream of its own, with a seed of its own."""

    async def stream(client: openai.AsyncOpenAI, seed: int, prompt: str) -> str:
        asked: dict[str, Any] = {"model": name, "prompt": prompt, "seed": seed, "stream": True}
        return "".join(
            [
                chunk.choices[0].text
                async for chunk in await client.completions.create(**asked, max_tokens=8 + seed % 13, **more)
            ]
        )

    async def together() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none") as client:
            return await asyncio.gather(*(stream(client, *each) for each in enumerate(PROMPTS)))

    return asyncio.run(together())


@pytest.mark.parametrize("name", KINDS)
def test_no_stream_says_anything_of_another(server: Server, runs: dict[str, Run], name: str) -> None:
    """Every one of many streams at once is what its request gives alone."""
    wanted = [
        runs[name].generate([prompt], [f"length={8 + seed % 13}", "temperature=1.0"], seed=seed)[0].text
        for seed, prompt in enumerate(PROMPTS)
    ]
    assert all_at_once(server, name) == wanted


def test_requests_share_runs_of_the_network(server: Server, steps: list[int], runs: dict[str, Run]) -> None:
    all_at_once(server, "decoder")
    assert max(steps) > 4 and sum(steps) / len(steps) > 2


def test_one_after_the_other_where_that_is_set(runs: dict[str, Run], steps: list[int]) -> None:
    """`batch`: with 1 nothing is shared, and the texts are the same."""
    with serving(runs["decoder"].folder, batch=1) as server:
        alone = all_at_once(server, "decoder")
        assert set(steps) == {1}
    with serving(runs["decoder"].folder, batch=3) as server:
        steps.clear()
        assert all_at_once(server, "decoder") == alone
        assert max(steps) == 3


def test_a_client_that_hangs_up_frees_its_places(runs: dict[str, Run], endless: None) -> None:
    settings: dict[str, Any] = {"limits": {"tokens": 1_000_000}}
    with serving(runs["decoder"].folder, **settings) as server, httpx.Client(base_url=server.address) as http:
        worker = server.models["decoder"].worker
        asked = {"model": "decoder", "prompt": "b", "max_tokens": 1_000_000, "n": 8}
        with http.stream("POST", "/v1/completions", json={**asked, "stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            until(lambda: worker.rows == 8)
        until(lambda: worker.rows == 0)
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/completions", json=asked, timeout=0.5)
        until(lambda: worker.rows == 0)
        gone = {"endpoint": "/v1/completions", "status": "499"}
        until(lambda: counted(http, "telos_requests_total", **gone) == 1)


def test_a_client_that_does_not_read_stops_nobody(runs: dict[str, Run], endless: None) -> None:
    """It is given up, its places are free, and others are served meanwhile."""
    settings: dict[str, Any] = {"limits": {"unread": 64, "tokens": 100_000}}
    with serving(runs["decoder"].folder, **settings) as server, httpx.Client(base_url=server.address) as http:
        asked = {"model": "decoder", "prompt": "b", "max_tokens": 100_000, "stream": True, "temperature": 0}
        body = json.dumps(asked).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # that of its connections, too
        link = socket.socket()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        link.connect(("127.0.0.1", int(server.address.rsplit(":", 1)[1])))
        link.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        worker = server.models["decoder"].worker
        until(lambda: worker.rows == 1)
        other = http.post("/v1/completions", json={**asked, "stream": False, "max_tokens": 5}, timeout=60)
        assert other.json()["choices"][0]["text"] == "aaaaa"
        until(lambda: worker.rows == 0)
        assert counted(http, "telos_batch_rows_sum", model="decoder") < 50_000, (
            "it was given up, and not served"
        )
        link.close()


def test_what_is_not_read_is_kept_up_to_a_limit() -> None:
    async def unread() -> None:
        mail = Mail(3)
        for number in range(3):
            mail.piece(number, "x")
        assert not mail.gone
        mail.piece(3, "x")
        assert mail.gone
        await asyncio.wait_for(mail.given_up.wait(), 10)

    asyncio.run(unread())


def test_pieces_that_wait_are_sent_as_one() -> None:
    async def read() -> list[Piece]:
        mail = Mail(10)
        for index, text in ((0, "a"), (0, "b"), (1, "c"), (0, "d")):
            mail.piece(index, text)
        mail.answer("all")
        pieces = [piece async for piece in mail.pieces()]
        assert await mail.wait() == "all"
        return pieces

    assert asyncio.run(read()) == [Piece(0, "ab"), Piece(1, "c"), Piece(0, "d")]


CHARACTERS = "春眠🙂不觉晓é"


def test_no_piece_holds_half_a_character(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 51: also where the text is cut off in the middle of one."""
    open_run = models.open_run

    def opened(*given: Any) -> Run:
        run = open_run(*given)
        script = [*run.tokenizer.encode(CHARACTERS).tolist(), run.tokenizer.end]
        run.__dict__["network"] = Scripted(run.tokenizer.size, script)
        return run

    monkeypatch.setattr(models, "open_run", opened)
    size = len(runs["decoder"].tokenizer.encode(CHARACTERS))
    assert size > len(CHARACTERS), "the vocabulary takes several tokens for a character"
    with (
        serving(runs["decoder"].folder) as server,
        openai.OpenAI(base_url=f"{server.address}/v1", api_key="none") as client,
    ):
        for length in range(1, size + 2):
            pieces = [
                chunk.choices[0].text
                for chunk in client.completions.create(
                    model="decoder", prompt="", max_tokens=length, temperature=0, stream=True
                )
            ]
            assert CHARACTERS.startswith("".join(pieces)) and "\ufffd" not in "".join(pieces)
        assert "".join(pieces) == CHARACTERS


def test_a_failure_of_ours_is_told_without_its_reason(
    runs: dict[str, Run], endless: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The requests that ran together fail, with a clear answer; the next ones are served."""
    fail = threading.Event()
    take = left_to_right.take

    def failing(*given: Any) -> None:
        if fail.is_set():
            raise RuntimeError("a secret of the server's")
        take(*given)

    monkeypatch.setattr(left_to_right, "take", failing)
    with serving(runs["decoder"].folder) as server, httpx.Client(base_url=server.address) as http:
        asked = {"model": "decoder", "prompt": "b", "max_tokens": 4}
        fail.set()
        whole = http.post("/v1/completions", json=asked)
        streamed = http.post("/v1/completions", json={**asked, "stream": True})
        fail.clear()
        assert whole.status_code == 500 and "secret" not in whole.text + streamed.text
        assert json.loads(streamed.text.split("\n\n")[0][6:])["error"]["type"] == "server_error"
        assert "[DONE]" not in streamed.text
        assert http.post("/v1/completions", json=asked).json()["choices"][0]["text"] == "aaaa"
    assert "a secret of the server's" in caplog.text

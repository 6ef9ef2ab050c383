"""`telos serve` as a process: how it is told to stop, and what it refuses to begin."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from telos.run import Run
from tests.serve.world import refused, until

TELOS = [sys.executable, "-m", "telos", "serve"]


@contextmanager
def started(*arguments: str | Path, key: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address."""
    environment = {**os.environ, **({"TELOS_API_KEY": key} if key else {})}
    command = [*TELOS, *map(str, arguments), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"Serving at (\S+) ", line)
        assert found, line + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_what_is_under_way_ends_before_the_server_does(runs: dict[str, Run]) -> None:
    """SIGTERM: health says so, nothing new is begun, the stream comes to its end, and all is well. Trap 78: a
    key from the environment is asked for, and never told."""
    key = "canary-0123456789"
    with (
        started(runs["gru"].folder, "--set", "limits.tokens=100000", key=key) as (process, address),
        httpx.Client(base_url=address, timeout=60, headers={"authorization": f"Bearer {key}"}) as http,
    ):
        assert httpx.get(f"{address}/v1/models").status_code == 401
        asked = {"model": "gru", "prompt": "a", "max_tokens": 1500, "stream": True, "n": 4, "seed": 1}
        with http.stream("POST", "/v1/completions", json=asked) as response:
            lines = response.iter_lines()
            first = next(lines)
            process.send_signal(signal.SIGTERM)
            until(lambda: http.get("/health").json() == {"status": "draining"})
            late = http.post("/v1/completions", json={"model": "gru", "prompt": "a"})
            assert refused(late, 503)["code"] == "draining" and late.headers["retry-after"]
            said = [first, *lines]
        events = [json.loads(line[6:]) for line in said if line.startswith("data: {")]
        ends = [event["choices"][0]["finish_reason"] for event in events]
        assert (
            len([why for why in ends if why]) == 4 and [line for line in said if line][-1] == "data: [DONE]"
        )
        assert process.wait(60) == 0
        assert process.stderr is not None
        told = process.stderr.read()
        assert "Traceback" not in told and key not in told


def test_what_does_not_end_is_cut_off(runs: dict[str, Run]) -> None:
    with (
        started(runs["gru"].folder, "--set", "limits.tokens=10000000", "--set", "drain=0.2") as (
            process,
            address,
        ),
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        asked = {"model": "gru", "prompt": "", "max_tokens": 10_000_000, "stream": True, "n": 32, "top_k": 2}
        with http.stream("POST", "/v1/completions", json=asked) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(signal.SIGINT)
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert process.wait(60) == 0

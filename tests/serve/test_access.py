"""Who may ask: this machine alone, or whoever shows the key; and no path of a client's reaches a file."""

import json
import socket
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from telos.errors import ConfigError
from telos.run import Run
from telos.serve.server import Server, is_loopback, serve
from telos.serve.settings import ServeSettings
from tests.serve.world import counted, raw, refused, serving

KEY = "canary-7f3a9c51e0b2"


def test_by_default_only_this_machine_is_listened_to(server: Server) -> None:
    """Trap 75: by the socket itself."""
    assert server.socket.family == socket.AF_INET and server.socket.getsockname()[0] == "127.0.0.1"
    assert ServeSettings().host == "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org", "", "127.0.0.1.example.org"])
def test_nobody_else_is_listened_to_without_a_key(runs: dict[str, Run], host: str) -> None:
    """Trap 75."""
    if host:
        with pytest.raises(ConfigError, match=r"others can reach this address.*--key-file"):
            Server([runs["gru"].folder], ServeSettings(host=host, port=0)).socket.close()
    assert not is_loopback(host)
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")


def test_with_a_key_it_listens_elsewhere_and_lets_in_who_shows_it(runs: dict[str, Run]) -> None:
    with serving(runs["gru"].folder, key=KEY, host="0.0.0.0") as server:
        address = f"http://127.0.0.1:{server.address.rsplit(':', 1)[1]}"
        with httpx.Client(base_url=address) as http:
            for given in (None, "", KEY, f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer é"):
                headers = {} if given is None else {"authorization": given.encode("latin-1")}
                for path in ("/v1/models", "/v1/runs", "/metrics"):
                    error = refused(http.get(path, headers=headers), 401)  # type: ignore[arg-type]
                    assert error["code"] == "invalid_api_key" and KEY not in error["message"]
            assert http.get("/health").status_code == 200
            assert http.get("/v1/models", headers={"authorization": f"bearer {KEY}"}).status_code == 200
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)
        assert client.models.list().data[0].id == "gru"
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{address}/v1", api_key="no", max_retries=0).models.list()


def test_the_key_is_nowhere_in_what_is_said(runs: dict[str, Run], caplog: pytest.LogCaptureFixture) -> None:
    """Trap 78."""
    said = []
    with serving(runs["gru"].folder, key=KEY) as server, httpx.Client(base_url=server.address) as http:
        for path in ("/health", "/metrics", "/v1/models", "/v1/runs", "/nothing"):
            for headers in ({}, {"authorization": f"Bearer {KEY}"}, {"authorization": f"Bearer {KEY}!"}):
                response = http.get(path, headers=headers)
                said.append(f"{response.headers} {response.text}")
        assert KEY not in repr(vars(server.gate)) and KEY not in repr(server.settings)
    assert KEY not in "".join(said) + caplog.text


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.", ""]
)
def test_a_name_that_was_made_to_point_here_is_refused(server: Server, name: str) -> None:
    """Trap 75: DNS rebinding. The browser believes the page's own server to be at this address."""
    said = raw(server.address, f"GET /v1/models HTTP/1.1\r\nhost: {name}\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 403") and b"wrong_host" in said


def test_pages_of_other_sites_may_not_ask(server: Server, http: httpx.Client, runs: dict[str, Run]) -> None:
    """Trap 75: a browser that is sent here by a page says whose."""
    own = server.address
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"):
        asked = http.post("/v1/score", json={"model": "gru", "input": "a"}, headers={"origin": origin})
        assert refused(asked, 403)["code"] == "wrong_origin"
    assert http.post("/v1/score", json={"model": "gru", "input": "a"}, headers={"origin": own}).is_success
    preflight = http.options("/v1/score", headers={"origin": own, "access-control-request-method": "POST"})
    assert not any(name.startswith("access-control") for name in preflight.headers)
    with serving(runs["gru"].folder, names=["my-laptop"]) as other:
        for name, status in (("my-laptop", 200), ("my-laptop:8000", 200), ("other", 403)):
            said = raw(other.address, f"GET /v1/models HTTP/1.1\r\nhost: {name}\r\n\r\n".encode())
            assert said.startswith(f"HTTP/1.1 {status}".encode())


def test_every_answer_forbids_what_no_page_of_ours_needs(http: httpx.Client) -> None:
    """Trap 74: also errors; nothing that a model says can become a page."""
    for path in ("/health", "/v1/models", "/nothing", "/metrics", "/v1/models/none"):
        headers = http.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; ")
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer" and "server" not in headers
        assert not headers["content-type"].startswith("text/html")


PATHS = [
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "decoder%00",
    "/etc",
    "decoder/../gru",
    ".",
    "é",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_reaches_a_file(server: Server, path: str) -> None:
    """Trap 75: a run is looked up among those that are there."""
    encoded = path.encode().replace(b"\xc3\xa9", b"%C3%A9")
    for before, after in ((b"/v1/runs/", b"/metrics"), (b"/page/", b""), (b"/v1/models/", b"")):
        request = b"GET " + before + encoded + after + b" HTTP/1.1\r\nhost: localhost\r\n\r\n"
        said = raw(server.address, request)
        assert said.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), said
        assert b"root:" not in said


def test_runs_are_listed_and_their_logs_can_be_followed(
    http: httpx.Client, runs: dict[str, Run], tmp_path: Path
) -> None:
    listed = http.get("/v1/runs").json()["data"]
    assert [run["id"] for run in listed] == sorted(runs)
    assert listed[1] == {
        "id": "encoder", "name": "encoder", "finished": True, "step": 12,
        "objective": "masked", "model": "encoder",
    }  # fmt: skip
    whole = http.get("/v1/runs/gru/metrics").json()
    log = (runs["gru"].folder / "metrics.jsonl").read_text().splitlines()
    assert whole == {"lines": [json.loads(line) for line in log], "next": len(log)}
    rest = http.get("/v1/runs/gru/metrics", params={"after": 5}).json()
    assert rest == {"lines": whole["lines"][5:], "next": len(log)}
    assert http.get("/v1/runs/gru/metrics", params={"after": 10**6}).json() == {"lines": [], "next": 10**6}
    for after in ("-1", "x", "1e9", str(10**30)):
        assert refused(http.get("/v1/runs/gru/metrics", params={"after": after}), 400)
    assert refused(http.get("/v1/runs/other/metrics"), 404)["code"] == "run_not_found"


def test_a_log_that_is_being_written_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    from telos.serve.runs import Runs

    run = tmp_path / "live"
    run.mkdir()
    (run / "recipe.toml").write_text('objective = "causal"\n[model]\nname = "gru"\n')
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\nrubbish\n{"step": 2}\n{"step": 3, "lo')
    (tmp_path / "elsewhere").symlink_to("/etc")
    (tmp_path / "empty").mkdir()
    found = Runs([tmp_path])
    assert found.metrics("live", 0) == {"lines": [{"step": 1, "loss": None}, {"step": 2}], "next": 3}
    (listed,) = found.listed()
    assert listed == {
        "id": "live",
        "name": "live",
        "finished": False,
        "step": 2,
        "objective": "causal",
        "model": "gru",
    }
    with (run / "metrics.jsonl").open("a") as file:
        file.write('ss": 1}\n')
    assert found.metrics("live", 3) == {"lines": [{"step": 3, "loss": 1}], "next": 4}
    assert found.listed()[0]["step"] == 3


def test_what_is_counted(http: httpx.Client) -> None:
    def figures() -> dict[str, float]:
        ours: dict[str, Any] = {"endpoint": "/v1/completions", "status": "200"}
        return {
            "requests": counted(http, "telos_requests_total", **ours),
            "prompt": counted(http, "telos_tokens_total", model="gru", kind="prompt"),
            "completion": counted(http, "telos_tokens_total", model="gru", kind="completion"),
            "seconds": counted(http, "telos_request_seconds_count", endpoint="/v1/completions"),
            "rows": counted(http, "telos_batch_rows_sum", model="gru"),
            "other": counted(http, "telos_requests_total", endpoint="other", status="404"),
        }

    before = figures()
    asked = {"model": "gru", "prompt": "abc", "max_tokens": 5, "n": 2, "seed": 3}
    usage = http.post("/v1/completions", json=asked).json()["usage"]
    http.get("/no/such/place/7a31")
    after = figures()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["requests"] == grown["seconds"] == grown["other"] == 1
    assert grown["prompt"] == usage["prompt_tokens"] and grown["completion"] == usage["completion_tokens"]
    assert grown["rows"] == usage["completion_tokens"]
    text = http.get("/metrics").text
    assert "7a31" not in text and 'telos_waiting_requests{model="gru"} 0.0' in text


def test_two_runs_of_one_name_are_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Two runs are called 'gru'"):
        serve([runs["gru"].folder, tmp_path / "gru"], ServeSettings(port=0))


def test_an_address_that_is_taken_is_refused(server: Server, runs: dict[str, Run]) -> None:
    port = int(server.address.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=r"cannot be listened at.*Choose another port"):
        serve([runs["gru"].folder], ServeSettings(port=port))

"""How much does a server serve, and does each client get its own text: a load generator on loopback.

    python benchmarks/serving.py [RUN] [--clients 1 8 32] [--seconds 20] [--rounds 3] [--soak 10000] [--quick]

A server is started as a process, `telos serve`, once with rows that share runs of the network and once with
`batch=1`, which serves one request after the other; both are asked in turn. Each client is a connection that
asks for a streamed completion, reads it to its end, and asks for the next. Told are requests and tokens a
second, and the 50th and 99th percentile of the time to the first piece of text and to the last; and, where
the system tells, the processor's time that the server took for a thousand tokens, which what else runs on the
machine disturbs less.

The soak asks `--soak` requests of 32 clients, each one of 64 kinds: a prompt and a seed of its own, whose
text the run has said before, alone and without a server. Every answer is compared with it: an answer that
holds anything of another request's cannot be equal. An answer that differs is asked for again alone, so that
what a last bit decides is told from what comes of another.

Without a RUN, a decoder of 5 million parameters is trained for some steps on Python's standard library: how
fast text is made does not depend on how good it is. The result is written into results/.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

import httpx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
RUNS = HERE.parent / "runs" / "benchmarks"
PROMPTS = ("def ", "import os\n", "class A:\n    ", "# The ", "return ", "for i in range(", "", "    assert ")
WAYS = {"together": "batch=32", "one_at_a_time": "batch=1"}


class Served(NamedTuple):
    """A server: where it listens, and the number of its process."""

    address: str
    process: int

    def processor_seconds(self) -> float:
        """That its process has taken, all threads together; 0 where the system does not tell."""
        path = Path(f"/proc/{self.process}/stat")
        if not path.exists():
            return 0.0
        ticks = path.read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


class Asked(NamedTuple):
    """A request: what it asks and what it must get."""

    prompt: str
    seed: int
    text: str = ""


class Answered(NamedTuple):
    """What came of a request, and when, in seconds."""

    text: str
    first: float
    last: float
    tokens: int
    error: str = ""


def main() -> None:
    """Measure, print and write."""
    from benchmarks.harness.machine import described, load, revision

    chosen = _chosen()
    run = chosen.run or _trained(chosen.quick)
    about = {"date": str(date.today()), **described(), "revision": revision(), "load": load()}
    about.pop("peers", None)
    result = {**about, "settings": _settings(chosen), "model": _model(run)}
    with _server(run, WAYS["together"]) as together, _server(run, WAYS["one_at_a_time"]) as alone:
        servers = {"together": together, "one_at_a_time": alone}
        result["load_test"] = _loads(run, servers, chosen)
        result["soak"] = asyncio.run(_soak(run, together.address, chosen))
    result["load_after"] = load()
    path = chosen.out or HERE / "results" / f"serving-{date.today()}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path.name)


@contextmanager
def _server(run: Path, setting: str) -> Iterator[Served]:
    """A server of its own, which ends as a user would end it."""
    command = [sys.executable, "-m", "telos", "serve", str(run), "--port", "0", "--set", setting]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"Serving at (\S+) ", line)
        if found is None:
            raise SystemExit(line + process.stderr.read())
        yield Served(found[1], process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


# ---- load


def _loads(run: Path, servers: dict[str, Served], chosen: argparse.Namespace) -> dict[str, Any]:
    """For each number of clients, each way in turn, several rounds."""
    found: dict[str, Any] = {}
    for clients in chosen.clients:
        answers: dict[str, list[Answered]] = {way: [] for way in servers}
        seconds, processor = dict.fromkeys(servers, 0.0), dict.fromkeys(servers, 0.0)
        for round in range(chosen.rounds):
            for way, server in servers.items():
                begun, taken = time.perf_counter(), server.processor_seconds()
                answers[way] += asyncio.run(_load(run.name, server.address, clients, chosen, round))
                seconds[way] += time.perf_counter() - begun
                processor[way] += server.processor_seconds() - taken
        found[str(clients)] = {way: _figures(answers[way], seconds[way], processor[way]) for way in servers}
        for way, row in found[str(clients)].items():
            print(f"{clients:3} clients  {way:14}", json.dumps(row), flush=True)
    return found


async def _load(
    model: str, address: str, clients: int, chosen: argparse.Namespace, round: int
) -> list[Answered]:
    end = time.perf_counter() + chosen.seconds
    answers: list[Answered] = []

    async def client(number: int, http: httpx.AsyncClient) -> None:
        count = 0
        while time.perf_counter() < end:
            seed = (round * 1000 + number) * 100_000 + count
            asked = Asked(PROMPTS[(number + count) % len(PROMPTS)], seed)
            answers.append(await _ask(http, model, asked, chosen.tokens))
            count += 1

    async with _client(address, clients) as http:
        await asyncio.gather(*(client(number, http) for number in range(clients)))
    return answers


def _figures(answers: Sequence[Answered], seconds: float, processor: float) -> dict[str, Any]:
    good = [answer for answer in answers if not answer.error]
    tokens = sum(answer.tokens for answer in good)
    figures = {
        "requests": len(answers),
        "errors": len(answers) - len(good),
        "requests_per_second": round(len(good) / seconds, 2),
        "tokens_per_second": round(tokens / seconds, 1),
        "processor_seconds_per_1000_tokens": round(1000 * processor / max(tokens, 1), 2),
    }
    for name in ("first", "last"):
        times = [getattr(answer, name) for answer in good]
        cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
        figures |= {f"{name}_p50": round(cuts[49], 4), f"{name}_p99": round(cuts[98], 4)}
    return figures


async def _ask(http: httpx.AsyncClient, model: str, asked: Asked, tokens: int) -> Answered:
    body: dict[str, Any] = {"model": model, "prompt": asked.prompt, "seed": asked.seed, "max_tokens": tokens}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    begun, first, made = time.perf_counter(), 0.0, 0
    pieces: list[str] = []
    try:
        async with http.stream("POST", "/v1/completions", json=body) as response:
            if response.status_code != 200:
                return Answered("", 0, 0, 0, f"{response.status_code} {(await response.aread()).decode()}")
            done = False
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    event = json.loads(line[6:])
                    first = first or time.perf_counter() - begun
                    made += event["usage"]["completion_tokens"] if event["usage"] else 0
                    pieces += [choice["text"] for choice in event["choices"]]
    except httpx.HTTPError as error:
        return Answered("", 0, 0, 0, repr(error))
    error = "" if done else "it was cut off"
    return Answered("".join(pieces), first, time.perf_counter() - begun, made, error)


def _client(address: str, connections: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=address, timeout=300, limits=limits)


# ---- soak


async def _soak(run: Path, address: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Many requests of 32 clients, each compared with what the run says alone."""
    kinds = _alone(run, chosen.soak_tokens)
    waiting = iter(range(chosen.soak))
    errors, different = [], []
    begun = time.perf_counter()

    async def client(http: httpx.AsyncClient) -> None:
        for number in waiting:
            asked = kinds[number * 31 % len(kinds)]
            answer = await _ask(http, run.name, asked, chosen.soak_tokens)
            if answer.error:
                errors.append(answer.error)
            elif answer.text != asked.text:
                different.append(asked)

    async with _client(address, 32) as http:
        await asyncio.gather(*(client(http) for _ in range(32)))
        seconds = time.perf_counter() - begun
        again = [await _ask(http, run.name, asked, chosen.soak_tokens) for asked in different]
    right = sum(answer.text == asked.text for answer, asked in zip(again, different, strict=True))
    figures = {
        "requests": chosen.soak,
        "clients": 32,
        "kinds": len(kinds),
        "tokens": chosen.soak_tokens,
        "seconds": round(seconds, 1),
        "errors": len(errors),
        "first_errors": errors[:3],
        "different": len(different),
        "different_that_were_right_when_asked_alone": right,
    }
    print("soak", json.dumps(figures), flush=True)
    return figures


def _alone(run: Path, tokens: int) -> list[Asked]:
    """What the run says to each kind of request, without a server and one at a time."""
    from telos.run import open_run

    opened = open_run(run)
    kinds = []
    for seed in range(64):
        prompt = f"{PROMPTS[seed % len(PROMPTS)]}{seed}"
        (sample,) = opened.generate([prompt], [f"length={tokens}"], seed=seed)
        kinds.append(Asked(prompt, seed, sample.text))
    assert len({kind.text for kind in kinds}) > 60, "kinds that say the same would show nothing"
    return kinds


# ---- what is measured


def _trained(quick: bool) -> Path:
    """A run of the size of the demo's, which has read a little."""
    from telos.run import fit, load_recipe

    small = ["model.width=32", "model.depth=1", "model.heads=2", "tokenizer.size=400", "train.window=64"]
    changes = ["train.budget={steps=20}", "train.watch={evaluate_every=0, checkpoint_every=0}"]
    name = "serving-quick" if quick else "serving"
    return fit(load_recipe("demo", [f"name={name}", *changes, *(small if quick else [])]), RUNS).folder


def _model(run: Path) -> dict[str, Any]:
    from telos.run import open_run

    opened = open_run(run)
    parameters = sum(p.numel() for p in opened.network.parameters())
    return {"name": opened.recipe.model.name, "parameters": parameters, "window": opened.recipe.train.window}


def _settings(chosen: argparse.Namespace) -> dict[str, Any]:
    kept = ("clients", "seconds", "rounds", "tokens", "soak", "soak_tokens", "quick")
    return {
        **{name: getattr(chosen, name) for name in kept},
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="of a completion under load, at most")
    parser.add_argument("--soak", type=int, default=10_000, help="requests")
    parser.add_argument("--soak-tokens", type=int, default=16)
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that everything runs")
    parser.add_argument("--out", type=Path, help="the file to write; by default results/serving-DATE.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""The program that trains to the same held-out loss: its clock, its scores, what follows from its figures."""

import importlib
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.harness import arrival, course, held_out, racing, results
from benchmarks.harness.course import Course
from benchmarks.harness.races import RACES
from benchmarks.harness.worker_side import Held, Session, Spec
from torch import nn
from torch.nn import functional

from telos.batch import Rows
from telos.evaluate.likelihood import score
from telos.objectives.causal import Causal
from tests.benchmarks.test_throughput import PROGRAMS, run
from tests.evaluate.world import MODELS, network_of, pair_tokenizer, shards_of

BOOKS = RACES["books"]


def test_peers_and_ours_are_trained_scored_and_told(tmp_path: Path) -> None:
    out, root = tmp_path / "quick-same-loss-2026-01-01.json", tmp_path / "runs"
    words = [
        "--quick",
        "--seeds",
        "0",
        "--root",
        root,
        "--out",
        out,
        "--only",
        "plain-bfloat16",
        "example-200",
    ]
    run("same_loss.py", *words, "--sweep", "plain-bfloat16", "--batches", "2", "--rates", "0.002")
    text = out.read_text("utf-8")
    result = json.loads(text)
    assert result["quick"] and result["hardware"]["processor"] and result["versions"]["torch"]
    assert str(tmp_path) not in text
    books, word = result["works"]["books"]["runs"], result["works"]["words"]["runs"]
    assert [each["name"] for each in books] == ["plain-bfloat16", "ours", "ours"]
    assert [each["name"] for each in word] == ["example-200", "ours"]
    for found in (*books, *word):
        assert "error" not in found and found["ready"]["parameters"] > 0
        seconds = [point["seconds"] for point in found["points"]]
        assert seconds == sorted(seconds) and seconds[-1] >= found["minutes"] * 60
        last = found["points"][-1]
        assert last["processor"] > 0 and last["tokens"] > 0 and 0 < last["loss"] < 20
    assert len({each["points"][-1]["asked"] for each in books}) == 1  # the same windows
    assert len({each["scores"]["test"]["asked"] for each in word}) == 1
    assert (books[0]["rate"], books[0]["batch"]) == (0.002, 2)  # by the sweep
    swept = json.loads((tmp_path / "quick-same-loss-sweep-2026-01-01.json").read_text("utf-8"))
    assert [each["rate"] for each in swept["works"]["books"]["runs"]] == [0.002]
    run("make_results.py", "--results", tmp_path, "--quick", "--out", tmp_path / "RESULTS.md")
    page = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert "plain-bfloat16 ends at" in page and "test perplexity" in page
    for race in RACES:
        plot = f"quick-same-loss-2026-01-01-{race}.svg"
        assert plot in page and (tmp_path / plot).read_text("utf-8").count("ours") == 1


def test_a_peer_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    program = importlib.import_module("same_loss")
    about = {"hardware": {"processor": "p", "cores": 2, "features": []}}
    entrant = BOOKS.peers[0]
    stored = done("peer", [1.0], minutes=20.0) | {"name": entrant.name, "asked": dict(entrant.settings)}
    results.store(tmp_path / "same-loss-2026-01-01.json", about, "books", {"runs": [stored]})
    given = SimpleNamespace(quick=False)
    chosen = racing.Chosen(rate=1e-3, batch=8)

    def before(about: Mapping[str, Any], minutes: float, chosen: racing.Chosen, seed: int) -> Any:
        return program._before(tmp_path, given, about, BOOKS, entrant, minutes, chosen, seed)

    assert before(about, 20.0, chosen, 0)["points"] == stored["points"]
    assert before(about, 20.0, chosen, 1) is None
    assert before(about, 10.0, chosen, 0) is None
    assert before(about, 20.0, racing.Chosen(rate=2e-3, batch=8), 0) is None
    assert before({"hardware": {"processor": "q", "cores": 2, "features": []}}, 20.0, chosen, 0) is None


# ---- what follows from the figures


def done(
    name: str, losses: list[float], *, minutes: float, seed: int = 0, ours: bool = False
) -> dict[str, Any]:
    """A run that came to its end: losses at even distances of its time."""
    points = [
        {"seconds": 60 * minutes * (n + 1) / len(losses), "loss": loss, "bits_per_byte": loss / 3}
        | {"tokens": 1e6, "processor": 1.0}
        for n, loss in enumerate(losses)
    ]
    run = {"name": name, "seed": seed, "minutes": minutes, "rate": 1e-3, "batch": 8, "ours": ours}
    return run | {"points": points, "scores": {}, "load": [1.0, 1.0], "date": "2026-01-01T00:00:00"}


@pytest.mark.parametrize(
    ("curve", "loss", "seconds"),
    [
        ([(10.0, 5.0), (1000.0, 3.0)], 4.0, 100.0),  # half of the way in the logarithm
        ([(10.0, 5.0), (100.0, 4.0), (1000.0, 3.0)], 4.0, 100.0),
        ([(10.0, 5.0), (100.0, 4.0)], 3.9, None),
        ([(10.0, 5.0)], 5.5, 10.0),
        ([(10.0, 5.0), (20.0, 3.0), (40.0, 6.0), (80.0, 2.0)], 3.0, 20.0),  # the first time counts
        ([], 1.0, None),
    ],
)
def test_where_a_curve_crosses_a_loss(
    curve: list[tuple[float, float]], loss: float, seconds: float | None
) -> None:
    found = arrival.crossing(curve, loss)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_ours_is_measured_against_the_peer_that_ends_best_over_its_seeds() -> None:
    runs = [
        *(done("first", [6.0, loss], minutes=20.0, seed=seed) for seed, loss in enumerate([4.0, 4.4])),
        *(done("second", [5.0, loss], minutes=20.0, seed=seed) for seed, loss in enumerate([4.1, 4.1])),
        done("second", [1.0], minutes=3.0),  # a run of another length is of no account
        done("third", [1.0], minutes=20.0) | {"error": "it broke"},
        done("ours", [4.5], minutes=2.0, ours=True),
        done("ours", [5.0, 3.7], minutes=8.0, ours=True),
        done("ours", [4.1], minutes=5.0, seed=1, ours=True),
        done("slow", [4.2], minutes=8.0, ours=True),
    ]
    ours, slow = arrival.arrivals(runs)
    assert (ours.peer, ours.loss, ours.peer_seconds) == ("second", pytest.approx(4.1), 1200.0)
    assert ours.seconds == {0: pytest.approx(240.0), 1: pytest.approx(300.0)}  # √(2 · 8) minutes; 5 minutes
    assert ours.share == pytest.approx((4 + 5) / 2 / 20)
    assert slow.seconds == {0: None} and slow.share is None
    said = [*arrival.verdicts(BOOKS, runs)]
    assert "after **0.23** of that (0.20, 0.25); target ≤ 0.33: met" in said[0]
    assert "does not get there" in said[1]


def test_the_curve_of_a_run_counts_where_it_is_sooner_than_the_ends() -> None:
    runs = [
        done("peer", [4.0], minutes=20.0),
        done("ours", [4.5], minutes=2.0, ours=True),
        done("ours", [5.0, 4.0, 3.9, 3.8], minutes=8.0, ours=True),
    ]
    (found,) = arrival.arrivals(runs)
    by_ends = 60 * 2 * 4 ** (0.5 / 0.7)
    assert by_ends > 240 and found.seconds == {0: pytest.approx(240.0)}


def test_perplexity_of_test_is_told_and_ours_is_judged() -> None:
    tested = {"test": {"loss": math.log(104.0), "asked": 245_569}}
    runs = [done("ours", [4.7], minutes=30.0, ours=True) | {"scores": tested}]
    (line,) = arrival.verdicts(RACES["words"], runs)
    assert line == ("ours, seed 0, 30 minutes: test perplexity 104.0 of 245,569 words, target ≤ 105: met")


def test_a_sweep_takes_all_rates_at_the_batch_that_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {(2e-3, 4): 5.0, (2e-3, 8): 4.0, (1e-3, 8): 4.1, (4e-3, 8): 3.9}
    tried = []

    def raced(track: Any, entrant: Any, *, chosen: racing.Chosen, compiling: bool, **rest: Any) -> Any:
        assert not compiling  # how long compiling takes is nothing that rate and batch are chosen by
        tried.append((chosen.rate, chosen.batch))
        found = done("peer", [losses[tried[-1]]], minutes=3.0) | asdict(chosen)
        return found | ({"error": "it broke", "points": []} if chosen.rate == 1e-3 else {})

    monkeypatch.setattr(racing, "raced", raced)
    track: Any = SimpleNamespace(say=lambda text: None)
    runs = racing.swept(track, BOOKS.peers[0], 3.0, (1e-3, 2e-3, 4e-3), (4, 8))
    assert tried == [(2e-3, 4), (2e-3, 8), (1e-3, 8), (4e-3, 8)]
    assert racing.best_of(runs) == racing.Chosen(rate=4e-3, batch=8)


# ---- the clock and the schedule


class Time:
    """Seconds that pass when they are told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Ended(Exception):
    """In place of the end of the process."""


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(course, "time", clock)
    monkeypatch.setattr(course, "processor_seconds", lambda: 2 * clock.now)

    def end(status: int) -> None:
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    return clock


def started(answers: io.StringIO, **more: float) -> Course:
    """A session of ten minutes with five points."""
    planned = {"minutes": 10.0, "points": 5.0, "warmup": 0.1, "rate": 0.0, "compiling": 1.0}
    return Course(Spec(family="any", course=planned | more), io.StringIO(), answers)


def test_the_clock_stands_while_held_out_text_is_scored_and_counts_what_is_compiled(time: Time) -> None:
    answers = io.StringIO()
    session = started(answers)

    def slowly() -> Held:
        time.now += 1000.0
        return Held(nats=8.0, asked=4, bytes=16)

    session.scores(validation=slowly, test=slowly)
    session.begin()
    time.now += 60.0  # the first step compiles
    session.tick(10)
    with pytest.raises(Ended):
        for _ in range(100):
            time.now += 30.0
            session.tick(10)
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    points = [line["point"] for line in said if "point" in line]
    assert [point["seconds"] for point in points] == [120.0, 240.0, 360.0, 480.0, 600.0]
    assert [point["processor"] for point in points] == [240.0, 480.0, 720.0, 960.0, 1200.0]
    assert [point["tokens"] for point in points] == [30, 70, 110, 150, 190]
    assert points[-1]["loss"] == 2.0 and points[-1]["first_step"] == 60.0
    assert points[-1]["bits_per_byte"] == pytest.approx(8 / math.log(2) / 16)
    assert list(said[0]) == ["ready"] and list(said[-1]["end"]["scores"]) == ["test"]


def test_in_a_sweep_the_clock_starts_after_the_first_step(time: Time) -> None:
    answers = io.StringIO()
    session = started(answers, compiling=0.0)
    session.scores(validation=lambda: Held(nats=8.0, asked=4, bytes=0))
    session.begin()
    time.now += 5000.0
    session.tick(10)
    time.now += 130.0
    session.tick(10)
    (point,) = [line["point"] for line in map(json.loads, answers.getvalue().splitlines()) if "point" in line]
    assert point["seconds"] == 130.0 and point["bits_per_byte"] is None


def test_a_rate_warms_up_after_the_first_step_and_comes_down_by_the_end(time: Time) -> None:
    session = started(io.StringIO(), points=0.001)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=session.rate(2.0))
    session.steer(optimizer)
    session.begin()
    time.now += 200.0  # compiling: of 600 seconds 400 are left, 40 of them for the warm-up
    rates = []
    for seconds in (0, 20, 20, 160, 199.999):
        time.now += seconds
        session.tick(1)
        rates.append(optimizer.param_groups[0]["lr"])
    cosine = [(1 + math.cos(math.pi * share)) / 2 for share in (0.0, 0.05, 0.1, 0.5, 1.0)]
    warm = [0.01, 0.5, 1.0, 1.0, 1.0]
    assert rates == [pytest.approx(2.0 * w * c, abs=1e-4) for w, c in zip(warm, cosine, strict=True)]


def test_a_loss_that_is_not_finite_ends_a_run(time: Time) -> None:
    session = started(io.StringIO())
    session.scores(validation=lambda: Held(nats=math.nan, asked=4, bytes=0))
    session.begin()
    time.now += 300.0
    with pytest.raises(SystemExit, match="not finite after 1 steps"):
        session.tick(1)


def test_without_a_course_rates_stay_as_they_are() -> None:
    session = Session(Spec(family="any"), io.StringIO(), io.StringIO())
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=session.rate(0.3))
    session.steer(optimizer)
    session.begin()
    session.tick(1)
    assert optimizer.param_groups[0]["lr"] == 0.3 and session.factor() == 1.0


# ---- the scores


def test_all_windows_together_are_the_likelihood_that_telos_finds(tmp_path: Path) -> None:
    """Of a split that is scored as a whole: the same nats, tokens and bytes."""
    tokenizer, window = pair_tokenizer(), 16
    shards = shards_of(tmp_path / "validation", tokenizer)
    network = network_of(MODELS["rotary"], tokenizer, window)
    prepared = SimpleNamespace(shards=lambda split: shards, tokenizer=tokenizer)
    path = tmp_path / "windows.npz"
    said = held_out.windows(prepared, window, 10**9, path)

    def logits(ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1]).expand_as(ids)
        seen = torch.ones_like(ids, dtype=torch.bool)
        rows = Rows(ids=ids, positions=places, segment=torch.zeros_like(ids), order=places, seen=seen)
        return network.logits(network.encode(rows)[0])

    found = held_out.scored({"held_out": str(path)}, logits)
    expected = score(network, Causal(), shards, tokenizer, window=window)
    assert found.nats == pytest.approx(expected.nats, rel=1e-6)
    assert (found.asked, found.bytes) == (expected.tokens, expected.bytes) == (said["tokens"], said["bytes"])


def test_windows_are_the_same_each_time_and_no_more_than_asked(tmp_path: Path) -> None:
    tokenizer = pair_tokenizer()
    shards = shards_of(tmp_path / "validation", tokenizer)
    prepared = SimpleNamespace(shards=lambda split: shards, tokenizer=tokenizer)
    said = [held_out.windows(prepared, 8, 40, tmp_path / f"{n}.npz") for n in range(2)]
    assert said[0] == said[1] and 40 <= said[0]["tokens"] < 48
    first, second = (np.load(tmp_path / f"{n}.npz") for n in range(2))
    assert (first["ids"] == second["ids"]).all() and (first["targets"] == second["targets"]).all()
    assert tokenizer.begin not in first["targets"]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    return importlib.import_module("contestants.word_example")


def test_the_example_is_asked_every_word_once_with_its_state_carried(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = pair_tokenizer()
    shards = shards_of(tmp_path / "validation", tokenizer)
    settings = {"cell": "lstm", "tied": True, "dropout": 0.5}
    corpus = {"vocabulary": tokenizer.size, "folder": str(tmp_path)}
    shape = {"embedding": 8, "width": 8, "depth": 2, "window": 35}
    spec = Spec(family="word_example", settings=settings, shape=shape, corpus=corpus, batch=2)
    torch.manual_seed(0)
    model = example.Words(spec)
    monkeypatch.setattr(example, "COLUMNS", 1)
    found = example._scored(model, spec, "validation")
    assert model.training
    ids = torch.from_numpy(shards.ids.astype(np.int64))
    model.eval()
    with torch.no_grad():
        logits, _ = model(torch.cat([ids[-1:], ids[:-1]])[None], None)
    expected = functional.cross_entropy(logits[0], ids, reduction="sum")
    assert found.asked == len(ids) and found.nats == pytest.approx(float(expected), rel=1e-5)
    monkeypatch.setattr(example, "COLUMNS", 3)
    in_columns = example._scored(model, spec, "validation")
    assert in_columns.asked == len(ids) and in_columns.nats == pytest.approx(found.nats, rel=0.01)


def test_the_example_tests_the_weights_that_were_best(example: ModuleType) -> None:
    model = nn.Linear(1, 1)
    best = example._Best(model)
    assert best.kept(5.0)
    kept = model.weight.item()
    with torch.no_grad():
        model.weight.add_(1.0)
    assert not best.kept(5.0)
    assert best.better(5.5).weight.item() == kept
    assert best.better(4.5) is model

"""The programs in benchmarks/ run, and what they write can be read; what they measure is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.contestants import _spans
from benchmarks.harness import flops, results
from benchmarks.harness.works import WORKS, Target

from telos.batch import HeadSpec
from telos.models._base import Sizes
from telos.models.decoder import Decoder, Heads

PROGRAMS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(program: str, *words: str | Path) -> None:
    command = [sys.executable, str(PROGRAMS / program), *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr


def test_ours_and_a_plain_loop_are_measured_and_the_table_is_made(tmp_path: Path) -> None:
    out = tmp_path / "quick-throughput-1.json"
    names = ("ours", "plain-bfloat16")
    run("throughput.py", "gpt", "--quick", "--only", *names, "--root", tmp_path / "runs", "--out", out)
    result = json.loads(out.read_text("utf-8"))
    assert result["quick"] and result["hardware"]["processor"] and result["versions"]["torch"]
    work = result["works"]["gpt"]
    assert work["flops"]["per_token"] > 0 and len(work["load"]) == 2 and work["text"] == "little"
    assert str(tmp_path) not in out.read_text("utf-8").replace(work["command"], "")
    assert str(tmp_path) not in work["command"]
    for name in names:
        entry = work["contestants"][name]
        assert "error" not in entry
        assert len(entry["windows"]) == 2
        for window in entry["windows"]:
            assert window["units"] > 0 and window["wall"] > 0 and window["processor"] > 0
        assert entry["rate"] > 0 and entry["peak_bytes"] > 1 << 20
        assert 0 < entry["loss"] < 2 * np.log(work["vocabulary"])
        assert entry["parameters"] > 0 and entry["batch"] == 2 and entry["first_step_seconds"] > 0
    table = tmp_path / "RESULTS.md"
    run("make_results.py", "--results", tmp_path, "--quick", "--out", table)
    text = table.read_text("utf-8")
    assert "ours **" in text and "plain-bfloat16" in text and "throughput.py gpt" in text


def test_operations_of_gpt_2_by_hand() -> None:
    """124 million: 6 · (12 · 12 · 768² + 50257 · 768) + 6 · 12 · 768 · 1024 = 797.8 million a token."""
    found = flops.decoder(width=768, depth=12, feed=8 * 768 * 768, vocabulary=50257, window=1024)
    assert found == 6 * (84_934_656 + 38_597_376) + 56_623_104 == 797_815_296


def test_operations_are_those_that_the_model_says() -> None:
    work = WORKS["gpt"]
    shape = work.shape
    sizes = Sizes(
        shape["vocabulary"], shape["window"], (HeadSpec(name="tokens", outputs=shape["vocabulary"]),)
    )
    model = Decoder(width=shape["width"], depth=shape["depth"], heads=Heads(count=shape["heads"]))
    assert model.feed_width == shape["inner"]
    assert work.flops_per_token(shape, shape["vocabulary"]) == model.flops_per_token(sizes)


@pytest.mark.parametrize(("window", "length", "said"), [(512, 568, 114)])
def test_spans_have_the_published_lengths(window: int, length: int, said: int) -> None:
    assert _spans.text_length(window) == length
    marks = [*range(1000, 1100)]
    batch = _spans.Collator(marks, 1)([{"input_ids": np.arange(2, 2 + length)}])
    read, spoken = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    assert len(read) == window and len(spoken) == said
    assert [i for i in read if i >= 1000] == [i for i in spoken if i >= 1000] == marks[:28]
    assert sorted(i for i in read + spoken if 1 < i < 1000) == [*range(2, 2 + length)]


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(measure="times", limit=1.9, against=("slow", "fast"), says=""), True),
        (Target(measure="times", limit=2.1, against=("slow", "fast"), says=""), False),
        (Target(measure="memory", limit=0.5, against=("slow",), says=""), True),
        (Target(measure="seconds", limit=0.1, says=""), True),
        (Target(measure="times", limit=1.0, against=("absent",), says=""), None),
        (Target(measure="utilisation", limit=0.3, against=("matrix",), says=""), True),
        (Target(measure="rate", limit=150.0, says=""), True),
        (Target(measure="rate", limit=190.0, says=""), False),
    ],
)
def test_targets_are_judged(target: Target, met: bool | None) -> None:
    entries = {
        "ours": {"rate": 200.0, "processor_rate": 180.0, "memory_bytes": 10},
        "fast": {"rate": 100.0},
        "slow": {"rate": 50.0, "memory_bytes": 30},
        "matrix": {"rate": 2.0},
    }
    found = {"contestants": entries, "flops": {"per_token": 4_000_000}}
    assert results._verdict(target, found).met is met

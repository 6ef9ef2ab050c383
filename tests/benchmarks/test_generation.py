"""The program that measures how fast a model writes runs, and both sides write the same; how fast they are
is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import telos
from tests.small import NARROW, SHRUNK, write_texts

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "generation.py"


def test_it_runs_and_greedy_text_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    texts = write_texts(tmp_path / "texts")
    small = (*SHRUNK, *NARROW["decoder"], "tokenizer.size=300")
    telos.fit(telos.load_recipe("gpt-small", [f"data.path={texts}", "name=small", *small]), tmp_path / "runs")
    out = tmp_path / "out.json"
    command = [sys.executable, str(PROGRAM), str(tmp_path / "runs" / "small"), "--quick", "--out", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text("utf-8"))
    assert result["hardware"]["processor"] and result["versions"]["transformers"]
    assert set(result["cases"]) == {"greedy-1", "greedy", "sample", "top-k-p"}
    for name, case in result["cases"].items():
        assert case["ours"] > 0 and case["transformers"] > 0 and len(case["ratios"]) == 1
        assert case.get("same") == {"greedy-1": "1 of 1", "greedy": "3 of 3"}.get(name)
    assert str(tmp_path) not in out.read_text("utf-8")

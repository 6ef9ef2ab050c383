"""The program that measures how fast a model writes runs, and both sides write the same; how fast they are
is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import telos
from telos.config import read
from telos.recipe import Recipe
from tests.small import NARROW, SHRUNK, write_texts
from tests.tasks.test_translation import table_of, write_pairs

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "generation.py"


def measured(run: Path, tmp_path: Path) -> dict[str, Any]:
    """The cases of a run of the program."""
    pytest.importorskip("transformers")
    out = tmp_path / "out.json"
    command = [sys.executable, str(PROGRAM), str(run), "--quick", "--out", str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in out.read_text("utf-8")
    result = json.loads(out.read_text("utf-8"))
    assert result["hardware"]["processor"] and result["versions"]["transformers"]
    for case in result["cases"].values():
        assert case["ours"] > 0 and case["transformers"] > 0 and len(case["ratios"]) == 1
    return dict(result["cases"])


def test_greedy_text_of_a_decoder_is_the_same(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts")
    small = (*SHRUNK, *NARROW["decoder"], "tokenizer.size=300")
    telos.fit(telos.load_recipe("gpt-small", [f"data.path={texts}", "name=small", *small]), tmp_path / "runs")
    cases = measured(tmp_path / "runs" / "small", tmp_path)
    same = {"greedy-1": "1 of 1", "greedy": "3 of 3", "sample": None, "top-k-p": None}
    assert {name: case.get("same") for name, case in cases.items()} == same


def test_the_beams_of_a_translator_are_the_same(tmp_path: Path) -> None:
    table = table_of(write_pairs(tmp_path / "text"))
    telos.fit(read(Recipe, table), tmp_path / "runs")
    cases = measured(tmp_path / "runs" / "pairs", tmp_path)
    assert {name: case["same"] for name, case in cases.items()} == {"beam-1": "1 of 1", "beam": "3 of 3"}

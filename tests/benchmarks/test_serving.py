"""The load test of the server runs, and finds no error and no text of another request's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from telos.config import override, read
from telos.recipe import Recipe
from telos.run import fit
from tests.small import NARROW, SHRUNK, write_texts

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "serving.py"


@pytest.mark.slow
def test_every_client_gets_its_own_text(tmp_path: Path) -> None:
    given = {"name": "small", "objective": "causal", "data": {"path": str(write_texts(tmp_path / "texts"))}}
    run = fit(
        read(Recipe, override(given, [*SHRUNK, *NARROW["decoder"], "tokenizer.size=300"])), tmp_path / "runs"
    )
    out = tmp_path / "result.json"
    options = ["--clients", "1", "4", "--seconds", "1", "--rounds", "1", "--soak", "200", "--out", str(out)]
    command = [sys.executable, str(PROGRAM), str(run.folder), *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    result = json.loads(out.read_text())
    assert result["soak"]["requests"] == 200
    assert result["soak"]["errors"] == result["soak"]["different"] == 0
    for clients in ("1", "4"):
        for way in ("together", "one_at_a_time"):
            figures = result["load_test"][clients][way]
            assert figures["errors"] == 0 and figures["requests"] >= 1 and figures["last_p99"] > 0

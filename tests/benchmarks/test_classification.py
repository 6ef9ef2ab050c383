"""The program that measures what pre-training buys a classifier: it runs, and goes on where it stopped."""

import json
from pathlib import Path

from tests.benchmarks.test_throughput import run


def test_cells_are_measured_once_and_told(tmp_path: Path) -> None:
    out = tmp_path / "quick-classification.json"
    words = ["--quick", "--sets", "chnsenticorp", "--runs", tmp_path / "runs", "--out", out, "--seeds"]
    run("classification.py", *words, "0", "--beginnings", "recipe", "scratch")
    first = json.loads(out.read_text("utf-8"))
    run("classification.py", *words, "0", "1", "--beginnings", "scratch", "causal")
    found = json.loads(out.read_text("utf-8"))
    assert found["cells"][:2] == first["cells"] and first["quick"]
    rows = [(cell["beginning"], cell["seed"]) for cell in found["cells"]]
    assert rows == [("recipe", 0), ("scratch", 0), ("scratch", 1), ("causal", 0), ("causal", 1)]
    for cell in found["cells"]:
        assert 0 <= cell["all"]["accuracy"] <= 1 and cell["all"]["texts"] == 40 and cell["parameters"] > 0
    told = found["summary"]["chnsenticorp"]
    assert told["scratch"]["seeds"] == 2 and told["causal"]["gain"]["low"] is not None
    assert told["recipe"]["gain"]["low"] is None
    assert str(tmp_path) not in out.read_text("utf-8")

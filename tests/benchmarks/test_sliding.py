"""The program that measures text past the window runs; how fast it is is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "sliding.py"


def test_it_runs(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--quick", "--out", str(out)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text("utf-8"))
    assert result["hardware"]["processor"]
    assert result["within"]["tokens_per_second"] > 0 and result["three_windows"]["tokens_per_second"] > 0

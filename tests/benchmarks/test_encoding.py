"""The program that measures encoding runs, and the ways are compared on texts that no vocabulary has seen."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.small import write_texts

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "encoding.py"


def test_every_kind_is_encoded_both_ways(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts")
    command = [sys.executable, str(PROGRAM), str(texts), "--worker", "--megabytes", "0.02", "--size", "300"]
    command += ["--rounds", "1", "--threads", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["encoding"]) == {"bpe", "byte", "character", "word"} and found["bytes"] > 0
    for row in found["encoding"].values():
        assert row["tokenizers"] > 0 and row["fast"] > 0

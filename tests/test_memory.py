"""What a process no longer needs goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from telos.config import read
from telos.data import prepare
from telos.recipe import Recipe
from telos.run import prepare as prepared
from tests.small import write_texts

HOLDS = """
from telos.memory import give_back

def held():
    fields = (line.split() for line in open("/proc/self/status"))
    return next(int(each[1]) << 10 for each in fields if each[0] == "VmRSS:")

many = [bytes(1000) for _ in range(200_000)]
last = many[-1]
del many
before = held()
give_back()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries need no asking")
def test_what_was_freed_goes_back_to_the_system() -> None:
    """200 MB of small things below one that is still in use."""
    done = subprocess.run([sys.executable, "-c", HOLDS], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150_000_000


def test_after_learning_a_vocabulary_memory_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the sample is let go of, and before texts are turned into tokens."""
    calls: list[bool] = []
    monkeypatch.setattr(prepare, "give_back", lambda: calls.append(bool(list(tmp_path.glob("**/tokens")))))
    table = {"name": "small", "data": {"path": str(write_texts(tmp_path / "texts"))}}
    prepared(read(Recipe, table | {"tokenizer": {"size": 300}}), tmp_path / "runs")
    assert calls == [False]

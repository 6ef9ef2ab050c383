"""What a process no longer needs goes back to the system; what it needs again and again it keeps."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from telos import run
from telos.config import override, read
from telos.data import prepare
from telos.recipe import Recipe
from telos.run import fit
from telos.run import prepare as prepared
from tests.small import write_texts

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do otherwise")
HELD = """
import resource, torch
from telos.memory import give_back, large_pages
from telos.switches import without

def held():
    fields = (line.split() for line in open("/proc/self/status"))
    return next(int(each[1]) << 10 for each in fields if each[0] == "VmRSS:")
"""
HOLDS = """
many = [bytes(1000) for _ in range(200_000)]
last = many[-1]
del many
before = held()
give_back()
print(before - held())
"""


LARGE = """
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def asked():  # whether the system knows that large pages are wanted, in all of the heap
    flags, heap = [], False
    for line in open("/proc/self/smaps"):
        heap = line.rstrip().endswith("[heap]") if "-" in line.split()[0] else heap
        flags += [line.split()] if heap and line.startswith("VmFlags") else []
    return all("hg" in each for each in flags)

torch.set_num_threads(1)
with without("pages"):
    assert not large_pages()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (1 << 40, limits[1]))
assert not large_pages()
resource.setrlimit(resource.RLIMIT_AS, limits)
plain, before = faults(), held()
print(plain, int(large_pages()), held() - before, int(asked()))
faults()
print(faults())
many = [torch.zeros(1000) for _ in range(100_000)]
last = many[-1]
del many
before = held()
give_back()
print(before - held())
"""


def _printed(program: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", HELD + program], capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


@glibc
def test_what_was_freed_goes_back_to_the_system() -> None:
    """200 MB of small things below one that is still in use."""
    assert _printed(HOLDS)[0] > 150_000_000


@glibc
def test_a_tensor_like_one_that_was_freed_costs_no_page_again() -> None:
    """One of 64 MiB is 16,384 pages of 4 KiB or 32 of 2 MiB. The heap grows by addresses, not memory; what is
    freed can still be given back; and all stays as it is where that is asked, or addresses are limited.
    """
    plain, done, grown, asked, again, back = _printed(LARGE)
    assert plain > 100_000 and done and grown < 20_000_000 and again < 100 and back > 300_000_000
    if HUGE.exists() and "[never]" not in HUGE.read_text():
        assert asked


def test_training_on_a_processor_asks_for_large_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the model is made, so that its weights lie in them too."""
    calls: list[bool] = []
    monkeypatch.setattr(run, "large_pages", lambda: calls.append(True))
    right = run.built
    monkeypatch.setattr(run, "built", lambda *given: calls.append(False) or right(*given))
    table = {"name": "small", "data": {"path": str(write_texts(tmp_path / "texts"))}}
    table |= {"tokenizer": {"size": 300}, "train": {"budget": {"steps": 1}, "window": 16, "batch": 2}}
    small = ["model.width=16", "model.depth=1", "model.heads=2"]
    fit(read(Recipe, override(table, small)), tmp_path / "runs", device="cpu")
    assert calls[:2] == [True, False]


def test_after_learning_a_vocabulary_memory_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the sample is let go of, and before texts are turned into tokens."""
    calls: list[bool] = []
    monkeypatch.setattr(prepare, "give_back", lambda: calls.append(bool(list(tmp_path.glob("**/tokens")))))
    table = {"name": "small", "data": {"path": str(write_texts(tmp_path / "texts"))}}
    prepared(read(Recipe, table | {"tokenizer": {"size": 300}}), tmp_path / "runs")
    assert calls == [False]

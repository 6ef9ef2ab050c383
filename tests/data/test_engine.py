"""Whoever does the work, and however often it is interrupted, what comes out is the same to the byte."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from telos.data import documents, engine
from telos.data import prepare as module
from telos.data.engine import Call, WorkerDied, run, workers_for
from telos.data.prepare import Prepared, prepare
from telos.data.settings import DataSettings, EngineSettings
from telos.data.sources import _chunks
from telos.errors import DataError
from telos.tokenizer import TokenizerSettings
from tests.contract.test_sources import WRITERS
from tests.data.test_documents import jsonl, many
from tests.data.test_pages import record
from tests.data.test_prepare import files, leftovers

BPE = TokenizerSettings(size=400)
PROGRAM = """
import sys
from pathlib import Path
from telos.data import documents
from telos.data.prepare import prepare
from telos.data.settings import DataSettings
from telos.config import read
from telos.tokenizer import TokenizerSettings
documents.TASK_BYTES = 4000
given = {"path": sys.argv[1], "dedupe": {"near": "drop"}, "engine": {"workers": int(sys.argv[3])}}
prepare(read(DataSettings, given), TokenizerSettings(size=400), Path(sys.argv[2]))
"""


@pytest.fixture
def texts(tmp_path, monkeypatch) -> Path:
    """A folder of files of several kinds, with copies, that make a dozen tasks."""
    monkeypatch.setattr(documents, "TASK_BYTES", 4000)
    folder = tmp_path / "texts"
    folder.mkdir()
    every = many(240)
    for number in range(8):
        some = every[number * 30 : number * 30 + 30]
        copies = [every[number], every[number * 7].replace("document", "Document")]
        jsonl(folder / f"{number}.jsonl", [*some, *copies, ""])
    for number in range(20):
        (folder / f"text-{number:02}.txt").write_text("\n".join(many(6, seed=number + 1)))
    return folder


def prepared(texts: Path, root: Path, **engine) -> Prepared:
    given = {"path": texts, "dedupe": {"near": "drop"}, "engine": EngineSettings(**engine)}
    return prepare(DataSettings(**given), BPE, root)


def test_two_workers_and_a_cluster_give_what_one_gives(texts, tmp_path):
    pytest.importorskip("ray", reason="pip install 'telos-lm[cluster]'")
    one = prepared(texts, tmp_path / "one", workers=1)
    two = prepared(texts, tmp_path / "two", workers=2)
    ray = prepared(texts, tmp_path / "ray", kind="ray", workers=2)
    assert files(one.folder) == files(two.folder) == files(ray.folder)
    assert one.folder.name == two.folder.name == ray.folder.name
    assert one.card.dropped["exact copy"]["documents"] > 0
    assert one.card.dropped["near copy"]["documents"] > 0
    kept = sum(split["documents"] for split in one.card.splits.values())
    assert one.card.documents == kept + sum(d["documents"] for d in one.card.dropped.values()) == 284
    for root, ready in (("two", two), ("ray", ray)):
        assert not leftovers(tmp_path / root, ready)


def test_it_does_not_matter_how_the_work_is_cut(texts, tmp_path, monkeypatch):
    small = prepared(texts, tmp_path / "small")
    monkeypatch.setattr(documents, "TASK_BYTES", 1 << 20)
    assert files(prepared(texts, tmp_path / "large").folder) == files(small.folder)


def packed(path: Path, texts: tuple[str, ...]) -> None:
    """A web archive in which each record is compressed on its own."""
    path.mkdir()
    with (path / "all.warc.gz").open("wb") as file:
        for number, text in enumerate(texts):
            named = {"WARC_Record_ID": f"<urn:{number}>"}
            file.write(gzip.compress(record("conversion", text.encode(), "text/plain", **named)))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "arrow", "warc", "warc.gz"])
def test_a_large_file_is_shared_out_and_gives_what_it_gives_whole(kind, tmp_path, monkeypatch):
    texts = tuple(text.replace(" ", "\n", 3).replace("b", '"', 2) for text in many(300))
    {**WRITERS, "warc.gz": packed}[kind](tmp_path / "texts", texts)
    whole = prepared(tmp_path / "texts", tmp_path / "whole")
    monkeypatch.setattr(documents, "TASK_BYTES", 4000)
    monkeypatch.setattr(_chunks, "CHUNK", 2000)
    shared, counts = documents.Reader.tasks, []

    def counted(self, chunks):
        tasks = shared(self, chunks)
        counts.append(len(tasks))
        return tasks

    monkeypatch.setattr(documents.Reader, "tasks", counted)
    for workers in (1, 2):
        cut = prepared(tmp_path / "texts", tmp_path / str(workers), workers=workers)
        assert files(cut.folder) == files(whole.folder) and cut.folder.name == whole.folder.name
    assert counts[0] == counts[1] > 5


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_costs_no_document_and_doubles_none(kills, texts, tmp_path):
    """The shards are those of a run that nobody disturbed, after however many kills."""
    whole = files(prepared(texts, tmp_path / "whole").folder)
    draw, root, done = random.Random(0), tmp_path / "root", 0
    command = [sys.executable, "-c", PROGRAM, str(texts), str(root)]
    for attempt in range(10 * kills):
        process = subprocess.Popen([*command, str(1 + attempt % 2)], stderr=subprocess.DEVNULL)
        tasks = _after(process, root, draw.randrange(1, 60))
        if tasks:
            process.send_signal(signal.SIGKILL)
            done += 1
        if process.wait() == 0:
            shutil.rmtree(root)
        if done == kills:
            break
    assert done == kills, "it was not caught at work"
    ready = prepared(texts, root)
    assert files(ready.folder) == whole
    assert not leftovers(root, ready)


def _after(process: subprocess.Popen[bytes], root: Path, changes: int) -> bool:
    """Wait until so many things are in the folder of the work, or some more than there were before."""
    begin = _things(root)
    while process.poll() is None:
        if _things(root) >= begin + changes:
            return True
        time.sleep(0.002)
    return False


def _things(root: Path) -> int:
    while True:
        try:
            return sum(1 for _ in root.rglob("*"))
        except FileNotFoundError:  # it was renamed meanwhile
            continue


def test_work_that_is_done_is_not_done_again(texts, tmp_path, monkeypatch):
    root = tmp_path / "root"
    learn = module.train_tokenizer

    def interrupted(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_tokenizer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepared(texts, root)
    (work,) = root.glob(".building-*")
    done = {path: path.stat().st_mtime_ns for path in work.glob("cleaned/*/*")}
    assert len(done) > 12

    def looked_at(*given):
        assert {path: path.stat().st_mtime_ns for path in work.glob("cleaned/*/*")} == done
        return learn(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_tokenizer", looked_at)
        ready = prepared(texts, root)
    assert not leftovers(root, ready)
    assert files(ready.folder) == files(prepared(texts, tmp_path / "again").folder)


def _die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def _refuse(number: int) -> int:
    raise DataError(f"file-{number}.txt: no good.")


def test_a_worker_that_dies_is_named_and_not_waited_for():
    """Trap 55."""
    with pytest.raises(WorkerDied, match=r"A worker died.*same command again.*workers=1"):
        run(EngineSettings(), 2, [Call(_die, (n,)) for n in range(8)], lambda count: None)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_worker_refuses_is_told_in_its_own_words(workers):
    with pytest.raises(DataError, match=r"^file-0\.txt: no good\.$"):
        run(EngineSettings(), workers, [Call(_refuse_here, (0,))], lambda count: None)


def _refuse_here(number: int, progress=None) -> int:
    return _refuse(number)


def test_small_inputs_start_no_processes():
    assert workers_for(EngineSettings(), 1 << 20, 50) == 1
    assert workers_for(EngineSettings(), 1 << 40, 1) == 1
    assert workers_for(EngineSettings(workers=3), 1, 50) == 3
    assert workers_for(EngineSettings(workers=3), 1, 2) == 2
    assert workers_for(EngineSettings(), 1 << 40, 10**6) == engine._processors()


def test_workers_end_with_the_process_they_work_for(texts, tmp_path):
    """Trap 55: nothing goes on in the background after a kill."""
    command = [sys.executable, "-c", PROGRAM, str(texts), str(tmp_path / "root"), "2"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert _after(process, tmp_path / "root", 8)
    workers = _children(process.pid)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    if not found.exists():
        pytest.skip("this system does not tell the children of a process")
    return [int(child) for child in found.read_text().split()]


def test_sources_keep_their_names(tmp_path):
    """In the shards as a number, on the card as a name; and weights are no part of the key."""
    jsonl(tmp_path / "books.jsonl", many(60, seed=1))
    jsonl(tmp_path / "news.jsonl", many(40, seed=2))
    sources = [{"name": n, "path": tmp_path / f"{n}.jsonl"} for n in ("books", "news")]
    ready = prepare(DataSettings(sources=sources), BPE, tmp_path / "root")
    found = {}
    for split in documents.SPLITS:
        shards = ready.shards(split)
        for at in range(len(shards)):
            found[ready.tokenizer.decode(shards.document(at))] = int(shards.columns["source"][at])
    assert found == {**dict.fromkeys(many(60, seed=1), 0), **dict.fromkeys(many(40, seed=2), 1)}
    assert {name: counts["documents"] for name, counts in ready.card.sources.items()} == {
        "books": 60,
        "news": 40,
    }
    assert json.loads((ready.folder / "card.json").read_text())["sources"]["books"]["tokens"] > 0

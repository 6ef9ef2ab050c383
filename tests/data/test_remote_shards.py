"""Shards from elsewhere are fetched once, and are what their header says."""

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from telos.data.remote import Access
from telos.data.remote_shards import fetched_shards
from telos.data.shards import ShardWriter
from telos.errors import DataError
from tests.data.servers import Served, Server, web_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    writer = ShardWriter(tmp_path / "train", "vocabulary", 300, ["source", "target"])
    for number in range(50):
        writer.add(np.arange(number), bytes=number, source=number % 2, target=np.zeros(0, np.int64))
    writer.close()
    with web_server() as served:
        for file in (tmp_path / "train").iterdir():
            served.files[f"/train/{file.name}"] = Served(file.read_bytes())
        yield served


@pytest.fixture
def access(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setattr("telos.data.remote.PAUSE", 0.01)
    return Access(cache=tmp_path / "sources", allow_hosts=(server.host,))


def test_they_are_those_that_were_written(server: Server, access: Access, tmp_path: Path) -> None:
    found = fetched_shards(server.url("/train/"), tmp_path / "shards", access)
    found.verify()
    assert len(found) == 50 and found.document(20).tolist() == list(range(20))
    assert found.columns["source"].tolist() == [0, 1] * 25 and found.columns["source"].dtype == np.int16


def test_they_are_fetched_once(server: Server, access: Access, tmp_path: Path) -> None:
    """The second time only the header's place is looked at."""
    url = server.url("/train")
    fetched_shards(url, tmp_path / "shards", access)
    before = len(server.asked)
    fetched_shards(url, tmp_path / "shards", access)
    assert {path for path, _ in server.asked[before:]} <= {"/train/header.json"}


def test_what_broke_off_is_gone_on_from(server: Server, access: Access, tmp_path: Path) -> None:
    """Files that are there whole are not asked for again."""
    url, name = server.url("/train"), "/train/text_bytes.bin"
    kept = server.files.pop(name)
    with pytest.raises(DataError):
        fetched_shards(url, tmp_path / "shards", access)
    server.files[name] = kept
    before = len(server.asked)
    fetched_shards(url, tmp_path / "shards", access).verify()
    assert "/train/ids.bin" not in {path for path, _ in server.asked[before:]}


def test_content_that_is_not_what_the_header_says_is_refused(
    server: Server, access: Access, tmp_path: Path
) -> None:
    name = "/train/ids.bin"
    whole = server.files[name].data
    server.files[name] = Served(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=r"ids\.bin: its content is not what header\.json beside it says"):
        fetched_shards(server.url("/train"), tmp_path / "shards", access)
    server.files[name] = Served(whole)
    fetched_shards(server.url("/train"), tmp_path / "shards", access).verify()


def test_another_preparation_at_the_same_place_is_another_split(
    server: Server, access: Access, tmp_path: Path
) -> None:
    first = fetched_shards(server.url("/train"), tmp_path / "shards", access)
    writer = ShardWriter(tmp_path / "other", "vocabulary", 300)
    writer.add(np.arange(7), bytes=7)
    writer.close()
    server.files.clear()
    for file in (tmp_path / "other").iterdir():
        server.files[f"/train/{file.name}"] = Served(file.read_bytes())
    other = fetched_shards(server.url("/train"), tmp_path / "shards", access)
    assert len(first) == 50 and len(other) == 1 and first.folder != other.folder


@pytest.mark.parametrize("name", ["../../evil.bin", "/etc/passwd", "sub/ids.bin", "header.json"])
def test_names_that_lead_elsewhere_are_refused(
    name: str, server: Server, access: Access, tmp_path: Path
) -> None:
    header = json.loads(server.files["/train/header.json"].data)
    header["files"][name] = header["files"]["ids.bin"]
    server.files["/train/header.json"] = Served(json.dumps(header).encode())
    with pytest.raises(DataError, match="not the header of prepared data"):
        fetched_shards(server.url("/train"), tmp_path / "shards", access)


def test_two_processes_at_once_fetch_once(server: Server, access: Access, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()

    def one() -> None:
        told.put(len(fetched_shards(server.url("/train"), tmp_path / "shards", access)))

    processes = [context.Process(target=one) for _ in range(2)]
    for process in processes:
        process.start()
    assert [told.get() for _ in processes] == [50, 50]
    for process in processes:
        process.join()
    fetched = Counter(path for path, _ in server.asked)
    once = Counter(path for path, _ in server.asked if path != "/train/header.json")
    assert fetched["/train/ids.bin"] == fetched["/train/offsets.bin"] == min(once.values()), once

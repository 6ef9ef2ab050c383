"""Files of object stores, from real servers that speak S3 and Google Cloud Storage."""

import json
import os
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from telos.config import read
from telos.data import _store, remote
from telos.data.prepare import prepare
from telos.data.remote import Access, fetch, listing
from telos.data.settings import DataSettings
from telos.data.sources.jsonl import JsonLines
from telos.errors import DataError
from telos.tokenizer import TokenizerSettings
from tests.data.servers import gcs_server, s3_server
from tests.data.test_documents import jsonl, many
from tests.data.test_prepare import files

pytest.importorskip("s3fs")
pytest.importorskip("gcsfs")
pytest.importorskip("moto")
pytest.importorskip("gcp_storage_emulator")

DATA = bytes(range(256)) * 4096
FILES = {
    "texts/a.txt": b"plain",
    "texts/deep/b.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
    "texts/deep/large.bin": DATA,
    "texts/.hidden": b"x",
    "texts2/other.txt": b"not below texts/",
    "space and 空#?.txt": b"odd name",
}


class Store(NamedTuple):
    root: str
    put: Callable[[str, bytes], None]


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        if request.param == "s3":
            yield _s3(patch, request.getfixturevalue("s3_url"))
        else:
            yield from _gcs(patch)


def _s3(patch: pytest.MonkeyPatch, url: str) -> Store:
    import boto3

    given = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY"}
    given |= {"AWS_SECRET_ACCESS_KEY": "CANARY", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in given.items():
        patch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")

    def put(key: str, data: bytes) -> None:
        client.put_object(Bucket="bucket", Key=key, Body=data)

    for key, data in FILES.items():
        put(key, data)
    return Store("s3://bucket", put)


def _gcs(patch: pytest.MonkeyPatch) -> Iterator[Store]:
    with gcs_server() as url:
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

        def post(path: str, data: bytes, kind: str) -> None:
            asked = urllib.request.Request(url + path, data, {"Content-Type": kind}, method="POST")
            urllib.request.urlopen(asked).close()

        def put(key: str, data: bytes) -> None:
            name = urllib.parse.quote(key, safe="")
            kind = "application/octet-stream"
            post(f"/upload/storage/v1/b/bucket/o?uploadType=media&name={name}", data, kind)

        post("/storage/v1/b?project=x", json.dumps({"name": "bucket"}).encode(), "application/json")
        for key, data in FILES.items():
            put(key, data)
        yield Store("gs://bucket", put)


@pytest.fixture
def access(tmp_path, monkeypatch) -> Access:
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    return Access(cache=tmp_path / "cache")


@pytest.mark.parametrize("end", ["", "/"])
def test_all_files_below_a_folder_in_order(end, store, access):
    found = listing(f"{store.root}/texts{end}", access)
    assert [(f.name, f.size) for f in found] == [
        ("a.txt", 5),
        ("deep/b.jsonl", 32),
        ("deep/large.bin", len(DATA)),
    ]
    assert all(f.etag for f in found) and len({f.digest for f in found}) == 3
    assert found == listing(f"{store.root}/texts{end}", access)


def test_one_file(store, access):
    (file,) = listing(f"{store.root}/texts/deep/b.jsonl", access)
    path = fetch(file, access)
    assert path.name == "b.jsonl" and [d.text for d in JsonLines().documents(path)] == ["one", "two"]


def test_files_come_whole_in_blocks(store, access, monkeypatch):
    monkeypatch.setattr(_store, "BLOCK", 100_000)
    (file,) = listing(f"{store.root}/texts/deep/large.bin", access)
    assert fetch(file, access).read_bytes() == DATA


def test_workers_fetch_what_was_listed_before_they_were(store, access):
    """The packages keep connections and a thread, which a forked process has not."""
    import multiprocessing

    files = listing(f"{store.root}/texts", access)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
            paths = list(pool.map(fetch, files, [access] * len(files), timeout=60))
    assert [path.stat().st_size for path in paths] == [file.size for file in files]


def test_what_breaks_off_is_gone_on_from(store, access, monkeypatch):
    monkeypatch.setattr(_store, "BLOCK", 100_000)
    (file,) = listing(f"{store.root}/texts/deep/large.bin", access)
    place = remote._place(file, access)
    place.parent.mkdir(parents=True)
    (place.parent / ".part").write_bytes(DATA[:300_000])
    begins = []
    blocks = _store.blocks

    def counted(url, begin, *rest):
        begins.append(begin)
        return blocks(url, begin, *rest)

    monkeypatch.setattr(_store, "blocks", counted)
    assert fetch(file, access).read_bytes() == DATA and begins == [300_000]


def test_odd_names(store, access):
    found = {f.name: f for f in listing(store.root, access)}
    assert fetch(found["space and 空#?.txt"], access).read_bytes() == b"odd name"


def test_a_file_that_changed_after_it_was_listed_is_not_mixed(store, access):
    store.put("changing/a.txt", b"old")
    (old,) = listing(f"{store.root}/changing", access)
    store.put("changing/a.txt", b"new")
    with pytest.raises(DataError, match="the file changed after it was listed"):
        fetch(old, access)
    (new,) = listing(f"{store.root}/changing", access)
    assert new.digest != old.digest and fetch(new, access).read_bytes() == b"new"


def test_prepared_data_is_fetched_from_a_store(store, tmp_path):
    path = jsonl(tmp_path / "texts.jsonl", many(100))
    made = prepare(DataSettings(path=path), TokenizerSettings(size=400), tmp_path / "made")
    for name, data in files(made.folder).items():
        store.put(f"prepared/{made.folder.name}/{name}", data)
    path.unlink()
    there = {"prepared": f"{store.root}/prepared/{made.folder.name}", "remote": {"cache": tmp_path / "cache"}}
    ready = prepare(read(DataSettings, there), TokenizerSettings(size=400), tmp_path / "root")
    assert files(ready.folder) == files(made.folder)


@pytest.mark.parametrize("path", ["/nowhere", "/texts/nowhere.txt", "2/nowhere"])
def test_what_is_not_there_is_named(path, store, access):
    with pytest.raises(DataError, match=r"there is nothing here|there is no such file or folder") as caught:
        listing(store.root + path, access)
    assert "CANARY" not in str(caught.value)


def test_a_store_that_does_not_answer_is_named_without_secrets(store, access, monkeypatch):
    import fsspec

    class Broken(Exception):
        pass

    class Failing:
        def find(self, *_, **__):
            raise Broken(
                "GET https://user:CANARY@host/b?X-Amz-Signature=CANARY&key=CANARY by AKIACANARYCANARY\nCANARY"
            )

    monkeypatch.setattr(fsspec, "filesystem", lambda *_, **__: Failing())
    with pytest.raises(DataError, match="cannot be fetched: Broken") as caught:
        listing(f"{store.root}/texts", access)
    assert "CANARY" not in str(caught.value) and caught.value.__cause__ is None


def test_public_files_need_no_credentials(s3_url, access, tmp_path, monkeypatch):
    """Without any, the store is asked as anybody may ask it."""
    import boto3
    import s3fs

    given = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_url, **given)
    client.create_bucket(Bucket="public")
    client.put_object(Bucket="public", Key="a.txt", Body=b"for all", ACL="public-read")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()  # it remembers the credentials that it was made with
    (file,) = listing("s3://public", access)
    assert fetch(file, access).read_bytes() == b"for all"


def test_a_package_that_is_not_there_is_named(access: Access, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(DataError, match=r"pip install 'telos-lm\[cloud\]'"):
        listing("s3://bucket/a", access)

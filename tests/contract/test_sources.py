"""The contract of sources, checked on every file of `src/telos/data/sources/`."""

import gzip
import html
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from telos.data import sources
from telos.data.sources._base import Source
from telos.errors import DataError
from telos.find import find, names
from tests.contract.world import DOCUMENTS

NAMES = names(sources)
DOCS = Path(__file__).parents[2] / "docs"


def _text(path: Path, texts: tuple[str, ...]) -> None:
    path.mkdir()
    for number, text in enumerate(texts):
        (path / f"{number}.txt").write_bytes(text.encode())


def _jsonl(path: Path, texts: tuple[str, ...]) -> None:
    import json

    path.mkdir()
    (path / "all.jsonl").write_bytes(
        b"".join(json.dumps({"text": t}, ensure_ascii=False).encode() + b"\n" for t in texts)
    )


def _parquet(path: Path, texts: tuple[str, ...]) -> None:
    arrow, table = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.mkdir()
    table.write_table(arrow.table({"text": list(texts)}), path / "all.parquet")


def _arrow(path: Path, texts: tuple[str, ...]) -> None:
    arrow, ipc = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.ipc")
    path.mkdir()
    table = arrow.table({"text": list(texts)})
    with ipc.new_file(path / "all.arrow", table.schema) as out:
        out.write_table(table, max_chunksize=10)


def _csv(path: Path, texts: tuple[str, ...]) -> None:
    import csv

    path.mkdir()
    with (path / "all.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])


def _html(path: Path, texts: tuple[str, ...]) -> None:
    pytest.importorskip("selectolax")
    path.mkdir()
    for number, text in enumerate(texts):
        (path / f"{number}.html").write_bytes(f"<pre>{html.escape(text)}</pre>".encode())


def _archive(path: Path, texts: tuple[str, ...]) -> None:
    path.mkdir()
    with zipfile.ZipFile(path / "all.zip", "w") as archive:
        for number, text in enumerate(texts):
            archive.writestr(f"folder/{number}.txt", text)


def _warc(path: Path, texts: tuple[str, ...]) -> None:
    path.mkdir()
    with (path / "all.warc").open("wb") as file:
        for number, text in enumerate(texts):
            head = f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: <urn:{number}>\r\n"
            head += f"Content-Length: {len(text.encode())}\r\nContent-Type: text/plain\r\n\r\n"
            file.write(f"{head}{text}\r\n\r\n".encode())


WRITERS: dict[str, Callable[[Path, tuple[str, ...]], None]] = {
    "text": _text,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "arrow": _arrow,
    "csv": _csv,
    "html": _html,
    "archive": _archive,
    "warc": _warc,
}
"""How to write texts in each format; a source without a line here must bring its own text, or be `TOLD`."""
TOLD = ("pairs", "huggingface")
"""Sources that no suffix tells, so that a recipe must: tests/data/test_tables.py."""


def source(name: str) -> Source:
    return find(sources, name, Source)()


def read(name: str, path: Path | None) -> list[str]:
    made = source(name)
    return [document.text for file in made.files(path) for document in made.documents(file)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("page", ["sources.md", "zh/sources.md"])
def test_it_has_a_row_in_the_table_of_the_docs(name: str, page: str) -> None:
    assert f"| `{name}` |" in (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_files_or_brings_its_own(name: str) -> None:
    assert (name in WRITERS) == bool(source(name).suffixes)


@pytest.mark.parametrize("name", [name for name in NAMES if name in WRITERS])
def test_every_text_comes_back_in_order(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "in", DOCUMENTS)
    same = str.strip if name == "html" else str  # a page's white space at the edges is not its text
    assert read(name, tmp_path / "in") == list(map(same, DOCUMENTS))
    assert read(name, tmp_path / "in") == read(name, tmp_path / "in")


@pytest.mark.parametrize("name", [name for name in NAMES if name in WRITERS])
def test_ids_tell_documents_apart_within_a_file(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "in", DOCUMENTS)
    made = source(name)
    for file in made.files(tmp_path / "in"):
        ids = [document.id for document in made.documents(file)]
        assert len(ids) == len(set(ids)) and all(ids)


@pytest.mark.parametrize("name", [name for name in NAMES if name in WRITERS])
def test_an_empty_file_holds_nothing_or_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"empty{source(name).suffixes[0]}"
    path.touch()
    try:
        assert "".join(document.text for document in source(name).documents(path)) == ""
    except DataError as error:
        assert "empty" in str(error)


@pytest.mark.parametrize("name", [name for name in NAMES if name in WRITERS])
def test_rubbish_is_named_or_kept_never_dropped_in_silence(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"rubbish{source(name).suffixes[0]}"
    path.write_bytes(b"\x80\x00rubbish\xff\xfe" * 9)
    try:
        kept = "".join(document.text for document in source(name).documents(path))
        assert "rubbish" in kept
    except DataError as error:
        assert str(path) in str(error) or path.name in str(error)


@pytest.mark.parametrize("name", [name for name in NAMES if name in WRITERS])
def test_compressed_files_say_the_same(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "in", DOCUMENTS[1:2])
    plain = next((tmp_path / "in").iterdir())
    packed = tmp_path / f"{plain.name}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [document.text for document in source(name).documents(packed)] == [DOCUMENTS[1]]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*WRITERS, *TOLD)])
def test_embedded_text_is_there_and_always_the_same(name: str) -> None:
    made = source(name)
    files = made.files(None)
    assert files == source(name).files(None) and len(files) > 100
    texts = [document.text for file in files[:20] for document in made.documents(file)]
    assert len(texts) >= 20 and sum(map(len, texts)) > 10_000

"""The contract of sources, checked on every file of `src/telos/data/sources/`."""

import gzip
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


WRITERS: dict[str, Callable[[Path, tuple[str, ...]], None]] = {
    "text": _text,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
"""How to write texts in each format; a source without a line here must bring its own text."""


def source(name: str) -> Source:
    return find(sources, name, Source)()


def read(name: str, path: Path | None) -> list[str]:
    made = source(name)
    return [document.text for file in made.files(path) for document in made.documents(file)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("page", ["data.md", "zh/data.md"])
def test_it_has_a_row_in_the_table_of_the_docs(name: str, page: str) -> None:
    assert f"| `{name}` |" in (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_files_or_brings_its_own(name: str) -> None:
    assert (name in WRITERS) == bool(source(name).suffixes)


@pytest.mark.parametrize("name", [name for name in NAMES if name in WRITERS])
def test_every_text_comes_back_in_order(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "in", DOCUMENTS)
    assert read(name, tmp_path / "in") == list(DOCUMENTS)
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
    path.write_bytes(b"\xff\xfe\x00rubbish\x80" * 9)
    try:
        kept = "".join(document.text for document in source(name).documents(path))
        assert "rubbish" in kept
    except DataError as error:
        assert str(path) in str(error) or path.name in str(error)


@pytest.mark.parametrize("name", [name for name in NAMES if name in ("text", "jsonl")])
def test_compressed_files_say_the_same(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "in", DOCUMENTS[:1])
    plain = next((tmp_path / "in").iterdir())
    packed = tmp_path / f"{plain.name}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert [document.text for document in source(name).documents(packed)] == [DOCUMENTS[0]]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WRITERS])
def test_embedded_text_is_there_and_always_the_same(name: str) -> None:
    made = source(name)
    files = made.files(None)
    assert files == source(name).files(None) and len(files) > 100
    texts = [document.text for file in files[:20] for document in made.documents(file)]
    assert len(texts) >= 20 and sum(map(len, texts)) > 10_000

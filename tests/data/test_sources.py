"""Sources: no record is lost, cut or invented; what cannot be read is named with its line."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.data import sources
from telos.data.sources import _base
from telos.data.sources._base import Source
from telos.data.sources.jsonl import JsonLines
from telos.data.sources.parquet import Parquet
from telos.data.sources.python_library import PythonLibrary
from telos.data.sources.text import Text
from telos.errors import DataError
from telos.find import find, names


def texts(source: Source, path: Path) -> list[str]:
    return [document.text for document in source.documents(path)]


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", names(sources))
def test_every_source_is_one_class_with_suffixes_of_its_own(name):
    kind = find(sources, name, Source)
    others = [find(sources, other, Source) for other in names(sources) if other != name]
    assert not set(kind.suffixes) & {suffix for other in others for suffix in other.suffixes}
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in kind.suffixes)


# ---- JSON lines


@given(
    records=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5),
    ascii_only=st.booleans(),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
    mark=st.booleans(),
)
def test_json_lines_come_back(records, ascii_only, end, last, mark, tmp_path_factory):
    """Trap 49: any text in a string, CRLF, byte order mark, no final newline: all is preserved."""
    lines = [json.dumps({"text": text}, ensure_ascii=ascii_only).encode() for text in records]
    data = (b"\xef\xbb\xbf" if mark else b"") + end.join(lines) + (end if last else b"")
    path = put(tmp_path_factory.mktemp("jsonl") / "a.jsonl", data)
    assert texts(JsonLines(), path) == records


def test_json_lines_are_cut_at_line_feeds_only(tmp_path):
    """Trap 49: U+0085, U+2028, U+2029, VT and U+FEFF inside strings are text, not line ends."""
    inside = "a\u0085b\u2028c\u2029d\ufeffe"
    path = put(tmp_path / "a.jsonl", json.dumps({"text": inside}, ensure_ascii=False).encode() + b"\n" * 3)
    assert texts(JsonLines(), path) == [inside]
    vertical = put(tmp_path / "b.jsonl", b'{"text": "a\\u000bb"}\n\n  \n{"text": "c"}')
    assert texts(JsonLines(), vertical) == ["a\x0bb", "c"]


def test_lone_surrogates_and_bad_bytes_reach_cleaning(tmp_path):
    """Trap 49: they are neither dropped nor a crash; cleaning decides."""
    path = put(tmp_path / "a.jsonl", b'{"text": "a\\ud800b"}\n{"text": "c\xffd"}\n{"text": "\\ud83d\\ude00"}')
    assert texts(JsonLines(), path) == ["a\ud800b", "c\udcffd", "😀"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', r"a\.jsonl:2: not a JSON object: .* column"),
        (b'{"text": "a"} {"text": "b"}', r"a\.jsonl:2: .*Extra data"),
        (b'["a"]', r"a\.jsonl:2: this is a list, not an object"),
        (
            b'{"body": "a", "id": 1}',
            r"a\.jsonl:2: there is no 'text'; there are: 'body', 'id'.*data\.text_key",
        ),
        (b'{"text": 5}', r"a\.jsonl:2: 'text' is an integer; it must be a string"),
        (b'{"text": {"a": 1}}', r"a\.jsonl:2: 'text' is an object"),
        (b'{"text": ["a", 5]}', r"a\.jsonl:2: 'text' is a list"),
        (b"[" * 100_000, r"a\.jsonl:2: not a JSON object: nested too deeply"),
    ],
)
def test_a_bad_line_is_named(line, message, tmp_path):
    path = put(tmp_path / "a.jsonl", b'{"text": "good"}\n' + line + b"\n")
    with pytest.raises(DataError, match=message):
        texts(JsonLines(), path)


def test_lists_of_lines_null_and_further_keys(tmp_path):
    path = put(
        tmp_path / "a.jsonl",
        b'{"lines": ["a", "b"], "label": 1, "target": "t"}\n'
        b'{"lines": null}\n{"lines": [], "language": "zh"}\n',
    )
    documents = list(JsonLines(text_key="lines").documents(path))
    assert [d.text for d in documents] == ["a\nb", "", ""]
    assert (documents[0].label, documents[0].target, documents[2].language) == ("1", "t", "zh")
    assert [d.id for d in documents] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_records(data, tmp_path):
    """Trap 49."""
    assert texts(JsonLines(), put(tmp_path / "a.jsonl", data)) == []


def test_utf16_is_named_with_the_cure(tmp_path):
    for suffix, source in ((".txt", Text()), (".jsonl", JsonLines())):
        path = put(tmp_path / f"a{suffix}", '{"text": "a"}\n'.encode("utf-16"))
        with pytest.raises(DataError, match=r"UTF-16, not UTF-8\. Convert it: iconv"):
            texts(source, path)


# ---- compression


def _compressed(data: bytes) -> dict[str, bytes]:
    import zstandard

    packed = {".gz": gzip.compress(data), ".xz": lzma.compress(data), ".bz2": bz2.compress(data)}
    return {**packed, ".zst": zstandard.ZstdCompressor().compress(data)}


@pytest.mark.parametrize("suffix", _base.COMPRESSIONS)
def test_compressed_files_read_the_same(suffix, tmp_path):
    data = b'{"text": "\xe6\x98\x8e"}\n' * 500
    path = put(tmp_path / f"a.JSONL{suffix}", _compressed(data)[suffix])
    assert _base.plain_suffix(path) == ".jsonl"
    assert texts(JsonLines(), path) == ["明"] * 500
    two = put(tmp_path / f"b.txt{suffix}", _compressed(b"first\n")[suffix] + _compressed(b"second\n")[suffix])
    assert texts(Text(), two) == ["first\nsecond\n"]


@pytest.mark.parametrize("suffix", _base.COMPRESSIONS)
def test_a_damaged_compressed_file_is_named(suffix, tmp_path):
    whole = _compressed(bytes(range(256)) * 400)[suffix]
    path = put(tmp_path / f"a.txt{suffix}", whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.txt.*damaged or cut short"):
        texts(Text(), path)
    with pytest.raises(DataError, match="damaged or cut short"):
        texts(Text(), put(path, b"this is not compressed at all"))


@pytest.mark.parametrize("suffix", _base.COMPRESSIONS)
def test_a_decompression_bomb_is_refused(suffix, tmp_path, monkeypatch):
    """Trap 54: by what it expands to, long before it is in memory."""
    monkeypatch.setattr(_base, "EXPANSION_FREE", 1 << 20)
    path = put(tmp_path / f"a.jsonl{suffix}", _compressed(b" \n" * (1 << 22))[suffix])
    with pytest.raises(DataError, match="decompression bomb"):
        texts(JsonLines(), path)


def test_an_endless_line_is_refused(tmp_path, monkeypatch):
    """Trap 54: a line is in memory whole, so its length is limited; the error names it."""
    monkeypatch.setattr(_base, "LONGEST_LINE", 1000)
    path = put(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "' + b"b" * 2000 + b'"}')
    with pytest.raises(DataError, match=r"a\.jsonl:2: longer than 1,000 bytes"):
        texts(JsonLines(), path)


# ---- text


def test_a_file_is_a_document(tmp_path):
    path = put(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\r\ntwo\n")
    assert texts(Text(), path) == ["\ufeffone\r\n\r\ntwo\n"]
    assert texts(Text(), put(tmp_path / "empty.txt", b"")) == []


@given(
    text=st.text(st.sampled_from("ab \n\r月👍"), max_size=200),
    bad=st.booleans(),
    limit=st.integers(8, 50),
)
def test_a_long_file_comes_in_parts_of_whole_characters(text, bad, limit, tmp_path_factory):
    """Traps 49 and 54: parts add up to the file, keep to the limit, and cut no character."""
    data = text.encode() + b"\xff" * bad + text.encode()
    path = put(tmp_path_factory.mktemp("text") / "a.txt", data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_base, "LONGEST_TEXT", limit)
        documents = list(Text().documents(path))
    assert "".join(d.text for d in documents) == data.decode("utf-8", "surrogateescape")
    assert all(len(d.text.encode("utf-8", "surrogateescape")) <= limit for d in documents)
    assert len({d.id for d in documents}) <= 1
    if not bad:
        assert all(d.text.isprintable() or d.text.encode() for d in documents)


def test_a_pattern_begins_documents_and_loses_nothing(tmp_path):
    data = b" \n = One = \n \n text = 5 \n = = Sub = = \n = Two = \n last"
    path = put(tmp_path / "a.txt", data)
    documents = list(Text(document_start="^ = [^=]+ = $").documents(path))
    assert [d.text for d in documents] == [" \n = One = \n \n text = 5 \n = = Sub = = \n", " = Two = \n last"]
    assert [d.id for d in documents] == ["a.txt:1", "a.txt:6"]
    marked = put(tmp_path / "b.txt", b"\xef\xbb\xbf# A\r\nx\r\n# B\r\n")
    assert texts(Text(document_start="^# .$"), marked) == ["\ufeff# A\r\nx\r\n", "# B\r\n"]


# ---- Parquet


def _table(path: Path, columns: dict) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_parquet_rows_are_documents(tmp_path):
    rows = {"text": [f"row {i} 月" for i in range(3000)], "label": list(range(3000)), "other": [0.5] * 3000}
    documents = list(Parquet().documents(_table(tmp_path / "a.parquet", rows)))
    assert [d.text for d in documents] == rows["text"]
    assert (documents[7].label, documents[7].id) == ("7", "a.parquet:8")
    lines = _table(tmp_path / "b.parquet", {"lines": [["a", "b"], None]})
    assert texts(Parquet(text_key="lines"), lines) == ["a\nb", ""]


def test_parquet_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no 'text'; there are: 'body'"):
        texts(Parquet(), _table(tmp_path / "a.parquet", {"body": ["x"]}))
    with pytest.raises(DataError, match=r"b\.parquet: not a Parquet file"):
        texts(Parquet(), put(tmp_path / "b.parquet", b"nonsense"))


# ---- the standard library


def test_the_python_library_is_source_that_people_wrote():
    source = PythonLibrary()
    files = source.files(None)
    assert len(files) > 300
    names_ = {file.name for file in files}
    assert {"argparse.py", "json", "asyncio"} & names_ == {"argparse.py"}
    parts = {part for file in files for part in file.parts}
    assert not {"test", "idle_test", "site-packages", "__pycache__", "encodings", "pydoc_data"} & parts
    argparse = next(file for file in files if file.name == "argparse.py")
    assert "class ArgumentParser" in texts(source, argparse)[0]
    assert files == source.files(None)


def test_a_python_without_its_library_is_named(tmp_path):
    with pytest.raises(DataError, match="no standard library"):
        PythonLibrary().files(tmp_path)


# ---- walking


def test_folders_are_walked_in_order_and_links_in_circles_end(tmp_path):
    for name in ("b/2.txt", "b/10.txt", "a.txt", "b.txt", ".hidden/x.txt", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "b" / "circle").symlink_to(tmp_path)
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    found = [file.relative_to(tmp_path).as_posix() for file in _base.walk(tmp_path)]
    assert found == ["a.txt", "b/10.txt", "b/2.txt", "b.txt"]


def test_what_came_out_of_a_text_is_not_text_to_learn_from(tmp_path):
    """A run beside the text, with its samples and its card, is left out."""
    for name in ("a.txt", "runs/one/recipe.toml", "runs/one/card.json", "runs/one/samples.txt", "runs/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "runs/prepared/key/train").mkdir(parents=True)
    (tmp_path / "runs/prepared/key/whole.json").write_text("{}")
    (tmp_path / "runs/prepared/key/card.md").write_text("x")
    assert [file.name for file in _base.walk(tmp_path)] == ["a.txt", "b.txt"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"the folder cannot be read: Permission denied"):
        _base.walk(tmp_path)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        _base.walk(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be read"):
        texts(Text(), tmp_path / "nothing.txt")

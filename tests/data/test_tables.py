"""Sources whose documents are rows: CSV, TSV, Arrow, data sets of the hub, pairs of files; chunks."""

import io
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.data.sources import _base, _chunks, huggingface
from telos.data.sources.arrow import Arrow
from telos.data.sources.csv import Csv
from telos.data.sources.huggingface import HuggingFace
from telos.data.sources.jsonl import JsonLines
from telos.data.sources.pairs import Pairs
from telos.data.sources.parquet import Parquet
from telos.errors import DataError


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def texts(source, path) -> list[str]:
    return [document.text for document in source.documents(path)]


# ---- CSV


@given(
    rows=st.lists(
        st.tuples(st.text(st.sampled_from('ab,"\n\r\t月 '), min_size=1), st.text(max_size=9)), max_size=4
    ),
    mark=st.booleans(),
)
def test_whatever_is_written_as_csv_comes_back(rows, mark, tmp_path_factory):
    """RFC 4180: commas, quotes and line ends in quotes are text."""
    import csv as library

    rows = [[text.encode("utf-8", "replace").decode() for text in row] for row in rows]
    out = io.StringIO(newline="")
    library.writer(out, quoting=library.QUOTE_ALL).writerows([["text", "label"], *rows])
    data = (b"\xef\xbb\xbf" if mark else b"") + out.getvalue().encode()
    documents = list(Csv().documents(put(tmp_path_factory.mktemp("csv") / "a.csv", data)))
    assert [[d.text, d.label or ""] for d in documents] == rows  # an empty cell is no class


def test_rows_are_named_by_the_line_they_begin_on(tmp_path):
    path = put(tmp_path / "a.csv", 'title,text\r\n静夜思,"床前明月光,\n疑是地上霜"\r\n\r\nTwo,cats'.encode())
    found = [(d.text, d.id) for d in Csv().documents(path)]
    assert found == [("床前明月光,\n疑是地上霜", "a.csv:2"), ("cats", "a.csv:5")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'text,label\n"a",1\nb\n', r"a\.csv:3: 1 values in 2 columns \('text', 'label'\)"),
        (b'text\n"a" b\n', r"a\.csv:2: not a row of CSV"),
        (b'text\nx\n"a\n\nb\n', r"a\.csv:3: .*a quote is opened and never closed \(read until line 5\)"),
        (b"body,label\na,1\n", r"there is no 'text'; there are: 'body', 'label'.*data\.text_key"),
        (b"0,0,1\n1,2,3\n", r"a\.csv:1: two columns are called '0'.*data\.columns"),
    ],
)
def test_a_bad_row_is_named(data, message, tmp_path):
    with pytest.raises(DataError, match=message):
        texts(Csv(), put(tmp_path / "a.csv", data))


def test_giant_values_are_named_and_bounded(tmp_path, monkeypatch):
    """Trap 54: a quote that is never closed does not swallow the file; a line does not end up in memory."""
    monkeypatch.setattr(_base, "LONGEST_TEXT", 1000)
    open_quote = put(tmp_path / "a.csv", b'text\nx\n"' + b"b\n" * 2000)
    with pytest.raises(DataError, match=r"a\.csv:3: .*a value of more than 1,000 characters \(read until"):
        texts(Csv(), open_quote)
    for name in ("b.csv", "b.tsv"):
        with pytest.raises(DataError, match=rf"{name}:2: longer than 1,000 bytes"):
            texts(Csv(), put(tmp_path / name, b"text\n" + b"b" * 2000))


def test_bad_bytes_of_a_table_reach_cleaning(tmp_path):
    assert texts(Csv(), put(tmp_path / "a.csv", b'text\n"a\xff"\n\xe6\x9c\n')) == ["a\udcff", "\udce6\udc9c"]
    with pytest.raises(DataError, match="UTF-16"):
        texts(Csv(), put(tmp_path / "b.csv", "text\na\n".encode("utf-16")))


def test_tabs_end_values_and_quotes_are_quotes(tmp_path):
    path = put(tmp_path / "a.tsv", 'label\ttext\r\n1\t"He said\r\n\r\n0\t他说"好"\n'.encode())
    assert [(d.text, d.label, d.id) for d in Csv().documents(path)] == [
        ('"He said', "1", "a.tsv:2"),
        ('他说"好"', "0", "a.tsv:4"),
    ]


def test_columns_are_named_where_the_file_does_not(tmp_path):
    path = put(tmp_path / "a.tsv", "Hi.\t嗨。\tCC-BY\nRun.\t跑。\tCC-BY\n".encode())
    pairs = Csv(columns=("text", "target", "-")).documents(path)
    assert [(d.text, d.target) for d in pairs] == [("Hi.", "嗨。"), ("Run.", "跑。")]
    back = Csv(columns=("en", "zh", "-"), text_key="zh", target_key="en").documents(path)
    assert [(d.text, d.target) for d in back] == [("嗨。", "Hi."), ("跑。", "Run.")]
    with pytest.raises(DataError, match="there is no 'text'"):
        texts(Csv(columns=("a", "b", "c")), path)


def test_public_data_sets_read(data_folder):
    """Every example, by the counts that they are known for."""
    sst2 = list(Csv(columns=("text", "label")).documents(data_folder / "sst2" / "train.tsv"))
    assert len(sst2) == 6920 and {d.label for d in sst2} == {"0", "1"}
    reviews = list(Csv(text_key="text_a").documents(data_folder / "chnsenticorp" / "dev.tsv"))
    assert len(reviews) == 1200 and {d.label for d in reviews} == {"0", "1"}
    captions = data_folder / "multi30k-de-en"
    source = Pairs(pair=("de", "en"))
    counts = {f.name: sum(1 for _ in source.documents(f)) for f in source.files(captions)}
    assert (
        counts["val.de"] == 1014 and counts["test_2017_mscoco.de"] == 461 and counts["train.de.xz"] == 29000
    )
    crows = data_folder / "crows-pairs" / "crows_pairs_anonymized.csv"
    assert len(texts(Csv(text_key="sent_more"), crows)) == 1508


# ---- rows in general


def test_keys_lead_into_objects(tmp_path):
    line = {"translation": {"de": "Hund", "en": "dog"}, "class": 3, "a.b": "whole"}
    path = put(tmp_path / "a.jsonl", json.dumps(line).encode())
    made = JsonLines(text_key="translation.de", target_key="translation.en", label_key="class")
    (document,) = made.documents(path)
    assert (document.text, document.target, document.label) == ("Hund", "dog", "3")
    assert texts(JsonLines(text_key="a.b"), path) == ["whole"]
    with pytest.raises(DataError, match=r"there is no 'translation\.fr'"):
        texts(JsonLines(text_key="translation.fr"), path)
    table = _parquet(tmp_path / "a.parquet", [line])
    assert texts(Parquet(text_key="translation.de"), table) == ["Hund"]


# ---- pairs


def test_line_n_answers_line_n(tmp_path):
    put(tmp_path / "train.de", "\ufeffHund\r\n\nKatze".encode())
    put(tmp_path / "train.en.xz", lzma.compress(b"dog\n\ncat\n"))
    put(tmp_path / "README", b"no text")
    source = Pairs(pair=("de", "en"))
    (path,) = source.files(tmp_path)
    assert [(d.text, d.target, d.id) for d in source.documents(path)] == [
        ("Hund", "dog", "train.de:1"),
        ("", "", "train.de:2"),
        ("Katze", "cat", "train.de:3"),
    ]
    assert [file.name for file in source.reads(path)] == ["train.de", "train.en.xz"]


@pytest.mark.parametrize(("german", "english"), [(b"a\nb\nc\n", b"a\nb\n"), (b"a\nb", b"a\nb\nc")])
def test_files_of_unequal_length_are_named_with_both_counts(german, english, tmp_path):
    put(tmp_path / "x.de", german)
    put(tmp_path / "x.en", english)
    source = Pairs(pair=("de", "en"))
    counts = rf"x\.de has {len(german.split())} lines and .*x\.en has {len(english.split())}"
    with pytest.raises(DataError, match=counts):
        texts(source, tmp_path / "x.de")


def test_pairs_that_cannot_be_are_named(tmp_path):
    put(tmp_path / "x.de", b"a")
    for pair, message in (
        ((), r"data\.pair="),
        (("de",), r"data\.pair="),
        (("fr", "en"), "no file's name has the part 'fr'"),
        (("de", "en"), r"x\.de: there is no x\.en beside it"),
    ):
        with pytest.raises(DataError, match=message):
            Pairs(pair=pair).files(tmp_path)


# ---- Arrow


def _parquet(path: Path, rows: list, **given) -> Path:
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **given)
    return path


def _arrow(path: Path, rows: list, stream: bool = False) -> Path:
    import pyarrow.ipc

    table = pyarrow.Table.from_pylist(rows)
    new = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with path.open("wb") as file, new(file, table.schema) as out:
        out.write_table(table, max_chunksize=700)
    return path


@pytest.mark.parametrize("stream", [False, True])
def test_arrow_rows_are_documents(stream, tmp_path):
    rows = [{"text": f"row {i} 月", "label": i, "other": [0.5]} for i in range(3000)]
    documents = list(Arrow().documents(_arrow(tmp_path / "a.arrow", rows, stream)))
    assert [d.text for d in documents] == [row["text"] for row in rows]
    assert (documents[7].label, documents[7].id) == ("7", "a.arrow:8")
    assert len({d.id for d in documents}) == 3000


@pytest.mark.parametrize("stream", [False, True])
def test_arrow_that_cannot_be_read_is_named(stream, tmp_path):
    path = _arrow(tmp_path / "a.arrow", [{"text": "x" * 1000}] * 2000, stream)
    with pytest.raises(DataError, match=r"a\.arrow: not an Arrow file, or a damaged one"):
        texts(Arrow(), put(path, path.read_bytes()[:-1000]))
    with pytest.raises(DataError, match="there is no 'text'; there are: 'body'"):
        texts(Arrow(), _arrow(path, [{"body": "x"}], stream))
    with pytest.raises(DataError, match="Feather of version 1"):
        texts(Arrow(), put(tmp_path / "b.feather", b"FEA1" + bytes(20)))


# ---- data sets of the hub


def _saved(folder: Path, shards: int = 1) -> Path:
    import datasets

    made = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(50)], "label": [0, 1] * 25})
    datasets.DatasetDict({"train": made, "validation": made.select([3])}).save_to_disk(
        folder, num_shards={"train": shards, "validation": 1}
    )
    return folder


def test_a_saved_data_set_reads_in_the_order_of_its_rows(tmp_path):
    folder = _saved(tmp_path / "set", shards=3)
    (folder / "train" / "cache-123.arrow").write_bytes(b"left behind by a map")
    for where, count in ((folder, 51), (folder / "train", 50), (folder / "validation", 1)):
        source = HuggingFace()
        found = [d for file in source.files(where) for d in source.documents(file)]
        assert len(found) == count
    assert [d.text for d in found] == ["text 3"] and found[0].label == "1"
    train = [text for file in HuggingFace().files(folder / "train") for text in texts(HuggingFace(), file)]
    assert train == [f"text {i}" for i in range(50)]


def test_a_saved_data_set_that_leads_out_of_its_folder_is_refused(tmp_path):
    folder = _saved(tmp_path / "set") / "train"
    state = json.loads((folder / "state.json").read_text())
    for name in ("../validation/data-00000-of-00001.arrow", "gone.arrow"):
        state["_data_files"] = [{"filename": name}]
        (folder / "state.json").write_text(json.dumps(state))
        with pytest.raises(DataError, match=r"names '.*', which is not there"):
            HuggingFace().files(folder)


def test_what_the_hub_has_is_streamed_in_chunks(tmp_path, monkeypatch):
    """By the library's own way, from a folder here instead of the hub."""
    folder = tmp_path / "set"
    folder.mkdir()
    for part in range(3):
        _parquet(folder / f"train-{part}.parquet", [{"text": f"{part}.{i}"} for i in range(4)])
    library = huggingface.streamed
    monkeypatch.setattr(huggingface, "streamed", lambda id, split, *rest: library(str(folder), split))
    monkeypatch.setattr(huggingface, "_revision", lambda id, wanted: wanted or "0123abc")
    source = HuggingFace()
    (path,) = source.files(Path("owner/name"))
    assert path.as_posix() == "owner/name@0123abc:train" and source.reads(path) == ()
    assert source.files(Path("owner/name@v1:test"))[0].as_posix() == "owner/name@v1:test"
    whole = texts(source, path)
    assert whole == [f"{part}.{i}" for part in range(3) for i in range(4)]
    chunks = source.chunks(path)
    parts = [d for chunk in chunks for d in source.documents(path, chunk)]
    assert len(chunks) == 3 and [d.text for d in parts] == whole and len({d.id for d in parts}) == 12


def test_a_data_set_that_is_nowhere_is_named(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="neither a folder here nor a data set on the hub"):
        HuggingFace().files(tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(DataError, match=r"no \.parquet or \.arrow file"):
        HuggingFace().files(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"owner/name: there is no such folder here, and the hub .* give its"):
        HuggingFace().files(Path("owner/name"))


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'telos-lm\[hf\]'"):
        huggingface.streamed("owner/name", "train")


# ---- chunks


@given(
    lines=st.lists(st.text(st.sampled_from('ab月"\u2028\udcff'), max_size=30), max_size=40),
    size=st.integers(1, 200),
    block=st.integers(1, 64),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_chunks_of_lines_are_the_file(lines, size, block, end, last, tmp_path_factory):
    """Trap 49: whatever the sizes, no line is lost, cut in two or read twice, and all keep their numbers."""
    data = end.join(json.dumps({"text": text}, ensure_ascii=False) for text in lines) + end * last
    raw = data.encode("utf-8", "surrogateescape")  # with bytes that are no UTF-8, at borders too
    path = put(tmp_path_factory.mktemp("chunks") / "a.jsonl", raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_chunks, "CHUNK", size)
        patch.setattr(_chunks, "_BLOCK", block)
        chunks = JsonLines().chunks(path)
    parts = [d for chunk in chunks for d in JsonLines().documents(path, chunk)]
    whole = list(JsonLines().documents(path))
    assert (parts == whole) or not chunks
    if chunks:
        assert [c.begin for c in chunks[1:]] == [c.end for c in chunks[:-1]]
        assert (chunks[0].begin, chunks[-1].end) == (0, len(raw))


def outcome(source, path, chunks=(None,)) -> tuple[list, str]:
    """The documents of a file, read in one or in chunks, and what stopped the reading."""
    found = []
    try:
        for chunk in chunks:
            found += source.documents(path, chunk)
    except DataError as error:
        return found, str(error)
    return found, ""


def check_every_border(source, path, sizes) -> int:
    """Read in chunks of every size: nothing is lost, doubled or called otherwise. How many chunks there were
    at most."""
    whole, most = outcome(source, path), 0
    for size in sizes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_chunks, "CHUNK", size)
            chunks = source.chunks(path)
        assert outcome(source, path, chunks or (None,)) == whole
        most = max(most, len(chunks))
    return most


NASTY = (
    "text,label\n",
    "\ufefftext,label\r\n",
    '\n\r\n"te\nxt","la""bel"\n',
    'a,"b\n"\n',
    '"a,\n""b"",\n",c\r\n',
    '"",""\n',
    '"""",\n',
    '"""\n",""""""\n',
    '5" pipe,6" pipe\n',
    'say ""hi,x\n',
    '\ufeff"a\nb",c\n',
    f'{chr(0x10FFF0)}"a\nb",c\n',
    f'a,"{chr(0x10FFF1)}"\n',
    "月,\udcff\n",
    "\r\n",
    ",\n",
)
"""Rows of CSV as they can be: line ends and quotes in quotes, quotes that stand for themselves, marks."""
WRONG = ('"a"b,c\n', '"never closed,\n', "a,b,c\n", "a\rb,c\n", '"a"\n"b",\n', '"a""b\n')


def test_chunks_of_csv_are_the_file_wherever_it_could_be_cut(tmp_path):
    """Trap 49: a line end in quotes is no border, and a quote that stands for itself opens nothing."""
    rows = [row for row in NASTY if not row.startswith('\ufeff"')]
    source = Csv(columns=("text", "label"))
    for again in (rows, rows[::-1], rows[::2] + rows[1::2], ['\ufeff"a\nb",c\n', *rows]):
        raw = "".join(again).encode("utf-8", "surrogateescape")
        path = put(tmp_path / "a.csv", raw)
        assert check_every_border(source, path, range(len(raw))) > len(again)
        assert len(texts(source, path)) == len(again) - 1  # one is a blank line


@given(
    rows=st.lists(st.sampled_from(NASTY), max_size=9),
    wrong=st.sampled_from(("", "", *WRONG)),
    after=st.lists(st.sampled_from((*NASTY, *WRONG)), max_size=3),
    last=st.sampled_from(("", "a,b", '"a\nb",c')),
    block=st.sampled_from((1, 5, 1 << 20)),
    size=st.integers(1, 60),
    named=st.booleans(),
)
def test_what_cannot_be_read_is_refused_in_the_same_words(
    rows, wrong, after, last, block, size, named, tmp_path_factory
):
    text = "text,label\n" * (not named) + "".join([*rows, wrong, *after, last])
    path = put(tmp_path_factory.mktemp("chunks") / "a.csv", text.encode("utf-8", "surrogateescape"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_chunks, "_BLOCK", block)
        check_every_border(Csv(columns=("text", "label") if named else ()), path, [0, size])


@given(text=st.text(st.sampled_from('a,"\n\r\ufeff\U0010fff0'), max_size=40))
def test_chunks_of_any_characters_as_csv_are_the_file(text, tmp_path_factory):
    raw = text.encode()
    path = put(tmp_path_factory.mktemp("chunks") / "a.csv", raw)
    check_every_border(Csv(columns=("text",)), path, [0, 3, len(raw) // 2])


def test_every_row_can_be_a_chunk_of_its_own(tmp_path):
    """The first row names the columns of all of them, and is a document of none."""
    rows = "".join(f'"row {i}\n\n""quoted"", and so on",{i}\n' for i in range(40))
    path = put(tmp_path / "a.csv", b'text,"label"\n' + rows.encode())
    assert check_every_border(Csv(), path, [0, 1, 100]) == 41
    assert len(texts(Csv(), path)) == 40
    path = put(tmp_path / "a.tsv", b'label\ttext\n\n1\t"a\n2\tb"\n\n3\tc')
    assert check_every_border(Csv(), path, range(30)) == 6
    assert [d.text for d in Csv().documents(path)] == ['"a', 'b"', "c"]


@pytest.mark.parametrize("codec", [None, "lz4"])
def test_chunks_of_arrow_are_runs_of_its_batches(codec, tmp_path):
    import pyarrow.ipc

    table = pyarrow.Table.from_pylist([{"text": f"row {i} 月", "label": str(i % 7)} for i in range(2500)])
    table = table.set_column(1, "label", table["label"].dictionary_encode())
    (batch,) = table.combine_chunks().to_batches()
    path, begin = tmp_path / "a.arrow", 0
    options = pyarrow.ipc.IpcWriteOptions(compression=codec)
    with pyarrow.ipc.new_file(path, batch.schema, options=options) as out:
        for rows in (100, 0, 1000, 1, 399, 1000):
            out.write_batch(batch.slice(begin, rows))
            begin += rows
    size = path.stat().st_size
    assert check_every_border(Arrow(), path, [0, size // 6, size // 3, size // 2, size - 1]) == 6
    assert check_every_border(Arrow(), path, [size // 2]) < 6
    assert len(texts(Arrow(), path)) == 2500


def test_a_stream_of_arrow_is_read_whole(tmp_path, monkeypatch):
    path = _arrow(tmp_path / "a.arrow", [{"text": f"row {i}"} for i in range(2000)], stream=True)
    monkeypatch.setattr(_chunks, "CHUNK", 100)
    assert Arrow().chunks(path) == [] and len(texts(Arrow(), path)) == 2000


def test_chunks_of_parquet_are_its_groups(tmp_path):
    rows = [{"text": f"row {i}"} for i in range(2500)]
    path = _parquet(tmp_path / "a.parquet", rows, row_group_size=1100)
    chunks = Parquet().chunks(path)
    assert [chunk.first for chunk in chunks] == [1, 1101, 2201]
    parts = [d for chunk in reversed(chunks) for d in Parquet().documents(path, chunk)]
    assert sorted(parts, key=lambda d: int(d.id[10:])) == list(Parquet().documents(path))


def test_compressed_files_are_one_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(_chunks, "CHUNK", 10)
    path = put(tmp_path / "a.jsonl.xz", lzma.compress(b'{"text": "a"}\n' * 100))
    assert JsonLines().chunks(path) == Csv().chunks(path) == Arrow().chunks(path) == []


@pytest.mark.parametrize("kind", [Parquet, Arrow])
def test_compressed_tables_are_read_within_limits(kind, tmp_path, monkeypatch):
    write = _parquet if kind is Parquet else _arrow
    plain = write(tmp_path / f"a{kind.suffixes[0]}", [{"text": "x" * 50}] * 100)
    packed = put(tmp_path / f"a{kind.suffixes[0]}.xz", lzma.compress(plain.read_bytes()))
    assert texts(kind(), packed) == texts(kind(), plain)
    monkeypatch.setattr(_base, "LARGEST_TABLE", 100)
    with pytest.raises(DataError, match="more than 100 bytes that are compressed"):
        texts(kind(), packed)

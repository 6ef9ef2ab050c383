"""Shards: what is written comes back, at every width; what is damaged is refused by name."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.data.shards import Shards, ShardWriter
from telos.errors import DataError


def write(folder: Path, documents, size: int = 1000, columns=(), rows=()) -> Shards:
    writer = ShardWriter(folder, "hash", size, columns)
    for index, ids in enumerate(documents):
        writer.add(np.asarray(ids, np.int64), bytes=3 * len(ids), **(rows[index] if rows else {}))
    writer.close()
    return Shards(folder)


@given(documents=st.lists(st.lists(st.integers(0, 999), max_size=20), max_size=8))
def test_documents_come_back(documents, tmp_path_factory):
    shards = write(tmp_path_factory.mktemp("shards"), documents)
    assert [shards.document(i).tolist() for i in range(len(shards))] == documents
    assert shards.lengths.tolist() == [len(ids) for ids in documents]
    assert shards.text_bytes.tolist() == [3 * len(ids) for ids in documents]
    assert shards.header.tokens == len(shards.ids) == sum(map(len, documents))
    shards.verify()


@pytest.mark.parametrize("size", [255, 65_535, 65_536, 65_537, 300_000])
def test_vocabulary_sizes_round_trip(size, tmp_path):
    """Trap 48: the largest ids survive, and the header says how wide they are."""
    ids = [0, 1, size - 2, size - 1]
    shards = write(tmp_path, [ids], size)
    assert shards.document(0).tolist() == ids
    assert json.loads((tmp_path / "header.json").read_text())["dtype"] == shards.ids.dtype.name
    assert np.iinfo(shards.ids.dtype).max >= size - 1


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 200_000])
def test_document_lengths_round_trip(length, tmp_path):
    """Trap 48: a length does not wrap around."""
    shards = write(tmp_path, [[7] * length, [8]])
    assert shards.lengths.tolist() == [length, 1]
    assert shards.document(1).tolist() == [8]
    assert len(shards.document(0)) == length


def test_offsets_beyond_thirty_two_bits(tmp_path):
    """Trap 48: places past 2³¹, simulated by a file with a hole in it."""
    write(tmp_path, [[1, 2], [3, 4, 5]])
    long = 2**31 + 11
    np.array([0, long, long + 3], np.int64).tofile(tmp_path / "offsets.bin")
    with (tmp_path / "ids.bin").open("r+b") as file:
        file.truncate(2 * long)
        file.seek(2 * long)
        file.write(np.array([3, 4, 5], np.uint16).tobytes())
    header = json.loads((tmp_path / "header.json").read_text())
    header["tokens"], header["files"]["ids.bin"]["bytes"] = long + 3, 2 * (long + 3)
    (tmp_path / "header.json").write_text(json.dumps(header))
    shards = Shards(tmp_path)
    assert shards.lengths.tolist() == [long, 3]
    assert shards.document(1).tolist() == [3, 4, 5]
    assert int(shards.lengths.sum()) == long + 3


@pytest.mark.parametrize("ids", [[1000], [0, 5000], [-1]])
def test_an_id_outside_the_vocabulary_is_never_written(ids, tmp_path):
    """Trap 48: caught at build, not in training."""
    writer = ShardWriter(tmp_path, "hash", 1000)
    with pytest.raises(AssertionError, match="in a vocabulary of 1000"):
        writer.add(np.array(ids), bytes=1)
    writer.abandon()


def test_columns_of_every_sort(tmp_path):
    rows = [
        {"word_start": np.array([True, False]), "target": np.array([5, 6, 7]), "label": 3},
        {"word_start": np.array([False]), "target": np.array([], np.int64), "label": -1},
    ]
    shards = write(tmp_path, [[1, 2], [3]], columns=("word_start", "target", "label"), rows=rows)
    assert shards.column("word_start", 0).tolist() == [True, False]
    assert shards.column("word_start", 0, slice(1, 2)).tolist() == [False]
    assert shards.column("target", 0).tolist() == [5, 6, 7]
    assert shards.column("target", 1).tolist() == []
    assert [int(shards.column("label", i)[0]) for i in (0, 1)] == [3, -1]


def test_columns_must_be_those_announced(tmp_path):
    with pytest.raises(AssertionError, match="unknown columns"):
        ShardWriter(tmp_path, "hash", 10, ("wordstart",))
    writer = ShardWriter(tmp_path, "hash", 10, ("label",))
    with pytest.raises(AssertionError, match="announced"):
        writer.add(np.array([1]), bytes=1)
    writer.abandon()


def test_an_empty_split(tmp_path):
    shards = write(tmp_path, [])
    assert len(shards) == 0
    assert shards.ids.size == shards.lengths.size == 0
    shards.verify()


def test_workers_map_the_files_again(tmp_path):
    shards = write(tmp_path, [[1, 2, 3]] * 1000)
    packed = pickle.dumps(shards)
    assert len(packed) < 1000
    assert pickle.loads(packed).document(999).tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["ids.bin", "offsets.bin", "text_bytes.bin"])
def test_a_flipped_byte_is_found(name, tmp_path):
    """Trap 47: by the digest in the header."""
    shards = write(tmp_path, [[1, 2, 3], [4]])
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}.*damaged.*prepare again"):
        shards.verify()


@pytest.mark.parametrize("name", ["ids.bin", "offsets.bin", "text_bytes.bin"])
def test_a_cut_or_missing_file_is_found_at_once(name, tmp_path):
    write(tmp_path, [[1, 2, 3], [4]])
    os.truncate(tmp_path / name, 2)
    with pytest.raises(DataError, match=rf"{name}.*it has 2 bytes"):
        Shards(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=rf"{name}.*missing"):
        Shards(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "this is format 99"),
        ({"dtype": "uint32"}, "uint32 is not the dtype of a vocabulary of 1000"),
        ({"tokens": 3}, "the header says 3 values"),
        ({"documents": 7}, "the header says 8 values"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(change, message, tmp_path):
    """Trap 48: the dtype is checked, not believed."""
    write(tmp_path, [[1, 2, 3], [4]])
    header = json.loads((tmp_path / "header.json").read_text()) | change
    (tmp_path / "header.json").write_text(json.dumps(header))
    with pytest.raises(DataError, match=message):
        Shards(tmp_path)


def test_a_missing_or_unreadable_header_is_refused(tmp_path):
    with pytest.raises(DataError, match="telos prepare"):
        Shards(tmp_path / "nothing")
    write(tmp_path, [[1]])
    (tmp_path / "header.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        Shards(tmp_path)

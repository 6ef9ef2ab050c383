"""Archives are read in place: no member writes a file, expands without end, or is lost without a word."""

import gzip
import io
import os
import stat
import struct
import tarfile
import threading
import tracemalloc
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.data.sources import _base, _members
from telos.data.sources._base import Source
from telos.data.sources.archive import Archive
from telos.data.sources.csv import Csv
from telos.data.sources.jsonl import JsonLines
from telos.data.sources.text import Text
from telos.errors import DataError

FILES = {
    "a.txt": b"plain\n",
    "deep/er/b.jsonl": b'{"text": "one", "label": 1}\n{"text": "two"}\n',
    "c.csv": b"text,label\nthree,x\n",
    "d.txt.gz": gzip.compress(b"packed\n"),
    "e.html": b"<title>t</title><p>page",
    "空.txt": "静夜思".encode(),
}
TEXTS = ["plain\n", "one", "two", "three", "packed\n", "t\n\npage", "静夜思"]


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def a_zip(path: Path, files: dict[str, bytes], **given) -> Path:
    with zipfile.ZipFile(path, "w", **({"compression": zipfile.ZIP_DEFLATED} | given)) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def a_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def read(path: Path, **given) -> tuple[list, Counter]:
    skipped: Counter[str] = Counter()
    found = Archive(**given).documents(path, skip=lambda reason, where: skipped.update([reason]))
    return list(found), skipped


WAYS = {
    "a.zip": a_zip,
    "stored.zip": lambda path, files: a_zip(path, files, compression=zipfile.ZIP_STORED),
    "bz2.zip": lambda path, files: a_zip(path, files, compression=zipfile.ZIP_BZIP2),
    "lzma.zip": lambda path, files: a_zip(path, files, compression=zipfile.ZIP_LZMA),
    "a.tar": a_tar,
    "a.tar.gz": lambda path, files: a_tar(path, files, "w:gz"),
    "a.tgz": lambda path, files: a_tar(path, files, "w:gz"),
    "a.tar.xz": lambda path, files: a_tar(path, files, "w:xz"),
}


@pytest.mark.parametrize("way", WAYS)
def test_members_are_read_by_the_source_of_their_suffix(way, tmp_path):
    path = WAYS[way](tmp_path / way, {**FILES, "picture.png": b"\x89PNG", "README": b"x", "in.zip": b"PK"})
    documents, skipped = read(path)
    assert [d.text for d in documents] == TEXTS
    assert documents[2].id == f"{way}/deep/er/b.jsonl:2" and documents[1].label == "1"
    assert documents[0].id == f"{way}/a.txt"
    assert skipped == {"a file .png": 1, "a file without suffix": 1, "an archive in an archive": 1}
    assert [file.name for file in tmp_path.iterdir()] == [way]


def test_settings_reach_the_members(tmp_path):
    path = a_zip(
        tmp_path / "a.zip", {"a.jsonl": b'{"body": "x"}', "b.txt": b"# 1\n# 2\n", "c.tsv": b"x\ty\n"}
    )
    documents, _ = read(path, text_key="body", document_start="^#", columns=("body", "target"))
    assert [(d.text, d.target) for d in documents] == [
        ("x", None),
        ("# 1\n", None),
        ("# 2\n", None),
        ("x", "y"),
    ]


def test_an_error_in_a_member_names_both(tmp_path):
    with pytest.raises(DataError, match=r"a\.zip/in/b\.jsonl:2: not a JSON object"):
        read(a_zip(tmp_path / "a.zip", {"in/b.jsonl": b'{"text": "a"}\nbroken\n'}))


# ---- trap 72: what is no plain file below the archive's root


BAD_NAMES = ("../out.txt", "/abs.txt", "a/../../out.txt", "..\\out.txt", "C:\\out.txt", "a/..\\..\\x.txt")


@pytest.mark.parametrize("way", ["a.zip", "a.tar", "a.tar.gz"])
def test_names_that_lead_out_are_left_out_and_counted(way, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    documents, skipped = read(WAYS[way](inner / way, {**dict.fromkeys(BAD_NAMES, b"evil"), "ok.txt": b"ok"}))
    assert [d.text for d in documents] == ["ok"]
    assert skipped == {"a name that leads out of the archive": len(BAD_NAMES)}
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [inner / way]


def test_links_devices_and_holes_of_a_tar_are_left_out_and_counted(tmp_path):
    """A link that a later member is written through is no danger where nothing is written."""
    secret = put(tmp_path / "secret.txt", b"secret")
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number, kind in enumerate(kinds):
            entry = tarfile.TarInfo(f"{number}.txt")
            entry.type, entry.linkname, entry.mode = kind, str(secret), 0o4777
            archive.addfile(entry)
        entry = tarfile.TarInfo("0.txt/through.txt")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"ok"))
        holes = tarfile.TarInfo("holes.txt")
        holes.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0"}
        holes.pax_headers |= {"GNU.sparse.size": str(10**8), "GNU.sparse.numblocks": "1"}
        archive.addfile(holes)
    documents, skipped = read(tmp_path / "a.tar")
    assert [d.text for d in documents] == ["ok"]
    assert skipped == {"a link or a device": len(kinds), "a sparse file": 1}


def test_links_of_a_zip_are_left_out_and_counted(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number, kind in enumerate((stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFREG)):
            entry = zipfile.ZipInfo(f"{number}.txt")
            entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
        archive.writestr("__MACOSX/._0.txt", "x")
        archive.writestr(".git/x.txt", "x")
        archive.mkdir("folder")
    documents, skipped = read(tmp_path / "a.zip")
    assert [d.id for d in documents] == ["a.zip/3.txt"]
    assert skipped == {"a link or a device": 3, "a hidden file": 2}


# ---- trap 54: what expands without end


def _zeros(size: int) -> bytes:
    """Deflated zeros, made without having them: a block of a mebibyte, over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(1 << 20)
    start = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    again = zlib.compressobj(9, zlib.DEFLATED, -15)
    again.compress(block)
    again.flush(zlib.Z_FULL_FLUSH)
    more = again.compress(block) + again.flush(zlib.Z_FULL_FLUSH)
    return start + more * ((size >> 20) - 1) + b"\x03\x00"


def _zip_of(name: str, packed: bytes, size: int) -> bytes:
    """A zip of one member that was packed already, whose list says that it has `size` bytes."""
    fields = (0, 8, 0, 0, 0, len(packed), size, len(name), 0)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, *fields) + name.encode() + packed
    listed = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, *fields, 0, 0, 0, 0, 0) + name.encode()
    return local + listed + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(listed), len(local), 0)


def _bomb(path: Path) -> Source:
    """Zeros, ten gigabytes of them in ten megabytes, or a hundred as zstd packs them; and what reads them."""
    import zstandard

    if path.suffix == ".zst":
        packer = zstandard.ZstdCompressor(level=1).compressobj()
        frame = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
        path.write_bytes(frame * 400)
        return Text()
    packed = _zeros(1 << 30) * 10
    if path.suffix == ".zip":
        path.write_bytes(_zip_of("a.txt", packed, 0xFFFFFFF0))
        return Archive()
    entry = tarfile.TarInfo("a.txt")
    entry.size = 10 << 30
    head = entry.tobuf(tarfile.GNU_FORMAT) if path.name.endswith(".tar.gz") else b""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(b"\x1f\x8b\x08" + bytes(6) + b"\x03" + start + packed)
    return {".tar": Archive(), ".jsonl": JsonLines(), ".txt": Text(), ".csv": Csv()}[_base.plain_suffix(path)]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "jsonl.gz", "txt.gz", "csv.gz", "txt.zst"])
def test_ten_megabytes_that_expand_to_a_hundred_gigabytes(kind, tmp_path, monkeypatch):
    """It is refused as soon as it is past the limit, in seconds and megabytes, whatever it says of itself."""
    for name, value in (("EXPANSION_FREE", 1 << 26), ("EXPANSION", 5), ("LONGEST_TEXT", 1 << 20)):
        monkeypatch.setattr(_base, name, value)
    monkeypatch.setattr(_base, "LONGEST_LINE", 1 << 20)
    source = _bomb(path := tmp_path / f"bomb.{kind}")
    assert path.stat().st_size < 11 << 20
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"decompression bomb|longer than 1,048,576 bytes"):
            for document in source.documents(path):
                assert len(document.text) <= 1 << 20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 160 << 20  # two KiB of zstd make 64 MiB, which are there twice for a moment


def test_all_members_together_have_one_limit(tmp_path, monkeypatch):
    """Members that lie on one another, each within what is believable (Fifield, 2019), expand as one."""
    monkeypatch.setattr(_base, "EXPANSION_FREE", 1 << 20)
    monkeypatch.setattr(_base, "EXPANSION", 1)
    path = a_zip(tmp_path / "a.zip", {f"{n}.txt": b"a" * 100_000 for n in range(20)})
    with pytest.raises(DataError, match="decompression bomb"):
        read(path)


@pytest.mark.parametrize("way", ["a.zip", "a.tar"])
def test_too_many_members_are_refused(way, tmp_path, monkeypatch):
    monkeypatch.setattr(_members, "MEMBERS", 100)
    path = WAYS[way](tmp_path / way, {f"{n}.txt": b"" for n in range(101)})
    with pytest.raises(DataError, match="more than 100 members"):
        read(path)


def test_a_list_of_contents_that_is_too_long_is_never_read(tmp_path, monkeypatch):
    """By what the end of the file says of it, before the library takes it all into memory."""
    path = a_zip(tmp_path / "a.zip", {f"{'n' * 100}{n}.txt": b"" for n in range(50)})
    monkeypatch.setattr(_members, "LARGEST_LIST", 1000)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(DataError, match="its list of contents has"):
        read(path)


def test_a_line_of_a_gigabyte_is_refused_in_bounded_memory(tmp_path):
    """Traps 49 and 54: it comes through a pipe, so that nothing but the reader can hold it."""
    path = tmp_path / "a.csv"
    os.mkfifo(path)
    written = 0

    def write() -> None:
        nonlocal written
        try:
            with path.open("wb", buffering=0) as out:
                out.write(b"text\n")
                while written < 1 << 30:
                    written += out.write(b"a" * (1 << 20))
        except BrokenPipeError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(DataError, match=r"a\.csv:2: longer than 16,777,216 bytes"):
        list(Csv().documents(path))
    writer.join()
    assert written < _base.LONGEST_TEXT + (8 << 20)


# ---- broken archives


@pytest.mark.parametrize("way", ["a.zip", "a.tar", "a.tar.gz"])
def test_an_archive_that_is_cut_short_is_named_wherever_it_is_cut(way, tmp_path):
    """The library for tar takes it for whole where it is cut between members, or in a header."""
    whole = WAYS[way](tmp_path / way, {f"{n}.txt": b"x" * 700 for n in range(5)}).read_bytes()
    ends = len(whole.rstrip(b"\0")) + 600 if way == "a.tar" else len(whole)
    for length in [*range(0, ends, 97), *range(0, ends, 512)]:
        if 0 < length < ends and length < len(whole):
            path = put(tmp_path / way, whole[:length])
            try:
                documents, _ = read(path)
            except DataError as error:
                assert way in str(error)
            else:
                assert len(documents) == 5, length


def test_a_member_whose_sum_is_wrong_is_named(tmp_path):
    path = a_zip(tmp_path / "a.zip", {"a.txt": b"hello world"}, compression=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"hello", b"jello", 1))
    with pytest.raises(DataError, match=r"a\.zip: the archive is damaged.*CRC"):
        read(path)


def test_a_password_is_named(tmp_path):
    path = a_zip(tmp_path / "a.zip", {"a.txt": b"hello"}, compression=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DataError, match=r"a\.txt has a password"):
        read(put(path, bytes(data)))


def test_an_unknown_compression_is_named(tmp_path):
    path = a_zip(tmp_path / "a.zip", {"a.txt": b"hello"})
    data = bytearray(path.read_bytes())
    data[8] = data[data.index(b"PK\x01\x02") + 10] = 9
    with pytest.raises(DataError, match="compressed in a way that is not known"):
        read(put(path, bytes(data)))


@pytest.mark.parametrize("way", ["a.zip", "a.tar", "a.tar.gz", "bz2.zip", "lzma.zip"])
@given(data=st.data())
def test_damage_is_never_a_crash(way, data, tmp_path_factory):
    """Whatever byte is wrong: either the files are there, or the error names the archive."""
    folder = tmp_path_factory.mktemp("damage")
    whole = WAYS[way](folder / way, {"a.txt": b"hello " * 20, "b.jsonl": b'{"text": "x"}\n'}).read_bytes()
    whole = whole if way != "a.tar" else whole[:4096]
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(min_size=1, max_size=4)) + whole[at + 1 :]
    try:
        read(put(folder / way, damaged))
    except DataError as error:
        assert way in str(error)

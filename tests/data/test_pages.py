"""Web pages and web archives: the main text, in whatever encoding, and no record lost without a word."""

import bz2
import gzip
import lzma
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.data.sources import _base, _charset, _chunks, _http, _page, _warc
from telos.data.sources.html import Html
from telos.data.sources.warc import Warc
from telos.errors import DataError

LONG = (
    "The moon stood over the river, and the boat went down it without a sound, as the old song has it, "
    "until the lights of the town were seen."
)
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。" + (
    "短短四句，写尽了在寂静的月夜思念家乡的感受，千百年来广为传诵。"
)
TRADITIONAL = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。" + (
    "短短四句，寫盡了在寂靜的月夜思念家鄉的感受，千百年來廣為傳誦。"
)


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def main_text(page: str | bytes, charset: str = "") -> str:
    data = page.encode() if isinstance(page, str) else page
    return _page.main_text(data, Path("page.html"), charset)


# ---- the main text


def test_the_main_text_of_a_page(tmp_path):
    page = f"""<!doctype html><html><head><title>Night thoughts - The Poetry Site</title>
    <style>p {{}}</style><script>document.write("<p>{LONG}</p>")</script></head>
    <body class="no-sidebar"><header><h1>The Poetry Site</h1><p>{LONG} In the page's header.</p></header>
    <nav><ul><li><a href="/">Home</a><li><a href="/poets">Poets of all the ages and lands</a></ul></nav>
    <div class="menu"><p>{LONG} In a menu.</p></div>
    <div id="content">
      <h1>Night thoughts</h1>
      <p>{LONG} &amp; more,<br>with a <a href="x">link</a> <b>in</b> it.</p>
      <h2>A heading</h2><p>{CHINESE}</p><p>Short.</p>
      <pre>  kept
    as it is</pre>
      <!-- {LONG} --><div hidden><p>{LONG} Hidden.</p></div>
      <ul><li>{LONG} One.</li><li>{LONG} Two.</li></ul>
      <p><a href="1">{LONG} All of it a link.</a></p>
      <p>Lonely</p>
    </div>
    <form><p>{LONG} In a form.</p></form><footer><p>{LONG} Copyright.</p></footer></body></html>"""
    (document,) = Html().documents(put(tmp_path / "a.html", page.encode()))
    assert document.id == "a.html"
    assert document.text == (
        f"Night thoughts\n\n{LONG} & more,\nwith a link in it.\n\nA heading\n\n{CHINESE}\n\nShort.\n\n"
        f"  kept\n    as it is\n\n{LONG} One.\n{LONG} Two."
    )


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("", ""),
        ("<html><body></body></html>", ""),
        ("<title>Only a title</title>", "Only a title"),
        ("no markup at all", "no markup at all"),
        ("<p>One.<p>Two.", "One.\n\nTwo."),
        ("<p>a<script>b</script>c", "ac"),
        ("<table><tr><td>1<td>2<tr><td>3</table>", "1\n2\n3"),
        ("<h1>T</h1><h1>T</h1>", "T\n\nT"),
        (f"<div class='comments'><p>{LONG}</p></div>", LONG),
        (f"<article><header><h2>Kept</h2></header><p>{LONG}</p></article>", f"Kept\n\n{LONG}"),
        (f"<main><p>{LONG}</p></main><div><p>{LONG} Not main.</p></div>", LONG),
        ("<svg><text>x</text></svg><p>ok</p>", "ok"),
        ("<p>a\x00b</p>", "ab"),
    ],
)
def test_pages_of_other_kinds(page, text):
    assert main_text(page) == text


def test_a_class_that_speaks_of_what_is_within_drops_nothing():
    """`no-sidebar` and `has-comments` are said of the whole page."""
    page = f'<div class="wrap no-sidebar has-comments"><p>{LONG}</p></div><div class="comments">{LONG}</div>'
    assert main_text(f"<body>{page.replace(LONG, LONG * 3, 1)}</body>") == LONG * 3


# ---- encodings


@pytest.mark.parametrize(
    ("said", "codec", "text"),
    [
        ("gb2312", "gb2312", CHINESE),
        ("GBK", "gbk", CHINESE + "镕"),
        ("gb2312", "gb18030", CHINESE + "㐂€"),
        ("gb18030", "gb18030", CHINESE + "𠮷"),
        ("big5", "big5", TRADITIONAL),
        ("Big5", "big5hkscs", TRADITIONAL + "啲嘢"),
        ("iso-8859-1", "cp1252", LONG + " “naïve”"),
        ("shift_jis", "cp932", "月が出た。" * 20 + "①"),
        ("utf-8", "utf-8", CHINESE),
        ("gb2312", "utf-8", CHINESE),
    ],
)
@pytest.mark.parametrize("way", ["meta", "http-equiv", "xml", "server"])
def test_a_page_is_read_in_the_encoding_that_it_says(said, codec, text, way):
    """As browsers do, the larger encoding is read where pages say the smaller; and UTF-8 is UTF-8."""
    head = {
        "meta": f"<meta charset={said}>",
        "http-equiv": f'<META http-equiv="Content-Type" content="text/html; charset={said}">',
        "xml": f"<?xml version='1.0' encoding='{said}'?>",
        "server": "<meta charset=latin1>",
    }[way]
    page = f"{head}<p>{text}</p>".encode(codec)
    assert main_text(page, said if way == "server" else "") == text


def test_a_mark_at_the_beginning_wins():
    page = f"<meta charset=gbk><p>{CHINESE}</p>"
    for mark, codec in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        assert main_text(mark + page.encode(codec), "big5") == CHINESE


@pytest.mark.parametrize("said", ["", "utf-8", "no-such-thing", "utf-7", "unicode_escape", "rot13", "utf-16"])
def test_bytes_of_no_encoding_reach_cleaning(said):
    """Trap 49: they are counted there; a parser of HTML would drop them without a word."""
    page = f"<meta charset={said}>".encode() + b"<p>caf\xe9 " + LONG.encode() + b"</p>"
    assert main_text(page) == f"caf\udce9 {LONG}"
    cut = CHINESE.encode()[:-1]
    assert main_text(b"<p>" + cut) == cut.decode("utf-8", "surrogateescape")


@given(
    st.binary(max_size=300), st.sampled_from(["", "gb18030", "big5", "utf-16", "shift_jis", "euc-jp", "x"])
)
def test_no_bytes_are_too_bad(data, said):
    text = _charset.decode(data, said)
    assert _charset.show(_charset.hide(text)) == text
    _charset.hide(text).encode()
    main_text(data, said)


# ---- pages that are made to hurt


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (b"x" * (_page.LONGEST + 1), "a page of more than 8,388,608 bytes"),
        (b"<div>" * 80_000, "nested more than 512 deep"),
        (b"<b>" + b"<section>" * 2000 + b"</section>" * 2000, "nested more than 512 deep"),
        (b"".join(b"<b a=%d>" % n for n in range(3000)) + b"<p>x" * 3000, "more than 1,000,000 elements"),
        (b"<p>x" * 1_100_000, "more than 1,000,000 elements"),
    ],
    ids=["long", "deep", "deep-and-closed", "open", "many"],
)
def test_a_page_that_would_take_minutes_is_left_out_and_counted(page, reason, tmp_path):
    """Trap 54: deep elements take time as their depth squared, open ones memory as a product."""
    skipped = []
    began = time.monotonic()
    found = list(Html().documents(put(tmp_path / "a.html", page), skip=lambda *what: skipped.append(what)))
    assert found == [] and len(skipped) == 1 and time.monotonic() - began < 10
    assert reason in skipped[0][0] and skipped[0][1] == "a.html"


def test_ordinary_pages_are_not_left_out():
    item = f"<li><p>{LONG} <b>and</b> <i>so</i> on<br><a href=x>more</a></div>"
    assert not _page.refused((f"<div><ul>{item * 2000}</ul></div>").encode())


# ---- web archives


def record(kind: str, body: bytes, content_type: str = "application/http; msgtype=response", **more) -> bytes:
    headers = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{len(body)}>",
        "WARC-Target-URI": "http://example.com/",
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        **{key.replace("_", "-"): value for key, value in more.items()},
    }
    head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return f"WARC/1.0\r\n{head}\r\n".encode() + body + b"\r\n\r\n"


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    given = {"Content-Type": "text/html", **{key.replace("_", "-"): value for key, value in headers.items()}}
    head = "".join(f"{key}: {value}\r\n" for key, value in given.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


PAGE = f"<p>{LONG}</p>".encode()


def read(path: Path) -> tuple[list, Counter]:
    skipped: Counter[str] = Counter()
    documents = list(Warc().documents(path, skip=lambda reason, where: skipped.update([reason])))
    return documents, skipped


@pytest.mark.parametrize("packed", [False, True])
def test_answers_and_conversions_are_documents_and_the_rest_is_counted(packed, tmp_path):
    wrapped = b"%x\r\n%s\r\n0\r\n\r\n" % (len(PAGE), PAGE)
    parts = [
        record("warcinfo", b"software: x\r\n", "application/warc-fields"),
        record("request", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request"),
        record("response", answer(PAGE)),
        record("response", answer(f"<p>{CHINESE}</p>".encode("gbk"), Content_Type="text/html; charset=GBK")),
        record("response", answer(wrapped, Transfer_Encoding="chunked")),
        record("response", answer(PAGE, Transfer_Encoding="chunked")),
        record("response", answer(gzip.compress(PAGE), Content_Encoding="gzip")),
        record("response", answer(zlib.compress(PAGE), Content_Encoding="deflate")),
        record("response", answer(PAGE, Content_Encoding="gzip")),
        record("response", answer(b"plain", Content_Type="text/plain")),
        record("response", answer(PAGE, "404 Not Found")),
        record("response", answer(b"\x89PNG", Content_Type="image/png")),
        record("response", answer(PAGE, Content_Encoding="br")),
        record("response", answer(gzip.compress(PAGE)[:-20], Content_Encoding="gzip")),
        record("response", b"no HTTP at all"),
        record("conversion", CHINESE.encode(), "text/plain", WARC_Identified_Content_Language="zho,eng"),
        record("metadata", b"x: y", "application/warc-fields"),
        record("resource", PAGE, "text/html"),
    ]
    data = b"".join(gzip.compress(part) for part in parts) if packed else b"".join(parts)
    documents, skipped = read(put(tmp_path / ("a.warc" + ".gz" * packed), data))
    expected = [LONG, CHINESE, *[LONG] * 5, "plain", CHINESE, LONG]
    assert [d.text for d in documents] == expected
    assert documents[0].id == f"http://example.com/ urn:uuid:{len(answer(PAGE))}"
    assert documents[8].language == "zho"
    assert skipped == {
        "an answer of HTTP status 404": 1,
        "a record of image/png": 1,
        "an answer compressed as br": 1,
        "an answer cut short": 1,
        "a record without an HTTP answer": 1,
    }


def test_a_record_that_is_cut_short_is_named_wherever_it_is_cut(tmp_path):
    """Not a byte can be missing from the end: what a broken transfer has lost is not lost in silence."""
    one, two = record("response", answer(PAGE)), record("conversion", b"text\n", "text/plain")
    for length in range(1, len(two) - 4):
        path = put(tmp_path / "a.warc", one + two[:length])
        with pytest.raises(DataError, match=rf"a\.warc: the WARC record at byte {len(one)} is damaged"):
            read(path)
    assert len(read(put(tmp_path / "a.warc", one + two[:-4]))[0]) == 2
    packed = gzip.compress(one) + gzip.compress(two)
    with pytest.raises(DataError, match="damaged or cut short"):
        read(put(tmp_path / "a.warc.gz", packed[:-30]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"HTTP/1.1 200 OK\r\n", "does not begin with WARC/"),
        (b"WARC/1.0\r\nWARC-Type: response\r\n\r\nx", "its Content-Length is ''"),
        (b"WARC/1.0\r\nContent-Length: -5\r\n\r\nx", "its Content-Length is '-5'"),
        (b"WARC/1.0\r\nContent-Length: 99999999999999999999\r\n\r\nx", "its Content-Length is '9999"),
        (b"WARC/1.0\r\nContent-Length: 999999999\r\n\r\nx", "cut short: the file ends at byte"),
        (b"WARC/1.0\r\n" + b"a: b\r\n" * 2000, "more than 1,000 lines of header"),
        (b"WARC/1.0\r\na: " + b"b" * 100_000, "longer than 65,536 bytes"),
    ],
)
def test_a_damaged_record_is_named_with_its_byte(data, message, tmp_path):
    whole = record("response", answer(PAGE))
    with pytest.raises(DataError, match=rf"record at byte {len(whole):,} is damaged: .*{message}"):
        read(put(tmp_path / "a.warc", whole + data))


def test_large_records_are_passed_over_without_being_in_memory(tmp_path, monkeypatch):
    """Traps 54: a film in the archive, and a small answer that expands to a large one."""
    monkeypatch.setattr(_page, "LONGEST", 10_000)
    bomb = answer(gzip.compress(b"a" * 5_000_000), Content_Encoding="gzip")
    parts = [
        record("response", answer(bytes(20_000))),
        record("response", bomb),
        record("response", answer(PAGE)),
    ]
    assert _http.answer(bomb, 10_000) == "a page of more than 10,000 bytes"
    sizes = []
    take = _warc._Reader._read
    monkeypatch.setattr(_warc._Reader, "_read", lambda self, size: sizes.append(size) or take(self, size))
    documents, skipped = read(put(tmp_path / "a.warc", b"".join(parts)))
    assert [d.text for d in documents] == [LONG] and max(sizes) <= 1 << 16
    assert skipped == {"a record of more than 10,000 bytes": 1, "a page of more than 10,000 bytes": 1}


@given(data=st.data())
def test_damage_is_never_a_crash(data, tmp_path_factory):
    whole = record("response", answer(PAGE, Transfer_Encoding="chunked")) * 2
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + 1 :]
    path = put(tmp_path_factory.mktemp("warc") / "a.warc", damaged)
    try:
        read(path)
    except DataError as error:
        assert "a.warc" in str(error)


# ---- web archives in chunks


def outcome(path: Path, chunks=(None,)) -> tuple:
    """The documents and what was left out, or what stopped the reading."""
    documents, skipped = [], []
    try:
        for chunk in chunks:
            documents += Warc().documents(path, chunk, lambda *what: skipped.append(what))
    except DataError as error:
        return (str(error),)
    return documents, skipped


def check_every_border(path: Path) -> int:
    """Read in chunks of many sizes: nothing is lost, doubled or called otherwise. How many chunks there were
    at most, with a border wherever one can be."""
    whole, most = outcome(path), 0
    for size in range(0, path.stat().st_size, 61):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_chunks, "CHUNK", size)
            chunks = Warc().chunks(path)
        assert outcome(path, chunks or (None,)) == whole
        most = max(most, len(chunks))
    return most


def nameless(body: bytes) -> bytes:
    """A record that is called by the byte that it begins at."""
    head = b"WARC/1.1\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\n"
    return head + b"Content-Length: %d\r\n\r\n%s\r\n\r\n" % (len(body), body)


def nasty() -> list[bytes]:
    """Records that hold what looks like records."""
    within = record("conversion", b"a record in a record", "text/plain")
    return [
        record("warcinfo", b"software: x\r\n", "application/warc-fields"),
        nameless(b"text"),
        record("conversion", within * 3, "text/plain"),
        record("response", answer(PAGE)),
        record("resource", b"".join(map(gzip.compress, [within, within])), "application/gzip"),
        record("response", answer(PAGE, "404 Not Found")),
        record("conversion", b"", "text/plain"),
        nameless(b"\r\n\r\nWARC/1.0\r\n\r\nend"),
        record("conversion", CHINESE.encode(), "text/plain"),
    ]


def stored(data: bytes) -> bytes:
    """A `.gz` that holds its bytes as they are, as it does with what cannot be made smaller."""
    return gzip.compress(data, compresslevel=0)


def test_chunks_of_a_plain_archive_are_its_records(tmp_path):
    """Trap 49: what looks like the beginning of a record, within one, is none."""
    data = b"".join(nasty())
    assert check_every_border(put(tmp_path / "a.warc", data)) == len(nasty())
    loose = b"\r\n" + b"\r\n".join(nasty()) + b"\n\n"
    assert check_every_border(put(tmp_path / "b.warc", loose)) == len(nasty()) + 1
    for damaged in (data[:-40], data + b"no record", data.replace(b"Length: 4\r", b"Length: 5\r")):
        check_every_border(put(tmp_path / "c.warc", damaged))


@pytest.mark.parametrize("pack", [gzip.compress, stored])
def test_chunks_of_a_packed_archive_are_its_members(pack, tmp_path):
    """Trap 49: what looks like the beginning of a member, within one, is none."""
    data = b"".join(map(pack, nasty()))
    assert check_every_border(put(tmp_path / "a.warc.gz", data)) == len(nasty())
    for damaged in (data[:-40], data + b"no member", data + bytes(9), data[:400] + b"?" + data[401:]):
        check_every_border(put(tmp_path / "b.warc.gz", damaged))


def test_members_that_are_no_records_are_not_cut(tmp_path, monkeypatch):
    """Several records in one member; one in several, of which one begins as a record does; more than line
    ends after it, or nothing; and members without anything."""
    first, second, third, *rest = nasty()
    cut = third.index(b"WARC/", 10)
    assert third[cut:].startswith(b"WARC/1.0\r\n")
    for members, most in (
        ([b"".join(nasty())], 0),
        ([first + second, third, *rest], 0),
        ([first, second, third[:cut], third[cut:], *rest], 2),
        ([first, second, third + b"WARC", *rest], 2),
        ([first, second, third[:-4], third[-4:], *rest], len(nasty()) + 1),
        ([first, second, b"", third, *rest], len(nasty()) + 1),
    ):
        path = put(tmp_path / "a.warc.gz", b"".join(map(gzip.compress, members)))
        assert check_every_border(path) == most
    monkeypatch.setattr(_chunks, "CHUNK", 1)
    for suffix, compress in (("xz", lzma.compress), ("bz2", bz2.compress)):
        assert Warc().chunks(put(tmp_path / f"a.warc.{suffix}", compress(third * 9))) == []


def test_an_archive_that_expands_without_end_is_refused_when_it_is_cut(tmp_path, monkeypatch):
    """Trap 54: in one record or in many."""
    monkeypatch.setattr(_chunks, "CHUNK", 100)
    monkeypatch.setattr(_base, "EXPANSION_FREE", 1 << 20)
    monkeypatch.setattr(_base, "EXPANSION", 10)
    for parts in ([bytes(1 << 22)], [bytes(1 << 14)] * 512):
        data = b"".join(gzip.compress(record("conversion", part, "text/plain")) for part in parts)
        with pytest.raises(DataError, match="refused as a decompression bomb"):
            Warc().chunks(put(tmp_path / "a.warc.gz", data))

"""Files that are elsewhere, from a real web server: fetched once, whole, and from nowhere else."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from telos.data import _addresses, _web, remote
from telos.data.remote import Access, RemoteFile, fetch, is_remote, listing
from telos.errors import DataError
from tests.data.servers import Served, Server, web_server


@pytest.fixture(scope="module")
def running():
    with web_server() as server:
        yield server


@pytest.fixture
def server(running, monkeypatch) -> Server:
    monkeypatch.setattr(remote, "PAUSE", 0.0)
    running.files.clear()
    running.asked.clear()
    return running


@pytest.fixture
def access(server, tmp_path) -> Access:
    return Access(cache=tmp_path / "cache", allow_hosts=(server.host,))


DATA = bytes(range(256)) * 20_000


def got(server: Server, path: str, access: Access) -> bytes:
    (file,) = listing(server.url(path), access)
    return fetch(file, access).read_bytes()


# ---- what is a URL


@pytest.mark.parametrize(
    "path", ["my-texts", "/abs/x.txt", "C:/texts", "c:\\texts", "a:b.txt", "owner/name:train"]
)
def test_paths_are_no_urls(path):
    assert not is_remote(path)


@pytest.mark.parametrize(
    "url", ["https://a.org/x", "HTTPS://a.org/x", "s3://b/x", "gs://b/x", "http://a:1/x"]
)
def test_urls_are(url):
    assert is_remote(url)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "ftp://a.org/x",
        "gopher://a/",
        "s3:/b/x",
        "local:///etc/passwd",
        "zip://x::file:///y",
        "https:/a.org/x",
    ],
)
def test_other_schemes_are_refused(url):
    """Trap 77: `file:` above all; a path whose slashes were folded is no file of this machine either."""
    with pytest.raises(DataError, match=r"is not read; there are https://, s3:// and gs://"):
        is_remote(url)


# ---- fetching


def test_a_file_is_fetched_once_and_keeps_its_name(server, access):
    server.files["/data/a.jsonl.gz"] = Served(DATA)
    (file,) = listing(server.url("/data/a.jsonl.gz?version=2"), access)
    assert (file.name, file.size) == ("a.jsonl.gz", len(DATA))
    path = fetch(file, access)
    assert path.name == "a.jsonl.gz" and path.read_bytes() == DATA
    before = len(server.asked)
    assert fetch(file, access) == path and len(server.asked) == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_changed_is_another_file(server, access):
    server.files["/a.txt"] = Served(b"old")
    (old,) = listing(server.url("/a.txt"), access)
    assert fetch(old, access).read_bytes() == b"old"
    server.files["/a.txt"] = Served(b"new")
    (new,) = listing(server.url("/a.txt"), access)
    assert new.digest != old.digest and fetch(new, access).read_bytes() == b"new"
    assert fetch(old, access).read_bytes() == b"old"


def test_a_file_that_changes_while_it_is_fetched_is_not_mixed(server, access):
    server.files["/a.txt"] = Served(b"old" * 1000)
    (old,) = listing(server.url("/a.txt"), access)
    server.files["/a.txt"] = Served(b"new" * 1000)
    with pytest.raises(DataError, match="the file changed while it was fetched"):
        fetch(old, access)


@pytest.mark.parametrize("ranges", [True, False])
def test_what_breaks_off_is_gone_on_from(ranges, server, access):
    """Where the server gives ranges only what is missing comes; else all of it, again from its beginning."""
    server.files["/a.bin"] = Served(DATA, ranges=ranges)
    (file,) = listing(server.url("/a.bin"), access)
    server.files["/a.bin"].breaks = 3_000_000
    assert fetch(file, access).read_bytes() == DATA
    asked = [headers.get("Range") for _, headers in server.asked]
    assert asked[:2] == [None, None] and asked[2].startswith("bytes=") and len(asked) == 3


def test_what_an_earlier_process_left_is_gone_on_from(server, access):
    server.files["/a.bin"] = Served(DATA)
    (file,) = listing(server.url("/a.bin"), access)
    place = remote._place(file, access)
    place.parent.mkdir(parents=True)
    (place.parent / ".part").write_bytes(DATA[:1_234_567])
    assert fetch(file, access).read_bytes() == DATA
    assert server.asked[-1][1]["Range"] == "bytes=1234567-"
    assert server.asked[-1][1]["If-Range"] == file.etag


def test_what_is_not_whole_never_has_the_name_of_the_file(server, access):
    server.files["/a.bin"] = Served(DATA)
    (file,) = listing(server.url("/a.bin"), access)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "TRIES", 1)
        server.files["/a.bin"].breaks = 1_000_000
        with pytest.raises(DataError, match="broke off at byte"):
            fetch(file, access)
    assert [path.name for path in remote._place(file, access).parent.iterdir()] == [".part"]
    assert fetch(file, access).read_bytes() == DATA


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_a_server_that_names_no_version(etag, server, access):
    """It is known by when it was modified, or else by its content; never taken for what it was before."""
    server.files["/a.txt"] = Served(b"one", etag=etag)
    assert got(server, "/a.txt", access) == b"one"
    server.files["/a.txt"] = Served(
        b"two", etag="", headers={"Last-Modified": "Tue, 24 Nov 2026 00:00:00 GMT"}
    )
    assert got(server, "/a.txt", access) == b"two"


def test_without_a_version_the_content_is(server, access):
    server.files["/a.txt"] = Served(b"one", etag="", chunked=True)
    (file,) = listing(server.url("/a.txt"), access)
    assert file.etag.startswith("content ") and file.size == 3
    server.files["/a.txt"] = Served(b"two", etag="", chunked=True)
    (other,) = listing(server.url("/a.txt"), access)
    assert [fetch(f, access).read_bytes() for f in (file, other)] == [b"one", b"two"]


def test_servers_that_are_out_of_order_are_asked_again(server, access):
    server.files["/a.txt"] = Served(b"at last", fails=3)
    assert got(server, "/a.txt", access) == b"at last"
    server.files["/a.txt"] = Served(b"never", fails=99)
    with pytest.raises(DataError, match=r"a\.txt: cannot be fetched: the server says 503.*Tried 5 times"):
        got(server, "/a.txt", access)
    with pytest.raises(DataError, match="the server says 404"):
        got(server, "/b.txt", access)
    assert [path for path, _ in server.asked].count("/b.txt") == 1


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (Served(b"x" * 100, headers={"Content-Encoding": "gzip"}), "sends it compressed"),
        (Served(b"", redirect="/loop"), "redirected more than 5 times"),
        (Served(b"x", status=204), "the server says 204"),
    ],
)
def test_answers_that_are_no_file_are_refused(served, message, server, access):
    server.files["/loop"] = Served(redirect="/loop")
    server.files["/a.txt"] = served
    with pytest.raises(DataError, match=message):
        got(server, "/a.txt", access)


def test_two_processes_fetch_once(server, access):
    server.files["/a.bin"] = Served(DATA)
    (file,) = listing(server.url("/a.bin"), access)
    code = (
        "import sys; from pathlib import Path; from telos.data.remote import *\n"
        f"file = RemoteFile(*{tuple(file)!r})\n"
        f"print(fetch(file, Access(cache=Path({str(access.cache)!r}), allow_hosts={access.allow_hosts!r})))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    printed = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0] and len(printed) == 1
    assert len(server.asked) == 2  # one for the listing


# ---- bounds


def test_the_cache_stays_below_its_limit(server, tmp_path):
    access = Access(cache=tmp_path / "cache", most=2500, allow_hosts=(server.host,))
    files = []
    for number in range(4):
        server.files[f"/{number}"] = Served(bytes([number]) * 1000)
        files += listing(server.url(f"/{number}"), access)
        fetch(files[-1], access)
        fetch(files[0], access)
        kept = [path for path in access.cache.rglob("*") if path.is_file() and path.name[0] != "."]
        assert sum(path.stat().st_size for path in kept) <= 2500
    assert {path.name for path in kept} == {"0", "3"}
    server.files["/big"] = Served(bytes(3000))
    with pytest.raises(DataError, match="does not go into a cache of 2,500"):
        fetch(listing(server.url("/big"), access)[0], access)


def test_no_more_comes_than_was_stated_or_may(server, tmp_path):
    """Trap 77: a server that does not say how long a file is cannot fill the disk."""
    access = Access(cache=tmp_path / "cache", most=100_000, allow_hosts=(server.host,))
    server.files["/a"] = Served(b"12345", more=b"67890" * 1000)
    assert got(server, "/a", access) == b"12345"
    server.files["/b"] = Served(bytes(5_000_000), chunked=True)
    with pytest.raises(DataError, match=r"/b: more than the 100,000 bytes"):
        got(server, "/b", access)
    assert sum(p.stat().st_size for p in access.cache.rglob("*") if p.is_file()) <= 100_005


def test_a_file_that_trickles_is_given_up(server, access, monkeypatch):
    """A byte now and then keeps a connection alive for ever."""
    monkeypatch.setattr(_web, "GRACE", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def trickle() -> None:
        while not stop.is_set():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 1000000\r\n\r\n')
                with contextlib.suppress(OSError):
                    for _ in range(120):
                        connection.sendall(b"x")
                        stop.wait(0.05)

    thread = threading.Thread(target=trickle)
    thread.start()
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    patient = Access(cache=access.cache, allow_hosts=(host,))
    try:
        (file,) = listing(f"http://{host}/slow.txt", patient)
        began = time.monotonic()
        with pytest.raises(DataError, match="comes at less than 10,000 bytes per second"):
            fetch(file, patient)
        assert time.monotonic() - began < 4  # and not when the other side has had enough
    finally:
        stop.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join()
        listener.close()


def test_a_file_in_the_way_is_named(server, tmp_path):
    (tmp_path / "cache").write_text("")
    server.files["/a"] = Served(b"x")
    access = Access(cache=tmp_path / "cache", allow_hosts=(server.host,))
    with pytest.raises(DataError, match="cannot keep fetched files"):
        got(server, "/a", access)


@pytest.mark.parametrize("name", ["..", "../../x", "a/../..", ".", "a\\..\\b"])
def test_a_name_cannot_lead_out_of_the_cache(name, tmp_path):
    access = Access(cache=tmp_path / "cache")
    place = remote._place(RemoteFile("s3://b/x", name, 1, "a"), access)
    assert place.parent.parent == access.cache and place.name not in ("..", ".") and "\\" not in place.name


# ---- trap 77: what must not be reached


PRIVATE = (
    *("127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "255.255.255.255", "224.0.0.1", "198.18.0.1", "192.0.2.1", "240.0.0.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::169.254.169.254"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "nonsense", ""),
)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_in_all_their_forms(address):
    assert not _addresses.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are(address):
    assert _addresses.is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "0",
        "10.1.2.3",
    ],
)
def test_private_hosts_are_refused_before_anything_is_sent(host, server, tmp_path, monkeypatch):
    connected = []
    monkeypatch.setattr(socket, "create_connection", lambda *given: connected.append(given))
    with pytest.raises(DataError, match=r"is on a private network|there is no host"):
        listing(f"https://{host}:{server.server_port}/a", Access(cache=tmp_path))
    assert connected == []


@pytest.mark.parametrize(
    "target",
    [
        "https://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1:1/x",
        "https://[::ffff:10.0.0.1]/",
        "http://8.8.8.8/",
        "file:///etc/passwd",
        "//169.254.169.254/",
        "ftp://127.0.0.1/",
        "https://2852039166/",
    ],
)
@pytest.mark.parametrize("hops", [1, 3])
def test_redirections_to_private_hosts_are_refused_at_every_hop(target, hops, server, access):
    server.files["/0"] = Served(redirect="/1" if hops > 1 else target)
    server.files["/1"] = Served(redirect="/2")
    server.files["/2"] = Served(redirect=target)
    with pytest.raises(DataError, match=r"private network|only https is read"):
        listing(server.url("/0"), access)


def test_a_redirection_that_comes_later_is_refused_too(server, access):
    """The listing was honest; the file itself is not where it was."""
    server.files["/a.txt"] = Served(b"ok")
    (file,) = listing(server.url("/a.txt"), access)
    server.files["/a.txt"] = Served(redirect="https://169.254.169.254/")
    with pytest.raises(DataError, match="private network"):
        fetch(file, access)


def test_a_name_is_looked_up_once_and_that_address_is_used(server, access, monkeypatch):
    """DNS rebinding: the second answer is another address than the one that was judged."""
    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])
    asked = []

    def look_up(host, port, *rest, **more):
        asked.append(host)
        address = next(answers) if host == "rebind.test" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server.files["/a.txt"] = Served(b"x")
    host = f"rebind.test:{server.server_port}"
    listing(f"http://{host}/a.txt", Access(cache=access.cache, allow_hosts=(host,)))
    assert asked.count("rebind.test") == 1


def test_a_name_with_any_private_address_is_refused(tmp_path, monkeypatch):
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 443)) for a in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: both)
    with pytest.raises(DataError, match=r"private network \(8\.8\.8\.8, 10\.0\.0\.1\)"):
        listing("https://both.test/a", Access(cache=tmp_path))


def test_only_the_port_that_is_named_is_free(server, access):
    other = Access(cache=access.cache, allow_hosts=(f"127.0.0.1:{server.server_port + 1}",))
    with pytest.raises(DataError, match=r"only https is read.*data\.remote\.allow_hosts=\[\"127\.0\.0\.1:"):
        listing(server.url("/a.txt"), other)


def test_proxies_of_the_environment_are_not_asked(server, access, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.files["/a.txt"] = Served(b"x")
    assert got(server, "/a.txt", access) == b"x"


# ---- traps 77 and 78: secrets


@pytest.mark.parametrize(
    "url",
    [
        "https://user:CANARY@example.com/a",
        "https://CANARY@example.com/a",
        "https://example.com/a?X-Amz-Signature=CANARY",
        "https://example.com/a?x=1&sig=CANARY",
        "https://example.com/a?access_token=CANARY",
        "https://example.com/a?token=CANARY&b=2",
        "https://example.com/a?api_key=CANARY",
        "s3://key:CANARY@bucket/a",
        "gs://bucket/a?access_token=CANARY",
    ],
)
def test_urls_with_secrets_are_refused_and_the_secret_is_not_shown(url, tmp_path):
    with pytest.raises(DataError) as caught:
        listing(url, Access(cache=tmp_path))
    text = str(caught.value) + repr(caught.value.__cause__)
    assert "CANARY" not in text and "redential" in text


def test_no_error_shows_what_follows_the_question_mark(server, access):
    server.files["/a.txt"] = Served(b"x", fails=99)
    for path in ("/a.txt?q=CANARY", "/none?q=CANARY"):
        with pytest.raises(DataError) as caught:
            listing(server.url(path), access)
        assert "CANARY" not in str(caught.value) and caught.value.__cause__ is None


def test_what_is_redirected_to_elsewhere_brings_no_credentials(server, access):
    server.files["/a"] = Served(redirect="/b?token=CANARY")
    server.files["/b"] = Served(b"x")
    with pytest.raises(DataError) as caught:
        listing(server.url("/a"), access)
    assert "CANARY" not in str(caught.value)


def test_a_folder_cannot_be_listed_over_https(server, access):
    server.files["/folder/"] = Served(b"<html>")
    with pytest.raises(DataError, match="this names a folder"):
        listing(server.url("/folder/"), access)


def test_the_cache_is_where_it_was_told(tmp_path):
    assert Access(cache=Path("x")).most == 100 << 30

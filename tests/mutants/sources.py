"""Bugs of sources: of tables, pages, archives, and of files that are elsewhere."""

from tests.mutants import mutant

TABLES, PAGES = "tests/data/test_tables.py", "tests/data/test_pages.py"
ARCHIVES, REMOTE, STORES = (f"tests/data/test_{name}.py" for name in ("archives", "remote", "stores"))


# ---- trap 49: rows and lines


@mutant(kills=f"{TABLES}::test_files_of_unequal_length_are_named_with_both_counts", trap=49)
def pairs_end_with_the_shorter_file(monkeypatch):
    monkeypatch.setattr("telos.data.sources.pairs.zip_longest", zip)


@mutant(kills=f"{TABLES}::test_tabs_end_values_and_quotes_are_quotes", trap=49)
def quotes_in_tabs(monkeypatch):
    import csv

    def quoted(file, path, first=1):
        lines = (line.decode() for line in file)
        yield from enumerate(csv.reader(lines, delimiter="\t"), first)

    monkeypatch.setattr("telos.data.sources.csv.tabbed", quoted)


@mutant(kills=f"{TABLES}::test_whatever_is_written_as_csv_comes_back", trap=49)
def csv_cut_at_lines_first(monkeypatch):
    def by_lines(file, path, first=1):
        import csv

        for number, line in enumerate(file.read().decode("utf-8-sig").splitlines(), 1):
            yield from ((number, row) for row in csv.reader([line]) if row)

    monkeypatch.setattr("telos.data.sources.csv.quoted", by_lines)


@mutant(kills=f"{TABLES}::test_chunks_of_lines_are_the_file", trap=49)
def chunks_cut_anywhere(monkeypatch):
    from telos.data.sources._base import Chunk

    def anywhere(file, quoted):
        from telos.data.sources import _chunks

        data, at = file.read(), 0
        while at < len(data):
            end = min(at + _chunks.CHUNK, len(data))
            yield Chunk(at, end, 1 + data.count(b"\n", 0, at))
            at = end

    monkeypatch.setattr("telos.data.sources._chunks._stretches", anywhere)


@mutant(kills=f"{TABLES}::test_chunks_of_lines_are_the_file", trap=49)
def chunks_count_their_own_lines(monkeypatch):
    stretches = _get("telos.data.sources._chunks._stretches")
    forgetful = lambda *given: (chunk._replace(first=1) for chunk in stretches(*given))  # noqa: E731
    monkeypatch.setattr("telos.data.sources._chunks._stretches", forgetful)


@mutant(kills=f"{TABLES}::test_chunks_of_csv_are_the_file_wherever_it_could_be_cut", trap=49)
def csv_cut_at_any_line(monkeypatch):
    monkeypatch.setattr("telos.data.sources._chunks._inside", lambda lines, inside: False)


@mutant(kills=f"{TABLES}::test_chunks_of_csv_are_the_file_wherever_it_could_be_cut", trap=49)
def every_quote_opens_or_closes(monkeypatch):
    parity = lambda lines, inside: inside ^ (lines.count(b'"') % 2 == 1)  # noqa: E731
    monkeypatch.setattr("telos.data.sources._chunks._inside", parity)


@mutant(kills=f"{TABLES}::test_chunks_of_csv_are_the_file_wherever_it_could_be_cut", trap=49)
def marks_hide_a_quote(monkeypatch):
    monkeypatch.setattr("telos.data.sources._chunks._MARKS", ())


@mutant(kills=f"{TABLES}::test_every_row_can_be_a_chunk_of_its_own", trap=49)
def the_names_of_columns_are_a_document(monkeypatch):
    names = _get("telos.data.sources.csv.Csv._named")
    monkeypatch.setattr(
        "telos.data.sources.csv.Csv._named", lambda self, rows, path: (0, names(self, rows, path)[1])
    )


@mutant(kills=f"{TABLES}::test_chunks_of_arrow_are_runs_of_its_batches[None]", trap=49)
def runs_of_batches_count_their_own_rows(monkeypatch):
    chunks = _get("telos.data.sources.arrow.Arrow.chunks")
    forgetful = lambda self, path: [chunk._replace(first=1) for chunk in chunks(self, path)]  # noqa: E731
    monkeypatch.setattr("telos.data.sources.arrow.Arrow.chunks", forgetful)


@mutant(kills=f"{PAGES}::test_chunks_of_a_plain_archive_are_its_records", trap=49)
def whatever_looks_like_a_record_is_one(monkeypatch):
    import re

    def looked_for(file, path):
        return ((found.start(),) * 2 for found in re.finditer(rb"WARC/1", file.read()))

    monkeypatch.setattr("telos.data.sources.warc.begins", looked_for)


@mutant(kills=f"{PAGES}::test_chunks_of_a_plain_archive_are_its_records", trap=49)
def bytes_counted_from_the_chunk(monkeypatch):
    records = _get("telos.data.sources.warc.records")
    monkeypatch.setattr("telos.data.sources.warc.records", lambda file, path, at=0: records(file, path))


@mutant(kills=f"{PAGES}::test_chunks_of_a_packed_archive_are_its_members[stored]", trap=49)
def whatever_looks_like_a_member_is_one(monkeypatch):
    import contextlib
    import gzip
    import re

    def looked_for(file, path):
        data, expanded, last = file.read(), 0, 0
        for found in re.finditer(rb"\x1f\x8b\x08", data):
            with contextlib.suppress(OSError, EOFError):
                expanded += len(gzip.decompress(data[last : found.start()]))
            last = found.start()
            yield last, expanded

    monkeypatch.setattr("telos.data.sources.warc.members", looked_for)


@mutant(kills=f"{PAGES}::test_chunks_of_a_packed_archive_are_its_members[compress]", trap=49)
def what_comes_after_the_last_member_is_one(monkeypatch):
    def hopeful(file, path):
        from telos.data.sources._warc import _Members

        going = _Members(file, path)
        yield 0, 0
        while going.pass_over():
            yield going.at, going.expanded

    monkeypatch.setattr("telos.data.sources.warc.members", hopeful)


@mutant(kills=f"{PAGES}::test_members_that_are_no_records_are_not_cut", trap=49)
def every_member_is_a_record(monkeypatch):
    def believed(file, path):
        import zlib

        data, at, expanded = file.read(), 0, 0
        while at < len(data):
            yield at, expanded
            unpack = zlib.decompressobj(wbits=31)
            expanded += len(unpack.decompress(data[at:]))
            at = len(data) - len(unpack.unused_data)

    monkeypatch.setattr("telos.data.sources.warc.members", believed)


@mutant(kills=f"{PAGES}::test_an_archive_that_expands_without_end_is_refused_when_it_is_cut", trap=54)
def members_expand_without_limit(monkeypatch):
    monkeypatch.setattr("telos.data.sources._base.most_expanded", lambda size: 1 << 60)


@mutant(kills=f"{TABLES}::test_giant_values_are_named_and_bounded", trap=54)
def lines_of_tables_without_limit(monkeypatch):
    unbounded = lambda file, path, longest=None, first=1: enumerate(file, first)  # noqa: E731
    monkeypatch.setattr("telos.data.sources._base.lines", unbounded)


# ---- pages


@mutant(kills=f"{PAGES}::test_bytes_of_no_encoding_reach_cleaning", trap=49)
def bad_bytes_given_to_the_parser(monkeypatch):
    monkeypatch.setattr("telos.data.sources._charset.hide", lambda text: text)


@mutant(kills=f"{PAGES}::test_a_page_is_read_in_the_encoding_that_it_says", trap=49)
def the_encoding_to_the_letter(monkeypatch):
    monkeypatch.setattr("telos.data.sources._charset._LARGER", {})


@mutant(
    kills=f"{PAGES}::test_a_page_that_would_take_minutes_is_left_out_and_counted[deep-and-closed]", trap=54
)
def depth_by_what_is_left_open(monkeypatch):
    monkeypatch.setattr("telos.data.sources._page.DEPTH", 1 << 40)


@mutant(kills=f"{PAGES}::test_a_page_that_would_take_minutes_is_left_out_and_counted[long]", trap=54)
def pages_parsed_whatever_they_are(monkeypatch):
    monkeypatch.setattr("telos.data.sources._page.refused", lambda page: "")


@mutant(kills=f"{PAGES}::test_a_class_that_speaks_of_what_is_within_drops_nothing")
def classes_believed(monkeypatch):
    init = _get("telos.data.sources._page._Cutter.__init__")
    monkeypatch.setattr(
        "telos.data.sources._page._Cutter.__init__",
        lambda self, total, articles: init(self, 1 << 40, articles),
    )


@mutant(kills=f"{PAGES}::test_a_record_that_is_cut_short_is_named_wherever_it_is_cut", trap=49)
def records_cut_short_are_whole(monkeypatch):
    body = lambda self, length, wanted, begin: self._read(length)  # noqa: E731
    monkeypatch.setattr("telos.data.sources._warc._Reader._body", body)


@mutant(kills=f"{PAGES}::test_large_records_are_passed_over_without_being_in_memory", trap=54)
def answers_expand_without_limit(monkeypatch):
    import zlib

    def decoded(body, encoding, longest):
        return zlib.decompress(body, 47) if encoding else body

    monkeypatch.setattr("telos.data.sources._http._decoded", decoded)


@mutant(kills=f"{PAGES}::test_answers_and_conversions_are_documents_and_the_rest_is_counted")
def left_out_without_a_word(monkeypatch):
    read = _get("telos.data.sources.warc.Warc.read")
    silent = lambda self, file, path, skip: read(self, file, path, lambda reason, where: None)  # noqa: E731
    monkeypatch.setattr("telos.data.sources.warc.Warc.read", silent)


# ---- traps 54 and 72: archives


@mutant(kills=f"{ARCHIVES}::test_names_that_lead_out_are_left_out_and_counted", trap=72)
def names_believed(monkeypatch):
    monkeypatch.setattr(
        "telos.data.sources._members._left_out", lambda name, special, path, skip: bool(special)
    )


@mutant(kills=f"{ARCHIVES}::test_links_devices_and_holes_of_a_tar_are_left_out_and_counted", trap=72)
def holes_are_filled(monkeypatch):
    monkeypatch.setattr("tarfile.TarInfo.issparse", lambda self: False)


@mutant(kills=f"{ARCHIVES}::test_links_of_a_zip_are_left_out_and_counted", trap=72)
def only_tar_is_guarded(monkeypatch):
    monkeypatch.setattr("telos.data.sources._members.stat.S_ISREG", lambda mode: True)


@mutant(kills=f"{ARCHIVES}::test_all_members_together_have_one_limit", trap=54)
def each_member_has_a_limit_of_its_own(monkeypatch):
    spend = _get("telos.data.sources._members._Budget.spend")

    def forgetful(self, count):
        spend(self, count)
        self.used = 0

    monkeypatch.setattr("telos.data.sources._members._Budget.spend", forgetful)


@mutant(kills=f"{ARCHIVES}::test_ten_megabytes_that_expand_to_a_hundred_gigabytes[csv.gz]", trap=54)
def bombs_told_by_what_they_say(monkeypatch):
    unbounded = lambda file, path, longest=None, first=1: enumerate(file, first)  # noqa: E731
    monkeypatch.setattr("telos.data.sources._base.lines", unbounded)
    monkeypatch.setattr("telos.data.sources._base.most_expanded", lambda size: 1 << 30)


@mutant(kills=f"{ARCHIVES}::test_a_list_of_contents_that_is_too_long_is_never_read", trap=54)
def lists_of_contents_read_whole(monkeypatch):
    monkeypatch.setattr("telos.data.sources._members._check_list", lambda data, path, size: data.seek(0))


@mutant(kills=f"{ARCHIVES}::test_an_archive_that_is_cut_short_is_named_wherever_it_is_cut[a.tar]", trap=49)
def a_damaged_member_ends_the_archive(monkeypatch):
    monkeypatch.setattr("telos.data.sources._members._Seen.check_end", lambda self, end, path: None)


# ---- traps 47, 77 and 78: elsewhere


@mutant(kills=f"{REMOTE}::test_a_file_that_changed_is_another_file", trap=47)
def cached_by_name_and_size(monkeypatch):
    import hashlib

    def digest(self):
        return hashlib.md5(f"{self.url} {self.size}".encode()).hexdigest()

    monkeypatch.setattr("telos.data.remote.RemoteFile.digest", property(digest))


@mutant(kills=f"{REMOTE}::test_without_a_version_the_content_is", trap=47)
def no_version_is_a_version(monkeypatch):
    monkeypatch.setattr("telos.data.remote._identified", lambda file, access: file)


@mutant(kills=f"{REMOTE}::test_a_file_that_changes_while_it_is_fetched_is_not_mixed", trap=47)
def whatever_comes_is_taken(monkeypatch):
    monkeypatch.setattr("telos.data._web._check_same", lambda found, expected, url: None)


@mutant(kills=f"{REMOTE}::test_what_is_not_whole_never_has_the_name_of_the_file", trap=47)
def fetched_under_its_final_name(monkeypatch):
    def download(file, place, access):
        from telos.data import remote

        remote._tried(lambda: remote._go_on(file, place, access), file.url)

    monkeypatch.setattr("telos.data.remote._download", download)


@mutant(kills=f"{REMOTE}::test_the_cache_stays_below_its_limit", trap=54)
def the_cache_grows(monkeypatch):
    monkeypatch.setattr("telos.data.remote._make_room", lambda size, but, access: None)


@mutant(kills=f"{REMOTE}::test_a_file_that_trickles_is_given_up", trap=77)
def waits_for_a_whole_block(monkeypatch):
    monkeypatch.setattr("telos.data._web._read", lambda answer: answer.read(1 << 20))


@mutant(
    kills=f"{REMOTE}::test_redirections_to_private_hosts_are_refused_at_every_hop[3-https://127.0.0.1:1/x]",
    trap=77,
)
def only_the_first_hop_is_judged(monkeypatch):
    judged = _get("telos.data._web.addresses")

    def first(url, allowed):
        if url.hostname == "127.0.0.1" and f"{url.hostname}:{url.port}" not in allowed:
            return [(url.hostname, url.port)]
        return judged(url, allowed)

    monkeypatch.setattr("telos.data._web.addresses", first)


@mutant(kills=f"{REMOTE}::test_private_addresses_in_all_their_forms", trap=77)
def the_address_within_is_not_looked_at(monkeypatch):
    monkeypatch.setattr("telos.data._addresses._EMBEDDING", ())


@mutant(kills=f"{REMOTE}::test_a_name_is_looked_up_once_and_that_address_is_used", trap=77)
def names_looked_up_again(monkeypatch):
    judged = _get("telos.data._web.addresses")

    def named(url, allowed):
        return [(url.hostname, port) for _, port in judged(url, allowed)]

    def connected(address, timeout):
        import socket

        (found, *_) = socket.getaddrinfo(*address)
        made = socket.socket()
        made.connect(found[4])
        return made

    monkeypatch.setattr("telos.data._web.addresses", named)
    monkeypatch.setattr("telos.data._web.socket.create_connection", connected)


@mutant(kills=f"{REMOTE}::test_a_name_with_any_private_address_is_refused", trap=77)
def one_public_address_is_enough(monkeypatch):
    import builtins

    monkeypatch.setattr("telos.data._addresses.all", builtins.any, raising=False)


@mutant(kills=f"{REMOTE}::test_private_hosts_are_refused_before_anything_is_sent", trap=77)
def private_hosts_known_by_name(monkeypatch):
    public = _get("telos.data._addresses.is_public")
    monkeypatch.setattr(
        "telos.data._addresses.is_public", lambda address: address == "127.0.0.1" or public(address)
    )


@mutant(kills=f"{REMOTE}::test_other_schemes_are_refused", trap=77)
def files_by_url(monkeypatch):
    monkeypatch.setattr("telos.data.remote.is_remote", lambda where: "://" in where)


@mutant(kills=f"{REMOTE}::test_urls_with_secrets_are_refused_and_the_secret_is_not_shown", trap=78)
def signatures_are_no_secrets(monkeypatch):
    import re

    monkeypatch.setattr("telos.data._web._SECRET", re.compile("x^"))


@mutant(kills=f"{REMOTE}::test_no_error_shows_what_follows_the_question_mark", trap=78)
def urls_shown_whole(monkeypatch):
    for place in ("telos.data.remote", "telos.data._web", "telos.data._addresses"):
        monkeypatch.setattr(f"{place}.shown", lambda url: url.geturl())


@mutant(kills=f"{STORES}::test_a_store_that_does_not_answer_is_named_without_secrets", trap=78)
def errors_of_packages_shown_whole(monkeypatch):
    monkeypatch.setattr("telos.data._store._said", lambda error: f"{type(error).__name__}: {error}")


@mutant(kills=f"{STORES}::test_a_file_that_changed_after_it_was_listed_is_not_mixed", trap=47)
def what_the_store_has_now_is_taken(monkeypatch):
    monkeypatch.setattr("telos.data._store._check_same", lambda files, url, size, etag: None)


@mutant(kills=f"{STORES}::test_odd_names", trap=49)
def names_of_a_store_are_urls(monkeypatch):
    said = _get("telos.data._store.listed")
    from urllib.parse import quote

    monkeypatch.setattr(
        "telos.data._store.listed", lambda url: [(quote(u, safe=":/"), *rest) for u, *rest in said(url)]
    )


def _get(name: str):
    """An attribute by its dotted name: what a mutant wraps."""
    from tests.mutants.data import _get as get

    return get(name)

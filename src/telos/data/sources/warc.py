"""WARC, the format of web archives: a page or a converted text is a document (ISO 28500; WARC 1.1)."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base, _chunks, _http, _page
from telos.data.sources._base import Chunk, Skip, Source
from telos.data.sources._warc import Record, begins, members, records

__all__ = ["Warc"]


@final
class Warc(Source):
    """`.warc`, and `.wet`, Common Crawl's texts of them. Of the pages that were answered, the main text; of
    texts that were made of pages, all. The id is the address and the record's own."""

    suffixes: ClassVar[tuple[str, ...]] = (".warc", ".wet")

    def chunks(self, path: Path) -> list[Chunk]:
        """Stretches of whole records of about 64 MiB: of a plain file, and of a `.gz` in which each record is
        compressed on its own, which is expanded once to see that."""
        suffix = path.suffix.lower()
        if suffix not in (*self.suffixes, ".gz") or _chunks.too_small(path):
            return []
        with _base.explained(path), path.open("rb") as file:
            places = members(file, path) if suffix == ".gz" else begins(file, path)
            return _chunks.of_records(places, path.stat().st_size)

    def documents(
        self, path: Path, chunk: Chunk | None = None, skip: Skip = _base.ignore
    ) -> Iterator[Document]:
        with _base.open_bytes(path, chunk) as file:
            yield from _documents(records(file, path, chunk.first if chunk else 0), path, skip)

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        """`skip` is told of pages that are no text or too large, and of answers that are errors; records of
        what was asked, and of the crawl itself, are no documents.

        Raises:
            DataError: a record is damaged or cut short; with the byte it begins at, in the expanded file.
        """
        yield from _documents(records(file, path), path, skip)


def _documents(found: Iterator[Record], path: Path, skip: Skip) -> Iterator[Document]:
    for record in found:
        where = f"{path.name}, byte {record.begin:,}"
        if record.body is None:
            skip(f"a record of more than {_page.LONGEST:,} bytes", where)
        elif record.type in ("conversion", "resource"):
            yield from _plain(record, where, path, skip)
        elif record.type == "response":
            yield from _answer(record, where, path, skip)


def _plain(record: Record, where: str, path: Path, skip: Skip) -> Iterator[Document]:
    """A text, or a page that was not got by HTTP."""
    assert record.body is not None
    kind = record.content_type
    if kind in _http.PAGES:
        yield from _page_of(record, record.body, "", where, path, skip)
    elif kind in ("text/plain", ""):
        text = _base.to_text(record.body, path)
        yield Document(text=text, id=record.id, language=record.language)
    else:
        skip(f"a record of {kind}", where)


def _answer(record: Record, where: str, path: Path, skip: Skip) -> Iterator[Document]:
    assert record.body is not None
    answer = _http.answer(record.body, _page.LONGEST)
    if isinstance(answer, str):
        skip(answer, where)
    elif answer.content_type in _http.PAGES:
        yield from _page_of(record, answer.body, answer.charset, where, path, skip)
    elif answer.content_type == "text/plain":
        yield Document(text=_base.to_text(answer.body, path), id=record.id)
    else:
        skip(f"a record of {answer.content_type or 'no type'}", where)


def _page_of(
    record: Record, page: bytes, charset: str, where: str, path: Path, skip: Skip
) -> Iterator[Document]:
    if reason := _page.refused(page):
        skip(reason, where)
    else:
        yield Document(text=_page.main_text(page, path, charset), id=record.id)

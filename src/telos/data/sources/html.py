"""HTML: a page is a document, its main text (WHATWG HTML). Needs `pip install 'telos-lm[data]'`."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, final

from telos.batch import Document
from telos.data.sources import _page
from telos.data.sources._base import Skip, Source

__all__ = ["Html"]


@final
class Html(Source):
    """`.html`, `.htm` and `.xhtml`: the title, and what is neither menu nor advertisement nor program."""

    suffixes: ClassVar[tuple[str, ...]] = (".html", ".htm", ".xhtml")

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        """One document, empty where the page has no text. A page that is too large, or made to be slow, is
        left out, and `skip` is told why."""
        page = file.read(_page.LONGEST + 1)
        if reason := _page.refused(page):
            skip(reason, path.name)
        else:
            yield Document(text=_page.main_text(page, path), id=path.name)

"""Plain text and Markdown: a file is a document, or several that begin where a line matches a pattern."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base
from telos.data.sources._base import Skip, Source

__all__ = ["Text"]


@final
class Text(Source):
    """`.txt`, `.text`, `.md` and `.markdown`, plain or compressed."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".md", ".text", ".markdown")

    document_start: str = ""
    """A line that this regular expression finds begins a new document; empty: the file is one document."""

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        """Texts above `LONGEST_TEXT` come in parts, cut at blank lines, lines, or between characters."""
        if self.document_start:
            for number, data in self._beginning_lines(file, path):
                yield Document(text=_base.to_text(data, path, number == 1), id=f"{path.name}:{number}")
        else:
            for number, data in enumerate(_blocks(file, _base.LONGEST_TEXT)):
                yield Document(text=_base.to_text(data, path, number == 0), id=path.name)

    def _beginning_lines(self, file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
        """Stretches of whole lines with the number of the line that their document begins with. Blank lines
        before the first line that matches belong to its document, so that nothing is lost."""
        begins = re.compile(self.document_start).search
        held, first, number, blank = bytearray(), 1, 0, True
        while line := file.readline(_base.LONGEST_TEXT):
            number += 1
            if not blank and begins(_base.to_text(line, path).strip("\ufeff\r\n")):
                yield first, bytes(held)
                held, first, blank = bytearray(), number, True
            if held and len(held) + len(line) > _base.LONGEST_TEXT:
                yield first, bytes(held)
                held = bytearray()
            held += line
            blank = blank and not line.strip()
        if held:
            yield first, bytes(held)


def _blocks(file: BinaryIO, limit: int) -> Iterator[bytes]:
    """The whole file in stretches of at most `limit` bytes, each cut at the best place in its second half."""
    held = b""
    while data := file.read(limit - len(held)):
        held += data
        if len(held) == limit:
            place = _best_cut(held)
            yield held[:place]
            held = held[place:]
    if held:
        yield held


def _best_cut(data: bytes) -> int:
    """After the last blank line, else after the last line, else before the last character that has begun."""
    half = len(data) // 2
    for end_of_line in (b"\n\n", b"\n\r\n", b"\n"):
        if (place := data.rfind(end_of_line, half)) >= 0:
            return place + len(end_of_line)
    place = len(data) - 1
    while place > half and (
        data[place] & 0xC0 == 0x80 or data[place - 1] == 0x0D
    ):  # inside a character, or a CR LF
        place -= 1
    return place

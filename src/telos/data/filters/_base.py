"""What a filter is.

To add a filter, write a file in this folder with one final class that derives from `Filter`. Nothing else is
edited: a name in `data.filters` is a file name here.
"""

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

from telos.batch import Document
from telos.config import Member
from telos.errors import ConfigError

__all__ = ["Filter", "digest_of", "sampled", "text_files"]

_PIECES = 4


class Filter(Member, ABC):
    """Base of all filters.

    A filter is a function of one document alone: the same text gives the same answer in any order, in any
    process. It is pickled to the workers, so what it computes once belongs in a cache of its module.
    """

    @abstractmethod
    def judge(self, document: Document, text: str) -> str | None:
        """`None` keeps the document; else why it is dropped: few fixed phrases, `repetition: lines`, never a
        number or a word of the document, since documents are counted by reason.

        Args:
            document: as its source gave it.
            text: its cleaned text, which is what would be tokenised.

        Raises:
            DataError: only a filter that runs code of the user's; with file, line and document.
        """

    def mark(self, document: Document, text: str) -> Document:
        """A document that is kept, with what the filter found out about it: its language."""
        return document

    def ready(self) -> None:
        """Load what `judge` needs, once, before the first document and before workers are started.

        Raises:
            ConfigError: a package or a file is missing, or does not hold what it should.
        """

    def digest(self) -> str:
        """A hash of the files that the filter depends on; empty where it depends on none. It belongs to the
        key of what is prepared.

        Raises:
            ConfigError: a file is missing.
        """
        return ""


def digest_of(paths: list[Path]) -> str:
    """A hash of the content of files in their order; their names do not count.

    Raises:
        ConfigError: a file cannot be read.
    """
    whole = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}.") from None
    return whole.hexdigest()


def text_files(path: Path) -> list[Path]:
    """`path` itself, or every `.txt` and `.md` file under it, sorted by name, less hidden ones.

    Raises:
        ConfigError: there is no such file.
    """
    if path.is_file():
        return [path]
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in (".txt", ".md") and file.name[0] != "." and file.is_file()
    ]
    if not found:
        raise ConfigError(
            f"{path}: there is no text here: name a text file, or a folder with .txt or .md files "
            f"(relative to where you are: {Path.cwd()})."
        )
    return found


def sampled(text: str, characters: int) -> str:
    """The text if it is no longer than so many characters, else about as many in four pieces at even
    distances, the first from its beginning and the last to its end."""
    if len(text) <= characters:
        return text
    size = max(characters // _PIECES, 1)
    step = (len(text) - size) / (_PIECES - 1)
    begins = [round(step * piece) for piece in range(_PIECES)]
    return "\n".join(text[begin : begin + size] for begin in begins)

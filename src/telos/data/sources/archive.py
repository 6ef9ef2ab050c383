"""Archives of files: zip and tar. Each member is read in place by the source of its suffix."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar, final

from telos.batch import Document
from telos.config import Lax
from telos.data import sources
from telos.data.sources import _base, _members
from telos.data.sources._base import Rows, Skip, Source
from telos.find import find, names

__all__ = ["Archive"]


@final
class Archive(Rows):
    """`.zip`, `.tar`, `.tgz`, and compressed `.tar.gz` and the like. Nothing is ever written to the disk.

    Members that are links or devices, or whose names lead out of the archive, are left out and counted; so
    are archives in archives, and what no source reads.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".zip", ".tar", ".tgz")

    document_start: str = ""
    """As of text files."""
    columns: Annotated[tuple[str, ...], Lax] = ()
    """As of tables."""

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        """A document's id begins with the archive's name.

        Raises:
            DataError: the archive is damaged, has a password, expands to more than is believable, or has too
                many members.
        """
        with _members.explained(path):
            for member in _members.members(file, path, skip):
                yield from self._member(member, path, skip)

    def _member(self, member: _members.Member, path: Path, skip: Skip) -> Iterator[Document]:
        name, inside = path / member.name, Path(path.name) / member.name
        source = self._sources.get(_base.plain_suffix(name))
        if source is None:
            skip(_unread(name), inside.as_posix())
            return
        with _base.opened(member.file, name, member.size) as stream:
            for document in source.read(stream, name, skip):
                yield replace(document, id=f"{inside.parent.as_posix()}/{document.id}")

    @cached_property
    def _sources(self) -> dict[str, Source]:
        """What reads a member, by its suffix."""
        found: dict[str, Source] = {}
        for name in names(sources):
            kind = find(sources, name, Source)
            if kind.suffixes and kind is not Archive:
                given = {k: getattr(self, k) for k in type(self).model_fields if k in kind.model_fields}
                found |= dict.fromkeys(kind.suffixes, kind(**given))
        return found


def _unread(name: Path) -> str:
    if _base.plain_suffix(name) in Archive.suffixes:
        return "an archive in an archive"
    return f"a file {_base.plain_suffix(name) or 'without suffix'}"

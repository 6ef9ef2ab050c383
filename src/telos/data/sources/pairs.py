"""Sentence pairs in two files, as `train.de` and `train.en`: line n of one answers line n of the other."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, final

from pydantic import Field

from telos.batch import Document
from telos.config import Lax
from telos.data.sources import _base
from telos.data.sources._base import Skip, Source
from telos.errors import DataError

__all__ = ["Pairs"]


@final
class Pairs(Source):
    """Files whose names are alike but for the part that says the language, each with its counterpart."""

    pair: Annotated[tuple[str, ...], Lax, Field(max_length=2)] = ()
    """The parts of the names that tell the texts from the targets: `["de", "en"]` reads `train.de` and
    answers with `train.en`."""

    def files(self, path: Path | None) -> list[Path]:
        """The files of texts under `path`, each of which has a counterpart.

        Raises:
            DataError: `pair` is not given, there are no such files, or one has no counterpart.
        """
        assert path is not None
        if len(self.pair) != 2 or self.pair[0] == self.pair[1]:
            raise DataError(
                f"{path}: say which parts of the files' names tell texts from targets: "
                'data.pair=["de", "en"]'
            )
        found = [file for file in _base.walk(path) if self.pair[0] in _parts(file)]
        if not found:
            raise DataError(
                f"{path}: no file's name has the part {self.pair[0]!r}, as train.{self.pair[0]} has "
                "(data.pair)."
            )
        for file in found:
            self._counterpart(file)
        return found

    def reads(self, path: Path) -> tuple[Path, ...]:
        return (path, self._counterpart(path))

    def documents(
        self, path: Path, chunk: _base.Chunk | None = None, skip: Skip = _base.ignore
    ) -> Iterator[Document]:
        """A document is a line with its target.

        Raises:
            DataError: the files have not as many lines, and how many each has.
        """
        other = self._counterpart(path)
        with _base.open_bytes(path) as left, _base.open_bytes(other) as right:
            ours, theirs = (_base.lines(f, p, _base.LONGEST_TEXT) for f, p in ((left, path), (right, other)))
            for one, two in zip_longest(ours, theirs):
                if one is None or two is None:
                    raise _uneven(path, other)
                yield Document(
                    text=_text(one, path),
                    target=_text(two, other),
                    id=f"{path.name}:{one[0]}",
                )

    def _counterpart(self, path: Path) -> Path:
        parts = _parts(path)
        at = len(parts) - 1 - parts[::-1].index(self.pair[0])
        name = ".".join([*parts[:at], self.pair[1], *parts[at + 1 :]])
        for compression in ("", *_base.COMPRESSIONS):
            if (other := path.with_name(name + compression)).is_file():
                return other
        raise DataError(f"{path}: there is no {name} beside it, with the targets (data.pair).")


def _parts(path: Path) -> list[str]:
    """A file's name at its dots, less a compression."""
    name = path.name
    suffix = path.suffix.lower()
    return (name[: -len(suffix)] if suffix in _base.COMPRESSIONS else name).split(".")


def _text(line: tuple[int, bytes], path: Path) -> str:
    number, data = line
    return _base.to_text(data, path, number == 1).removesuffix("\n").removesuffix("\r")


def _uneven(path: Path, other: Path) -> DataError:
    counts = []
    for file in (path, other):
        with _base.open_bytes(file) as lines:
            counts.append(sum(1 for _ in _base.lines(lines, file, _base.LONGEST_TEXT)))
    return DataError(
        f"{path} has {counts[0]:,} lines and {other} has {counts[1]:,}: line n of the one must answer line n "
        "of the other. Find where they part, and mend it."
    )

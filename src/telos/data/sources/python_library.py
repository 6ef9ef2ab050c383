"""The Python standard library's own source: text that every machine has, without downloads."""

import io
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base
from telos.data.sources._base import Skip, Source
from telos.errors import DataError

__all__ = ["PythonLibrary"]

LEFT_OUT = frozenset(
    (
        *("test", "tests", "idle_test"),
        *("__pycache__", "site-packages", "dist-packages", "_bundled", "lib-dynload"),
        *("encodings", "pydoc_data", "msilib"),
    )
)
"""Folders of tests, of other people's packages, and of tables that a program wrote."""
GENERATED = frozenset(["keyword.py", "token.py", "_casefix.py", "entities.py", "stringprep.py"])
"""Files that a program wrote, or that hold little but a table."""


@final
class PythonLibrary(Source):
    """Every `.py` file of the standard library that a person wrote, less its tests; a file is a document."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    def files(self, path: Path | None) -> list[Path]:
        """The library's modules, sorted by name.

        Raises:
            DataError: this Python has no standard library as files.
        """
        root = path or Path(sysconfig.get_path("stdlib"))
        found = (
            [file for file in _base.walk(root) if _wanted(file.relative_to(root))] if root.is_dir() else []
        )
        if not found:
            raise DataError(
                f"{root}: this Python has no standard library in plain files. Give your own text: data.path=…"
            )
        return found

    def read(self, file: BinaryIO, path: Path, skip: Skip) -> Iterator[Document]:
        data = file.read()
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            text = data.decode(encoding)
        except (SyntaxError, UnicodeDecodeError):
            text = _base.to_text(data, path)
        yield Document(text=text, id=path.name)


def _wanted(file: Path) -> bool:
    generated = file.name in GENERATED or file.name.startswith("_sysconfigdata")
    return file.suffix == ".py" and not generated and LEFT_OUT.isdisjoint(file.parts[:-1])

"""A rule of your own: a Python function of the text, in a file of yours."""

import inspect
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, final

from pydantic import Field

from telos.batch import Document
from telos.config import Lax
from telos.data.filters._base import Filter, digest_of
from telos.errors import ConfigError, DataError

__all__ = ["Python"]


@final
class Python(Filter):
    """Documents that a function of yours keeps. It is given the text, or the text and the `Document`, and
    returns `True` to keep it, or `False` or a reason (one of few phrases) to drop it. It must give the same
    answer for the same document every time. The file is run as it is, with your rights."""

    file: Annotated[Path, Lax]
    """The file with the function, relative to where you are."""
    function: str = Field("keep", pattern=r"^[A-Za-z_]\w*$")
    """Its name."""

    def judge(self, document: Document, text: str) -> str | None:
        function, both = _function(self.file, self.function, _content(self.file))
        try:
            answer = function(text, document) if both else function(text)
        except Exception as error:
            raise DataError(
                f"{self._where(error)}: {type(error).__name__}: {error} (in {self.function} of data.filters, "
                f"at document {document.id}). Mend the function."
            ) from error
        if answer is True:
            return None
        if answer is False:
            return f"python: {self.function}"
        if isinstance(answer, str) and answer.strip():
            return f"python: {' '.join(answer.split())[:80]}"
        raise DataError(
            f"{self.file}: {self.function} returned {answer!r} for document {document.id}. It must return True "
            "to keep it, or False or a reason to drop it."
        )

    def _where(self, error: Exception) -> str:
        """The file, and the last line in it that the error went through."""
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(self.file)]
        return f"{self.file}:{lines[-1]}" if lines else str(self.file)

    def ready(self) -> None:
        _function(self.file, self.function, self.digest())

    def digest(self) -> str:
        _content.cache_clear()
        return _content(self.file)


@lru_cache(maxsize=16)
def _content(file: Path) -> str:
    """A hash of the file, remembered until `digest` is asked for again."""
    return digest_of([file])


@lru_cache(maxsize=16)
def _function(file: Path, name: str, digest: str) -> tuple[Callable[..., Any], bool]:
    """The function, and whether it wants the document too."""
    module = ModuleType(f"telos_filter_{digest}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    except Exception as error:
        line = error.lineno if isinstance(error, SyntaxError) else _line(error, file)
        where = f"{file}:{line}" if line else str(file)
        raise ConfigError(f"{where}: the file cannot be run: {type(error).__name__}: {error}.") from error
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(
            f"{file}: there is no function {name!r}; there are: {', '.join(there) or 'none'}. "
            "Say which it is: function = …"
        )
    wanted = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if len(wanted) not in (1, 2):
        raise ConfigError(f"{file}: {name} must take the text, or the text and the document.")
    return function, len(wanted) == 2


def _line(error: Exception, file: Path) -> int | None:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return lines[-1] if lines else None

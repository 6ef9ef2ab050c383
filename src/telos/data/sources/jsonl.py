"""JSON lines: one object per line, one document per object (jsonlines.org)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from telos.batch import Document
from telos.data.sources import _base
from telos.data.sources._base import Source
from telos.errors import DataError

__all__ = ["JsonLines"]


@final
class JsonLines(Source):
    """`.jsonl` and `.ndjson`. Lines end at line feeds and nowhere else; blank ones are skipped."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    text_key: str = "text"
    """Where the text is: a string, or a list of strings that are joined as lines."""

    def documents(self, path: Path) -> Iterator[Document]:
        with _base.open_bytes(path) as file:
            for number, line in _base.lines(file, path):
                if line.strip():
                    yield _base.record(
                        _parse(line, path, number), self.text_key, f"{path.name}:{number}", path
                    )


def _parse(line: bytes, path: Path, number: int) -> Mapping[str, Any]:
    try:
        value = json.loads(_base.to_text(line, path, number == 1))
    except (json.JSONDecodeError, RecursionError) as error:
        what = (
            f"{error.msg} at column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else "nested too deeply"
        )
        raise DataError(
            f"{path}:{number}: not a JSON object: {what}. A line must be one whole object; mend or delete it."
        ) from None
    if not isinstance(value, dict):
        raise DataError(
            f'{path}:{number}: this is {_base.kind_of(value)}, not an object such as {{"text": "…"}}.'
        )
    return value

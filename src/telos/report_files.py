"""The files of a run's folder as the report reads them."""

import json
import tomllib
from pathlib import Path
from typing import Any

from telos.errors import DataError

__all__ = ["json_of", "lines_of", "toml_of"]


def json_of(path: Path, default: Any) -> Any:
    """What is in a file of JSON, or `default` where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}. Delete it and make it again (telos evaluate).") from None


def toml_of(path: Path) -> dict[str, Any]:
    """What is in a file of TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not TOML: {error}.") from None


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl`; a last line that was cut short by a crash is left out."""
    records = []
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records

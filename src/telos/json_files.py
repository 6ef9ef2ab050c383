"""Files that hold one JSON object: read with care, whoever wrote them."""

import json
from pathlib import Path
from typing import Any

from telos.errors import TelosError

__all__ = ["read_object"]

LARGEST = 64 << 20
"""Bytes; nothing that is read whole here comes near it."""


def read_object(path: Path, error: type[TelosError], advice: str = "") -> dict[str, Any]:
    """The object in a file.

    Args:
        error: what is raised when there is none: the reader knows whose file it is.
        advice: what the file is a part of, or how to mend it; whole sentences.

    Raises:
        TelosError: as `error`: it cannot be read, is no JSON, no object, or far too large.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise error(_said(path, f"it is larger than {LARGEST >> 20} MiB", advice))
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as reason:
        raise error(_said(path, reason.strerror or str(reason), advice)) from None
    except (ValueError, RecursionError):
        raise error(_said(path, "not JSON", advice)) from None
    if not isinstance(found, dict):
        raise error(_said(path, "not a JSON object", advice))
    return found


def _said(path: Path, why: str, advice: str) -> str:
    return f"{path}: cannot be read: {why}. {advice}".rstrip()

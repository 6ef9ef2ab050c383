"""One reader of small JSON files: what it refuses, and in whose name."""

from pathlib import Path

import pytest

from telos import json_files
from telos.errors import CheckpointError, DataError
from telos.json_files import read_object


def test_an_object_is_read_and_all_else_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": ["床", 1.5]}', encoding="utf-8")
    assert read_object(path, DataError) == {"a": ["床", 1.5]}
    for content, why in (
        (b"{]", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"a\.json: cannot be read: {why}\. Make it again\.$"):
            read_object(path, DataError, "Make it again.")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"a\.json: cannot be read: No such file or directory\.$"):
        read_object(path, CheckpointError)
    path.write_text('{"a": 1}', encoding="utf-8")
    monkeypatch.setattr(json_files, "LARGEST", 4)
    with pytest.raises(DataError, match="larger than"):
        read_object(path, DataError)

"""`telos serve` before it serves: what it refuses, and what it takes a key from."""

import sys
from pathlib import Path
from typing import Any

import pytest

from telos import cli
from telos.run import Run
from telos.serve import server
from telos.serve.settings import ServeSettings


def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["telos", "serve", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ServeSettings, str]]:
    """What a server was begun with, in place of beginning it."""
    seen: list[tuple[Any, ServeSettings, str]] = []
    monkeypatch.setattr(
        server, "serve", lambda runs, settings, *, key, **more: seen.append((runs, settings, key))
    )
    monkeypatch.delenv("TELOS_API_KEY", raising=False)
    return seen


def test_keys_come_from_a_file_or_the_environment(
    begun: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Trap 78: never from the command line, which every user of the machine can see."""
    assert told(monkeypatch, capsys, "runs/a", "runs/b", "--set", "limits.tokens=5")[0] == 0
    assert begun[-1] == ([Path("runs/a"), Path("runs/b")], ServeSettings(limits={"tokens": 5}), "")
    monkeypatch.setenv("TELOS_API_KEY", "from-the-environment")
    told(monkeypatch, capsys, "runs/a", "--host", "0.0.0.0", "--port", "9")
    assert begun[-1][1:] == (ServeSettings(host="0.0.0.0", port=9), "from-the-environment")
    (tmp_path / "key").write_text("from-the-file-0000\n")
    told(monkeypatch, capsys, "runs/a", "--key-file", tmp_path / "key")
    assert begun[-1][2] == "from-the-file-0000"


@pytest.mark.parametrize(
    "content", ["", "short", "two words that are long", "a" * 20 + "\n" + "b" * 20, "schlüssel" * 3]
)
def test_a_key_that_is_none_is_refused(
    begun: list[Any],
    content: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "key").write_text(content)
    status, said = told(monkeypatch, capsys, "runs/a", "--key-file", tmp_path / "key")
    assert status == 2 and "a key is one line of at least 16" in said and not begun
    assert not content or content not in said
    monkeypatch.setenv("TELOS_API_KEY", content)
    assert told(monkeypatch, capsys, "runs/a")[0] == 2 and not begun


def test_what_cannot_be_served_is_refused(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("TELOS_API_KEY", raising=False)
    run = runs["gru"].folder
    for words, message in (
        ((tmp_path,), "not a run"),
        ((run, "--host", "0.0.0.0"), "others can reach this address"),
        ((run, "--key-file", tmp_path / "none"), "cannot be read"),
        ((run, "--set", "limits.token=1"), "Did you mean 'limits.tokens'"),
        ((run, "--set", "host=no.such.host.invalid", "--set", "drain=-1"), "drain"),
    ):
        status, said = told(monkeypatch, capsys, *words)
        assert status == 2 and message in said and "Traceback" not in said


def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "telos.serve.server", None)
    status, said = told(monkeypatch, capsys, "runs/a")
    assert status == 2 and "pip install 'telos-lm[serve]'" in said

"""Every program of `examples/` is short, runs, and does what it says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.small import SHRUNK, write_texts

FOLDER = Path(__file__).parents[1] / "examples"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py"))
TINY = (*SHRUNK, "tokenizer.size=300")


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_texts(tmp_path / "my-texts")


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_short_says_what_it_is_and_is_tested(name: str) -> None:
    assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 120
    assert f"python examples/{name}.py" in (program(name).__doc__ or "")
    assert f"test_{name}" in globals(), "each example has a test of what it does"


def test_dirty_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data card has what was planted, to the document, and nothing is lost."""
    monkeypatch.chdir(tmp_path)
    made = program("dirty_corpus")
    planted, card = made.main(Path("dirty"), 40)
    assert {what: made.found(card, what) for what in planted} == planted
    assert sum(drop["documents"] for drop in card.dropped.values()) + planted["kept"] == card.documents


def test_train_and_generate(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = program("train_and_generate").main(texts, "model={width=16, depth=1, heads=2}", *TINY)
    assert run.folder == Path("runs/my-texts")
    assert "bits per byte" in capsys.readouterr().out


def test_compare_models(texts: Path) -> None:
    found = program("compare_models").main(texts, *TINY)
    assert set(found) == {"llama-style", "gpt2-style", "gru"} and all(value > 0 for value in found.values())


def test_look_inside_a_batch() -> None:
    lines = program("look_inside_a_batch").main().splitlines()
    assert len(lines) == sum(len(text) + 1 for text in ("the cat", "a dog barks", "no"))
    assert lines[0].startswith("<|begin|> █·") and lines[0].endswith("· a")
    assert all(line.split()[-1] != "<|begin|>" for line in lines), (
        "nothing predicts the beginning of a document"
    )


def test_own_training_loop() -> None:
    losses = program("own_training_loop").main(40)
    assert losses[-1] < 0.6 * losses[0]

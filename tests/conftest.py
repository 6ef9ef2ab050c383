"""What all tests share: where the data lies, settings of hypothesis, and the switch that puts a bug back."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before PyTorch is imported

import hypothesis
import pytest

hypothesis.settings.register_profile("telos", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("telos")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", help="put this bug back before the tests are collected (see tests/mutants)")


def pytest_sessionstart(session: pytest.Session) -> None:
    name = session.config.getoption("--mutant")
    if name:
        from tests.mutants import all_mutants

        monkeypatch = pytest.MonkeyPatch()
        all_mutants()[name].apply(monkeypatch)
        session.config.add_cleanup(monkeypatch.undo)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of public data sets: `TELOS_DATA`, or `shared/data` beside the repository.

    Without either the test is skipped. Where `TELOS_DATA` is set but the folder is not there, the test
    fails: whoever names a folder wants the tests that need it to run.
    """
    given = os.environ.get("TELOS_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    if folder.is_dir():
        return folder
    if given:
        pytest.fail(f"TELOS_DATA={given}: there is no such folder.")
    pytest.skip("needs the public data sets: set TELOS_DATA to their folder")

"""What the programs that measure share: versions as an interpreter has them, and runs that are whole."""

import signal
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.harness.machine import versions_in
from benchmarks.harness.whole import whole

from telos.train.loop import Outcome


def test_versions_are_those_of_the_interpreter_that_is_asked() -> None:
    found = versions_in(Path(sys.executable), "numpy", "torch", "no-such-package")
    assert found == {"numpy": version("numpy"), "torch": version("torch")}
    assert versions_in(Path("/no/such/python"), "numpy") == {}


@pytest.mark.parametrize("outcome", [None, Outcome(reason="budget", step=9)])
def test_a_whole_run_is_handed_on(outcome: Outcome | None) -> None:
    run: Any = SimpleNamespace(outcome=outcome)
    assert whole(run) is run


def test_a_run_that_was_stopped_is_no_result() -> None:
    run: Any = SimpleNamespace(outcome=Outcome(reason="signal", step=4, signal=signal.SIGTERM))
    with pytest.raises(SystemExit, match="143"):
        whole(run)

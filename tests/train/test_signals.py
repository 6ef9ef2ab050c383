"""Asked to stop, a run finishes its step, is saved and can be gone on with; asked twice, it ends at once."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
import torch

from telos.batch import Example, Read
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.tokenizer import Tokenizer
from telos.train import checkpoint
from telos.train.loop import Trainer
from tests.train import tiny

FORK = multiprocessing.get_context("fork")


def tell(number: int) -> Callable[[Any], Any]:
    return lambda _: os.kill(os.getpid(), number)


def whole(tmp_path: Path, **rest: Any) -> str:
    made = tiny.trainer(tmp_path / "whole", **rest)
    made.run()
    return tiny.digest(made.models["main"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_a_step_lets_it_finish(tmp_path: Path, number: int) -> None:
    """Trap 66: the step is done, saved and counted; the exit status is known, the handlers are put back."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    made = tiny.trainer(tmp_path)
    take = made.take

    def during(step: Any) -> None:
        if made.state.step == 4:
            os.kill(os.getpid(), number)
        take(step)

    made.take = during  # type: ignore[method-assign]
    outcome = made.run()
    assert (outcome.reason, outcome.step, outcome.signal) == ("signal", 5, number)
    assert outcome.exit_status == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    again = tiny.trainer(tmp_path)
    assert again.resume() == 5
    again.run()
    assert tiny.digest(again.models["main"]) == whole(tmp_path)


def test_a_signal_during_evaluation_does_not_wait_for_its_end(tmp_path: Path) -> None:
    """Trap 66: the evaluation is broken off, the step saved; going on, the evaluation of that step is made up
    for.
    """
    scored: list[int] = []

    def slow(network: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
        return {"loss": 1.0}

    made = tiny.trainer(tmp_path, "watch.evaluate_every=3", validate=slow)
    start = time.monotonic()
    outcome = made.run()
    assert time.monotonic() - start < 10 and (outcome.reason, outcome.step) == ("signal", 3)
    log = tiny.Recorder()

    def quick(network: Any) -> dict[str, float]:
        scored.append(again.state.step)
        return {"loss": 1.0}

    again = tiny.trainer(tmp_path, "watch.evaluate_every=3", validate=quick, log=log)
    assert again.resume() == 3
    again.run()
    assert scored == [3, 6, 9, 12]
    assert tiny.digest(again.models["main"]) == whole(tmp_path)


@final
class Slow(Objective):
    """Causal; a signal comes while one of the samples is made, which takes for ever."""

    def cut(self, window: int) -> Any:
        return Causal().cut(window)

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        if str(index) == os.environ["TELOS_TEST_AT"] and not os.environ.get("TELOS_TEST_QUICK"):
            os.kill(int(os.environ["TELOS_TEST_TRAINER"]), signal.SIGTERM)
            time.sleep(30)
        return Causal().example(read, index, rng, tokenizer)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_while_waiting_for_data_does_not_wait(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 66: in the training process or in a worker, the data that is being made is left behind."""
    ledger = tiny.ledger(unbroken := tiny.trainer(tmp_path / "unbroken"))
    unbroken.run()
    monkeypatch.setenv("TELOS_TEST_AT", str(ledger()[8][0][0]))
    monkeypatch.setenv("TELOS_TEST_TRAINER", str(os.getpid()))
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 1.0)
    made = tiny.trainer(tmp_path, f"loader.workers={workers}", objective=Slow())
    start = time.monotonic()
    outcome = made.run()
    assert time.monotonic() - start < 15 and outcome.reason == "signal"
    assert checkpoint.newest_valid(tmp_path / "checkpoints") is not None
    monkeypatch.setenv("TELOS_TEST_QUICK", "1")
    again = tiny.trainer(tmp_path, objective=Slow())
    assert again.resume() == outcome.step < 12
    again.run()
    assert tiny.digest(again.models["main"]) == tiny.digest(unbroken.models["main"])


def test_a_signal_during_a_save_lets_it_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 66: and does not save twice."""
    saved: list[int] = []
    before = checkpoint.save

    def during(folder: Path, step: int, *rest: Any) -> Path:
        saved.append(step)
        os.kill(os.getpid(), signal.SIGTERM)
        return before(folder, step, *rest)

    monkeypatch.setattr(checkpoint, "save", during)
    outcome = tiny.trainer(tmp_path, "watch.checkpoint_every=4").run()
    assert outcome.step == 4 and saved == [4]
    assert checkpoint.newest_valid(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "step-00000004"


@pytest.mark.skipif(torch.cuda.is_available(), reason="autograd does not run in a fork beside CUDA")
def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    """Trap 66: whoever asks twice means it; what was saved stays whole."""

    def stubborn() -> None:
        torch.set_num_threads(1)
        made = tiny.trainer(tmp_path, "watch.checkpoint_every=2")
        made.periodic += [(4, tell(signal.SIGINT)), (4, tell(signal.SIGTERM)), (4, lambda _: time.sleep(30))]
        made.run()

    process = FORK.Process(target=stubborn)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGTERM
    assert checkpoint.newest_valid(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "step-00000004"


def test_in_another_thread_training_works_without_handlers(tmp_path: Path) -> None:
    import threading

    ended: list[Any] = []
    made: Trainer = tiny.trainer(tmp_path)
    thread = threading.Thread(target=lambda: ended.append(made.run()))
    thread.start()
    thread.join(60)
    assert ended[0].step == 12

"""A run that was stopped and gone on with is the run that was never stopped, to the bit."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from telos.errors import CheckpointError
from telos.train import checkpoint
from telos.train.loop import Trainer
from tests.train import tiny

STEPS = 18
VARIANTS: list[dict[str, Any]] = [
    {"model": "decoder", "changes": ["budget.steps=18"]},
    {"model": "decoder", "changes": ["budget.steps=18", "loader.workers=2", "compute.micro_batch=3"]},
    {"model": "gru", "changes": ["budget.steps=18", "loader.carry=true", "batch=3", "optimizer.name=adam"]},
    {"model": "gru", "changes": ["budget.steps=18", "optimizer={name='sgd'}", "compute.precision=bfloat16"]},
]
NAMES = ["decoder", "decoder, workers", "gru, carried", "gru, SGD, bfloat16"]
DOCUMENTS = tiny.texts(8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(folder: Path, variant: dict[str, Any], *more: str) -> tuple[Trainer, tiny.Recorder]:
    log = tiny.Recorder()
    changes = [*variant["changes"], "watch.checkpoint_every=1", "watch.keep=100", *more]
    made = tiny.trainer(folder, *changes, model=variant["model"], documents=DOCUMENTS, log=log)
    return made, log


def figures(log: tiny.Recorder) -> list[dict[str, Any]]:
    """What was logged, less what a clock says."""
    return [{k: v for k, v in line.items() if "second" not in k} for line in log.lines]


def only(source: Path, target: Path, step: int) -> None:
    """`target` as it would be had the run been killed just after the checkpoint of `step`."""
    (target / "checkpoints").mkdir(parents=True)
    name = f"step-{step:08d}"
    shutil.copytree(source / "checkpoints" / name, target / "checkpoints" / name)


def optimizer_bits(trainer: Trainer) -> list[bytes]:
    states = trainer.optimizer.state_dict()["state"]
    tensors = [
        states[k][n] for k in sorted(states) for n in sorted(states[k]) if torch.is_tensor(states[k][n])
    ]
    return [t.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes() for t in tensors]


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_stopped_at_any_step_a_run_goes_on_as_if_it_had_not_been(
    tmp_path: Path, variant: dict[str, Any]
) -> None:
    """Traps 27, 40, 42, 61, 62 and 63: over three epochs, cut everywhere, within blocks and at their borders.

    Losses, learning rates, norms, samples, weights and the optimizer's state are equal to the bit.
    """
    whole, log = make(tmp_path / "whole", variant)
    ledger = tiny.ledger(whole)
    whole.run()
    assert whole.state.epochs > 2
    expected = tiny.digest(whole.models["main"]), optimizer_bits(whole)
    for step in range(1, STEPS, 1 if variant is VARIANTS[0] else 4):
        folder = tmp_path / str(step)
        only(tmp_path / "whole", folder, step)
        torch.manual_seed(step)  # whatever the process drew before
        again, more = make(folder, variant)
        taken = tiny.ledger(again)
        assert again.resume() == step
        again.run()
        assert taken() == ledger()[step:]
        assert figures(more) == figures(log)[step:]
        assert (tiny.digest(again.models["main"]), optimizer_bits(again)) == expected


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMES)
def test_three_resumes_and_none_between_them(tmp_path: Path, variant: dict[str, Any]) -> None:
    """Trap 41: a second and a third resume too, and a save right after a load is what was loaded, byte for
    byte.
    """
    whole, log = make(tmp_path / "whole", variant)
    whole.run()
    lines: list[dict[str, Any]] = []
    for stop in (5, 6, 13, STEPS):
        part, more = make(tmp_path / "parts", variant)
        start = part.resume()
        if start:
            saved = {
                p.name: p.read_bytes()
                for p in (tmp_path / "parts" / "checkpoints" / f"step-{start:08d}").iterdir()
            }
            part._saved = -1
            part.save()
            path = tmp_path / "parts" / "checkpoints" / f"step-{start:08d}"
            assert {p.name: p.read_bytes() for p in path.iterdir()} == saved
        if stop < STEPS:
            part.periodic.append((stop, stops))
        part.run()
        lines += figures(more)
        assert part.state.step == stop
    assert lines == figures(log)
    assert tiny.digest(part.models["main"]) == tiny.digest(whole.models["main"])


def stops(trainer: Trainer) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_precision_of_a_run_is_kept(tmp_path: Path) -> None:
    """A run begun in bfloat16 goes on in it, whatever the machine would choose now."""
    first = tiny.trainer(tmp_path, "compute.precision=bfloat16", "budget.steps=2")
    first.run()
    again = tiny.trainer(tmp_path, "compute.precision=auto")
    again.state.precision = "float32"
    again.resume()
    assert again.state.precision == "bfloat16"


@pytest.mark.parametrize("kind", ["cosine", "wsd", "constant"])
def test_the_rate_is_a_function_of_the_place_in_the_run(tmp_path: Path, kind: str) -> None:
    """Trap 62: each step has the rate that the schedule says, first and last pinned, through every resume."""
    changes = [f"schedule.kind={kind}", "schedule.warmup=4.0", "budget.steps=20", "optimizer.rate=0.5"]
    rates: list[float] = []
    for stop in (3, 4, 11, 16, 20):
        log = tiny.Recorder()
        part = tiny.trainer(tmp_path, *changes, log=log)
        part.resume()
        if stop < 20:
            part.periodic.append((stop, stops))
        part.run()
        rates += [line["rate"] for line in log.lines]
    assert len(rates) == 20
    assert rates[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5], rel=0.15) and rates[0] == pytest.approx(
        0.125
    )
    unbroken = tiny.Recorder()
    whole = tiny.trainer(tmp_path, *changes, log=unbroken, folder=None)
    whole.run()
    assert rates == [line["rate"] for line in unbroken.lines]
    assert rates[-1] == pytest.approx(
        {"cosine": 0.5 * 0.00616, "wsd": 0.125, "constant": 0.5}[kind], rel=0.01
    )
    assert {group["lr"] for group in whole.optimizer.param_groups} == {rates[-1]}


def test_a_larger_budget_goes_on(tmp_path: Path) -> None:
    tiny.trainer(tmp_path, "budget.steps=5").run()
    again = tiny.trainer(tmp_path, "budget.steps=9")
    again.resume()
    assert again.run().step == 9


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    scored: list[int] = []

    def validate(network: Any) -> dict[str, float]:
        scored.append(1)
        return {"loss": 2.0}

    tiny.trainer(tmp_path, validate=validate).run()
    again = tiny.trainer(tmp_path, validate=validate)
    again.resume()
    before = tiny.digest(again.models["main"])
    assert again.run().step == 12 and scored == [1] and tiny.digest(again.models["main"]) == before


def test_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 64: at the level of a run."""
    tiny.trainer(tmp_path, "budget.steps=1").run()
    monkeypatch.setitem(tiny.SMALL, "decoder", {"width": 32, "depth": 1, "heads": 2})
    with pytest.raises(CheckpointError, match=r"embedding\.weight as torch\.float32"):
        tiny.trainer(tmp_path).resume()
    with pytest.raises(CheckpointError, match="it lacks"):
        tiny.trainer(tmp_path, model="gru").resume()


def test_state_that_is_not_a_state_is_refused(tmp_path: Path) -> None:
    """A checkpoint whose hashes are right and whose content is not."""
    made = tiny.trainer(tmp_path, "budget.steps=2")
    made.run()
    found = checkpoint.load(checkpoint.newest_valid(tmp_path / "checkpoints"))  # type: ignore[arg-type]
    for state in ({}, {"run": {}}, {"run": {**found.state["run"], "place": {"epoch": "x", "y": 1}}}):
        path = checkpoint.save(tmp_path / "bad", 2, found.tensors, state)
        with pytest.raises(CheckpointError):
            made.load(checkpoint.load(path))


def test_the_best_checkpoint_is_outside_of_the_rotation(tmp_path: Path) -> None:
    """Trap 59: the best on validation stays, with the newest ones, and is named."""
    losses = iter([5.0, 3.0, 4.0, float("nan"), 6.0, 7.0])
    made = tiny.trainer(
        tmp_path,
        "watch.evaluate_every=2",
        "watch.checkpoint_every=1",
        "watch.keep=2",
        validate=lambda network: {"loss": next(losses)},
    )
    made.run()
    folder = tmp_path / "checkpoints"
    assert sorted(p.name for p in folder.glob("step-*")) == [f"step-{k:08d}" for k in (4, 11, 12)]
    assert checkpoint.best(folder) == folder / "step-00000004"
    again = tiny.trainer(tmp_path)
    again.resume()
    assert again.state.best is not None and (again.state.best.step, again.state.best.loss) == (4, 3.0)


def test_the_last_evaluation_may_be_the_best(tmp_path: Path) -> None:
    """After the last checkpoint was written: it is written again, with what the evaluation found."""
    made = tiny.trainer(tmp_path, "watch.checkpoint_every=4", validate=lambda network: {"loss": 1.0})
    made.run()
    path = checkpoint.best(tmp_path / "checkpoints")
    assert path is not None and path.name == "step-00000012"
    assert checkpoint.load(path).state["run"]["best"] == {"step": 12, "loss": 1.0}


def last_step(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return len(lines)


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_three_times_a_run_ends_as_if_it_had_not_been(tmp_path: Path, workers: int) -> None:
    """Traps 40, 41, 57 and 61: 100 steps are 37 + kill -9 + resume + … three times, in processes of their
    own.

    Dropout is on. Every line of metrics.jsonl and every bit of the weights is as in one go.
    """
    draw = random.Random(workers)
    changes = [
        "budget.steps=100",
        "watch.checkpoint_every=5",
        "watch.keep=3",
        f"loader.workers={workers}",
        "watch.log={tensorboard=false}",
    ]
    told = {"model": "decoder", "changes": changes}
    folder = tmp_path / "killed"
    folder.mkdir()
    for at in (37, 58, 83):
        process = tiny.process(folder, told)
        while last_step(folder) < at + draw.randint(0, 3) and process.is_alive():
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process = tiny.process(folder, told)
    process.join(120)
    said = json.loads((folder / "outcome.json").read_text())
    assert process.exitcode == 0 and 80 <= said.pop("start") < 90
    whole = tiny.trainer(tmp_path / "whole", *changes[:4], log=(log := tiny.Recorder()))
    whole.run()
    assert said == {"step": 100, "reason": "budget", "weights": tiny.digest(whole.models["main"])}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [{k: v for k, v in line.items() if "second" not in k} for line in lines] == figures(log)

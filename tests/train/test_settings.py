"""Every setting of training does something, and the machine's precision is chosen once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from telos.config import fingerprint
from telos.errors import TrainingError
from telos.train import loop, precision
from telos.train.log import Log
from telos.train.settings import TrainSettings
from tests.train import tiny
from tests.train.test_loop import Breaking

CHANGES: dict[str, tuple[str, list[str]]] = {
    "window": ("window=12", []),
    "batch": ("batch=3", []),
    "budget.steps": ("budget.steps=9", []),
    "budget.epochs": ("budget.epochs=0.3", []),
    "budget.tokens": ("budget.tokens=200", []),
    "budget.minutes": ("budget.minutes=0.000001", []),
    "optimizer.rate": ("optimizer.rate=0.02", []),
    "optimizer.decay": ("optimizer.decay=0.3", []),
    "optimizer.betas": ("optimizer.betas=[0.8, 0.9]", []),
    "optimizer.epsilon": ("optimizer.epsilon=0.1", []),
    "schedule.kind": ("schedule.kind=constant", []),
    "schedule.warmup": ("schedule.warmup=6.0", []),
    "schedule.final": ("schedule.final=0.5", []),
    "schedule.decay": ("schedule.decay=0.6", ["schedule.kind=wsd"]),
    "schedule.average": ("schedule.average=0.2", []),
    "compute.precision": ("compute.precision=bfloat16", []),
    "compute.micro_batch": ("compute.micro_batch=1", []),
    "compute.compile": ("compute.compile=true", []),
    "compute.recompute": ("compute.recompute=true", []),
    "compute.clip": ("compute.clip=0.1", []),
    "watch.evaluate_every": ("watch.evaluate_every=5", []),
    "watch.checkpoint_every": ("watch.checkpoint_every=5", []),
    "watch.keep": ("watch.keep=1", ["watch.checkpoint_every=3"]),
    "watch.log_every": ("watch.log_every=2", []),
    "watch.stop_after_bad": ("watch.stop_after_bad=3", ["broken"]),
    "watch.log.tensorboard": ("watch.log.tensorboard=true", []),
    "watch.log.wandb": ("watch.log.wandb={project='x'}", []),
    "watch.log.mlflow": ("watch.log.mlflow={experiment='x'}", []),
    "loader.workers": ("loader.workers=1", []),
    "loader.timeout": ("loader.timeout=2.0", ["loader.workers=1"]),
    "loader.block": ("loader.block=5", []),
    "loader.carry": ("loader.carry=true", ["gru"]),
}
"""Every leaf of the settings: a change of it, and what must be set besides for it to matter."""


def leaves(settings: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_table_of_changes_is_complete() -> None:
    elsewhere = {"loader.mix"}  # needs text of several sources: tests/data/test_mixture.py
    assert set(leaves(tiny.train_settings())) - elsewhere == set(CHANGES)


def footprint(folder: Path, changes: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Everything that can be seen of a run."""
    seen: dict[str, Any] = {"opened": [], "scored": 0, "shapes": []}
    before = torch.utils.data.DataLoader.__init__

    def spy(self: Any, *args: Any, **given: Any) -> None:
        seen["workers"], seen["timeout"] = given["num_workers"], given["timeout"]
        before(self, *args, **given)

    def sees(name: str) -> Any:
        seen["opened"].append(name)
        raise OSError("not in this test")

    monkeypatch.setattr(torch.utils.data.DataLoader, "__init__", spy)
    monkeypatch.setattr("telos.train.log._optional", sees)
    monkeypatch.setattr("telos.train.compiled.BACKEND", "eager")  # no code is made
    settings = [change for change in changes if "=" in change]
    objective = Breaking(kind="always", at=2) if "broken" in changes else None
    model = "gru" if "gru" in changes else "decoder"

    def validate(network: Any) -> dict[str, float]:
        seen["scored"] += 1
        return {"loss": 1.0 + seen["scored"]}

    made = tiny.trainer(folder, *settings, model=model, objective=objective, validate=validate)
    made.log = Log(folder, made.settings.watch.log)
    made.periodic.append((1, lambda t: seen["shapes"].append((t._norm, t.state.step))))
    take = made.take

    def noting(step: Any) -> None:
        seen["shapes"].append([tuple(batch.main.ids.shape) for batch in step.batches])
        take(step)

    made.take = noting  # type: ignore[method-assign]
    try:
        made.run()
    except TrainingError as error:
        seen["error"] = str(error)
    seen["weights"] = tiny.digest(made.models["main"])
    seen["files"] = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if ".telos" not in p.name)
    seen["lines"] = len((folder / "metrics.jsonl").read_text().splitlines())
    seen["precision"] = made.state.precision
    seen["compiled"] = made.state.compiled
    seen["recompute"] = made.models["main"].recompute
    return seen


@pytest.mark.filterwarnings("ignore:.*cannot be written.*:RuntimeWarning")
@pytest.mark.parametrize("key", CHANGES)
def test_every_setting_changes_the_fingerprint_and_the_run(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 39: a setting that reaches no code is found, because nothing that can be seen changes with it."""
    change, besides = CHANGES[key]
    settings = [b for b in besides if "=" in b]
    before, after = tiny.train_settings(*settings), tiny.train_settings(*settings, change)
    assert fingerprint(before) != fingerprint(after)
    with monkeypatch.context() as patch:
        one = footprint(tmp_path / "one", besides, patch)
    with monkeypatch.context() as patch:
        other = footprint(tmp_path / "other", [*besides, change], patch)
    assert one != other


def test_two_runs_of_the_same_settings_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without which the test above would say nothing."""
    assert footprint(tmp_path / "a", [], monkeypatch) == footprint(tmp_path / "b", [], monkeypatch)


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ("fpu avx2", "float32"),
        ("avx512f avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        ("", "float32"),
    ],
)
def test_precision_follows_the_processor(flags: str, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.processor.processor_flags", lambda: set(flags.split()))
    cpu = torch.device("cpu")
    assert precision.resolved("auto", cpu) == chosen
    assert (
        precision.resolved("float32", cpu) == "float32" and precision.resolved("bfloat16", cpu) == "bfloat16"
    )
    assert precision.resolved("auto", torch.device("mps")) == "float32"


def test_bfloat16_multiplies_in_it_and_keeps_the_weights_in_float32(tmp_path: Path) -> None:
    made = tiny.trainer(tmp_path, "compute.precision=bfloat16", folder=None)
    kinds = set()
    made.models["main"].register_forward_hook(lambda m, a, out: kinds.add(torch.is_autocast_enabled("cpu")))
    made.run()
    assert kinds == {True} and not torch.is_autocast_enabled("cpu")
    state = made.optimizer.state_dict()["state"]
    tensors = [*made.models["main"].parameters(), *(t for s in state.values() for t in s.values())]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_the_default_settings_are_whole() -> None:
    settings = TrainSettings.model_validate({"budget": {"steps": 1}})
    assert settings.optimizer.name == "adamw" and settings.watch.log.tensorboard
    assert loop.Outcome(reason="budget", step=1).exit_status == 0

"""Logs say each step once, hold no secret, and never disturb a run."""

import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from telos.config import read
from telos.errors import ConfigError
from telos.train.display import display
from telos.train.log import Log, LogSettings
from tests.train import tiny

PLAIN = LogSettings(tensorboard=False)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_resumed_log_has_each_step_once(tmp_path: Path) -> None:
    """What was logged after the checkpoint, and a line torn by a kill, are cut off."""
    log = Log(tmp_path, PLAIN)
    log.start(0)
    for step in range(1, 8):
        log.write(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    log = Log(tmp_path, PLAIN)
    log.start(5)
    log.write(6, {"loss": 60.0})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        *((float(k), k) for k in range(1, 6)),
        (6, 60.0),
    ]


def test_a_new_run_begins_a_new_log(tmp_path: Path) -> None:
    for _ in range(2):
        log = Log(tmp_path, PLAIN)
        log.start(0)
        log.write(1, {"loss": 1.0})
    assert len(lines(tmp_path)) == 1


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    """JSON has no NaN: every line is read by any JSON reader."""
    log = Log(tmp_path, PLAIN)
    log.start(0)
    log.write(1, {"loss": float("nan"), "norm": float("inf"), "n": 3})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": null, "norm": null, "n": 3}\n'


def test_tensorboard_reads_the_events(tmp_path: Path) -> None:
    """After a resume too: what the first attempt logged later than the checkpoint is gone."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, steps in ((0, range(1, 8)), (4, range(5, 10))):
        log = Log(tmp_path, LogSettings())
        log.start(start)
        for step in steps:
            log.write(step, {"loss": start + step / 10, "nothing": None, "text": "x"})
        log.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = EventAccumulator(str(tmp_path / "tensorboard"))
        found.Reload()
    assert found.Tags()["scalars"] == ["loss"]
    scalars = [(event.step, event.value) for event in found.Scalars("loss")]
    expected = [(k, k / 10) for k in range(1, 5)] + [(k, 4 + k / 10) for k in range(5, 10)]
    assert scalars == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]


def test_a_log_that_cannot_be_written_is_told_once_and_training_goes_on(tmp_path: Path) -> None:
    """Trap 60: the weights are those of a run whose log could be written, and so is the checkpoint."""
    good = tiny.trainer(tmp_path / "good", log=Log(tmp_path / "good", PLAIN))
    good.run()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metrics.jsonl").mkdir()
    (tmp_path / "bad" / "tensorboard").write_text("a file where a folder should be")
    bad = tiny.trainer(tmp_path / "bad", log=Log(tmp_path / "bad", LogSettings()))
    with pytest.warns(RuntimeWarning) as told:
        bad.run()
    assert sorted(str(w.message).partition(":")[0] for w in told) == ["TensorBoard", "metrics.jsonl"]
    assert tiny.digest(bad.models["main"]) == tiny.digest(good.models["main"])
    assert (tmp_path / "bad" / "checkpoints" / "step-00000012" / "manifest.json").exists()


def test_a_disk_that_fills_up_while_logging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 60: told once, not at every step."""
    log = Log(tmp_path, PLAIN)
    log.start(0)

    def full(*args: Any, **rest: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.warns(RuntimeWarning, match=r"metrics\.jsonl: cannot be written .*No space") as told:
        for step in range(1, 5):
            log.write(step, {"loss": 1.0})
    assert len(told) == 1


def test_a_run_writes_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 78: canaries in the environment and on the command line are in no byte of what a run writes."""
    canaries = ["canary-of-the-environment", "canary-of-the-command-line", "canary-of-the-tracker"]
    monkeypatch.setenv("WANDB_API_KEY", canaries[0])
    monkeypatch.setenv("HF_TOKEN", canaries[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", canaries[2])
    monkeypatch.setattr(sys, "argv", ["telos", "train", f"--token={canaries[1]}"])
    made = tiny.trainer(tmp_path, "watch.checkpoint_every=4", validate=lambda network: {"loss": 1.0})
    made.log = Log(tmp_path, LogSettings(), name="run", config={"max_token": 5, "use_cls_token": True})
    made.run()
    made.log.close()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"metrics.jsonl", "state.json", "manifest.json", "best.json"} <= {path.name for path in written}
    for path in written:
        assert not any(canary.encode() in path.read_bytes() for canary in canaries), path


@pytest.mark.parametrize("server", ["https://me:secret@tracks.example", "https://token@tracks.example/x"])
def test_a_tracking_address_with_a_password_is_refused(server: str) -> None:
    """Trap 78: it would be written into the recipe. The message does not repeat the password."""
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD"):
        read(LogSettings, {"mlflow": {"experiment": "x", "server": server}})
    assert read(LogSettings, {"mlflow": {"experiment": "x", "server": "https://tracks.example"}}).mlflow


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_says_how_to_get_it(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    given = {"wandb": {"project": "x"}} if package == "wandb" else {"mlflow": {"experiment": "x"}}
    with pytest.raises(ConfigError, match=r"telos-lm\[track\]"):
        Log(tmp_path, read(LogSettings, {"tensorboard": False, **given})).start(0)


class FakeRun:
    """What Weights & Biases gives to those who call it: enough to see what it is told."""

    def __init__(self, told: list[Any]) -> None:
        self.told = told

    def log(self, values: dict[str, Any], step: int) -> None:
        self.told.append((step, values))

    def finish(self) -> None:
        self.told.append("finished")


def test_wandb_is_told_figures_and_the_recipe_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 78: neither code, nor git, nor machine."""
    import types

    told: list[Any] = []

    def init(**given: Any) -> FakeRun:
        told.append(given)
        return FakeRun(told)

    fake = types.SimpleNamespace(init=init, Settings=lambda **given: given)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    settings = read(LogSettings, {"tensorboard": False, "wandb": {"project": "p", "mode": "offline"}})
    log = Log(tmp_path, settings, name="n", config={"a": 1})
    log.start(0)
    log.write(3, {"loss": 1.5, "norm": float("nan")})
    log.close()
    assert told[0]["project"] == "p" and told[0]["mode"] == "offline" and told[0]["config"] == {"a": 1}
    assert told[0]["settings"]["disable_code"] and told[0]["settings"]["disable_git"]
    assert told[1:] == [(3, {"loss": 1.5}), "finished"]


def shown(terminal: bool) -> str:
    """What somebody sees who watches a short run."""

    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    stream = Stream()
    seen = display(stream)
    for step in range(1, 6):
        seen.show(step=step, share=step / 5, loss=5.0 / step, speed=1234.5, left=3725.0 - step)
    seen.say("validation loss 1.5 [not markup]")
    seen.close()
    return stream.getvalue()


def test_without_a_terminal_there_are_plain_lines() -> None:
    found = shown(False).splitlines()
    assert found[0] == "step 1 (20.0%)  loss 5.000  1,234 tokens/s  1:02:04 left"
    assert found[-2].startswith("step 5 (100.0%)") and found[-1] == "validation loss 1.5 [not markup]"
    assert len(found) == 3 and "\x1b" not in shown(False)


def test_in_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    found = shown(True)
    assert "step 5" in found and "1,234 tokens/s" in found and "[not markup]" in found and "\x1b[" in found


def test_a_loss_that_is_not_there_yet_is_shown_as_such() -> None:
    stream = io.StringIO()
    display(stream).show(step=1, share=0.0, loss=None, speed=0.0, left=None)
    assert stream.getvalue() == "step 1 (0.0%)  loss –  0 tokens/s\n"

"""A run from end to end: what is written, how it goes on, and what is refused."""

import io
import json
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch

import telos
from telos.config import read_toml, to_toml
from telos.errors import CheckpointError, ConfigError, DataError
from telos.folder import read_json
from telos.recipe import Recipe
from telos.run import Run, fit, load_recipe, open_run
from telos.train import checkpoint
from telos.train.display import Quiet, display
from tests.small import NARROW, SHRUNK, last_weights, write_texts


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("text") / "texts")


def small(texts: Path, *changes: str) -> Recipe:
    return load_recipe(
        "gpt-small",
        [f"data.path={texts}", *SHRUNK, *NARROW["decoder"], "tokenizer.size=300", "name=small", *changes],
    )


@pytest.fixture(scope="module")
def finished(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(
        small(texts, "train.budget.steps=4", "train.watch.log.tensorboard=true"),
        tmp_path_factory.mktemp("runs"),
    )


def test_a_run_is_a_folder_that_ordinary_tools_read(finished: Run) -> None:
    """All that docs/architecture.md promises is there."""
    there = {path.name for path in finished.folder.iterdir()}
    assert there >= {
        *(
            "recipe.toml",
            "tokenizer.json",
            "card.json",
            "card.md",
            "machine.json",
            "metrics.jsonl",
            "tensorboard",
        ),
        *("checkpoints", "evaluation.json", "samples.json", "samples.txt", "report.html"),
    }
    assert read_toml(finished.folder / "recipe.toml") == finished.recipe.table()
    lines = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert list((finished.folder / "tensorboard").iterdir())
    newest = finished.folder / "checkpoints" / "step-00000004"
    assert {path.name for path in newest.iterdir()} >= {
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "manifest.json",
    }
    machine = json.loads((finished.folder / "machine.json").read_text())
    assert machine["device"] == "cpu" and machine["precision"] == "float32"
    assert machine["parameters"] == sum(p.numel() for p in finished.network.parameters())


def test_every_figure_is_named(finished: Run) -> None:
    scores = finished.figures()["evaluation"]["test"]
    assert {
        "loss",
        "perplexity",
        "bits_per_byte",
        "tokens",
        "bytes",
        "documents",
        "window",
        "stride",
        "step",
    } <= scores.keys()
    assert {"lzma_alone", "lzma_together", "gzip_alone", "gzip_together"} <= scores["compression"].keys()
    assert scores["bytes"] == scores["compression"]["bytes"] and scores["step"] == 4
    assert scores["perplexity"] == pytest.approx(2.718281828459045 ** scores["loss"])


def test_no_file_of_a_run_names_the_machine(finished: Run) -> None:
    """Trap 78: neither the user's folders nor secrets of the environment leave with what is passed on."""
    for name in ("report.html", "machine.json", "card.json", "card.md", "evaluation.json"):
        text = (finished.folder / name).read_text(encoding="utf-8")
        assert str(Path.home()) not in text and str(finished.folder.parent) not in text, name


def test_an_opened_run_is_the_one_that_was_trained(finished: Run) -> None:
    opened = open_run(finished.folder, "cpu")
    assert opened.recipe == finished.recipe and opened.tokenizer.hash == finished.tokenizer.hash
    ours, theirs = (dict(run.network.named_parameters()) for run in (finished, opened))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    first, again = opened.generate(["the "], seed=3), opened.generate(["the "], seed=3)
    assert first == again and opened.generate(["the "], ["length=3"], seed=3)[0].ids == first[0].ids[:3]
    assert opened.generate(["the "], seed=4) != first
    figures = opened.evaluate("test")
    assert figures["loss"] == finished.figures()["evaluation"]["test"]["loss"]
    assert opened.evaluate("validation")["documents"] > 0
    with pytest.raises(ConfigError, match=r"generate: lenght: is not a setting. Did you mean 'length'"):
        opened.generate(["a"], ["lenght=3"])
    with pytest.raises(ConfigError, match="split = 'tset'"):
        opened.evaluate("tset")


def test_the_prepared_text_can_be_made_again(finished: Run, tmp_path: Path) -> None:
    """A run evaluates though `runs/prepared` was deleted; not if the text has changed since."""
    runs = tmp_path / "runs"
    shutil.copytree(finished.folder, runs / "small")
    opened = open_run(runs / "small", "cpu")
    with pytest.warns(RuntimeWarning, match="made again"):
        opened.evaluate("validation")
    assert opened.evaluate("test")["loss"] == finished.figures()["evaluation"]["test"]["loss"]
    changed = write_texts(tmp_path / "other", 40)
    recipe = (
        (runs / "small" / "recipe.toml").read_text().replace(str(finished.recipe.data.path), str(changed))
    )
    (runs / "small" / "recipe.toml").write_text(recipe)
    shutil.rmtree(runs / "prepared")
    with pytest.raises(DataError, match="the text is not what this run was begun with"):
        open_run(runs / "small", "cpu").evaluate("test")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, texts: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a run: there is no recipe\.toml"):
        open_run(tmp_path / "nothing")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "diary.txt").write_text("dear diary")
    with pytest.raises(ConfigError, match="something else, not a run"):
        fit(small(texts), tmp_path)
    assert (tmp_path / "small" / "diary.txt").read_text() == "dear diary"


def test_a_run_without_a_checkpoint_says_so(finished: Run, tmp_path: Path) -> None:
    """Whether it failed while its text was prepared, or before it was first saved."""
    for name in ("recipe.toml", "tokenizer.json"):
        (tmp_path / name).write_text((finished.folder / name).read_text())
        with pytest.raises(CheckpointError, match=r"not been trained yet: .* no whole checkpoint yet"):
            open_run(tmp_path, "cpu")


def test_a_run_that_was_never_saved_takes_other_settings_and_other_text(texts: Path, tmp_path: Path) -> None:
    """It failed before its first step: nothing of it can be spoiled."""
    with pytest.raises(DataError, match="there is no such file or folder"):
        fit(small(tmp_path / "nowhere"), tmp_path)
    (tmp_path / "small" / "card.json").write_text('{"key": "of other text"}')
    run = fit(small(texts, "model.width=32"), tmp_path)
    assert read_toml(run.folder / "recipe.toml") == run.recipe.table()
    assert run.recipe.model.width == 32 and run.saved.step == 2


@pytest.mark.parametrize("lost", ["deleted", "emptied", "damaged"])
def test_a_trained_run_without_checkpoints_is_not_begun_again(lost: str, texts: Path, tmp_path: Path) -> None:
    run = fit(small(texts), tmp_path)
    checkpoints = run.folder / "checkpoints"
    if lost == "damaged":
        for path in checkpoints.glob("step-*/model.safetensors"):
            path.write_bytes(b"")
    else:
        shutil.rmtree(checkpoints)
    if lost == "emptied":
        checkpoints.mkdir()
    before = (run.folder / "metrics.jsonl").read_bytes()
    with warnings.catch_warnings(), pytest.raises(CheckpointError, match=r"(?s)none of its .*give --new"):
        warnings.simplefilter("ignore")
        fit(small(texts), tmp_path)
    assert (run.folder / "metrics.jsonl").read_bytes() == before


def test_a_run_evaluates_without_its_text_wherever_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prepared text that the run's card names is enough; without it and the text, nothing is made up."""
    write_texts(tmp_path / "texts")
    monkeypatch.chdir(tmp_path)
    figures = fit(small(Path("texts")), "runs").figures()["evaluation"]["test"]
    (tmp_path / "texts").rename(tmp_path / "gone")
    monkeypatch.chdir(tmp_path / "runs" / "small")
    before = sorted(tmp_path.rglob("*"))
    assert open_run(".", "cpu").evaluate("test")["loss"] == figures["loss"]
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "runs" / "small").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"(?s)not in .*prepared, and the text .* cannot be read either"):
        open_run(tmp_path / "elsewhere", "cpu").evaluate("test")
    assert not (tmp_path / "prepared").exists()


def test_what_was_skipped_and_what_is_finished_is_said(texts: Path, tmp_path: Path) -> None:
    said: list[str] = []

    class Listener(Quiet):  # type: ignore[misc]
        def say(self, text: str) -> None:
            said.append(text)

    broken = "train.optimizer={name='sgd', rate=1e30}"
    run = fit(small(texts, broken, "train.compute.clip=0.0"), tmp_path, display=Listener())
    assert any("1 of 2 steps were skipped" in line for line in said), said
    assert "1 of 2 steps were skipped" in (run.folder / "report.html").read_text(encoding="utf-8")
    said.clear()
    fit(run.recipe, tmp_path, display=Listener())
    assert any("is finished (step 2 of its budget). Raise train.budget" in line for line in said), said


def test_no_more_than_all_of_the_budget_is_shown() -> None:
    stream = io.StringIO()
    display(stream).show(step=24, share=1.02, loss=1.0, speed=1.0, left=0.0)
    assert stream.getvalue().startswith("step 24 (100.0%)")


@pytest.mark.parametrize("text", ["{", "[]", '{"test": {"step": "x"}}'])
def test_broken_figures_are_made_anew(text: str, finished: Run) -> None:
    path = finished.folder / "evaluation.json"
    before = read_json(path)["test"]["loss"]
    path.write_text(text)
    with pytest.warns(RuntimeWarning, match="made anew"):
        again = fit(finished.recipe, finished.folder.parent)
    assert again.figures()["evaluation"]["test"]["loss"] == before


def test_a_broken_best_checkpoint_is_passed_over(texts: Path, tmp_path: Path) -> None:
    """Trap 58: with the best one damaged, the newest whole one is used, and that is said."""
    run = fit(small(texts, "train.budget.steps=4", "train.watch.checkpoint_every=2"), tmp_path)
    folder = run.folder / "checkpoints"
    (folder / "best.json").write_text('{"step": 2, "loss": 1.0}')
    damaged = folder / "step-00000002" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x01")  # one bit of one weight, or a few
    with pytest.warns(
        RuntimeWarning, match="The newest whole checkpoint is used instead: step-00000004"
    ) as told:
        assert open_run(run.folder, "cpu").saved.step == 4
    assert len(told) == 1 and "older" not in str(told[0].message)


def test_a_disk_that_is_full_at_the_first_checkpoint_is_no_lost_run(texts: Path, tmp_path: Path) -> None:
    """The same command, once there is room, begins again."""
    folder = tmp_path / "small" / "checkpoints"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="the disk is full"):
            checkpoint.save(folder, 2, {"model": {"a": torch.zeros(1000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not folder.exists()
    (tmp_path / "small" / "recipe.toml").write_text(to_toml(small(texts)))
    assert fit(small(texts), tmp_path).saved.step == 2


def test_a_larger_budget_goes_on_with_the_same_run(texts: Path, tmp_path: Path) -> None:
    """Trap 62: the same losses and weights as in one go, where the schedule does not depend on the budget."""
    steady = ("train.schedule={kind='constant', warmup=2.0}",)
    short = fit(small(texts, *steady, "train.budget.steps=3"), tmp_path / "two")
    assert short.outcome is not None and short.outcome.step == 3
    longer = fit(small(texts, *steady, "train.budget.steps=6"), tmp_path / "two")
    whole = fit(small(texts, *steady, "train.budget.steps=6"), tmp_path / "one")
    assert all(
        torch.equal(a, b)
        for a, b in zip(last_weights(longer).values(), last_weights(whole).values(), strict=True)
    )
    assert read_toml(longer.folder / "recipe.toml")["train"]["budget"] == {"steps": 6}


def test_a_finished_run_is_not_trained_again(finished: Run) -> None:
    metrics = (finished.folder / "metrics.jsonl").read_text()
    evaluation = (finished.folder / "evaluation.json").stat().st_mtime_ns
    again = fit(finished.recipe, finished.folder.parent)
    assert again.outcome is not None and again.outcome.step == 4
    assert (finished.folder / "metrics.jsonl").read_text() == metrics
    assert (finished.folder / "evaluation.json").stat().st_mtime_ns == evaluation


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("model.width=32", "model.width: 16 → 32"),
        ("train.budget.steps=3", "train.budget.steps: 4 → 3"),
        ("train.budget.epochs=1.0", "train.budget.epochs: not set → 1.0"),
        ("train.optimizer.rate=0.5", "train.optimizer.rate: not set → 0.5"),
        ("seed=1", "seed: 0 → 1"),
        ("train.compute.clip=0.5", "train.compute.clip: 1.0 → 0.5"),
        ("data.clean.lower=true", "data.clean.lower: false → true"),
        ("objective={name='causal', end=false}", "objective.end: true → false"),
    ],
)
def test_a_changed_setting_is_refused_by_name(finished: Run, texts: Path, change: str, named: str) -> None:
    before = {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()}
    changed = small(texts, "train.budget.steps=4", "train.watch.log.tensorboard=true", change)
    with pytest.raises(ConfigError, match="begun with other settings") as caught:
        fit(changed, finished.folder.parent)
    assert named in str(caught.value) and "--new" in str(caught.value)
    assert {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "change",
    [
        "train.loader.timeout=60.0",
        "train.watch.keep=5",
        "train.watch.log_every=3",
        "train.watch.log.tensorboard=false",
    ],
)
def test_what_no_weight_depends_on_may_change(texts: Path, tmp_path: Path, change: str) -> None:
    first = fit(small(texts), tmp_path)
    made = (first.folder / "evaluation.json").stat().st_mtime_ns
    changed = small(texts, change)
    again = fit(changed, tmp_path)
    assert again.outcome is not None and again.outcome.step == 2
    assert again.recipe == changed and (again.folder / "evaluation.json").stat().st_mtime_ns == made


@pytest.mark.parametrize("change", ["generate.length=3", "evaluate.stride=4"])
def test_other_settings_of_the_conclusion_make_it_anew(texts: Path, tmp_path: Path, change: str) -> None:
    """Without training anything again: the weights stay, the figures and samples are by the new settings."""
    first = fit(small(texts), tmp_path)
    before = last_weights(first)
    (first.folder / "report.html").write_text("the old one")
    again = fit(small(texts, change), tmp_path)
    assert all(torch.equal(before[name], value) for name, value in last_weights(again).items())
    stride, length = again.recipe.evaluate.stride or 16, again.recipe.generate.length
    samples = json.loads((again.folder / "samples.json").read_text())
    assert again.figures()["evaluation"]["test"]["stride"] == stride
    assert max(len(sample["ids"]) for sample in samples) == length
    assert "the old one" not in (again.folder / "report.html").read_text()


def test_all_that_changed_is_named_at_once(finished: Run, texts: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)seed.*model\.width"):
        fit(small(texts, "seed=9", "model.width=32"), finished.folder.parent)


def test_a_new_run_moves_the_old_one_aside(texts: Path, tmp_path: Path) -> None:
    fit(small(texts), tmp_path)
    for number in (1, 2):
        fresh = fit(small(texts, f"seed={number}"), tmp_path, new=True)
        assert fresh.folder == tmp_path / "small" and fresh.recipe.seed == number
        assert open_run(tmp_path / f"small.{number}", "cpu").recipe.seed == number - 1


def test_changed_text_is_refused_by_name(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts")
    fit(small(texts), tmp_path)
    with (texts / "000.txt").open("a") as file:
        file.write("One more line.\n")
    recipe = (tmp_path / "small" / "recipe.toml").read_bytes()
    with pytest.raises(DataError, match="the text is not what this run was begun with"):
        fit(small(texts), tmp_path)
    other = write_texts(tmp_path / "other", first=500)
    with pytest.raises(DataError, match=rf"(?s){texts}.*{other}.*name=…"):
        fit(small(other), tmp_path)
    assert (tmp_path / "small" / "recipe.toml").read_bytes() == recipe


def test_the_same_text_elsewhere_is_the_same_text(tmp_path: Path) -> None:
    fit(small(write_texts(tmp_path / "here" / "texts")), tmp_path)
    (tmp_path / "there").mkdir()
    moved = (tmp_path / "here" / "texts").rename(tmp_path / "there" / "texts")
    assert fit(small(moved), tmp_path).outcome is not None


def test_two_processes_do_not_train_one_run(texts: Path, tmp_path: Path) -> None:
    with (
        filelock.FileLock(tmp_path / ".small.lock"),
        pytest.raises(ConfigError, match="another process is training this run"),
    ):
        fit(small(texts), tmp_path)
    assert fit(small(texts), tmp_path).outcome is not None


def test_a_split_without_text_is_no_zero(tmp_path: Path) -> None:
    """Trap 31: nothing held out means no figure and a reason, never a perfect score."""
    texts = write_texts(tmp_path / "texts")
    run = fit(small(texts, "data.split={validation=0.0, test=0.0}"), tmp_path / "runs")
    scores = run.figures()["evaluation"]["test"]
    assert "nothing to score" in scores["unavailable"] and "loss" not in scores


def test_lossy_cleaning_is_named_beside_the_figure(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts")
    run = fit(small(texts, "data.clean.lower=true"), tmp_path / "runs")
    assert any("lower" in note for note in run.figures()["evaluation"]["test"]["notes"])


def test_recurrent_runs_carry_their_state_and_go_on(tmp_path: Path) -> None:
    """Traps 28 and 42: a recurrent run that stops between windows of a document goes on to the bit."""
    texts = write_texts(tmp_path / "texts")
    steady = ("train.schedule={kind='constant', warmup=0.0}", "train.window=8", "train.loader.carry=true")

    def recurrent(steps: int) -> Recipe:
        given = [f"data.path={texts}", *SHRUNK, *NARROW["gru"], "tokenizer.size=300", "name=small", *steady]
        return load_recipe("gru-classic", [*given, f"train.budget.steps={steps}"])

    fit(recurrent(5), tmp_path / "two")
    stopped = fit(recurrent(9), tmp_path / "two")
    whole = fit(recurrent(9), tmp_path / "one")
    assert all(
        torch.equal(a, b)
        for a, b in zip(last_weights(stopped).values(), last_weights(whole).values(), strict=True)
    )


def test_embeddings_can_start_from_vectors(texts: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("cat " + " ".join(["0.5"] * 16) + "\n")
    frozen = ("train.optimizer.rate=1e-9", "train.optimizer.decay=0.0", "tokenizer={kind='word', size=0}")
    run = fit(small(texts, f"model.vectors={vectors}", *frozen), tmp_path / "runs")
    (row,) = run.tokenizer.encode("cat")
    torch.testing.assert_close(
        run.network.embedding.weight[int(row)], torch.full((16,), 0.5), atol=1e-3, rtol=0
    )


def test_ten_lines_do_what_the_commands_do(texts: Path, tmp_path: Path) -> None:
    recipe = telos.load_recipe(
        "gpt-small", [f"data.path={texts}", *SHRUNK, *NARROW["decoder"], "tokenizer.size=300"]
    )
    prepared = telos.prepare(recipe, tmp_path)
    run = telos.fit(recipe, tmp_path)
    assert prepared.card.key == json.loads((run.folder / "card.json").read_text())["key"]
    assert telos.open_run(run.folder, "cpu").generate(["The "])[0].text
    assert run.neighbours(["cat"], 3)[0].nearest and run.report().exists()


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_ctrl_c_leaves_a_run_that_the_same_command_goes_on_with(signal: str, tmp_path: Path) -> None:
    """Trap 66: stopped at any point, the command ends with the shell's status, and again goes on to the
    end."""
    import signal as signals
    import time

    write_texts(tmp_path / "texts")
    given = [
        "train",
        "gpt-small",
        "data.path=texts",
        *SHRUNK,
        *NARROW["decoder"],
        "tokenizer.size=300",
        "train.budget.steps=100000",
    ]
    command = [sys.executable, "-m", "telos", *given]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        metrics = tmp_path / "runs" / "gpt-small" / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size > 300):
            time.sleep(0.05)
        process.send_signal(getattr(signals, signal))
        _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signals, signal), error
    assert "Everything is saved: the same command goes on" in error and "Traceback" not in error
    recipe = read_toml(tmp_path / "runs" / "gpt-small" / "recipe.toml")
    step = max(
        int(path.name[5:]) for path in (tmp_path / "runs" / "gpt-small" / "checkpoints").glob("step-*")
    )
    assert recipe["train"]["budget"]["steps"] == 100000 and 0 < step < 100000
    going_on: Any = open_run(tmp_path / "runs" / "gpt-small", "cpu")
    assert going_on.saved.step == step

"""The run's own average of its weights: a function of the steps alone, followed and saved with them, and what
is evaluated and kept for use; training does not know of it."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from telos.errors import ConfigError
from telos.models._base import Network
from telos.opened import open_run
from telos.run import fit, load_recipe
from telos.train import checkpoint
from telos.train.average import averaged, follow, kept
from telos.train.loop import Trainer
from tests.small import write_texts
from tests.train import tiny
from tests.train.test_loop import Breaking

ON = "schedule.average=0.2"


def noting(trainer: Trainer) -> list[dict[str, Tensor]]:
    """From now on, the trained weights after every step, in float64."""
    found: list[dict[str, Tensor]] = []

    def note(trainer: Trainer) -> None:
        weights = trainer.models["main"].named_parameters()
        found.append({name: p.detach().double().clone() for name, p in weights})

    trainer.periodic.append((1, note))
    return found


def test_it_is_the_mean_that_it_promises(tmp_path: Path) -> None:
    """Update i of n counts (i/n)^(γ + 1) − ((i − 1)/n)^(γ + 1): for a share of ½ as much as any other. The
    fourth step is skipped, and is no update."""
    for share in (0.2, 0.5):
        trainer = tiny.trainer(
            tmp_path / str(share), f"schedule.average={share}", objective=Breaking(at=4)
        )  # the first is the trial
        taken = noting(trainer)
        trainer.run()
        del taken[3]
        n, power = len(taken), 1 / share - 1
        shares = [(i / n) ** power - ((i - 1) / n) ** power for i in range(1, n + 1)]
        assert sum(shares) == pytest.approx(1)
        if share == 0.5:
            assert shares == pytest.approx([1 / n] * n)
        for name, parameter in trainer.models["average"].named_parameters():
            wanted = sum(part * weights[name] for part, weights in zip(shares, taken, strict=True))
            torch.testing.assert_close(parameter.double(), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("share", "updates"), [(0.1, 50), (0.1, 5000), (0.25, 200)])
def test_it_stands_so_far_back_however_long_the_run_is(share: float, updates: int) -> None:
    """The mean age of what is in it, as a share of the steps so far."""
    age = 0.0
    for update in range(1, updates + 1):
        age = kept(share, update) * (age + 1)
    assert age / updates == pytest.approx(share, rel=0.1)
    assert kept(share, 1) == 0.0


def test_training_does_not_know_of_it(tmp_path: Path) -> None:
    runs = []
    for setting in ("schedule.average=0.0", ON):
        log = tiny.Recorder()
        trainer = tiny.trainer(tmp_path / setting, setting, log=log)
        trainer.run()
        lines = [{k: v for k, v in line.items() if "second" not in k} for line in log.lines]
        runs.append((lines, tiny.digest(trainer.models["main"])))
    assert runs[0] == runs[1]
    assert tiny.digest(trainer.models["average"]) != tiny.digest(trainer.models["main"])


def test_a_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Trap 63: the average too, from any step, through steps that were skipped."""

    def made(folder: Path, start: int = 0) -> Trainer:
        breaking = Breaking(at=5 - start if start <= 5 else 99)  # it counts from where the process began
        return tiny.trainer(folder, ON, "budget.steps=9", objective=breaking)

    whole = made(tmp_path / "whole")
    whole.run()
    assert whole.state.counters.skipped == 1
    for stop in (1, 5, 6, 8):
        part = made(tmp_path / str(stop))
        part.periodic.append((stop, lambda t: t._signals.__setattr__("received", 2)))
        part.run()
        again = made(tmp_path / str(stop), stop)
        assert again.resume() == stop
        again.run()
        for name in ("main", "average"):
            assert tiny.digest(again.models[name]) == tiny.digest(whole.models[name]), (stop, name)


def test_a_step_that_changed_nothing_is_no_step_of_it(tmp_path: Path) -> None:
    trainer = tiny.trainer(tmp_path, ON, "budget.steps=6", objective=Breaking(at=4))  # the first is the trial
    before: list[str] = []
    trainer.periodic.append((1, lambda t: before.append(tiny.digest(t.models["average"]))))
    trainer.run()
    same = [one == other for one, other in pairwise(before)]
    assert same.count(True) == 1 and trainer.state.counters.skipped == 1


def test_it_is_what_is_evaluated_and_the_best_is_chosen_by(tmp_path: Path) -> None:
    scored: list[nn.Module] = []

    def validate(network: Network) -> dict[str, float]:
        scored.append(network)
        return {"loss": 1.0}

    trainer = tiny.trainer(tmp_path, ON, "watch.evaluate_every=4", validate=validate)
    trainer.run()
    assert scored and all(network is trainer.models["average"] for network in scored)
    assert not trainer.models["average"].training and trainer.models["main"].training
    names = {name for group in trainer.optimizer.param_groups for name in group["param_names"]}
    assert not any(name.startswith("average") for name in names)


def test_what_is_tied_is_tied_in_it_and_buffers_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 29, and experts' bias, which moves after the optimizer's step."""
    feed = {"width": 8, "experts": {"count": 4, "active": 1, "rate": 0.01}}
    monkeypatch.setitem(tiny.SMALL, "decoder", {"width": 16, "depth": 1, "heads": 2, "feed": feed})
    trainer = tiny.trainer(tmp_path, "schedule.average=0.5", "budget.steps=5")
    biases: list[Tensor] = []
    bias = "blocks.0.feed.bias"
    trainer.periodic.append(
        (1, lambda t: biases.append(dict(t.models["main"].named_buffers())[bias].clone()))
    )
    trainer.run()
    average: Any = trainer.models["average"]
    assert biases[0].any()
    torch.testing.assert_close(dict(average.named_buffers())[bias], torch.stack(biases).mean(0))
    assert len(list(average.parameters())) == len(list(trainer.models["main"].parameters()))
    assert checkpoint.weights(average).keys() == checkpoint.weights(trainer.models["main"]).keys()
    assert average.heads["tokens"].table is average.embedding.weight


def test_counters_are_taken_over() -> None:
    network, average = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    network(torch.randn(8, 3))
    average = averaged(average)
    follow(average, network, 0.75)
    assert average.num_batches_tracked == 1  # type: ignore[comparison-overlap]
    assert network.running_mean is not None and average.running_mean is not None  # type: ignore[union-attr]
    torch.testing.assert_close(average.running_mean, network.running_mean / 4)  # type: ignore[arg-type]


def test_after_a_checkpoint_without_it_it_begins_with_the_weights_as_they_are(tmp_path: Path) -> None:
    """As where a larger budget is many passes over the text, and the first was not."""
    first = tiny.trainer(tmp_path, "budget={epochs=0.5}")
    first.run()
    assert first.settled.average == 0.0 and "average" not in first.models
    again = tiny.trainer(tmp_path, "budget={epochs=9.0}")
    assert again.settled[1:] == (1.0, 0.1) and again.resume() == first.state.step > 0
    assert tiny.digest(again.models["average"]) == tiny.digest(first.models["main"])
    again.run()
    assert tiny.digest(again.models["average"]) != tiny.digest(again.models["main"])


def test_an_opened_run_is_the_average(tmp_path: Path) -> None:
    """Figures, samples and exports are its; and a run that began without it, or with another, is refused by
    name."""
    texts = write_texts(tmp_path / "texts", 12)
    settings = ["name=run", "tokenizer.size=270", "model={name='decoder', width=16, depth=1, heads=2}"]
    settings += ["train.window=16", "train.batch=4", "train.budget={steps=6}", "train.optimizer.rate=0.01"]
    settings += ["generate.length=4", "train.watch.evaluate_every=3", f"train.{ON}"]
    run = fit(load_recipe(texts, settings), tmp_path / "runs", device="cpu")
    saved = run.saved.tensors
    assert not torch.equal(saved["average"]["embedding.weight"], saved["model"]["embedding.weight"])
    for opened in (run, open_run(run.folder, "cpu")):
        for name, parameter in opened.network.named_parameters():
            assert torch.equal(parameter, saved["average"][name])
    assert run.saved.state["run"]["best"]["loss"] == pytest.approx(
        run.evaluate("validation")["loss"], rel=0.02
    )
    for value in ("0.0", "0.3"):
        with pytest.raises(ConfigError, match=r"train\.schedule\.average"):
            fit(load_recipe(texts, [*settings, f"train.schedule.average={value}"]), tmp_path / "runs")

"""What the recipe leaves out follows from the budget: a table, and how often a budget reads the text."""

from pathlib import Path

import pytest

from telos.config import override, read
from telos.data.loader import steps_per_epoch
from telos.errors import ConfigError
from telos.objectives.causal import Causal
from telos.opened import sizes_of
from telos.recipe import Recipe
from telos.run import fit
from telos.train.defaults import MANY, expected, pace, passes, rate, rows, settled
from telos.train.loop import Trainer
from telos.train.settings import BudgetSettings
from tests.small import NARROW, SHRUNK, write_texts
from tests.train import tiny


def made(folder: Path, *changes: str) -> Trainer:
    return tiny.trainer(folder, *changes, folder=None)


@pytest.mark.parametrize(
    ("changes", "decay", "average"),
    [
        (["budget={epochs=1.0}"], 0.1, 0.0),
        (["budget={epochs=4.0}"], 0.1, 0.0),
        (["budget={epochs=8.0}"], 0.1, 0.0),
        (["budget={epochs=8.1}"], 1.0, 0.1),
        (["budget={epochs=100.0}"], 1.0, 0.1),
        (["budget={epochs=100.0, minutes=1.0}"], 0.1, 0.0),
        (["budget={epochs=100.0, steps=2}"], 0.1, 0.0),
        (["budget={steps=2}"], 0.1, 0.0),
        (["budget={steps=1000000}"], 1.0, 0.1),
        (["budget={tokens=1000000000}"], 1.0, 0.1),
        (["budget={tokens=100}"], 0.1, 0.0),
        (["budget={minutes=9000.0}"], 0.1, 0.0),
        (["budget={epochs=1.0}", "schedule.kind=constant"], 0.1, 0.1),
        (["budget={epochs=1.0}", "schedule.kind=wsd"], 0.1, 0.0),
        (["budget={epochs=1.0}", "schedule.kind=constant", "schedule.average=0.0"], 0.1, 0.0),
        (["budget={epochs=100.0}", "optimizer.decay=0.3"], 0.3, 0.1),
        (["budget={epochs=100.0}", "schedule.average=0.0"], 1.0, 0.0),
        (["budget={epochs=1.0}", "optimizer.decay=0.0", "schedule.average=0.25"], 0.0, 0.25),
        (["budget={epochs=100.0}", "optimizer.name=muon"], 1.0, 0.1),
        (["budget={epochs=100.0}", "optimizer={name='sgd', rate=0.1}"], 0.0, 0.1),
    ],
)
def test_the_table(tmp_path: Path, changes: list[str], decay: float, average: float) -> None:
    """And the trainer goes by it."""
    trainer = made(tmp_path, *changes)
    assert trainer.settled == settled(trainer.settings, trainer.plan, 1000)
    assert trainer.settled[1:] == (decay, average)
    assert {g["weight_decay"] for g in trainer.optimizer.param_groups if not g.get("spared")} == {decay}
    assert ("average" in trainer.models) == (average > 0)


@pytest.mark.parametrize(
    ("budget", "window", "text", "expected"),
    [
        ({"tokens": 400_000}, 128, 0, 7),  # 0.58 · 400000^0.571 = 917 tokens
        ({"tokens": 3_500_000}, 256, 0, 12),  # 3,168
        ({"epochs": 4.0}, 256, 875_000, 12),
        ({"epochs": 4.0, "tokens": 400_000}, 128, 875_000, 7),
        ({"epochs": 4.0, "tokens": 4_000_000}, 256, 875_000, 12),
        ({"steps": 436}, 128, 0, 7),  # 436 steps of 917 tokens are 400,000
        ({"epochs": 4.0}, 256, 0, 32),
        ({"minutes": 5.0}, 256, 875_000, 32),
        ({"minutes": 5.0, "tokens": 400_000}, 128, 875_000, 32),
        ({"tokens": 100}, 256, 0, 1),
    ],
)
def test_rows_of_a_step(budget: dict[str, float], window: int, text: int, expected: int) -> None:
    """By hand, from Li et al. (2025)."""
    assert rows(BudgetSettings(**budget), window, text) == expected


@pytest.mark.parametrize(
    ("parameters", "tokens", "expected"),
    [
        (10_000_000, 3.5e6, 1.859e-3),
        (124_000_000, 1e10, 3.568e-3),
        (1_000_000_000, 1e9, 4.0e-4),
        (600_000, 4e5, 4e-3),  # the law says 7.1e-3
        (10**12, 1e6, 2e-4),
        (0, 1e6, 4e-3),
    ],
)
def test_rate_of_a_model(parameters: int, tokens: float, expected: float) -> None:
    assert rate(parameters, tokens) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("budget", "pace", "held"),
    [
        ({"minutes": 5.0}, 80_000.0, {"tokens": 400_000}),
        ({"minutes": 5.0, "tokens": 1000}, 80_000.0, {"tokens": 1000}),
        ({"minutes": 5.0, "tokens": 9_000_000, "epochs": 2.0}, 80_000.0, {"tokens": 400_000, "epochs": 2.0}),
        ({"minutes": 1e-9}, 80_000.0, {"tokens": 1}),
        ({"minutes": 5.0}, 0.0, {"minutes": 5.0}),
        ({"steps": 5}, 80_000.0, {"steps": 5}),
    ],
)
def test_minutes_are_the_tokens_that_they_are_expected_to_hold(
    budget: dict[str, float], pace: float, held: dict[str, float]
) -> None:
    assert expected(BudgetSettings(**budget), pace) == BudgetSettings(**held)


def test_the_pace_of_a_device() -> None:
    """By hand: 86 million operations a token, 1.5e11 a second on a processor, 104,651 tokens a minute."""
    assert pace(86e6, "cpu") == pytest.approx(104_651, rel=1e-5)
    assert pace(86e6, "cuda") > 100 * pace(86e6, "cpu")
    assert pace(86e6, "abacus") == 0


def test_a_run_of_some_minutes_takes_small_steps(tmp_path: Path) -> None:
    """Of a whole run: rows, rate, decay and average are those of the tokens that its minutes hold."""
    texts = write_texts(tmp_path / "texts", 30)
    table = {"model": "decoder", "objective": "causal", "data": {"path": str(texts)}}
    shrunk = [each for each in SHRUNK if not each.startswith("train.batch")]
    small = [*shrunk, *NARROW["decoder"], "tokenizer.size=400", "train.optimizer.name=adamw"]
    recipe = read(Recipe, override(table, [*small, "name=short", "train.budget={minutes=0.02}"]))
    run = fit(recipe, tmp_path)
    machine = run.figures()["machine"]
    sizes = sizes_of(recipe, run.tokenizer)
    read_in = 0.02 * 60 * 1.5e11 / recipe.model.flops_per_token(sizes)
    assert machine["batch"] == max(1, round(0.58 * read_in**0.571 / 16)) != 32
    assert machine["decay"] == 1.0 and machine["average"] == 0.1, "the text is read many times"


def test_the_rate_and_the_rows_are_those_of_the_run(tmp_path: Path) -> None:
    """Where the recipe leaves them out; what it says stands, and minutes of an unknown device say nothing."""
    few = made(tmp_path, "budget={epochs=2.0}", "optimizer={name='adamw'}")
    inner = sum(
        p.numel() for n, p in few.models["main"].named_parameters() if n.startswith(("blocks", "norm"))
    )
    tokens = 2 * steps_per_epoch(few.plan) * 4 * 16
    assert few.settled.rate == rate(inner, tokens) != 0.01
    assert few._set_rate() == pytest.approx(few.settled.rate * 0.25), "one of four steps of warm-up"
    assert made(tmp_path, "budget={epochs=2.0}").settled.rate == 0.01
    assert made(tmp_path, "budget={minutes=2.0}", "optimizer={name='adamw'}").settled.rate == 1e-3


def test_a_run_keeps_its_rows_when_its_budget_grows(tmp_path: Path) -> None:
    """They decide where in the text a run stands."""
    first = tiny.trainer(tmp_path, "budget={steps=4}", batch=3)
    first.run()
    assert first.state.batch == 3
    again = tiny.trainer(tmp_path, "budget={steps=8}", batch=5)
    assert again.plan.batch == 5 and again.resume() == 4
    assert again.plan.batch == again.state.batch == 3


def test_more_rows_at_once_than_a_step_has_are_refused(tmp_path: Path) -> None:
    settings = tiny.train_settings("budget={tokens=100}", "compute.micro_batch=2").model_copy(
        update={"batch": None}
    )
    with pytest.raises(ConfigError, match=r"micro_batch = 2 rows is more than batch = 1"):
        settings.plan(
            corpus=tiny.corpus(tmp_path, Causal().cut(16)),
            objective=Causal(),
            tokenizer=tiny.vocabulary(),
            seed=0,
            gives=frozenset(),
        )


def test_how_often_a_budget_reads_the_text(tmp_path: Path) -> None:
    """As a run that is let to its end finds it."""
    trainer = made(tmp_path, "budget={epochs=2.0}")
    steps = steps_per_epoch(trainer.plan)
    assert passes(trainer.settings.budget, trainer.plan) == 2.0
    trainer.run()
    other = made(tmp_path, f"budget={{steps={trainer.state.step}}}")
    assert passes(other.settings.budget, other.plan) == pytest.approx(trainer.state.step / steps)
    assert passes(other.settings.budget, other.plan) == pytest.approx(2.0, rel=0.2)
    third = made(tmp_path, f"budget={{tokens={trainer.state.counters.tokens}}}")
    assert 1.0 < passes(third.settings.budget, third.plan) <= 2.2, "rows are not all full"
    assert MANY > 4.0, "up to four passes text is as good as new"

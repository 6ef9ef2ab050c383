"""What the recipe leaves out follows from the budget: a table, and how often a budget reads the text."""

from pathlib import Path

import pytest

from telos.data.loader import steps_per_epoch
from telos.train.defaults import MANY, passes, settled
from telos.train.loop import Trainer
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
    assert trainer.settled == settled(trainer.settings, trainer.plan) == (decay, average)
    assert {g["weight_decay"] for g in trainer.optimizer.param_groups if not g.get("spared")} == {decay}
    assert ("average" in trainer.models) == (average > 0)


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

"""Bugs of the average of a run's weights."""

from typing import Any

import pytest

from tests.mutants import mutant

TESTS = "tests/train/test_average.py::"


@mutant(kills=f"{TESTS}test_it_is_the_mean_that_it_promises")
def skipped_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import loop

    move = loop.Trainer._move_averages

    def counted(self: Any) -> None:
        skipped, self.state.counters.skipped = self.state.counters.skipped, 0
        move(self)
        self.state.counters.skipped = skipped

    monkeypatch.setattr(loop.Trainer, "_move_averages", counted)


@mutant(kills=f"{TESTS}test_it_stands_so_far_back_however_long_the_run_is[0.1-5000]")
def it_reaches_back_a_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """An average with one constant: too long for a short run and too short for a long one."""
    monkeypatch.setattr("telos.train.average.kept", lambda share, updates: 0.99 if updates > 1 else 0.0)


@mutant(kills=f"{TESTS}test_a_step_that_changed_nothing_is_no_step_of_it")
def skipped_steps_move_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import loop

    count = loop.Trainer._count

    def moving(self: Any, good: bool) -> None:
        count(self, good)
        if not good:
            self._move_averages()

    monkeypatch.setattr(loop.Trainer, "_count", moving)


@mutant(kills=f"{TESTS}test_what_is_tied_is_tied_in_it_and_buffers_follow")
def buffers_stay_as_they_began(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import average

    monkeypatch.setattr(average, "weights", lambda module: {n: p.data for n, p in module.named_parameters()})


@mutant(kills=f"{TESTS}test_what_is_tied_is_tied_in_it_and_buffers_follow")
def it_moves_before_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The experts' bias in it is then that of a step before."""
    from telos.train import loop

    count, move = loop.Trainer._count, loop.Trainer._move_averages

    def late(self: Any, good: bool) -> None:
        move(self)
        count(self, good)

    monkeypatch.setattr(loop.Trainer, "_count", late)
    monkeypatch.setattr(loop.Trainer, "_move_averages", lambda self: None)


@mutant(kills=f"{TESTS}test_it_is_what_is_evaluated_and_the_best_is_chosen_by")
def the_trained_weights_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import loop

    evaluate = loop.Trainer._evaluate

    def raw(self: Any) -> None:
        average = self.models.pop(loop.OWN, None)
        role = self.roles.pop(loop.OWN, None)
        evaluate(self)
        if average is not None:
            self.models[loop.OWN], self.roles[loop.OWN] = average, role

    monkeypatch.setattr(loop.Trainer, "_evaluate", raw)


@mutant(kills=f"{TESTS}test_a_run_goes_on_to_the_bit", trap=63)
def it_is_not_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import checkpoint

    restore = checkpoint.restore

    def forgetful(module: Any, saved: Any, what: str = "model") -> None:
        if what != "average":
            restore(module, saved, what)

    monkeypatch.setattr(checkpoint, "restore", forgetful)


@mutant(kills=f"{TESTS}test_an_opened_run_is_the_average")
def an_opened_run_is_the_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.opened.OWN", "model")


@mutant(kills="tests/optim/test_golden_groups.py::test_every_parameter_is_what_the_table_says", trap=25)
def learned_positions_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    spared = Network.undecayed
    monkeypatch.setattr(
        Network, "undecayed", lambda self: [n for n in spared(self) if not n.endswith("places.weight")]
    )


@mutant(kills="tests/optim/test_golden_groups.py::test_every_parameter_is_what_the_table_says", trap=25)
def untied_heads_are_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import muon

    parted = muon._parted

    def renamed(groups: Any) -> Any:
        plain = [{**g, "params": [(n.replace("heads.", "h."), p) for n, p in g["params"]]} for g in groups]
        return parted(plain)

    monkeypatch.setattr(muon, "_parted", renamed)


DEFAULTS = "tests/train/test_defaults.py::"


@mutant(kills=f"{DEFAULTS}test_the_table[changes5-0.1-0.0]")
def minutes_are_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred passes that a minute will not let happen."""
    from telos.train import defaults

    passes = defaults.passes

    def overlooked(budget: Any, plan: Any) -> float:
        return passes(budget.model_copy(update={"minutes": None}), plan)

    monkeypatch.setattr(defaults, "passes", overlooked)


@mutant(kills=f"{DEFAULTS}test_the_table[changes10-0.1-0.0]")
def a_budget_in_tokens_is_taken_for_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import defaults

    monkeypatch.setattr(defaults, "steps_per_epoch", lambda plan: 1 / (plan.batch * plan.window))


@mutant(kills=f"{DEFAULTS}test_the_table[changes15-0.3-0.1]")
def what_the_recipe_says_is_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import loop

    settled = loop.settled

    def overruled(settings: Any, plan: Any, parameters: int) -> Any:
        optimizer = settings.optimizer.model_copy(update={"decay": None})
        return settled(settings.model_copy(update={"optimizer": optimizer}), plan, parameters)

    monkeypatch.setattr(loop, "settled", overruled)

"""What a step takes of memory, and what is done about it."""

from contextlib import contextmanager
from typing import Any

import pytest

from tests.mutants import mutant

ROOM = "tests/train/test_room.py"
CHOSE = f"{ROOM}::test_a_run_that_chose_is_the_run_that_was_told"


@mutant(kills=f"{ROOM}::test_the_most_rows_that_fit_are_taken")
def the_state_of_the_optimizer_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.trial import Held

    monkeypatch.setattr(Held, "more", property(lambda self: self.gradients))


@mutant(kills=f"{ROOM}::test_what_stops_growing_is_found_by_looking_again")
def a_line_through_two_rows_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import room

    monkeypatch.setattr(room, "LOOKS", 1)


@mutant(kills=f"{ROOM}::test_bytes_that_live_are_counted_and_no_others")
def what_is_freed_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.trial import _Watch

    monkeypatch.setattr(_Watch, "_gone", lambda self, key, size: None)


@mutant(kills=f"{ROOM}::test_a_trial_changes_nothing[experts]")
def the_trial_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    _let(monkeypatch, "buffers")


@mutant(kills=f"{ROOM}::test_a_trial_changes_nothing[decoder]")
def the_trial_leaves_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    _let(monkeypatch, "parameters")


def _let(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A trial that does not look after these of its networks."""
    from telos.train import trial

    before = trial.undisturbed

    class Without:
        def __init__(self, network: Any) -> None:
            self.parameters = (lambda: []) if what == "parameters" else network.parameters
            self.buffers = (lambda: []) if what == "buffers" else network.buffers

    @contextmanager
    def careless(networks: Any, device: Any) -> Any:
        with before([Without(network) for network in networks], device):  # type: ignore[misc]
            yield

    monkeypatch.setattr(trial, "undisturbed", careless)


@mutant(kills=f"{ROOM}::test_a_trial_changes_nothing[gru]")
def the_trial_carries_its_state_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.loop import Trainer

    before = Trainer.trial

    def carrying(self: Any, batch: Any) -> int:
        most = before(self, batch)
        self._carried = {}
        return most

    monkeypatch.setattr(Trainer, "trial", carrying)


@mutant(kills=f"{CHOSE}[causal-decoder]")
def a_run_that_goes_on_chooses_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.loop import Trainer

    before = Trainer.make_room

    def anew(self: Any) -> int:
        self.state.micro_batch = None
        return before(self)

    monkeypatch.setattr(Trainer, "make_room", anew)


@mutant(kills=f"{ROOM}::test_rows_to_measure_by_are_full[span-encoder_decoder]")
def rows_to_measure_by_are_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from telos.train import trial

    before = trial._filled
    monkeypatch.setattr(
        trial,
        "_filled",
        lambda side, rows, plan: before(side, rows, replace(plan, window=side.shape[1] // 2)),
    )


@mutant(kills=f"{ROOM}::test_the_limits_of_control_groups_count")
def containers_are_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import memory

    monkeypatch.setattr(memory, "_groups", lambda: iter(()))


@mutant(kills=f"{ROOM}::test_what_can_never_fit_is_refused")
def a_hopeless_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.room import Room

    monkeypatch.setattr(Room, "hopeless", lambda self: False)


@mutant(kills=f"{ROOM}::test_a_number_that_is_given_stays_and_is_warned_of")
def advice_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.room import Room

    before = Room.advice
    monkeypatch.setattr(Room, "advice", lambda self, rows: before(self, 1))

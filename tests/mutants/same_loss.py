"""Bugs of the program that trains to the same held-out loss, put back."""

from typing import Any

import pytest

from tests.mutants import mutant

TESTS = "tests/benchmarks/test_same_loss.py"
CLOCK = f"{TESTS}::test_the_clock_stands_while_held_out_text_is_scored_and_counts_what_is_compiled"
WARM = f"{TESTS}::test_a_rate_warms_up_after_the_first_step_and_comes_down_by_the_end"
ALL = f"{TESTS}::test_all_windows_together_are_the_likelihood_that_telos_finds"
BEST = f"{TESTS}::test_ours_is_measured_against_the_peer_that_ends_best_over_its_seeds"


@mutant(kills=CLOCK)
def the_clock_goes_on_while_text_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.harness.course._Clock.standing", lambda self, act: act())


@mutant(kills=WARM)
def who_compiles_long_does_not_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.harness import course

    tick = course.Course.tick

    def without_first(self: Any, *given: Any) -> None:
        self._first = 0.0
        tick(self, *given)

    monkeypatch.setattr(course.Course, "tick", without_first)


@mutant(kills=ALL)
def every_window_is_asked_from_its_second_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.harness import held_out

    entropy = held_out.functional.cross_entropy

    def from_the_second(said: Any, wanted: Any, **given: Any) -> Any:
        rows = wanted.view(-1, 16).clone()
        rows[:, 0] = held_out.NOT_ASKED
        return entropy(said, rows.flatten(), **given)

    monkeypatch.setattr(held_out.functional, "cross_entropy", from_the_second)


@mutant(kills=BEST)
def the_peer_with_the_best_seed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.harness import arrival

    mean = arrival._mean

    def least(runs: Any, key: str) -> float:
        return min(run["points"][-1][key] for run in runs) if key == "loss" else mean(runs, key)

    monkeypatch.setattr(arrival, "_mean", least)

"""Bugs of unlikelihood training."""

from typing import Any

import pytest

from tests.mutants import mutant

TESTS = "tests/objectives/test_unlikelihood.py::"


@mutant(kills=f"{TESTS}test_what_comes_next_and_special_tokens_are_never_unlikely", trap=4)
def the_right_token_is_unlikely_where_it_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import unlikelihood

    again = unlikelihood._again

    def shifted(ids: Any, places: Any, chances: Any, special: Any) -> Any:
        found = again(ids, places, chances, special)
        return found._replace(at=found.at - 1)

    monkeypatch.setattr(unlikelihood, "_again", shifted)


@mutant(kills=f"{TESTS}test_in_the_mean_every_token_before_counts_once[3]")
def every_draw_counts_as_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import unlikelihood

    again = unlikelihood._again

    def heavy(ids: Any, places: Any, chances: Any, special: Any) -> Any:
        found = again(ids, places, chances, special)
        return found._replace(weight=found.weight * chances.shape[1])

    monkeypatch.setattr(unlikelihood, "_again", heavy)


@mutant(kills=f"{TESTS}test_the_worked_example", trap=3)
def the_terms_are_means_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.unlikelihood import Unlikelihood

    monkeypatch.setattr(Unlikelihood, "denominators", lambda self, asked: asked)


@mutant(kills=f"{TESTS}test_what_comes_next_and_special_tokens_are_never_unlikely")
def a_begin_token_is_unlikely(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import unlikelihood

    again = unlikelihood._again

    def all_of_them(ids: Any, places: Any, chances: Any, special: Any) -> Any:
        return again(ids, places, chances, frozenset())

    monkeypatch.setattr(unlikelihood, "_again", all_of_them)

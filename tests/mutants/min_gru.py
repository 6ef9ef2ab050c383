"""Bugs of the minimal GRU."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.mutants import mutant

TESTS = "tests/models/test_min_gru.py"
CONTRACT = "tests/contract/test_models.py"


@mutant(kills=f"{CONTRACT}::test_documents_in_a_row_never_meet[min_gru]", trap=6)
def the_state_runs_on_into_the_next_document(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import min_gru

    right = min_gru._gates

    def one_run(said: Any, runs: Any) -> Any:
        return right(said, runs._replace(number=torch.zeros_like(runs.number)))

    monkeypatch.setattr(min_gru, "_gates", one_run)


@mutant(kills=f"{TESTS}::test_the_state_is_that_of_the_last_real_place", trap=23)
def padding_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import min_gru

    right = min_gru._gates
    monkeypatch.setattr(
        min_gru, "_gates", lambda said, runs: right(said, runs._replace(real=torch.ones_like(runs.real)))
    )


@mutant(kills=f"{TESTS}::test_side_by_side_is_one_by_one[17]")
def parts_do_not_hear_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import min_gru

    right = min_gru._states

    def wrong(fade: Any, add: Any, start: Any) -> Any:
        fade = fade.clone()
        fade[:, 10:11] = 0
        return right(fade, add, start)

    monkeypatch.setattr(min_gru, "_states", wrong)


@mutant(kills=f"{TESTS}::test_side_by_side_is_one_by_one[16]")
def gradients_go_back_by_the_wrong_places_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the place's own instead of that of the place after."""
    from telos.models import min_gru

    monkeypatch.setattr(
        min_gru.functional, "pad", lambda x, by, **more: x if by == (0, 0, 0, 1) else _pad(x, by, **more)
    )


_pad = functional.pad


@mutant(kills=f"{TESTS}::test_side_by_side_is_one_by_one[5]")
def the_first_state_has_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import min_gru

    right = min_gru.scan
    monkeypatch.setattr(
        min_gru, "scan", lambda fade, add, start: right(fade, add, start.detach()) + 0 * start.sum()
    )


@mutant(kills=f"{TESTS}::test_windows_with_carried_state_are_one_long_pass[False]", trap=28)
def the_state_is_not_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import min_gru

    right = min_gru.scan
    monkeypatch.setattr(min_gru, "scan", lambda fade, add, start: right(fade, add, torch.zeros_like(start)))


@mutant(kills=f"{TESTS}::test_the_hidden_states_are_those_of_the_equations")
def what_is_new_is_a_sigmoid_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import min_gru

    def wrong(said: Any, runs: Any) -> Any:
        update, new = said.chunk(2, -1)
        update = torch.sigmoid(update) * runs.real.unsqueeze(-1)
        goes_on = functional.pad(runs.number, (1, 0))[:, :-1] == runs.number
        return (1 - update) * goes_on.unsqueeze(-1), update * torch.sigmoid(new)

    monkeypatch.setattr(min_gru, "_gates", wrong)

"""Bugs of Muon."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.mutants import mutant

TESTS = "tests/optim/test_muon.py::"


@mutant(kills=f"{TESTS}test_matrices_are_turned_and_all_else_is_adamws[decoder]", trap=25)
def embeddings_are_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import muon

    parted = muon._parted
    monkeypatch.setattr(muon, "_parted", lambda groups: parted([{**g, "spared": False} for g in groups]))


@mutant(kills=f"{TESTS}test_matrices_are_turned_and_all_else_is_adamws[encoder_decoder]")
def the_rest_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import muon

    monkeypatch.setattr(muon._Both, "step", lambda self: self.other.step())


@mutant(kills=f"{TESTS}test_a_run_goes_on_to_the_bit", trap=63)
def the_momentum_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import muon

    start = muon._Both.__init__

    def apart(self: Any, other: Any, groups: Any, settings: Any) -> None:
        start(self, other, groups, settings)
        other.state = type(self.state)(dict)

    monkeypatch.setattr(muon._Both, "__init__", apart)


@mutant(kills=f"{TESTS}test_a_step_is_that_of_the_formula")
def updates_are_as_large_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import muon

    monkeypatch.setattr(muon, "math", SimpleNamespace(sqrt=lambda longer: 5.0))


@mutant(kills=f"{TESTS}test_matrices_of_one_shape_move_as_each_would_alone")
def places_of_one_shape_are_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import muon

    alike = muon._alike
    monkeypatch.setattr(muon, "_alike", lambda found: (places[:1] * len(places) for places in alike(found)))


@mutant(kills=f"{TESTS}test_bfloat16_only_where_the_hardware_multiplies_in_it")
def bfloat16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import muon

    monkeypatch.setattr(muon, "multiplies_bfloat16", lambda device: True)

"""Bugs of Muon."""

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
    import torch

    real = torch.optim.Muon

    def plain(*given: Any, adjust_lr_fn: str, **named: Any) -> Any:
        return real(*given, adjust_lr_fn="original", **named)

    monkeypatch.setattr("torch.optim.Muon", plain)

"""Bugs of starting from another run, put back."""

from pathlib import Path
from typing import Any

import pytest

from tests.mutants import mutant

HERE = "tests/test_origin.py::"


@mutant(kills=f"{HERE}test_weights_vocabulary_and_description_are_that_of_the_run")
def weights_are_drawn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.run.take_over", lambda *given: [])


@mutant(kills=f"{HERE}test_weights_vocabulary_and_description_are_that_of_the_run")
def the_average_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.opened.OWN", "model")


@mutant(kills=f"{HERE}test_another_checkpoint_is_another_beginning", trap=47)
def only_the_vocabulary_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import origin

    plain = origin._describe_run

    def careless(folder: Path) -> Any:
        return plain(folder)._replace(content="same")

    monkeypatch.setattr(origin, "_describe_run", careless)


@mutant(kills=f"{HERE}test_what_does_not_go_with_the_run_is_refused")
def any_vocabulary_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.tokenizer.Tokenizer.extends", lambda self, other: True)

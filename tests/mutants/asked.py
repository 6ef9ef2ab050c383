"""Bugs of what a run is asked: it reaches the model as nobody cleaned it."""

from typing import Any

import pytest

from tests.mutants import mutant

FILE = "tests/test_asked.py::"


def _as_it_is(settings: Any, *, part: bool = False) -> Any:
    return str


@mutant(kills=f"{FILE}test_it_translates_the_cleaned_text")
def sources_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven BLEU of Multi30k were lost so."""
    monkeypatch.setattr("telos.tasks.translation.cleaner", _as_it_is)


@mutant(kills=f"{FILE}test_it_goes_on_with_the_cleaned_prompt")
def prompts_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.opened.cleaner", _as_it_is)


@mutant(kills=f"{FILE}test_words_are_looked_up_cleaned")
def words_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.opened.cleaner", _as_it_is)


@mutant(kills=f"{FILE}test_it_judges_the_cleaned_text")
def judged_texts_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.measure.cleaner", _as_it_is)


@mutant(kills=f"{FILE}test_its_states_are_those_of_the_cleaned_text")
def probed_texts_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.measure.cleaner", _as_it_is)


@mutant(kills=f"{FILE}test_what_a_server_is_asked_is_cleaned")
def requests_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.serve.models.cleaner", _as_it_is)


@mutant(kills=f"{FILE}test_a_part_of_a_text_keeps_what_it_ends_with")
def a_prompt_loses_its_last_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Once upon a ` becomes `Once upon a`, and what is written after it lacks its distance."""
    monkeypatch.setattr("telos.data.clean._BLANKS", "")

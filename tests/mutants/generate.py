"""Generation: gaps, and settings that do nothing."""

from typing import Any

import numpy as np
import pytest

from tests.mutants import mutant

GAPS = "tests/generate/test_gaps.py"
LEFT_TO_RIGHT = "tests/generate/test_left_to_right.py"


@mutant(kills=f"{GAPS}::test_both_sides_are_read[infill]")
def what_comes_after_a_gap_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.infill import Infill

    gap = Infill.gap
    monkeypatch.setattr(Infill, "gap", lambda self, before, after, tok: gap(self, before, after[:0], tok))


@mutant(kills=f"{GAPS}::test_both_sides_are_read[masked]")
def a_gap_is_unmasked_without_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate.unmasking import _Fill

    begin = _Fill._begin

    def blind(self: Any) -> None:
        self.after = np.zeros(0, np.int64)
        begin(self)

    monkeypatch.setattr(_Fill, "_begin", blind)


@mutant(kills=f"{GAPS}::test_what_is_around_a_gap_is_never_forgotten[infill]", trap=23)
def a_gap_slides_as_other_texts_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._past import Past

    monkeypatch.setattr(Past, "_room", lambda self, row: row.length)


@mutant(kills=f"{GAPS}::test_by_unmasking_no_end_token_is_found_in_a_gap")
def an_end_token_may_stand_in_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._rows import Row

    init = Row.__init__

    def ending(self: Any, prompt: Any, given: Any, tokenizer: Any, *rest: Any) -> None:
        init(self, prompt, given, tokenizer, *rest)
        self.ends = {tokenizer.end}
        self.forbidden = np.array([t for t in range(tokenizer.size) if t != tokenizer.end])

    monkeypatch.setattr(Row, "__init__", ending)


@mutant(kills="tests/test_config.py::test_settings_of_another_decoder_are_refused")
def settings_that_do_nothing_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import recipe
    from telos.generate import _base

    for module in (recipe, _base):
        monkeypatch.setattr(module, "check_settings", lambda settings, decoder: None)


@mutant(kills=f"{LEFT_TO_RIGHT}::test_rows_that_slide_are_read_again_and_no_others[rotary]")
def all_rows_are_read_again_where_one_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right, and slow."""
    from telos.generate._past import Past

    monkeypatch.setattr(Past, "_read_again", lambda self, slid: self.forget())


@mutant(kills=f"{LEFT_TO_RIGHT}::test_beyond_the_window_it_goes_on_from_the_last_half[rotary-8]", trap=23)
def a_row_that_slid_sees_what_it_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the new state leaves places empty, the old one shows through."""
    from telos.generate import _past
    from telos.models._transformer import Cache

    lay_over = _past.lay_over

    def through(state: Any, rows: Any, fresh: Any) -> None:
        seen = state.seen.clone() if isinstance(state, Cache) else None
        lay_over(state, rows, fresh)
        if seen is not None:
            state.seen.logical_or_(seen)

    monkeypatch.setattr(_past, "lay_over", through)


@mutant(kills=f"{LEFT_TO_RIGHT}::test_beyond_the_window_it_goes_on_from_the_last_half[gru-8]", trap=23)
def a_row_that_slid_goes_on_from_its_old_state(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _past

    monkeypatch.setattr(_past, "lay_over", lambda state, rows, fresh: None)


@mutant(kills=f"{LEFT_TO_RIGHT}::test_beyond_the_window_it_goes_on_from_the_last_half[rotary-8]", trap=23)
def what_was_read_again_is_laid_over_another_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _past

    lay_over = _past.lay_over

    def beside(state: Any, rows: Any, fresh: Any) -> None:
        lay_over(state, (rows + 1) % len(state.seen), fresh)

    monkeypatch.setattr(_past, "lay_over", beside)

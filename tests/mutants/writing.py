"""Bugs of generation put back: constraints, prompts from files, copies, statistics, the cache."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.mutants import mutant

CONSTRAINT = "tests/generate/test_constraint.py"
DRAW = "tests/generate/test_draw.py"
PROMPTS = "tests/generate/test_prompts.py"
LEFT_TO_RIGHT = "tests/generate/test_left_to_right.py"
COPIED = "tests/evaluate/test_copied.py"
DIVERSITY = "tests/evaluate/test_diversity.py"
GENERATING = "tests/test_generating.py"


# ---- constraints


@mutant(kills=f"{CONSTRAINT}::test_every_sample_that_ends_matches[1.0-rotary]")
def an_end_is_allowed_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._constraint import Matcher

    monkeypatch.setattr(Matcher, "complete", True)


@mutant(kills=f"{CONSTRAINT}::test_a_token_is_allowed_if_and_only_if_some_text_goes_on_with_it[choices-bpe]")
def only_whole_choices_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of whole tokens in place of an automaton over bytes."""
    from telos.generate._constraint import Matcher

    allowed = Matcher.allowed

    def whole(self: Any) -> Any:
        found = allowed(self)
        found[:256] = False  # no single bytes
        return found

    monkeypatch.setattr(Matcher, "allowed", whole)


@mutant(kills=f"{CONSTRAINT}::test_where_tokens_are_characters_nothing_leads_to_one_that_has_none")
def dead_ends_of_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _constraint

    monkeypatch.setattr(_constraint, "_sayable", lambda tokenizer: "(?s:.*)")


@mutant(kills=f"{CONSTRAINT}::test_probabilities_are_those_of_the_model_itself")
def probabilities_are_those_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _rows

    take = _rows.take

    def masked(rows: Any, logits: Any, shut: Any) -> None:
        take(rows, logits.masked_fill(shut, -1e9), shut)

    monkeypatch.setattr(_rows, "take", masked)
    monkeypatch.setattr("telos.generate.left_to_right.take", masked)


@mutant(kills=f"{CONSTRAINT}::test_a_sample_is_the_same_in_any_company", trap=23)
def rows_share_a_place_in_the_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._constraint import Constraint, Matcher

    def shared(self: Any, said: Any = (), prompt: str = "") -> Any:
        if not hasattr(self, "only"):
            self.only = Matcher(self._fresh, self.tokenizer.size)
        return self.only

    def patient(self: Any, token: int) -> None:
        self._inner.try_consume_tokens([token])

    monkeypatch.setattr(Constraint, "begin", shared)
    monkeypatch.setattr(Matcher, "add", patient)


@mutant(kills=f"{CONSTRAINT}::test_a_prompt_is_the_beginning_of_the_poem")
def a_form_does_not_count_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._constraint import Constraint

    begin = Constraint.begin
    monkeypatch.setattr(Constraint, "begin", lambda self, said=(), prompt="": begin(self))


@mutant(kills="tests/generate/test_forms.py::test_a_poem_is_in_its_form_and_in_no_other")
def seven_characters_pass_for_five(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._forms import FORMS

    monkeypatch.setitem(FORMS, "wujue", FORMS["qijue"])


@mutant(kills=f"{CONSTRAINT}::test_the_order_of_choices_says_nothing", trap=36)
def choices_are_known_by_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._constraint import Constraint, _literally

    monkeypatch.setattr(Constraint, "_pattern", lambda self: _literally(self.settings.choices[0]))


# ---- the text that comes out


@mutant(kills=f"{LEFT_TO_RIGHT}::test_a_stop_string_across_tokens")
def stop_strings_are_looked_for_within_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._rows import Words

    monkeypatch.setattr(Words, "_find", lambda self, stop, before: self.text.find(stop, before))


@mutant(kills=f"{LEFT_TO_RIGHT}::test_stop_strings_cut_the_text_wherever_tokens_end")
def beginnings_of_stop_strings_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.generate._rows.held_back", lambda text, stop: 0)


@mutant(kills=f"{LEFT_TO_RIGHT}::test_streamed_text_is_the_decoded_text_wherever_it_is_cut[byte]", trap=51)
def half_characters_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.tokenizer import Stream

    def at_once(self: Any, token: int) -> str:
        return str(self._tokenizer.token_bytes(token).decode("utf-8", "replace"))

    monkeypatch.setattr(Stream, "add", at_once)


# ---- draws


@mutant(kills=f"{DRAW}::test_cuts_equal_their_definitions")
def all_equals_of_the_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _draw

    def loose(logits: Any, count: int) -> Any:
        return logits < logits.topk(count, 1).values[:, -1:]

    monkeypatch.setattr(_draw, "_less_probable", loose)


@mutant(kills=f"{DRAW}::test_a_nucleus_is_the_same_however_it_is_looked_for")
def a_nucleus_among_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _draw

    nucleus = _draw._nucleus

    def narrow(shares: Any, share: float) -> Any:
        likely = shares.where(shares >= 2 * (1 - share) / shares.shape[1] ** 0.5, shares.new_zeros(()))
        return nucleus(likely if _draw.NARROW else shares, share)

    monkeypatch.setattr(_draw, "_nucleus", narrow)


# ---- prompts and batches


@mutant(kills=f"{PROMPTS}::test_each_line_or_record_is_a_prompt")
def blanks_at_the_ends_of_prompts_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _prompts

    texts = _prompts._texts
    monkeypatch.setattr(_prompts, "_texts", lambda *given: ((n, text.strip()) for n, text in texts(*given)))


@mutant(kills=f"{LEFT_TO_RIGHT}::test_prompts_are_taken_as_they_are_needed")
def prompts_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    from itertools import islice

    from telos.generate import _base

    rows_for = _base.rows_for

    def eager(*given: Any) -> Iterator[Any]:
        rows = rows_for(*given)
        return iter([*islice(rows, 100)])

    monkeypatch.setattr(_base, "rows_for", eager)


@mutant(kills=f"{LEFT_TO_RIGHT}::test_batches_change_nothing")
def samples_of_a_prompt_are_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _rows

    generator = _rows.generator
    monkeypatch.setattr(_rows, "generator", lambda seed, prompt, time: generator(seed, prompt, time % 3))


@mutant(kills=f"{GENERATING}::test_prompts_from_a_file_are_the_same_as_others", trap=35)
def prompts_of_a_file_begin_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _prompts

    lines = _prompts._lines
    monkeypatch.setattr(_prompts, "_lines", lambda *given: ("<|begin|>" + text for text in lines(*given)))


@mutant(kills=f"{GENERATING}::test_lines_are_answered_one_after_the_other")
def the_same_answer_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.commands import _writing

    monkeypatch.setattr(_writing.Wanted, "_replace", lambda self, **more: self)


# ---- copies and statistics


@mutant(kills=f"{COPIED}::test_a_match_never_goes_from_one_document_into_the_next")
def matches_go_beyond_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate.copied import Copies

    def all_one(self: Any, places: Any) -> Any:
        return np.full(len(places), len(self.shards.ids))

    monkeypatch.setattr(Copies, "_ends_of", all_one)


@mutant(kills=f"{COPIED}::test_it_finds_what_looking_everywhere_finds")
def equal_hashes_pass_for_equal_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import _ngrams

    hashes = _ngrams.hashes
    monkeypatch.setattr(_ngrams, "hashes", lambda *given, **more: hashes(*given, **more) >> np.uint64(60))
    from telos.evaluate.copied import LENGTH, Copies

    def trusting(self: Any, ids: Any, start: int, places: Any) -> tuple[int, int]:
        return (int(places[0]), LENGTH) if len(places) else (-1, 0)

    monkeypatch.setattr(Copies, "_longest", trusting)


@mutant(kills=f"{COPIED}::test_an_index_of_something_else_is_built_anew[other text]")
def an_index_is_taken_for_whatever_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import _ngrams

    monkeypatch.setattr(_ngrams, "_whole", lambda path, about, width: path.exists())


@mutant(kills=f"{DIVERSITY}::test_chinese_counts_as_the_same_text_with_blanks", trap=32)
def words_are_what_stands_between_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import diversity

    monkeypatch.setattr(diversity, "units", str.split)


# ---- the cache


@mutant(
    kills="tests/models/test_room.py::test_two_that_go_on_from_the_same_place_do_not_overwrite_each_other",
    trap=23,
)
def places_are_put_behind_whatever_lies_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._cache import Room

    def careless(self: Any, past: Any, keys: Any) -> bool:
        self.used = past.keys.shape[2]
        return self.used + keys.shape[2] <= self.capacity

    monkeypatch.setattr(Room, "takes", careless)

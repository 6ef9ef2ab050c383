"""Bugs of the objectives that take spans out of a text, go on from a prefix, or fill in the middle."""

from typing import Any

import numpy as np
import pytest

from tests.mutants import mutant

SPAN = "tests/objectives/test_span.py::"


@mutant(kills=f"{SPAN}test_every_choice_of_as_many_tokens_in_as_many_spans_is_equally_likely", trap=14)
def every_text_ends_in_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published scheme: kept and hidden runs in turn, so the last token is always hidden."""
    from telos.objectives import _spans

    def draw(self: Any, n: int, rng: np.random.Generator) -> Any:
        hidden, spans = self.counts(n)
        runs = np.empty(2 * spans, np.int64)
        runs[::2], runs[1::2] = _spans._parts(n - hidden, spans, rng), _spans._parts(hidden, spans, rng)
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs)

    monkeypatch.setattr(_spans.Noise, "draw", draw)


@mutant(kills=f"{SPAN}test_pieces_are_as_long_as_fits", trap=14)
def the_end_tokens_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import _spans

    places = _spans.places
    monkeypatch.setattr(_spans, "places", lambda form, read, said: places(form, read - 1, said - 1))


@mutant(kills=f"{SPAN}test_what_is_read_and_what_is_said_are_the_text[source]", trap=14)
def the_last_token_of_the_target_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import span

    take = span._spans.take

    def shorter(*given: Any) -> Any:
        both = take(*given)
        return both._replace(said=both.said[:-1], asked=both.asked[:-1])

    monkeypatch.setattr(span._spans, "take", shorter)


@mutant(kills=f"{SPAN}test_what_is_read_and_what_is_said_are_the_text[source]", trap=13)
def marks_run_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import _spans

    corrupt = _spans.corrupt
    monkeypatch.setattr(_spans, "corrupt", lambda ids, hidden, marks: corrupt(ids, hidden, marks[::-1]))


@mutant(kills=f"{SPAN}test_marks_are_special_tokens_by_their_published_names", trap=88)
def marks_stand_in_the_vocabulary_in_ascending_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import span

    monkeypatch.setattr(span._spans, "mark_names", lambda count: tuple(map(span._spans.mark, range(count))))


@mutant(kills=f"{SPAN}test_marks_are_special_tokens_by_their_published_names", trap=13)
def ordinary_words_are_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids by arithmetic on the size of the vocabulary without its special tokens."""
    from telos.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "special", lambda self, name: self.size - 200 + int(name.strip("<>")[9:]))


@mutant(kills=f"{SPAN}test_too_few_marks_are_refused", trap=17)
def spans_without_a_mark_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import span

    monkeypatch.setattr(span._spans, "check_marks", lambda *given: None)

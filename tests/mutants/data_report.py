"""Bugs of the data report and of what it computes, put back."""

from typing import Any

import numpy as np
import pytest

from tests.mutants import mutant

LAWS = "tests/test_how_much.py"
STATISTICS = "tests/data/test_statistics.py"
REPORT = "tests/test_data_report.py"


@mutant(kills=f"{LAWS}::test_twenty_tokens_per_parameter")
def the_constants_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import how_much

    monkeypatch.setattr(how_much, "REFITTED", how_much.PUBLISHED)


@mutant(kills=f"{LAWS}::test_what_a_text_is_worth_that_is_read_again")
def passes_taken_for_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """R is passes − 1: the first pass repeats nothing."""
    from telos import how_much

    worth = how_much.worth
    monkeypatch.setattr(how_much, "worth", lambda tokens, epochs: worth(tokens, epochs + 1))


@mutant(kills=f"{LAWS}::test_the_loss_of_repeated_text")
def too_many_parameters_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.how_much.EXCESS", 1e12)


@mutant(kills=f"{LAWS}::test_a_law_that_expects_worse_than_guessing_is_not_believed")
def a_broken_law_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.how_much.trust", lambda *_: "fitted")


@mutant(kills=f"{STATISTICS}::test_words_and_chinese_characters_are_counted_apart")
def chinese_by_what_stands_between_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "telos.data.statistics.words_of", lambda text: (word.casefold() for word in text.split())
    )


@mutant(kills=f"{STATISTICS}::test_lengths")
def documents_without_a_bin(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import statistics

    blocks = statistics._blocks
    monkeypatch.setattr(
        statistics, "_blocks", lambda shards: ((f, np.maximum(n, 2)) for f, n in blocks(shards))
    )


@mutant(kills=f"{STATISTICS}::test_what_is_large_is_sampled_and_said")
def a_sample_that_is_not_scaled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.data.statistics.Words.scale", 1.0)


@mutant(kills=f"{STATISTICS}::test_the_exponent_of_zipf_is_found_again")
def zipf_on_plain_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "telos.data.statistics._slope", lambda across, up: float(np.polyfit(across, np.log(up), 1)[0])
    )


@mutant(kills=f"{REPORT}::test_every_document_is_accounted_for")
def a_lost_document_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import data_answer

    counted = data_answer.counted_in
    monkeypatch.setattr(data_answer, "counted_in", lambda card: counted(card)._replace(read=None))


@mutant(kills=f"{REPORT}::test_text_never_becomes_markup[<script>alert(1)</script>]", trap=74)
def the_corpus_as_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    import jinja2

    environment = jinja2.Environment
    monkeypatch.setattr(jinja2, "Environment", lambda **given: environment(**{**given, "autoescape": False}))


@mutant(kills=f"{REPORT}::test_no_loss_is_shown_where_the_law_does_not_hold")
def losses_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data_answer import Speaker

    passes = Speaker.passes

    def believed(self: Any) -> Any:
        from dataclasses import replace

        self.answer = replace(self.answer, trust="beyond")
        return passes(self)

    monkeypatch.setattr(Speaker, "passes", believed)


@mutant(kills=f"{REPORT}::test_damaged_data_is_refused", trap=47)
def damaged_data_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.data.prepare.Prepared.verify", lambda self: None)

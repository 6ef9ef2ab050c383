"""Bugs of objectives that are made of others, and of the plainest one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.mutants import mutant

MIXTURE = "tests/objectives/test_mixture.py::"
NOTHING = f"{MIXTURE}test_texts_without_a_token_are_no_trouble"


@mutant(kills=f"{NOTHING}[next_sentence]", trap=12)
def a_text_without_a_token_is_a_second_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import next_sentence

    monkeypatch.setattr(
        next_sentence,
        "_with_text",
        lambda read, drawn, document, tokenizer: next_sentence.whole_sentences(read, drawn, tokenizer),
    )


@mutant(kills=f"{NOTHING}[bart]", trap=14)
def without_spans_a_token_more_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run of kept tokens and the last are the same one, and it is shortened once."""
    from telos.objectives import _spans

    placed = _spans.placed

    def longer(lengths: Any, n: int, rng: np.random.Generator) -> Any:
        return placed(lengths, n, rng) if len(lengths) else np.zeros(n + 1, np.bool_)

    monkeypatch.setattr(_spans, "placed", longer)


HELD_OUT = f"{MIXTURE}test_held_out_text_is_scored_as_each_of_its_objectives_scores_it"


@mutant(kills=HELD_OUT, trap=3)
def held_out_text_is_made_into_examples_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives._base import Objective
    from telos.objectives.mixture import Mixture

    monkeypatch.setattr(Mixture, "tries", Objective.tries)


@mutant(kills=HELD_OUT, trap=17)
def one_number_draws_the_objective_and_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """So of two objectives the second is only ever given large numbers."""
    from telos.objectives.mixture import Mixture

    right = np.random.default_rng

    def tries(self: Any, read: Any, index: int, tokenizer: Any) -> Any:
        drawn = self._draw(right((0, index)))
        return tuple(self._labelled(drawn, each) for each in self.of[drawn].tries(read, index, tokenizer))

    monkeypatch.setattr(Mixture, "tries", tries)


WEIGHTS = f"{MIXTURE}test_what_a_head_counts_is_not_lost"


@mutant(kills=WEIGHTS, trap=39)
def weights_inside_of_a_mixture_get_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.mixture import Mixture

    monkeypatch.setattr(Mixture, "coefficient", lambda self, term: 1.0)


@mutant(kills=WEIGHTS, trap=39)
def weights_inside_of_together_get_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.together import Together

    monkeypatch.setattr(Together, "coefficient", lambda self, term: self.weights.get(term, 1.0))


@mutant(kills=WEIGHTS, trap=17)
def halves_of_the_hybrid_count_less_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own shares, in a mixture where every asked token counts the same."""
    from telos.objectives.mixture import Mixture

    def of_the_term(self: Any, term: str) -> float:
        label, _, rest = term.partition(".")
        labels = [self._label(number) for number in range(len(self.of))]
        return float(self.of[labels.index(label)].coefficient(rest))

    monkeypatch.setattr(Mixture, "coefficient", of_the_term)


@mutant(kills=f"{MIXTURE}test_shares_of_the_samples_are_as_asked", trap=17)
def objectives_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.mixture import Mixture

    monkeypatch.setattr(Mixture, "_draw", lambda self, rng: int(rng.integers(len(self.of))))


CAUSAL = "tests/objectives/test_causal.py::"


def _changed(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """What `causal` asks is changed."""
    from telos.objectives.causal import Causal

    example = Causal.example

    def changed(self: Any, *given: Any) -> Any:
        made = example(self, *given)
        return replace(made, asks=tuple(change(made, ask) for ask in made.asks))

    monkeypatch.setattr(Causal, "example", changed)


@mutant(kills=f"{CAUSAL}test_who_knows_the_next_token_pays_nothing", trap=4)
def labels_are_shifted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the objective, and by whoever takes its answers for unshifted: two tokens on are asked."""
    _changed(
        monkeypatch,
        lambda made, ask: replace(ask, at=ask.at[:-1], target=ask.target[1:], weight=ask.weight[1:]),
    )


@mutant(kills=f"{CAUSAL}test_the_table_of_places_and_answers[3-at2-asked2]", trap=4)
def what_is_asked_is_chosen_before_the_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the first token that a piece answers for is not asked."""
    _changed(
        monkeypatch,
        lambda made, ask: replace(ask, at=ask.at[1:], target=ask.target[1:], weight=ask.weight[1:]),
    )


@mutant(kills=f"{CAUSAL}test_an_end_token_is_asked_though_it_is_padding_too", trap=5)
def what_looks_like_padding_weighs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _changed(monkeypatch, lambda made, ask: replace(ask, weight=(ask.target != 0).astype(np.float32)))


@mutant(kills=f"{CAUSAL}test_text_is_found_between_two_tokens_that_are_one[ids1-expected1]", trap=5)
def a_token_is_taken_off_either_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is: a piece from the middle of a text loses its first token."""
    from telos.objectives import _framing

    monkeypatch.setattr(_framing, "inside", lambda piece, tokenizer: slice(1, len(piece) - 1))

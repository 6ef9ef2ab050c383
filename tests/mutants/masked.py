"""Bugs of masked language modelling, and of the objectives that stand beside it."""

from typing import Any

import numpy as np
import pytest

from tests.mutants import mutant

MASKED = "tests/objectives/test_masked.py::"
PAIRS = "tests/objectives/test_pairs.py::"
HYBRID = "tests/objectives/test_hybrid.py::"
TOKENIZER = "tests/test_tokenizer.py::"


@mutant(kills=f"{MASKED}test_special_tokens_of_another_objectives_example_are_never_touched", trap=9)
def special_tokens_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.masked import Masked

    choose = Masked.choose

    def careless(self: Any, row: Any, free: Any, rng: Any, tokenizer: Any) -> Any:
        class Nothing:
            special_ids = frozenset({tokenizer.pad})

        return choose(self, row, free, rng, Nothing())

    monkeypatch.setattr(Masked, "choose", careless)


@mutant(kills=f"{MASKED}test_the_rates_hold_over_a_million_tokens[{{}}]", trap=9)
def random_tokens_may_be_special(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import masked

    monkeypatch.setattr(masked, "ordinary", lambda tokenizer: np.arange(tokenizer.size))


@mutant(kills=f"{MASKED}test_the_rates_hold_over_a_million_tokens[{{}}]", trap=9)
def the_shares_are_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 % of those that do not show the mask token, in place of 10 % of all."""
    from telos.objectives.masked import InsteadSettings, Masked

    replaced = Masked.replaced

    def wrong(self: Any, *given: Any) -> Any:
        mask, random = self.instead.mask, self.instead.random
        changed = InsteadSettings(mask=mask, random=(1 - mask) * random)
        return replaced(self.model_copy(update={"instead": changed}), *given)

    monkeypatch.setattr(Masked, "replaced", wrong)


@mutant(kills=f"{MASKED}test_short_texts_do_not_bias_the_rate[1]", trap=9)
def at_least_one_token_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.masked import Masked

    choose = Masked.choose

    def at_least_one(self: Any, row: Any, *given: Any) -> Any:
        short = self.model_copy(update={"rate": max(self.rate, 1 / max(1, len(row.main) - 2))})
        return choose(short, row, *given)

    monkeypatch.setattr(Masked, "choose", at_least_one)


@mutant(kills=f"{MASKED}test_a_word_is_hidden_whole_or_not_at_all[english-bpe]", trap=10)
def words_fall_back_to_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.masked import Masked

    monkeypatch.setattr(Masked, "_units", lambda self, row, places: np.arange(len(places)))


@mutant(kills=f"{MASKED}test_a_word_is_hidden_whole_or_not_at_all[english-unigram]", trap=10)
def words_are_known_by_the_marks_of_wordpiece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that does not begin with ## begins a word: so every token of every other vocabulary does."""
    from telos.tokenizer import Tokenizer

    encode_words = Tokenizer.encode_words

    def by_marks(self: Any, *given: Any) -> Any:
        encoded = encode_words(self, *given)
        pieces = [self.token_bytes(token) for token in encoded.ids.tolist()]
        return encoded._replace(word_start=np.array([not piece.startswith(b"##") for piece in pieces]))

    monkeypatch.setattr(Tokenizer, "encode_words", by_marks)


@mutant(kills=f"{MASKED}test_workers_hide_what_one_alone_hides[4]", trap=11)
def each_worker_hides_by_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from telos.data import layout

    right = layout.sample_rng
    monkeypatch.setattr(layout, "sample_rng", lambda seed, *place: right(seed + os.getpid(), *place))


@mutant(kills=f"{MASKED}test_words_are_never_guessed", trap=10)
def text_without_words_is_hidden_by_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.masked import Masked

    units = Masked._units

    def guess(self: Any, row: Any, places: Any) -> Any:
        return units(self, row, places) if self._words in row.columns else np.arange(len(places))

    monkeypatch.setattr(Masked, "_units", guess)


@mutant(kills=f"{MASKED}test_a_word_is_hidden_whole_or_not_at_all[chinese-wordpiece]", trap=10)
def a_token_begins_every_word_that_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a character is cut in two where its bytes are in two tokens."""
    from telos import tokenizer

    def first_cover(at: Any, places: Any) -> Any:
        until = np.maximum.accumulate(at[:, 1]) if len(at) else at[:, 1]
        before = np.concatenate([np.zeros(min(1, len(at)), np.int64), until[:-1]])
        return np.searchsorted(places, before) < np.searchsorted(places, until)

    monkeypatch.setattr(tokenizer, "_begin", first_cover)


@mutant(kills=f"{TOKENIZER}test_words_begin_after_blanks_that_no_token_holds", trap=10)
def words_begin_at_their_blanks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import tokenizer

    monkeypatch.setattr(tokenizer, "_begin", lambda at, places: np.isin(at[:, 0], places))


@mutant(kills=f"{MASKED}test_chinese_words_are_those_of_the_segmenter", trap=10)
def the_segmenter_is_asked_and_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.masked import Masked

    monkeypatch.setattr(Masked, "_words", "word_start")


@mutant(kills=f"{MASKED}test_masks_are_drawn_anew_in_each_pass", trap=11)
def masks_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if in preprocessing: a function of the sample alone."""
    from telos.objectives.masked import Masked

    example = Masked.example
    monkeypatch.setattr(
        Masked,
        "example",
        lambda self, read, index, rng, tokenizer: example(
            self, read, index, np.random.default_rng(index), tokenizer
        ),
    )


@mutant(kills=f"{MASKED}test_nobody_sees_what_it_is_asked", trap=4)
def nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.masked import Masked

    monkeypatch.setattr(Masked, "replaced", lambda self, ids, *given: ids)


@mutant(kills=f"{MASKED}test_the_example_of_the_page", trap=4)
def the_answers_are_one_place_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import masked

    asking = masked.asking
    monkeypatch.setattr(masked, "asking", lambda row, ids, at, of: asking(row, ids, at, of + 1))


@mutant(kills=f"{MASKED}test_padding_is_never_asked", trap=5)
def everything_after_the_text_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The padding of a bucket counts like a token."""
    from telos.data import packing

    padded = packing._padded
    monkeypatch.setattr(
        packing,
        "_padded",
        lambda array, spare: (
            padded(array, spare).fill_(1.0) if array.dtype == np.float32 else padded(array, spare)
        ),
    )


@mutant(kills=f"{MASKED}test_a_rate_that_moves_is_a_function_of_the_place", trap=11)
def a_rate_moves_by_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """By how many samples this process has made, in place of by the place."""
    from telos.objectives.masked import Masked

    after, made = Masked.after, [0]

    def counting(self: Any, passes: float) -> Any:
        made[0] += 1
        return after(self, made[0] / 100)

    monkeypatch.setattr(Masked, "after", counting)


@mutant(kills=f"{MASKED}test_words_at_the_edges_are_hidden_as_often_as_others")
def runs_are_laid_on_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "roll", lambda array, by: array)


@mutant(
    kills=f"{PAIRS}test_negatives_are_never_of_the_same_document_and_as_many_as_positives[2]",
    trap=12,
)
def negatives_may_be_of_the_same_document(monkeypatch: pytest.MonkeyPatch) -> None:
    _any_piece_will_do(monkeypatch)


@mutant(kills=f"{PAIRS}test_blank_lines_make_no_documents[NextSentence]", trap=12)
def negatives_come_from_behind_a_blank_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same document, that is."""
    _any_piece_will_do(monkeypatch)


def _any_piece_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import next_sentence

    def apart(self: Any, pair: Any, read: Any, rng: np.random.Generator, tokenizer: Any) -> Any:
        drawn = int(rng.integers(len(read)))
        other = next_sentence.whole_sentences(read, drawn, tokenizer)
        return pair.first, next_sentence._alike(other, pair, rng)

    monkeypatch.setattr(next_sentence.NextSentence, "apart", apart)


@mutant(kills=f"{PAIRS}test_one_document_is_refused_whatever_is_drawn", trap=12)
def a_single_document_serves_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some tries in vain the same document is taken."""
    from telos.errors import DataError
    from telos.objectives.next_sentence import NextSentence

    apart = NextSentence.apart

    def patient(self: Any, pair: Any, *rest: Any) -> Any:
        try:
            return apart(self, pair, *rest)
        except DataError:
            return pair.second, pair.first

    monkeypatch.setattr(NextSentence, "apart", patient)


@mutant(kills=f"{PAIRS}test_yes_and_no_are_equally_frequent[NextSentence]", trap=12)
def no_is_more_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is yes only where another draw says so as well."""
    from telos.objectives._pairs import Pairs

    example = Pairs.example

    def skewed(self: Any, read: Any, index: int, rng: Any, tokenizer: Any) -> Any:
        class Skewed:
            def integers(self, *given: int) -> int:
                return int(rng.random() < 0.45) if given == (2,) else int(rng.integers(*given))

            def choice(self, *given: Any) -> Any:
                return rng.choice(*given)

        return example(self, read, index, Skewed(), tokenizer)

    monkeypatch.setattr(Pairs, "example", skewed)


@mutant(kills=f"{PAIRS}test_pairs_fit_their_window_and_neither_is_empty[16-NextSentence]", trap=12)
def the_marks_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.batch import Cut
    from telos.objectives._pairs import Pairs

    cut = Pairs.cut

    def longer(self: Any, window: int) -> Cut:
        return Cut(length=cut(self, window).length + 3)

    monkeypatch.setattr(Pairs, "cut", longer)


@mutant(kills=f"{PAIRS}test_neither_length_nor_end_gives_the_answer_away[60]", trap=12)
def negatives_end_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a pair that ends in the middle of a sentence is a false one."""
    from telos.objectives import next_sentence

    def cut_off(other: Any, pair: Any, rng: Any) -> Any:
        begin = int(rng.choice(next_sentence.ends(other)[:-1])) if len(next_sentence.ends(other)) > 1 else 0
        return other.part(begin, begin + len(pair.second.ids))

    monkeypatch.setattr(next_sentence, "_alike", cut_off)


@mutant(kills=f"{PAIRS}test_masked_extends_a_pair_by_whole_words[next_sentence]", trap=10)
def a_pair_forgets_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token is taken for the beginning of a word."""
    from telos.objectives import _framing

    laid = _framing._laid
    monkeypatch.setattr(_framing, "_laid", lambda parts: np.ones_like(laid(parts)))


@mutant(kills=f"{HYBRID}test_a_hidden_token_is_asked_at_the_place_before_it", trap=17)
def the_masked_half_is_not_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import hybrid

    asking = hybrid.asking
    monkeypatch.setattr(hybrid, "asking", lambda row, ids, at, of: asking(row, ids, of, of))


@mutant(kills=f"{HYBRID}test_the_causal_half_is_causal_to_the_bit", trap=17)
def the_causal_half_has_masks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from telos.objectives.causal import Causal
    from telos.objectives.hybrid import Hybrid

    example = Hybrid.example

    def noisy(self: Any, read: Any, index: int, rng: Any, tokenizer: Any) -> Any:
        made = example(self, read, index, rng, tokenizer)
        if made.pattern != Causal().example(read, index, rng, tokenizer).pattern:
            return made
        ids = made.main.ids.copy()
        ids[-1] = tokenizer.mask
        return replace(made, main=replace(made.main, ids=ids))

    monkeypatch.setattr(Hybrid, "example", noisy)


@mutant(kills=f"{HYBRID}test_the_halves_are_drawn_by_their_share[0.9375]", trap=17)
def halves_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.hybrid import Hybrid

    example = Hybrid.example
    monkeypatch.setattr(
        Hybrid,
        "example",
        lambda self, *given: example(self.model_copy(update={"share": 0.5}), *given),
    )


@mutant(kills=f"{HYBRID}test_nobody_sees_what_it_is_asked", trap=4)
def the_hybrid_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.masked import Masked

    monkeypatch.setattr(Masked, "replaced", lambda self, ids, *given: ids)

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


@mutant(kills=f"{SPAN}test_ten_thousand_texts_come_back", trap=13)
def a_span_at_both_ends_has_one_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where spans begin is found on a ring: the first has none if the last token is hidden too."""
    from telos.objectives import _spans

    corrupt = _spans.corrupt

    def on_a_ring(ids: Any, hidden: Any, marks: Any) -> Any:
        made = corrupt(ids, hidden, marks)
        if not (len(ids) and hidden[0] and hidden[-1]):
            return made
        return made._replace(read=made.read[1:], said=made.said[1:], places=made.places[1:])

    monkeypatch.setattr(_spans, "corrupt", on_a_ring)


BART = "tests/objectives/test_bart.py::"


@mutant(kills=f"{BART}test_the_whole_text_is_said[True]", trap=14)
def sentences_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import bart

    monkeypatch.setattr(bart, "shuffled", lambda sentence_start, rng: np.arange(len(sentence_start)))


@mutant(kills=f"{BART}test_sentences_are_shuffled_whole")
def the_text_is_shuffled_by_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import bart

    monkeypatch.setattr(bart, "shuffled", lambda start, rng: rng.permutation(len(start)))


@mutant(kills=f"{BART}test_the_whole_text_is_said[True]")
def what_is_said_is_shuffled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text and answer in one order: nothing is learned of the order."""
    from telos.objectives import bart

    said_whole = bart._said_whole

    def as_it_is_read(read: Any, ids: Any, *rest: Any) -> Any:
        return said_whole(read, np.random.default_rng(0).permutation(ids), *rest)

    monkeypatch.setattr(bart, "_said_whole", as_it_is_read)


@mutant(kills=f"{BART}test_a_text_with_gaps_is_its_tokens_in_order_and_masks", trap=14)
def gaps_leave_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import bart

    with_gaps = bart.with_gaps

    def unmarked(ids: Any, lengths: Any, mask: int, rng: np.random.Generator) -> Any:
        read = with_gaps(ids, lengths, mask, rng)
        return read[read != mask]

    monkeypatch.setattr(bart, "with_gaps", unmarked)


@mutant(kills=f"{BART}test_empty_spans_put_in_masks_where_nothing_is_missing")
def empty_spans_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import bart

    with_gaps = bart.with_gaps
    monkeypatch.setattr(
        bart, "with_gaps", lambda ids, lengths, mask, rng: with_gaps(ids, lengths[lengths > 0], mask, rng)
    )


@mutant(kills=f"{BART}test_a_text_with_gaps_is_its_tokens_in_order_and_masks", trap=14)
def as_many_spans_as_tokens_should_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share is of spans: three times as much is gone as was asked for."""
    from telos.objectives import bart

    monkeypatch.setattr(
        bart, "span_lengths", lambda hidden, n, mean, rng: rng.poisson(mean, max(1, min(hidden, n // 4)))
    )


@mutant(kills=f"{BART}test_spans_are_as_long_as_asked_and_some_are_empty")
def no_span_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import bart

    span_lengths = bart.span_lengths

    def full(*given: Any) -> Any:
        lengths = span_lengths(*given)
        return lengths[lengths > 0]

    monkeypatch.setattr(bart, "span_lengths", full)


@mutant(kills=f"{BART}test_a_text_that_fills_its_window_fits", trap=14)
def the_end_of_what_is_read_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.batch import Cut
    from telos.objectives.bart import Bart

    monkeypatch.setattr(Bart, "cut", lambda self, window: Cut(length=window))


PREFIX, INFILL = "tests/objectives/test_prefix.py::", "tests/objectives/test_infill.py::"
DENOISE, MIXTURE = "tests/objectives/test_denoise.py::", "tests/objectives/test_mixture.py::"


@mutant(kills=f"{PREFIX}test_places_depend_on_what_they_may_see_and_on_nothing_else[3-2-0]", trap=15)
def the_prefix_is_one_place_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bound is ambiguous: the first answer is seen by the place that is asked for it."""
    from telos.objectives import _sequence
    from tests.objectives import test_prefix

    prefixed = _sequence.prefixed
    monkeypatch.setattr(test_prefix, "prefixed", lambda ids, prefix: prefixed(ids, prefix + 1))


@mutant(kills=f"{PREFIX}test_places_depend_on_what_they_may_see_and_on_nothing_else[3-3-2]", trap=15)
def the_prefix_is_lost_after_the_first_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._layers import Block, Sight

    forward, met = Block.forward, []

    def causal_later(self: Any, x: Any, sight: Any, turn: Any, past: Any) -> Any:
        first = not any(each is sight for each in met)
        met.append(sight)
        return forward(self, x, sight if first else Sight(None, causal=True), turn, past)

    monkeypatch.setattr(Block, "forward", causal_later)


@mutant(kills=f"{PREFIX}test_only_what_follows_the_prefix_is_asked", trap=15)
def the_prefix_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import prefix

    after = prefix._after

    def all_of_it(piece: Any, length: int, sample: int) -> Any:
        from dataclasses import replace

        return replace(after(piece, 1, sample), main=after(piece, length, sample).main)

    monkeypatch.setattr(prefix, "_after", all_of_it)


@mutant(kills=f"{PREFIX}test_padding_and_company_change_nothing", trap=15)
def padding_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_segments(query: Any, key: Any) -> Any:
        return (key.order[:, None, :] <= query.order[:, :, None]).unsqueeze(1)

    monkeypatch.setattr("telos.models._transformer.may_see", no_segments)


@mutant(kills=f"{INFILL}test_cuts_fall_inside_of_words_and_tokens", trap=16)
def texts_are_cut_between_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.tokenizer import Tokenizer

    load = Tokenizer.__init__

    def lossy(self: Any, *given: Any) -> None:
        load(self, *given)
        self.lossless = False

    monkeypatch.setattr(Tokenizer, "__init__", lossy)


@mutant(kills=f"{INFILL}test_the_longest_piece_fits_however_it_is_cut", trap=16)
def marks_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.objectives.infill._PUT_ON", 1)


@mutant(kills=f"{INFILL}test_no_character_is_cut[byte]", trap=16)
def characters_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts between any two tokens, which may be bytes."""
    from telos.objectives import infill

    def anywhere(ids: Any, rng: np.random.Generator, tokenizer: Any) -> Any:
        first, second = np.sort(rng.integers(0, len(ids), 2, endpoint=True))
        return infill.Parts(ids[:first], ids[first:second], ids[second:])

    monkeypatch.setattr(infill, "_cut", anywhere)


@mutant(kills=f"{INFILL}test_undone_it_is_the_text[bpe]", trap=16)
def the_last_piece_is_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that end their document are left as they are."""
    from telos.objectives.infill import Infill

    example = Infill.example

    def skipping(self: Any, read: Any, index: int, rng: Any, tokenizer: Any) -> Any:
        last = read[index].ids[-1] == tokenizer.end
        chosen = self.model_copy(update={"rate": 0.0}) if last else self
        return example(chosen, read, index, rng, tokenizer)

    monkeypatch.setattr(Infill, "example", skipping)


@mutant(kills=f"{INFILL}test_the_shares_are_as_asked[0.9-0.25]", trap=16)
def the_end_is_never_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import infill

    arranged = infill._arranged
    monkeypatch.setattr(
        infill, "_arranged", lambda parts, end_first, tokenizer: arranged(parts, False, tokenizer)
    )


@mutant(kills=f"{INFILL}test_the_shares_are_as_asked[0.5-0.5]", trap=16)
def every_text_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.infill import Infill

    example = Infill.example
    monkeypatch.setattr(
        Infill, "example", lambda self, *given: example(self.model_copy(update={"rate": 1.0}), *given)
    )


@mutant(kills=f"{INFILL}test_no_row_holds_two_documents", trap=16)
def the_end_is_taken_from_the_next_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from telos.objectives.infill import Infill

    example = Infill.example

    def across(self: Any, read: Any, index: int, *rest: Any) -> Any:
        piece, after = read[index], read[(index + 1) % len(read)]
        both = replace(piece, ids=np.concatenate([piece.ids, after.ids[1:]]))
        return example(self, {index: both}, index, *rest)

    monkeypatch.setattr(Infill, "example", across)


@mutant(kills=f"{DENOISE}test_the_modes_are_special_tokens_of_the_vocabulary", trap=17)
def modes_cannot_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import denoise

    monkeypatch.setattr(
        denoise,
        "_with_mode",
        lambda denoiser, both, tokenizer: both._replace(read=np.append(tokenizer.mask, both.read)),
    )


@mutant(kills=f"{DENOISE}test_nothing_is_dropped_whatever_is_drawn[0-prefix]", trap=17)
def what_does_not_fit_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces as the first denoiser likes them; what is said is cut to the window."""
    from telos.objectives import denoise

    cut = denoise.Denoise.cut
    monkeypatch.setattr(
        denoise.Denoise,
        "cut",
        lambda self, window: cut(self.model_copy(update={"of": self.of[:1]}), window),
    )


@mutant(kills=f"{DENOISE}test_denoisers_are_drawn_as_often_as_asked", trap=17)
def shares_are_not_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.denoise import Denoise

    example = Denoise.example

    def evenly(self: Any, *given: Any) -> Any:
        same = tuple(each.model_copy(update={"share": 1.0}) for each in self.of)
        return example(self.model_copy(update={"of": same}), *given)

    monkeypatch.setattr(Denoise, "example", evenly)


@mutant(kills=f"{DENOISE}test_every_asked_token_counts_the_same", trap=17)
def each_mode_is_normalised_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.objectives.denoise.per_head", lambda asked: asked)


@mutant(kills=f"{MIXTURE}test_what_one_decoder_can_serve_is_mixed_in_one_run", trap=17)
def mixtures_in_mixtures_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head is looked for behind the first dot of a term, not the last."""

    def first_dot(asked: Any) -> Any:
        heads = {term: term.partition(".")[2] for term in asked}
        return {term: sum(asked[o] for o in asked if heads[o] == heads[term]) for term in asked}

    monkeypatch.setattr("telos.objectives.mixture.per_head", first_dot)


@mutant(kills=f"{MIXTURE}test_what_one_decoder_can_serve_is_mixed_in_one_run", trap=17)
def the_share_of_a_loss_is_logged_for_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.mixture import Mixture

    monkeypatch.setattr(Mixture, "logged", Mixture.denominators)


@mutant(kills=f"{MIXTURE}test_shares_move_from_the_start_to_the_recipes", trap=17)
def shares_never_move(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.mixture import Mixture

    monkeypatch.setattr(Mixture, "after", lambda self, passes: self)

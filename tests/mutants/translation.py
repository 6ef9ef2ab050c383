"""Translation: pairs, beam search, and how it is scored."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.mutants import mutant

BEAM = "tests/generate/test_beam.py"
PAIRS = "tests/objectives/test_sequence_to_sequence.py"
SCORES = "tests/evaluate/test_translation.py"
TASK = "tests/tasks/test_translation.py"


@mutant(kills=f"{BEAM}::test_what_is_found_is_what_a_simple_search_finds[rotary-1.0]", trap=33)
def the_penalty_counts_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import beam

    rank = beam.rank
    monkeypatch.setattr(beam, "rank", lambda total, length, penalty: rank(total, length + 4, penalty))


@mutant(kills=f"{BEAM}::test_what_is_found_is_what_a_simple_search_finds[t5-1.0]", trap=33)
def the_search_ends_at_the_first_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate.beam import Search

    done = Search.done
    monkeypatch.setattr(Search, "done", property(lambda self: bool(self.found) or done.fget(self)))


@mutant(kills=f"{BEAM}::test_what_is_found_is_what_a_simple_search_finds[gru-1.0]", trap=33)
def states_stay_where_beams_move(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    def stay(self: Any, state: Any, rows: torch.Tensor, **_: Any) -> Any:
        held = len(next(iter(state.values())))
        kept = torch.arange(len(rows)) if len(rows) <= held else rows
        return {name: part.index_select(0, kept) for name, part in state.items()}

    monkeypatch.setattr(Network, "chosen", stay)


@mutant(kills=f"{BEAM}::test_company_changes_nothing", trap=33)
def sources_stay_where_searches_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.encoder_decoder import EncoderDecoderNetwork

    chosen = EncoderDecoderNetwork.chosen

    def kept(self: Any, state: Any, rows: torch.Tensor, *, same_sources: bool = False) -> Any:
        moved = chosen(self, state, rows, same_sources=False)
        held = state.memory.seen.shape[0]
        if same_sources or len(rows) > held:
            return moved
        first = torch.arange(len(rows))
        return moved._replace(memory=chosen(self, state, first, same_sources=False).memory)

    monkeypatch.setattr(EncoderDecoderNetwork, "chosen", kept)


@mutant(kills=f"{BEAM}::test_what_is_found_is_what_a_simple_search_finds[rotary-1.0]", trap=33)
def a_beam_offers_fewer_ways_on_than_the_search_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import beam

    plain = beam._continued

    def fewer(search: Any, logprobs: Any, tokens: Any) -> Any:
        return plain(search, logprobs[:, :1], tokens[:, :1])

    monkeypatch.setattr(beam, "_continued", fewer)


@mutant(kills=f"{BEAM}::test_special_tokens_are_never_found")
def special_tokens_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._rows import Row

    init = Row.__init__

    def free(self: Any, *given: Any) -> None:
        init(self, *given)
        self.forbidden = self.forbidden[:0]

    monkeypatch.setattr(Row, "__init__", free)


@mutant(kills=f"{PAIRS}::test_one_row_reads_from_left_to_right_and_says", trap=3)
def the_text_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from telos.objectives import _sequence

    example = _sequence.example

    def all_of_it(*given: Any) -> Any:
        made = example(*given)
        at = np.arange(len(made.main) - 1)
        ask = replace(made.asks[0], at=at, target=made.main.ids[1:], weight=np.ones(len(at), np.float32))
        return replace(made, asks=(ask,))

    monkeypatch.setattr(_sequence, "example", all_of_it)


@mutant(kills=f"{PAIRS}::test_an_encoder_reads_and_a_decoder_says", trap=3)
def the_end_of_the_target_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import sequence_to_sequence as module

    class Endless(module.Sequences):
        def __new__(cls, read: Any, said: Any, asked: Any) -> Any:
            return super().__new__(cls, read, said, np.append(asked[:-1], False))

    monkeypatch.setattr(module, "Sequences", Endless)


@mutant(kills=f"{PAIRS}::test_a_prompt_is_the_example_without_what_is_said[prefix]", trap=32)
def a_prompt_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import sequence_to_sequence as module
    from telos.objectives._base import Prompt
    from telos.objectives._sequence import prefixed

    def endless(self: Any, ids: Any, tokenizer: Any) -> Prompt:
        return Prompt(main=prefixed(ids, len(ids)))

    monkeypatch.setattr(module.SequenceToSequence, "prompt", endless)


@mutant(kills=f"{SCORES}::test_chinese_is_counted_by_characters", trap=32)
def chinese_is_scored_with_13a(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import translation

    monkeypatch.setattr(translation, "tokeniser", lambda references: "13a")


@mutant(kills=f"{SCORES}::test_scores_are_those_of_sacrebleu", trap=32)
def references_and_translations_are_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import translation

    scored = translation._scored
    monkeypatch.setattr(translation, "_scored", lambda metric, ours, theirs: scored(metric, theirs, ours))


@mutant(kills=f"{SCORES}::test_text_that_is_cut_into_words_is_refused", trap=32)
def text_that_is_cut_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import translation

    monkeypatch.setattr(translation, "_check", lambda *given: None)


@mutant(kills=f"{TASK}::test_targets_are_in_the_vocabulary_and_in_the_shards")
def the_vocabulary_is_learned_from_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import decisions

    sample = decisions._sample
    monkeypatch.setattr(decisions, "_sample", lambda *given: sample(*given[:-1], False))


@mutant(kills=f"{TASK}::test_a_text_with_two_translations_is_two_pairs")
def another_translation_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import decisions

    first = decisions._Texts.first_of_equals
    monkeypatch.setattr(
        decisions._Texts, "first_of_equals", lambda self, codes, answered: first(self, codes, False)
    )


@mutant(kills=f"{TASK}::test_a_text_that_is_held_out_is_not_trained_on_with_another_translation")
def a_held_out_text_is_trained_on_with_another_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import decisions

    monkeypatch.setattr(
        decisions._Texts,
        "first_of_equals",
        lambda self, codes, answered: decisions._first_of_equals(
            np.column_stack([self.digests, self.answers])
        ),
    )


@mutant(kills=f"{TASK}::test_order_company_and_empty_texts_change_nothing")
def translations_come_in_the_order_of_their_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.tasks import translation

    translate = translation.translate

    def sorted_by_length(run: Any, texts: Any, **given: Any) -> Any:
        return translate(run, sorted(texts, key=len), **given)

    monkeypatch.setattr(translation, "translate", sorted_by_length)


@mutant(kills=f"{TASK}::test_evaluating_says_how_to_have_figures_of_answers_that_nobody_noted")
def figures_of_other_weights_pass_for_these(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.tasks import translation

    def always(run: Any, split: str) -> dict[str, Any]:
        found = run.figures()["evaluation"].get(split, {})
        return {"pairs": found["pairs"]} if "pairs" in found else {}

    monkeypatch.setattr(translation, "noted", always)


@mutant(kills=f"{TASK}::test_evaluating_says_what_training_noted_of_the_answers")
def what_training_noted_is_in_the_report_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import cli, said

    score_lines = said.score_lines

    def without(figures: dict[str, Any]) -> list[str]:
        return score_lines({name: each for name, each in figures.items() if name != "pairs"})

    monkeypatch.setattr(said, "score_lines", without)
    monkeypatch.setattr(cli, "score_lines", without)

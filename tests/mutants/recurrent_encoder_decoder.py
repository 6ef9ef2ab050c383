"""Bugs of the recurrent encoder and decoder."""

from typing import Any

import pytest
import torch

from tests.mutants import mutant

MODEL = "tests/models/test_recurrent_encoder_decoder.py"
GENERATE = "tests/generate/test_left_to_right.py"


@mutant(kills=f"{MODEL}::test_padding_is_never_read[bahdanau]", trap=21)
def the_second_direction_begins_in_the_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    def wrong(lengths: Any, places: int) -> Any:
        return torch.arange(places - 1, -1, -1).expand(len(lengths), places)

    monkeypatch.setattr(recurrent_encoder_decoder, "backwards", wrong)


@mutant(kills=f"{MODEL}::test_the_encoder_is_the_bidirectional_kernel_over_packed_rows[gru]", trap=38)
def the_second_direction_is_not_turned_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    right, turns = recurrent_encoder_decoder.turned, iter(range(10**6))
    monkeypatch.setattr(
        recurrent_encoder_decoder, "turned", lambda x, around: x if next(turns) % 2 else right(x, around)
    )


@mutant(kills=f"{MODEL}::test_it_is_its_formula[luong]", trap=38)
def each_direction_hands_over_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder starts from states that have read one token."""
    from telos.models import recurrent_encoder_decoder

    monkeypatch.setattr(recurrent_encoder_decoder, "last", lambda out, lengths, start: out[:, 0])


@mutant(kills=f"{MODEL}::test_it_is_its_formula[bahdanau]", trap=38)
def the_directions_are_exchanged_as_they_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.recurrent_encoder_decoder import Bidirectional

    right = Bidirectional.forward

    def wrong(self: Any, *given: Any) -> Any:
        found, ends = right(self, *given)
        return found, ends.roll(self.width, 1)

    monkeypatch.setattr(Bidirectional, "forward", wrong)


@mutant(kills=f"{MODEL}::test_a_row_is_as_it_is_alone[True-gru]", trap=21)
def what_the_padding_says_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    monkeypatch.setattr(recurrent_encoder_decoder, "last", lambda out, lengths, start: out[:, -1])


@mutant(kills=f"{MODEL}::test_a_row_is_as_it_is_alone[False-tied]", trap=21)
def attention_sees_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    right = recurrent_encoder_decoder.reading

    def wrong(segment: Any, other: Any, seen: Any) -> Any:
        return right(segment, other.clamp(min=0), torch.ones_like(seen))

    monkeypatch.setattr(recurrent_encoder_decoder, "reading", wrong)


@mutant(kills=f"{MODEL}::test_a_source_of_another_segment_is_not_looked_at[luong]", trap=6)
def attention_sees_another_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    right = recurrent_encoder_decoder.reading

    def wrong(segment: Any, other: Any, seen: Any) -> Any:
        return right(torch.zeros_like(segment), torch.zeros_like(other), seen)

    monkeypatch.setattr(recurrent_encoder_decoder, "reading", wrong)


@mutant(kills=f"{MODEL}::test_a_source_of_another_segment_is_not_looked_at[bahdanau]", trap=6)
def attention_sees_what_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    right = recurrent_encoder_decoder.reading
    monkeypatch.setattr(
        recurrent_encoder_decoder,
        "reading",
        lambda segment, other, seen: right(segment, other, torch.ones_like(seen)),
    )


@mutant(kills=f"{MODEL}::test_it_is_its_formula[gru]", trap=21)
def who_sees_no_source_sees_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    right = recurrent_encoder_decoder.reading

    def wrong(*given: Any) -> Any:
        found = right(*given)
        return found._replace(blind=torch.zeros_like(found.blind))

    monkeypatch.setattr(recurrent_encoder_decoder, "reading", wrong)


@mutant(kills=f"{MODEL}::test_padding_is_finite_and_harmless[float32-lstm]", trap=21)
def who_sees_no_source_has_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder
    from telos.models._relative import Reading

    def wrong(segment: Any, other: Any, seen: Any) -> Any:
        mask = (segment[:, :, None] == other[:, None, :]) & seen[:, None, :]
        return Reading(mask.unsqueeze(1), ~mask.any(2, keepdim=True))

    monkeypatch.setattr(recurrent_encoder_decoder, "reading", wrong)


@mutant(kills=f"{MODEL}::test_steps_on_a_cache_are_one_forward_pass[bahdanau]", trap=23)
def cached_decoding_loses_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    monkeypatch.setattr(recurrent_encoder_decoder, "_kept", lambda state, continues: None)


@mutant(kills=f"{GENERATE}::test_a_prompt_is_the_source_of_a_model_that_has_one[lstm-False]", trap=23)
def generation_loses_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    monkeypatch.setattr(recurrent_encoder_decoder, "_kept", lambda state, continues: None)


@mutant(kills=f"{MODEL}::test_a_row_that_starts_anew_forgets_both_sides[luong]", trap=23)
def the_old_source_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    monkeypatch.setattr(
        recurrent_encoder_decoder, "_kept", lambda state, continues: state.memory if state else None
    )


@mutant(kills=f"{MODEL}::test_steps_on_a_cache_are_one_forward_pass[lstm]", trap=23)
def the_decoder_begins_again_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    monkeypatch.setattr(recurrent_encoder_decoder, "resumed", lambda first, state, continues: first)


@mutant(kills=f"{MODEL}::test_a_new_source_is_looked_at_by_rows_that_go_on[gru]", trap=23)
def a_new_source_restarts_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.recurrent_encoder_decoder import RecurrentEncoderDecoderNetwork

    right = RecurrentEncoderDecoderNetwork.encode

    def wrong(self: Any, main: Any, source: Any = None, state: Any = None, continues: Any = None) -> Any:
        return right(self, main, source, state if source is None else None, continues)

    monkeypatch.setattr(RecurrentEncoderDecoderNetwork, "encode", wrong)


@mutant(kills=f"{MODEL}::test_the_state_has_no_history_and_training_leaves_none[tied]", trap=28)
def the_source_in_the_state_has_a_history(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    monkeypatch.setattr(recurrent_encoder_decoder, "_rested", lambda memory: memory)


@mutant(kills=f"{MODEL}::test_it_is_its_formula[tied]", trap=38)
def the_hidden_layer_of_the_score_is_not_bent(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.recurrent_encoder_decoder import Additive

    def wrong(self: Any, x: Any, keys: Any) -> Any:
        return self.score(self.queries(x).unsqueeze(2) + keys.unsqueeze(1)).squeeze(3)

    monkeypatch.setattr(Additive, "forward", wrong)


@mutant(kills=f"{MODEL}::test_what_attention_is_for_can_be_learned[copied-bahdanau]", trap=38)
def all_of_the_source_is_looked_at_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.recurrent_encoder_decoder import Additive

    right = Additive.forward
    monkeypatch.setattr(Additive, "forward", lambda self, x, keys: right(self, x, keys) * 0)


@mutant(
    kills=f"{MODEL}::test_the_gradient_reaches_every_token_of_the_source_and_every_weight[luong]", trap=29
)
def the_source_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.recurrent_encoder_decoder import Bidirectional

    right = Bidirectional.forward

    def wrong(self: Any, x: Any, *given: Any) -> Any:
        return right(self, x.detach(), *given)

    monkeypatch.setattr(Bidirectional, "forward", wrong)


@mutant(kills=f"{MODEL}::test_a_layer_is_one_call_of_the_kernel_whatever_the_length[gru]", trap=28)
def places_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    right = recurrent_encoder_decoder.run

    def wrong(layer: Any, x: Any, state: Any, *given: Any) -> Any:
        said = []
        for place in x.split(1, 1):
            out, state = right(layer, place, state, *given)
            said.append(out)
        return torch.cat(said, 1), state

    monkeypatch.setattr(recurrent_encoder_decoder, "run", wrong)


@mutant(kills=f"{MODEL}::test_every_dropout_drops_on_both_sides_where_it_says[weights-luong]", trap=22)
def the_encoder_keeps_all_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    right = recurrent_encoder_decoder.run
    monkeypatch.setattr(recurrent_encoder_decoder, "run", lambda *given: right(*given[:-1], 0.0))


@mutant(kills=f"{MODEL}::test_first_values_are_those_of_the_table[bahdanau]", trap=26)
def all_matrices_start_like_the_recurrent_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.recurrent_encoder_decoder import RecurrentEncoderDecoderNetwork

    right = RecurrentEncoderDecoderNetwork.initial

    def wrong(self: Any, name: str) -> Any:
        return right(self, "decoder." if name.startswith(("bridge", "combine", "align")) else name)

    monkeypatch.setattr(RecurrentEncoderDecoderNetwork, "initial", wrong)


@mutant(
    kills=f"{MODEL}::test_a_tied_head_is_the_embedding_and_learns_from_both_sides_and_the_head[tied]", trap=87
)
def a_tied_head_has_an_entry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import recurrent_encoder_decoder

    right = recurrent_encoder_decoder.build_heads
    monkeypatch.setattr(
        recurrent_encoder_decoder,
        "build_heads",
        lambda *given, tied=None, **named: right(*given, tied=None, **named),
    )


@mutant(kills=f"{MODEL}::test_flops_are_those_that_are_counted[bahdanau]", trap=38)
def the_hidden_layer_of_the_score_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.recurrent_encoder_decoder import RecurrentEncoderDecoder

    right = RecurrentEncoderDecoder.flops_per_token
    monkeypatch.setattr(
        RecurrentEncoderDecoder,
        "flops_per_token",
        lambda self, sizes: right(self, sizes) - 6 * self.hidden_layer * sizes.window,
    )


@mutant(kills=f"{MODEL}::test_what_attention_is_for_can_be_learned[copied-luong]")
def attention_starts_too_even_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedding of a language model, ±0.1: states and scores are so small that nothing is looked for."""
    from telos.models._base import Initial
    from telos.models.recurrent_encoder_decoder import RecurrentEncoderDecoderNetwork as Network

    initial = Network.initial

    def small(self: Any, name: str) -> Initial:
        return Initial("uniform", 0.1) if name == "embedding.weight" else initial(self, name)

    monkeypatch.setattr(Network, "initial", small)

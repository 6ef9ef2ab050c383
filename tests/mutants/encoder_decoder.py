"""Bugs of the encoder and decoder, and of sources on their way through the program."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.mutants import mutant

MODEL = "tests/models/test_encoder_decoder.py"
PACKING = "tests/data/test_packing.py"
GENERATE = "tests/generate/test_left_to_right.py"
LIKELIHOOD = "tests/evaluate/test_likelihood.py"
FORMULA = f"{MODEL}::test_it_is_its_formula[v1.0]"


@mutant(kills=f"{MODEL}::test_buckets_are_those_of_the_formula[32-128]", trap=38)
def buckets_grow_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logarithm of the distance itself, not of how often it holds the exact buckets."""
    from telos.models import _relative

    def wrong(buckets: int, distance: int) -> tuple[int, ...]:
        half, rest = buckets // 2, buckets - buckets // 2
        grown = (math.ceil(distance ** (k / rest)) + half for k in range(1, rest))
        return (*range(1, half + 1), *grown)

    monkeypatch.setattr(_relative, "bucket_starts", wrong)


@mutant(kills=f"{MODEL}::test_buckets_are_those_of_the_formula[32-128]", trap=38)
def before_and_after_are_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _relative

    right = _relative.both_ways
    monkeypatch.setattr(_relative, "both_ways", lambda offset, *rest: right(-offset, *rest))


@mutant(kills=FORMULA, trap=38)
def logits_of_attention_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention",
        lambda *given, scale=None, **named: attend(*given, **named),
    )


@mutant(kills=FORMULA, trap=38)
def a_tied_head_is_not_rescaled(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._heads import Scaled

    monkeypatch.setattr(Scaled, "forward", lambda self, x: x)


@mutant(kills=FORMULA, trap=38)
def the_decoder_sees_both_ways_by_its_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import encoder_decoder

    monkeypatch.setattr(encoder_decoder, "backwards", encoder_decoder.both_ways)


@mutant(kills=FORMULA, trap=38)
def only_the_first_block_has_the_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """One table that is not shared with the blocks after the first."""
    from telos.models._relative import RelativeBlock

    right = RelativeBlock.look

    def wrong(self: Any, x: Any, bias: Any, past: Any) -> Any:
        first = getattr(bias, "used", True)
        if first:
            bias.used = False
        return right(self, x, bias if first else bias.masked_fill(bias.isfinite(), 0), past)

    monkeypatch.setattr(RelativeBlock, "look", wrong)


@mutant(kills=f"{MODEL}::test_packed_pairs_are_as_each_alone[v1.0]", trap=6)
def sources_of_a_row_are_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import encoder_decoder

    right = encoder_decoder.reading

    def wrong(segment: Any, other: Any, seen: Any) -> Any:
        return right(torch.zeros_like(segment), torch.zeros_like(other), seen)

    monkeypatch.setattr(encoder_decoder, "reading", wrong)


@mutant(kills=f"{MODEL}::test_packed_pairs_are_as_each_alone[v1.0]", trap=7)
def distances_are_places_of_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions that go on from document to document look right to a mask, and to a bias too: they differ by
    the same. So the first of two documents gets them twice as wide."""
    from telos.models._relative import RelativeBias

    right = RelativeBias.forward

    def wrong(self: Any, query: Any, key: Any, kind: Any) -> Any:
        wide = [replace(rows, positions=rows.positions * (1 + (rows.segment == 1))) for rows in (query, key)]
        return right(self, *wide, kind)

    monkeypatch.setattr(RelativeBias, "forward", wrong)


@mutant(kills=f"{MODEL}::test_padding_is_finite_and_harmless[float32-v1.1]", trap=21)
def who_sees_no_source_has_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import encoder_decoder
    from telos.models._relative import Reading

    def wrong(segment: Any, other: Any, seen: Any) -> Any:
        mask = (segment[:, :, None] == other[:, None, :]) & seen[:, None, :]
        hole = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -torch.inf)
        return Reading(hole.unsqueeze(1), torch.zeros_like(mask[:, :, :1]))

    def textbook(query: Any, key: Any, value: Any, attn_mask: Any = None, **named: Any) -> Any:
        scores = query @ key.transpose(-1, -2)
        scores = scores + attn_mask if attn_mask.is_floating_point() else scores.masked_fill(~attn_mask, -1e9)
        return scores.softmax(-1) @ value

    monkeypatch.setattr(encoder_decoder, "reading", wrong)
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", textbook)


@mutant(kills=f"{MODEL}::test_without_a_source_the_decoder_is_alone[v1.0]", trap=21)
def who_sees_no_source_sees_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import encoder_decoder

    right = encoder_decoder.reading

    def wrong(*given: Any) -> Any:
        found = right(*given)
        return found._replace(blind=torch.zeros_like(found.blind))

    monkeypatch.setattr(encoder_decoder, "reading", wrong)


@mutant(kills=f"{MODEL}::test_steps_on_a_cache_are_one_forward_pass[v1.0]", trap=23)
def distances_from_the_cache_begin_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import encoder_decoder

    right = encoder_decoder.joined

    def wrong(main: Any, past: Any) -> Any:
        keys = right(main, past)
        return replace(keys, positions=torch.arange(keys.shape[1]).expand(keys.shape))

    monkeypatch.setattr(encoder_decoder, "joined", wrong)


@mutant(kills=f"{MODEL}::test_a_row_that_starts_anew_forgets_both_sides", trap=23)
def the_old_source_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import encoder_decoder

    monkeypatch.setattr(encoder_decoder, "_kept", lambda state, continues: state.memory if state else None)


@mutant(kills=f"{MODEL}::test_attention_weights_are_dropped_in_training_only[v1.0]", trap=22)
def attention_drops_always(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._relative import Attend

    right = Attend.forward

    def wrong(self: Any, *given: Any) -> Any:
        before, self.training = self.training, True
        try:
            return right(self, *given)
        finally:
            self.training = before

    monkeypatch.setattr(Attend, "forward", wrong)


@mutant(kills=f"{MODEL}::test_dropout_is_where_t5_has_it[v1.1]", trap=22)
def nothing_is_dropped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.models.encoder_decoder.dropout", lambda x, share, training: x)


@mutant(kills=f"{MODEL}::test_what_decays", trap=25)
def biases_by_distance_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    right = Network.undecayed
    monkeypatch.setattr(Network, "undecayed", lambda self: [n for n in right(self) if "table" not in n])


@mutant(kills=f"{MODEL}::test_first_values_are_those_of_the_table[False-2]", trap=26)
def queries_start_like_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Initial
    from telos.models.encoder_decoder import EncoderDecoderNetwork

    right = EncoderDecoderNetwork.initial

    def wrong(self: Any, name: str) -> Any:
        return Initial("normal", self.model.width**-0.5) if "query" in name else right(self, name)

    monkeypatch.setattr(EncoderDecoderNetwork, "initial", wrong)


@mutant(kills=f"{MODEL}::test_a_tied_head_is_the_embedding_and_learns_from_both_sides_and_the_head", trap=87)
def a_tied_head_has_an_entry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import encoder_decoder

    right = encoder_decoder.build_heads
    monkeypatch.setattr(
        encoder_decoder, "build_heads", lambda *given, tied=None, **named: right(*given, tied=None, **named)
    )


@mutant(kills=f"{MODEL}::test_a_tied_head_is_the_embedding_and_learns_from_both_sides_and_the_head", trap=29)
def the_source_does_not_teach_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.encoder_decoder import EncoderDecoderNetwork

    def wrong(self: Any, rows: Any) -> Any:
        found = self.embedding(rows.ids) * self.model.reduced
        return found.detach() if self.model.tied else found

    monkeypatch.setattr(EncoderDecoderNetwork, "_embed", wrong)


@mutant(kills=f"{PACKING}::test_both_sides_fit", trap=7)
def packing_counts_the_main_side_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import packing

    right = packing._best
    monkeypatch.setattr(packing, "_best", lambda open_rows, main, source: right(open_rows, main, 0))


@mutant(kills=f"{PACKING}::test_examples_with_and_without_a_source_share_a_row", trap=6)
def segments_are_counted_on_each_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources numbered by themselves: that of the second example goes to the first, which has none."""
    from telos.data import packing

    right = packing._side_rows

    def wrong(rows: Any, offsets: Any, window: Any) -> Any:
        made = right(rows, offsets, window)
        made["segment"] -= made["segment"].min(1, keepdims=True, initial=99, where=made["segment"] >= 0) * (
            made["segment"] >= 0
        )
        return made

    monkeypatch.setattr(packing, "_side_rows", wrong)


@mutant(kills=f"{GENERATE}::test_a_source_is_the_same_in_any_company[v1.1]", trap=23)
def padding_of_a_source_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _past

    right = _past.sources_of

    def wrong(*given: Any) -> Any:
        rows = right(*given)
        assert rows is not None
        zero = torch.zeros_like(rows.segment)
        return replace(rows, segment=zero, seen=zero == 0)

    monkeypatch.setattr(_past, "sources_of", wrong)


@mutant(kills=f"{GENERATE}::test_beyond_the_window_the_source_is_still_there[v1.1]", trap=23)
def the_source_is_forgotten_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._past import Past

    right = Past._read_again

    def wrong(self: Any, slid: Any) -> None:
        for index in slid:
            self.rows[index].source = None
        right(self, slid)

    monkeypatch.setattr(Past, "_read_again", wrong)


@mutant(kills=f"{LIKELIHOOD}::test_with_sources_the_sum_is_that_of_a_loop_over_tokens[0]", trap=30)
def sources_are_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import likelihood

    right = likelihood._add

    def wrong(tally: Any, network: Any, batch: Any, state: Any) -> Any:
        return right(tally, network, replace(batch, source=None), state)

    monkeypatch.setattr(likelihood, "_add", wrong)


@mutant(kills=f"{MODEL}::test_the_biases_gradient_is_that_of_an_embedding[kind0]")
def the_last_rows_pairs_alone_move_the_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _relative

    class Wrong(_relative._LookUp):
        @staticmethod
        def backward(ctx: Any, upstream: torch.Tensor) -> Any:
            upstream = upstream.clone()
            upstream[:-1] = 0
            return _relative._LookUp.backward(ctx, upstream)

    monkeypatch.setattr(_relative, "_looked_up", Wrong.apply)

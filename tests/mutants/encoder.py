"""Bugs of the encoder, of local blocks and of heads with a transform."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.mutants import mutant

ENCODER, DECODER = "tests/models/test_encoder.py", "tests/models/test_decoder.py"
MODELS = "tests/models/test_models.py"
FORMULA = f"{ENCODER}::test_its_logits_are_those_of_the_formula"
LOCAL = f"{ENCODER}::test_local_blocks_see_what_is_near_of_what_may_be_seen"


@mutant(kills=f"{ENCODER}::test_packed_texts_answer_as_each_alone", trap=6)
def texts_of_a_row_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions begin anew with each text, and that is all that keeps them apart."""
    from telos.models import _transformer

    right = _transformer.sight
    monkeypatch.setattr(_transformer, "sight", lambda main, *rest: right(replace(main, packed=False), *rest))


@mutant(kills=f"{LOCAL}[full-True-0]", trap=6)
def nearness_is_all_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask of a local block in place of the relation, not beside it."""
    from telos.models import _transformer

    right = _transformer.sight

    def wrong(main: Any, past: Any, kind: Any, reach: int = 0) -> Any:
        near = _transformer.near(main.positions, main.positions, reach)
        return _transformer.Sight(_transformer.added(near, kind)) if reach else right(main, past, kind)

    monkeypatch.setattr(_transformer, "sight", wrong)


@mutant(kills=f"{LOCAL}[prefix-False-0]", trap=15)
def local_blocks_see_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    right = _transformer.sight
    monkeypatch.setattr(_transformer, "sight", lambda main, past, reach=0: right(main, past))


@mutant(kills=f"{LOCAL}[full-False-0]", trap=15)
def the_reach_is_one_short(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    right = _transformer.near
    monkeypatch.setattr(_transformer, "near", lambda query, key, reach: right(query, key, reach - 1))


@mutant(kills=f"{LOCAL}[prefix-True-0]", trap=15)
def a_local_block_forgets_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relation is lost after the first block: a causal default where the window is cut."""
    from telos.models import _transformer

    right = _transformer.sight

    def wrong(main: Any, past: Any, reach: int = 0) -> Any:
        return right(replace(main, order=main.positions) if reach else main, past, reach)

    monkeypatch.setattr(_transformer, "sight", wrong)


@mutant(kills=f"{ENCODER}::test_steps_on_a_cache_are_one_forward_pass", trap=23)
def nearness_counts_the_padding_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    right = _transformer.near

    def wrong(query: Any, key: Any, reach: int) -> Any:
        place = torch.arange(key.shape[1]).expand(key.shape)
        return right(place[:, key.shape[1] - query.shape[1] :], place, reach)

    monkeypatch.setattr(_transformer, "near", wrong)


@mutant(kills=f"{ENCODER}::test_local_blocks_are_counted_from_the_first", trap=15)
def the_last_of_a_group_sees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._transformer import Local

    right = Local.at
    monkeypatch.setattr(Local, "at", lambda self, block: right(self, block + 1))


@mutant(kills=f"{FORMULA}[modern]")
def local_blocks_turn_as_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._transformer import Transformer

    right = Transformer._turn
    monkeypatch.setattr(Transformer, "_turn", lambda self, places, base: right(self, places, self._base))


@mutant(kills=f"{FORMULA}[bert]")
def the_gelu_is_the_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """BERT's is exact, GPT-2's is not."""
    from telos.models._layers import ExactGelu

    monkeypatch.setattr(ExactGelu, "bend", lambda self, x: functional.gelu(x, approximate="tanh"))


@mutant(kills=f"{FORMULA}[modern]")
def the_gate_comes_second(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._layers import GeGlu

    def wrong(self: Any, x: Any) -> Any:
        up, gate = self.inward(x).chunk(2, -1)
        return self.outward(self.bend(gate) * up)

    monkeypatch.setattr(GeGlu, "forward", wrong)


@mutant(kills=f"{FORMULA}[bert]")
def norms_divide_by_the_other_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.encoder import Encoder

    monkeypatch.setattr(Encoder, "epsilon", 1e-5)


@mutant(kills=f"{FORMULA}[bert]")
def post_is_pre(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._layers import Block, PostBlock

    monkeypatch.setattr(PostBlock, "forward", Block.forward)


@mutant(kills=f"{FORMULA}[modern]")
def the_first_block_normalises_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Identity, "forward", lambda self, x: functional.layer_norm(x, x.shape[-1:]))


@mutant(kills=f"{ENCODER}::test_types_are_told_apart_and_the_first_is_meant_where_there_are_none")
def types_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.encoder import EncoderNetwork

    right = EncoderNetwork.embed
    monkeypatch.setattr(EncoderNetwork, "embed", lambda self, main: right(self, replace(main, types=None)))


@mutant(kills=f"{ENCODER}::test_the_loss_of_a_head_is_that_of_its_logits")
def training_skips_the_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._heads import TokenHead

    right = TokenHead.forward

    def wrong(self: Any, hidden: Any, asked: Any) -> Any:
        transform, self.transform = self.transform, nn.Identity()
        try:
            return right(self, hidden, asked)
        finally:
            self.transform = transform

    monkeypatch.setattr(TokenHead, "forward", wrong)


@mutant(kills=f"{ENCODER}::test_padding_is_finite_and_harmless", trap=20)
def losses_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.losses._at_least_float", lambda kind: torch.bfloat16)


@mutant(kills=f"{ENCODER}::test_padding_is_finite_and_harmless", trap=21)
def padding_sees_nothing_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the relation without a single place, under the textbook's softmax."""
    from telos.models import _transformer

    right = _transformer.sight

    def blind(main: Any, *rest: Any) -> Any:
        mask = right(replace(main, packed=True), *rest).mask
        return _transformer.Sight(mask.masked_fill((main.segment < 0)[:, None, :, None], -torch.inf))

    def textbook(query: Any, key: Any, value: Any, attn_mask: Any = None, **named: Any) -> Any:
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return (scores + attn_mask).softmax(-1) @ value

    monkeypatch.setattr(_transformer, "sight", blind)
    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", textbook)


@mutant(kills=f"{ENCODER}::test_dropout_is_for_training", trap=22)
def embeddings_drop_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import encoder

    monkeypatch.setattr(encoder, "dropout", lambda x, share, training: functional.dropout(x, share))


@mutant(kills=f"{MODELS}::test_what_decays[bert]", trap=25)
def types_and_positions_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    right = Network.undecayed
    monkeypatch.setattr(
        Network,
        "undecayed",
        lambda self: [n for n in right(self) if not n.startswith(("types", "places"))],
    )


@mutant(kills=f"{MODELS}::test_first_values_are_those_of_the_table[modern-8]", trap=26)
def depth_is_not_scaled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Initial
    from telos.models.encoder import EncoderNetwork

    right = EncoderNetwork.initial
    monkeypatch.setattr(
        EncoderNetwork,
        "initial",
        lambda self, name: Initial("normal", 0.02) if "outward.weight" in name else right(self, name),
    )


@mutant(kills=f"{ENCODER}::test_the_projection_is_the_embedding_and_is_not_stored_twice", trap=29)
def the_projection_does_not_teach_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._heads import TokenHead

    table: Any = TokenHead.table
    monkeypatch.setattr(TokenHead, "table", property(lambda self: table.fget(self).detach()))


@mutant(kills=f"{ENCODER}::test_the_projection_is_the_embedding_and_is_not_stored_twice", trap=87)
def the_projection_is_stored_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import encoder

    right = encoder.build_heads
    monkeypatch.setattr(encoder, "build_heads", lambda *given, tied, **named: right(*given, **named))


@mutant(kills=f"{ENCODER}::test_there_is_no_state_where_all_see_all", trap=23)
def what_saw_the_future_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._transformer import Transformer

    right = Transformer.encode

    def wrong(self: Any, main: Any, *rest: Any) -> Any:
        return right(self, replace(main, pattern="general"), *rest)

    monkeypatch.setattr(Transformer, "encode", wrong)


@mutant(kills=f"{DECODER}::test_the_loss_is_that_of_the_formula[local]")
def queries_and_keys_share_their_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._layers import LevelHeads

    monkeypatch.setattr(LevelHeads, "forward", lambda self, x: self.norm_queries(x))


@mutant(kills=f"{ENCODER}::test_training_and_evaluation_pack_texts_that_see_all_of_themselves", trap=6)
def packed_rows_pass_for_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several texts in a row, laid as if they were one: the fast kernel shows them to each other."""
    from telos.data import packing

    right = packing._rows
    monkeypatch.setattr(packing, "_rows", lambda *given: replace(right(*given), packed=False))

"""Bugs of losses, models, first values, state and optimizers."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.mutants import mutant

DECODER, RECURRENT = "tests/models/test_decoder.py", "tests/models/test_gru.py"
MODELS, LOSSES, OPTIM = "tests/models/test_models.py", "tests/test_losses.py", "tests/optim/test_optim.py"


@mutant(kills=f"{LOSSES}::test_padding_changes_nothing", trap=19)
def padding_counts_in_smoothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import losses

    right = losses._entropy

    def wrong(logits: Any, target: Any, count: Any, plan: Any, with_slopes: bool) -> Any:
        total, slope = right(logits, target, count, plan, with_slopes)
        logs = torch.log_softmax(logits, 1).mean(1)
        return total - plan.smoothing * (logs * (count.squeeze(1) == 0)).sum(), slope

    monkeypatch.setattr(losses, "_entropy", wrong)


@mutant(kills=f"{LOSSES}::test_sums_and_gradients_are_those_of_the_formula", trap=19)
def z_gradient_without_its_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import losses

    right = losses._z_term

    def wrong(*given: Any) -> Any:
        total, slope = right(*given)
        return total, slope / 2 if slope is not None else None

    monkeypatch.setattr(losses, "_z_term", wrong)


@mutant(kills=f"{LOSSES}::test_closed_forms", trap=19)
def what_is_smoothed_is_spread_over_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the target has 1 − s, and not 1 − s + s / V."""
    from telos import losses

    right = losses._entropy

    def wrong(logits: Any, target: Any, count: Any, plan: Any, with_slopes: bool) -> Any:
        size = logits.shape[1]
        return right(
            logits, target, count, plan._replace(smoothing=plan.smoothing * size / (size - 1)), with_slopes
        )

    monkeypatch.setattr(losses, "_entropy", wrong)


@mutant(kills=f"{LOSSES}::test_closed_forms", trap=19)
def weights_of_places_are_yes_or_no(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import losses

    right = losses._apply

    def wrong(hidden: Any, weight: Any, bias: Any, target: Any, row_weight: Any, plan: Any) -> Any:
        return right(hidden, weight, bias, target, (row_weight > 0).to(row_weight.dtype), plan)

    monkeypatch.setattr(losses, "_apply", wrong)


@mutant(kills=f"{LOSSES}::test_gradcheck[negative-settings0]", trap=19)
def unlikelihood_pushes_the_target_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others gain is left out of the gradient."""
    from telos import losses

    right = losses._unlikelihood

    def wrong(logits: Any, target: Any, *rest: Any) -> Any:
        total, slope = right(logits, target, *rest)
        place = target.unsqueeze(1)
        only = None if slope is None else torch.zeros_like(slope).scatter(1, place, slope.gather(1, place))
        return total, only

    monkeypatch.setattr(losses, "_unlikelihood", wrong)


@mutant(kills=f"{LOSSES}::test_padding_changes_nothing", trap=19)
def what_weighs_nothing_is_multiplied_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN · 0 is NaN: rows of padding must be taken out, not weighed."""
    monkeypatch.setattr(torch.Tensor, "masked_fill", lambda self, mask, value: self)


@mutant(kills=f"{LOSSES}::test_bfloat16_products_are_summed_in_float32", trap=20)
def losses_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.losses._at_least_float", lambda kind: torch.bfloat16)


@mutant(kills=f"{LOSSES}::test_the_weights_gradient_is_summed_over_chunks_in_float32", trap=20)
def weight_gradient_summed_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import losses

    right = losses._Gradient.__init__

    def wrong(self: Any, *given: Any) -> None:
        right(self, *given)
        self.weight = self.weight.bfloat16()

    monkeypatch.setattr(losses._Gradient, "__init__", wrong)


@mutant(kills=f"{LOSSES}::test_evaluation_is_plain_cross_entropy", trap=3)
def evaluation_is_smoothed(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import losses

    right = losses.linear_cross_entropy

    def wrong(*given: Any, training: bool, **named: Any) -> Any:
        return right(*given, training=True, **named)

    monkeypatch.setattr(losses, "linear_cross_entropy", wrong)


@mutant(kills=f"{DECODER}::test_packed_documents_do_not_meet", trap=6)
def packed_documents_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    right = _transformer.sight
    monkeypatch.setattr(_transformer, "sight", lambda main, *rest: right(replace(main, packed=False), *rest))


@mutant(kills=f"{DECODER}::test_gradients_flow_where_may_see_says_and_nowhere_else", trap=6)
def everything_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    monkeypatch.setattr(_transformer, "sight", lambda main, *rest: _transformer.Sight(None))


@mutant(kills=f"{DECODER}::test_padding_is_finite_and_harmless", trap=21)
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


@mutant(kills=f"{DECODER}::test_attention_weights_are_dropped_in_training_only", trap=22)
def attention_drops_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.nn.functional.scaled_dot_product_attention

    def wrong(*given: Any, dropout_p: float = 0.0, **named: Any) -> Any:
        return right(*given, dropout_p=0.5, **named)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", wrong)


@mutant(kills=f"{MODELS}::test_dropout_is_for_training", trap=22)
def evaluation_switches_dropout_off_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    right = Network.train

    def wrong(self: Any, mode: bool = True) -> Any:
        self.rested = getattr(self, "rested", False) or not mode
        return right(self, mode and not self.rested)

    monkeypatch.setattr(Network, "train", wrong)


@mutant(kills=f"{DECODER}::test_prompts_of_unequal_length_go_on_as_each_alone", trap=23)
def padding_in_the_cache_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    right = _transformer.remember

    def wrong(*given: Any) -> Any:
        cache = right(*given)
        return cache._replace(seen=torch.ones_like(cache.seen), segment=torch.zeros_like(cache.segment))

    monkeypatch.setattr(_transformer, "remember", wrong)


@mutant(kills=f"{DECODER}::test_steps_on_a_cache_are_one_forward_pass", trap=23)
def cached_steps_begin_at_position_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import decoder

    right = decoder.DecoderNetwork.encode

    def wrong(self: Any, main: Any, *given: Any, **named: Any) -> Any:
        places = torch.arange(main.shape[1]).expand(main.shape)
        return right(self, replace(main, positions=places), *given, **named)

    monkeypatch.setattr(decoder.DecoderNetwork, "encode", wrong)


@mutant(kills=f"{DECODER}::test_the_loss_is_that_of_the_formula", trap=23)
def rotary_pairs_are_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other convention: consistent with itself, and not with any published model."""
    from telos.models._layers import Rotary

    right = Rotary.__call__

    def wrong(self: Any, heads: Any) -> Any:
        half = heads.shape[-1] // 2
        paired = heads.unflatten(-1, (half, 2)).transpose(-1, -2).flatten(-2)
        return right(self, paired).unflatten(-1, (2, half)).transpose(-1, -2).flatten(-2)

    monkeypatch.setattr(Rotary, "__call__", wrong)


@mutant(kills=f"{MODELS}::test_what_decays", trap=25)
def norms_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    monkeypatch.setattr(
        Network, "undecayed", lambda self: [n for n, _ in self.named_parameters() if "layernorm" in n]
    )


@mutant(kills=f"{OPTIM}::test_decay_leaves_alone_what_it_should", trap=25)
def all_groups_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim.adamw import AdamW

    def wrong(self: Any, groups: Any) -> Any:
        stripped = [{"params": group["params"]} for group in groups]
        return torch.optim.AdamW(stripped, lr=self.rate, weight_decay=self.decay)

    monkeypatch.setattr(AdamW, "build", wrong)


@mutant(kills=f"{OPTIM}::test_a_name_that_matches_nothing_is_refused", trap=25)
def missing_names_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.optim._groups._exempt", lambda role, network: set(network.undecayed()))


@mutant(kills=f"{MODELS}::test_first_values_are_those_of_the_table", trap=26)
def depth_is_not_scaled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Initial
    from telos.models.decoder import DecoderNetwork

    right = DecoderNetwork.initial
    monkeypatch.setattr(
        DecoderNetwork,
        "initial",
        lambda self, name: Initial("normal", 0.02) if "outward.weight" in name else right(self, name),
    )


@mutant(kills=f"{MODELS}::test_first_values_are_those_of_the_table", trap=26)
def equal_shapes_start_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _initial

    monkeypatch.setattr(_initial, "_generator", lambda seed, name: torch.Generator().manual_seed(seed))


@mutant(kills=f"{MODELS}::test_first_values_are_a_function_of_seed_and_name", trap=26)
def first_values_depend_on_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _initial

    monkeypatch.setattr(_initial, "_generator", lambda seed, name: torch.default_generator)


@mutant(kills=f"{MODELS}::test_a_tied_head_stays_tied", trap=26)
def the_tie_is_to_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that keeps the weight as it was when it was built, and not the embedding."""
    from telos.models._heads import TokenHead

    right = TokenHead.__init__

    def wrong(self: Any, *given: Any, tied: Any = None, **named: Any) -> None:
        right(self, *given, tied=tied, **named)
        self.frozen = [None if tied is None else tied.weight]

    monkeypatch.setattr(TokenHead, "__init__", wrong)
    monkeypatch.setattr(
        TokenHead, "table", property(lambda self: self.frozen[0] if self.weight is None else self.weight)
    )


@mutant(kills=f"{MODELS}::test_the_gradient_of_a_tied_table_is_the_sum_of_both_uses", trap=29)
def the_head_does_not_teach_the_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._heads import TokenHead

    monkeypatch.setattr(
        TokenHead,
        "table",
        property(lambda self: self._tied[0].weight.detach() if self.weight is None else self.weight),
    )


@mutant(kills=f"{OPTIM}::test_each_parameter_is_in_one_group_once", trap=29)
def shared_parameters_are_listed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import _groups

    def wrong(networks: Any, decay: float) -> Any:
        found = [(f"{role}.{n}", p) for role, net in networks.items() for n, p in net.named_parameters()]
        return [{"params": found, "weight_decay": decay}]

    monkeypatch.setattr(_groups, "parameter_groups", wrong)


@mutant(kills=f"{OPTIM}::test_adamw_is_its_formula", trap=27)
def a_skipped_step_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim.adamw import AdamW

    class Wrong(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            for state in self.state.values():
                if all(p.grad is None for group in self.param_groups for p in group["params"]):
                    state["step"] += 1
            return super().step(closure)

    monkeypatch.setattr(AdamW, "build", lambda self, groups: Wrong(groups, lr=self.rate, betas=self.betas))


@mutant(kills=f"{OPTIM}::test_adamw_is_its_formula", trap=27)
def the_step_is_never_corrected_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim.adamw import AdamW

    class Wrong(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            for state in self.state.values():
                state["step"].fill_(0)
            return super().step(closure)

    monkeypatch.setattr(AdamW, "build", lambda self, groups: Wrong(groups, lr=self.rate, betas=self.betas))


@mutant(kills=f"{RECURRENT}::test_carried_state_has_no_history", trap=28)
def state_is_not_detached(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _recurrent

    def wrong(names: Any, after: Any) -> Any:
        return {name: torch.stack([layer[i] for layer in after], 1) for i, name in enumerate(names)}

    monkeypatch.setattr(_recurrent, "collected", wrong)


@mutant(kills=f"{RECURRENT}::test_a_row_that_starts_anew_forgets_and_no_other_does", trap=28)
def all_rows_are_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.gru import GruNetwork

    right = GruNetwork._start
    monkeypatch.setattr(
        GruNetwork, "_start", lambda self, main, state, continues: right(self, main, state, None)
    )


@mutant(kills=f"{RECURRENT}::test_the_state_is_that_of_the_last_real_place", trap=28)
def the_state_is_that_of_the_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _recurrent

    monkeypatch.setattr(_recurrent, "last", lambda out, lengths, start: out[:, -1])


@mutant(kills=f"{RECURRENT}::test_the_future_is_not_seen", trap=28)
def the_layers_read_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _recurrent

    right = _recurrent.run

    def wrong(layer: Any, x: Any, *given: Any) -> Any:
        out, end = right(layer, x, *given)
        back, _ = right(layer, x.flip(1), *given)
        return out + back.flip(1), end

    monkeypatch.setattr(_recurrent, "run", wrong)


@mutant(kills=f"{OPTIM}::test_the_first_and_the_last_rate_are_pinned", trap=62)
def the_first_step_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import _schedule

    right = _schedule._warmth
    monkeypatch.setattr(
        _schedule, "_warmth", lambda warmup, step, progress: right(warmup, step - 1, progress)
    )


@mutant(kills=f"{OPTIM}::test_a_rate_depends_on_nothing_but_its_place", trap=62)
def the_warm_up_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.optim import _schedule

    right, calls = _schedule._warmth, itertools.cycle(range(150))
    monkeypatch.setattr(
        _schedule, "_warmth", lambda warmup, step, progress: right(warmup, next(calls), progress)
    )


ATTENTION = "tests/models/test_attention.py::"


@mutant(
    kills=f"{ATTENTION}test_kept_probabilities_give_the_formulas_values_and_gradients[seen-None]", trap=21
)
def what_is_not_seen_is_attended_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the path that keeps its probabilities: the mask is added as 0 and 1."""
    from telos.models import _attention

    kept = _attention._kept

    def wrong(queries: Any, keys: Any, values: Any, mask: Any, *rest: Any) -> Any:
        return kept(queries, keys, values, None if mask is None else (mask == 0).to(queries.dtype), *rest)

    monkeypatch.setattr(_attention, "_kept", wrong)


@mutant(kills=f"{ATTENTION}test_kept_probabilities_give_the_formulas_values_and_gradients[none-1.0]", trap=91)
def the_scale_is_left_out_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _attention

    kept = _attention._kept

    def wrong(queries: Any, keys: Any, values: Any, mask: Any, causal: bool, scale: float) -> Any:
        return kept(queries * scale, keys, values, mask, causal, 0.5)

    monkeypatch.setattr(_attention, "_kept", wrong)


@mutant(kills=f"{LOSSES}::test_nothing_asked_costs_nothing", trap=8)
def the_gradient_of_no_rows_is_what_lay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.losses import _Gradient

    right = _Gradient.__init__

    def wrong(self: Any, hidden: Any, weight: Any, *rest: Any) -> None:
        right(self, hidden if len(hidden) else weight[:1], weight, *rest)

    monkeypatch.setattr(_Gradient, "__init__", wrong)


@mutant(kills=f"{LOSSES}::test_the_weights_gradient_is_summed_over_chunks_in_float32", trap=19)
def the_last_chunk_alone_moves_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.losses import _Gradient

    right = _Gradient.add

    def wrong(self: Any, rows: Any, *given: Any) -> None:
        before, self.hidden = self.hidden, None
        right(self, slice(0, rows.stop), *given)
        self.hidden = before

    monkeypatch.setattr(_Gradient, "add", wrong)

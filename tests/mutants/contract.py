"""Bugs that the contract suites must see in whatever member has them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.mutants import mutant

OBJECTIVES = "tests/contract/test_objectives.py::test_contract"
MODELS = "tests/contract/test_models.py::"


def change_examples(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    from telos.objectives.causal import Causal

    example = Causal.example
    monkeypatch.setattr(Causal, "example", lambda self, *given: change(example(self, *given)))


@mutant(kills=f"{OBJECTIVES}[causal-no_target_is_seen_by_its_predictor]", trap=4)
def the_current_token_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels are not shifted: the model learns to copy."""

    def unshifted(example: Any) -> Any:
        (ask,) = example.asks
        return replace(example, asks=(replace(ask, target=example.main.ids[ask.at]),))

    change_examples(monkeypatch, unshifted)


@mutant(kills=f"{OBJECTIVES}[causal-no_target_is_seen_by_its_predictor]", trap=15)
def the_future_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def bidirectional(example: Any) -> Any:
        return replace(example, main=replace(example.main, order=np.zeros_like(example.main.order)))

    change_examples(monkeypatch, bidirectional)


@mutant(kills=f"{OBJECTIVES}[causal-an_exact_objective_asks_every_token_once]", trap=30)
def a_boundary_token_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def shorter(example: Any) -> Any:
        asks = tuple(replace(a, at=a.at[1:], target=a.target[1:], weight=a.weight[1:]) for a in example.asks)
        return replace(example, asks=asks)

    change_examples(monkeypatch, shorter)


@mutant(kills=f"{OBJECTIVES}[causal-same_seed_same_example]", trap=11)
def draws_come_from_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(example: Any) -> Any:
        drop = np.random.rand(len(example.main)) < 0.5
        return replace(example, main=replace(example.main, seen=~drop))

    change_examples(monkeypatch, noisy)


@mutant(kills=f"{OBJECTIVES}[causal-examples_fit_their_window]", trap=7)
def positions_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut is one token too long for a row."""
    from telos.objectives.causal import Causal

    cut = Causal.cut
    monkeypatch.setattr(Causal, "cut", lambda self, window: cut(self, window + 1))


@mutant(kills=f"{MODELS}test_documents_in_a_row_never_meet", trap=6)
def packed_documents_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    monkeypatch.setattr(_transformer, "sight", lambda main, *rest: _transformer.Sight(None, causal=True))


@mutant(kills=f"{MODELS}test_it_sees_what_it_may_and_all_of_it", trap=15)
def a_prefix_is_only_causal(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    sight = _transformer.sight
    monkeypatch.setattr(
        _transformer, "sight", lambda main, *rest: sight(replace(main, order=main.positions), *rest)
    )


@mutant(kills=f"{MODELS}test_first_values_have_the_scale_that_is_documented", trap=26)
def depth_scaling_is_never_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _initial

    draw = _initial._draw
    monkeypatch.setattr(
        _initial,
        "_draw",
        lambda initial, *rest: draw(initial._replace(scale=0.02) if initial.scale < 0.02 else initial, *rest),
    )


@mutant(kills=f"{MODELS}test_first_values_are_a_function_of_seed_and_name", trap=26)
def first_values_come_from_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _initial

    monkeypatch.setattr(_initial, "_generator", lambda seed, name: torch.default_generator)


@mutant(kills=f"{MODELS}test_carried_state_is_detached_and_dropped_where_a_document_begins", trap=28)
def history_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _recurrent

    def attached(names: Any, after: Any) -> Any:
        return {name: torch.stack([layer[place] for layer in after], 1) for place, name in enumerate(names)}

    monkeypatch.setattr(_recurrent, "collected", attached)


@mutant(kills=f"{MODELS}test_carried_state_is_detached_and_dropped_where_a_document_begins", trap=28)
def state_outlives_its_document(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.gru import GruNetwork

    start = GruNetwork._start
    monkeypatch.setattr(
        GruNetwork, "_start", lambda self, main, state, continues: start(self, main, state, None)
    )


@mutant(kills=f"{MODELS}test_dropout_rests_in_evaluation_and_wakes_in_training", trap=22)
def dropout_never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn import functional

    dropout = functional.dropout
    monkeypatch.setattr(
        functional, "dropout", lambda x, p=0.5, training=True, inplace=False: dropout(x, p, True)
    )
    from telos.models.decoder import DecoderNetwork

    embed = DecoderNetwork.embed
    monkeypatch.setattr(
        DecoderNetwork, "embed", lambda self, main: dropout(embed(self, main), self.model.dropout, True)
    )


@mutant(kills=f"{MODELS}test_token_by_token_equals_all_at_once", trap=23)
def positions_restart_with_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.decoder import DecoderNetwork

    turn = DecoderNetwork._turn
    monkeypatch.setattr(
        DecoderNetwork,
        "_turn",
        lambda self, positions, base: turn(self, positions - positions.min(1, keepdim=True).values, base),
    )


@mutant(kills=f"{MODELS}test_what_is_not_a_matrix_does_not_decay", trap=25)
def norms_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    monkeypatch.setattr(
        Network,
        "undecayed",
        lambda self: [name for name, _ in self.named_parameters() if name.endswith(".bias")],
    )


@mutant(kills=f"{MODELS}test_modifiers_of_the_loss_reach_its_head", trap=39)
def heads_forget_their_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.losses import LossSettings
    from telos.models import decoder, gru

    for module in (decoder, gru):
        build = module.build_heads
        monkeypatch.setattr(
            module,
            "build_heads",
            lambda specs, width, loss, build=build, **rest: build(specs, width, LossSettings(), **rest),
        )


@mutant(kills="tests/contract/test_optimizers.py::test_decay_shrinks_matrices_and_nothing_else", trap=25)
def everything_decays(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    monkeypatch.setattr(Network, "undecayed", lambda self: [])

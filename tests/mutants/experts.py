"""Experts and what the loop does for them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.mutants import mutant

EXPERTS = "tests/models/test_experts.py"


@mutant(kills=f"{EXPERTS}::test_counts_add_up_over_micro_batches_and_leave_padding_out", trap=8)
def padding_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._experts import Routed

    forward = Routed.forward
    monkeypatch.setattr(Routed, "forward", lambda self, x, real: forward(self, x, torch.ones_like(real)))


@mutant(kills=f"{EXPERTS}::test_counts_add_up_over_micro_batches_and_leave_padding_out", trap=4)
def only_the_last_micro_batch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._experts import Routed

    forward = Routed.forward

    def anew(self: Any, x: Tensor, real: Tensor) -> Tensor:
        self.counts.zero_()
        return forward(self, x, real)

    monkeypatch.setattr(Routed, "forward", anew)


@mutant(kills=f"{EXPERTS}::test_a_bias_brings_them_into_balance")
def the_bias_goes_the_wrong_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._experts import Routed

    balance = Routed.balance

    def wrong(self: Any, good: bool) -> Tensor:
        before = self.bias.clone()
        load = balance(self, good)
        self.bias.copy_(2 * before - self.bias)
        return load

    monkeypatch.setattr(Routed, "balance", wrong)


@mutant(kills=f"{EXPERTS}::test_evaluation_and_broken_steps_move_nothing")
def evaluation_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._experts import Routed

    forward = Routed.forward

    def always(self: Any, x: Tensor, real: Tensor) -> Tensor:
        training, self.training = self.training, True
        try:
            return forward(self, x, real)
        finally:
            self.training = training

    monkeypatch.setattr(Routed, "forward", always)


@mutant(kills=f"{EXPERTS}::test_the_bias_chooses_and_does_not_count")
def the_bias_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._experts import Routed

    choose = Routed.choose

    def weighing(self: Any, tokens: Tensor) -> Any:
        made = choose(self, tokens)
        shares = made.shares + self.bias[made.experts]
        return made._replace(shares=shares / shares.sum(-1, keepdim=True))

    monkeypatch.setattr(Routed, "choose", weighing)


@mutant(kills=f"{EXPERTS}::test_the_router_learns")
def the_choice_is_detached(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._experts import Routed

    choose = Routed.choose

    def cut(self: Any, tokens: Tensor) -> Any:
        made = choose(self, tokens)
        return made._replace(shares=made.shares.detach())

    monkeypatch.setattr(Routed, "choose", cut)


@mutant(kills=f"{EXPERTS}::test_the_router_is_exact_in_any_precision")
def the_router_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._experts import Routed

    choose = Routed.choose

    def rounded(self: Any, tokens: Tensor) -> Any:
        if tokens.dtype != torch.bfloat16:
            return choose(self, tokens)
        scores = self.router(tokens).sigmoid()
        experts = (scores + self.bias).topk(self.experts.active).indices
        return choose(self, tokens)._replace(experts=experts)

    monkeypatch.setattr(Routed, "choose", rounded)


@mutant(kills="tests/models/test_decoder.py::test_the_loss_is_that_of_the_formula[experts]")
def answers_go_to_other_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._experts import Routed

    sent = Routed._sent
    monkeypatch.setattr(Routed, "_sent", lambda self, tokens, choice: sent(self, tokens, choice).roll(1, 0))


@mutant(kills="tests/train/test_loop.py::test_after_each_step_networks_may_count")
def the_loop_never_says_that_it_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.loop import Trainer

    monkeypatch.setattr(Trainer, "_count", lambda self, good: None)

"""Bugs of the vocabulary in groups."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.mutants import mutant

TESTS = "tests/test_grouped.py::test_"
SUM = f"{TESTS}sum_and_gradients_are_those_of_the_definition[True]"
LOGITS = f"{TESTS}logits_are_the_logarithms_of_q"


@mutant(kills=SUM)
def a_groups_first_token_counts_as_of_the_group_before(monkeypatch: pytest.MonkeyPatch) -> None:
    right_is = torch.bucketize

    monkeypatch.setattr("telos.grouped.torch.bucketize", lambda x, edges, right: right_is(x, edges))


@mutant(kills=SUM)
def groups_do_not_know_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.grouped.math.log", lambda x: 0.0)


@mutant(kills=f"{TESTS}first_values_are_even_over_the_vocabulary")
def first_values_favour_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.grouped.math.log", lambda x: math.sqrt(x))


@mutant(kills=SUM)
def rows_weigh_the_same_within_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import grouped

    right = grouped._entropy

    def wrong(hidden: Tensor, weight: Tensor, bias: Any, target: Tensor, rows: Tensor) -> Tensor:
        return right(hidden, weight, bias, target, rows if len(weight) == 6 else torch.ones_like(rows))

    monkeypatch.setattr(grouped, "_entropy", wrong)


@mutant(kills=SUM)
def groups_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import grouped

    right = grouped._entropy

    def wrong(hidden: Tensor, weight: Tensor, bias: Any, target: Tensor, rows: Tensor) -> Tensor:
        return right(hidden, weight, bias, target, rows) * (len(weight) == 6)

    monkeypatch.setattr(grouped, "_entropy", wrong)


@mutant(kills=LOGITS)
def logits_of_a_group_are_not_divided_among_it(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.log_softmax

    def wrong(x: Tensor, dim: int) -> Tensor:
        return right(x, dim) if x.shape[-1] == 6 else x

    monkeypatch.setattr("telos.grouped.torch.log_softmax", wrong)


@mutant(kills=f"{TESTS}distributions_and_unlikelihood_are_those_of_the_definition")
def unlikelihood_is_asked_as_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import grouped

    right = grouped.plain_cross_entropy

    def wrong(*given: Any, negative: bool, **more: Any) -> Tensor:
        return right(*given, negative=False, **more)

    monkeypatch.setattr(grouped, "plain_cross_entropy", wrong)


@mutant(kills="tests/contract/test_models.py::test_modifiers_of_the_loss_reach_its_head[modifier3-gru]")
def no_head_is_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _heads

    monkeypatch.setattr(_heads, "GroupedHead", _heads.TokenHead)


@mutant(kills=f"{TESTS}a_head_in_groups_does_not_reach_past_its_vocabulary")
def the_last_cutoff_may_be_the_vocabularys_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _heads

    def begin(self: Any, width: int, outputs: int, loss: Any, **parts: Any) -> None:
        _heads.TokenHead.__init__(self, width, outputs, loss, **parts)

    monkeypatch.setattr(_heads.GroupedHead, "__init__", begin)

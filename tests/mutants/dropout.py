"""Bugs of dropout by draws of our own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.mutants import mutant

TESTS = "tests/models/test_dropout.py::test_"


def _drawn(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """`change` of what stays, and its scale."""
    from telos.models import _attention, _dropout

    right = _dropout.drawn

    def wrong(like: Tensor, share: float) -> Any:
        kept = right(like, share)
        return _dropout.Kept(*change(kept.places, kept.scale))

    for module in (_dropout, _attention):
        monkeypatch.setattr(module, "drawn", wrong)
    monkeypatch.setattr("tests.models.test_dropout.drawn", wrong)


@mutant(kills=f"{TESTS}a_share_is_dropped_and_the_rest_made_larger[0.1-kind0]")
def the_share_is_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    _drawn(monkeypatch, lambda places, scale: (1 - places, scale))


@mutant(kills=f"{TESTS}a_share_is_dropped_and_the_rest_made_larger[0.5-kind0]")
def what_stays_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    _drawn(monkeypatch, lambda places, scale: (places, 1.0))


@mutant(kills=f"{TESTS}no_place_is_like_its_neighbour")
def one_draw_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(places: Tensor, scale: float) -> tuple[Tensor, float]:
        half = places.reshape(-1)[: places.numel() // 2]
        return torch.stack((half, half), 1).view(places.shape), scale

    _drawn(monkeypatch, twice)


@mutant(kills=f"{TESTS}what_is_drawn_follows_the_seed")
def draws_are_of_another_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    other = torch.Generator()
    other.seed()

    def change(places: Tensor, scale: float) -> tuple[Tensor, float]:
        return torch.rand(places.shape, generator=other) > 0.5, scale

    _drawn(monkeypatch, change)


@mutant(kills=f"{TESTS}gradients_go_where_the_numbers_went")
def gradients_go_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _dropout

    class Wrong(_dropout._Dropout):
        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
            return upstream, None

    monkeypatch.setattr(_dropout, "_apply", Wrong.apply)


@mutant(kills=f"{TESTS}attention_with_dropout_is_the_formula[False-causal-kind1]")
def attention_learns_as_if_all_probabilities_were_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _attention

    right = _attention.Kept.of
    calls = {"backward": False}

    def of(self: Any, x: Tensor) -> Tensor:
        return x if calls["backward"] else right(self, x)

    class Wrong(_attention._Kept):
        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> Any:
            calls["backward"] = True
            return _attention._Kept.backward(ctx, upstream)

    monkeypatch.setattr(_attention.Kept, "of", of)
    monkeypatch.setattr(_attention, "_kept", Wrong.apply)


@mutant(kills=f"{TESTS}it_can_be_turned_off")
def it_cannot_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.models._dropout.switches.on", lambda name: True)


@mutant(kills=f"{TESTS}nothing_is_dropped_at_rest")
def it_drops_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _dropout

    right = _dropout.dropout
    monkeypatch.setattr(
        "tests.models.test_dropout.dropout", lambda x, share, training=True: right(x, share, True)
    )


@mutant(kills=f"{TESTS}a_large_tensor_is_drawn_in_parts_that_differ_by_as_many_threads_as_there_are")
def all_parts_of_a_tensor_have_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    right = np.random.SFC64
    monkeypatch.setattr(np.random, "SFC64", lambda seeds: right(seeds[0]))


@mutant(kills=f"{TESTS}dropout_behind_a_relu_is_the_one_after_the_other[kind0]")
def what_a_relu_lets_through_learns_unscaled(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _dropout

    class Wrong(_dropout._ReluDropout):
        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
            return upstream * ctx.saved_tensors[0].sign(), None

    monkeypatch.setattr(_dropout, "_apply_to_relu", Wrong.apply)


@mutant(kills=f"{TESTS}attention_with_dropout_is_the_formula[True-mask-kind1]")
def compiled_attention_learns_without_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _attention

    class Wrong(_attention._Kept):
        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> Any:
            ctx.saved_tensors[-1].zero_()
            return _attention._Kept.backward(ctx, upstream)

    monkeypatch.setattr(_attention, "_kept", Wrong.apply)


@mutant(kills=f"{TESTS}attention_with_dropout_is_the_formula[True-mask-kind1]")
def what_is_added_is_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._attention import added

    monkeypatch.setattr("tests.models.test_dropout.added", lambda seen, kind: added(~seen, kind))

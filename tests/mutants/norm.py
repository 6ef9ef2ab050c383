"""Bugs of the norm whose gradients are written out."""

from typing import Any

import pytest
from torch import Tensor

from tests.mutants import mutant

SAME = "tests/models/test_norm.py::test_it_is_pytorchs[shape2-kind0-1e-12]"


def _backward(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """`change` of the gradients, which are given x, the weight, the scale and what comes from above."""
    from telos.models import _norm

    class Wrong(_norm._Norm):
        @staticmethod
        def backward(ctx: Any, upstream: Tensor) -> Any:
            x, weight, scale = ctx.saved_tensors
            right = _norm._Norm.backward(ctx, upstream)
            return (*change(right[0], right[1], x, weight, scale, upstream), None)

    monkeypatch.setattr(_norm, "_apply", Wrong.apply)


@mutant(kills=SAME)
def what_layer_normalisation_takes_off_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(by_x: Tensor, by_weight: Tensor, x: Tensor, weight: Tensor, scale: Tensor, up: Tensor) -> Any:
        return by_x - (up * weight).mean(-1, keepdim=True) * scale, by_weight

    _backward(monkeypatch, wrong)


@mutant(kills=SAME)
def the_scale_is_taken_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    _backward(monkeypatch, lambda by_x, by_weight, x, weight, scale, up: (up * weight * scale, by_weight))


@mutant(kills=SAME)
def the_weight_learns_from_x_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(by_x: Tensor, by_weight: Tensor, x: Tensor, weight: Tensor, scale: Tensor, up: Tensor) -> Any:
        return by_x, (up * x).flatten(0, -2).sum(0)

    _backward(monkeypatch, wrong)


@mutant(kills="tests/models/test_norm.py::test_it_can_be_turned_off")
def it_cannot_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.models._norm.switches.on", lambda name: True)


@mutant(kills="tests/models/test_norm.py::test_other_types_are_pytorchs")
def halves_are_squared_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _norm

    def forward(self: Any, x: Tensor) -> Any:
        return (x * x.square().mean(-1, keepdim=True).add(self.eps).rsqrt()) * self.weight

    monkeypatch.setattr(_norm.RmsNorm, "forward", forward)

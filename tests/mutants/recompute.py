"""Blocks that are computed again in the backward pass."""

from typing import Any

import pytest
import torch

from tests.mutants import mutant

RECOMPUTE = "tests/train/test_recompute.py"
SAME = f"{RECOMPUTE}::test_losses_and_gradients_are_the_same_to_the_bit"


@mutant(kills=f"{SAME}[causal-decoder-cpu]", trap=37)
def dropout_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _recompute

    before = _recompute.checkpoint

    def anew(*given: Any, preserve_rng_state: bool = True, **rest: Any) -> Any:
        return before(*given, preserve_rng_state=False, **rest)

    monkeypatch.setattr(_recompute, "checkpoint", anew)


@mutant(kills=f"{SAME}[causal-decoder-experts-cpu]", trap=37)
def experts_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    from telos.models import _recompute

    monkeypatch.setattr(_recompute, "_counted_once", lambda block: nullcontext())


@mutant(kills=f"{SAME}[span-encoder_decoder-cpu]", trap=37)
def computed_again_in_another_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _recompute

    monkeypatch.setattr(
        _recompute, "_counted_once", lambda block: torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
    )


@mutant(kills=f"{RECOMPUTE}::test_less_is_held")
def everything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _recompute

    monkeypatch.setattr(_recompute, "checkpoint", lambda block, *given, **rest: block(*given))


@mutant(kills=f"{RECOMPUTE}::test_it_does_nothing_outside_of_training")
def also_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _base

    def through(self: Any, block: Any, *given: Any) -> Any:
        return _base.recomputed(block, *given) if self.recompute else block(*given)

    monkeypatch.setattr(_base.Network, "through", through)


@mutant(kills=f"{RECOMPUTE}::test_the_setting_reaches_the_trained_networks", trap=39)
def the_setting_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.loop import Trainer

    before = Trainer.__init__

    def silent(self: Any, **given: Any) -> None:
        before(self, **given)
        for model in self.models.values():
            model.recompute = False

    monkeypatch.setattr(Trainer, "__init__", silent)


@mutant(kills=f"{RECOMPUTE}::test_a_whole_run_is_the_same_and_may_go_on_either_way[carried]")
def named_tuples_are_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import loop

    before = loop.detached

    def as_it_was(state: Any) -> Any:
        return type(state)(map(as_it_was, state)) if isinstance(state, tuple) else before(state)

    monkeypatch.setattr(loop, "detached", as_it_was)

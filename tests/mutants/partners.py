"""Bugs of the objectives that train with a second model, ask several heads, or hide by chance."""

from dataclasses import replace
from typing import Any

import pytest

from tests.mutants import mutant

DISTIL = "tests/objectives/test_distil.py::"


@mutant(kills=f"{DISTIL}test_the_worked_example")
def only_the_teacher_is_tempered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The student's logits stay as they are, and the gradient is not scaled back."""
    from telos.objectives import distil

    soft = distil.Soft
    monkeypatch.setattr(distil, "Soft", lambda *, of, temperature: soft(of=of))


@mutant(kills=f"{DISTIL}test_the_teacher_is_asked_a_chunk_at_a_time_and_learns_nothing")
def the_teacher_answers_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its distributions of all places exist together."""
    from telos.objectives.distil import Distil

    made = Distil._soft

    def whole(self: Distil, teacher: Any, flat: Any, ask: Any) -> Any:
        lazy = made(self, teacher, flat, ask)
        every = lazy.soft.of(slice(None))
        return replace(lazy, soft=replace(lazy.soft, of=lambda rows: every[rows]))

    monkeypatch.setattr(Distil, "_soft", whole)


@mutant(kills=f"{DISTIL}test_a_teacher_that_is_sure_and_right_is_the_hard_loss[0.5]", trap=4)
def the_teacher_is_read_one_place_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.distil import Distil

    made = Distil._soft
    monkeypatch.setattr(
        Distil, "_soft", lambda self, teacher, flat, ask: made(self, teacher, flat.roll(1, 0), ask)
    )


@mutant(kills=f"{DISTIL}test_with_nothing_asked_nothing_is_learned", trap=8)
def what_weighs_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.distil import Distil

    made = Distil._soft

    def weighed(self: Distil, teacher: Any, flat: Any, ask: Any) -> Any:
        return replace(made(self, teacher, flat, ask), weight=ask.weight + 1)

    monkeypatch.setattr(Distil, "_soft", weighed)


MULTI = "tests/objectives/test_multi_token.py::"


@mutant(kills=f"{MULTI}test_each_head_is_asked_the_token_so_far_ahead", trap=4)
def every_head_is_asked_the_next_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import multi_token

    ask = multi_token._ask
    monkeypatch.setattr(multi_token, "_ask", lambda piece, k: replace(ask(piece, 1), head=f"tokens{k}"))


@mutant(kills=f"{MULTI}test_context_is_not_asked_again")
def further_heads_are_asked_of_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same token is then asked in two pieces."""
    from telos.objectives import multi_token

    ask = multi_token._ask
    monkeypatch.setattr(multi_token, "_ask", lambda piece, k: ask(replace(piece, ask_from=0), k))


@mutant(kills=f"{MULTI}test_heads_that_share_a_projection_differ[decoder]")
def further_heads_have_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads on one tied projection all say the same."""
    from telos.models import _heads

    monkeypatch.setattr(_heads.Ahead, "forward", lambda self, x: x)

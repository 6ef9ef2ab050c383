"""Bugs of the GRU layer whose gradients are written out."""

from typing import Any

import pytest
import torch

from tests.mutants import mutant

TESTS = "tests/models/test_fused.py"
SAME = f"{TESTS}::test_states_and_gradients_are_pytorchs[kind0-1e-10-200]"


def _slopes(monkeypatch: pytest.MonkeyPatch, place: int, wrong: Any) -> None:
    """`wrong` of a run's block in place of a gate's slope."""
    from telos.models import _fused

    right = _fused._gate_slopes

    def changed(run: Any, block: Any) -> Any:
        own, slopes = right(run, block)
        slopes[:, :, place] = wrong(own, run, block)
        return own, slopes

    monkeypatch.setattr(_fused, "_gate_slopes", changed)


@mutant(kills=SAME)
def the_reset_gate_has_no_slope_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _slopes(monkeypatch, 0, lambda own, run, block: own * run.held[block])


@mutant(kills=SAME)
def the_update_gate_looks_at_the_state_after(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(own: Any, run: Any, block: Any) -> Any:
        z = run.gates[block, :, 1]
        return (run.states[1:][block] - run.new[block]) * z * (1 - z)

    _slopes(monkeypatch, 1, wrong)


@mutant(kills=SAME)
def what_is_held_is_not_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    _slopes(monkeypatch, 2, lambda own, run, block: own)


def _changed_slopes(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    from telos.models import _fused

    right = _fused._step_back
    monkeypatch.setattr(_fused, "_step_back", lambda *given: change(right(*given)))


@mutant(kills=SAME)
def both_biases_have_one_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    _changed_slopes(monkeypatch, lambda slopes: slopes._replace(bias_across=slopes.bias))


@mutant(kills=SAME)
def w_learns_from_what_u_learns_from(monkeypatch: pytest.MonkeyPatch) -> None:
    _changed_slopes(monkeypatch, lambda slopes: slopes._replace(new=slopes.gates[:, :, 2].clone()))


@mutant(kills=SAME)
def the_first_state_has_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    _changed_slopes(monkeypatch, lambda slopes: slopes._replace(start=torch.zeros_like(slopes.start)))


@mutant(kills=SAME)
def the_state_is_not_kept_by_the_update_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient goes on through the products alone."""
    from telos.models import _fused

    right = _fused._step_back

    def wrong(run: Any, *given: Any) -> Any:
        # a gate of 0 where the loop reads it, the right slopes where they are made
        slopes = _fused._gate_slopes
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(_fused, "_gate_slopes", lambda _, block: slopes(run, block))
            return right(run._replace(gates=torch.zeros_like(run.gates)), *given)

    monkeypatch.setattr(_fused, "_step_back", wrong)


@mutant(kills=SAME)
def the_bias_of_u_is_outside_the_reset_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _fused

    right_read, right_step = _fused._read, _fused._step

    def read(run: Any, x: Any, inward: Any, bias: Any, bias_across: Any) -> None:
        third = torch.zeros_like(bias)
        third[-run.new.shape[2] :] = bias_across[-run.new.shape[2] :]
        right_read(run, x, inward, bias + third, bias_across)

    monkeypatch.setattr(_fused, "_read", read)
    monkeypatch.setattr(_fused, "_step", lambda run, multiply, bias: right_step(run, multiply, bias * 0))


@mutant(kills=f"{TESTS}::test_the_graph_can_be_gone_through_twice")
def the_backward_pass_works_in_the_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _fused

    right = _fused._step_back

    def wrong(run: Any, *given: Any) -> Any:
        slopes = right(run, *given)
        run.gates.mul_(0.5)
        return slopes

    monkeypatch.setattr(_fused, "_step_back", wrong)


@mutant(kills=f"{TESTS}::test_bfloat16_is_as_near_as_its_digits[0]")
def states_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _fused

    right = _fused._step

    def wrong(run: Any, *given: Any) -> None:
        right(run, *given)
        run.states.copy_(run.states.to(torch.float8_e5m2))

    monkeypatch.setattr(_fused, "_step", wrong)


@mutant(kills=f"{TESTS}::test_a_network_learns_the_same_without_it[dropout0]")
def it_cannot_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.switches.on", lambda name: True)


@mutant(kills=f"{TESTS}::test_small_places_are_gone_through_by_one_thread[1048576-1]")
def all_threads_wait_for_small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    monkeypatch.setattr("telos.models._fused._threads", lambda multiply: nullcontext())

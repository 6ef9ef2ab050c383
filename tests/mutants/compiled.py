"""Blocks in their compiled form."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.mutants import mutant

COMPILED = "tests/train/test_compiled.py"
SAME = f"{COMPILED}::test_compiled_runs_are_the_same_up_to_rounding_and_go_on_to_the_bit"


@mutant(kills=SAME, trap=24)
def dropout_by_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the compiler draws by default; the check before the run is left out, too."""
    from telos.train import compiled

    before = torch.compile

    def make(function: Any, *, options: Any = None, **rest: Any) -> Any:
        return before(function, options=None, **rest)

    monkeypatch.setattr(torch, "compile", make)
    monkeypatch.setattr(compiled, "wrong", lambda ours, plain, precision: "")


@mutant(kills=f"{COMPILED}::test_a_run_goes_on_without_what_is_wrong_or_broken[wrong]", trap=24)
def losses_are_compared_and_gradients_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import compiled

    before = compiled.wrong

    def wrong(ours: Any, plain: Any, precision: Any) -> str:
        return before(ours, {k: v for k, v in plain.items() if k.startswith("the loss")}, precision)

    monkeypatch.setattr(compiled, "wrong", wrong)


@mutant(kills=f"{COMPILED}::test_what_rounding_does_not_explain_is_found", trap=24)
def what_is_not_a_number_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import compiled

    before = compiled.wrong

    def wrong(ours: Any, plain: Any, precision: Any) -> str:
        return before({k: torch.nan_to_num(v, 1.0) for k, v in ours.items()}, plain, precision)

    monkeypatch.setattr(compiled, "wrong", wrong)


@mutant(kills=f"{COMPILED}::test_losses_and_gradients_are_compared_at_several_sizes[0-0.1]", trap=24)
def one_size_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import compiled

    before = compiled._batches
    monkeypatch.setattr(compiled, "_batches", lambda trainer: [next(before(trainer))])


@mutant(kills=f"{COMPILED}::test_evaluation_runs_as_it_is_written", trap=24)
def evaluation_is_compiled_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _base

    def through(self: Any, block: Any, *given: Any) -> Any:
        return block(*given) if self.compiled is None else self.compiled(block, *given)

    monkeypatch.setattr(_base.Network, "through", through)


@mutant(kills=f"{COMPILED}::test_what_was_decided_is_kept")
def it_is_decided_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.state import RunState

    before = RunState.table
    monkeypatch.setattr(RunState, "table", lambda self: before(replace(self, compiled=None)))


@mutant(kills=f"{COMPILED}::test_a_run_that_began_before_there_was_a_choice_goes_on_as_it_began")
def an_older_run_is_compiled_from_here_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.loop import Trainer

    before = Trainer.speed_up

    def anew(self: Any) -> bool:
        self.state.step = 0
        return before(self)

    monkeypatch.setattr(Trainer, "speed_up", anew)


@mutant(kills=f"{COMPILED}::test_a_run_is_compiled_if_it_is_long_enough")
def it_only_has_to_win_back_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import compiled

    monkeypatch.setattr(compiled, "MARGIN", 1.0)


@mutant(kills=f"{COMPILED}::test_without_a_compiler_nothing_is_compiled")
def any_machine_has_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import compiled

    monkeypatch.setattr(compiled, "compiler", lambda: "g++")


@mutant(kills=f"{COMPILED}::test_a_single_row_beside_several_is_not_compiled_for")
def single_rows_have_a_form_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.compiled import Blocks

    before = Blocks.__init__

    def made(self: Any, rows: int) -> None:
        before(self, rows)
        self._several = False

    monkeypatch.setattr(Blocks, "__init__", made)


@mutant(kills=f"{COMPILED}::test_a_block_that_cannot_be_compiled_later_on_runs_as_it_is_written")
def what_cannot_be_compiled_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import compiled

    monkeypatch.setattr(compiled, "_refusals", lambda: ())


@mutant(kills=f"{COMPILED}::test_models_that_cannot_be_compiled_are_refused_by_name[gru]", trap=39)
def it_is_ignored_where_there_are_no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Model

    monkeypatch.setattr(Model, "compiles", property(lambda self: True))


@mutant(kills=f"{COMPILED}::test_rows_in_parts_are_not_compiled_for")
def every_layout_of_pieces_has_a_form_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.train.compiled.getattr", lambda part, name, other: other, raising=False)

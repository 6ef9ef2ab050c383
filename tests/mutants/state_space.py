"""Bugs of the state space."""

from typing import Any

import pytest
import torch

from tests.mutants import mutant

TESTS = "tests/models/test_state_space.py"
CONTRACT = "tests/contract/test_models.py"


@mutant(kills=f"{CONTRACT}::test_documents_in_a_row_never_meet[state_space]", trap=6)
def the_state_runs_on_into_the_next_document(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.state_space import Runs

    right = Runs.of

    def one_run(main: Any, going: Any) -> Any:
        runs = right(main, going)
        return runs._replace(number=(~going).long()[:, None].expand_as(runs.number))

    monkeypatch.setattr(Runs, "of", staticmethod(one_run))


@mutant(kills=f"{TESTS}::test_the_state_is_that_of_the_last_real_place[True-3]", trap=23)
def padding_fades_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.state_space import Mixer

    right = Mixer._speeds
    monkeypatch.setattr(Mixer, "_speeds", lambda self, step, real: right(self, step, torch.ones_like(real)))


@mutant(kills=f"{TESTS}::test_the_state_of_a_row_is_that_of_its_last_document", trap=28)
def the_convolution_remembers_an_earlier_document(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.state_space import Mixer

    right = Mixer._convolve

    def wrong(self: Any, inputs: Any, runs: Any, before: Any) -> Any:
        out, _ = right(self, inputs, runs, before)
        reach = self.model.convolution - 1
        line = torch.cat((before.to(inputs.dtype), inputs), 1)
        last = runs.real.sum(1, keepdim=True) + torch.arange(reach)
        return out, line.gather(1, last.unsqueeze(-1).expand(-1, -1, line.shape[-1]))

    monkeypatch.setattr(Mixer, "_convolve", wrong)


@mutant(
    kills=f"{CONTRACT}::test_carried_state_is_detached_and_dropped_where_a_document_begins[state_space]",
    trap=28,
)
def rows_that_start_anew_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.state_space import StateSpaceNetwork

    right = StateSpaceNetwork.encode

    def wrong(self: Any, main: Any, source: Any = None, state: Any = None, continues: Any = None) -> Any:
        return right(self, main, source, state, None if continues is None else torch.ones_like(continues))

    monkeypatch.setattr(StateSpaceNetwork, "encode", wrong)


@mutant(kills=f"{TESTS}::test_gradients_are_those_of_float64", trap=21)
def later_places_are_hidden_after_the_exponential(monkeypatch: pytest.MonkeyPatch) -> None:
    """Infinity times zero."""
    from telos.models import state_space

    def wrong(x: Any, faded: Any, write: Any, read: Any, number: Any) -> Any:
        places = x.shape[1]
        seen = torch.ones(places, places, dtype=torch.bool).tril() & (
            number[:, :, None] == number[:, None, :]
        )
        level = faded.transpose(1, 2)
        decay = (level.unsqueeze(-1) - level.unsqueeze(-2)).exp() * seen[:, None]
        return ((read @ write.mT).unsqueeze(1) * decay @ x.transpose(1, 2)).transpose(1, 2)

    monkeypatch.setattr(state_space, "_inside", wrong)

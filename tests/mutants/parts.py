"""Bugs of attention that is made in parts."""

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.mutants import mutant

TESTS = "tests/models/test_parts.py"
SAME = f"{TESTS}::test_values_and_gradients_are_those_of_the_dense_rule"
PACKED = "two documents, one that fills its row, many"


@mutant(kills=f"{TESTS}::test_documents_cost_in_one_row_what_they_cost_alone[llama]", trap=6)
def documents_of_a_row_are_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    right = _transformer.cut

    def wrong(rows: Any, reach: int = 0) -> Any:
        return right(replace(rows, segment=rows.segment.clamp(max=0)), reach)

    monkeypatch.setattr(_transformer, "cut", wrong)


@mutant(kills=f"{TESTS}::test_what_another_document_says_changes_no_bit[full-0]", trap=6)
def pieces_reach_into_the_next_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fills a piece up are the places that come after it, and they are seen."""
    from telos.models import _parts

    def places(start: Any, length: Any, longest: int) -> Any:
        return start[:, None] + np.arange(longest) - (length[:, None] < longest)

    monkeypatch.setattr(_parts, "_places", places)


@mutant(kills=f"{SAME}[{PACKED}-full-0]", trap=5)
def what_fills_up_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _parts

    right = _parts._mask

    def wrong(rows: Any, reach: int, kind: int, *given: Any) -> Any:
        return None if kind == _parts.FULL else right(rows, reach, kind, *given)

    monkeypatch.setattr(_parts, "_mask", wrong)


def _kinds(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    from telos.models import _parts

    right = _parts._kinds
    monkeypatch.setattr(_parts, "_kinds", lambda rows, *given: right(change(rows), *given))


@mutant(kills=f"{SAME}[{PACKED}-some unseen-0]", trap=15)
def hidden_places_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    _kinds(monkeypatch, lambda rows: replace(rows, seen=torch.ones_like(rows.seen)))


@mutant(kills=f"{SAME}[{PACKED}-prefix-0]", trap=15)
def a_prefix_is_causal(monkeypatch: pytest.MonkeyPatch) -> None:
    _kinds(monkeypatch, lambda rows: replace(rows, order=rows.positions))


@mutant(kills=f"{SAME}[{PACKED}-causal-3]")
def a_pieces_first_places_see_less_far(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _parts

    right = _parts._nearby

    def wrong(rows: Any, whole: Any, new: Any, reach: int) -> Any:
        found = right(rows, whole, new, reach)
        later = found.key < found.query
        return found._replace(key=found.key + later, keys=found.keys - later)

    monkeypatch.setattr(_parts, "_nearby", wrong)


@mutant(kills=f"{TESTS}::test_positions_that_do_not_count_up_are_looked_at_one_by_one")
def positions_are_places(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _parts

    right = _parts._nearby

    def wrong(rows: Any, *given: Any) -> Any:
        return right(replace(rows, positions=torch.arange(rows.segment.numel()).view(rows.shape)), *given)

    monkeypatch.setattr(_parts, "_nearby", wrong)


def _back(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """`change` of the gradient's way back, in place of adding up."""
    from telos.models import _parts

    class Wrong(_parts._Take):
        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            places, back = ctx.saved_tensors
            if back is not None:
                return upstream.index_select(0, back), None, None
            return change(upstream.new_zeros(ctx.many, *upstream.shape[1:]), places, upstream), None, None

    monkeypatch.setattr(_parts, "_take", Wrong.apply)


@mutant(kills=f"{SAME}[{PACKED}-causal-3]")
def keys_of_two_pieces_learn_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _back(monkeypatch, lambda zeros, places, upstream: zeros.index_copy_(0, places, upstream))


@mutant(kills=f"{SAME}[{PACKED}-causal-0]")
def what_fills_up_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a place goes to all that stand in for it as well."""
    from telos.models import _parts

    right = _parts._laid_out

    def wrong(*given: Any) -> Any:
        made = right(*given)
        Filled.places, Filled.answers = made.queries, made.answers
        return made

    class Filled(_parts._Take):
        places: Any
        answers: Any

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            places, back = ctx.saved_tensors
            way = Filled.places if back is None and places is Filled.answers else back
            return upstream.index_select(0, way), None, None

    monkeypatch.setattr(_parts, "_laid_out", wrong)
    monkeypatch.setattr(_parts, "_take", Filled.apply)


@mutant(kills=f"{TESTS}::test_a_segment_that_goes_on_after_another_is_left_to_the_mask", trap=15)
def a_segment_is_cut_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second stretch no longer sees the first."""
    monkeypatch.setattr("telos.models._parts.np.unique", _one_by_one(np.unique))


def _one_by_one(right: Any) -> Any:
    """`unique` that finds nothing twice, unless it is to group pieces."""

    def unique(array: Any, **named: Any) -> Any:
        return right(array, **named) if "return_inverse" in named else array

    return unique


@mutant(kills=f"{TESTS}::test_with_a_cache_there_are_no_parts", trap=22)
def the_cache_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _transformer

    right = _transformer.sight
    monkeypatch.setattr(_transformer, "sight", lambda main, past, reach=0: right(main, None, reach))


@mutant(kills=f"{TESTS}::test_dropout_takes_its_share_and_leaves_the_mean")
def nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _parts

    right = _parts.attention
    monkeypatch.setattr(_parts, "attention", lambda *given, **named: right(*given, **named | {"dropout": 0}))


@mutant(kills=f"{TESTS}::test_only_processors_read_rows_and_it_can_be_turned_off")
def it_cannot_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.models._parts.switches.on", lambda name: True)


@mutant(kills=f"{TESTS}::test_places_that_see_what_is_near_cost_the_same_in_longer_rows")
def long_documents_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.models._parts._chunk", lambda reach: 1 << 20)


@mutant(kills=f"{TESTS}::test_rows_are_cut_where_that_saves_enough")
def rows_are_always_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.models._parts.WORTH", 1e9)


@mutant(kills="tests/train/test_room.py::test_rows_are_measured_as_if_nothing_could_be_left_out")
def memory_is_what_these_rows_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured with what is left out of the rows that happen to be measured."""
    monkeypatch.setattr("telos.train.room.switches.without", lambda name: contextlib.nullcontext())

"""Pairs: the whole text is read, the whole target and its end are asked, in all three forms."""

from collections.abc import Sequence

import numpy as np
import pytest

from telos.batch import Example, Piece
from telos.config import read
from telos.errors import ConfigError, DataError
from telos.objectives.sequence_to_sequence import SequenceToSequence
from telos.recipe import Recipe
from tests.contract import world
from tests.objectives.world import answers, characters, draw

BEGIN, END = characters().begin, characters().end
A, B, X, Y = 10, 11, 12, 13


class Pairs:
    """A text and its target."""

    def __init__(self, text: Sequence[int], target: Sequence[int] | None) -> None:
        columns = {} if target is None else {"target": np.array(target, np.int64)}
        self.piece = Piece(ids=np.array(text, np.int64), document=0, columns=columns)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Piece:
        return self.piece


def example(form: str, text: Sequence[int] = (A, B), target: Sequence[int] = (X, Y)) -> Example:
    pairs: world.Any = Pairs(text, target)
    return draw(read(SequenceToSequence, {"form": form}), pairs)


def test_an_encoder_reads_and_a_decoder_says() -> None:
    made = example("source")
    assert made.source is not None and made.source.ids.tolist() == [A, B, END]
    assert not made.source.order.any()
    assert made.main.ids.tolist() == [BEGIN, X, Y]
    assert made.asks[0].at.tolist() == [0, 1, 2] and answers(made) == [X, Y, END]


def test_one_row_reads_in_both_directions_and_says() -> None:
    made = example("prefix")
    assert made.source is None and made.main.ids.tolist() == [A, B, END, X, Y]
    assert made.main.order.tolist() == [0, 0, 0, 1, 2]
    assert made.asks[0].at.tolist() == [2, 3, 4] and answers(made) == [X, Y, END]
    assert made.pattern == "prefix"


def test_one_row_reads_from_left_to_right_and_says() -> None:
    made = example("causal")
    assert made.main.ids.tolist() == [BEGIN, A, B, END, X, Y]
    assert made.main.order.tolist() == list(range(6))
    assert made.asks[0].at.tolist() == [3, 4, 5] and answers(made) == [X, Y, END]
    assert made.pattern == "causal"


@pytest.mark.parametrize("form", ["source", "prefix", "causal"])
def test_an_empty_target_is_an_end(form: str) -> None:
    made = example(form, target=())
    assert answers(made) == [END]


@pytest.mark.parametrize("form", ["source", "prefix", "causal"])
def test_a_prompt_is_the_example_without_what_is_said(form: str) -> None:
    """So generation goes on exactly where training asked (trap 32)."""
    objective = read(SequenceToSequence, {"form": form})
    prompt = objective.prompt(np.array([A, B]), characters())
    made = example(form, target=())
    assert prompt.main.ids.tolist() == made.main.ids.tolist()
    assert prompt.main.order.tolist() == made.main.order.tolist()
    assert (prompt.source is None) == (made.source is None)
    if prompt.source is not None and made.source is not None:
        assert prompt.source.ids.tolist() == made.source.ids.tolist()
    assert made.asks[0].at.tolist() == [len(prompt.main) - 1]


@pytest.mark.parametrize("form", ["source", "prefix", "causal"])
@pytest.mark.parametrize("window", [4, 5, 16, 33])
def test_the_longest_pair_fills_the_window(form: str, window: int) -> None:
    objective = read(SequenceToSequence, {"form": form})
    cut = objective.cut(window)
    assert cut.whole and cut.target
    made = example(form, [A] * cut.length, [X] * cut.target)
    assert max(len(side) for side in (made.main, made.source) if side is not None) == window


def test_the_share_of_the_text() -> None:
    cut = read(SequenceToSequence, {"form": "prefix", "text": 0.8}).cut(101)
    assert (cut.length, cut.target) == (80, 20)
    with pytest.raises(ConfigError, match="text does nothing with form"):
        read(SequenceToSequence, {"text": 0.8})


@pytest.mark.parametrize(("form", "least"), [("source", 2), ("prefix", 3), ("causal", 4)])
def test_windows_without_room_are_refused(form: str, least: int) -> None:
    objective = read(SequenceToSequence, {"form": form})
    objective.cut(least)
    with pytest.raises(ConfigError, match=f"at least {least}"):
        objective.cut(least - 1)


def test_text_without_targets_is_refused() -> None:
    pairs: world.Any = Pairs((A,), None)
    with pytest.raises(DataError, match="needs targets"):
        draw(SequenceToSequence(), pairs)


@pytest.mark.parametrize(("model", "form"), [("decoder", "prefix"), ("gru", "causal"), ("encoder", "")])
def test_a_model_that_cannot_is_told_the_form_that_it_can(model: str, form: str) -> None:
    table = {"data": {"path": "x"}, "objective": "sequence_to_sequence", "model": model}
    with pytest.raises(ConfigError, match="needs a model that gives") as error:
        read(Recipe, table)
    assert (f'Or set objective.form = "{form}"' in str(error.value)) == bool(form)

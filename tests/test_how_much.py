"""Scaling laws: arithmetic by hand, and what the papers say of their own laws."""

import json
import math

import pytest

from telos.how_much import (
    EPOCHS,
    LAST,
    PUBLISHED,
    REFITTED,
    REPEATED,
    Law,
    answer,
    epochs_for,
    loss_of,
    next_pass,
    novels,
    trust,
    worth,
)

SQUARES = Law("by hand", e=1.0, a=8.0, b=32.0, alpha=0.5, beta=0.5)


def test_a_law_by_hand() -> None:
    """L(16, 64) = 1 + 8 / 4 + 32 / 8 = 7; α A / √N = β B / √D where D = 16 N."""
    assert SQUARES.loss(16, 64) == 7.0
    assert SQUARES.tokens(100) == pytest.approx(1600)
    assert SQUARES.parameters(1600) == pytest.approx(100)


@pytest.mark.parametrize("law", [SQUARES, PUBLISHED, REFITTED, REPEATED], ids=lambda law: law.source)
def test_the_best_is_the_best_at_the_same_computation(law: Law) -> None:
    """More parameters and as many fewer tokens, or the other way round, have a higher loss."""
    for parameters in (1e5, 1e8, 1e11):
        tokens = law.tokens(parameters)
        assert law.parameters(tokens) == pytest.approx(parameters)
        best = law.loss(parameters, tokens)
        assert best < law.loss(parameters * 1.1, tokens / 1.1) and best < law.loss(
            parameters / 1.1, tokens * 1.1
        )


def test_twenty_tokens_per_parameter() -> None:
    """Chinchilla itself, 70 billion parameters: about 20 by the refitted law and by that of repeated text, as
    in table 3 of Hoffmann et al. (2022); not by the constants that were published with it."""
    assert REFITTED.tokens(70e9) / 70e9 == pytest.approx(18.4, abs=0.1)
    assert REPEATED.tokens(70e9) / 70e9 == pytest.approx(19.6, abs=0.1)
    assert PUBLISHED.tokens(70e9) / 70e9 > 100


def test_what_a_text_is_worth_that_is_read_again() -> None:
    """By hand, R* = 15.387756: 4 passes are 1 + 15.387756 · (1 − exp(−3 / 15.387756)) = 3.7257 texts; and
    never more than 1 + R*."""
    assert worth(1.0, 1) == 1.0 and worth(200.0, 0.5) == 100.0
    assert worth(1.0, 4) == pytest.approx(3.7257, abs=1e-4)
    assert worth(1.0, 1e9) == pytest.approx(16.387756)
    assert next_pass(1) == 1.0 and next_pass(1 + 15.387756) == pytest.approx(1 / math.e)
    assert all(worth(1.0, e + 1) - worth(1.0, e) < next_pass(e) for e in EPOCHS)


def test_how_often_is_the_inverse_of_what_it_is_worth() -> None:
    for epochs in (0.25, 1.0, 1.5, 4.0, 16.0, 40.0):
        assert epochs_for(1000.0, worth(1000.0, epochs)) == pytest.approx(epochs)
    assert epochs_for(1000.0, 17_000.0) == math.inf


def test_the_loss_of_repeated_text() -> None:
    """Once read by a model of the right size, it is the plain law. More passes lower it, less than new text
    would; more parameters than suit the text lower it less than the plain law says."""
    tokens = 1e9
    suited = REPEATED.parameters(tokens)
    assert loss_of(suited, tokens, 1) == pytest.approx(REPEATED.loss(suited, tokens))
    assert loss_of(suited / 2, tokens, 1) == pytest.approx(REPEATED.loss(suited / 2, tokens))
    assert REPEATED.loss(suited, 4 * tokens) < loss_of(suited, tokens, 4) < loss_of(suited, tokens, 1)
    assert REPEATED.loss(8 * suited, tokens) < loss_of(8 * suited, tokens, 1) < loss_of(suited, tokens, 1)
    effective = 1 + 5.309743 * (1 - math.exp(-7 / 5.309743))
    assert effective == pytest.approx(4.889, abs=1e-3)
    assert loss_of(8 * suited, tokens, 1) == pytest.approx(REPEATED.loss(effective * suited, tokens))


@pytest.mark.parametrize(
    ("times", "advice", "epochs"),
    [
        (0.3, "enough", 1),
        (1.0, "enough", 1),
        (1.5, "repeat", 2),
        (3.7, "repeat", 4),
        (3.8, "fading", 5),
        (10.5, "fading", 16),
        (11.0, "short", LAST),
        (1000.0, "short", LAST),
    ],
)
def test_the_advice(times: float, advice: str, epochs: int) -> None:
    """A text that is so many times too small for the model is read until it is worth what is wanted."""
    parameters = 100_000_000
    found = answer(parameters, round(REFITTED.tokens(parameters) / times), 50_000)
    assert (found.advice, found.epochs) == (advice, epochs)
    assert found.share == pytest.approx(1 / times, rel=1e-6) and found.wanted_by_rule == 2e9
    assert (found.short > 1) == (advice == "short")
    assert found.short == pytest.approx(max(1.0, times / worth(1, epochs)), rel=1e-6)


def test_the_size_that_suits_a_text_wants_just_that_text() -> None:
    found = answer(10_000_000, 5_000_000_000, 50_000)
    for each in found.suited:
        assert REFITTED.tokens(each.parameters) == pytest.approx(worth(5e9, each.epochs))


def test_a_law_that_expects_worse_than_guessing_is_not_believed() -> None:
    """A novel is far too little: 67,513 tokens would give 46 nats, guessing among 512 gives 6.2."""
    assert loss_of(270_816, 67_513, 1) > 40 > math.log(512)
    assert trust(270_816, 67_513, 512) == "broken"
    assert trust(5_000_000, 200_000_000, 8192) == "beyond" == trust(20e9, 200_000_000, 8192)
    assert trust(100_000_000, 60_000_000, 50_000) == "beyond"
    assert trust(100_000_000, 200_000_000, 50_000) == "fitted"


def test_novels() -> None:
    assert novels(180_000, 0) == 2 and novels(0, 100_000) == 0.5 and novels(90_000, 200_000) == 2


def test_an_answer_is_plain_data() -> None:
    table = json.loads(json.dumps(answer(1000, 1, 2).table(), allow_nan=False))
    assert [row["epochs"] for row in table["passes"]] == list(EPOCHS)
    assert table["passes"][0]["gain"] == 0 and table["suited"][0]["epochs"] == 1

"""Figures of a classifier against numbers made by hand."""

import json
import math
from typing import Any

import numpy as np
import pytest

from telos.evaluate import classification
from telos.evaluate._intervals import share
from telos.evaluate.classification import (
    Classified,
    calibration_error,
    measure,
    probabilities,
    temperature_of,
)

LABELS = ("a", "b", "c")


def sure_of(said: list[int], confidence: float = 0.9, classes: int = 3) -> np.ndarray:
    """Logits whose softmax is `confidence` for the class that is said, the rest shared."""
    rest = (1 - confidence) / (classes - 1)
    shares = np.full((len(said), classes), rest)
    shares[np.arange(len(said)), said] = confidence
    return np.log(shares)


def measured(truth: list[int], said: list[int], **more: Any) -> Classified:
    return measure(LABELS, sure_of(said), np.array(truth), lambda n: f"text {n}", **more)


def test_accuracy_f1_and_confusion_by_hand() -> None:
    """a: 3 texts, 2 right, 3 said. b: 2 texts, 1 right, 2 said. c: 1 text, 1 right, 1 said."""
    found = measured([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 2])
    assert found.confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 1))
    assert found.accuracy == share(4, 6) and found.majority == 0.5
    assert found.classes["a"].precision == share(2, 3) and found.classes["a"].recall == share(2, 3)
    assert [found.classes[name].f1 for name in LABELS] == pytest.approx([2 / 3, 1 / 2, 1.0])
    assert found.macro_f1.value == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    low, high = found.macro_f1.low, found.macro_f1.high
    assert low is not None and high is not None and 0 < low < found.macro_f1.value <= high <= 1


def test_a_class_that_never_occurs_counts_nothing_and_one_that_is_only_said_counts_zero() -> None:
    assert measured([0, 1], [0, 1]).macro_f1.value == 1.0
    found = measured([0, 0, 1, 1], [0, 2, 1, 1])
    assert found.macro_f1.value == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.classes["c"].recall is None and found.classes["c"].precision == share(0, 1)


def test_the_interval_of_macro_f1_is_that_of_texts_drawn_again() -> None:
    """Beside a bootstrap that draws text by text."""
    rng = np.random.default_rng(1)
    truth = rng.integers(3, size=200)
    said = np.where(rng.random(200) < 0.7, truth, rng.integers(3, size=200))
    found = measured(truth.tolist(), said.tolist()).macro_f1
    drawn = []
    for _ in range(2000):
        at = rng.integers(200, size=200)
        drawn.append(measure_f1(truth[at], said[at]))
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), abs=0.01)


def measure_f1(truth: np.ndarray, said: np.ndarray) -> float:
    each = [
        2 * ((truth == c) & (said == c)).sum() / ((truth == c).sum() + (said == c).sum()) for c in range(3)
    ]
    return float(np.mean(each))


# ---- calibration


def test_the_calibration_error_by_hand() -> None:
    """Four answers at 0.9, three right: |0.75 − 0.9| of 4/6. Two at 0.5, none right: 0.5 of 2/6."""
    confidence = np.array([0.9] * 4 + [0.5] * 2)
    right = np.array([True, True, True, False, False, False])
    assert calibration_error(confidence, right) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.5)


def test_bins_are_of_equal_width_and_hold_their_upper_end() -> None:
    """1/15 is in the first bin and a little more in the second: together their errors would cancel."""
    edge, beyond = 1 / 15, 1 / 15 + 1e-6
    right = np.array([True, False])
    assert calibration_error(np.array([edge, beyond]), right) == pytest.approx((1 - edge + beyond) / 2)
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0.0
    within = np.array([0.95, 0.97])
    assert calibration_error(within, right) == pytest.approx(abs(1 - 0.95 - 0.97) / 2)
    assert classification.BINS == 15


def test_a_perfectly_calibrated_model_has_no_error() -> None:
    confidence = np.full(1000, 0.8)
    assert calibration_error(confidence, np.arange(1000) < 800) == pytest.approx(0.0)


@pytest.mark.parametrize("wanted", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_by_which_answers_were_made_too_sure(wanted: float) -> None:
    """Answers are drawn from softmax(x); the model says x · T, so that dividing by T sets it right."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 3)) * 2
    truth = (probabilities(x).cumsum(1) > rng.random((20_000, 1))).argmax(1)
    assert temperature_of(x * wanted, truth) == pytest.approx(wanted, rel=0.03)


def test_the_temperature_is_least_in_nats_and_changes_no_answer() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=300)
    said = np.where(rng.random(300) < 0.7, truth, rng.integers(3, size=300))
    logits = sure_of(said.tolist(), 0.999)
    best = temperature_of(logits, truth)
    assert best > 2
    at = {
        factor: measure(LABELS, logits, truth, str, temperature=best * factor) for factor in (0.9, 1.0, 1.1)
    }
    nats = {factor: found.calibration.nats_after for factor, found in at.items()}
    assert nats[1.0] < nats[0.9] and nats[1.0] < nats[1.1] and nats[1.0] < at[1.0].calibration.nats
    assert at[1.0].calibration.ece_after.value < at[1.0].calibration.ece.value
    assert len({found.confusion for found in at.values()}) == 1


def test_answers_that_are_all_right_tell_no_temperature_and_all_wrong_a_bounded_one() -> None:
    assert temperature_of(sure_of([0, 1, 2]), np.array([0, 1, 2])) == 1.0
    assert temperature_of(np.zeros((0, 3)), np.zeros(0, np.int64)) == 1.0
    assert temperature_of(sure_of([1, 2, 0]), np.array([0, 1, 2])) == pytest.approx(math.exp(3), rel=1e-3)


def test_reliability_says_what_is_in_each_bin() -> None:
    logits = np.concatenate([sure_of([0, 0, 0, 1], 0.9), sure_of([1, 1], 0.6)])
    found = measure(LABELS, logits, np.array([0, 0, 0, 0, 1, 0]), str).calibration
    assert [row[2] for row in found.reliability] == [2, 4]
    assert found.reliability[0][:2] == pytest.approx((0.6, 0.5))
    assert found.reliability[1][:2] == pytest.approx((0.9, 0.75))


# ---- what people ask


def test_the_mistakes_it_was_surest_of_come_first() -> None:
    logits = np.concatenate([sure_of([1], 0.6), sure_of([2], 0.9), sure_of([0], 0.99)])
    found = measure(LABELS, logits, np.array([0, 0, 0]), lambda n: f"{n}" * 900)
    assert [(each.right, each.said) for each in found.mistakes] == [("a", "c"), ("a", "b")]
    assert found.mistakes[0].probability == pytest.approx(0.9)
    assert found.mistakes[0].text == "1" * 400 + "…"


def test_a_threshold_tells_how_many_are_answered_and_how_many_of_these_are_right() -> None:
    logits = np.concatenate([sure_of([0, 1], 0.9), sure_of([0, 0], 0.6)])
    found = measure(LABELS, logits, np.array([0, 0, 0, 1]), str, threshold=0.8)
    assert found.answered == share(2, 4) and found.right_where_answered == share(1, 2)
    assert measure(LABELS, logits, np.array([0, 0, 0, 1]), str, threshold=1.0).right_where_answered is None


def test_exchanged_labels_are_named() -> None:
    """Trap 36: a model surely below chance knows something."""
    truth = [0] * 20 + [1] * 20 + [2] * 20
    found = measured(truth, [(label + 1) % 3 for label in truth])
    assert "below chance" in found.notes[0] and "'b' as 'a'" in found.notes[0] and "100.0%" in found.notes[0]
    assert measured(truth, truth).notes == ()


def test_the_table_is_plain_data() -> None:
    table = measured([0, 1, 2, 0], [0, 1, 1, 1], unlabelled=3).table()
    assert json.loads(json.dumps(table, allow_nan=False))["unlabelled"] == 3
    assert table["calibration"]["ece"]["value"] >= 0 and table["classes"]["c"]["precision"] is None

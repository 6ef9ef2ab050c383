"""A trained run judges texts: directly, with a temperature, by words, and not at all where it is unsure."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from telos.config import override, read
from telos.errors import ConfigError, DataError
from telos.evaluate.classification import probabilities
from telos.evaluate.texts import text_of
from telos.measure import judge_of
from telos.recipe import Recipe
from telos.run import Run, fit, open_run
from telos.tasks.classification import classify, score_labelled
from tests.small import NARROW, SHRUNK, labelled, write_labelled, write_texts

TEXTS = ["a great film", "an awful film, dull from end to end", "the film number 3, lovely from end to end"]
WORDS = {"positive": "great", "negative": "awful"}


def trained(folder: Path, *changes: str) -> Run:
    """So long that it tells the classes apart."""
    path = write_labelled(folder / "texts.csv", labelled(120))
    table = {
        "name": "judge",
        "objective": {"name": "classify", "pool": "mean"},
        "data": {"path": str(path), "split": {"validation": 0.2, "test": 0.2}, "clean": {"lower": True}},
        "model": {"name": "encoder", "width": 16, "depth": 1, "heads": 2},
        "train": {"optimizer": {"name": "adamw", "rate": 0.02}},
    }
    settings = [*SHRUNK, "tokenizer={kind='word', size=0}", "train.window=32", "train.budget={steps=40}"]
    return fit(read(Recipe, override(table, [*settings, *changes])), folder / "runs", device="cpu")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A causal model, hardly trained: probabilities are whatever they are."""
    folder = tmp_path_factory.mktemp("writer")
    texts = write_texts(folder / "texts")
    table = {"name": "writer", "data": {"path": str(texts)}}
    changes = [*SHRUNK, *NARROW["decoder"], "tokenizer.size=300", "train.window=64"]
    return fit(read(Recipe, override(table, changes)), folder / "runs", device="cpu")


# ---- directly


def test_texts_are_judged_and_probabilities_add_up(judge: Run) -> None:
    found = classify(judge, TEXTS)
    assert [each.label for each in found] == ["positive", "negative", "positive"]
    for each in found:
        assert list(each.probabilities) == ["negative", "positive"]
        assert math.isclose(sum(each.probabilities.values()), 1.0)
        assert each.probability == max(each.probabilities.values()) and not each.abstained


def test_how_many_at_a_time_changes_nothing(judge: Run) -> None:
    """Trap 23: padding of longer neighbours is not seen."""
    alone = [classify(judge, [text])[0].probability for text in TEXTS]
    for batch in (1, 2, 32):
        together = [each.probability for each in classify(judge, TEXTS, batch=batch)]
        assert together == pytest.approx(alone, abs=1e-6)


def test_below_the_threshold_there_is_no_answer(judge: Run) -> None:
    sure = classify(judge, TEXTS[:1])[0].probability
    (above,) = classify(judge, TEXTS[:1], threshold=sure - 1e-9)
    (below,) = classify(judge, TEXTS[:1], threshold=sure + 1e-9)
    assert above.label == "positive" and not above.abstained
    assert below.label is None and below.abstained and below.probability == sure
    with pytest.raises(ConfigError, match="threshold = 1"):
        classify(judge, TEXTS, threshold=1.5)


def test_texts_are_cleaned_as_those_it_was_trained_on(judge: Run) -> None:
    """The recipe lower-cases; a vocabulary of words knows nothing of capitals."""
    assert classify(judge, ["A GREAT FILM\r\n"])[0] == classify(judge, ["a great film\n"])[0]


def test_a_text_longer_than_the_window_is_judged_by_its_beginning(judge: Run) -> None:
    text = "great " * 20 + "film " * 40
    assert classify(judge, [text + "awful " * 10_000]) == classify(judge, [text])


def test_empty_texts_are_told_by_number(judge: Run) -> None:
    with pytest.raises(DataError, match="text 2 of 3 is empty"):
        classify(judge, ["a", " \n", "b"])
    assert classify(judge, []) == []
    assert classify(judge, ["\udcff\x00 great"])[0].label is not None


def test_probabilities_have_the_temperature_that_the_run_noted(judge: Run) -> None:
    noted = json.loads((judge.folder / "calibration.json").read_text())
    assert noted["step"] == judge.saved.step and noted["texts"] > 0
    path = judge.folder / "calibration.json"
    try:
        path.write_text(json.dumps({**noted, "temperature": 4.0}))
        logits = judge.classifier.logits(TEXTS)
        expected = probabilities(logits, 4.0)
        found = [list(each.probabilities.values()) for each in classify(judge, TEXTS)]
        assert np.allclose(found, expected) and not np.allclose(found, probabilities(logits))
        path.write_text(json.dumps({**noted, "temperature": 4.0, "step": 7}))  # of other weights
        assert judge.classifier.temperature == 1.0
    finally:
        path.write_text(json.dumps(noted))


def test_the_runs_figures_and_page_have_it_all(judge: Run) -> None:
    figures = judge.figures()["evaluation"]["test"]["classification"]
    assert figures["accuracy"]["value"] == 1.0 and figures["labels"] == ["negative", "positive"]
    page = (judge.folder / "report.html").read_text(encoding="utf-8")
    assert "Macro-F1" in page and "Calibration error, 15 bins" in page


def test_the_page_shows_mistakes_and_escapes_them(judge: Run) -> None:
    """Trap 74."""
    path = judge.folder / "evaluation.json"
    before = path.read_text(encoding="utf-8")
    table = json.loads(before)
    table["test"]["classification"]["mistakes"] = [
        {"text": "<script>x</script>\u202e", "right": "<b>", "said": "positive", "probability": 0.9}
    ]
    path.write_text(json.dumps(table), encoding="utf-8")
    try:
        page = judge.report().read_text(encoding="utf-8")
        assert "&lt;script&gt;" in page and "<script>" not in page and "⟦U+202E⟧" in page and "90.0 %" in page
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_labelled_file_is_scored(judge: Run) -> None:
    rows = labelled(20, first=500)
    found = score_labelled(judge, [text for text, _ in rows] + ["x"], [label for _, label in rows] + [""])
    assert found.accuracy.value == 1.0 and found.texts == 20 and found.unlabelled == 1
    with pytest.raises(DataError, match=r"'good' is none of the model's classes: negative, positive"):
        score_labelled(judge, ["x"], ["good"])
    with pytest.raises(DataError, match="none of the texts has a label"):
        score_labelled(judge, ["x"], [""])


def test_the_order_of_a_labelled_file_changes_no_figure(judge: Run) -> None:
    """Trap 36."""
    rows = [("great", "positive"), ("awful", "positive"), ("dull", "negative")] * 3
    one, other = (score_labelled(judge, *map(list, zip(*order, strict=True))) for order in (rows, rows[::-1]))
    assert one.confusion == other.confusion and one.accuracy == other.accuracy


def test_a_run_is_judged_by_alone_where_its_text_is_gone(judge: Run, tmp_path: Path) -> None:
    """A folder that was copied elsewhere, without the prepared text."""
    import shutil

    copied = shutil.copytree(judge.folder, tmp_path / "copied")
    assert classify(open_run(copied, "cpu"), TEXTS) == classify(judge, TEXTS)


def test_a_text_that_is_asked_as_no_format_asks_is_refused(judge: Run, tmp_path: Path) -> None:
    """Trap 36: names of classes and what is said of a text survive an export, or there is none."""
    with pytest.raises(ConfigError, match="asked by the mean of the text's own places, and by a ModernBert"):
        judge.export("hf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- by words


def nats(run: Run, text: str) -> float:
    """−log p of a whole text."""
    return judge_of(run).score([text_of(text, run.tokenizer)]).nats[0]


def test_words_are_compared_after_the_text_as_one(writer: Run) -> None:
    """Trap 35: the probability of a word after a context is that of both together less that of the context,
    tokenised as one."""
    template = "{text} It was {label}."
    (found,) = classify(writer, ["a film."], words=WORDS, template=template)
    context = "a film. It was"
    scores = [-(nats(writer, f"{context} {word}") - nats(writer, context)) for word in WORDS.values()]
    expected = probabilities(np.array([scores]))[0]
    assert list(found.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert list(found.probabilities) == ["positive", "negative"]


def test_examples_stand_before_the_text_in_the_same_form(writer: Run) -> None:
    shown = [("one", "positive"), ("two", "negative")]
    (found,) = classify(writer, ["x"], words=WORDS, template="{text}: {label}", examples=shown)
    context = "one: great\ntwo: awful\nx:"
    scores = [-(nats(writer, f"{context} {word}") - nats(writer, context)) for word in WORDS.values()]
    assert list(found.probabilities.values()) == pytest.approx(
        probabilities(np.array([scores]))[0].tolist(), abs=1e-5
    )


def test_a_long_text_is_shortened_and_the_question_stays(writer: Run) -> None:
    long = "the cat sat " * 500
    room = len(writer.tokenizer.encode(long))
    assert room > 64
    (found,) = classify(writer, [long], words=WORDS)
    assert 0 < found.probability < 1
    (other,) = classify(writer, [long], words=WORDS, template="{text} What a bad thing, {label}.")
    assert other.probability != found.probability


def test_the_order_of_words_changes_no_answer(writer: Run) -> None:
    one, other = (classify(writer, TEXTS, words=words) for words in (WORDS, dict(reversed(WORDS.items()))))
    assert [each.label for each in one] == [each.label for each in other]
    assert [each.probability for each in one] == pytest.approx([each.probability for each in other])


def test_what_cannot_be_asked_is_refused(writer: Run, judge: Run) -> None:
    with pytest.raises(ConfigError, match="'causal' puts texts in no classes"):
        classify(writer, TEXTS)
    with pytest.raises(ConfigError, match="defines no score of a given text"):
        classify(judge, TEXTS, words=WORDS)
    for words in ({"a": "x"}, {"a": "x", "b": "x"}, {"a": "x", "b": ""}):
        with pytest.raises(ConfigError, match="a word of its own"):
            classify(writer, TEXTS, words=words)
    with pytest.raises(ConfigError, match="must hold"):
        classify(writer, TEXTS, words=WORDS, template="{label} {text}")
    with pytest.raises(ConfigError, match="tokens, and the model reads"):
        classify(writer, TEXTS, words=WORDS, template="{text} " + "what a thing " * 90 + "{label}")
    with pytest.raises(ConfigError, match="for the class 'neutral' no word"):
        classify(writer, TEXTS, words=WORDS, examples=[("x", "neutral")])


def test_a_language_model_is_scored_too(writer: Run) -> None:
    found = score_labelled(writer, TEXTS, ["positive", "negative", "positive"], words=WORDS)
    assert found.texts == 3 and found.labels == ("positive", "negative")

"""Statistics of samples: by hand, and the same for texts with blanks and without."""

import math

import pytest

from telos.evaluate.diversity import diversity, units


def of(*texts: str) -> dict:  # type: ignore[type-arg]
    return diversity(texts, [1] * len(texts), [0.5] * len(texts)).table()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \t ", []),
        ("the cat's  mat.", ["the", "cat's", "mat", "."]),
        ("床前明月光，", ["床", "前", "明", "月", "光", "，"]),
        ("a 春\n\nb", ["a", "春", "\n", "\n", "b"]),
        ("x1 = 2", ["x1", "=", "2"]),
    ],
)
def test_words_and_chinese_characters_are_counted(text: str, expected: list[str]) -> None:
    assert units(text) == expected


def test_distinct_by_hand() -> None:
    """Li et al., 2016: of 7 words 4 differ, of 5 pairs 4; no pair goes from one sample into the next."""
    found = of("a b a b", "a c d")
    assert found["distinct"]["1"] == pytest.approx(4 / 7)
    assert found["distinct"]["2"] == pytest.approx(4 / 5)
    assert of("a")["distinct"] == {"1": 1.0, "2": None, "3": None}


def test_repetition_by_hand() -> None:
    """Welleck et al., 2020: within each sample, then the mean; samples that are too short do not count."""
    found = of("a b a b a b", "a b c d", "a")
    assert found["repetition"]["2"] == pytest.approx(((1 - 2 / 5) + 0) / 2)
    assert found["repetition"]["4"] == pytest.approx(((1 - 2 / 3) + 0) / 2)


def test_perplexity_and_lengths() -> None:
    found = diversity(["a b", "春眠不"], [3, 1], [2.0, 4.0]).table()
    assert found["perplexity"] == pytest.approx(math.exp(6 / 4))
    assert (found["length"], found["tokens"], found["units"], found["samples"]) == (2.5, 2.0, 5, 2)


def test_chinese_counts_as_the_same_text_with_blanks() -> None:
    """Trap 32: characters are what words are elsewhere, so blanks between them change no figure."""
    samples = ("床前明月光，疑是地上霜", "床前明月光，低头思故乡")
    spaced = [" ".join(text) for text in samples]
    assert of(*samples) == of(*spaced)


def test_nothing_has_no_figures() -> None:
    found = diversity([], [], []).table()
    assert found["perplexity"] is None and found["self_bleu"] is None and found["distinct"]["1"] is None
    assert of("", "")["self_bleu"] is None


def test_self_bleu_is_high_where_samples_are_alike() -> None:
    """Zhu et al., 2018. Trap 32: Chinese is compared character by character, not by the whole line, which is
    one word to a tokeniser of English."""
    pytest.importorskip("sacrebleu")
    poem = "床前明月光，疑是地上霜。"
    assert of(poem, poem)["self_bleu"] == pytest.approx(100)
    near = of(poem, "床前明月光，疑是地上雪。")["self_bleu"]
    far = of(poem, "春眠不觉晓，处处闻啼鸟。")["self_bleu"]
    assert near > 60 > 30 > far
    assert of("the cat sat on a mat", "the cat sat on a mat")["self_bleu"] == pytest.approx(100)
    assert of("one")["self_bleu"] is None


def test_self_bleu_is_the_mean_over_samples_against_all_others() -> None:
    """By sacrebleu's own sentence BLEU, the words given as they are."""
    bleu = pytest.importorskip("sacrebleu.metrics").BLEU(tokenize="none", effective_order=True)
    texts = ["the cat sat on the mat", "the cat sat on the hat today", "a dog ran"]
    scores = [bleu.sentence_score(t, [o for o in texts if o is not t]).score for t in texts]
    assert of(*texts)["self_bleu"] == pytest.approx(sum(scores) / 3)

"""BLEU and chrF as sacrebleu has them, their intervals, paired differences, and the faults that are named."""

import pytest
from sacrebleu.metrics import BLEU, CHRF

from telos.errors import DataError
from telos.evaluate.translation import against, quality, tokeniser

REFERENCES = [
    "The cat sat on the mat.",
    "Two men are riding bicycles along the river.",
    "A girl in a red dress plays the violin.",
    "It rains.",
] * 5
GOOD = [text.replace("riding", "on").replace("red", "blue") for text in REFERENCES]
BAD = [" ".join(text.split()[::-1]) for text in REFERENCES]
CHINESE = ["两个男人沿着河边骑自行车。", "猫坐在垫子上。"]


def test_scores_are_those_of_sacrebleu() -> None:
    found = quality(REFERENCES, GOOD, REFERENCES)
    assert found.figures["bleu"]["score"] == BLEU().corpus_score(GOOD, [REFERENCES]).score
    assert found.figures["chrf"]["score"] == CHRF().corpus_score(GOOD, [REFERENCES]).score
    assert (
        "tok:13a" in found.figures["bleu"]["signature"] and "version:" in found.figures["bleu"]["signature"]
    )
    low, high = (found.figures["bleu"][end] for end in ("low", "high"))
    assert low < found.figures["bleu"]["score"] < high


def test_a_perfect_system_has_a_hundred() -> None:
    found = quality(REFERENCES, REFERENCES, REFERENCES)
    assert found.figures["bleu"]["score"] == pytest.approx(100) and found.length_ratio == 1


def test_chinese_is_counted_by_characters() -> None:
    """By `13a` a Chinese sentence would be one word, and anything but the very same would score nothing."""
    assert tokeniser(CHINESE) == "zh"
    assert tokeniser(["これはペンです。"]) == "char"
    assert tokeniser(REFERENCES) == "13a" == tokeniser(["Zwei Männer fahren Rad.", "12 34"])
    found = quality(["a", "b"], [CHINESE[0].replace("骑", "开"), CHINESE[1]], CHINESE)
    assert "tok:zh" in found.figures["bleu"]["signature"] and 50 < found.figures["bleu"]["score"] < 100


def test_capitals_count_unless_told_otherwise() -> None:
    shouted = [text.upper() for text in REFERENCES]
    assert quality(REFERENCES, shouted, REFERENCES).figures["bleu"]["score"] < 20
    assert quality(REFERENCES, shouted, REFERENCES, lower=True).figures["bleu"]["score"] == pytest.approx(100)


def test_a_better_system_is_told_from_a_worse_one() -> None:
    for found in against(GOOD, BAD, REFERENCES):
        assert found.difference > 20 and found.low > 0 and found.p < 0.05
    whole = BLEU().corpus_score(GOOD, [REFERENCES]).score - BLEU().corpus_score(BAD, [REFERENCES]).score
    assert against(GOOD, BAD, REFERENCES)[0].difference == pytest.approx(whole)


def test_a_system_is_no_better_than_itself_and_differences_turn_round() -> None:
    same = against(GOOD, GOOD, REFERENCES)[0]
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    there, back = against(GOOD, BAD, REFERENCES)[0], against(BAD, GOOD, REFERENCES)[0]
    assert back.difference == pytest.approx(-there.difference) and back.low == pytest.approx(-there.high)


def test_faults_are_counted() -> None:
    sources = ["Ein Hund.", "Eine Katze.", "Regen.", "Gut."]
    found = quality(sources, ["", "eine  katze.", "rain rain rain rain", "Good."], ["x"] * 4)
    assert found.faults == {"empty": 1, "copy": 1, "repeat": 1}


def test_the_worst_come_first_and_lengths_are_told_apart() -> None:
    found = quality(REFERENCES[:4], [*REFERENCES[:3], "zzz"], REFERENCES[:4])
    assert found.worst[0]["translation"] == "zzz" and found.worst[0]["chrf"] < 1
    assert [part["sentences"] for part in found.by_length] == [1, 1, 2]
    assert found.by_length[0]["chrf"] < 1 and found.by_length[-1]["chrf"] == pytest.approx(100)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(DataError, match="1 sources, 2 translations, 1 references"):
        quality(["a"], ["b", "c"], ["d"])
    with pytest.raises(DataError, match="nothing to score"):
        quality([], [], [])


def test_text_that_is_cut_into_words_is_refused() -> None:
    """Trap 32: its BLEU would compare with nothing."""
    cut = ["The cat sat on the mat .", "It rains ."]
    with pytest.raises(DataError, match="translations are cut into words"):
        quality(cut, cut, REFERENCES[:2])
    with pytest.raises(DataError, match="references are cut into words"):
        quality(CHINESE, CHINESE, ["猫 坐 在 垫子 上 。", "好 。"])


def test_a_single_sentence_has_no_interval() -> None:
    found = quality(REFERENCES[:1], GOOD[:1], REFERENCES[:1])
    assert found.figures["bleu"]["low"] is None and found.figures["bleu"]["high"] is None

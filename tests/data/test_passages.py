"""Passages that stand in several texts: all are found, the first stays, and nothing else goes."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.data import passages, shingles
from tests.data.copies import collections, drawn, in_capitals

LONG = "a passage of words that is said again and again, Word for Word"


def deduped(texts: list[str], least: int = 3, **given) -> list[str]:
    found = passages.paragraphs(texts, least, **given)
    cut = passages.spans(found, passages.repeated(found.hashes), len(texts))
    return [passages.without(text, spans) for text, spans in zip(texts, cut, strict=True)]


def without_stretches(texts: list[str], least: int, batch: int = 1000) -> list[str]:
    """All steps, the texts given in batches."""
    batches = [texts[at : at + batch] for at in range(0, len(texts), batch)]
    known = passages.shared(np.concatenate([passages.fingerprints(some, least) for some in batches]))
    found = [passages.windows(some, known, least) for some in batches]
    again = passages.repeated(np.concatenate([part.hashes for part in found]))
    ends = np.cumsum([len(part.hashes) for part in found])
    result = []
    for some, part, flags in zip(batches, found, np.split(again, ends[:-1]), strict=True):
        cut = passages.spans(part, flags, len(some))
        result += [passages.without(text, spans) for text, spans in zip(some, cut, strict=True)]
    return result


def test_a_paragraph_that_came_before_is_cut_out():
    texts = [f"One two three.\n{LONG}\nshort\n", f"short\n{LONG.upper()}!\n\nFour five six.", f"{LONG}"]
    assert deduped(texts) == [texts[0], "short\nFour five six.", ""]


def test_it_may_stand_between_blank_lines():
    first = f"{LONG}\n{LONG}\n\nanother one of words\n \n{LONG}"
    assert deduped([first], between="blank line") == [first]
    assert deduped([first, f"{LONG}\n{LONG}\n\n{LONG}\nx"], between="blank line") == [first, f"{LONG}\nx"]
    assert deduped([f"{LONG}\n{LONG}"]) == [LONG]


@pytest.mark.parametrize(
    "text", ["", "\n", "\n\n \n", "a b c", "a b c\n", "a b c\n\n\nd e f", "\n a b c \r\n"]
)
def test_with_nothing_repeated_nothing_changes(text):
    assert deduped([text]) == [text]
    found = passages.paragraphs([text], 1)
    assert passages.without(text, []) == text
    assert all(text[begin:end].strip() for begin, end in zip(found.begins, found.ends, strict=True))


def test_short_paragraphs_may_come_again():
    assert deduped(["yes sir\nyes sir"]) == ["yes sir\nyes sir"]
    assert deduped(["静夜思，\n静夜思。"]) == ["静夜思，"]


@pytest.mark.parametrize("size", [100, 200, 5000])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_the_result_does_not_hang_on_the_batches(size, batch, monkeypatch):
    draw = random.Random(0)
    lines = drawn(40, 8, draw)
    texts = ["\n".join(draw.choices(lines, k=draw.randint(0, 12))) for _ in range(30)]
    whole = passages.paragraphs(texts, 3)
    monkeypatch.setattr(shingles, "PIECE", size)
    parts = [passages.paragraphs(texts[at : at + batch], 3) for at in range(0, len(texts), batch)]
    assert np.concatenate([part.hashes for part in parts]).tolist() == whole.hashes.tolist()
    assert np.concatenate([part.begins for part in parts]).tolist() == whole.begins.tolist()
    assert np.concatenate([part.ends for part in parts]).tolist() == whole.ends.tolist()
    shift = np.repeat(np.arange(len(parts)) * batch, [len(part.texts) for part in parts])
    assert (np.concatenate([part.texts for part in parts]) + shift).tolist() == whole.texts.tolist()


@given(numbers=st.lists(st.integers(0, 12)), part=st.sampled_from([1, 3, 1000]))
def test_repeated_are_those_that_came_before(numbers, part):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passages, "_PART", part)
        hashes = shingles.scrambled(np.array(numbers, np.uint64))
        assert passages.repeated(hashes).tolist() == [n in numbers[:i] for i, n in enumerate(numbers)]
        twice = {n for n in numbers if numbers.count(n) > 1}
        assert set(passages.shared(hashes).hashes) == set(shingles.scrambled(np.array([*twice], np.uint64)))


def slowly(texts: list[list[str]], least: int) -> list[list[str]]:
    """Lists of words less all that is in a window of `least` that came before."""
    seen, result = set(), []
    for words in texts:
        gone = set()
        for i in range(len(words) - least + 1):
            window = tuple(words[i : i + least])
            if window in seen:
                gone |= set(range(i, i + least))
            seen.add(window)
        result.append([word for i, word in enumerate(words) if i not in gone])
    return result


@pytest.mark.parametrize("least", [2, 5, 8, 9])
@pytest.mark.parametrize(("seed", "alphabet"), [(0, "abcdefghijkl"), (1, "abc"), (2, "a"), (3, "天地人和")])
def test_no_repeated_stretch_is_missed_and_nothing_else_goes(least, seed, alphabet, monkeypatch):
    """Against every window remembered; also texts that repeat themselves, and that are read in pieces."""
    draw = random.Random(seed)
    texts = [draw.choices(alphabet, k=draw.randint(0, 40)) for _ in range(40)]
    for text in texts[1::2]:
        other = draw.choice(texts)
        text[draw.randint(0, len(text)) :] = other[draw.randint(0, len(other)) :]
    whole = without_stretches([" ".join(words) for words in texts], least)
    assert [text.split() for text in whole] == slowly(texts, least)
    for size, batch in ((30, 7), (11, 1)):
        monkeypatch.setattr(shingles, "PIECE", size)
        assert without_stretches([" ".join(words) for words in texts], least, batch) == whole


@pytest.mark.parametrize("period", [1, 2, 7, 30])
def test_a_text_that_repeats_itself_is_left_once(period):
    once = " ".join(map(str, range(period)))
    assert without_stretches([" ".join([once] * 40)], 10) == [once + " "]


@pytest.mark.parametrize("length", [50, 51, 80, 400])
def test_a_stretch_in_other_surroundings_is_found_whatever_its_place(length, data_folder):
    """Trap 53: Chinese and English, and in capitals."""
    draw = random.Random(length)
    english = drawn(200, 600, draw)
    chinese = [text for text in collections(data_folder, 15) if _count(text) > 450][:200]
    planted = []
    for i in range(100):
        words, stretch = english[i + 100].split(), english[i].split()[100 : 100 + length]
        words[draw.randint(0, 600) : 0] = map(str.upper, stretch)
        planted.append(" ".join(words))
        characters = [c for c in chinese[i] if c.isalpha()][20 : 20 + length]
        at = draw.randint(0, len(chinese[i + 100]))
        planted.append(chinese[i + 100][:at] + "".join(characters) + chinese[i + 100][at:])
    before = english[:100] + chinese[:100]
    after = without_stretches(before + planted, 50)
    assert after[:200] == before
    lost = [_count(text) - _count(left) for text, left in zip(planted, after[200:], strict=True)]
    assert all(length <= more <= length + 5 for more in lost), sorted(lost)


def _count(text: str) -> int:
    return len(shingles.words([text]).hashes)


def test_what_is_left_goes_on_at_a_word():
    text = " ".join(map(str, range(20)))
    first, again = without_stretches([text, f"Before, {in_capitals(text, random.Random())}: after."], 10)
    assert first == text and again == "Before, : after."


def test_few_words_are_fingerprints():
    """About one in 13 for windows of 50; and two of two equal texts are equal."""
    (text,) = drawn(1, 20_000, random.Random(0))
    found = passages.fingerprints([text], 50)
    assert 20_000 / 14.5 < len(found) < 20_000 / 12.5
    assert passages.fingerprints(["x " * 49], 50).tolist() == []
    assert len(passages.shared(found)) < 5
    assert set(passages.shared(np.concatenate([found, found])).hashes) == set(found)

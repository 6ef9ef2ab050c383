"""Overlap with evaluation sets: planted items are found, short ones as a whole, and shares are exact."""

import random

import numpy as np
import pytest

from telos.data import overlap, shingles
from tests.data.copies import SAME, drawn, passages, poems


def known(items: list[str], **given) -> overlap.Known:
    return overlap.Known(overlap.grams(items, **given))


def shares(texts: list[str], items: list[str], **given) -> list[float]:
    return overlap.overlap(texts, known(items, **given)).share.tolist()


def numbers(first: int, last: int) -> str:
    return " ".join(f"w{number}" for number in range(first, last))


def test_by_hand():
    """Thirteen words in common of twenty, and twelve."""
    item = numbers(0, 30)
    assert shares([numbers(0, 13) + " " + numbers(90, 97)], [item]) == [13 / 20]
    assert shares([numbers(90, 97) + " " + numbers(17, 30), numbers(0, 12)], [item]) == [13 / 20, 0]
    assert shares([numbers(0, 15), "", item, "…"], [item]) == [1, 0, 1, 0]
    assert shares([numbers(0, 3)], [item], n=3) == [1]


def test_chinese_characters_are_half_a_word():
    item = "".join(chr(0x4E00 + i) for i in range(40))
    assert shares([item[:26] + "好" * 26, item[:25], "好好" + item[10:36]], [item]) == [0.5, 0, 26 / 28]
    mixed = f"{numbers(0, 6)} {item[:13]} {numbers(6, 10)}"
    assert shares([f"好 {mixed} 好"], [mixed]) == [pytest.approx(33 / 35)]


def test_the_first_place_is_told():
    text = f"Before it, {numbers(0, 5)} -- {numbers(5, 16).upper()}! After. {numbers(40, 60)}"
    found = overlap.overlap(["no", text], known([numbers(0, 60)]))
    begin, end = found.begins[1], found.ends[1]
    assert text[begin:end] == f"{numbers(0, 5)} -- {numbers(5, 16).upper()}"
    assert (found.begins[0], found.ends[0]) == (-1, -1)


def test_short_items_are_found_as_a_whole_and_shorter_ones_are_not_looked_for():
    items = [
        numbers(0, 9),
        numbers(20, 28),
        numbers(40, 47),
        "床前明月光，疑是地上霜。",
        "床前明月光，疑是地上霜。举头望明月，低头思故乡。",
    ]
    texts = [
        f"x {numbers(0, 9)} y",
        f"x {numbers(0, 8)} y",
        f"x {numbers(20, 28)}",
        numbers(40, 47),
        items[3],
        f"《{items[4]}》",
    ]
    assert [share > 0 for share in shares(texts, items)] == [True, False, True, False, False, True]
    assert shares([items[3]], items, shortest=5) == [1]


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_items_written_otherwise_are_found(change, data_folder):
    """Trap 53."""
    draw = random.Random(0)
    items = passages(data_folder, 300)[:50] + [poem for poem in poems(data_folder) if len(poem) > 24][:50]
    texts = [f"Some text. {change(item, draw)} And more of it." for item in items]
    assert min(shares(texts, items)) > 0.6


def test_different_texts_do_not_overlap(data_folder):
    """Poems that were split by their text, against each other: those that do have a common line."""
    items = poems(data_folder, "test")
    found = overlap.overlap(poems(data_folder), known(items))
    assert np.mean(found.share > 0) < 0.01
    assert max(shares(passages(data_folder)[:300], items)) == 0


def slowly(text: str, items: list[str], n: int) -> float:
    words = text.split()
    grams = {tuple(item.split()[i : i + n]) for item in items for i in range(len(item.split()) - n + 1)}
    inside = [i + k for i in range(len(words) - n + 1) if tuple(words[i : i + n]) in grams for k in range(n)]
    return len(set(inside)) / max(1, len(words))


@pytest.mark.parametrize("size", [1 << 18, 50, 17])
def test_shares_are_what_counting_one_by_one_gives(size, monkeypatch):
    """Trap 54: also for texts that are read in pieces."""
    draw = random.Random(0)
    items = [" ".join(draw.choices("abc", k=draw.randint(3, 12))) for _ in range(6)]
    texts = [" ".join(draw.choices("abc", k=draw.randint(0, 60))) for _ in range(40)]
    expected = [slowly(text, items, 3) for text in texts]
    whole = overlap.overlap(texts, known(items, n=3, shortest=3))
    monkeypatch.setattr(shingles, "PIECE", size)
    found = overlap.overlap(texts, known(items, n=3, shortest=3))
    assert found.share.tolist() == pytest.approx(expected)
    assert found.begins.tolist() == whole.begins.tolist() and found.ends.tolist() == whole.ends.tolist()


def test_what_of_the_items_was_found_gives_their_own_share():
    items = [numbers(0, 26), numbers(100, 126), numbers(200, 208)]
    texts = [f"x {numbers(0, 13)} y", numbers(200, 208), *drawn(5, 100, random.Random(0))]
    seen = overlap.found(texts, known(items))
    assert overlap.overlap(items, overlap.Known(seen)).share.tolist() == [0.5, 0, 1]
    assert sum(map(len, seen.values())) == 2


def test_sets_are_united():
    one, other = overlap.grams([numbers(0, 20)]), overlap.grams([numbers(10, 30), numbers(50, 59)])
    both = overlap.united([one, other])
    whole = overlap.grams([numbers(0, 20), numbers(10, 30), numbers(50, 59)])
    assert {n: hashes.tolist() for n, hashes in both.items()} == {n: h.tolist() for n, h in whole.items()}
    assert len(both[26]) == 16 and len(both[18]) == 1


def test_with_nothing_known_nothing_overlaps():
    found = overlap.overlap(["some text", ""], overlap.Known({}))
    assert found.share.tolist() == [0, 0] and found.begins.tolist() == [-1, -1]
    assert overlap.overlap([], known([numbers(0, 20)])).share.tolist() == []
    assert overlap.grams([]) == {} and overlap.found(["x"], overlap.Known({})) == {}

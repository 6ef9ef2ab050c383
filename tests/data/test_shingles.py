"""Words and n-grams as numbers: many texts at once say the same as one character after the other."""

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.data import shingles
from tests.data.copies import SAME

ALPHABET = "aAeéÉ\u0301ßẞς'-_ .\n\t\u3000１Ａﾃﾞデがが中文，。ไทย한글\u200d\ufeff\ud800\U0001f600\U00020000"
TEXTS = st.lists(st.text(st.sampled_from(ALPHABET), max_size=12), max_size=5)


def read(text: str) -> list[str]:
    """The words of a text, by the rules of the module's docstring, slowly."""
    result, open_word = [], False
    for character in text:
        folded = unicodedata.normalize("NFKD", character)[0] if character != "\ufeff" else character
        category = unicodedata.category(folded)
        if category in ("Mn", "Cf") and not "\u0e00" <= character <= "\u0e7f":
            continue
        if category[0] not in "LMN":
            open_word = False
        elif "\u0e00" <= folded <= "\u0e7f" or "\u3041" <= folded <= "\u30ff" or ord(folded) in _HAN:
            result.append(folded)
            open_word = False
        else:
            lower = folded.casefold() if len(folded.casefold()) == 1 else folded.lower()
            result[len(result) - open_word :] = [(result[-1] if open_word else "") + lower]
            open_word = True
    return result


_HAN = {0x4E2D, 0x6587, 0x20000}


@given(texts=TEXTS)
def test_words_are_those_of_the_rules(texts):
    found = shingles.words(texts)
    slow = [read(text) for text in texts]
    assert np.diff(found.offsets).tolist() == [len(words) for words in slow]
    flat = [word for words in slow for word in words]
    assert len(set(zip(flat, found.hashes.tolist(), strict=True))) == len(set(flat))
    assert len(set(found.hashes.tolist())) == len(set(flat))


@given(texts=TEXTS, n=st.integers(1, 4))
def test_grams_are_n_words_in_a_row_and_never_cross_texts(texts, n):
    found = shingles.words(texts)
    many = shingles.grams(found.hashes, found.offsets, n)
    slow = []
    for text in texts:
        words = read(text)
        slow.append([tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1)) if words])
    assert np.diff(many.offsets).tolist() == [len(grams) for grams in slow]
    flat = [gram for grams in slow for gram in grams]
    assert len(set(zip(flat, many.hashes.tolist(), strict=True))) == len(set(flat))
    assert len(set(many.hashes.tolist())) == len(set(flat))


@given(texts=TEXTS)
def test_places_cut_the_words_out_of_the_text(texts):
    found = shingles.words(texts)
    for i, text in enumerate(texts):
        first, last = found.offsets[i : i + 2]
        cut = [
            text[begin - found.text_begins[i] : end - found.text_begins[i]]
            for begin, end in zip(found.begins[first:last], found.ends[first:last], strict=True)
        ]
        assert [read(word) for word in cut] == [[word] for word in read(text)]


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
@pytest.mark.parametrize(
    "text",
    [
        "It was the best of times,\nit was the worst of times.",
        "床前明月光，疑是地上霜。",
        "データ Ünder 7 ones",
    ],
)
def test_what_is_written_otherwise_has_the_same_words(change, text):
    changed = change(text, random.Random(0))
    assert shingles.words([text]).hashes.tolist() == shingles.words([changed]).hashes.tolist()


def test_the_numbers_are_the_same_everywhere():
    """Stored signatures are compared with those of another machine."""
    assert shingles.words(["Hello 中"]).hashes.tolist() == GOLDEN


GOLDEN = [5380539739086968249, 16022983561852841985]


@pytest.mark.parametrize("blank", [" ", "\n", ""])
def test_pieces_are_the_text_and_cut_no_word(blank, monkeypatch):
    monkeypatch.setattr(shingles, "PIECE", 10)
    text = blank.join(["one", "three", "eleven", "中文字符" if blank else "x"] * 6)
    cut = list(shingles.pieces(text))
    assert "".join(piece for _, piece in cut) == text
    assert [begin for begin, _ in cut] == np.cumsum([0, *(len(piece) for _, piece in cut)])[:-1].tolist()
    assert all(len(piece) <= 10 for _, piece in cut)
    if blank:
        whole = shingles.words([text]).hashes.tolist()
        assert [hash for _, piece in cut for hash in shingles.words([piece]).hashes.tolist()] == whole


@given(lengths=st.lists(st.integers(0, 30), max_size=8))
def test_batches_are_all_texts_in_order(lengths):
    texts = ["x" * length for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "PIECE", 40)
        groups = list(shingles.batches(texts))
        assert [i for group in groups for i in group] == list(range(len(texts)))
        assert all(len(group) == 1 or sum(lengths[i] for i in group) <= 40 for group in groups)

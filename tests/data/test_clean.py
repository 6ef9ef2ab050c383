"""Cleaning: pure functions, each of which does one thing and says how much."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.data import clean
from telos.data.settings import CleanSettings

TEXT = st.text(st.characters(), max_size=60)


def cleaned(text: str, **settings) -> str:
    for step in clean.steps(CleanSettings(**settings)):
        text = step.does(text)
    return text


@given(text=TEXT)
def test_cleaning_twice_is_cleaning_once(text):
    once = cleaned(text)
    assert cleaned(once.removeprefix("\ufeff")) == once.removeprefix("\ufeff")
    once.encode()
    assert unicodedata.is_normalized("NFC", once)


@given(text=TEXT)
def test_nothing_but_what_is_declared_is_changed(text):
    """Trap 50: with every step off, only invalid characters and a byte order mark are touched."""
    kept = cleaned(text, normalise="none", newlines="keep", strip_control=False)
    assert kept == clean.replace_invalid(text.removeprefix("\ufeff"))


@pytest.mark.parametrize(
    "text",
    [
        "，。！？；：「」『』（）《》Ａ１",
        "ﬁ ① ™ ½ x² Å",
        "  two  spaces\t tab\n\n",
        "a\u200db\u2028c\u3000d",
        "ÉCOLE",
    ],
)
def test_the_default_leaves_text_alone(text):
    """Trap 50: no compatibility folding, no white space folding, no accents stripped, no case."""
    assert cleaned(text) == unicodedata.normalize("NFC", text)


def test_each_step_does_what_it_says():
    assert cleaned("\ufeffa\ufeffb") == "a\ufeffb"
    assert cleaned("a\r\nb\rc\x0bd\x0ce\x85f\u2028g") == "a\nb\nc\nd\ne\nf\u2028g"
    assert cleaned("a\r\nb", newlines="keep") == "a\r\nb"
    assert cleaned("a\x00b\x1bc\x7fd\x9fe\tf\ng") == "abcde\tf\ng"
    assert cleaned("a\x00b", strip_control=False) == "a\x00b"
    assert cleaned("e\u0301") == "\u00e9"
    assert cleaned("e\u0301", normalise="none") == "e\u0301"
    assert cleaned("ÀB", lower=True) == "àb"
    assert cleaned("a\ud800b\udcffc") == "a\ufffdb\ufffdc"


def test_removal_of_special_characters_keeps_prose_in_every_script():
    kept = "Hello, world! (It's 5:30.) 你好，世界。“好”？ हिन्दी العربية\u200c x\n"
    assert cleaned(kept, special_characters="remove") == kept
    assert cleaned("a@b #c $d %e ^f *g ~h |i {j} ★ 👍 <k>\ue000", special_characters="remove") == (
        "ab c d e f g h i j   k"
    )


def test_lossy_steps_are_declared():
    steps = clean.steps(CleanSettings(lower=True, special_characters="remove"))
    lossy = [step.name for step in steps if step.lossy]
    assert lossy == ["invalid characters", "lower case", "special characters"]


@given(text=TEXT)
def test_invalid_places_are_exactly_those_that_cannot_be_encoded(text):
    assert clean.invalid(text) == [i for i, c in enumerate(text) if 0xD800 <= ord(c) <= 0xDFFF]


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ("ABc", "abc", 2),
        ("a\x00b\x00", "ab", 2),
        ("e\u0301x", "\u00e9x", 1),
        ("abc", "abc", 0),
        ("a\r\nb", "a\nb", 1),
    ],
)
def test_changes_are_counted(before, after, count):
    assert clean.changed_characters(before, after) == count

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


# ---- repair

ENGLISH = "It’s a café — “naïve” façade… €5, Ünïcödé"
CHINESE = "你好，世界。今天的天气很好，我们去公园玩了一会儿，就回家了。她说这是真的。"


@pytest.mark.parametrize(
    "text", ["Grüße aus Zürich", "l’été à l’école", "“Über” – 5 €", CHINESE, "日本語のテスト", "👍🏽 ok"]
)
def test_utf8_read_as_latin_1_is_mended(text):
    wrong = text.encode().decode("latin-1")
    assert wrong != text
    assert cleaned(wrong, repair=True) == text
    assert cleaned(f"good é line\n{wrong}", repair=True) == f"good é line\n{text}"


@pytest.mark.parametrize("text", ["Grüße aus Zürich", "it’s — “fine”".replace("”", ""), "l’été…"])
def test_utf8_read_as_windows_1252_is_mended(text):
    assert cleaned(text.encode().decode("cp1252"), repair=True) == text


def test_gbk_read_as_latin_1_is_mended():
    assert cleaned(CHINESE.encode("gbk").decode("latin-1"), repair=True) == CHINESE
    mixed = "Python 3 版本的说明：我们在这里说一下它的用法，朱镕基。\n\n第二段也是这样的。"
    assert cleaned(mixed.encode("gbk").decode("latin-1"), repair=True) == mixed


def test_without_it_nothing_is_mended():
    wrong = "Grüße".encode().decode("latin-1")
    assert cleaned(wrong, strip_control=False) == wrong


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        CHINESE,
        "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
        "re.compile('[À-ÖØ-öø-ÿ]+')  # Latin-1 letters: °±²³´µ¶·¸¹º»¼½¾¿",
        "CAFÉ» et «ÉTÉ», ±5°, §§ 3–4, ½¼¾, ÑANDÚ, São Paulo «não»",
        "Þetta er íslenskur texti með öllum stöfum: æöðþ ÁÉÍÓÚÝÞÆÖ",
        "x = {'ü': 1, \"ß\": '×'}  # naïve",
        "👨‍👩‍👧‍👦🏳️‍🌈 emoji, ✓ √ ∑ → ≤",
        "Ελληνικά, русский, עברית, العربية, हिन्दी, ไทย, 한국어",
    ],
)
def test_good_text_is_not_mended(text):
    assert clean.repair(text) == text


GOOD = st.one_of(
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=40),
    st.text(st.sampled_from("的一是在不了有和人这中大为上，。！？“”《》、；：……——　１Ａ"), max_size=40),
    st.text(st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF), max_size=10),
    st.text(st.sampled_from("def f(x): return {'a': [1, 2]}; // <T> && !=\n\t\"#$%^*~`|@éüñ"), max_size=80),
)


@given(parts=st.lists(GOOD, max_size=4))
def test_clean_chinese_emoji_and_code_are_never_mended(parts):
    text = " ".join(parts)
    assert clean.repair(text) == text


# ---- width, script, spaces


def test_full_width_letters_and_digits_become_half_width():
    text = "ＡＢＣｘｙｚ０１９，。！？（）：；％＋　「」～Ａ4"
    assert cleaned(text, width="half") == "ABCxyz019，。！？（）：；％＋　「」～A4"
    assert cleaned(text) == text


def test_chinese_changes_its_script_by_phrases():
    assert cleaned("頭髮發現，乾隆乾燥，皇后後來", script="simplified") == "头发发现，乾隆干燥，皇后后来"
    assert cleaned("头发发现，乾隆干燥，皇后后来", script="traditional") == "頭髮發現，乾隆乾燥，皇后後來"
    assert cleaned("頭\ud800 abc", script="simplified") == "头\ufffd abc"


def test_spaces_collapse_and_indents_stay():
    text = "a  \n\n\n \t\n\nb \u3000\n    indented\n\n  c\u00a0"
    assert cleaned(text, spaces="collapse") == "a\n\nb\n    indented\n\n  c"
    assert cleaned(text) == text
    assert clean.collapse_spaces("a\n\nb\n") == "a\n\nb\n"
    assert len(clean.collapse_spaces((" " * 1000 + "x") * 2000)) == 2_002_000  # in no time: no line ends here


# ---- boilerplate


@pytest.mark.parametrize(
    "line",
    [
        "We use cookies to improve your experience. By continuing you accept this.",
        "Accept all cookies",
        "Please enable JavaScript to view this page.",
        "© 2024 Example Inc. All rights reserved.",
        "Copyright © 1999-2008 Example",
        "Privacy Policy",
        "  Terms of Service  ",
        "Skip to main content",
        "Share this on Facebook",
        "Subscribe to our newsletter for news",
        "Home | About | Contact",
        "Home » Products » Shoes",
        "首页 > 新闻 > 体育",
        "版权所有 © 2020 某某公司",
        "京ICP备12345678号-1",
        "责任编辑：王小明",
        "上一篇：没有了",
        "分享到微信",
        "返回顶部",
    ],
)
def test_boilerplate_lines_go(line):
    assert clean.without_boilerplate(f"first\n{line}\nlast") == "first\nlast"
    assert clean.without_boilerplate(line) == ""
    assert clean.without_boilerplate(f"first\n\n{line}") == "first\n\n"
    assert cleaned(f"first\n{line}\nlast") == f"first\n{line}\nlast"


@pytest.mark.parametrize(
    "line",
    [
        "She baked cookies for the policy meeting.",
        "JavaScript is a language with which pages are programmed.",
        "| Home | 3 | 4 |",
        "cat a.txt | sort | uniq",
        "He asked to share this secret; all rights of the people were reserved to him.",
        "The copyright of the work lies with the author, who died in 1950.",
        "x = a / b / c",
        "他编辑：把这一页改好，再分享给我们。",
        "房间很好，服务也好。我们还会再来。免费注册 关于我们 all rights reserved.",
        "He went home / and there he stayed / about noon.",
        "上一篇文章里我说过，这不是真的。",
        "In the terms of the treaty, privacy is a right.",
    ],
)
def test_prose_about_such_things_stays(line):
    text = f"first\n{line}\nlast"
    assert clean.without_boilerplate(text) == text


def test_a_long_line_is_prose():
    line = "All rights reserved. " + "word " * 70
    assert clean.without_boilerplate(line) == line


@given(text=TEXT, line=st.sampled_from(["Accept cookies", "返回顶部", "Home | News | Contact us"]))
def test_boilerplate_takes_whole_lines_only(text, line):
    kept = clean.without_boilerplate(text).split("\n")
    assert [part for part in text.split("\n") if part in kept] == [p for p in kept if p in text.split("\n")]
    assert line not in clean.without_boilerplate(f"{text}\n{line}\nend").split("\n")


def test_new_steps_say_whether_they_lose_something():
    every = CleanSettings(repair=True, boilerplate=True, width="half", script="simplified", spaces="collapse")
    names = [step.name for step in clean.steps(every)]
    assert names.index("repair") < names.index("line ends") < names.index("control characters")
    assert [step.name for step in clean.steps(every) if step.lossy] == [
        "invalid characters",
        "script",
        "boilerplate",
    ]


@pytest.mark.parametrize("setting", [{"repair": True}, {"script": "simplified"}])
def test_a_package_that_is_missing_is_named(setting, monkeypatch):
    import sys

    from telos.data import _repair
    from telos.errors import ConfigError

    monkeypatch.setitem(sys.modules, "ftfy", None)
    monkeypatch.setitem(sys.modules, "opencc", None)
    for cached in (_repair._fix, _repair._converter):
        cached.cache_clear()
    with pytest.raises(ConfigError, match="pip install 'telos-lm"):
        clean.steps(CleanSettings(**setting))

"""Filters: every rule at both sides of its limit, on text made for it."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from telos.batch import Document
from telos.config import read
from telos.data.filters._base import Filter, sampled
from telos.data.filters._ngrams import Ngrams
from telos.data.filters._words import Words
from telos.data.filters.chinese import Chinese
from telos.data.filters.language import Language
from telos.data.filters.length import Length
from telos.data.filters.perplexity import Perplexity
from telos.data.filters.python import Python
from telos.data.filters.repetition import DUPLICATED, TOP, Repetition
from telos.data.filters.stop_words import StopWords
from telos.data.filters.symbols import Symbols
from telos.errors import ConfigError, DataError

ENGLISH = (
    "It was the best of times, and we have to say that it was also the worst. People went about their work "
    "with great care; nobody could be sure what the next day would bring to the old town by the sea."
)
CHINESE = "今天的天气很好，我们去公园玩了一会儿，然后就回家了。他说这是他最喜欢的地方，因为这里有很多树和花。"


def judged(filter: Filter, text: str) -> str | None:
    return filter.judge(Document(text=text, id="a.txt:1"), text)


def numbered(count: int) -> list[str]:
    """Different words."""
    return [f"word{number}" for number in range(count)]


# ---- words


def split(text: str) -> list[str]:
    words = Words(text)
    return [text[a:b] for a, b in zip(words.starts, words.ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!  don't (stop) \n", ["Hello,", "world!", "don't", "(stop)"]),
        ("我们去Python，好吗？", ["我", "们", "去", "Python，", "好", "吗？"]),
        ("《红楼梦》 abc好。def", ["《红", "楼", "梦》", "abc", "好。", "def"]),
        ("日本語のテスト", list("日本語のテスト")),
        ("한국어 문장", ["한국어", "문장"]),
        ("", []),
        (" \n\t\u3000", []),
        ("。", ["。"]),
    ],
)
def test_words(text, words):
    assert split(text) == words
    assert len(Words(text)) == len(words)


@given(text=st.text(st.sampled_from("ab1 \n.，的了😀\ud800é\0"), max_size=40))
def test_words_hold_every_character_that_is_not_blank(text):
    assert "".join(split(text)) == "".join(text.split())


@given(words=st.lists(st.text(st.sampled_from("ab的é😀"), min_size=1, max_size=70), min_size=1, max_size=8))
def test_hashes_are_equal_exactly_where_words_are(words):
    text = " ".join(words)
    found, hashes = split(text), Words(text).hashes.tolist()
    assert len(set(zip(found, hashes, strict=True))) == len(set(found)) == len(set(hashes))


def test_long_words_are_told_apart_to_the_last_character():
    for size in (8, 9, 16, 17, 64, 65, 5000):
        text = f"{'x' * size}a {'x' * size}b {'x' * size}a"
        one, two, three = Words(text).hashes
        assert one == three != two
        one, two, three = Words(text.replace("x", "é")).hashes
        assert one == three != two


# ---- length


def test_length_in_words():
    rule = Length(least_words=3, most_words=5)
    assert judged(rule, "one two") == "length: few words"
    assert judged(rule, "one two three") is None
    assert judged(rule, "one two three four five") is None
    assert judged(rule, "one two three four five six") == "length: many words"
    assert judged(rule, "两字") == "length: few words"
    assert judged(rule, "三个字") is None


def test_length_in_characters():
    rule = Length(least_words=0, most_words=0, least_characters=3, most_characters=5)
    assert [judged(rule, "x" * n) for n in (2, 3, 5, 6)] == [
        "length: few characters",
        None,
        None,
        "length: many characters",
    ]


def test_lengths_are_gophers():
    assert judged(Length(), " ".join(numbered(49))) == "length: few words"
    assert judged(Length(), " ".join(numbered(50))) is None
    assert judged(Length(), "a " * 100_000) is None
    assert judged(Length(), "a " * 100_001) == "length: many words"


def test_limits_that_keep_nothing_are_refused():
    with pytest.raises(ConfigError, match="least_words is more than most_words"):
        read(Length, {"least_words": 10, "most_words": 5})
    with pytest.raises(ConfigError, match="shortest is more than longest"):
        read(Symbols, {"shortest": 11.0})


# ---- repetition


OFF = {
    "lines": 1.0,
    "line_characters": 1.0,
    "paragraphs": 1.0,
    "paragraph_characters": 1.0,
    "top": (1.0,) * 3,
    "duplicated": (1.0,) * 6,
}


def only(**limits) -> Repetition:
    return Repetition(**{**OFF, **limits})


def test_duplicate_lines():
    """Three of ten lines came before; and 12 of the 40 + 9 characters."""
    text = "\n".join(["aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "gggg", "aaaa", "aaaa", "bbbb"])
    assert judged(only(lines=0.3), text) is None
    assert judged(only(lines=0.29), text) == "repetition: lines"
    assert judged(only(line_characters=12 / 49), text) is None
    assert judged(only(line_characters=11.9 / 49), text) == "repetition: lines"
    assert judged(only(lines=0.0, line_characters=0.0), "a\n\n\nb\n \n\nc") is None  # blank lines are none


def test_duplicate_paragraphs():
    text = "one\ntwo\n\nthree\n\none\ntwo\n\nfour"
    assert judged(only(paragraphs=0.25), text) is None
    assert judged(only(paragraphs=0.24), text) == "repetition: paragraphs"
    assert judged(only(paragraph_characters=7 / len(text)), text) is None
    assert judged(only(paragraph_characters=6.9 / len(text)), text) == "repetition: paragraphs"


@pytest.mark.parametrize("n", TOP)
def test_most_frequent_phrase(n):
    """`x1 … xn` three times among words that come once: 3 · (3n − 1) characters."""
    phrase, others = " ".join(f"x{i}" for i in range(n)), numbered(6)
    text = " ".join([*others[:2], phrase, *others[2:4], phrase, *others[4:], phrase])
    share = 3 * (3 * n - 1) / len(text)
    off = [1.0, 1.0, 1.0]
    off[n - 2] = share
    assert judged(only(top=tuple(off)), text) is None
    off[n - 2] = share - 1e-9
    assert judged(only(top=tuple(off)), text) == f"repetition: top {n}-gram"


def test_a_phrase_that_comes_once_is_no_repetition():
    assert judged(only(top=(0.0, 0.0, 0.0)), "only three words") is None


@pytest.mark.parametrize("n", DUPLICATED)
def test_duplicate_phrases(n):
    """n words come again at the end, each with its blank: each character counts once."""
    first = [f"y{i}" for i in range(n)]
    text = " ".join([*first, *numbered(20), *first])
    share = (3 * n - 1) / len(text)
    limits = [1.0] * 6
    limits[n - 5] = share
    assert judged(only(duplicated=tuple(limits)), text) is None
    limits[n - 5] = share - 1e-9
    assert judged(only(duplicated=tuple(limits)), text) == f"repetition: duplicate {n}-grams"
    limits = [1.0] * 6
    if n < 10:
        limits[n - 4] = 0.0  # longer ones there are none
        assert judged(only(duplicated=tuple(limits)), text) is None


def test_repetition_of_chinese_is_in_characters():
    text = CHINESE + "我们去公园玩了一会儿" * 4
    assert judged(Repetition(), text) is not None
    assert judged(Repetition(), CHINESE) is None


def test_ordinary_text_is_kept_and_a_looping_text_is_not():
    assert judged(Repetition(), ENGLISH) is None
    assert judged(Repetition(), "Buy now and save. " * 50) == "repetition: top 2-gram"


def slowly(rule: Repetition, text: str) -> str | None:
    """The same rules about phrases, word by word."""
    words = Words(text)
    places = list(zip(words.starts.tolist(), words.ends.tolist(), strict=True))
    texts, size = [text[a:b] for a, b in places], len(text)
    nexts = [*(a for a, _ in places[1:]), size]
    for n in range(2, 11):
        seen: dict[tuple[str, ...], int] = {}
        counts: dict[tuple[str, ...], list[int]] = {}
        covered: set[int] = set()
        for i in range(len(texts) - n + 1):
            phrase = tuple(texts[i : i + n])
            counts.setdefault(phrase, []).append(places[i + n - 1][1] - places[i][0])
            if phrase in seen:
                covered |= set(range(i, i + n))
            seen.setdefault(phrase, i)
        most = max(map(len, counts.values()), default=0)
        if n in TOP and most > 1:
            lengths = next(lengths for lengths in counts.values() if len(lengths) == most)
            if min(most * lengths[0], size) / size > rule.top[n - 2]:
                return f"repetition: top {n}-gram"
        if n in DUPLICATED and size:
            characters = sum(nexts[i] - places[i][0] for i in covered)
            if characters / size > rule.duplicated[n - 5]:
                return f"repetition: duplicate {n}-grams"
    return None


@settings(max_examples=300)
@given(
    words=st.lists(st.sampled_from(["a", "bb", "ccc,", "的", "了", "d", "e", "f"]), max_size=60),
    limits=st.lists(st.floats(0, 0.6), min_size=9, max_size=9),
)
@example(words=["a"] * 12, limits=[1.0] * 9)
@example(words=[*numbered(10), "x", "y", *numbered(10)], limits=[1.0] * 8 + [0.05])
@example(words=["d", "e", "x1", "ccc,", "bb", "y1", "d", "e", "z1", "ccc,", "bb"], limits=[0.3] + [1.0] * 8)
def test_fast_and_slow_rules_agree(words, limits):
    rule = only(top=tuple(limits[:3]), duplicated=tuple(limits[3:]))
    text = " ".join(words)
    assert judged(rule, text) == slowly(rule, text)


def test_fast_and_slow_rules_agree_near_the_limits():
    """Text of a book's kind with phrases put in again: Gopher's own limits."""
    rng, verdicts = random.Random(0), set()
    rule = only(top=Repetition().top, duplicated=Repetition().duplicated)
    for _ in range(150):
        words = [f"w{int(rng.paretovariate(0.5)) % 500}" for _ in range(200)]
        start, length = rng.randrange(150), rng.randrange(2, 30)
        for _ in range(rng.randrange(6)):
            place = rng.randrange(200)
            words[place:place] = words[start : start + length]
        text = " ".join(words)
        verdicts.add(judged(rule, text))
        assert judged(rule, text) == slowly(rule, text)
    assert {None} < verdicts


# ---- symbols


LOOSE = {"hashes": 9.0, "ellipses": 9.0, "bullet_lines": 1.0, "ellipsis_lines": 1.0, "letters": 0.0}
LOOSE |= {"shortest": 0.0, "longest": 1e9}


@pytest.mark.parametrize(
    ("limits", "kept", "dropped", "why"),
    [
        ({"hashes": 0.1}, "#1 " + "w " * 9, "#1 # " + "w " * 9, "hashes"),
        ({"ellipses": 0.1}, "a… " + "w " * 9, "a… b... " + "w " * 9, "ellipses"),
        ({"ellipses": 0.1}, "好……" + "字" * 9, "好……不。。。" + "字" * 9, "ellipses"),
        ({"bullet_lines": 0.5}, "- a\nb\n\n", "- a\n* b\nc", "bullet lines"),
        ({"bullet_lines": 0.5}, "-5\n-6\n**a**", "• a\n  ● b\nc", "bullet lines"),
        ({"ellipsis_lines": 0.5}, "a...\nb\n", "a...\nb… \nc", "ellipsis lines"),
        ({"ellipsis_lines": 0.5}, "一…… \n二\n", "一……\n二。。。\n三", "ellipsis lines"),
        ({"letters": 0.8}, "a b c d 5", "a b c d 5 =", "few letters"),
        ({"letters": 0.8}, "一，二。a 丁 5", "一二三四 5 %", "few letters"),
        ({"shortest": 3.0}, "abc ab abcd", "abc ab abc", "short words"),
        ({"longest": 10.0}, "abcdefghij a2345678901 b23456789", "abcdefghij a2345678901", "long words"),
    ],
)
def test_symbols(limits, kept, dropped, why):
    rule = Symbols(**{**LOOSE, **limits})
    assert judged(rule, kept) is None
    assert judged(rule, dropped) == f"symbols: {why}"


def test_symbols_by_default():
    assert judged(Symbols(), ENGLISH) is None
    assert judged(Symbols(), CHINESE) is None  # where words are characters their length says nothing
    assert judged(Symbols(), " \n") == "symbols: no words"


# ---- stop words


def test_stop_words():
    rule = StopWords(languages=("en",))
    assert judged(rule, "The dog, the cat, the cow.") == "stop words: too few"
    assert judged(rule, "THE dog of war") is None
    assert judged(rule, "theory often bees") == "stop words: too few"  # whole words only
    assert judged(StopWords(languages=("en",), least=3), "the dog of war") is not None


def test_stop_words_of_chinese_stand_within_characters():
    rule = StopWords(languages=("zh",))
    assert judged(rule, "好看的书") == "stop words: too few"
    assert judged(rule, "我的书") is None
    assert judged(StopWords(languages=("lzh",)), "學而時習之，不亦說乎") is None
    assert judged(StopWords(languages=("en", "zh")), "我的书") is None


def test_stop_words_of_your_own():
    rule = StopWords(words=("def", "return"))
    assert judged(rule, "def f(): return 1") is None
    assert judged(rule, "The end of the defence, to return") == "stop words: too few"


def test_stop_words_that_are_not_known_are_refused():
    with pytest.raises(ConfigError, match="no function words of 'xx'"):
        read(StopWords, {"languages": ["xx"]})
    with pytest.raises(ConfigError, match="2 different words cannot be found where there are 1"):
        read(StopWords, {"words": ["the"]})


# ---- language


def test_language():
    assert judged(Language(wanted=("en",)), ENGLISH) is None
    assert judged(Language(wanted=("en",)), CHINESE) == "language: zh"
    assert judged(Language(wanted=("de", "zh")), CHINESE) is None
    assert judged(Language(), ENGLISH) is None
    assert judged(Language(), "12 34 56 = ?") == "language: not sure"
    assert judged(Language(confidence=1.0), ENGLISH + CHINESE) == "language: not sure"


def test_the_language_is_put_on_the_document():
    document = Document(text=CHINESE, id="a")
    assert Language().mark(document, CHINESE).language == "zh"
    assert Length().mark(document, CHINESE) is document


def test_language_looks_at_more_than_the_beginning():
    text = "Table of contents and the title of it. " + CHINESE * 40
    assert judged(Language(wanted=("zh",), characters=400), text) is None


def test_language_codes_are_checked():
    with pytest.raises(ConfigError, match="'English' is not a code of ISO 639"):
        read(Language, {"wanted": ["English"]})


def test_pieces_reach_from_the_beginning_to_the_end():
    text = "".join(chr(0x4E00 + n) for n in range(1000))
    assert sampled(text, 1000) == text
    pieces = sampled(text, 40).split("\n")
    assert [len(piece) for piece in pieces] == [10] * 4
    assert text.startswith(pieces[0])
    assert text.endswith(pieces[-1])


# ---- Chinese


def test_share_of_chinese_characters():
    rule = Chinese(han=0.5)
    assert judged(rule, "汉字ab") is None
    assert judged(rule, "汉字abc") == "chinese: few Chinese characters"
    assert judged(rule, "漢字とかな") == "chinese: few Chinese characters"  # kana are none
    assert judged(rule, "𠀀㐀ab") is None  # rare ones are


@pytest.mark.parametrize("garbage", ["\ufffd\ufffd", "锟斤拷锟斤拷", "烫烫烫", "\ue000\ue001", "\x90\x91"])
def test_garbled_chinese(garbage):
    assert judged(Chinese(), CHINESE) is None
    assert judged(Chinese(), CHINESE + garbage) == "chinese: garbled"
    assert judged(Chinese(garbled=0.5), CHINESE + garbage) is None


def test_utf8_read_as_gbk_is_garbled():
    text = CHINESE.encode().decode("gbk", "replace")
    assert judged(Chinese(garbled=0.9), text) == "chinese: garbled"
    assert judged(Chinese(), "这条鏈接在横浜，汤很烫，屯田制，锟铻剑。" + CHINESE) is None


def test_full_width_letters():
    assert judged(Chinese(wide=0.5), "汉字ＡＢ") is None
    assert judged(Chinese(wide=0.5, han=0.1), "汉字ＡＢ１") == "chinese: full-width"
    assert judged(Chinese(wide=0.0), "汉字，好。！（）") is None


# ---- perplexity


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """Text of a small grammar, 60,000 characters."""
    rng = random.Random(0)
    who, does = (
        ["the old man", "a young girl", "my brother", "the captain"],
        ["saw", "sold", "painted", "left"],
    )
    what = ["the house by the river", "an old book", "a ship in the harbour", "the letter from town"]
    lines = [f"{rng.choice(who)} {rng.choice(does)} {rng.choice(what)}." for _ in range(1500)]
    path = tmp_path_factory.mktemp("reference") / "good.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_perplexity(reference):
    rule = Perplexity(reference=reference)
    least, most = rule.limits()
    good = "my brother painted the letter from town.\nthe captain sold an old book.\n" * 2
    assert least < rule.perplexity(good) < most
    assert judged(rule, good) is None
    assert judged(rule, "xq7 zzv kw§ pjf 9#k qqv wxy zkj") == "perplexity: high"
    assert judged(rule, "从前有座山，山上有座庙。") == "perplexity: high"
    assert judged(rule, "the the the the the the the") is not None
    value = rule.perplexity(good)
    assert judged(Perplexity(reference=reference, most=value * 1.001, least=value / 1.001), good) is None
    assert judged(Perplexity(reference=reference, most=value / 1.001, least=1.0), good) == "perplexity: high"
    assert judged(Perplexity(reference=reference, least=value * 1.001), good) == "perplexity: low"


def test_a_changed_reference_changes_digest_and_model(reference, tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "a.md").write_bytes(reference.read_bytes())
    rule = Perplexity(reference=path)
    before, value = rule.digest(), rule.perplexity("an old book")
    assert before and before == rule.digest()
    (path / "b.txt").write_text("Quite other things stand here, 1234. " * 900)
    assert rule.digest() != before
    assert rule.perplexity("Quite other things stand here") < 0.5 * value * 100
    assert rule.perplexity("an old book") != value


def test_a_reference_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.txt: there is no text here"):
        Perplexity(reference=tmp_path / "missing.txt").ready()
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(ConfigError, match=r"short\.txt: 9 characters are too few"):
        Perplexity(reference=tmp_path / "short.txt").ready()


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_of_all_next_characters_sum_to_one(order):
    model = Ngrams("abracadabra, abba and barbara " * 40, order)
    alphabet = [*sorted(set("abracadabra, abba and barbara ")), "?"]  # one for all that is not known
    for context in ("", "a", "ab", "abra", "bbbb", "??", "r?a", "nd ba"):
        total = sum(math.exp(model.log_probabilities(context + c)[-1]) for c in alphabet)
        assert total == pytest.approx(1, abs=1e-5), context


def test_kneser_ney_by_hand():
    """`aab` once more: order 2. Bigrams aa, ab; both once, so D = 0.5 (no bigram comes twice).

    Continuation counts: a after a (1; the first `a` has nothing before it), b after a (1).
    p(·) = (1 − D)/2 + D·2/2 · 1/3, the uniform over a, b and one more = 0.25 + 0.5/3.
    p(b | a) = (1 − D)/2 + D·2/2 · p(b).
    """
    model = Ngrams("aab", 2)
    alone = 0.25 + 0.5 / 3
    after = 0.25 + 0.5 * alone
    found = np.exp(model.log_probabilities("ab?"))
    assert found == pytest.approx([alone, after, 0.5 / 3], rel=1e-5)


# ---- a function of one's own


def own(tmp_path: Path, code: str, **given) -> Python:
    path = tmp_path / "rule.py"
    path.write_text(code, encoding="utf-8")
    rule = Python(file=path, **given)
    rule.digest()  # as at the beginning of every preparation: the file is looked at again
    return rule


def test_a_function_of_your_own(tmp_path):
    rule = own(tmp_path, "def keep(text):\n    return len(text) > 3\n")
    assert judged(rule, "abcd") is None
    assert judged(rule, "abc") == "python: keep"
    rule = own(
        tmp_path,
        "def f(text, document):\n    return True if document.id[0] == 'a' else 'not  a'\n",
        function="f",
    )
    rule.ready()
    assert judged(rule, "x") is None
    assert rule.judge(Document(text="x", id="b"), "x") == "python: not a"


def test_an_error_in_it_names_line_and_document(tmp_path):
    rule = own(tmp_path, "def keep(text):\n    part = text.split()\n    return part[9] == 'x'\n")
    with pytest.raises(DataError, match=r"rule\.py:3: IndexError: .*at document a\.txt:1\)"):
        judged(rule, "short")
    for answer in ("None", "1", "''"):
        with pytest.raises(DataError, match=rf"keep returned {answer} for document a\.txt:1"):
            judged(own(tmp_path, f"def keep(text):\n    return {answer}\n"), "x")


def test_a_file_that_cannot_be_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"rule\.py:2: the file cannot be run: SyntaxError"):
        own(tmp_path, "x = 1\ndef keep(text) return\n").ready()
    with pytest.raises(ConfigError, match=r"rule\.py:1: the file cannot be run: ZeroDivisionError"):
        own(tmp_path, "x = 1 / 0\n").ready()
    with pytest.raises(ConfigError, match=r"there is no function 'keep'; there are: other\."):
        own(tmp_path, "def other(text): ...\n").ready()
    with pytest.raises(ConfigError, match="must take the text"):
        own(tmp_path, "def keep(): ...\n").ready()
    with pytest.raises(ConfigError, match=r"missing\.py: cannot be read"):
        Python(file=tmp_path / "missing.py").ready()


def test_a_changed_file_changes_digest_and_verdict(tmp_path):
    rule = own(tmp_path, "def keep(text):\n    return True\n")
    before = rule.digest()
    assert judged(rule, "x") is None
    own(tmp_path, "def keep(text):\n    return False\n")
    assert rule.digest() != before
    assert judged(rule, "x") == "python: keep"

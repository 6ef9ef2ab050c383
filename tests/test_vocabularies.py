"""Vocabularies beside each other: figures that can be counted by hand, of text they have not seen."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telos import vocabularies
from telos.errors import ConfigError, DataError
from telos.run import load_recipe
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from telos.vocabularies import KINDS, Measured, asked, compare_vocabularies, measure, sample_of
from tests.small import write_texts
from tests.test_cli import Telos, telos  # noqa: F401

TEXT = "The cats don't sit,\nnaïve Ａ1！ 床前明月光。\n"
"""Words: The, cats, don't, sit, naïve, Ａ1; five Chinese characters."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("vocabularies") / "texts")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabularies, "SECONDS", 0.0)


def measured(kind: str, held_out: list[str], train: list[str] | None = None, size: int = 600) -> Measured:
    settings = TokenizerSettings(kind=kind, size=size)
    tokenizer = train_tokenizer(settings, iter(train or held_out))
    return measure(tokenizer, vocabularies._Text(held_out), settings, 10, 1.0)


def test_words_and_chinese_characters_are_counted() -> None:
    text = vocabularies._Text([TEXT, "", "'a' o'", "…"])
    assert (text.words, text.han, text.characters) == (6 + 2, 5, len(TEXT) + 7)
    assert text.bytes == len(TEXT.encode()) + 6 + 3


@pytest.mark.usefixtures("quick")
def test_figures_of_bytes_and_characters_are_those_counted_by_hand() -> None:
    """Every token is one byte, or one character: nothing is left to the vocabulary."""
    by_byte, by_character = measured("byte", [TEXT]), measured("character", [TEXT])
    letters = [*"The", *"cats", *"don't", *"sit", *"naïve", *"Ａ1"]
    assert by_byte.tokens_per_word == pytest.approx(len("".join(letters).encode()) / 6, abs=1e-5)
    assert by_character.tokens_per_word == pytest.approx(len(letters) / 6, abs=1e-5)
    assert (by_byte.tokens_per_han, by_character.tokens_per_han) == (3.0, 1.0)
    assert (by_byte.bytes_per_token, by_character.characters_per_token) == (1.0, 1.0)
    assert by_character.bytes_per_token == pytest.approx(len(TEXT.encode()) / len(TEXT), abs=1e-5)
    assert by_character.scripts["Han"] == 3.0 and by_byte.scripts["Han"] == by_byte.scripts["Latin"] == 1.0
    assert by_byte.tokens == len(TEXT.encode()) and by_byte.embedding == (256 + 5) * 10
    assert by_byte.unused == pytest.approx(1 - len(set(TEXT.encode())) / 256, abs=1e-5)
    assert by_character.unused == pytest.approx(1 / (1 + len(set(TEXT))), abs=1e-5), "only the unknown one"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lost_is_measured(kind: str) -> None:
    """By what comes back, line for line; a vocabulary that loses nothing shows nothing."""
    train, held_out = ["the cat sat\nthe dog\n"] * 9, ["the cat sat\nthe ox\n", "the dog\n"]
    found = measured(kind, held_out, train)
    if found.lossless:
        assert (found.documents_lost, found.bytes_lost, found.unknown) == (0, 0, 0)
        return
    lines = sum(len(text.replace("\n", "")) for text in held_out)
    assert found.documents_lost == (1.0 if kind == "word" else 0.5)  # a word has no blank before a line end
    lost = {"word": lines, "character": len("the ox")}[kind]
    assert found.bytes_lost == pytest.approx(lost / sum(map(len, held_out)), abs=1e-5)
    assert found.unknown > 0


def test_lines_that_do_not_come_back_are_counted() -> None:
    assert vocabularies._lost("a\nbc\nd", "a\nbc\nd") == 0
    assert vocabularies._lost("a\n月c\nd", "a\n?c\nd") == 4
    assert vocabularies._lost("a\nbc", "abc") == 4
    assert vocabularies._lost("\n", " \n") == 1, "an empty line that changed is not nothing"


@pytest.mark.usefixtures("quick")
def test_fertility_counts_a_token_for_every_word_it_is_of() -> None:
    """Frequent words are one token with their blank; a rare one is several."""
    train = ["the cat sat on the mat and the cat sat\n"] * 20
    found = measured("bpe", ["the cat sat xylograph"], train, size=400)
    tokenizer = train_tokenizer(TokenizerSettings(kind="bpe", size=400), iter(train))
    pieces = [tokenizer.token_bytes(id) for id in tokenizer.encode("the cat sat xylograph")]
    of_words = [piece for piece in pieces if piece.strip()]
    assert len(of_words) > 4 and b" sat" in of_words
    assert found.tokens_per_word == pytest.approx(len(of_words) / 4, abs=1e-5)
    assert found.tokens_per_han is None
    assert measured("bpe", ["床前明月光"], size=300).tokens_per_word is None


def test_the_sample_is_of_the_right_splits(texts: Path) -> None:
    """Trap 53: learned from the train split alone, as preparation does; measured on other documents; the test
    split stays unseen where there is another."""
    from telos.data.prepare import prepare

    recipe = load_recipe(texts)
    sample = sample_of(recipe)
    assert sample.split == "validation" and not set(sample.train) & set(sample.held_out)
    prepared = prepare(recipe.data, recipe.tokenizer, texts.parent / "prepared")
    tokenizer = prepared.tokenizer
    assert train_tokenizer(recipe.tokenizer, iter(sample.train)).hash == tokenizer.hash
    splits = {
        name: [tokenizer.decode(each) for each in _documents(prepared.shards(name))]
        for name in ("train", "validation", "test")
    }
    assert sorted(sample.held_out) == sorted(splits["validation"])
    assert set(sample.train) == set(splits["train"])
    only_test = load_recipe(texts, ["data.split.validation=0"])
    assert sample_of(only_test).split == "test"


def _documents(shards: Any) -> list[np.ndarray]:
    return [shards.ids[begin:end] for begin, end in zip(shards.offsets, shards.offsets[1:], strict=False)]


def test_a_large_held_out_part_is_drawn_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not its beginning: files of one language come first, and others last."""
    write_texts(tmp_path / "texts" / "a", 60)
    write_texts(tmp_path / "texts" / "b", 60, first=1000)
    recipe = load_recipe(tmp_path / "texts", ["data.split.validation=0.5"])
    whole = sample_of(recipe).held_out
    total = sum(len(text.encode()) for text in whole)
    monkeypatch.setattr(vocabularies, "HELD_OUT", total // 3)
    some = sample_of(recipe).held_out
    assert set(some) < set(whole) and total / 10 < sum(len(text.encode()) for text in some) < total / 1.5
    places = [whole.index(text) for text in some]
    assert min(places) < len(whole) / 3 and max(places) > 2 * len(whole) / 3
    monkeypatch.setattr(vocabularies, "HELD_OUT", 1)
    assert len(sample_of(recipe).held_out) >= 1


@pytest.mark.usefixtures("quick")
def test_all_kinds_side_by_side(texts: Path) -> None:
    told: list[tuple[str, int, int]] = []
    recipe = load_recipe(texts, ["model.width=96"])
    found = compare_vocabularies(recipe, sizes=[600, 700], progress=lambda *given: told.append(given))
    names = [each.name for each in found.vocabularies]
    assert names == [
        *("bpe 600", "bpe 700", "unigram 600", "unigram 700", "wordpiece 600", "wordpiece 700"),
        *("byte", "character", "word 600", "word 700"),
    ]
    assert [name for name, _, _ in told] == ["reading the text", *names] and told[-1][1:] == (9, 10)
    for each in found.vocabularies:
        assert each.embedding == each.size * 96 and each.encode_rate > 0 and each.train_seconds is not None
        assert each.asked in (None, 600, 700) and each.tokens > 0
        assert each.documents_lost == 0 or not each.lossless
    by_name = {each.name: each for each in found.vocabularies}
    assert by_name["bpe 600"].bytes_per_token > by_name["byte"].bytes_per_token
    assert json.loads(json.dumps(found.table()))["vocabularies"][0]["name"] == "bpe 600"


@pytest.mark.usefixtures("quick")
def test_tables_are_markdown_with_a_row_for_each(texts: Path) -> None:
    found = compare_vocabularies(load_recipe(texts), ["bpe", "word"], [600])
    text = found.markdown()
    assert text.count("## ") == 4 and text.count("| bpe 600 ") == text.count("| word 600 ") == 4
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
        assert len({len(line) for line in table.splitlines()}) == 1, (
            "as wide as its column, in a terminal too"
        )
    assert "Fewest tokens, where every text comes back: bpe 600" in text
    assert "of 600" in text, "the words of so little text are fewer"


@pytest.mark.usefixtures("quick")
def test_existing_vocabularies_are_measured_beside_them(texts: Path, tmp_path: Path) -> None:
    other: Tokenizer = train_tokenizer(TokenizerSettings(kind="bpe", size=300), iter(["abc"]))
    (tmp_path / "mine").mkdir()
    other.save(tmp_path / "mine" / "tokenizer.json")
    other.save(tmp_path / "theirs.json")
    recipe = load_recipe(texts, [f"tokenizer.path={tmp_path / 'mine' / 'tokenizer.json'}"])
    found = compare_vocabularies(recipe, ["byte"], files=[tmp_path / "theirs.json"])
    assert [each.name for each in found.vocabularies] == ["byte", "mine", "theirs"]
    assert [each.train_seconds is None for each in found.vocabularies] == [False, True, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda recipe: compare_vocabularies(recipe, ["wrd"]), "Did you mean 'word'?"),
        (lambda recipe: compare_vocabularies(recipe, ["wordpiece"], [300]), "must be at least 516"),
        (lambda recipe: asked("bpe", "2k"), "whole numbers divided by commas"),
        (lambda recipe: asked("bpe", ""), "whole numbers divided by commas"),
        (lambda recipe: asked("bpe", "2000", ["8000"]), r"--sizes 2000,8000\."),
        (lambda recipe: asked("bpe", "2000", ["a=1", "word"]), r"--kinds bpe,word\."),
    ],
)
def test_what_cannot_be_is_refused_before_text_is_read(
    call: Callable[[Any], Any], message: str, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabularies, "sample_of", lambda recipe: pytest.fail("the text was read"))
    with pytest.raises(ConfigError, match=message):
        call(load_recipe(texts))


def test_without_held_out_text_there_is_nothing_to_measure(texts: Path, tmp_path: Path) -> None:
    recipe = load_recipe(texts, ["data.split.validation=0", "data.split.test=0"])
    with pytest.raises(DataError, match=r"Set data\.split\.validation to a share above 0"):
        compare_vocabularies(recipe, ["byte"])
    with pytest.raises(DataError, match=r"none\.json"):
        compare_vocabularies(load_recipe(texts), ["byte"], files=[tmp_path / "none.json"])


@pytest.mark.usefixtures("quick")
def test_the_command(telos: Telos, texts: Path) -> None:  # noqa: F811
    """Tables for people, or figures as JSON and nothing else on standard output; it helps."""
    given = ("tokenizer", "compare", texts, "--kinds", "bpe,byte", "--sizes", "500,600")
    told = telos(*given, "--json")
    assert told.status == 0 and [v["name"] for v in told.json["vocabularies"]] == [
        "bpe 500",
        "bpe 600",
        "byte",
    ]
    assert "bpe 500 (0 of 3 done)" in told.err
    assert telos(*given, "model.width=96").out.count("width 96") == 1
    help = telos("tokenizer", "compare", "--help")
    assert help.status == 0 and "Example: telos tokenizer compare" in help.out
    refused = telos(*given, "700")
    assert refused.status == 2 and "--sizes 500,600,700" in refused.err and refused.out == ""

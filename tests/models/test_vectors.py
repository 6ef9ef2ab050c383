"""Embeddings that start from a file."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from telos.batch import HeadSpec
from telos.config import read
from telos.errors import ConfigError, DataError
from telos.models._base import Network, Sizes
from telos.models._initial import initialise
from telos.models._vectors import start_from_vectors, whole_words
from telos.models.gru import Gru
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer

TEXT = "the cat sat on the mat and the dog sat on the log and the cat saw the dog unquestionably " * 20
WIDTH = 4
SIZES = {"bpe": 290, "word": 0, "wordpiece": 540}


@pytest.fixture(scope="module", params=["bpe", "word", "wordpiece"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    settings = TokenizerSettings(kind=request.param, size=SIZES[request.param])
    return train_tokenizer(settings, iter([TEXT]))


def network_for(tokenizer: Tokenizer) -> Network:
    sizes = Sizes(tokenizer.size, 8, (HeadSpec(name="tokens", outputs=tokenizer.size),))
    network = read(Gru, {"embedding": WIDTH, "width": 8}).build(sizes)
    initialise(network, 0)
    return network


def test_whole_words_are_tokens_that_spell_themselves(tokenizer: Tokenizer) -> None:
    words = whole_words(tokenizer)
    assert {"the", "cat", "dog"} <= set(words.values())
    assert not set(words) & tokenizer.special_ids
    assert all(tokenizer.decode([token]).strip() == word for token, word in words.items())


@pytest.mark.parametrize("header", ["", "5 4\n"])
@pytest.mark.parametrize(("suffix", "opener"), [(".txt", open), (".gz", gzip.open), (".xz", lzma.open)])
def test_words_of_the_file_start_from_it_and_no_others(
    tokenizer: Tokenizer, header: str, suffix: str, opener: Callable, tmp_path: Path
) -> None:
    path = tmp_path / f"vectors{suffix}"
    lines = ["the 1 2 3 4", "zebra 9 9 9 9", "cat -1 0.5 1e-3 2", "the 7 7 7 7", ". . . 1 1 1 1"]
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(header + "\n".join(lines) + "\n")
    network = network_for(tokenizer)
    before = network.embedding.weight.detach().clone()
    coverage = start_from_vectors(network, tokenizer, path)
    words = whole_words(tokenizer)
    wanted = {"the": [1.0, 2, 3, 4], "cat": [-1, 0.5, 1e-3, 2]}
    for token in range(tokenizer.size):
        row = network.embedding.weight[token].detach()
        vector = wanted.get(words.get(token, ""))
        assert torch.equal(row, before[token] if vector is None else torch.tensor(vector)), token
    found = sum(word in wanted for word in words.values())
    assert (coverage.words, coverage.found) == (len(words), found)
    assert 0 < coverage.share == found / len(words) < 1


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("the 1 2 3\n", ConfigError, "have 3 numbers, and the embedding is 4 wide"),
        ("10 300\nthe 1 2 3 4\n", ConfigError, "have 300 numbers"),
        ("cat 1 2 3 4\nthe 1 2 x 4\n", DataError, ":2: wanted a word and 4 finite numbers"),
        ("cat 1 2 3 4\nthe 1 2 nan 4\n", DataError, ":2: wanted"),
        ("cat 1 2 3 4\nthe 1 2 3\n", DataError, ":2: wanted"),
        ("", ConfigError, "is empty"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tokenizer: Tokenizer, text: str, error: type[Exception], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(text)
    network = network_for(tokenizer)
    before = network.embedding.weight.detach().clone()
    with pytest.raises(error, match=said):
        start_from_vectors(network, tokenizer, path)
    assert torch.equal(network.embedding.weight, before)


def test_a_file_that_is_not_there(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(ConfigError, match=r"model\.vectors: .* cannot be read"):
            start_from_vectors(network_for(tokenizer), tokenizer, path)


def test_a_broken_archive_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "vectors.gz"
    path.write_bytes(gzip.compress(b"the 1 2 3 4\n" + np.random.default_rng(0).bytes(5000))[:-3000])
    with pytest.raises(DataError, match="broken"):
        start_from_vectors(network_for(tokenizer), tokenizer, path)

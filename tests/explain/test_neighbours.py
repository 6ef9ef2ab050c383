"""Neighbours of a word by its embedding."""

import math

import pytest
import torch

from telos.batch import HeadSpec
from telos.config import read
from telos.errors import DataError
from telos.explain.neighbours import neighbours
from telos.models._base import Network, Sizes
from telos.models._initial import initialise
from telos.models._vectors import whole_words
from telos.models.gru import Gru
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer

TEXT = "the cat sat on the mat and the dog sat on the log and the cat saw the dog unquestionably " * 20


@pytest.fixture(scope="module", params=["bpe", "word"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    settings = TokenizerSettings(kind=request.param, size=0 if request.param == "word" else 290)
    return train_tokenizer(settings, iter([TEXT]))


@pytest.fixture
def network(tokenizer: Tokenizer) -> Network:
    sizes = Sizes(tokenizer.size, 8, (HeadSpec(name="tokens", outputs=tokenizer.size),))
    made = read(Gru, {"embedding": 16, "width": 8}).build(sizes)
    initialise(made, 0)
    return made


def turn(network: Network, tokenizer: Tokenizer, word: str, angle: float) -> None:
    """Every token of `word` lies at this angle (degrees) in the plane of the first two axes; lengths do not
    matter."""
    with torch.no_grad():
        for token, name in whole_words(tokenizer).items():
            if name == word:
                row = torch.zeros(16)
                row[0], row[1] = math.cos(math.radians(angle)), math.sin(math.radians(angle))
                network.embedding.weight[token] = row * (1 + token)


def test_the_nearest_come_first_with_their_cosine(network: Network, tokenizer: Tokenizer) -> None:
    with torch.no_grad():
        network.embedding.weight.mul_(0)
        network.embedding.weight[:, 5] = 1
    for word, angle in (("the", 0), ("cat", 60), ("dog", 30), ("and", 180)):
        turn(network, tokenizer, word, angle)
    (found,) = neighbours(network, tokenizer, ["the"], 2)
    assert (found.word, found.pieces) == ("the", 1)
    assert [near.word for near in found.nearest] == ["dog", "cat"]
    assert [near.similarity for near in found.nearest] == pytest.approx([math.sqrt(3) / 2, 0.5], abs=1e-5)
    (all_of_them,) = neighbours(network, tokenizer, [" the"], 1000)
    words = [near.word for near in all_of_them.nearest]
    assert words[-1] == "and" and len(words) == len(set(words))
    assert (known(tokenizer) & set(TEXT.split())) - {"the"} <= set(words)
    assert all(f" {word}" in TEXT for word in words)
    assert neighbours(network, tokenizer, ["the"], 0)[0].nearest == ()


def known(tokenizer: Tokenizer) -> set[str]:
    return set(whole_words(tokenizer).values())


@pytest.mark.parametrize(("kind", "size"), [("bpe", 330), ("wordpiece", 560)])
def test_neighbours_are_whole_words_and_no_fragments_or_marks(kind: str, size: int) -> None:
    """What stands only at a word's end is none, nor are marks and digits; a Chinese word is one."""
    text = (
        "the width, the depth; the breadth: width 12 12 ... ... 明月 光 明月 光 明月 the Width don't\n" * 30
    )
    tokenizer = train_tokenizer(read(TokenizerSettings, {"kind": kind, "size": size}), iter([text]))
    sizes = Sizes(tokenizer.size, 8, (HeadSpec(name="tokens", outputs=tokenizer.size),))
    network = read(Gru, {"embedding": 16, "width": 8}).build(sizes)
    initialise(network, 0)
    (found,) = neighbours(network, tokenizer, ["depth"], 1000)
    words = {near.word for near in found.nearest}
    assert {"the", "width", "Width", "明月", "光"} <= words
    assert all(word.isalpha() for word in words)
    inside = {word for word in known(tokenizer) if f" {word}" not in text}
    assert inside and not inside & words


def test_in_a_chinese_vocabulary_every_chinese_token_is_a_word() -> None:
    tokenizer = train_tokenizer(TokenizerSettings(kind="bpe", size=300), iter(["明月光，疑是地上霜。" * 40]))
    sizes = Sizes(tokenizer.size, 8, (HeadSpec(name="tokens", outputs=tokenizer.size),))
    network = read(Gru, {"embedding": 16, "width": 8}).build(sizes)
    initialise(network, 0)
    (found,) = neighbours(network, tokenizer, ["霜"], 1000)
    words = {near.word for near in found.nearest}
    assert words and all(set(word) <= set("明月光疑是地上霜") for word in words)


def test_a_word_of_several_tokens_is_their_mean() -> None:
    tokenizer = train_tokenizer(TokenizerSettings(kind="byte"), iter([TEXT]))
    sizes = Sizes(tokenizer.size, 8, (HeadSpec(name="tokens", outputs=tokenizer.size),))
    network = read(Gru, {"embedding": 3, "width": 8}).build(sizes)
    with torch.no_grad():
        network.embedding.weight.copy_(torch.tensor([[0.0, 0.0, 1.0]]).expand(tokenizer.size, 3))
        network.embedding.weight[tokenizer.encode("a")[0]] = torch.tensor([1.0, 0.0, 0.0])
        network.embedding.weight[tokenizer.encode("b")[0]] = torch.tensor([0.0, 1.0, 0.0])
    (found,) = neighbours(network, tokenizer, ["ab"], 2)
    assert found.pieces == 2
    assert {near.word for near in found.nearest} == {"a", "b"}
    assert [near.similarity for near in found.nearest] == pytest.approx([math.sqrt(0.5)] * 2)


@pytest.mark.parametrize("word", ["", "  "])
def test_nothing_is_not_a_word(network: Network, tokenizer: Tokenizer, word: str) -> None:
    with pytest.raises(DataError, match="not a word"):
        neighbours(network, tokenizer, [word], 3)


def test_a_word_outside_a_word_vocabulary_is_refused() -> None:
    tokenizer = train_tokenizer(TokenizerSettings(kind="word", size=0), iter([TEXT]))
    sizes = Sizes(tokenizer.size, 8, (HeadSpec(name="tokens", outputs=tokenizer.size),))
    made = read(Gru, {"embedding": 4, "width": 4}).build(sizes)
    initialise(made, 0)
    with pytest.raises(DataError, match="zebra"):
        neighbours(made, tokenizer, ["zebra"], 3)

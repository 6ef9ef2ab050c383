"""What `next_sentence` and `sentence_order` promise: pairs whose answer nothing but their text gives away."""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telos.batch import Cut, Example, Piece
from telos.config import read
from telos.errors import ConfigError, DataError
from telos.objectives._base import Objective
from telos.objectives._pairs import whole_sentences
from telos.objectives.masked import Masked
from telos.objectives.next_sentence import NextSentence, _elsewhere
from telos.objectives.sentence_order import SentenceOrder
from telos.objectives.together import Together
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from tests.contract import world

KINDS = [NextSentence, SentenceOrder]


@cache
def vocabulary() -> Tokenizer:
    """Each character is a token."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .。春夏秋冬\n"
    return train_tokenizer(TokenizerSettings(kind="character", size=200), iter([letters]))


class Texts:
    """Documents cut into pieces of at most so many tokens, with their columns."""

    def __init__(self, *texts: str, length: int = 10_000) -> None:
        self.pieces = []
        for number, text in enumerate(texts):
            ids, word, sentence = vocabulary().encode_words(text)
            for start in range(0, len(ids), length):
                part = slice(start, start + length)
                columns = {"word_start": word[part], "sentence_start": sentence[part]}
                self.pieces.append(Piece(ids=ids[part], document=number, start=start, columns=columns))

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> Piece:
        return self.pieces[index]


def texts_of(number: int, sentences: int, *, seed: int = 0) -> list[str]:
    """Documents of sentences of 3 … 30 letters; document k is written in the letter k alone."""
    rng = np.random.default_rng(seed)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        " ".join(letters[k] * int(rng.integers(3, 31)) + "." for _ in range(sentences)) for k in range(number)
    ]


def make(objective: Objective, texts: Any, index: int = 0, seed: int = 0) -> Example:
    return objective.example(texts, index, np.random.default_rng((seed, index)), vocabulary())


def parts(example: Example) -> tuple[str, str]:
    """What stands before and after the separate token in the middle."""
    tokenizer, main = vocabulary(), example.main
    assert main.types is not None
    first, second = (main.ids[main.types == kind] for kind in (0, 1))
    assert first[0] == tokenizer.begin and first[-1] == second[-1] == tokenizer.separate
    assert not np.isin(np.concatenate([first[1:-1], second[:-1]]), list(tokenizer.special_ids)).any()
    return tokenizer.decode(first), tokenizer.decode(second)


def follows(example: Example) -> int:
    (ask,) = (ask for ask in example.asks if ask.head == "follows")
    assert ask.at.tolist() == [0] and ask.weight.tolist() == [1.0]
    return int(ask.target[0])


def test_the_examples_of_the_pages() -> None:
    texts = Texts("It rained. We went in.", "Cats purr. Dogs bark.")
    next_one = {(*parts(e), follows(e)) for s in range(40) for e in [make(NextSentence(), texts, 0, s)]}
    assert next_one == {
        ("It rained.", " We went in.", 1),
        ("It rained.", " Dogs bark.", 0),
    }
    order = {(*parts(e), follows(e)) for s in range(40) for e in [make(SentenceOrder(), texts, 0, s)]}
    assert order == {("It rained.", " We went in.", 1), (" We went in.", "It rained.", 0)}


def test_chinese_sentences_end_at_their_own_stops() -> None:
    texts = Texts("春春。夏夏夏。", "秋秋。冬冬冬。")
    seen = {(*parts(e), follows(e)) for s in range(40) for e in [make(NextSentence(), texts, 0, s)]}
    assert seen == {("春春。", "夏夏夏。", 1), ("春春。", "冬冬冬。", 0)}


@pytest.mark.parametrize("documents", [2, 3, 20])
def test_negatives_are_never_of_the_same_document_and_as_many_as_positives(documents: int) -> None:
    """Trap 12: also where one document is nearly all of the corpus; 50 ± 1 %."""
    short = texts_of(documents, 3)
    texts = Texts(short[0] * 6, *short[1:], length=60)
    answers = Counter[int]()
    for seed in range(200 // documents + 1):
        for index in range(len(texts)):
            example = make(NextSentence(), texts, index, seed)
            if example.asks:
                first, second = parts(example)
                letters = [set(part) - set(" .") for part in (first, second)]
                assert first and second
                assert not all(letters) or (letters[0] == letters[1]) == bool(follows(example))
                answers[follows(example)] += 1
    assert sum(answers.values()) > 300


@pytest.mark.parametrize("kind", KINDS)
def test_yes_and_no_are_equally_frequent(kind: Any) -> None:
    """Trap 12: 50 ± 1 %, over six thousand pairs."""
    texts = Texts("A. B.", "C. D.", "E. F.")
    total = sum(follows(make(kind(), texts, index, seed)) for seed in range(2000) for index in range(3))
    assert abs(total / 6000 - 0.5) < 0.01


def test_every_piece_of_another_document_is_equally_likely() -> None:
    texts = Texts("A" * 50, "B" * 10, "C" * 40, length=10)
    rng = np.random.default_rng(0)
    drawn = Counter(_elsewhere(texts, 2, rng) for _ in range(6000))
    assert sorted(drawn) == [0, 1, 2, 3, 4, 5]
    assert all(abs(count - 1000) < 150 for count in drawn.values())


def test_one_document_is_refused_whatever_is_drawn() -> None:
    """Trap 12: an error that says what to do, never a negative of the same document; empty documents are no
    documents, for they have no pieces."""
    for seed in range(10):
        with pytest.raises(DataError, match=r"another document.*only one.*sentence_order"):
            make(NextSentence(), Texts("A. B.", "", ""), 0, seed)
        assert make(SentenceOrder(), Texts("A. B.", ""), 0, seed).asks


def test_empty_documents_change_nothing() -> None:
    """Trap 12: they have no pieces, so they are neither asked nor taken for negatives."""
    for seed in range(30):
        example = make(NextSentence(), Texts("", "A. B.", "", "C. D.", ""), 0, seed)
        assert all(part.strip() for part in parts(example))


@pytest.mark.parametrize("kind", KINDS)
def test_blank_lines_make_no_documents(kind: Any) -> None:
    """Trap 12: what follows a blank line in its own document does follow, and half of the answers are yes."""
    texts = Texts(*(text.replace(" ", "\n\n") for text in ("A. A. A. A.", "B. B. B. B.", "C. C. C. C.")))
    answers = []
    for seed in range(1000):
        for index in range(3):
            example = make(kind(), texts, index, seed)
            answers.append(follows(example))
            first, second = (set(part) - set(" .\n") for part in parts(example))
            assert first == set("ABC"[index]) and second
            assert kind is SentenceOrder or (second == first) == bool(answers[-1])
    assert abs(np.mean(answers) - 0.5) < 0.03


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [5, 6, 9, 16, 64])
def test_pairs_fit_their_window_and_neither_is_empty(kind: Any, window: int) -> None:
    """Trap 12."""
    objective = kind()
    texts = Texts(*texts_of(5, 20), length=objective.cut(window).length)
    for index in range(len(texts)):
        example = make(objective, texts, index)
        assert len(example.main) <= window
        if example.asks:
            assert all(parts(example))
        else:
            assert len(example.main) == 3 and example.main.types is None
    with pytest.raises(ConfigError, match="at least 5"):
        objective.cut(4)


def test_a_text_of_one_sentence_is_divided_at_a_word() -> None:
    texts = Texts("one two", "three four")
    assert {parts(make(SentenceOrder(), texts, 0, s)) for s in range(20)} == {
        ("one", " two"),
        (" two", "one"),
    }
    assert {parts(make(SentenceOrder(), Texts("abc"), 0, s))[0] for s in range(40)} == {"a", "ab", "bc", "c"}


def test_a_single_token_is_asked_nothing() -> None:
    for kind in KINDS:
        example = make(kind(), Texts("a", "b"))
        assert not example.asks and len(example.main) == 3


@pytest.mark.parametrize("length", [60, 200])
def test_neither_length_nor_end_gives_the_answer_away(length: int) -> None:
    """Both kinds of pair end with a sentence alike, and are of like length, where a row holds several."""
    texts = Texts(*texts_of(8, 60), length=length)
    sizes: dict[int, list[int]] = {0: [], 1: []}
    ends: dict[int, list[bool]] = {0: [], 1: []}
    for index in range(len(texts)):
        for seed in range(3):
            example = make(NextSentence(), texts, index, seed)
            if not example.asks:
                continue
            sizes[follows(example)].append(len(example.main))
            ends[follows(example)].append(parts(example)[1].endswith("."))
    assert abs(np.mean(sizes[0]) - np.mean(sizes[1])) < 0.1 * np.mean(sizes[1])
    assert abs(np.mean(ends[0]) - np.mean(ends[1])) < 0.12


def test_sentences_that_are_cut_through_are_completed() -> None:
    """Hardly any text is left out where sentences are short beside a row; each stands in one piece."""
    whole = texts_of(4, 60)
    texts = Texts(*whole, length=250)
    kept = [vocabulary().decode(whole_sentences(texts, i, vocabulary()).ids) for i in range(len(texts))]
    sentences = [s.strip() + "." for text in kept for s in text.split(".") if s.strip()]
    given = [s.strip() + "." for text in whole for s in text.split(".") if s.strip()]
    assert Counter(sentences) <= Counter(given), "a sentence was cut, or taken twice"
    assert len(sentences) > 0.97 * len(given)


def test_text_without_its_column_is_refused() -> None:
    for kind in KINDS:
        assert kind().columns() == ("sentence_start",)
        with pytest.raises(DataError, match="needs the column sentence_start"):
            kind().example(
                [Piece(ids=np.arange(5, 9), document=n) for n in range(2)],
                0,
                np.random.default_rng(0),
                vocabulary(),
            )


@pytest.mark.parametrize("first", ["next_sentence", "sentence_order"])
def test_masked_extends_a_pair_by_whole_words(first: str) -> None:
    """BERT: traps 9 and 10 in a pair. Words are found in both stretches, the three marks are left alone."""
    objective = read(Together, {"of": [first, {"name": "masked", "unit": "word", "rate": 0.3}]})
    assert objective.columns() == ("sentence_start", "word_start")
    assert {head.name for head in objective.heads(100)} == {"follows", "tokens"}
    texts = Texts("some words stand here. and more of them there. last ones.", "other text. of another kind.")
    tokenizer = vocabulary()
    for seed in range(60):
        example = make(objective, texts, 0, seed)
        _, tokens = example.asks
        plain = example.main.ids.copy()
        plain[tokens.at] = tokens.target
        hidden = np.isin(np.arange(len(plain)), tokens.at)
        special = np.isin(plain, list(tokenizer.special_ids))
        assert not hidden[special].any() and special.sum() == 3
        letters = np.array([tokenizer.decode([i]).isalpha() for i in plain])
        for run in np.split(np.arange(len(plain)), np.flatnonzero(np.diff(letters)) + 1):
            assert not letters[run[0]] or hidden[run].all() or not hidden[run].any()


def test_a_pair_beside_masked_is_decoded_as_masked_is() -> None:
    objective = Together(of=(SentenceOrder(), Masked()))
    piece = Piece(ids=np.arange(5, 9), document=0)
    assert objective.decoded == "unmasking" and objective.scored == "pseudo"
    assert objective.hide(piece, np.array([1]), np.array([1]), vocabulary()) is not None


def test_the_contracts_corpus_serves(tmp_path: Path) -> None:
    """A corpus with real cuts, through shards."""
    corpus = world.corpus(tmp_path, NextSentence().cut(16), world.vocabulary())
    assert isinstance(corpus.cut, Cut) and {"sentence_start", "word_start"} <= set(corpus[0].columns)
    for index in range(len(corpus)):
        example = NextSentence().example(corpus, index, np.random.default_rng(index), world.vocabulary())
        assert len(example.main) <= 16

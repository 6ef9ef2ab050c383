"""The corpus: every token is answered for once, whatever the cut."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telos.batch import Cut
from telos.data.corpus import Corpus
from telos.data.shards import Shards, ShardWriter
from telos.errors import DataError
from telos.tokenizer import TokenizerSettings, train_tokenizer

TOKENIZER = train_tokenizer(TokenizerSettings(kind="byte"), iter(()))


def make(folder, lengths, columns=()) -> Shards:
    writer = ShardWriter(folder, TOKENIZER.hash, TOKENIZER.size, columns, ["first", "second"])
    value = 0
    for document, length in enumerate(lengths):
        ids = (value + np.arange(length)) % 256
        value += length
        rows = {"word_start": ids % 3 == 0, "label": document if document < 2 else -1, "target": ids[:2]}
        writer.add(ids, bytes=length, **{name: rows[name] for name in columns})
    writer.close()
    return Shards(folder)


@st.composite
def cuts(draw) -> Cut:
    length = draw(st.integers(1, 12))
    overlap = draw(st.integers(0, length - 1))
    stride = draw(st.integers(0, length - overlap))
    return Cut(
        length=length, overlap=overlap, stride=stride, begin=draw(st.booleans()), end=draw(st.booleans())
    )


@given(lengths=st.lists(st.integers(0, 40), max_size=6), cut=cuts())
def test_every_token_after_the_overlap_is_answered_for_once(lengths, cut, tmp_path_factory):
    """Trap 30: no piece is dropped and none is counted twice, for any length, overlap and stride."""
    shards = make(tmp_path_factory.mktemp("corpus"), lengths)
    corpus = Corpus(shards, cut, TOKENIZER)
    streams = [
        [TOKENIZER.begin] * cut.begin + shards.document(i).tolist() + [TOKENIZER.end] * cut.end
        for i in range(len(shards))
    ]
    answered = [[0] * len(stream) for stream in streams]
    for index in range(len(corpus)):
        piece = corpus[index]
        stream = streams[piece.document]
        assert piece.ids.dtype == np.int64
        assert 0 < len(piece) <= cut.length
        assert piece.ids.tolist() == stream[piece.start : piece.start + len(piece)]
        assert cut.overlap <= piece.start + piece.ask_from
        assert index in corpus.pieces_of(piece.document)
        for place in range(piece.start + piece.ask_from, piece.start + len(piece)):
            answered[piece.document][place] += 1
    for stream, times in zip(streams, answered, strict=True):
        first = min(cut.overlap, len(stream))
        assert times == [0] * first + [1] * (len(stream) - first)
    assert sum(len(corpus.pieces_of(i)) for i in range(len(shards))) == len(corpus)


@given(length=st.integers(0, 60), cut=cuts())
def test_pieces_are_those_of_the_formula(length, cut, tmp_path_factory):
    corpus = Corpus(make(tmp_path_factory.mktemp("corpus"), [3, length]), cut, TOKENIZER)
    stream = length + cut.begin + cut.end
    for k, index in enumerate(corpus.pieces_of(1)):
        piece = corpus[index]
        assert piece.start + piece.ask_from == cut.overlap + k * cut.step
        assert piece.start + len(piece) == min(cut.overlap + (k + 1) * cut.step, stream)
        assert piece.start == max(0, cut.overlap + (k + 1) * cut.step - cut.length)


def test_columns_follow_the_tokens(tmp_path):
    shards = make(tmp_path, [7, 4, 5], columns=("word_start", "label", "target"))
    corpus = Corpus(shards, Cut(length=4, overlap=1, begin=True, end=True), TOKENIZER)
    for index in range(len(corpus)):
        piece = corpus[index]
        expected = [i >= 256 or i % 3 == 0 for i in piece.ids]
        assert piece.columns["word_start"].tolist() == expected
        assert piece.columns["label"].tolist() == [["first", "second", ""][piece.document]]
        assert piece.columns["target"].tolist() == shards.document(piece.document)[:2].tolist()


def test_another_vocabulary_is_refused(tmp_path):
    """Trap 47: tokens of one vocabulary are never read with another."""
    other = train_tokenizer(TokenizerSettings(kind="byte"), iter(()), ["more"])
    with pytest.raises(DataError, match="prepared with vocabulary"):
        Corpus(make(tmp_path, [3]), Cut(length=4), other)


def test_there_is_nothing_beyond_the_end(tmp_path):
    corpus = Corpus(make(tmp_path, [3]), Cut(length=4), TOKENIZER)
    assert len(corpus) == 1
    for index in (-1, 1):
        with pytest.raises(IndexError):
            corpus[index]


def test_a_worker_gets_it_small(tmp_path):
    corpus = Corpus(make(tmp_path, [300] * 50), Cut(length=16, overlap=1), TOKENIZER)
    again = pickle.loads(pickle.dumps(corpus))
    assert again[17].ids.tolist() == corpus[17].ids.tolist()

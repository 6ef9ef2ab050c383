"""Fill in the middle: put back, the parts are the text to the character (trap 16)."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from telos.batch import Example, Piece
from telos.data.corpus import Corpus
from telos.errors import ConfigError
from telos.objectives.infill import Infill
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from tests.contract.world import DOCUMENTS, write_shards
from tests.objectives.world import Pieces, draw

KINDS = ("bpe", "byte", "unigram", "wordpiece", "character", "word")
ALWAYS = Infill(rate=1.0)
EMPTY = 1 - (26 / 27) ** 2
"""How often one of two cuts of 26 characters is before the first of them."""


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    texts = [*DOCUMENTS, "the thermal theatre thereof " * 20, "床前明月光疑是地上霜" * 20]
    return train_tokenizer(TokenizerSettings(kind=kind, size=540), iter(texts), ALWAYS.specials())


class Row:
    """A row taken apart."""

    def __init__(self, example: Example, tokenizer: Tokenizer) -> None:
        (ask,) = example.asks
        ids = [*example.main.ids.tolist(), int(ask.target[-1])]
        assert ask.target.tolist() == ids[1:][-len(ask.target) :]
        self.bare = tokenizer.special("fim_middle") not in ids
        if self.bare:
            return
        prefix, suffix, middle = (
            ids.index(tokenizer.special(f"fim_{n}")) for n in ("prefix", "suffix", "middle")
        )
        assert prefix == 1 and ids[0] == tokenizer.begin and ids[-1] == tokenizer.end
        assert sum(token in tokenizer.special_ids for token in ids) == 5
        self.beginning, self.end = ids[prefix + 1 : suffix], ids[suffix + 1 : middle]
        self.middle = ids[middle + 1 : -1]

    def said(self, tokenizer: Tokenizer) -> bytes:
        """The text in its own order: with the end first, the beginning stands right before the middle."""
        ids = [*self.beginning, *self.middle, *self.end]
        return b"".join(tokenizer.token_bytes(token) for token in ids)


def read(folder: Path, kind: str, window: int) -> tuple[Corpus, Tokenizer]:
    tokenizer = tokenizer_of(kind)
    return Corpus(write_shards(folder, tokenizer), ALWAYS.cut(window), tokenizer), tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_undone_it_is_the_text(kind: str, tmp_path: Path) -> None:
    """Trap 16: every piece, the last of a document too, is put in another order; put back, it is the piece's
    text byte for byte, and no row outgrows the window."""
    corpus, tokenizer = read(tmp_path, kind, 32)
    for index in range(len(corpus)):
        piece = corpus[index]
        inside = [token for token in piece.ids[1:].tolist() if token != tokenizer.end]
        text = b"".join(tokenizer.token_bytes(token) for token in inside)
        for seed in range(12):
            example = ALWAYS.example(corpus, index, np.random.default_rng(seed), tokenizer)
            row = Row(example, tokenizer)
            assert not row.bare and row.said(tokenizer) == text
            assert len(example.main) <= 32


@pytest.mark.parametrize("kind", KINDS)
def test_no_character_is_cut(kind: str, tmp_path: Path) -> None:
    """Trap 16: the middle is whole characters, and the end begins with one, though pieces may begin and end
    with half ones."""
    corpus, tokenizer = read(tmp_path, kind, 32)
    objective = Infill(rate=1.0, end_first=0.0)
    for index in range(len(corpus)):
        for seed in range(12):
            row = Row(objective.example(corpus, index, np.random.default_rng(seed), tokenizer), tokenizer)
            b"".join(tokenizer.token_bytes(token) for token in row.middle).decode("utf-8", "strict")
            end = b"".join(tokenizer.token_bytes(token) for token in row.end)
            assert end[:1] < b"\x80" or end[:1] >= b"\xc0"


def test_cuts_fall_inside_of_words_and_tokens() -> None:
    """Trap 16: at the level of characters: of 27, each is cut before about equally often."""
    tokenizer = tokenizer_of("bpe")
    text = "the thermal theatre thereof"
    ids = tokenizer.encode(text)
    assert len(ids) < len(text) / 2
    objective, cuts = Infill(rate=1.0, end_first=0.0), np.zeros(len(text) + 1)
    for seed in range(700):
        row = Row(draw(objective, Pieces([tokenizer.begin, *ids]), seed, tokenizer), tokenizer)
        first = len(tokenizer.decode(row.beginning))
        cuts[[first, first + len(tokenizer.decode(row.middle))]] += 1
    assert cuts.min() > 20 and cuts.max() < 100


@pytest.mark.parametrize(("rate", "end_first"), [(0.5, 0.5), (0.9, 0.25), (0.0, 0.5), (1.0, 1.0)])
def test_the_shares_are_as_asked(rate: float, end_first: float) -> None:
    """Trap 16: of 3 000 samples, within three standard errors."""
    tokenizer, objective = tokenizer_of("byte"), Infill(rate=rate, end_first=end_first)
    pieces = Pieces([tokenizer.begin, *tokenizer.encode("a text to be cut in three"), tokenizer.end])
    rows = [Row(draw(objective, pieces, seed, tokenizer), tokenizer) for seed in range(3000)]
    moved = [row for row in rows if not row.bare]
    assert abs(len(moved) / 3000 - rate) <= 3 * np.sqrt(rate * (1 - rate) / 3000)
    if moved:  # the beginning is empty where the end is first, and where a cut is before all characters
        looks = float(np.mean([not row.beginning for row in moved]))
        assert abs(looks - (end_first + (1 - end_first) * EMPTY)) < 0.04


def test_as_it_was_it_is_a_causal_row() -> None:
    """Every token is asked of those before it, and context only of what it is for."""
    tokenizer = tokenizer_of("byte")
    ids = [tokenizer.begin, 70, 71, 72, tokenizer.end]
    example = draw(Infill(rate=0.0), Pieces(ids), 0, tokenizer)
    assert example.main.ids.tolist() == ids[:-1] and example.asks[0].target.tolist() == ids[1:]
    for seed in range(20):
        strided = draw(ALWAYS, Pieces(ids, ask_from=3), seed, tokenizer)
        assert strided.main.ids.tolist() == ids[:-1] and strided.asks[0].target.tolist() == ids[3:]


def test_a_document_without_text_stays_as_it_is() -> None:
    tokenizer = tokenizer_of("byte")
    assert Row(draw(ALWAYS, Pieces([tokenizer.begin, tokenizer.end]), 0, tokenizer), tokenizer).bare


def test_too_small_a_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.window = 12: must be at least 13"):
        Infill().cut(12)
    assert Infill().cut(13).length == 2


def test_the_longest_piece_fits_however_it_is_cut() -> None:
    """Trap 16: marks count, and so do the tokens that cuts inside of tokens add."""
    tokenizer = tokenizer_of("bpe")
    length = ALWAYS.cut(40).length
    ids = np.resize(tokenizer.encode(" thermal theatre thereof"), length - 1)
    for seed in range(300):
        example = draw(ALWAYS, Pieces([tokenizer.begin, *ids]), seed, tokenizer)
        assert len(example.main) <= 40


def test_no_row_holds_two_documents() -> None:
    """Trap 16: what is read of the corpus is the piece itself, so no middle comes from elsewhere."""

    asked: list[int] = []

    class Watched(Pieces):
        def __getitem__(self, index: int) -> Piece:
            asked.append(index)
            return super().__getitem__(index)

    tokenizer = tokenizer_of("byte")
    pieces = Watched([tokenizer.begin, 70, 71], [tokenizer.begin, 80, 81])
    for seed in range(10):
        draw(ALWAYS, pieces, seed, tokenizer)
    assert set(asked) == {0}

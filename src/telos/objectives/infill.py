"""Fill in the middle: some texts are put in the order beginning, end, middle, and asked from left to right
like all others (Bavarian et al., 2022).

    loss = −Σₜ log q(yₜ | y₁ … yₜ₋₁) / number of tokens asked

Hidden: the future of the row. Seen: its past. A text is cut at two of its characters into a beginning B, a
middle M and an end E, each of which may be empty; its row is in one of two orders, or as it was:

    beginning first (PSM)   ⊢ ⟨fim_prefix⟩ B ⟨fim_suffix⟩ E ⟨fim_middle⟩ M ⊣
    end first (SPM)         ⊢ ⟨fim_prefix⟩ ⟨fim_suffix⟩ E ⟨fim_middle⟩ B M ⊣
    as it was               ⊢ B M E ⊣

So after training a gap can be filled: give the first with B and E and let the model go on. `the cat sat`, cut
before its characters 5 and 8, is `the c`, `at ` and `sat`:

    ⊢ ⟨fim_prefix⟩ the c ⟨fim_suffix⟩ sat ⟨fim_middle⟩ at ⊣

Cuts fall between any two characters (code points), inside of words and tokens too, and the parts are encoded
one by one, as they will be when a gap is to be filled. A cut inside of a token makes more tokens, for which
some places are kept free; where they do not suffice, and where the vocabulary is not one that any text comes
back from exactly, cuts fall between two tokens (and still between two characters). No row is ever shortened.
Every piece of a document is as likely as any other to be cut, and a row holds one piece only.
"""

import codecs
from typing import ClassVar, Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Ask, Cut, Example, Piece, Read, Side
from telos.errors import ConfigError
from telos.objectives._base import Objective, Prompt
from telos.tokenizer import Tokenizer

__all__ = ["Infill"]

Ids = NDArray[np.int64]
_MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_PUT_ON = 4
"""Places that the three marks take, and the end token of a piece that has none of its own."""
_ROOM = 8
"""Places that are kept free for the tokens which cuts inside of tokens add."""


@final
class Infill(Objective):
    """Predict the next token, of texts whose middle may stand at the end."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    rate: float = Field(0.5, ge=0, le=1)
    """Share of the samples whose middle is moved to the end; the others are as in `causal`."""
    end_first: float = Field(0.5, ge=0, le=1)
    """Share of those in which the text's end comes before its beginning (SPM)."""

    def cut(self, window: int) -> Cut:
        """Pieces as in `causal`, less the places for the marks and for cuts inside of tokens.

        Raises:
            ConfigError: the window holds no text.
        """
        length = window + 1 - _PUT_ON - _ROOM
        if length < 2:
            least = 1 + _PUT_ON + _ROOM
            raise ConfigError(
                f"train.window = {window}: must be at least {least}, to have a middle moved in it."
            )
        return Cut(length=length, overlap=1, begin=True, end=True)

    def specials(self) -> tuple[str, ...]:
        return _MARKS

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """The piece in one of the three orders; as it was if it holds context that another piece answers
        for."""
        piece = read[index]
        text = piece.ids[1 : len(piece) - int(piece.ids[-1] == tokenizer.end)]
        if len(text) == 0 or piece.ask_from > 1 or rng.random() >= self.rate:
            return _asked(piece.ids, max(piece.ask_from, 1), piece, index)
        row = _arranged(_cut(text, rng, tokenizer), rng.random() < self.end_first, tokenizer)
        return _asked(row, 1, piece, index)

    def whole(self, piece: Piece, tokenizer: Tokenizer) -> Example:
        """As it was."""
        return _asked(piece.ids, max(piece.ask_from, 1), piece, -1)

    def gap(self, before: Ids, after: Ids, tokenizer: Tokenizer) -> Prompt:
        """Beginning first, unless that order was never learned."""
        row = _arranged(Parts(before, np.zeros(0, np.int64), after), self.end_first == 1, tokenizer)
        return Prompt(main=Side.of(row[:-1], causal=True))


def _asked(ids: Ids, first: int, piece: Piece, sample: int) -> Example:
    """A row from left to right, asked from place `first` on."""
    at = np.arange(first - 1, len(ids) - 1)
    return Example(
        main=Side.of(ids[:-1], causal=True),
        asks=(Ask(head="tokens", at=at, target=ids[at + 1], weight=np.ones(len(at), np.float32)),),
        pattern="causal",
        unit=piece.document,
        sample=sample,
    )


class Parts(NamedTuple):
    """A text in three."""

    beginning: Ids
    middle: Ids
    end: Ids


def _arranged(parts: Parts, end_first: bool, tokenizer: Tokenizer) -> Ids:
    """The parts with their marks, middle last."""
    prefix, suffix, middle = ([tokenizer.special(name)] for name in _MARKS)
    if end_first:
        row = [prefix, suffix, parts.end, middle, parts.beginning]
    else:
        row = [prefix, parts.beginning, suffix, parts.end, middle]
    return np.concatenate([[tokenizer.begin], *row, parts.middle, [tokenizer.end]]).astype(np.int64)


def _cut(ids: Ids, rng: np.random.Generator, tokenizer: Tokenizer) -> Parts:
    """The text (n,) at two of its characters; at the nearest borders of tokens where that makes too many."""
    pieces = [tokenizer.token_bytes(token) for token in ids.tolist()]
    borders = _borders(pieces)
    drawn = np.sort(rng.random(2))
    if tokenizer.lossless:
        parts = _cut_characters(ids, pieces, (borders[0], borders[-1]), drawn, tokenizer)
        if sum(map(len, parts)) <= len(ids) + _ROOM:
            return parts
    first, second = (borders[int(share * len(borders))] for share in drawn)
    return Parts(ids[:first], ids[first:second], ids[second:])


def _cut_characters(
    ids: Ids, pieces: list[bytes], whole: tuple[int, int], drawn: NDArray[np.float64], tokenizer: Tokenizer
) -> Parts:
    """The parts encoded anew. Half characters at either end of the piece stay as they are."""
    begin, end = whole
    text = b"".join(pieces[begin:end]).decode()
    first, second = (int(share * (len(text) + 1)) for share in drawn)
    parts = tokenizer.encode_batch([text[:first], text[first:second], text[second:]])
    return Parts(np.concatenate([ids[:begin], parts[0]]), parts[1], np.concatenate([parts[2], ids[end:]]))


def _borders(pieces: list[bytes]) -> list[int]:
    """Before which tokens a character begins; after the last one too, unless it ends inside of one."""
    borders = [place for place, piece in enumerate(pieces) if piece and piece[0] & 0xC0 != 0x80]
    last = borders[-1] if borders else len(pieces)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(b"".join(pieces[last:]))
    return borders if decoder.getstate()[0] else [*borders, len(pieces)]

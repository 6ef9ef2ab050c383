"""Neighbours: which words a model holds for near to a word,
by the cosine of the angle between their input embeddings.

    similarity(a, b) = a · b / (|a| |b|)          1 the same direction, 0 unrelated, −1 opposite

A word of several tokens is looked up as the mean of its tokens' embeddings,
which is said beside the result; its neighbours, as all neighbours, are tokens
that are whole words: letters from one blank to the next, or a Chinese word.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from telos.errors import DataError
from telos.models._base import Network
from telos.models._vectors import whole_words
from telos.tokenizer import Tokenizer
from telos.words import is_word, without_blanks

__all__ = ["Neighbour", "Neighbours", "neighbours"]


class Neighbour(NamedTuple):
    """A word near to another."""

    word: str
    similarity: float


class Neighbours(NamedTuple):
    """What was asked, and its neighbours, the nearest first."""

    word: str
    pieces: int
    """Tokens of the word; where there are several, their mean was looked up."""
    nearest: tuple[Neighbour, ...]


@torch.no_grad()
def neighbours(
    network: Network, tokenizer: Tokenizer, words: Sequence[str], count: int = 10
) -> list[Neighbours]:
    """For each of `words` the `count` nearest other words of the vocabulary.

    A word that is a token in several forms is one word: its nearest form counts.

    Raises:
        DataError: a word is empty or holds nothing that the vocabulary knows, or no token of the vocabulary
        is a word.
    """
    names = _words(tokenizer)
    if not names:
        raise DataError(
            "the vocabulary has no token that is a whole word, so a word has no neighbours in it."
        )
    table = functional.normalize(network.embedding.weight.float(), dim=1)
    candidates = torch.tensor(list(names), device=table.device)
    found = []
    for word in words:
        pieces = _pieces(tokenizer, word)
        mean = network.embedding.weight[torch.tensor(pieces, device=table.device)].float().mean(0)
        similarities = table[candidates] @ functional.normalize(mean, dim=0)
        nearest = _nearest(similarities, list(names.values()), word.strip(), count)
        found.append(Neighbours(word, len(pieces), nearest))
    return found


def _words(tokenizer: Tokenizer) -> dict[int, str]:
    """The tokens that are a word wherever they stand, by id. Where a blank before it is part of a token, one
    without may as well be the end of a longer word, unless its script is written without blanks."""
    found = {token: word for token, word in whole_words(tokenizer).items() if is_word(word)}
    spaced = {token for token in found if tokenizer.token_bytes(token)[:1] == b" "}
    whole = {token: word for token, word in found.items() if token in spaced or without_blanks(word)}
    return whole or found


def _pieces(tokenizer: Tokenizer, word: str) -> list[int]:
    """The word's tokens: as it stands inside a text, where that takes fewer, or else alone."""
    bare = word.strip()
    spellings = [[int(id) for id in ids] for ids in tokenizer.encode_batch([f" {bare}", bare])]
    pieces = min(spellings, key=len)
    if not bare or not pieces or set(pieces) == {tokenizer.unknown}:
        raise DataError(f"{word!r} is not a word that the vocabulary knows.")
    return pieces


def _nearest(similarities: Tensor, names: Sequence[str], word: str, count: int) -> tuple[Neighbour, ...]:
    best: dict[str, float] = {}
    for place in similarities.argsort(descending=True, stable=True).tolist():
        if len(best) >= count:
            break
        if names[place] != word:
            best.setdefault(names[place], float(similarities[place]))
    return tuple(Neighbour(name, similarity) for name, similarity in best.items())

"""Embeddings that start from vectors somebody else trained: the text formats of word2vec, GloVe and fastText.

    400000 300                      how many words, and how wide: this line may be missing
    the 0.418 0.24968 -0.41242 …    one word a line, its numbers after it, blanks between

The file may be compressed (`.gz`, `.xz`, `.bz2`). Its vectors
are taken as they are, for the tokens that are whole words.
"""

import bz2
import gzip
import lzma
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from telos.errors import ConfigError, DataError
from telos.models._base import Network
from telos.tokenizer import Tokenizer

__all__ = ["Coverage", "start_from_vectors", "whole_words"]


class Coverage(NamedTuple):
    """How much of a vocabulary a file of vectors knows."""

    words: int
    """Tokens that are whole words."""
    found: int
    """Those of them that got a vector from the file."""

    @property
    def share(self) -> float:
        """found / words, 0 where there are no words."""
        return self.found / self.words if self.words else 0.0


def start_from_vectors(network: Network, tokenizer: Tokenizer, path: Path) -> Coverage:
    """Put the file's vectors into the rows of the embedding whose tokens are the file's words; the others
    stay as they are.

    A word that the file has twice starts from the first. A token and the same with a blank before it (`the`,
    ` the`) are the same word.

    Raises:
        ConfigError: there is no such file, or its vectors are not as wide as the embedding.
        DataError: a line is not a word and numbers; the message has its number.
    """
    tokens = _tokens_by_word(whole_words(tokenizer))
    found: dict[int, NDArray[np.float32]] = {}
    for word, vector in _vectors(path, network.embedding.embedding_dim, tokens):
        for token in tokens[word]:
            found.setdefault(token, vector)
    if found:
        _write(network.embedding.weight, found)
    return Coverage(words=sum(map(len, tokens.values())), found=len(found))


def whole_words(tokenizer: Tokenizer) -> dict[int, str]:
    """The tokens that are a whole word, alone or with a blank before it, by id; each with the word."""
    ids = [token for token in range(tokenizer.size) if token not in tokenizer.special_ids]
    words = [tokenizer.decode([token]).strip() for token in ids]
    alone = tokenizer.encode_batch(words)
    spaced = tokenizer.encode_batch([f" {word}" for word in words])
    found = {}
    for token, word, *spellings in zip(ids, words, alone, spaced, strict=True):
        if word and len(word.split()) == 1 and any(list(spelled) == [token] for spelled in spellings):
            found[token] = word
    return found


def _tokens_by_word(words: Mapping[int, str]) -> dict[str, list[int]]:
    tokens = defaultdict(list)
    for token, word in words.items():
        tokens[word].append(token)
    return tokens


@torch.no_grad()
def _write(table: torch.Tensor, found: Mapping[int, NDArray[np.float32]]) -> None:
    rows = torch.tensor(list(found), device=table.device)
    table[rows] = torch.from_numpy(np.stack(list(found.values()))).to(table)


def _vectors(path: Path, width: int, wanted: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The wanted words of a file and their vectors, in its order."""
    number = 0
    for number, line in enumerate(_lines(path), 1):
        if number == 1:
            declared = _header(line)
            _check_width(path, len(line.split()) - 1 if declared is None else declared, width)
            if declared is not None:
                continue
        if line.split(" ", 1)[0] in wanted:
            word, *numbers = line.rstrip().rsplit(" ", width)
            if word in wanted:
                yield word, _parsed(path, number, numbers, width)
    if not number:
        raise ConfigError(f"model.vectors: {path} is empty; wanted a text file of word vectors.")


def _lines(path: Path) -> Iterator[str]:
    readers: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    try:
        with readers.get(path.suffix, open)(path, "rt", encoding="utf-8", errors="replace") as lines:
            yield from lines
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the archive is broken ({error}); fetch it again.") from None
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"model.vectors: {path} cannot be read ({reason}); wanted a file of vectors."
        ) from None


def _header(line: str) -> int | None:
    """The width that a file's first line declares, if it is a line `words width`."""
    parts = line.split()
    return int(parts[1]) if len(parts) == 2 and all(part.isdecimal() for part in parts) else None


def _check_width(path: Path, given: int, width: int) -> None:
    if given != width:
        raise ConfigError(
            f"model.vectors: the vectors of {path} have {given} numbers, and the embedding is {width} "
            f"wide. Set the embedding's width to {given}, or choose another file."
        )


def _parsed(path: Path, number: int, numbers: Sequence[str], width: int) -> NDArray[np.float32]:
    try:
        vector = np.array(numbers, dtype=np.float32)
    except ValueError:
        vector = np.empty(0, dtype=np.float32)
    if len(vector) != width or not np.isfinite(vector).all():
        raise DataError(
            f"{path}:{number}: wanted a word and {width} finite numbers, with blanks between them."
        )
    return vector

"""Perplexity: how surprising a text is to a small model of text that you call good (Wenzek et al., 2020)."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, NamedTuple, final

import numpy as np
from pydantic import Field, model_validator

from telos.batch import Document
from telos.config import Lax
from telos.data.filters._base import Filter, digest_of, sampled, text_files
from telos.data.filters._ngrams import Ngrams
from telos.errors import ConfigError

__all__ = ["Perplexity"]

_LONGEST: Final = 1 << 22
"""Characters of the reference that are learned from, at most."""
_LEAST: Final = 20_000
_PIECE: Final = 1000
_HELD_OUT: Final = 10
"""One piece in so many is not learned from, but scored for the percentiles."""


@final
class Perplexity(Filter):
    """Documents that a model of character n-grams finds neither too strange nor too easy. It is learned from
    `reference`, but for a tenth of its pieces of 1,000 characters, whose own perplexities give the limits."""

    reference: Annotated[Path, Lax]
    """Text that is as you want it: a file, or a folder of `.txt` and `.md` files; 20,000 characters at least,
    the first four million are used. Relative to where you are."""
    order: int = Field(5, ge=1, le=8)
    """Characters in the longest n-grams."""
    percentile: float = Field(99.0, gt=50, le=100)
    """The upper limit is this percentile of the held-out pieces, the lower one 100 less it."""
    most: float | None = Field(None, gt=1)
    """Perplexity per character, at most, in place of the percentile."""
    least: float | None = Field(None, ge=1)
    """Perplexity per character, at least, in place of the percentile."""
    characters: int = Field(1000, ge=100)
    """Characters that are scored, in up to four pieces spread over the document."""

    @model_validator(mode="after")
    def _leave_some(self) -> "Perplexity":
        if self.most is not None and self.least is not None and self.least > self.most:
            raise ValueError("least is more than most: nothing would be kept")
        return self

    def judge(self, document: Document, text: str) -> str | None:
        if not text:
            return "perplexity: no text"
        learned = self._learned()
        value = _perplexity(learned.model, sampled(text, self.characters))
        if value > (learned.most if self.most is None else self.most):
            return "perplexity: high"
        return "perplexity: low" if value < (learned.least if self.least is None else self.least) else None

    def perplexity(self, text: str) -> float:
        """exp of the mean of −ln q over `characters` characters of `text`."""
        return _perplexity(self._learned().model, sampled(text, self.characters))

    def limits(self) -> tuple[float, float]:
        """The lower and the upper limit."""
        learned = self._learned()
        least = learned.least if self.least is None else self.least
        return least, learned.most if self.most is None else self.most

    def _learned(self) -> "_Learned":
        return _learn(self.reference, _content(self.reference), self.order, self.percentile)

    def ready(self) -> None:
        self.digest()
        self._learned()

    def digest(self) -> str:
        _content.cache_clear()
        return _content(self.reference)


class _Learned(NamedTuple):
    model: Ngrams
    least: float
    most: float


@lru_cache(maxsize=16)
def _content(reference: Path) -> str:
    """A hash of the reference, remembered until `digest` is asked for again."""
    return digest_of(text_files(reference))


@lru_cache(maxsize=4)
def _learn(reference: Path, content: str, order: int, percentile: float) -> _Learned:
    """The model, and the percentiles of what was held out.

    Raises:
        ConfigError: the reference cannot be read or is too short.
    """
    text = _read(reference)
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    model = Ngrams("".join(p for n, p in enumerate(pieces) if n % _HELD_OUT), order)
    values = [_perplexity(model, piece) for piece in pieces[::_HELD_OUT] if len(piece) > _PIECE // 2]
    least, most = np.percentile(values, [100 - percentile, percentile])
    return _Learned(model, float(least), float(most))


def _read(reference: Path) -> str:
    text = ""
    for path in text_files(reference):
        try:
            text += path.read_text(encoding="utf-8-sig", errors="replace")[: _LONGEST - len(text)]
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}.") from None
        if len(text) >= _LONGEST:
            break
    if len(text) < _LEAST:
        raise ConfigError(
            f"{reference}: {len(text):,} characters are too few to learn from. Give {_LEAST:,} or more of "
            "text that is as you want it."
        )
    return text


def _perplexity(model: Ngrams, text: str) -> float:
    return math.exp(-float(np.mean(model.log_probabilities(text), dtype=np.float64)))

"""Symbols: text that is more signs than words (Rae et al., 2021, appendix A.1.1)."""

from typing import Annotated, Final, final

import numpy as np
from pydantic import Field, model_validator

from telos.batch import Document
from telos.data.filters._base import Filter
from telos.data.filters._words import IDEOGRAPH, LETTER, Words, words_of

__all__ = ["Symbols"]

Share = Annotated[float, Field(ge=0, le=1)]

_BULLETS: Final = ("- ", "* ", "+ ", "-\t", "*\t", "+\t", *"•‣⁃◦●○▪■□◆◇►▶")
_ELLIPSES: Final = ("...", "…", "。。。")


@final
class Symbols(Filter):
    """Documents of signs rather than words, by the rules and limits of Gopher. Each Chinese character is a
    word; `...`, `……` and `。。。` are an ellipsis like `…`."""

    hashes: float = Field(0.1, ge=0)
    """`#` for each word, at most."""
    ellipses: float = Field(0.1, ge=0)
    """Ellipses for each word, at most."""
    bullet_lines: Share = 0.9
    """Share of the lines that begin with a bullet (`- `, `* `, `•`), at most."""
    ellipsis_lines: Share = 0.3
    """Share of the lines that end with an ellipsis, at most."""
    letters: Share = 0.8
    """Share of the words in which there is a letter or a Chinese character, at least."""
    shortest: float = Field(3.0, ge=0)
    """Mean length of a word in characters, at least; where most words are Chinese characters, this and
    `longest` do not hold."""
    longest: float = Field(10.0, ge=0)
    """Mean length of a word, at most."""

    @model_validator(mode="after")
    def _leave_some(self) -> "Symbols":
        if self.shortest > self.longest:
            raise ValueError("shortest is more than longest: nothing would be kept")
        return self

    def judge(self, document: Document, text: str) -> str | None:
        words = words_of(text)
        if not len(words):
            return "symbols: no words"
        if text.count("#") > self.hashes * len(words):
            return "symbols: hashes"
        if _ellipses(text) > self.ellipses * len(words):
            return "symbols: ellipses"
        return self._of_lines(words.lines) or self._of_words(words)

    def _of_lines(self, lines: list[str]) -> str | None:
        if sum(line.startswith(_BULLETS) for line in lines) > self.bullet_lines * len(lines):
            return "symbols: bullet lines"
        if sum(line.endswith(_ELLIPSES) for line in lines) > self.ellipsis_lines * len(lines):
            return "symbols: ellipsis lines"
        return None

    def _of_words(self, words: Words) -> str | None:
        if int(np.count_nonzero(words.having(LETTER))) < self.letters * len(words):
            return "symbols: few letters"
        spaced = ~words.having(IDEOGRAPH)
        count = int(np.count_nonzero(spaced))
        if 2 * count < len(words):
            return None
        characters = int((words.ends - words.starts)[spaced].sum())
        if characters < self.shortest * count:
            return "symbols: short words"
        return "symbols: long words" if characters > self.longest * count else None


def _ellipses(text: str) -> int:
    """How many there are; the two signs of a Chinese one are one."""
    dots = text.count("...") + text.count("。。。")
    return dots if text.isascii() else dots + text.count("…") - text.count("……")

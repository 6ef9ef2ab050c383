"""Length: too short to say anything, or too long to be one text (Rae et al., 2021, appendix A.1.1)."""

from typing import final

from pydantic import Field, model_validator

from telos.batch import Document
from telos.data.filters._base import Filter
from telos.data.filters._words import words_of

__all__ = ["Length"]


@final
class Length(Filter):
    """Documents between two lengths. The limits are those of Gopher, in words; each Chinese character is a
    word. A limit of 0 is none."""

    least_words: int = Field(50, ge=0)
    """Fewer words than this are too few."""
    most_words: int = Field(100_000, ge=0)
    """More words than this are too many."""
    least_characters: int = Field(0, ge=0)
    """Fewer characters than this are too few."""
    most_characters: int = Field(0, ge=0)
    """More characters than this are too many."""

    @model_validator(mode="after")
    def _leave_some(self) -> "Length":
        for least, most, what in (
            (self.least_words, self.most_words, "words"),
            (self.least_characters, self.most_characters, "characters"),
        ):
            if most and least > most:
                raise ValueError(f"least_{what} is more than most_{what}: nothing would be kept")
        return self

    def judge(self, document: Document, text: str) -> str | None:
        size = len(text)
        if size < self.least_characters:
            return "length: few characters"
        if self.most_characters and size > self.most_characters:
            return "length: many characters"
        if not self.least_words and not self.most_words:
            return None
        words = len(words_of(text))
        if words < self.least_words:
            return "length: few words"
        return "length: many words" if self.most_words and words > self.most_words else None

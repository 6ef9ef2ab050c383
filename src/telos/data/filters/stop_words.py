"""Stop words: a text without the small words of its language is a list, code or noise (Rae et al., 2021)."""

import re
from functools import cache
from typing import Annotated, Final, final

from pydantic import Field, model_validator

from telos.batch import Document
from telos.config import Lax
from telos.data.filters._base import Filter
from telos.words import without_blanks

__all__ = ["WORDS", "StopWords"]

WORDS: Final = {
    "en": ("the", "be", "to", "of", "and", "that", "have", "with"),
    "zh": ("的", "了", "是", "在", "和", "不", "有", "我", "这", "這", "也", "就", "他", "你", "个", "個"),
    "lzh": ("之", "其", "不", "而", "以", "也", "者", "於", "于", "為", "为", "有", "無", "无", "所", "何"),
    "de": ("der", "die", "das", "und", "ist", "nicht", "zu", "mit", "von", "ein", "eine", "auf"),
    "fr": ("le", "la", "les", "de", "et", "est", "une", "un", "que", "des", "dans", "pas"),
    "es": ("el", "la", "de", "que", "y", "en", "los", "una", "un", "con", "por", "se"),
    "it": ("il", "la", "di", "che", "e", "un", "una", "per", "non", "con", "del", "si"),
    "pt": ("o", "a", "de", "que", "e", "do", "da", "em", "um", "uma", "não", "com"),
    "nl": ("de", "het", "een", "en", "van", "is", "dat", "niet", "met", "op", "te", "in"),
    "ru": ("и", "в", "не", "на", "что", "с", "он", "как", "это", "по", "но", "из"),
    "ja": ("の", "に", "は", "を", "た", "が", "で", "て", "と", "し", "れ", "さ"),
}
"""By language (ISO 639; `lzh` is Literary Chinese). English: Gopher's own. The others: the most frequent
function words."""


@final
class StopWords(Filter):
    """Documents in which several different function words of one language are found."""

    languages: Annotated[tuple[str, ...], Lax] = Field(("en", "zh"), min_length=1)
    """The languages of which one has to be found: de, en, es, fr, it, ja, lzh (Literary Chinese), nl, pt,
    ru, zh."""
    least: int = Field(2, ge=1)
    """Different words of one language that must be there; Gopher's is 2."""
    words: Annotated[tuple[str, ...], Lax] = ()
    """Words of your own, in place of those of `languages`. Capitals do not count."""

    @model_validator(mode="after")
    def _known(self) -> "StopWords":
        if unknown := [language for language in self.languages if language not in WORDS]:
            raise ValueError(
                f"there are no function words of {unknown[0]!r}; there are of: {', '.join(sorted(WORDS))}. "
                "For another language, list them in words."
            )
        for words in self._sets():
            if len(words) < self.least:
                raise ValueError(f"{self.least} different words cannot be found where there are {len(words)}")
        return self

    def judge(self, document: Document, text: str) -> str | None:
        for words in self._sets():
            if _has(text, words, self.least):
                return None
        return "stop words: too few"

    def _sets(self) -> tuple[tuple[str, ...], ...]:
        return (self.words,) if self.words else tuple(WORDS[language] for language in self.languages)


def _has(text: str, words: tuple[str, ...], least: int) -> bool:
    """Whether `least` different ones of the words are in the text. Those of scripts without blanks count
    within other characters."""
    spaced, within = _kinds(words)
    found = {word for word in within if word in text}
    if spaced is not None and len(found) < least:
        for match in spaced.finditer(text):
            found.add(match.group().lower())
            if len(found) >= least:
                break
    return len(found) >= least


@cache
def _kinds(words: tuple[str, ...]) -> tuple[re.Pattern[str] | None, tuple[str, ...]]:
    """A pattern of the words that stand between blanks, and those that do not."""
    within = tuple(word for word in words if without_blanks(word))
    between = "|".join(re.escape(word) for word in words if not without_blanks(word))
    return re.compile(rf"\b(?:{between})\b", re.IGNORECASE) if between else None, within

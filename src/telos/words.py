"""Where words and sentences begin in plain text, by rules
that hold for spaced and for Chinese script alike."""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from telos.errors import ConfigError

__all__ = ["HAN", "Segment", "is_word", "jieba", "starts", "without_blanks"]

Segment = Callable[[str], Iterable[str]]
"""Cuts a run of Chinese characters into words, which put together are the run."""

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, as they are written between the brackets of a regular expression."""
_CLOSING = "\"'”’»)\\]}」』】》）"
_SENTENCE_END = re.compile(f"[.!?…]+[{_CLOSING}]*\\s+|[。！？；]+[{_CLOSING}]*\\s*|\\s*\\n\\s*")


def starts(text: str, segment: Segment | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places (characters) in `text` where a word begins, and where a sentence begins, both ascending.

    A word is a run of letters, digits and marks, with apostrophes inside; or one Chinese character, or what
    `segment` makes of a run of them; or any other single character; each with the blanks before it. Line ends
    are a word of their own. A sentence
    begins with the text, with a line, and after a full stop, exclamation or question mark with white space,
    or after its Chinese counterpart; abbreviations such as `Mr.` are taken for the end of one.
    """
    words = np.array([found.start() for found in _word().finditer(text)], dtype=np.int64)
    if segment is not None:
        words = np.setdiff1d(words, _inside_words(text, segment))
    ends = [0, *(found.end() for found in _SENTENCE_END.finditer(text))]
    after = np.searchsorted(words, np.array(ends, dtype=np.int64), side="left")
    before = np.maximum(np.searchsorted(words, np.array(ends, dtype=np.int64), side="right") - 1, 0)
    if not len(words):
        return words, words
    # Blanks before a sentence's first word belong to the word, so it may begin before the sentence does.
    blank = [_is_blank(text, int(words[b]), end) for b, end in zip(before, ends, strict=True)]
    first = np.where(np.array(blank, dtype=np.bool_), before, after)
    return words, np.unique(words[first[first < len(words)]])


def jieba() -> Segment:
    """The segmenter of Chinese by a dictionary of words, and for others by a hidden Markov model of
    characters (github.com/fxsjy/jieba), in its Rust version.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        import rjieba
    except ImportError:
        raise ConfigError(
            "Chinese is cut into words by a package more: pip install 'telos-lm[chinese]'. Without it each "
            'Chinese character is a word: leave out objective.segmenter = "jieba".'
        ) from None
    cut: Segment = rjieba.cut
    return cut


def _inside_words(text: str, segment: Segment) -> NDArray[np.int64]:
    """The Chinese characters of `text` that do not begin a word of `segment`'s."""
    inside: list[int] = []
    for run in re.finditer(f"[{HAN}]{{2,}}", text):
        at = run.start()
        for word in segment(run.group()):
            inside += range(at + 1, at + len(word))
            at += len(word)
        assert at == run.end(), f"the segmenter changed {run.group()!r}"
    return np.array(inside, dtype=np.int64)


def without_blanks(text: str) -> bool:
    """Whether `text` is all of Chinese characters or kana, which are written without blanks between words."""
    return re.fullmatch(f"[{HAN}\u3040-\u30ff]+", text) is not None


def is_word(text: str) -> bool:
    """Whether `text` is letters and their marks, with apostrophes inside, and nothing else."""
    letters = f"(?:[^\\W\\d_]|[{_marks()}])+"
    return re.fullmatch(f"{letters}(?:['’]{letters})*", text) is not None


def _is_blank(text: str, begin: int, end: int) -> bool:
    return begin <= end and "\n" not in text[begin:end] and text[begin:end].strip() == ""


@cache
def _word() -> re.Pattern[str]:
    letter = f"(?:(?![{HAN}_])\\w|[{_marks()}])"
    return re.compile(f"\\s*\\n|[^\\S\\n]*(?:[{HAN}]|{letter}+(?:['’]{letter}+)*|[^\\s]|$)(?<=[\\s\\S])")


@cache
def _marks() -> str:
    """A character class of all combining marks, which `\\w` leaves out."""
    ranges: list[list[int]] = []
    for code in range(0x300, sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in ("Mn", "Mc"):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)

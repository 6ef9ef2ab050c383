"""Text that must match a regular expression: which tokens may come next.

A token may be drawn if some continuation of what is said with it matches; the end token, if what is said
matches as it is. So nothing leads into a dead end, and nothing that could match is left out (Willard and
Louf, 2023). The expression is matched byte by byte: a token may begin in one part of it and end in another,
and hold part of a character (`llguidance` keeps the derivatives of the expression and walks the vocabulary as
a tree of bytes).

Where tokens are characters, a continuation must also be sayable: what matches is then the expression and, at
the same time, any characters of the vocabulary.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telos.errors import ConfigError
from telos.generate._forms import FORMS, form_pattern
from telos.generate._settings import ConstraintSettings
from telos.tokenizer import Tokenizer

__all__ = ["Constraint", "Matcher"]


class Constraint:
    """What all samples must be like.

    Raises:
        ConfigError: the expression is none, no text can match it, the vocabulary's tokens are not bytes of
            text, or the library is not installed.
    """

    def __init__(self, settings: ConstraintSettings, tokenizer: Tokenizer) -> None:
        self.settings, self.tokenizer = settings, tokenizer
        self.key = next(f"generate.constraint.{name}" for name, value in settings if value)
        self._fresh = self._compiled()

    def begin(self, said: Sequence[int] = (), prompt: str = "") -> "Matcher":
        """A matcher for one sample. A form is of the prompt and what follows, so `said`, the prompt's tokens,
        count; any other constraint begins after them.

        Raises:
            ConfigError: no text in that form begins with the prompt.
        """
        fresh = self._fresh.deep_copy()
        if self.settings.form and len(said) and not fresh.consume_tokens([int(token) for token in said]):
            name = FORMS[self.settings.form].name
            raise ConfigError(f"{self.key} = {self.settings.form!r}: no {name} begins with {prompt!r}.")
        return Matcher(fresh, self.tokenizer.size)

    def _compiled(self) -> Any:
        try:
            import llguidance
        except ImportError:
            raise ConfigError(f"{self.key} needs a package more: pip install 'telos-lm[constrain]'") from None
        tokenizer = self.tokenizer
        if not tokenizer.lossless and tokenizer.kind != "character":
            raise ConfigError(
                f"{self.key}: the tokens of this {tokenizer.kind} vocabulary are not bytes of text one after "
                "the other, so what they will make cannot be told. It goes with vocabularies that give any "
                "text back exactly (bpe, wordpiece, unigram, byte) and with character."
            )
        made = llguidance.LLMatcher(_vocabulary(tokenizer), self._grammar(), log_level=0)
        mask = b"" if made.is_error() else made.compute_bitmask()
        if made.is_error():
            raise ConfigError(f"{self.key}: {_first_line(made.get_error())}")
        if not any(mask):
            raise ConfigError(f"{self.key}: this vocabulary can say nothing that matches.")
        return made

    def _grammar(self) -> str:
        """In llguidance's form of Lark: one terminal. `&` is what both of two expressions match. Without
        `no_forcing`, of tokens that begin alike only the one would be allowed that the tokenizer would take
        for the only text that is left."""
        sayable = f" & /{_sayable(self.tokenizer)}/" if self.tokenizer.kind == "character" else ""
        options = '%llguidance { "no_forcing": true }'
        return f"{options}\nstart: TEXT\nTEXT: /{_delimited(self._pattern())}/{sayable}"

    def _pattern(self) -> str:
        given = self.settings
        if given.form:
            return form_pattern(given.form)
        return given.regex or "|".join(map(_literally, given.choices))


class Matcher:
    """Where one sample is in the expression."""

    def __init__(self, inner: Any, size: int) -> None:
        self._inner, self._size = inner, size

    @property
    def complete(self) -> bool:
        """Whether what is said matches as it is."""
        return bool(self._inner.is_accepting())

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens (size,) may come next; what the end token has here means nothing."""
        bits = np.frombuffer(self._inner.compute_bitmask(), np.uint8)
        return np.unpackbits(bits, count=self._size, bitorder="little").astype(np.bool_)

    def add(self, token: int) -> None:
        """One more token, which is allowed."""
        taken = self._inner.consume_token(token)
        assert taken, self._inner.get_error()


class _Vocabulary:
    """The vocabulary as llguidance asks for it."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id, self.bos_token_id = tokenizer.end, None
        self.tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.size)]
        self.special_token_ids = sorted(tokenizer.special_ids)

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).tolist()
        return ids


@lru_cache(maxsize=4)
def _made(key: str, tokenizer: Tokenizer) -> Any:
    import llguidance

    return llguidance.LLTokenizer(_Vocabulary(tokenizer))


def _vocabulary(tokenizer: Tokenizer) -> Any:
    return _made(tokenizer.hash, tokenizer)


def _sayable(tokenizer: Tokenizer) -> str:
    """Any text of the characters that have a token."""
    ordinary = [token for token in range(tokenizer.size) if token not in tokenizer.special_ids]
    characters = {tokenizer.token_bytes(token).decode() for token in ordinary}
    return "(" + "|".join(sorted(map(_literally, characters))) + ")*"


def _literally(text: str) -> str:
    """An expression that matches this text and no other."""
    return "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in text)


def _delimited(pattern: str) -> str:
    """The pattern between slashes and on one line."""
    return re.sub(r"(?s)(\\.)|/|\n", lambda found: found[1] or {"/": r"\/", "\n": r"\n"}[found[0]], pattern)


def _first_line(error: str) -> str:
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[0] if lines else "the library refuses it without a word"

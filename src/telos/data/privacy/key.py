"""Keys and tokens that give access: by the prefixes of their issuers, JSON web tokens, private keys."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar, final

from telos.data.privacy._base import Kind, Span
from telos.data.privacy._view import View

__all__ = ["Key", "entropy"]

_FORMS = re.compile(
    r"(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])"  # Amazon
    r"|AIza[0-9A-Za-z_\-]{35}(?![A-Za-z0-9_\-])"  # Google
    r"|ya29\.[0-9A-Za-z_\-]{20,400}"
    r"|gh[pousr]_[A-Za-z0-9]{36,255}"  # GitHub
    r"|github_pat_[A-Za-z0-9_]{22,255}"
    r"|glpat-[A-Za-z0-9_\-]{20,64}"  # GitLab
    r"|xox[abeoprs]-[A-Za-z0-9\-]{10,250}"  # Slack
    r"|sk-[A-Za-z0-9_\-]{20,250}"  # OpenAI and those who do alike
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,250}"  # Stripe
    r"|hf_[A-Za-z0-9]{30,64}"  # Hugging Face
    r"|npm_[A-Za-z0-9]{36}"
    r"|pypi-[A-Za-z0-9_\-]{40,250}"
    r"|SG\.[A-Za-z0-9_\-]{16,64}\.[A-Za-z0-9_\-]{16,64}"  # SendGrid
    r"|LTAI[A-Za-z0-9]{12,24}"  # Alibaba
    r"|AKID[A-Za-z0-9]{32}"  # Tencent
    r"|eyJ[A-Za-z0-9_\-]{10,4000}\.eyJ[A-Za-z0-9_\-]{5,4000}\.[A-Za-z0-9_\-]{10,4000}"  # RFC 7519
)
_PLACE = re.compile(
    r"(?<![A-Za-z0-9_])(?=AKIA|ASIA|AIza|ya29|gh[pousr]_|github_pat_|glpat-|xox|sk-|[rs]k_|hf_|npm_|pypi-|SG\.|LTAI|AKID|eyJ)"
)
_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_BODY = re.compile(r"(?:[\sA-Za-z0-9+/=:,.\-]|\\n){0,20000}")


@final
class Key(Kind):
    """What opens an account to whoever has it."""

    priority: ClassVar[int] = 90

    def spans(self, view: View) -> Iterator[Span]:
        """See `Kind.spans`."""
        found = [*_private_keys(view), *(span for run in view.long_words for span in _tokens(view, *run))]
        yield from sorted(found)

    def same(self, found: str) -> str:
        """The key as it is."""
        return found


def entropy(text: str) -> float:
    """Bits per character, by the frequencies in the text itself (Shannon, 1948)."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _tokens(view: View, begin: int, end: int) -> Iterator[Span]:
    place = begin
    while hint := _PLACE.search(view.text, place, end):
        found = _FORMS.match(view.text, hint.start(), end)
        good = found is not None and _is_random(found[0])
        if found and good:
            yield found.span()
        place = found.end() if found and good else hint.start() + 1


def _is_random(key: str) -> bool:
    """Whether it is drawn by chance: a digit, both or many letters, no long repeats; not an example."""
    return (
        any(c.isdigit() for c in key[4:])
        and entropy(key) > 3.0
        and len(set(key[4:])) > 8
        and "EXAMPLE" not in key.upper()
    )


def _private_keys(view: View) -> Iterator[Span]:
    """From the first line to the last, or as far as the characters of a key go."""
    place = 0 if b"-----BEGIN " in view.bytes else len(view.text)
    while begin := _BEGIN.search(view.text, place):
        body = _BODY.match(view.text, begin.end())
        assert body
        last = _END.search(view.text, begin.end(), body.end())
        place = last.end() if last else begin.end() + len(body[0].rstrip())
        if place - begin.end() > 60:
            yield begin.start(), place

"""Chinese: documents that are not, or no longer, Chinese text.

乱码 are recognised by what wrong decodings leave: U+FFFD and private code points; 锟斤拷, which is two U+FFFD
read as GBK; 烫 and 屯, which are memory that was never written; and the characters that UTF-8 read as GBK
consists of, such as 锛 and 鐨 for the first bytes of ， and 的.
"""

import re
from typing import Annotated, Final, final

import numpy as np
from pydantic import Field

from telos.batch import Document
from telos.data.filters._base import Filter
from telos.data.filters._words import BLANK, IDEOGRAPH, Words, words_of

__all__ = ["Chinese"]

Share = Annotated[float, Field(ge=0, le=1)]

_LOST: Final = re.compile("[\ufffd\ue000-\uf8ff\x80-\x84\x86-\x9f]+|[锟斤拷]{3,}|烫{3,}|屯{3,}")
_MISREAD: Final = re.compile("[锛銆鐨涓鍦浜鏄鎴浠鍒鍙璇鏈瀹鍥鏃鐢绗闂]")
_SUSPECT: Final = re.compile("[\ufffd\ue000-\uf8ff\x80-\x84\x86-\x9f锟斤拷烫屯锛銆鐨涓鍦浜鏄鎴浠鍒鍙璇鏈瀹鍥鏃鐢绗闂]")
_WIDE: Final = re.compile("[０-９Ａ-Ｚａ-ｚ]+")
_MANY: Final = 0.05


@final
class Chinese(Filter):
    """Documents that are Chinese and readable. Shares are of the characters that are not blank."""

    han: Share = 0.3
    """Chinese characters, at least."""
    garbled: Share = 0.01
    """Characters that a wrong decoding left, at most."""
    wide: Share = 0.3
    """Full-width Latin letters and digits, at most; `clean.width` makes them half-width before."""

    def judge(self, document: Document, text: str) -> str | None:
        words = words_of(text)
        solid = len(text) - words.count(BLANK)
        if not solid or words.count(IDEOGRAPH) - _kana(words) < self.han * solid:
            return "chinese: few Chinese characters"
        if _SUSPECT.search(text) and _garbled(text, solid) > self.garbled * solid:
            return "chinese: garbled"
        wide = sum(map(len, _WIDE.findall(text)))
        return "chinese: full-width" if wide > self.wide * solid else None


def _kana(words: Words) -> int:
    """How many characters are hiragana or katakana."""
    if words.points.dtype == np.uint8:
        return 0
    return int(np.count_nonzero(words.points - np.uint32(0x3041) < 0x30FF - 0x3041 + 1))


def _garbled(text: str, solid: int) -> int:
    """Characters that a wrong decoding left. What UTF-8 read as GBK consists of are also characters in their
    own right, though rare ones: they count, all around them too, where they are many."""
    lost = sum(len(run) for run in _LOST.findall(text))
    misread = len(_MISREAD.findall(text))
    return solid if misread > _MANY * solid else lost

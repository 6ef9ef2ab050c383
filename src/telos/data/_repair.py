"""Cleaning steps that need a package more: wrong decodings are mended, Chinese changes its script."""

import re
from functools import cache
from typing import Any, Final

from telos.errors import ConfigError

__all__ = ["repair", "require", "simplified", "traditional"]

_AFTER: Final = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_UTF8: Final = re.compile(f"[Â-ß][{_AFTER}]|[à-ï][{_AFTER}]{{2}}|[ð-ô][{_AFTER}]{{3}}")
"""What UTF-8 looks like where it was read as Latin-1 or Windows-1252."""
_GBK: Final = re.compile("(?:[\x81-\xfe][\x40-\x7e\x80-\xfe])+")
_HIGH: Final = re.compile("(?:[\xa1-\xf7][\xa1-\xfe]){2,}")
"""What GB2312 looks like where it was read as Latin-1."""
_HAN: Final = re.compile("[\u4e00-\u9fff]")
_COMMON: Final = frozenset(
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都好看起发当没成只如事把还用"
    "第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间斯知世什两次使身者被高已亲其进此话常与活正感"
)
"""The most frequent Chinese characters: about half of any modern text."""
_ENOUGH: Final = 8
_SHARE: Final = 0.25


def require(*, repair: bool, script: bool) -> None:
    """Raises:
    ConfigError: a package that the step needs is not installed.
    """
    if repair:
        _fix()
    if script:
        _converter("t2s")


def repair(text: str) -> str:
    """Text that was decoded wrongly, as it should have been; what is not clearly so stays as it is.

    UTF-8 read as Latin-1 or Windows-1252, also twice: line by line, by the rules of ftfy (Speer, 2019), and
    only lines that a pattern suspects. GBK read as Latin-1: the whole text, if what comes out are Chinese
    characters of which a quarter are among the 160 most frequent; so lists of accented letters stay.
    """
    if text.isascii():
        return text
    if _HIGH.search(text):
        text = _from_gbk(text)
    if _UTF8.search(text):
        text = "\n".join(_mended(line) if _UTF8.search(line) else line for line in text.split("\n"))
    return text


def _mended(line: str) -> str:
    fixed: str = _fix()(line)
    return fixed


def _from_gbk(text: str) -> str:
    decoded = "".join(_decoded(run) for run in _HIGH.findall(text))
    han = _HAN.findall(decoded)
    if len(han) < _ENOUGH or sum(character in _COMMON for character in han) < _SHARE * len(han):
        return text
    return _GBK.sub(lambda run: _decoded(run.group()) or run.group(), text)


def _decoded(run: str) -> str:
    """Characters as the bytes that they were taken from, read as GBK; nothing where they are not GBK."""
    try:
        return run.encode("latin-1").decode("gbk")
    except UnicodeDecodeError:
        return ""


@cache
def _fix() -> Any:
    try:
        from ftfy import fix_encoding
    except ImportError:
        raise ConfigError(
            "data.clean.repair needs a package more: pip install 'telos-lm[data]'. Or leave it out."
        ) from None
    return fix_encoding


def simplified(text: str) -> str:
    """Traditional Chinese characters as simplified ones, phrases before single characters (OpenCC, t2s)."""
    return _converted(text, "t2s")


def traditional(text: str) -> str:
    """Simplified Chinese characters as traditional ones, phrases before single characters (OpenCC, s2t)."""
    return _converted(text, "s2t")


def _converted(text: str, how: str) -> str:
    if text.isascii():
        return text
    converted: str = _converter(how).convert(text)
    return converted


@cache
def _converter(how: str) -> Any:
    try:
        from opencc import OpenCC
    except ImportError:
        raise ConfigError(
            "data.clean.script needs a package more: pip install 'telos-lm[chinese]'. Or leave it out."
        ) from None
    return OpenCC(how)

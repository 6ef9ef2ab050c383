"""Which encoding a web page is in, and its text (WHATWG Encoding; HTML, section 13.2.3)."""

import codecs
import re

__all__ = ["decode", "hide", "show"]

_BEGINNING = 4096
"""Bytes at the beginning of a page that are searched for what it says it is in. Browsers look at 1024."""
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_SAID = re.compile(
    rb"""<meta[^>]{0,512}?charset\s*=\s*["']?\s*([\w.:-]+)|<\?xml[^>]{0,128}?encoding\s*=\s*["']([\w.:-]+)""",
    re.IGNORECASE,
)
_LARGER = {
    **dict.fromkeys(("gb2312", "gb_2312-80", "gbk", "x-gbk", "cp936", "gb18030", "chinese"), "gb18030"),
    **dict.fromkeys(("big5", "big5-hkscs", "big5hkscs", "x-x-big5", "cn-big5", "cp950"), "big5hkscs"),
    **dict.fromkeys(("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii"), "cp1252"),
    **dict.fromkeys(("iso-8859-9",), "cp1254"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ksc5601", "windows-949"), "cp949"),
}
"""Pages say the smaller encoding and mean the larger one, which reads everything that the smaller does."""
_SURROGATES = {0xDC80 + n: 0x10DC80 + n for n in range(128)}
_HIDDEN = re.compile("[\U0010dc80-\U0010dcff]")
_BACK = {there: here for here, there in _SURROGATES.items()}


def decode(page: bytes, said: str = "") -> str:
    """The page as text, without a byte order mark; bytes that are not in its encoding as lone surrogates.

    In order of precedence: a mark at its beginning; UTF-8, if all of it is that (what is in another encoding
    hardly ever is); what the server `said`; what the page says in its first 4096 bytes; UTF-8.
    """
    for mark, encoding in _MARKS:
        if page.startswith(mark):
            return page[len(mark) :].decode(encoding, _errors(encoding))
    try:
        return page.decode("utf-8")
    except UnicodeDecodeError:
        return _decode_as(_named(said) or _declared(page) or "utf-8", page)


def _decode_as(encoding: str, page: bytes) -> str:
    try:
        return page.decode(encoding, _errors(encoding))
    except UnicodeError:  # what is wrong is an ASCII byte, which has no surrogate
        return page.decode(encoding, "replace")


def _errors(encoding: str) -> str:
    return "replace" if encoding.startswith("utf-16") else "surrogateescape"


def _declared(page: bytes) -> str:
    found = _SAID.search(page, 0, _BEGINNING)
    encoding = _named((found[1] or found[2]).decode("ascii", "replace")) if found else ""
    return "utf-8" if encoding.startswith("utf-16") else encoding  # it could be read, so it is not that


def _named(label: str) -> str:
    """A codec of Python that reads text from bytes, or nothing."""
    label = label.strip().strip("\"'").lower()
    if label in _LARGER:
        return _LARGER[label]
    try:
        found = codecs.lookup(label)
    except (LookupError, ValueError):
        return ""
    fit = getattr(found, "_is_text_encoding", False) and found.name.replace("-", "_") not in _UNFIT
    return found.name if fit else ""


_UNFIT = frozenset(("utf_7", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs"))


def hide(text: str) -> str:
    """Lone surrogates as characters for private use, of which no text makes use: a parser would drop them."""
    return text.translate(_SURROGATES) if _has_surrogates(text) else text


def show(text: str) -> str:
    """What `hide` has hidden, as it was."""
    return text.translate(_BACK) if max(text, default="") >= "\U0010dc80" else text


def _has_surrogates(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False

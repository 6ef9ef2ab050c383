"""The main text of a web page.

A page is cut into blocks at its block elements. What is never text (scripts, forms, menus, footers) goes by
its tag or by what its class is called; of the rest, a block is judged by its length and by how much of it is
links, and a short one by its neighbours (Kohlschütter et al., 2010; Pomikálek, 2011). Titles and headings go
with the text below them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telos.data.sources import _charset
from telos.errors import DataError

__all__ = ["LONGEST", "main_text", "refused"]

LONGEST = 1 << 23
"""Bytes of a page, at most. A tree of its elements takes many times as much memory."""
ELEMENTS = 1_000_000
"""Elements that a page may make, at most; elements that are never closed multiply."""
DEPTH = 512
"""How deep elements may be nested, at most, as in browsers: the time to place one grows with it."""
FEW = 1000
"""Pages of fewer tags than this are not looked through before."""

_NEVER = frozenset(
    (
        *("script", "style", "noscript", "template", "svg", "math", "head", "iframe", "object", "embed"),
        *("nav", "footer", "aside", "form", "button", "select", "textarea", "input", "canvas", "audio"),
        *("video", "map", "dialog", "menu", "-comment", "-doctype"),
    )
)
_BLOCKS = frozenset(
    (
        *("address", "article", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl"),
        *("dt", "fieldset", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup"),
        *("hr", "html", "li", "main", "ol", "p", "pre", "section", "summary", "table", "tbody", "td"),
        *("tfoot", "th", "thead", "tr", "ul"),
    )
)
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_ARTICLES = frozenset(("main", "article"))
_PLAIN = frozenset(("body", "html", "p", "pre")) | _HEADINGS | _ARTICLES
"""Elements that are not judged by their class."""
_ROLES = ("navigation", "banner", "contentinfo", "search", "dialog")
_TIGHT = frozenset(("li", "dt", "dd", "td", "th", "tr"))
"""Elements whose blocks follow one another without a blank line."""
_BOILERPLATE = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|menu|footer|foot|sidebar|breadcrumbs?|crumbs?|cookies?|consent|share"
    r"|sharing|social|comments?|related|recommend(?:ed|ations)?|advert\w*|ads?|banner|popup|modal|copyright"
    r"|pagination|pager|toolbar|login|signup|newsletter|subscribe|skip)(?:$|[\s_-])",
    re.IGNORECASE,
)
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_FORMATTING = frozenset(b"a b big code em font i nobr s small strike strong tt u".split())
_SHUT = frozenset(b"p li dd dt h1 h2 h3 h4 h5 h6 tr td th thead tbody tfoot option".split())
"""Elements that the next of their kind closes, so they do not nest when they are left open."""
_VOID = frozenset(b"area base br col embed hr img input link meta param source track wbr".split())
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_BLANK = re.compile(r"[ \t\n\r\f\u00a0]+")


def refused(page: bytes) -> str:
    """Why a page is not even parsed, or nothing. A reader that has to be right about markup takes time that
    grows with the depth times the length, and memory with what is left open times what follows."""
    if len(page) > LONGEST:
        return f"a page of more than {LONGEST:,} bytes"
    if page.count(b"<") < FEW:
        return ""
    depth = formatting = elements = 0
    for found in _TAG.finditer(page):
        closes, tag = found[1], found[2].lower()
        if tag in _FORMATTING:
            formatting = max(0, formatting - 1) if closes else formatting + 1
            elements += not closes
        elif tag not in _VOID and tag not in _SHUT:
            depth = max(0, depth - 1) if closes else depth + 1
        if not closes:
            elements += 1 + (tag not in _VOID) * formatting
        if elements > ELEMENTS:
            return f"a page of more than {ELEMENTS:,} elements"
        if depth > DEPTH:
            return f"a page of elements nested more than {DEPTH:,} deep"
    return ""


def main_text(page: bytes, path: Path, charset: str = "") -> str:
    """The title and the main text; empty where there is none. `charset` is what the server said that the
    bytes are in.

    Blocks are parted by blank lines, items of lists and cells of tables by line ends. Bytes that are not in
    the page's encoding stay as lone surrogates.

    Raises:
        DataError: the package that reads HTML is not installed.
    """
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        raise DataError(f"{path}: HTML needs a package more: pip install 'telos-lm[data]'") from None
    tree = LexborHTMLParser(_charset.hide(_charset.decode(page, charset)))
    said = tree.css_first("title")
    title = _plain(said.text(deep=True)) if said else ""
    if tree.body is None:
        return _charset.show(title)
    root = _root(tree.body)
    cutter = _Cutter(total=len(root.text(deep=True)), articles=int(root.tag in _ARTICLES))
    return _charset.show(_joined(title, _chosen(cutter.cut(root))))


@dataclass(slots=True)
class _Block:
    """A stretch of text between the borders of block elements."""

    tag: str
    text: str
    linked: int = 0
    """Characters of it that are in links."""
    verdict: str = ""
    """`good`, `bad`, `short` or `near`; see `_judge`."""

    @property
    def weight(self) -> int:
        """Its length in characters, where a Chinese character says as much as three letters."""
        return len(self.text) + 2 * len(_WIDE.findall(self.text))


@dataclass(slots=True)
class _Cutter:
    """Walks a tree without recursion, and cuts its text into blocks."""

    total: int
    """Characters of the tree."""
    articles: int
    """How many elements are open that say they are an article."""
    blocks: list[_Block] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    linked: int = 0
    tags: list[str] = field(default_factory=lambda: ["div"])
    links: int = 0
    kept: int = 0

    def cut(self, root: Any) -> list[_Block]:
        """The blocks below `root`, in order."""
        node, depth = root.first_child, 0
        while node is not None:
            if (inner := self._enter(node)) is not None:
                node, depth = inner, depth + 1
                continue
            while node.next is None and depth:
                node, depth = node.parent, depth - 1
                self._leave(node.tag)
            node = node.next
        self._end()
        return self.blocks

    def _enter(self, node: Any) -> Any:
        """Take in a node; its first child, where there is one to go on with."""
        tag = node.tag
        if tag == "-text":
            text = node.text_content or ""
            self.parts.append(text)
            self.linked += len(text.strip()) if self.links else 0
        elif tag == "br":
            self.parts.append("\n" if self.kept else "\x00")
        elif tag not in _NEVER and not (tag in _BLOCKS and self._is_boilerplate(node, tag)):
            inner = node.first_child
            if inner is not None:
                self._open(tag)
                return inner
            if tag in _BLOCKS:
                self._end()
        return None

    def _open(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._end()
            self.tags.append(tag)
        self.links += tag == "a"
        self.kept += tag == "pre"
        self.articles += tag in _ARTICLES

    def _leave(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._end()
            self.tags.pop()
        self.links -= tag == "a"
        self.kept -= tag == "pre"
        self.articles -= tag in _ARTICLES

    def _end(self) -> None:
        """The block that has gathered is over."""
        if not self.parts:
            return
        text = "".join(self.parts)
        text = text.strip("\n").rstrip() if self.kept else _plain(text)
        if text:
            self.blocks.append(_Block(self.tags[-1], text, self.linked))
        self.parts, self.linked = [], 0

    def _is_boilerplate(self, node: Any, tag: str) -> bool:
        """By what it says it is. A `header` is the page's own unless it is in an article; a class may speak
        of what is within, as `no-sidebar` does, so what holds much of the text stays."""
        attributes = node.attributes
        role = attributes.get("role")
        if "hidden" in attributes or attributes.get("aria-hidden") == "true" or role in _ROLES:
            return True
        if tag == "header" and not self.articles:
            return True
        if not attributes or tag in _PLAIN:
            return False
        called = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
        return bool(_BOILERPLATE.search(called)) and len(node.text(deep=True)) < self.total / 3


def _plain(text: str) -> str:
    """White space as HTML shows it: runs are one blank, and a `<br>`, here NUL, ends a line."""
    if "\x00" not in text:
        return _BLANK.sub(" ", text).strip()
    return "\n".join(_BLANK.sub(" ", line).strip() for line in text.split("\x00")).strip("\n")


def _root(body: Any) -> Any:
    """Where the page itself says that its main text is, if that is a good part of all of it."""
    total = len(body.text(deep=True))
    for selector in ("main", "[role=main]", "article"):
        found = body.css(selector)
        if len(found) == 1 and len(found[0].text(deep=True)) > total / 4:
            return found[0]
    return body


GOOD = 70
"""Weight of a block that is text by its length alone."""


def _judge(block: _Block) -> str:
    """By itself: links and no text, text, or too short to say."""
    if block.linked > 0.5 * len(block.text):
        return "bad"
    if block.tag == "pre" or block.weight >= GOOD:
        return "good" if block.linked < 0.3 * len(block.text) else "near"
    return "short"


def _chosen(blocks: list[_Block]) -> list[_Block]:
    """The blocks that are main text: the long ones, and the short ones between them. On a page without any
    long one, all that is not links."""
    for block in blocks:
        block.verdict = _judge(block)
    if all(block.verdict != "good" for block in blocks):
        return [block for block in blocks if block.verdict != "bad"]
    return [block for block, keep in zip(blocks, _kept(blocks), strict=True) if keep]


def _kept(blocks: list[_Block]) -> Iterator[bool]:
    """A block that is too short to say goes with its neighbours: kept between two good ones; a heading is
    kept before a good one."""
    before = _neighbours(blocks)
    after = _neighbours(blocks[::-1])[::-1]
    for block, left, right in zip(blocks, before, after, strict=True):
        if block.verdict in ("good", "bad"):
            yield block.verdict == "good"
        elif block.tag in _HEADINGS:
            yield right == "good"
        else:
            yield left == right == "good" or (left == "good" and block.verdict == "near")


def _neighbours(blocks: list[_Block]) -> list[str]:
    """What the last block before each was that is not short: `good`, or `bad` at the edge."""
    found, last = [], "bad"
    for block in blocks:
        found.append(last)
        last = block.verdict if block.verdict in ("good", "bad") else last
    return found


def _joined(title: str, blocks: list[_Block]) -> str:
    """One text. A heading that the title says too is the title, which often ends in the name of the site."""
    for at, block in enumerate(blocks[:3]):
        if block.tag in _HEADINGS and block.text in title:
            title = block.text
            del blocks[at]
            break
    text = title
    for last, block in zip([None, *blocks], blocks, strict=False):
        tight = last is not None and last.tag in _TIGHT and block.tag in _TIGHT
        text += ("\n" if tight else "\n\n" if text else "") + block.text
    return text

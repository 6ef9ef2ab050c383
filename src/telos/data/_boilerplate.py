"""Lines that web pages have around their text, found by rules; compare C4, which drops lines about JavaScript
and pages about policies (Raffel et al., 2020, section 2.2).

A line is dropped if it is short and says one of the things below, or is a row of links. Only lines with one
of a few words in them are looked at, so a text without any costs a search for each word.
"""

import re
from typing import Final

__all__ = ["without_boilerplate"]

_LONGEST: Final = 300
"""Characters of a line that can be dropped, at most: longer ones are prose that speaks of these things."""

_BEFORE: Final = 80
"""Characters before the notice in it, at most; and no whole sentence, which would be lost with the line."""
_SENTENCE: Final = re.compile("[。！？!?]")

_NOTICES: Final = re.compile(
    r"""
      \b(?:we|site|website|page)\b.{0,60}\buses?\s+cookies\b
    | \b(?:accept|reject|allow|manage)\b.{0,20}\bcookies\b
    | \bcookie\s+(?:policy|settings|preferences|notice|consent)\b
    | \b(?:enable|requires?|turn\s+on|disabled)\b.{0,40}\bjavascript\b
    | \bjavascript\b.{0,40}\b(?:enabled|disabled|required|is\s+off)\b
    | \ball\s+rights\s+reserved\b
    | ^\W*(?:copyright|©|\(c\))\s*(?:©|\(c\))?\s*(?:19|20)\d\d\b
    | ^\W*(?:terms\s+(?:of\s+(?:use|service)|and\s+conditions)|privacy\s+(?:policy|notice))\W*$
    | ^\W*(?:skip\s+to\s+(?:main\s+)?(?:content|navigation)|back\s+to\s+top|scroll\s+to\s+top)\W*$
    | ^\W*(?:share|tweet|follow\s+us|like\s+us|find\s+us)\s+(?:this\s+)?(?:(?:on|via|to|with)\s+)?
      (?:facebook|twitter|x|linkedin|instagram|whatsapp|email|pinterest|reddit|wechat)\b.{0,40}$
    | ^\W*(?:subscribe|sign\s+up)\s+(?:to|for)\s+(?:our|the)\s+newsletter\b
    | ^\W*(?:log\s*in|sign\s*in)\s*(?:/|\||or)\s*(?:register|sign\s*up|join)\W*$
    | 版权所有 | 保留所有权利 | 未经授权.{0,10}(?:转载|使用)
    | [\u4e00-\u9fff]ICP[备证]\S{0,12}\d | 公网安备
    | 本网?站(?:使用|采用).{0,10}(?:cookie|缓存)
    | ^\W*(?:分享到|分享至|扫一扫|扫码关注|关注我们的?|返回(?:顶部|首页)|回到顶部|加入收藏|设为首页)
    | ^\W*(?:责任编辑|责编|编辑)[：:]\s?\S{1,12}\s*$
    | ^\W*(?:上一篇|下一篇|上一页|下一页|相关(?:阅读|推荐|文章))(?:[：:].*)?\W*$
    | ^\W*当前位置[：:]
    | 举报(?:电话|邮箱)[：:]
    """,
    re.IGNORECASE | re.VERBOSE,
)
_TRIGGERS: Final = (
    *("cookie", "javascript", "rights reserved", "copyright", "©", "(c)", "terms ", "privacy ", "skip to"),
    *("to top", "share", "tweet", "follow us", "like us", "find us", "newsletter", "register", "sign up"),
    *("join", "版权所有", "所有权利", "未经授权", "icp", "公网安备", "分享", "扫一扫", "扫码", "关注我们"),
    *("返回", "回到顶部", "加入收藏", "设为首页", "编辑", "一篇", "一页", "相关", "当前位置", "举报"),
)
"""In lower case; every line that `_NOTICES` finds has one."""
_SEPARATORS: Final = (" | ", " » ", " > ", " › ", " · ", "｜", " / ")
_LINKS: Final = frozenset(
    """
    home, about, about us, contact, contact us, news, blog, products, services, login, log in, sign in,
    sign up, register, search, help, faq, sitemap, site map, privacy, terms, careers, jobs, support, shop,
    store, cart, account, my account, menu, archive, archives, categories, forum, forums, download, downloads,
    press, events, subscribe, 首页, 主页, 新闻, 关于我们, 联系我们, 产品, 服务, 登录, 注册, 搜索, 帮助,
    网站地图, 论坛, 博客, 下载, 招聘, 财经, 体育, 娱乐, 科技, 更多
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)
"""What almost every site has links to."""


def without_boilerplate(text: str) -> str:
    """Without the lines that are notices, or rows of links."""
    lowered = text.lower() if len(text.lower()) == len(text) else text
    suspects = {place for word in _TRIGGERS if word in lowered for place in _found(lowered, word)}
    suspects |= {place for mark in _SEPARATORS if mark in text for place in _found(text, mark)}
    gone = [(begin, end) for begin, end in sorted(suspects) if _is_boilerplate(text[begin:end])]
    if not gone:
        return text
    kept, at = [], 0
    for begin, end in gone:
        kept.append(text[at:begin])
        at = min(end + 1, len(text))
    return "".join([*kept, text[at:]])


def _found(text: str, word: str) -> set[tuple[int, int]]:
    """The short lines with `word` in them: where they begin and end."""
    lines, at = set(), text.find(word)
    while at >= 0:
        begin, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        end = len(text) if end < 0 else end
        if end - begin <= _LONGEST:
            lines.add((begin, end))
        at = text.find(word, end)
    return lines


def _is_boilerplate(line: str) -> bool:
    found = _NOTICES.search(line)
    if found and found.start() <= _BEFORE and not _SENTENCE.search(line, 0, found.start()):
        return True
    return _is_links(line)


def _is_links(line: str) -> bool:
    """Three or more short things between separators, most of which every site has."""
    for mark in _SEPARATORS:
        if mark in line:
            parts = [part.strip().lower() for part in line.strip(" |｜»>›·/").split(mark)]
            known = sum(part in _LINKS for part in parts)
            if len(parts) >= 3 and 2 * known >= len(parts):
                return True
    return False

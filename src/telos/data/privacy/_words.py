"""Words before a number that say what it is."""

import re
from typing import NamedTuple

from telos.data.privacy._view import View

__all__ = [
    "IDENTITY",
    "OTHER",
    "PASSPORT",
    "PHONE",
    "SOCIAL_SECURITY",
    "Words",
    "denied",
    "is_amount",
    "said",
]


class Words(NamedTuple):
    """Words of a spaced script, as wholes, and words of Chinese or Korean, anywhere."""

    spaced: frozenset[str]
    other: re.Pattern[str]


def _words(spaced: str, other: str) -> Words:
    return Words(frozenset(spaced.split()), re.compile("|".join(other.split())))


PHONE = _words(
    "phone phones telephone telephones mobile mob cell fax tel tels call calls called sms dial hotline "
    "contact reach ring whatsapp cellphone telefon handy téléphone tél teléfono móvil telefono cellulare"
    " telefone",
    "电话 手机 联系 热线 致电 拨打 传真 短信 座机 来电 微信 電話 手機 聯絡 傳真",
)
"""Of a telephone."""
OTHER = _words(
    "order invoice isbn issn doi serial ticket tracking ref reference sku part item model id no code account "
    "acct case patent pmid arxiv zip score version build batch lot article page bill receipt parcel shipment "
    "transaction product barcode ean upc uid pid row record",
    "订单 单号 编号 流水 序列 书号 批号 型号 货号 邮编 运单 票号 学号 工号 合同 案号 qq 账号 帐号 编码 条码 "
    "代码 专利 文号 批次 版本 序号 商品 产品 订單 快递 发票",
)
"""Of an order, an article and the like."""
IDENTITY = _words(
    "ssn identity card hkid nric fin dni nie cpf aadhaar uidai citizen tax insurance nino cédula "
    "identification",
    "身份证 身份證 证件 證件 公民 身份 주민",
)
"""Of a person's identity."""
PASSPORT = _words("passport passports", "护照 護照 通行证 通行證 旅行证")
"""Of a passport."""
SOCIAL_SECURITY = _words("ssn social", "社会安全 社安")
"""Of social security in the United States."""

_TOKEN = re.compile(r"\[[a-z_0-9]+\]|[a-z\u00df-\u00ff]+")
"""A tag or a word: what was replaced says nothing about what comes next."""
_SENTENCE = re.compile(r"[\n。！？；;!?]|(?<=[a-zA-Z0-9]{4})\. (?=[A-Za-z])")
_MONEY_BEFORE = re.compile(r"(?:[$€£¥₹]|rmb|cny|usd|eur|gbp|hkd|人民币|美元)\s?$")
_UNIT_AFTER = re.compile(
    r"\s?(?:%|°|元|万|亿|千|块|美元|人|个|次|年|月|米|公里|平方|吨|册|克|(?:kg|km|mb|gb|kb|bytes|usd|eur|years"
    r"|people|tokens|steps|dollars|million|billion|euros|inhabitants|copies|votes)(?![a-z]))"
)


def said(view: View, place: int, words: Words, but: Words | None = None) -> bool:
    """Whether one of `words` stands in the 32 characters before `place`, in the same sentence and nearer
    than one of `but`."""
    before = _SENTENCE.split(view.before(place))[-1]
    last = _last(before, words)
    return last > 0 and (but is None or last > _last(before, but))


def denied(view: View, place: int) -> bool:
    """Whether words say that the number at `place` is of a thing, and not of a person."""
    return said(view, place, OTHER, IDENTITY)


def _last(text: str, words: Words) -> int:
    """Where the last of the words ends; 0 without any."""
    last = max((found.end() for found in _TOKEN.finditer(text) if found[0] in words.spaced), default=0)
    return (
        last
        if text.isascii()
        else max(last, max((hit.end() for hit in words.other.finditer(text)), default=0))
    )


def is_amount(view: View, begin: int, end: int) -> bool:
    """Whether a currency stands before or a unit behind it."""
    return bool(_MONEY_BEFORE.search(view.before(begin, 8)) or _UNIT_AFTER.match(view.after(end)))

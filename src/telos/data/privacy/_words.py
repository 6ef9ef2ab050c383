"""Words before a number that say what it is."""

import re

from telos.data.privacy._view import View

__all__ = ["IDENTITY", "OTHER", "PASSPORT", "PHONE", "is_amount", "said"]

PHONE = re.compile(
    r"(?<![a-z\[])(?:tele)?(?:phone|mobile|cell|fax|tel|call|whatsapp|text|sms|dial|hotline|contact|reach|ring"
    r"|mob|telefon|handy|téléphone|tél|teléfono|móvil|telefono|cellulare|telefone)(?![a-z\]])"
    r"|电话|手机|联系|热线|致电|拨打|传真|短信|座机|来电|号码|微信|電話|手機|聯絡|傳真"
)
"""Of a telephone."""
OTHER = re.compile(
    r"(?<![a-z])(?:order|invoice|isbn|issn|doi|serial|ticket|tracking|ref|reference|sku|part|item|model|id|no"
    r"|code|account|acct|case|patent|pmid|arxiv|zip|score|version|build|batch|lot|article|page|bill|receipt"
    r"|parcel|shipment|transaction|product|barcode|ean|upc|uid|pid|row|record)(?![a-z])"
    r"|订单|单号|编号|流水|序列|书号|批号|型号|货号|邮编|运单|票号|学号|工号|合同|案号|qq|账号|帐号|编码|条码"
    r"|代码|专利|文号|批次|版本|序号|商品|产品|订單|快递|发票"
)
"""Of an order, an article and the like."""
IDENTITY = re.compile(
    r"(?<![a-z])(?:ssn|social security|identity|id card|hkid|nric|fin|dni|nie|cpf|aadhaar|uidai|passport|tax"
    r"|national insurance|nino|cédula|identification)(?![a-z\]])"
    r"|身份证|身份證|证件|證件|公民|身份|주민"
)
"""Of a person's identity."""
PASSPORT = re.compile(r"(?<![a-z_])passport(?![a-z\]])|护照|護照|通行证|通行證|旅行证")
"""Of a passport."""

_MONEY_BEFORE = re.compile(r"(?:[$€£¥₹]|rmb|cny|usd|eur|gbp|hkd|人民币|美元)\s?$")
_UNIT_AFTER = re.compile(
    r"\s?(?:%|°|元|万|亿|千|块|美元|人|个|次|年|月|米|公里|平方|吨|册|克|(?:kg|km|mb|gb|kb|bytes|usd|eur|years"
    r"|people|tokens|steps|dollars|million|billion|euros|inhabitants|copies|votes)(?![a-z]))"
)


def said(view: View, place: int, words: re.Pattern[str], but: re.Pattern[str] | None = None) -> bool:
    """Whether one of `words` stands in the 32 characters before `place`, in the same line and nearer than
    one of `but`."""
    before = view.before(place).rpartition("\n")[2]
    last = max((found.end() for found in words.finditer(before)), default=0)
    return last > 0 and not (but and but.search(before, last))


def is_amount(view: View, begin: int, end: int) -> bool:
    """Whether a currency stands before or a unit behind it."""
    return bool(_MONEY_BEFORE.search(view.before(begin, 8)) or _UNIT_AFTER.match(view.after(end)))

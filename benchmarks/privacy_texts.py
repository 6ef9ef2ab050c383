"""Sentences for `privacy.py`: plain ones, ones with personal data (`§`), near-misses (`§9`: nine digits)."""

__all__ = ["NEAR", "PLAIN", "SAYING"]

PLAIN = {
    "en": [
        "The river rose in the night, and by morning the lower fields were under water.",
        "She had read the book twice before she understood why the ending was so quiet.",
        "In 1998 the town had 12,480 inhabitants; today there are fewer than nine thousand.",
        "The committee met at 14:30 on 12 May 2004 and adjourned without a vote.",
        "Most of the results in section 4.2 depend on the choice of the learning rate.",
        "A good translation keeps the sense: rhythm, if it can be kept, comes second.",
        "He said: take the second road on the left, then ask again at the mill.",
        "The price rose from $1,250.50 to $1,310.75 between 2001 and 2003.",
    ],
    "zh": [
        "那年冬天来得特别早，院子里的树叶一夜之间全落了。",
        "他把信读了两遍，才明白她为什么一直没有回来。",
        "1998年，这座小镇有12480名居民，如今已不足九千人。",
        "会议于2004年5月12日14:30开始，没有表决就散了。",
        "本文第4.2节的大部分结论取决于学习率的选择。",
        "好的翻译要保留意思；节奏若能保留，则在其次。",
        "他说：走左边第二条路，到了磨坊再问一问。",
        "价格从1250.50元涨到1310.75元，前后不过两年。",
    ],
}
_IDS = (
    *(
        "china_id",
        "us_ssn",
        "hong_kong_id",
        "taiwan_id",
        "singapore_id",
        "spain_id",
        "france_id",
        "brazil_id",
    ),
    *("korea_id", "india_id", "uk_nino"),
)
_ID = {
    "en": [
        "Her identity number is § according to the form.",
        "ID card: §.",
        "The applicant ( § ) signed on Monday.",
    ],
    "zh": ["身份证号：§。", "申请人（§）已签字。", "其证件号码为§，请核对。"],
}
SAYING = {
    "email": {
        "en": ["Write to § for details.", "Contact: <§>.", "My address is §, thanks!", "mailto:§"],
        "zh": ["请发邮件到§。", "邮箱：§，欢迎来信。", "有意者联系§谢谢。"],
    },
    "phone": {
        "en": ["Call § after six.", "My number is §.", "Phone: §", "You can reach me on §, any time."],
        "zh": ["电话§，找张先生。", "请拨打§咨询。", "我的号码是§，随时联系。", "张三（§）负责。"],
    },
    "phone_said": {
        "en": ["Tel. §", "Please call § today.", "mobile: §, evenings only."],
        "zh": ["电话：§。", "联系电话§，晚上打。", "传真：§"],
    },
    **dict.fromkeys(_IDS, _ID),
    "china_passport": {
        "en": ["Passport no. §, issued in Beijing.", "Chinese passport: §"],
        "zh": ["护照号码：§。", "持护照§入境。", "护照 § 已过期。"],
    },
    "card": {
        "en": ["Charge it to § please.", "Card number: §, valid thru 09/27.", "VISA §"],
        "zh": ["银行卡号：§。", "请转到§，谢谢。", "卡号§，户名李四。"],
    },
    "iban": {
        "en": ["Pay to § by Friday.", "IBAN: §, thank you.", "My account is §."],
        "zh": ["账户：§。", "请汇款至 § 。"],
    },
    "ip": {
        "en": [
            "Login from § at noon.",
            "The server is at §.",
            "host § refused the connection",
            "Blocked §: too many requests.",
        ],
        "zh": ["服务器地址：§。", "来自§的登录。", "该用户的IP为§，已封禁。"],
    },
    "key": {
        "en": ["export TOKEN=§ ", 'key = "§"', "Use § until Monday.", "curl -H 'Authorization: Bearer §'"],
        "zh": ["密钥：§ ", "请用 § 登录。"],
    },
    "password": {
        "en": ['password = "§"', "Password: § ", "the password is § by the way", "DB_PASSWORD=§ "],
        "zh": ["密码：§。", "密码是§，别忘了。", "登录口令为§ "],
    },
}
NEAR = {
    "en": [
        "Order no. §11 was shipped.",
        "Invoice §8 is due.",
        "ISBN 978-3-16-148410-0 and ISBN 9783161484100 are the same book.",
        "Upgrade to version 10.4.2.1 of the driver.",
        "Release 2.13.0.1 fixes it.",
        "See sections 3.1.4.1 and 3.1.4.2.",
        "The sum 12345678 + 87654321 = 99999999 is easy.",
        "Part number AB-§6-X fits too.",
        "Model X§7 is out of stock.",
        "pi is 3.14159265358979 and e is 2.718281828459045.",
        "Between 1998-05-12 and 2001-11-30 nothing happened.",
        "The file was written at 20041231235959.",
        "The card §card was refused: wrong check digit.",
        "commit 3f2a9c1d8e7b6a5f4c3d2e1f0a9b8c7d6e5f4a3b",
        "There are 7 000 000 000 people and 1 024 512 256 bytes.",
        "password: must be at least eight characters",
        'password = os.environ["PASSWORD"]',
        "token = tokenizer.encode(text)",
        "if x@y.T == z: return a[1:2]",
        "Mention @someone or pip install package@1.2.3 or logo@2x.png.",
        "ratio 16:9 at 12:30:45, std::vector and a::b",
        "doi:10.1000/182.1234.5678 and arXiv:2403.17673",
        "Tracking 1Z§8 was lost; ticket #§9.",
        "Scores: 12 34 56 78 90 12 34 56.",
        "uuid 123e4567-e89b-12d3-a456-426614174000",
        "Lines 100000-200000 of the table, 50.000.000 rows.",
        "task-oriented-dialogue-systems-are-a-risk-averse-research-field",
    ],
    "zh": [
        "订单号§11已发货。",
        "发票号码：0§7。",
        "书号9787020002207，定价29.80元。",
        "请升级到版本10.4.2.1。",
        "快递单号§12，请查收。",
        "圆周率约为3.14159265358979。",
        "1998-05-12至2001-11-30期间没有记录。",
        "时间戳20041231235959写入文件。",
        "卡号§card校验错误。",
        "身份证号§id有误。",
        "商品编码§8，库存1200000件。",
        "QQ群号§9欢迎加入。",
        "全国人口1400000000人，其中城镇人口900000000人。",
        "密码：请输入至少八位字符。",
        "第3.1.4.1条和第3.1.4.2条。",
        "比分为12:30，用时12:30:45。",
        "型号X§7已停产。",
        "公式12345678＋87654321＝99999999。",
        "合同编号2004-0512-0099。",
        "经度116.397428，纬度39.909187。",
    ],
}

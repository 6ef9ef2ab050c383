"""Personal data: what each kind finds and leaves, and what scrubbing promises for any text."""

import pickle
import random
import re
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telos.config import read
from telos.data import privacy
from telos.data.privacy import _checks
from telos.data.privacy._base import Kind
from telos.data.privacy._scrub import Scrubber
from telos.data.privacy._settings import PrivacySettings
from telos.data.privacy._view import View
from telos.errors import ConfigError
from telos.find import find, names

KINDS = [kind for kind in names(privacy) if kind != "name"]
PEM = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 4 + "-----END PRIVATE KEY-----"


def scrub(text: str, **what: object) -> str:
    return Scrubber(PrivacySettings(action="replace", **what)).scrub(text).text  # type: ignore[arg-type]


FOUND = {
    "email": [
        "a «zhang.san@qq.com» b",
        "邮箱«zhang_3@mail.tsinghua.edu.cn»请查收",
        "<«O'Neil+x@corp.co.uk»>.",
        "«foo (at) gmail (dot) com»!",
        "«foo at gmail dot com» it is",
        "回复．«ＣＨＵＮ２１９＠ＳＯＨＵ．ＣＯＭ»谢谢你们",
    ],
    "phone": [
        "电话«13812345678»，",
        "手机：«１３８１２３４５６７８» ",
        "«138-1234-5678»",
        "«138 1234 5678»。",
        "电话 «1 3 8 1 2 3 4 5 6 7 8»",
        "«+86 138 1234 5678»",
        "«0086-13812345678»",
        "«+8613812345678»",
        "«010-62345678»",
        "«（021）62345678»",
        "«0755-62345678转123»分机",
        "«400-820-8820»",
        "call «(212) 555-7890» now",
        "«212-555-7890»,",
        "«+1 212.555.7890»",
        "Phone: «2125557890».",
        "«+44 20 7946 0958»",
        "«+33 6 12 34 56 78» ",
        "«06 12 34 56 78»",
        "«020 7946 0958»",
        "«030/12345678»",
        "Tel. «912 345 678»",
    ],
    "china_id": [
        "身份证«11010519491231002X»。",
        "«440524188001010014»",
        "身份证号：«１１０１０５１９４９１２３１００２Ｘ»",
        "«110105 19491231 002x»",
        "身份证«110105491231002»号",
    ],
    "us_ssn": ["SSN «078-05-1120».", "my social is «078051120»"],
    "hong_kong_id": ["«A123456(3)»", "身份证«A123456（3）»", "HKID: «A1234563»"],
    "taiwan_id": ["身份證字號«A123456789»。"],
    "singapore_id": ["NRIC «S1234567D»"],
    "spain_id": ["DNI «12345678Z»", "NIE «X1234567L»"],
    "france_id": ["n° «2 55 08 14 168 025 38»", "«255081416802538»"],
    "brazil_id": ["CPF «529.982.247-25»", "cpf: «52998224725»"],
    "korea_id": ["«900101-1234568»", "주민등록번호 «201130-3999999»"],
    "india_id": ["Aadhaar «2345 6789 0124»."],
    "uk_nino": ["«AB123456C»", "NI «AB 12 34 56 C»."],
    "china_passport": ["护照«E12345678»", "passport no. «EA1234567»."],
    "card": [
        "«4111 1111 1111 1111» 123",
        "卡号«6222021234567890128»，",
        "«3782-822463-10005»",
        "«4111111111111111»",
    ],
    "iban": [
        "«DE89 3704 0044 0532 0130 00» and",
        "汇至«GB82WEST12345698765432»。",
        "«MT84MALT011000012345MTLCAST001S»",
    ],
    "ip": [
        "host «10.1.2.3»",
        "来自«8.8.8.8»的登录",
        "http://«61.135.169.121»:8080/x",
        "地址：«2001:4860:4860::8888»。",
        "[«fe80::1ff:fe23:4567:890a»]",
    ],
    "key": [
        "«AKIAIOSFODNN7ABCDEFG»",
        "x=«ghp_16C7e42F292c6912E7710c838347Ae178B4a»,",
        "«sk-proj-4f9Qx7Lm2Vb8Zt1Rk5Wd3Yc6Nh0Pj»",
        "«xoxb-123456789012-AbCdEfGhIj1234»",
        "«eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P»",
        f"«{PEM}»\n",
    ],
    "password": [
        "password = '«correcthorse»'",
        "DB_PASSWORD=«hunter22» ",
        "the password is «s3cr3t!x» ok",
        "密码：«abc12345»，",
        "密码是«abc12345»。",
        'api_key: "«9f8e7d6c5b4a39281706»"',
    ],
}
LEFT = {
    "email": [
        "user@example.com",
        "git@github.com:telos/telos",
        "logo@2x.png",
        "x@y.T",
        "@someone",
        "pkg@1.2.3",
        "a@b",
    ],
    "phone": [
        "订单号13812345678",
        "order no. 2125557890",
        "ISBN 9787020002207",
        "1998-05-12",
        "20041231235959",
        "3.13812345678",
        "$13812345678",
        "12 34 56 78 90 12",
        "1400000000人",
        "100000-200000",
        "2125557890",
        "x13812345678",
        "(212) 555-0123",
        "h * 69069 + 907133923",
        "1 3 8 1 2 3 4 5 6 7 8",
        "01.02.2003 1234",
        "call = 13.171875",
    ],
    "china_id": [
        "110105194912310021",
        "990105194912310021",
        "11010519491331002X",
        "1101051949123100210",
        "订单110105491231002",
    ],
    "us_ssn": [
        "666-05-1120",
        "900-05-1120",
        "078-00-1120",
        "078-05-0000",
        "078051120",
        "078 05 1120",
        "order 078-05-1120",
    ],
    "hong_kong_id": ["A123456(4)", "A1234563", "XA123456(3)"],
    "taiwan_id": ["A123456788", "型号A123456789", "A323456789"],
    "singapore_id": ["S1234567E", "AS1234567D"],
    "spain_id": ["12345678A", "part no. 12345678Z"],
    "france_id": ["2 55 08 14 168 025 39", "255081416802539"],
    "brazil_id": ["529.982.247-26", "52998224725", "111.111.111-11"],
    "korea_id": ["900101-1234567", "901301-1234567"],
    "india_id": ["2345 6789 0125", "2345 6789 0124 1111", "234567890124"],
    "uk_nino": ["BG123456C", "AB123456E", "part AB123456C"],
    "china_passport": ["E12345678", "型号E12345678", "护照E1234567"],
    "card": ["4111 1111 1111 1112", "9111111111111111", "41111111111111112"],
    "iban": ["DE88370400440532013000", "XX89370400440532013000", "DE8937040044053201300"],
    "ip": [
        "version 1.2.3.4",
        "版本10.4.2.1",
        "pkg-1.2.3.4.tar.gz",
        "3.1.4.1",
        "127.0.0.1",
        "192.0.2.7",
        "255.255.255.0",
        "192.168.1.0/24",
        "1.2.3.4.5",
        "300.1.2.3",
        "12:30:45",
        "std::vector",
        "2001:db8::1",
        "::1",
        "dead::beef",
        "fe80::/10",
    ],
    "key": [
        "AKIAIOSFODNN7EXAMPLE",
        "task-oriented-dialogue-systems-are-a-risk-averse",
        "ghp_short",
        "sk-aaaaaaaaaaaaaaaaaaaaaaaaa1",
    ],
    "password": [
        "password: must be long",
        'password = os.environ["X"]',
        "token = tokenizer.encode(x)",
        "password = None",
        "密码：请输入八位",
        "password = '${SECRET}'",
        "key: value12345",
        "embed_tokens = HiggsAudioV2Embeddings(config)",
        "TOKEN_TYPE = 'urn:params:aws4:token-type:aws4_request'",
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_examples(kind):
    assert FOUND[kind] and LEFT[kind]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
@pytest.mark.parametrize("alone", [True, False])
def test_it_is_found_from_end_to_end(kind, text, alone):
    """By its kind alone, and among all kinds, which do not take it from each other."""
    before, datum, after = re.split("[«»]", text)
    found = Scrubber(PrivacySettings(action="replace", kinds=(kind,) if alone else ())).find(
        before + datum + after
    )
    assert [(one.begin, one.end, one.kind) for one in found] == [(len(before), len(before + datum), kind)]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in LEFT.items() for text in texts])
def test_what_only_looks_like_it_is_left(kind, text):
    for around in ("{}", "see {} there", "见{}。"):
        assert scrub(around.format(text), kinds=(kind,)) == around.format(text)


def test_chinese_text_without_blanks():
    text = "张三，电话13812345678，身份证11010519491231002X，邮箱zhang@qq.com。"
    assert scrub(text) == "张三，电话[PHONE]，身份证[CHINA_ID]，邮箱[EMAIL]。"


def test_counts_and_shapes_show_nothing_of_the_data():
    done = Scrubber(PrivacySettings(action="replace")).scrub(
        "张三 13812345678, 13912345678; li@qq.com 密码：我abc12345"
    )
    assert done.counts == {"email": 1, "phone": 2}
    assert done.shapes == {"email": ("aa@aa.aaa",), "phone": ("00000000000",)}
    assert not done.drop


def test_actions():
    text = "mail li@qq.com"
    assert Scrubber(PrivacySettings()).scrub(text) == (text, {}, {}, False)
    dropped = Scrubber(PrivacySettings(action="drop")).scrub(text)
    assert (dropped.text, dropped.drop, dropped.counts) == (text, True, {"email": 1})
    assert not Scrubber(PrivacySettings(action="drop")).scrub("nothing").drop
    assert scrub(text, replacement="mask") == "mail **@**.***"


def test_stand_ins_are_the_same_for_the_same_datum_and_reserved():
    fake = Scrubber(PrivacySettings(action="replace", replacement="fake"))
    one, other = fake.scrub("Li@qq.com, +86 138 1234 5678").text, fake.scrub("li@qq.com, 13812345678").text
    assert one == other
    assert re.fullmatch(r"user\d+@example\.com, \+1 \d{3}-555-01\d\d", one)
    assert fake.scrub("wang@qq.com").text != fake.scrub("li@qq.com").text
    another = Scrubber(PrivacySettings(action="replace", replacement="fake", seed=1))
    assert another.scrub("li@qq.com").text != fake.scrub("li@qq.com").text
    assert re.fullmatch(r"身份证\[CHINA_ID_[0-9a-f]{6}\]", fake.scrub("身份证11010519491231002X").text)


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_finds_its_own_stand_in(kind):
    member = find(privacy, kind, Kind)(PrivacySettings())
    draw = random.Random(0)
    example = re.split("[«»]", FOUND[kind][0])[1]
    for _ in range(200):
        stand_in = member.stand_in(example, draw.getrandbits(64))
        assert not list(member.spans(View(f"phone SSN password: {stand_in} ")))


def test_of_overlapping_finds_the_longest_then_the_first_in_priority():
    scrubber = Scrubber(PrivacySettings(action="replace"))
    assert [one.kind for one in scrubber.find("DE89 3704 0044 0532 0130 00")] == ["iban"]
    assert [one.kind for one in scrubber.find("call host 10.82.9.39 now")] == ["ip"]


@pytest.mark.parametrize("replacement", ["tag", "mask", "fake"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_scrubbing_twice_is_scrubbing_once(replacement, data):
    """Whatever stands side by side: pieces of every example, cut and joined."""
    pieces = [re.sub("[«»]", "", text) for texts in (*FOUND.values(), *LEFT.values()) for text in texts]
    piece = st.sampled_from(pieces) | st.text("0123456789-+(). @:=Aa电话[]\n", max_size=12)
    text = "".join(data.draw(st.lists(piece, max_size=6)))
    cut = data.draw(st.integers(0, max(0, len(text) - 1)))
    scrubber = Scrubber(PrivacySettings(action="replace", replacement=replacement))
    for one in (text, text[cut:], text[:cut] + text[cut + 1 :]):
        done = scrubber.scrub(one)
        again = scrubber.scrub(done.text)
        assert (again.text, again.counts) == (done.text, {})
        assert pickle.loads(pickle.dumps(scrubber)).scrub(one) == done


def test_what_a_replacement_sets_free_is_found_too():
    """The telephone number was a part of a longer number to its kind, until the account was gone."""
    assert scrub("DE89370400440532013000-13812345678") == "[IBAN]-[PHONE]"


@given(text=st.text())
@settings(max_examples=100, deadline=None)
def test_folding_keeps_places(text):
    view = View(text)
    assert len(view.text) == len(view.bytes) == len(text)


def test_finds_do_not_overlap_and_are_in_order():
    text = " ".join(re.sub("[«»]", "", one) for texts in FOUND.values() for one in texts) * 3
    found = Scrubber(PrivacySettings(action="replace")).find(text)
    assert all(one.end <= two.begin for one, two in pairwise(found))
    assert len(found) > 150


HOSTILE = (
    *(
        "1",
        "a",
        "@",
        "a@",
        "a.",
        "@a.",
        "1 ",
        "1-",
        "(1",
        "+1",
        ":",
        "1:",
        "1.",
        "0.0.",
        "::",
        "=",
        "A1",
        "eyJa.",
    ),
    *(
        "sk-",
        "密码是",
        "password=",
        "password is ",
        " at a dot ",
        "[",
        "[A",
        "１",
        "－",
        "138",
        "4111 ",
        "DE89 ",
    ),
    *("E1", "0 ", "-----BEGIN PRIVATE KEY-----"),
)


def test_hostile_text_takes_linear_time():
    """Each in 60,000 characters, all kinds, in another process: minutes if any pattern were quadratic."""
    code = (
        "import sys\nfrom telos.data.privacy._scrub import Scrubber\n"
        "from telos.data.privacy._settings import PrivacySettings\n"
        "scrubber = Scrubber(PrivacySettings(action='replace'))\n"
        f"for bad in {HOSTILE!r}:\n    scrubber.find((bad * 60_000)[:60_000])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_settings_are_checked():
    assert read(PrivacySettings, {"action": "replace", "kinds": ["email"]}).kinds == ("email",)
    with pytest.raises(ConfigError, match=r"no kind 'emial' of personal data\. Did you mean 'email'"):
        read(PrivacySettings, {"kinds": ["emial"]})
    with pytest.raises(ConfigError, match="names must say in which folder"):
        read(PrivacySettings, {"kinds": ["name"]})


def test_check_digits_of_published_examples():
    """Of the standards and their best-known examples; each with any one digit changed is wrong."""
    assert _checks.iso7064_11_2("11010519491231002") == "X"  # GB 11643-1999
    assert _checks.luhn("79927398713")
    assert _checks.mod97("GB82WEST12345698765432")  # ISO 13616
    assert _checks.verhoeff("2363")
    for good, check in (
        ("79927398713", _checks.luhn),
        ("2363", _checks.verhoeff),
        ("GB82WEST12345698765432", _checks.mod97),
    ):
        for place, digit in enumerate(good):
            wrong = (good[:place] + str((int(digit) + 1) % 10) + good[place + 1 :]) if digit.isdigit() else ""
            assert not wrong or not check(wrong)

"""What of planted personal data is found, what else is, and how fast: documents in English and Chinese.

    python benchmarks/privacy.py [--documents 2000] [--presidio PYTHON]

Drawn from a seed: a document is a few plain sentences, some that hold personal data (labelled), and some
near-misses (orders, dates, versions, ISBNs, sums, product codes, wrong check digits). Recall: the share
of planted data of which every letter and digit was found; precision: the share of findings that touch
planted data of the same kind. Speed is megabytes of UTF-8 per second of processor time, beside a search
for `[0-9]{6}` in the same text, since the machine may be busy. `--presidio` names an interpreter with
presidio-analyzer, which is given the same documents. The result is written into results/. Sentences
and rules are by the same hand: the figures say that the rules do what they are meant to, not how they
fare on any text.
"""

import argparse
import importlib.metadata
import json
import lzma
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from privacy_texts import NEAR, PLAIN, SAYING

from telos.data import privacy
from telos.data.privacy._scrub import Scrubber
from telos.data.privacy._settings import PrivacySettings
from telos.doctor import hardware
from telos.find import names


class Planted(NamedTuple):
    """Personal data in a document: characters `begin` to `end`."""

    begin: int
    end: int
    kind: str


class Labelled(NamedTuple):
    """A document, and what is planted in it."""

    text: str
    planted: list[Planted]


# ---- data, each by the rules of those who give it, written apart from the code that is measured


def digits(draw: random.Random, count: int, first: str = "0123456789") -> str:
    """`count` digits, the first of them one of `first`."""
    return draw.choice(first) + "".join(draw.choice("0123456789") for _ in range(count - 1))


def day(draw: random.Random) -> date:
    """A day of birth."""
    return date(1940, 1, 1) + timedelta(days=draw.randrange(28_000))


def with_luhn(body: str) -> str:
    """Followed by the digit that makes the Luhn sum end in 0."""
    for check in "0123456789":
        total = 0
        for place, digit in enumerate(reversed(body + check)):
            value = int(digit) * (1 + place % 2)
            total += value - 9 if value > 9 else value
        if total % 10 == 0:
            return body + check
    raise AssertionError


def email(draw: random.Random) -> str:
    """An address as people have them, now and then spelled out."""
    local = draw.choice(["{f}.{l}", "{f}{n}", "{l}_{n}", "{f}-{l}", "{n}", "{f}.{l}+news"]).format(
        f=draw.choice(["anna", "li", "wang", "john", "maria", "x"]),
        l=draw.choice(["smith", "zhang", "müller", "ng", "garcia"]),
        n=draw.randrange(10**6),
    )
    host = draw.choice(["gmail.com", "qq.com", "163.com", "mail.uni-bonn.de", "corp.co.uk", "firma.museum"])
    local = local.replace("ü", "ue") if draw.random() < 0.9 else local
    if draw.random() < 0.1:
        return f"{local} (at) {host.replace('.', ' (dot) ')}"
    return f"{local}@{host}"


def phone(draw: random.Random) -> str:
    """A number that can stand without a word before it."""
    mobile = f"1{draw.choice('3456789')}{digits(draw, 9)}"
    line = digits(draw, 8, "23456789")
    american = (digits(draw, 3, "23456789"), digits(draw, 3, "23456789"), digits(draw, 4))
    pairs = " ".join(digits(draw, 2) for _ in range(4))
    return draw.choice(
        [
            mobile,
            f"{mobile[:3]} {mobile[3:7]} {mobile[7:]}",
            f"{mobile[:3]}-{mobile[3:7]}-{mobile[7:]}",
            f"+86 {mobile}",
            f"+86{mobile}",
            f"0086-{mobile}",
            full_width(mobile),
            f"010-{line}",
            f"（021）{line}",
            f"0755-{line}转{draw.randrange(1, 999)}",
            f"({american[0]}) {american[1]}-{american[2]}",
            f"{'-'.join(american)}",
            f"+1 {' '.join(american)}",
            f"{'.'.join(american)}",
            f"06 {pairs}",
            f"+33 6 {pairs}",
            f"+44 20 79{digits(draw, 2)} {digits(draw, 4)}",
            f"+49 30 {digits(draw, 7, '23456789')}",
            f"030/{digits(draw, 8, '123456789')}",
        ]
    )


def phone_said(draw: random.Random) -> str:
    """A number that needs a word before it."""
    return draw.choice(
        [
            digits(draw, 10, "23456789"),
            "912 " + digits(draw, 3) + " " + digits(draw, 3),
            digits(draw, 8, "2345678"),
        ]
    )


def full_width(text: str) -> str:
    """ASCII in its full width."""
    return "".join(chr(ord(c) + 0xFEE0) for c in text)


def china_id(draw: random.Random) -> str:
    """GB 11643: Σ 2^(18−i) · aᵢ ≡ 1 modulo 11."""
    place = draw.choice(["110105", "310101", "440106", "510104", "330102", "420106", "610103", "810000"])
    body = f"{place}{day(draw):%Y%m%d}{digits(draw, 3)}"
    total = sum(int(digit) * 2 ** (17 - i) for i, digit in enumerate(body))
    number = body + "10X98765432"[total % 11]
    return draw.choice(
        [number, number, f"{number[:6]} {number[6:14]} {number[14:]}", full_width(number[:-1]) + number[-1]]
    )


def us_ssn(draw: random.Random) -> str:
    """Area, group, serial."""
    area = draw.choice([*range(1, 666), *range(667, 900)])
    return f"{area:03}-{draw.randrange(1, 100):02}-{draw.randrange(1, 10_000):04}"


def hong_kong_id(draw: random.Random) -> str:
    """Check: the sum with weights 9 … 1 is a multiple of 11."""
    letter, number = draw.choice("ABCDEGHKMPRVWYZ"), digits(draw, 6)
    total = (
        36 * 9
        + (ord(letter) - 55) * 8
        + sum(int(d) * w for d, w in zip(number, range(7, 1, -1), strict=True))
    )
    return f"{letter}{number}({'0123456789A'[-total % 11]})"


def taiwan_id(draw: random.Random) -> str:
    """The letter's two digits weigh 1 and 9."""
    table = dict(zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", range(10, 36), strict=True))
    letter, number = draw.choice("ABCDEFHT"), digits(draw, 8, "12")
    total = table[letter] // 10 + table[letter] % 10 * 9
    total += sum(int(d) * w for d, w in zip(number, range(8, 0, -1), strict=True))
    return f"{letter}{number}{-total % 10}"


def singapore_id(draw: random.Random) -> str:
    """Weights 2, 7, 6, 5, 4, 3, 2."""
    first, number = draw.choice("ST"), digits(draw, 7)
    total = sum(int(d) * w for d, w in zip(number, (2, 7, 6, 5, 4, 3, 2), strict=True)) + 4 * (first == "T")
    return first + number + "JZIHGFEDCBA"[total % 11]


def spain_id(draw: random.Random) -> str:
    """Modulo 23."""
    number = digits(draw, 8)
    return number + "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


def france_id(draw: random.Random) -> str:
    """97 less the number modulo 97."""
    place = f"{draw.randrange(1, 96):02}{draw.randrange(1, 990):03}"
    number = f"{draw.choice('12')}{day(draw):%y%m}{place}{draw.randrange(1, 999):03}"
    key = f"{97 - int(number) % 97:02}"
    parts = (number[0], number[1:3], number[3:5], number[5:7], number[7:10], number[10:], key)
    return draw.choice(["", " "]).join(parts)


def brazil_id(draw: random.Random) -> str:
    """Two checks modulo 11."""
    number = digits(draw, 9)
    for _ in range(2):
        total = sum(int(d) * w for d, w in zip(reversed(number), range(2, 12), strict=False))
        number += str(0 if total % 11 < 2 else 11 - total % 11)
    return f"{number[:3]}.{number[3:6]}.{number[6:9]}-{number[9:]}"


def korea_id(draw: random.Random) -> str:
    """Weights 2 … 9, 2 … 5."""
    born = day(draw)
    number = f"{born:%y%m%d}{draw.choice('12' if born.year < 2000 else '34')}{digits(draw, 5)}"
    total = sum(int(d) * w for d, w in zip(number, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True))
    return f"{number[:6]}-{number[6:]}{(11 - total % 11) % 10}"


def india_id(draw: random.Random) -> str:
    """Twelve digits; the check by a table of the dihedral group."""
    d = [[(a + b) % 5 if b < 5 else 5 + (a + b) % 5 for b in range(10)] for a in range(5)]
    d += [[5 + (a - b) % 5 if b < 5 else (a - b) % 5 for b in range(10)] for a in range(5, 10)]
    p = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    while len(p) < 8:
        p.append([p[-1][p[1][i]] for i in range(10)])
    body, total = digits(draw, 11, "23456789"), 0
    for place, digit in enumerate(reversed(body), 1):
        total = d[total][p[place % 8][int(digit)]]
    number = body + str(d[total].index(0))
    return f"{number[:4]} {number[4:8]} {number[8:]}"


def uk_nino(draw: random.Random) -> str:
    """Two letters, six digits, a letter."""
    number = draw.choice(["AB", "JG", "PW", "SR", "CE"]) + digits(draw, 6) + draw.choice("ABCD")
    return draw.choice([number, " ".join((number[:2], number[2:4], number[4:6], number[6:8], number[8]))])


def china_passport(draw: random.Random) -> str:
    """A letter and eight digits, or two and seven."""
    return draw.choice(
        ["E" + digits(draw, 8), "G" + digits(draw, 8), "EA" + digits(draw, 7), "EJ" + digits(draw, 7)]
    )


def card(draw: random.Random) -> str:
    """Of an issuer, in one piece or in groups."""
    prefix, size = draw.choice(
        [("4", 16), ("5" + draw.choice("12345"), 16), ("37", 15), ("62", 16), ("62", 19), ("2221", 16)]
    )
    number = with_luhn(prefix + digits(draw, size - len(prefix) - 1))
    cut = (4, 10) if size == 15 else (4, 8, 12, 16)
    groups = [number[a:b] for a, b in zip((0, *cut), (*cut, size), strict=True) if a < size]
    return draw.choice([number, draw.choice(" -").join(groups)])


def iban(draw: random.Random) -> str:
    """98 less the rearranged number modulo 97."""
    country, body = draw.choice(
        [("DE", digits(draw, 18)), ("GB", "WEST" + digits(draw, 14)), ("NL", "ABNA" + digits(draw, 10))]
    )
    value = int("".join(str(int(c, 36)) for c in body + country + "00")) % 97
    number = f"{country}{98 - value:02}{body}"
    return draw.choice([number, " ".join(re.findall(".{1,4}", number))])


def ip(draw: random.Random) -> str:
    """Public and private, of both versions."""
    rest = f"{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(1, 255)}"
    group = [f"{draw.randrange(16**4):x}" for _ in range(6)]
    public, home = draw.choice([23, 45, 61, 114, 185, 202]), f"{draw.randrange(9)}.{draw.randrange(1, 255)}"
    version_6 = [
        f"2a02:{':'.join(group)}:{draw.randrange(1, 9999)}",
        f"2001:470:{group[0]}::{group[1]}",
        f"fe80::{':'.join(group[:4])}",
    ]
    return draw.choice([f"{public}.{rest}", f"10.{rest}", f"192.168.{home}", *version_6])


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def chance(draw: random.Random, count: int, letters: str = LETTERS) -> str:
    """Characters drawn by chance, with a digit among them."""
    return "".join(draw.choice(letters) for _ in range(count - 3)) + "4b7"


def key(draw: random.Random) -> str:
    """A key of one of several issuers."""
    return draw.choice(
        [
            "AKIA" + "".join(draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(13)) + "2Q7",
            "ghp_" + chance(draw, 36),
            "AIza" + chance(draw, 35),
            f"xoxb-{digits(draw, 12)}-{chance(draw, 24)}",
            "sk-" + chance(draw, 48),
            "sk-proj-" + chance(draw, 64),
            "hf_" + chance(draw, 34),
            f"eyJ{chance(draw, 30)}.eyJ{chance(draw, 60)}.{chance(draw, 43)}",
            "-----BEGIN PRIVATE KEY-----\n"
            + "\n".join(chance(draw, 64) for _ in range(6))
            + "\n-----END PRIVATE KEY-----",
        ]
    )


def password(draw: random.Random) -> str:
    """As people choose them."""
    return (
        draw.choice(["hunter", "Summer", "qwerty", "abc", "iloveyou"])
        + digits(draw, 5)
        + draw.choice(["", "!", "#"])
    )


DATA: dict[str, Callable[[random.Random], str]] = {
    "email": email,
    "phone": phone,
    "phone_said": phone_said,
    "china_id": china_id,
    "us_ssn": us_ssn,
    "hong_kong_id": hong_kong_id,
    "taiwan_id": taiwan_id,
    "singapore_id": singapore_id,
    "spain_id": spain_id,
    "france_id": france_id,
    "brazil_id": brazil_id,
    "korea_id": korea_id,
    "india_id": india_id,
    "uk_nino": uk_nino,
    "china_passport": china_passport,
    "card": card,
    "iban": iban,
    "ip": ip,
    "key": key,
    "password": password,
}


# ---- documents


def documents(count: int, seed: int = 0) -> Iterator[Labelled]:
    """`count` documents, half of them Chinese; a third of them without personal data."""
    draw = random.Random(seed)
    for number in range(count):
        language = ("en", "zh")[number % 2]
        sentences: list[tuple[str, str, str]] = [
            ("", "", draw.choice(PLAIN[language])) for _ in range(draw.randrange(3, 9))
        ]
        sentences += [("", "", _near(draw, language)) for _ in range(draw.randrange(3))]
        for _ in range(draw.randrange(3) if draw.random() < 0.7 else 0):
            label = draw.choice(list(DATA))
            sentences.append((label, DATA[label](draw), draw.choice(SAYING[label][language])))
        draw.shuffle(sentences)
        yield _joined(sentences, "" if language == "zh" else " ")


def _joined(sentences: Iterable[tuple[str, str, str]], blank: str) -> Labelled:
    text, planted = "", []
    for label, datum, sentence in sentences:
        before, mark, after = sentence.partition("§") if label else (sentence, "", "")
        if mark:
            begin = len(text) + len(before)
            planted.append(Planted(begin, begin + len(datum), label.removesuffix("_said")))
        text += before + (datum if mark else "") + after + blank
    return Labelled(text, planted)


def _near(draw: random.Random, language: str) -> str:
    """A near-miss, its `§d` filled with digits drawn by chance."""
    sentence = draw.choice(NEAR[language])
    sentence = re.sub("§([1-9][0-9]?)", lambda found: digits(draw, int(found[1]), "123456789"), sentence)
    if "§card" in sentence:  # a wrong check digit
        number = with_luhn("4" + digits(draw, 14))
        sentence = sentence.replace("§card", number[:-1] + str((int(number[-1]) + 3) % 10))
    if "§id" in sentence:
        number = re.sub(r"[^0-9X]", "", china_id(random.Random(draw.randrange(10**9) // 2)))
        number = number if len(number) == 18 else "11010519491231002X"
        sentence = sentence.replace("§id", number[:-1] + ("5" if number[-1] != "5" else "6"))
    return sentence


# ---- measures


class Score(NamedTuple):
    """Of one kind: planted, of those found whole, findings, of those right."""

    planted: int
    found: int
    findings: int
    right: int

    def table(self) -> dict[str, Any]:
        """With recall and precision."""
        recall = self.found / self.planted if self.planted else None
        precision = self.right / self.findings if self.findings else None
        return {**self._asdict(), "recall": _rounded(recall), "precision": _rounded(precision)}


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def score(labelled: Sequence[Labelled], found: Sequence[Sequence[tuple[int, int, str]]]) -> dict[str, Score]:
    """Recall and precision by kind, and `all`: of any kind, each for any other."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for document, findings in zip(labelled, found, strict=True):
        for begin, end, kind in document.planted:
            covered = {place for a, b, _ in findings for place in range(max(a, begin), min(b, end))}
            wanted = {place for place in range(begin, end) if document.text[place].isalnum()}
            counts[kind] += Counter(planted=1, found=wanted <= covered)
            counts["all"] += Counter(planted=1, found=wanted <= covered)
        for begin, end, kind in findings:
            touched = {p.kind for p in document.planted if p.begin < end and begin < p.end}
            counts[kind] += Counter(findings=1, right=kind in touched)
            counts["all"] += Counter(findings=1, right=bool(touched))
    return {
        kind: Score(*(counts[kind][name] for name in Score._fields))
        for kind in [*names(privacy), "all"]
        if kind in counts
    }


def speed(text: Sequence[str], find: Callable[[str], object]) -> float:
    """Megabytes of UTF-8 per second of processor time: the best of three times."""
    size = sum(len(one.encode()) for one in text)
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        for one in text:
            find(one)
        best = min(best, time.process_time() - begin)
    return round(size / 1e6 / best, 2)


def books(size: int) -> list[str]:
    """Pages of 4,000 characters of real books, where `TELOS_DATA` has them."""
    folder = os.environ.get("TELOS_DATA")
    path = Path(folder or "") / "classic-books-en" / "valid.jsonl.xz"
    if not folder or not path.is_file():
        return []
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        text = "".join(json.loads(line)["text"] for line in lines)[:size]
    return [text[place : place + 4000] for place in range(0, len(text), 4000)]


def clean_text(size: int) -> list[str]:
    """Documents of about 4,000 characters without personal data, in English and Chinese in turn; with a date
    or an amount in every second sentence."""
    draw = random.Random(1)
    texts = []
    while size > 0:
        language = ("en", "zh")[len(texts) % 2]
        parts: list[str] = []
        while sum(map(len, parts)) < 4000:
            parts.append(draw.choice(PLAIN[language]))
        texts.append((" " if language == "en" else "").join(parts))
        size -= len(texts[-1].encode())
    return texts


PRESIDIO = """
import json, sys, tempfile, time
import spacy
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider
folder = tempfile.mkdtemp()
spacy.blank("en").to_disk(folder)
models = [{"lang_code": "en", "model_name": folder}]
engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models})
analyzer = AnalyzerEngine(nlp_engine=engine.create_engine(), supported_languages=["en"])
texts = json.load(sys.stdin)
analyzer.analyze(texts[0], language="en")
begin = time.process_time()
found = [[(r.start, r.end, r.entity_type) for r in analyzer.analyze(t, language="en")] for t in texts]
json.dump({"seconds": time.process_time() - begin, "found": found}, sys.stdout)
"""
THEIRS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "US_SSN": "us_ssn",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "UK_NINO": "uk_nino",
    "SG_NRIC_FIN": "singapore_id",
    "ES_NIF": "spain_id",
    "IN_AADHAAR": "india_id",
    "KR_RRN": "korea_id",
}


def presidio(python: str, labelled: Sequence[Labelled]) -> tuple[dict[str, Score], float]:
    """The same documents through presidio-analyzer's recognisers of patterns; spaCy without a model."""
    texts = [document.text for document in labelled]
    done = subprocess.run(
        [python, "-c", PRESIDIO], input=json.dumps(texts), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    told = json.loads(done.stdout)
    found = [[(a, b, THEIRS[kind]) for a, b, kind in one if kind in THEIRS] for one in told["found"]]
    return score(labelled, found), sum(len(text.encode()) for text in texts) / 1e6 / told["seconds"]


def main() -> None:
    """Generate, find, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1, help="0 is what the rules were mended by")
    parser.add_argument("--presidio", metavar="PYTHON", help="an interpreter with presidio-analyzer")
    parser.add_argument(
        "--show", action="store_true", help="print what was missed and what was found wrongly"
    )
    chosen = parser.parse_args()
    labelled = list(documents(chosen.documents, chosen.seed))
    scrubber = Scrubber(PrivacySettings(action="replace"))
    found = [scrubber.find(document.text) for document in labelled]
    result: dict[str, Any] = {
        "date": str(date.today()),
        "documents": len(labelled),
        "seed": chosen.seed,
        "ours": {kind: one.table() for kind, one in score(labelled, found).items()},
        "megabytes_per_second": speeds(labelled, scrubber),
        "hardware": hardware(torch.device("cpu")),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "versions": {"python": sys.version.split()[0], "telos-lm": importlib.metadata.version("telos-lm")},
    }
    if chosen.presidio:
        theirs, rate = presidio(chosen.presidio, labelled)
        result["presidio"] = {kind: one.table() for kind, one in theirs.items()}
        result["megabytes_per_second"]["presidio, the benchmark's documents"] = round(rate, 3)
    if chosen.show:
        show(labelled, found)
    path = Path(__file__).parent / "results" / f"privacy-{date.today()}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print_table(result)


def speeds(labelled: Sequence[Labelled], scrubber: Scrubber) -> dict[str, float]:
    """Of text without personal data, by kind; and of the benchmark's documents."""
    text = clean_text(1_500_000)
    planted = [document.text for document in labelled]
    kinds = [kind for kind in names(privacy) if kind != "name"]
    digits_only = re.compile("[0-9]{6}")
    real = books(3_000_000)
    of_books = {
        "books, all kinds": speed(real, scrubber.find),
        "books, a search for [0-9]{6}": speed(real, digits_only.search),
    }
    return {
        **(of_books if real else {}),
        "a search for [0-9]{6}": speed(text, digits_only.search),
        "all kinds": speed(text, scrubber.find),
        **{
            kind: speed(text, Scrubber(PrivacySettings(action="replace", kinds=(kind,))).find)
            for kind in kinds
        },
        "all kinds, the benchmark's documents": speed(planted, scrubber.find),
    }


def show(labelled: Sequence[Labelled], found: Sequence[Sequence[tuple[int, int, str]]]) -> None:
    """What was missed and what was found wrongly."""
    for document, findings in zip(labelled, found, strict=True):
        for begin, end, kind in document.planted:
            if not any(a <= begin and end <= b for a, b, _ in findings):
                print("missed ", kind, repr(document.text[max(0, begin - 20) : end + 5]))
        for begin, end, kind in findings:
            if not any(p.begin < end and begin < p.end and p.kind == kind for p in document.planted):
                print("wrongly", kind, repr(document.text[max(0, begin - 20) : end + 8]))


def print_table(result: dict[str, Any]) -> None:
    """One line per kind."""
    peer, rates = result.get("presidio", {}), result["megabytes_per_second"]
    print(f"{'kind':16}{'planted':>8}{'recall':>8}{'precision':>10}{'MB/s':>8}   presidio: recall, precision")
    for kind, one in result["ours"].items():
        rate = rates["all kinds"] if kind == "all" else rates.get(kind, "")
        other = peer.get(kind, {})
        line = f"{kind:16}{one['planted']:>8}{one['recall']!s:>8}{one['precision']!s:>10}{rate:>8}"
        print(f"{line}   {other.get('recall', '')!s:>8}{other.get('precision', '')!s:>8}")
    for name in rates:
        if " " in name:
            print(f"{name}: {rates[name]} MB/s")


if __name__ == "__main__":
    main()

"""The report: all of a run on one page, and nothing of what it shows comes alive."""

import json
import math
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from telos.errors import DataError
from telos.evaluate import likelihood
from telos.report import visible, write_report

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "'><svg onload=alert(4)>",
    "javascript:alert(5)",
    '<a href="javascript:alert(6)">x</a>',
    "</pre></main></style><iframe src=//evil.example></iframe>",
    "{{ 7 * 7 }}{% include 'x' %}",
    "]]><!--",
    "&lt;b&gt;",
    "a\u202egpj.exe\u202c \u2066hidden\u2069 \u200f \x00\x1b[31m",
)


class Page(HTMLParser):
    """Elements, attributes and text of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def run_folder(folder: Path, text: str = "def f(x):", points: int = 200) -> Path:
    """A run whose every file holds `text` wherever text can be."""
    quoted = json.dumps(
        text
    )  # a JSON string is a TOML string but for lone control characters, which are escaped
    (folder / "recipe.toml").write_text(
        f'version = 1\nname = {quoted}\n[objective]\nname = "causal"\n[model]\nname = {quoted}\nwidth = 256\n'
        f"[data]\npath = {quoted}\n[data.clean]\n{quoted} = {quoted}\n"
    )
    lines: list[dict[str, Any]] = [
        {
            "step": s,
            "loss": 5 * math.exp(-s / 50) + 2,
            "rate": 1e-3,
            "tokens": s * 100,
            "seconds": s / 2,
            "tokens_per_second": 5000.0 + s % 7,
            text: text,
        }
        for s in range(1, points + 1)
    ]
    lines += [{"step": points, "validation.loss": 2.5}, {"step": 3, "loss": None}]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo'
    )
    (folder / "evaluation.json").write_text(json.dumps({"test": score(text), text: score(text)}))
    samples = [
        {"prompt": text, "text": text, "finished": "end"},
        {"prompt": "", "text": text, "finished": text},
    ]
    (folder / "samples.json").write_text(json.dumps(samples))
    grid = {text: {"documents": 3, text: [text]}}
    (folder / "card.json").write_text(
        json.dumps({text: text, "splits": grid, "dropped": grid, "notes": [text]})
    )
    (folder / "machine.json").write_text(
        json.dumps({"processor": text, "memory_bytes": 25276502016, "parameters": 5_242_880, text: text})
    )
    return folder


def score(note: str) -> dict[str, Any]:
    compression = {
        "lzma_alone": 2.03,
        "lzma_together": 1.5,
        "gzip_alone": 2.18,
        "gzip_together": 1.99,
        "bytes": 10,
    }
    return {
        "loss": 2.17,
        "perplexity": 8.758,
        "bits_per_byte": 1.0134,
        "tokens": 460829,
        "bytes": 1423421,
        "documents": 97,
        "window": 256,
        "stride": 256,
        "kind": "exact",
        "notes": [note],
        "compression": compression,
    }


def page_of(folder: Path, **options: Any) -> Page:
    return Page(write_report(folder, **options).read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", HOSTILE)
def test_text_never_becomes_markup(tmp_path: Path, text: str) -> None:
    """Trap 74: the page has the same elements whatever the text; none runs, loads or links anything."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "hostile").mkdir()
    plain = page_of(run_folder(tmp_path / "plain", "harmless"))
    hostile = page_of(run_folder(tmp_path / "hostile", text))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    tags = {tag for tag, _ in hostile.elements}
    assert not tags & {"script", "iframe", "img", "a", "object", "embed", "form", "base", "link", "input"}
    for _, attributes in hostile.elements:
        assert not [name for name in attributes if name.startswith("on")]
        told = " ".join(value or "" for value in attributes.values())
        assert not re.search(r"javascript:|url\((?!#)|expression", told, re.I)
        links = [
            value or "" for name, value in attributes.items() if name.rpartition(":")[2] in ("href", "src")
        ]
        assert all(link.startswith("#") for link in links)
    assert hostile.text.count(visible(text)) >= 8


@pytest.mark.parametrize("text", HOSTILE)
def test_what_reorders_or_hides_text_is_shown_as_its_code(tmp_path: Path, text: str) -> None:
    """Trap 74: no bidirectional or other control character reaches the page."""
    page = write_report(run_folder(tmp_path, text)).read_text(encoding="utf-8")
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c\x00-\x08\x0b-\x1f\x7f-\x9f]", page)


def test_visible_keeps_what_people_write() -> None:
    for text in ("line\n\tnext", "春眠不觉晓", "👩‍👩‍👧", "می‌خواهم", "Ünïcödé"):
        assert visible(text) == text
    assert visible("a\u202eb\x07") == "a⟦U+202E⟧b⟦U+0007⟧"


def test_the_page_forbids_scripts_and_loads_nothing(tmp_path: Path) -> None:
    """Trap 74: should anything slip through, the content security policy stops it."""
    page = page_of(run_folder(tmp_path))
    policies = [
        a["content"] or "" for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'; ")
    assert "script" not in policies[0] and "*" not in policies[0]


def test_everything_is_on_the_page(tmp_path: Path) -> None:
    text = '    def f(x):\n\n        """春眠"""\n'
    page = page_of(run_folder(tmp_path, text))
    samples = re.search(r"<pre dir=\"auto\">(.*?)</pre>", (tmp_path / "report.html").read_text(), re.S)
    assert samples and samples[1].count("\n") == 6, "white space is kept"
    for expected in (
        "1.0134",
        "1.013",
        "8.76",
        "1.500",
        "460,829",
        "5.24 M",
        "23.5 GiB",
        "1 min 40 s",
        "256",
        text,
    ):
        assert expected in page.text, expected
    assert [tag for tag, _ in page.elements].count("svg") == 3
    assert ("html", {"lang": "en"}) in page.elements


def test_bars_are_in_order_and_to_scale(tmp_path: Path) -> None:
    page = page_of(run_folder(tmp_path))
    widths = [
        float(w) for _, a in page.elements for w in re.findall(r"^width: ([\d.]+)%$", a.get("style") or "")
    ]
    assert widths == [
        pytest.approx(100 * value / 2.18, abs=0.06) for value in (1.0134, 1.5, 1.99, 2.03, 2.18)
    ]


def test_chinese_reports_speak_chinese(tmp_path: Path) -> None:
    page = page_of(run_folder(tmp_path), language="zh")
    assert ("html", {"lang": "zh-CN"}) in page.elements
    for word in ("训练报告", "每字节比特数", "困惑度", "生成样例", "测试集", "数据划分"):
        assert word in page.text
    assert "Perplexity" not in page.text and "Held-out" not in page.text


def test_own_notes_are_translated(tmp_path: Path) -> None:
    run_folder(tmp_path)
    notes = [likelihood.NOTE_END, likelihood.NOTE_LOSSY, likelihood.NOTE_PSEUDO]
    (tmp_path / "evaluation.json").write_text(json.dumps({"test": {**score(""), "notes": notes}}))
    english, chinese = page_of(tmp_path).text, page_of(tmp_path, language="zh").text
    for note in notes:
        assert note in english and note not in chinese
    lost = f"97.3% {likelihood.NOTE_UNKNOWN}"
    (tmp_path / "evaluation.json").write_text(json.dumps({"test": {**score(""), "notes": [lost]}}))
    assert lost in page_of(tmp_path).text
    assert "97.3% 的字节是词表不认识的" in page_of(tmp_path, language="zh").text


def test_both_languages_say_the_same_things() -> None:
    import tomllib

    words = tomllib.loads((resources.files("telos") / "templates" / "words.toml").read_text(encoding="utf-8"))
    assert words["en"].keys() <= words["zh"].keys()
    assert all(text.strip() for table in words.values() for text in table.values())


def test_full_paths_are_not_passed_on(tmp_path: Path) -> None:
    """Trap 78: a path names a user; a report is given to others."""
    paths = 'path = "/home/alice/texts/corpus"\nmore = ["/Users/alice/a.txt", "alice/b.txt"]\n'
    (tmp_path / "recipe.toml").write_text(f'name = "a"\n[data]\n{paths}')
    text = page_of(tmp_path).text
    assert "…/corpus" in text and "…/a.txt, alice/b.txt" in text
    assert "/home/alice" not in text and "/Users/alice" not in text


def test_a_run_that_has_only_begun_has_a_report_too(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('name = "young"\n')
    page = page_of(tmp_path)
    assert "young" in page.text and page.text.count("Nothing has been written here yet.") == 5


def test_why_there_are_no_figures_is_said(tmp_path: Path) -> None:
    run_folder(tmp_path)
    (tmp_path / "evaluation.json").write_text(json.dumps({"test": {"unavailable": "nothing was <held> out"}}))
    assert "nothing was <held> out" in page_of(tmp_path).text


def test_samples_as_text(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('name = "a"\n')
    (tmp_path / "samples.txt").write_text("first\n\n  second <b>\n")
    assert "first\n\n  second <b>\n" in page_of(tmp_path).text


def test_figures_that_are_not_numbers_are_dashes(tmp_path: Path) -> None:
    run_folder(tmp_path)
    broken = {**score(""), "loss": None, "perplexity": None, "bits_per_byte": None, "kind": "pseudo"}
    (tmp_path / "evaluation.json").write_text(json.dumps({"test": broken}))
    assert "–" in page_of(tmp_path).text and "pseudo-likelihood" in page_of(tmp_path).text


@pytest.mark.parametrize(
    ("name", "content"), [("card.json", "{"), ("recipe.toml", "name = "), ("samples.json", "")]
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    (run_folder(tmp_path) / name).write_text(content)
    with pytest.raises(DataError, match=name):
        write_report(tmp_path)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run"):
        write_report(tmp_path)


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    first = write_report(run_folder(tmp_path)).read_bytes()
    assert write_report(tmp_path).read_bytes() == first

"""Which texts are kept and where: by content, once, and whatever is dropped is counted with its reason."""

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telos.data import documents
from telos.data.cleaned import Cleaned, clean_task
from telos.data.decisions import decide
from telos.data.documents import DROPPED, SPLITS, Reader, _parts, choose_unit
from telos.data.findings import Findings
from telos.data.settings import DataSettings, SplitSettings
from telos.data.sources import _base
from telos.errors import DataError


def jsonl(path: Path, texts) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def run(sample: int = 10**6, **given):
    """Splits by text, the findings and the sample."""
    settings = DataSettings(**given)
    reader = Reader(settings)
    findings = Findings(files=len(reader.files))
    choose_unit(reader)
    with TemporaryDirectory() as folder:
        tasks = []
        for task in reader.tasks({}):
            clean_task(settings, task, Path(folder) / str(task.number))
            tasks.append(Cleaned(Path(folder) / str(task.number)))
            findings.add(tasks[-1].findings)
        decisions = decide(settings, tasks, findings, sample, Path(folder))
        placed = []
        for task, codes in zip(tasks, decisions.codes, strict=True):
            chosen = np.flatnonzero(codes != DROPPED)
            texts = [written.text for written in task.written(chosen)]
            placed += zip(texts, (SPLITS[code] for code in codes[chosen]), strict=True)
    assert findings.documents == len(placed) + sum(drop.documents for drop in findings.dropped.values())
    findings.notes[:0] = reader.notes
    findings.unknown = reader.unknown
    return placed, findings, decisions


def many(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [f"document {i} " + "".join(draw.choices("abc 明月", k=50)) for i in range(count)]


def test_a_text_stays_in_its_split_when_others_come(tmp_path):
    """Trap 53: the split is a function of the text alone."""
    texts = many(400)
    few = dict(run(path=jsonl(tmp_path / "a.jsonl", texts[:200]))[0])
    shuffled = random.Random(1).sample(texts, 400)
    more = dict(run(path=jsonl(tmp_path / "b.jsonl", shuffled))[0])
    assert few.items() <= more.items()
    shares = [list(more.values()).count(split) / 400 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.9, 0.05, 0.05], abs=0.03)


def test_exact_copies_are_dropped_wherever_they_are(tmp_path):
    """Trap 53: of the cleaned text; with other case or white space it is another text, and stays."""
    texts = many(100)
    changed = [text.upper() for text in texts[:10]] + [text.replace(" ", "  ") for text in texts[10:20]]
    recomposed = [text + "\u00e9" for text in texts[20:30]] + [text + "e\u0301" for text in texts[20:30]]
    everything = texts + texts[::-1] + changed + recomposed + [f"{text}\r\n" for text in texts[:5]] * 2
    placed, findings, _ = run(path=jsonl(tmp_path / "a.jsonl", everything))
    assert len(placed) == len({text for text, _ in placed}) == 100 + 20 + 10 + 5
    assert findings.dropped["exact copy"].documents == 100 + 10 + 5
    assert len(findings.dropped["exact copy"].examples) == 20


def test_held_out_files_win_over_training_files(tmp_path):
    """Trap 53: what is in the test is not trained on; what is in both held-out files is in the test."""
    texts = many(60)
    train = jsonl(tmp_path / "train.jsonl", texts)
    test = jsonl(tmp_path / "test.jsonl", texts[:10] + many(5, seed=9))
    validation = jsonl(tmp_path / "validation.jsonl", texts[5:15])
    placed, findings, _ = run(path=train, test=test, validation=validation)
    splits = dict(placed)
    assert [splits[text] for text in texts] == ["test"] * 10 + ["validation"] * 5 + ["train"] * 45
    assert {reason: drop.documents for reason, drop in findings.dropped.items()} == {
        "in test": 10 + 5,
        "in validation": 5,
    }


def test_held_out_files_inside_the_folder_are_not_trained_on(tmp_path):
    """Trap 53."""
    texts = many(60)
    jsonl(tmp_path / "train.jsonl", texts[:40])
    test = jsonl(tmp_path / "test.jsonl", texts[40:])
    placed, findings, _ = run(path=tmp_path, test=test, split=SplitSettings(validation=0))
    assert dict(placed) == {text: "test" if i >= 40 else "train" for i, text in enumerate(texts)}
    assert not findings.dropped
    assert findings.files == 2


def test_the_vocabulary_is_learned_from_the_training_split_only(tmp_path):
    """Trap 53: and from the same texts whatever their order."""
    texts = many(300)
    placed, _, decisions = run(path=jsonl(tmp_path / "a.jsonl", texts))
    assert sorted(decisions.sample) == sorted(text for text, split in placed if split == "train")
    _, _, part = run(sample=3000, path=jsonl(tmp_path / "b.jsonl", texts[::-1]))
    assert part.sample == decisions.sample[: len(part.sample)]
    assert 2000 < sum(len(text.encode()) for text in part.sample) <= 3000
    _, _, tiny = run(sample=5, path=tmp_path / "b.jsonl")
    assert len(tiny.sample) == 1
    assert len(tiny.sample[0].encode()) <= 5


def test_no_split_that_was_asked_for_is_empty(tmp_path):
    for count in range(3, 12):
        placed, findings, decisions = run(
            path=jsonl(tmp_path / f"{count}.jsonl", many(count)), split=SplitSettings(unit="document")
        )
        assert {split for _, split in placed} == {"train", "validation", "test"}
        assert sorted(decisions.sample) == sorted(text for text, split in placed if split == "train")
        assert any("lowest hash" in note for note in findings.notes)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_documents_are_refused_with_the_cure(count, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", many(count))
    with pytest.raises(DataError, match=r'too few documents.*document_start.*data\.split\.unit = "part"'):
        run(path=path, split=SplitSettings(unit="document"))
    assert len(run(path=path, split=SplitSettings(validation=0, test=0))[0]) == count


@pytest.mark.parametrize("unit", ["part", "auto"])
def test_a_text_too_short_to_cut_is_refused_with_advice_that_works(unit, tmp_path):
    (tmp_path / "a.txt").write_text("two words")
    given = {"path": tmp_path / "a.txt"}
    with pytest.raises(DataError, match="too few documents") as refused:
        run(**given, split=SplitSettings(unit=unit))
    message = str(refused.value)
    assert "data.split.unit" not in message and "document_start" not in message
    assert "set data.split.validation and data.split.test to 0" in message
    placed, _, _ = run(**given, split=SplitSettings(unit=unit, validation=0, test=0))
    assert placed == [("two words", "train")]
    assert "set data.validation and data.test to text of your own" in message
    own = {s: jsonl(tmp_path / f"{s}.jsonl", [f"other words of {s}"]) for s in ("validation", "test")}
    placed, _, _ = run(**given, **own, split=SplitSettings(unit=unit))
    assert sorted(split for _, split in placed) == ["test", "train", "validation"]


def test_text_that_is_held_out_altogether_is_refused_without_advice_on_shares(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", ["the same words"])
    own = {s: jsonl(tmp_path / f"{s}.jsonl", ["the same words", s]) for s in ("validation", "test")}
    with pytest.raises(DataError, match=r"nothing is left to train on.*take copies") as refused:
        run(path=path, **own)
    assert "data.split." not in str(refused.value)


def test_one_long_file_is_held_out_by_parts(tmp_path):
    paragraphs = ["\n".join(many(3, seed=i)) for i in range(300)]
    (tmp_path / "book.txt").write_text("\n\n".join(paragraphs))
    placed, findings, _ = run(path=tmp_path / "book.txt")
    assert {split for _, split in placed} == {"train", "validation", "test"}
    assert "".join(text for text, _ in placed) == "\n\n".join(paragraphs)
    assert all(text.endswith("\n\n") for text, _ in placed[:-1])
    assert any("cut into parts" in note and "there is only 1 document." in note for note in findings.notes)
    with pytest.raises(DataError, match="too few documents"):
        run(path=tmp_path / "book.txt", split=SplitSettings(unit="document"))


def test_many_documents_are_never_cut(tmp_path):
    """Trap 53: with enough documents, the document is the unit."""
    texts = [text * 500 for text in many(20)]
    placed, findings, _ = run(path=jsonl(tmp_path / "a.jsonl", texts))
    assert sorted(text for text, _ in placed) == sorted(texts)
    assert not any("cut" in note for note in findings.notes)
    parts, findings, _ = run(path=tmp_path / "a.jsonl", split=SplitSettings(unit="part"))
    assert len(parts) > 20
    assert any("asks for it" in note for note in findings.notes)


def test_parts_of_one_long_text_go_to_one_split(tmp_path, monkeypatch):
    """Trap 53: a file too long to be in memory whole is read in parts, which stay together."""
    monkeypatch.setattr(_base, "LONGEST_TEXT", 400)
    for i in range(40):
        (tmp_path / f"{i:02}.txt").write_text("\n".join(many(20, seed=i)))
    placed, _, _ = run(path=tmp_path)
    assert len(placed) > 80
    whole = ["\n".join(many(20, seed=i)) for i in range(40)]
    for text in whole:
        assert len({split for part, split in placed if part in text}) == 1
    assert {split for _, split in placed} == {"train", "validation", "test"}


@given(text=st.text(st.sampled_from("ab. \n。月"), max_size=400), size=st.integers(4, 40))
@settings(max_examples=200)
def test_parts_add_up_to_the_text(text, size):
    parts = list(_parts(text, size))
    assert "".join(parts) == text
    assert all(size // 2 <= len(part) for part in parts[:-1])
    assert all(0 < len(part) <= 2 * size + 2 for part in parts)


def test_empty_documents_and_unknown_files_are_counted(tmp_path):
    jsonl(tmp_path / "a.jsonl", [*many(30), "", " \n\t", "\x00\x01"])
    (tmp_path / "b.pdf").write_bytes(b"%PDF")
    (tmp_path / "c.PDF").write_bytes(b"%PDF")
    placed, findings, _ = run(path=tmp_path)
    assert len(placed) == 30
    assert findings.dropped["empty"].documents == 3
    assert findings.unknown == {".pdf": 2}
    assert findings.changed["control characters"] == (1, 2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no text here\. Files must end in .*\.jsonl.*\.txt"),
        ({"a.pdf": b"x"}, r"no text here \(skipped: 1 \.pdf\)"),
        ({"a.txt": b""}, r"no text in 1 file \(no documents there\)\.$"),
        ({"a.txt": b" \n\n"}, r"no text in 1 file \(1 document dropped: empty\)\.$"),
        ({"a.txt": b" ", "b.txt": b"\n"}, r"no text in 2 files \(2 documents dropped: empty\)\.$"),
        ({"a.jsonl": b""}, r"no text in 1 file \(no documents there\)\.$"),
    ],
)
def test_no_text_is_an_error_that_says_so(files, message, tmp_path):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        run(path=tmp_path)


def test_a_held_out_file_without_text_is_an_error(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", many(30))
    test = jsonl(tmp_path / "test.jsonl", [""])
    with pytest.raises(DataError, match=r"nothing in .*test\.jsonl is left for test"):
        run(path=path, test=test)


# ---- invalid characters


def test_invalid_bytes_are_counted_replaced_refused_or_dropped(tmp_path):
    """Trap 49: the count, the first place in bytes, and the policy; never in silence."""
    lines = [json.dumps({"text": text}).encode() for text in many(30)]
    lines[7] = b'{"text": "\xe6\x98\x8eab\xff\xfec"}'
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    placed, findings, _ = run(path=tmp_path / "a.jsonl")
    assert "明ab\ufffd\ufffdc" in dict(placed)
    assert (findings.invalid, findings.first_invalid) == (2, "a.jsonl:8, byte 5")
    assert findings.changed["invalid characters"] == (1, 2)
    with pytest.raises(
        DataError, match=r"a\.jsonl:8, byte 5: not UTF-8 \(2 bad bytes.*iconv -f GB18030 -t UTF-8"
    ):
        run(path=tmp_path / "a.jsonl", clean={"invalid": "refuse"})
    placed, findings, _ = run(path=tmp_path / "a.jsonl", clean={"invalid": "drop"})
    assert len(placed) == 29
    assert findings.dropped["not UTF-8"].documents == 1


@pytest.mark.parametrize("limit", [5, 6, 7, 8, 9, 1 << 24])
def test_invalid_bytes_at_the_edge_of_a_block(limit, tmp_path, monkeypatch):
    """Trap 49: the offset is that of the file, and good characters are never cut."""
    monkeypatch.setattr(_base, "LONGEST_TEXT", limit)
    good = "明朝日", "月風雲"
    (tmp_path / "a.txt").write_bytes(good[0].encode() + b"\xff" + good[1].encode())
    placed, findings, _ = run(path=tmp_path, split=SplitSettings(validation=0, test=0))
    assert "".join(text for text, _ in placed) == "\ufffd".join(good)
    assert (findings.invalid, findings.first_invalid) == (1, "a.txt, byte 9")


def test_the_python_library_is_split_by_file():
    """At least 10 % of the bytes are held out, and no file is in two splits."""
    placed, _, decisions = run(source="python_library", sample=1000)
    total = sum(decisions.bytes.values())
    assert decisions.bytes["train"] <= 0.9 * total
    assert min(decisions.bytes.values()) > 0.02 * total
    assert len({text for text, _ in placed}) == len(placed) > 300
    assert documents.SPLITS == ("train", "validation", "test")

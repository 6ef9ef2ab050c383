"""Preparation as a whole: one key for one result, whole or not there, the same whoever builds it."""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from telos.batch import Cut
from telos.data import documents, job
from telos.data import prepare as module
from telos.data.card import read_card, unknown_bytes
from telos.data.corpus import Corpus
from telos.data.prepare import prepare
from telos.data.settings import CleanSettings, DataSettings
from telos.data.shards import Shards
from telos.errors import ConfigError, DataError
from telos.tokenizer import TokenizerSettings
from tests.data.test_documents import jsonl, many

BYTE = TokenizerSettings(kind="byte")


@pytest.fixture
def path(tmp_path) -> Path:
    return jsonl(tmp_path / "texts.jsonl", many(200))


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def leftovers(root: Path, prepared) -> list[str]:
    return [p.name for p in root.iterdir() if p.name != prepared.folder.name and not p.name.endswith(".lock")]


def test_every_text_is_in_the_shards_as_it_was(path, tmp_path):
    prepared = prepare(DataSettings(path=path), TokenizerSettings(size=600), tmp_path / "root")
    decoded, total = [], 0
    for split in documents.SPLITS:
        shards = prepared.shards(split)
        for i in range(len(shards)):
            text = prepared.tokenizer.decode(shards.document(i))
            assert shards.text_bytes[i] == len(text.encode())
            decoded.append(text)
        total += shards.header.bytes
        row = prepared.card.splits[split]
        assert (row["documents"], row["tokens"]) == (len(shards), shards.header.tokens)
        assert row["bytes"] == shards.header.bytes == shards.text_bytes.sum()
    assert sorted(decoded) == sorted(many(200))
    assert total == sum(len(text.encode()) for text in many(200))


def test_the_same_input_gives_the_same_bytes(path, tmp_path):
    first = prepare(DataSettings(path=path), TokenizerSettings(size=600), tmp_path / "one")
    second = prepare(DataSettings(path=path), TokenizerSettings(size=600), tmp_path / "two")
    assert files(first.folder) == files(second.folder)


def test_what_is_there_is_used(path, tmp_path):
    root = tmp_path / "root"
    first = prepare(DataSettings(path=path), BYTE, root)
    times = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")}
    again = prepare(DataSettings(path=path), BYTE, root)
    assert again.folder == first.folder
    assert {p: p.stat().st_mtime_ns for p in again.folder.rglob("*")} == times
    assert again.card == first.card
    assert again.tokenizer.hash == first.tokenizer.hash
    moved = jsonl(
        tmp_path / "elsewhere" / "texts.jsonl" if (tmp_path / "elsewhere").mkdir() else path, many(200)
    )
    assert prepare(DataSettings(path=moved), BYTE, root).folder == first.folder
    assert not leftovers(root, first)


def test_whatever_changes_the_result_changes_the_key(path, tmp_path, monkeypatch):
    """Trap 47: file bytes, settings, vocabulary, special tokens, columns, and the version of the code."""
    root = tmp_path / "root"
    data = DataSettings(path=path)

    def key(data=data, tokenizer=BYTE, **rest) -> str:
        return prepare(data, tokenizer, root, **rest).folder.name

    keys = {key()}
    keys.add(key(tokenizer=TokenizerSettings(kind="byte", sample=999)))
    keys.add(key(tokenizer=TokenizerSettings(size=600)))
    keys.add(key(data=DataSettings(path=path, clean=CleanSettings(normalise="none"))))
    keys.add(key(data=DataSettings(path=path, clean=CleanSettings(lower=True))))
    keys.add(key(specials=["one"]))
    keys.add(key(specials=["two"]))
    keys.add(key(columns=["word_start"]))
    prepare(data, TokenizerSettings(size=600), root).tokenizer.save(tmp_path / "t.json")
    keys.add(key(tokenizer=TokenizerSettings(path=tmp_path / "t.json")))
    before = path.stat()
    text = path.read_bytes()
    path.write_bytes(text.replace(b"document 7 ", b"Document 7 "))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    keys.add(key())
    path.write_bytes(text)
    monkeypatch.setattr(job, "VERSION", 10_000)
    keys.add(key())
    assert len(keys) == 11


@pytest.mark.parametrize("name", ["train/ids.bin", "test/offsets.bin", "tokenizer.json", "card.json"])
def test_a_flipped_byte_in_what_is_there_is_found_and_built_again(name, path, tmp_path):
    """Trap 47: nothing damaged is ever trained on."""
    root = tmp_path / "root"
    first = prepare(DataSettings(path=path), BYTE, root)
    good = files(first.folder)
    data = bytearray(good[name])
    data[len(data) // 2] ^= 1
    (first.folder / name).write_bytes(data)
    with pytest.raises(DataError, match=r"damaged|cannot be read|not a tokenizer"):
        first.verify()
    with pytest.warns(RuntimeWarning, match=f"{first.folder.name} is damaged, and is made again: "):
        again = prepare(DataSettings(path=path), BYTE, root)
    assert files(again.folder) == good
    assert not leftovers(root, first)


def test_a_missing_file_in_what_is_there_is_built_again(path, tmp_path):
    """Trap 47."""
    first = prepare(DataSettings(path=path), BYTE, tmp_path / "root")
    good = files(first.folder)
    for name in good:
        (first.folder / name).unlink()
        with pytest.warns(RuntimeWarning, match="is made again"):
            assert files(prepare(DataSettings(path=path), BYTE, tmp_path / "root").folder) == good


def _prepare_when_told(path: str, root: str, told, answers) -> None:
    told.wait()
    answers.put(str(prepare(DataSettings(path=Path(path)), TokenizerSettings(size=600), Path(root)).folder))


def test_four_processes_at_once_give_one_result(path, tmp_path):
    """Trap 47: they neither disturb each other nor leave anything behind."""
    context = multiprocessing.get_context("spawn")
    told, answers, root = context.Event(), context.Queue(), tmp_path / "root"
    processes = [
        context.Process(target=_prepare_when_told, args=(str(path), str(root), told, answers))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    told.set()
    found = {answers.get(timeout=120) for _ in processes}
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    prepared = prepare(DataSettings(path=path), TokenizerSettings(size=600), root)
    prepared.verify()
    assert found == {str(prepared.folder)}
    assert not leftovers(root, prepared)


_KILLED = """
import os, signal, sys
from pathlib import Path
from telos.data import job
from telos.data import prepare as module
from telos.data.settings import DataSettings
from telos.tokenizer import TokenizerSettings
rename = module._rename
module._rename = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
module.prepare(DataSettings(path=Path(sys.argv[1])), TokenizerSettings(kind="byte"), Path(sys.argv[2]))
"""


def test_a_build_that_was_killed_leaves_nothing_in_the_way(path, tmp_path):
    root = tmp_path / "root"
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path), str(root)])
    assert killed.returncode == -9
    assert [p.name for p in root.iterdir() if p.name.startswith(".building-")]
    prepared = prepare(DataSettings(path=path), BYTE, root)
    prepared.verify()
    assert not leftovers(root, prepared)


@pytest.mark.parametrize("where", ["train_tokenizer", "make_card", "write_synced", "write_shards"])
def test_a_build_that_fails_leaves_nothing(where, path, tmp_path, monkeypatch):
    """Trap 47: wherever it fails, and the next one is whole."""
    root = tmp_path / "root"

    def fail(*given):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, where, fail)
        with pytest.raises(DataError, match="cannot write the prepared data: the disk is full"):
            prepare(DataSettings(path=path), BYTE, root)
    assert [p.name for p in root.iterdir() if not p.name.endswith(".lock")] == []
    prepare(DataSettings(path=path), BYTE, root).verify()


_FULL = """
import resource, sys
from pathlib import Path
from telos.data.prepare import prepare
from telos.data.settings import DataSettings
from telos.errors import DataError
from telos.tokenizer import TokenizerSettings
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    prepare(DataSettings(path=Path(sys.argv[1])), TokenizerSettings(kind="byte"), Path(sys.argv[2]))
except DataError as error:
    sys.exit(f"refused: {error}")
"""


def test_a_disk_that_cannot_take_it_is_named_and_nothing_is_left(path, tmp_path):
    """The operating system itself refuses to write more, as it does when a disk is full."""
    root = tmp_path / "root"
    ended = subprocess.run(
        [sys.executable, "-c", _FULL, str(path), str(root)], capture_output=True, text=True
    )
    assert "refused:" in ended.stderr, ended.stderr
    assert "cannot write the prepared data" in ended.stderr
    assert "bytes are free" in ended.stderr
    assert [p.name for p in root.iterdir() if not p.name.endswith(".lock")] == []


def test_files_that_change_while_they_are_read_are_refused(path, tmp_path, monkeypatch):
    """The key is that of the bytes that were read, or nothing is prepared."""
    clean = module.clean_task

    def meanwhile(*given, **named):
        count = clean(*given, **named)
        jsonl(path, many(201))
        return count

    with monkeypatch.context() as patch:
        patch.setattr(module, "clean_task", meanwhile)
        with pytest.raises(DataError, match=r"texts\.jsonl: it changed while it was read"):
            prepare(DataSettings(path=path), BYTE, tmp_path / "root")
    assert [p.name for p in (tmp_path / "root").iterdir() if not p.name.endswith(".lock")] == []


def test_columns_are_written_where_they_are_wanted(tmp_path):
    rows = [{"text": f"Text {i}. Next one.", "target": f"Ziel {i}", "label": "even"} for i in range(30)]
    rows[3] |= {"label": "odd", "target": "e\u0301"}
    del rows[4]["label"], rows[5]["target"]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["word_start", "sentence_start", "target", "label"]
    prepared = prepare(DataSettings(path=path), BYTE, tmp_path / "root", columns=columns)
    assert sorted(prepared.card.labels) == ["even", "odd"]
    seen = {}
    for split in documents.SPLITS:
        shards = prepared.shards(split)
        corpus = Corpus(shards, Cut(length=100), prepared.tokenizer)
        for piece in (corpus[i] for i in range(len(corpus))):
            text = prepared.tokenizer.decode(piece.ids)
            label = str(piece.columns["label"][0])
            target = prepared.tokenizer.decode(piece.columns["target"])
            seen[text] = (label or None, target)
            expected = prepared.tokenizer.encode_words(text)
            assert (piece.columns["word_start"] == expected.word_start).all()
            assert (piece.columns["sentence_start"] == expected.sentence_start).all()
    whole = [row for row in rows if "target" in row]  # what has none cannot be answered with one
    assert prepared.card.dropped["without a target"]["documents"] == len(rows) - len(whole) == 1
    expected = {row["text"]: (row.get("label"), row["target"].replace("e\u0301", "é")) for row in whole}
    assert seen == expected


def test_progress_is_told_by_stage(path, tmp_path):
    told = []
    prepare(DataSettings(path=path), BYTE, tmp_path / "root", progress=lambda *what: told.append(what))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["reading", "cleaning", "learning the vocabulary", "tokenising", "writing"]
    assert told[-2][1:] == (200, 200)


def test_a_vocabulary_that_is_too_large_for_the_text_is_noted(path, tmp_path):
    told: list[str] = []
    prepared = prepare(
        DataSettings(path=path),
        TokenizerSettings(size=60_000),
        tmp_path / "root",
        progress=lambda stage, done, total: told.append(stage),
    )
    said = f"the vocabulary has {prepared.tokenizer.size:,} tokens instead of the 60,000 asked for"
    assert any(stage.startswith(said) for stage in told)
    assert prepared.tokenizer.size < 60_000
    assert any(
        f"{prepared.tokenizer.size:,} tokens instead of the 60,000" in note for note in prepared.card.notes
    )


@pytest.mark.parametrize(
    ("kind", "least"), [("bpe", 256 + 5), ("wordpiece", 511 + 5), ("unigram", 256 + 5), ("word", 2 + 5)]
)
def test_a_vocabulary_that_is_too_small_is_refused_before_any_text_is_read(kind, least, tmp_path):
    nowhere = DataSettings(path=tmp_path / "no-such-file.txt")
    with pytest.raises(ConfigError, match=rf"tokenizer\.size = {least - 1}: must be at least {least}"):
        prepare(nowhere, TokenizerSettings(kind=kind, size=least - 1), tmp_path / "root")
    with pytest.raises(DataError, match="no such file"):  # one more, and it is the text's turn
        prepare(nowhere, TokenizerSettings(kind=kind, size=least), tmp_path / "root")


def test_words_that_are_unknown_in_held_out_text_are_measured_and_warned_of(tmp_path):
    """Chinese is written without spaces, so nearly every line is a word that no other text has."""
    chinese = [f"床前明月光{i}\n疑是地上霜{i}" for i in range(60)]
    data = DataSettings(path=jsonl(tmp_path / "a.jsonl", chinese))
    with pytest.warns(
        UserWarning, match=r'tokens of the (validation|test) split.*"bpe".*"character"'
    ) as said:
        prepared = prepare(data, TokenizerSettings(kind="word", size=0), tmp_path / "root")
    assert len(said) == 2
    for split in ("validation", "test"):
        shards, lost = prepared.shards(split), prepared.card.vocabulary["held_out"][split]
        # each text is two unknown words and a line end, which is known
        assert lost["unknown"] == pytest.approx(2 / 3)
        assert lost["unknown_bytes"] == pytest.approx(1 - len(shards) / shards.header.bytes)
        assert unknown_bytes(shards.folder) == lost["unknown_bytes"]
        assert f"Of the {split} split, 66.67% of the tokens" in prepared.card.markdown()
    plain = prepare(data, BYTE, tmp_path / "root")  # and no warning
    assert "held_out" not in plain.card.vocabulary


def test_known_words_and_the_name_of_the_unknown_one_are_not_counted_as_lost(tmp_path):
    spaced = [f"the cat {'sat' if i % 2 else 'ran'} <unk> on the mat {'very ' * i}" for i in range(60)]
    data = DataSettings(path=jsonl(tmp_path / "a.jsonl", spaced))
    card = prepare(data, TokenizerSettings(kind="word", size=0), tmp_path / "root").card
    assert card.vocabulary["unknown"] > 0
    for split in ("validation", "test"):
        assert card.vocabulary["held_out"][split] == {"unknown": 0, "unknown_bytes": 0}


def test_the_card_says_what_was_lost(tmp_path):
    """Trap 50: a lossy step or vocabulary is named, and its loss measured on the text."""
    texts = [f"Wörter  und ☃ Zahl {i}" for i in range(40)] + ["Wörter  und ☃ Zahl 1"]
    path = jsonl(tmp_path / "a.jsonl", texts)
    lossy = DataSettings(path=path, clean=CleanSettings(lower=True, special_characters="remove"))
    with pytest.warns(UserWarning, match=r"25\.0% of the tokens of the (validation|test) split are"):
        card = prepare(lossy, TokenizerSettings(kind="word", size=14), tmp_path / "root").card
    assert card.lossy == ("lower case", "special characters")
    assert card.cleaning["lower case"] == {"documents": 41, "characters": 82, "lossy": True}
    assert card.cleaning["special characters"] == {"documents": 41, "characters": 41, "lossy": True}
    assert card.vocabulary["lossless"] is False
    assert card.vocabulary["documents_changed"] == card.vocabulary["bytes_changed"] == 1
    assert 0.1 < card.vocabulary["unknown"] < 0.5
    assert card.dropped["exact copy"]["documents"] == 1
    shown = card.markdown()
    assert "do not come back" in shown
    assert "Lossy steps that changed something: lower case, special characters" in shown
    plain = prepare(DataSettings(path=path), BYTE, tmp_path / "root").card
    assert plain.lossy == ()
    assert plain.vocabulary["lossless"] is True
    assert "byte for byte" in plain.markdown()


def test_the_card_counts_by_script_and_survives_the_disk(tmp_path):
    texts = [f"{i} plain words here 明月光照大江 и слова" for i in range(50)]
    prepared = prepare(DataSettings(path=jsonl(tmp_path / "a.jsonl", texts)), BYTE, tmp_path / "root")
    scripts = prepared.card.scripts
    assert {"Latin", "Han", "Cyrillic"} <= set(scripts)
    assert sum(row["bytes"] for row in scripts.values()) == sum(len(text.encode()) for text in texts)
    assert all(row["bytes_per_token"] == 1 for row in scripts.values())
    assert read_card(prepared.folder) == prepared.card
    assert (prepared.folder / "card.md").read_text(encoding="utf-8") == prepared.card.markdown()


def test_examples_in_the_card_are_no_markup(tmp_path):
    """Trap 74: text of the corpus is shown, never interpreted."""
    bad = "<script>alert(1)</script> `x` | [a](javascript:b)"
    card = prepare(
        DataSettings(path=jsonl(tmp_path / "a.jsonl", [*many(30), bad, bad])), BYTE, tmp_path / "root"
    ).card
    assert "script" in card.markdown()
    assert not any(mark in card.markdown() for mark in ("<script", "](java", "`x`"))


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
def test_large_vocabularies_reach_the_disk(size, tmp_path):
    """Trap 48: from the recipe to the shards, the rarest word keeps its id."""
    words = [f"w{i:x}" for i in range(size)]
    path = jsonl(tmp_path / "a.jsonl", [" ".join(words), *(f"x{i}" for i in range(5))])
    settings = DataSettings(path=path, split={"validation": 0, "test": 0})
    prepared = prepare(settings, TokenizerSettings(kind="word", size=size), tmp_path / "root")
    shards = prepared.shards("train")
    assert prepared.tokenizer.size == size == shards.header.size
    assert shards.ids.dtype == (np.uint16 if size <= 65_536 else np.uint32)
    first = next(i for i in range(len(shards)) if shards.lengths[i] > 1)
    ids = prepared.tokenizer.encode(" ".join(words))
    assert shards.document(first).tolist() == ids.tolist()
    assert ids.max() > 65_000


def test_wikitext_is_prepared_to_the_token(data_folder, tmp_path):
    """Trap 34: 245,569 tokens in the test split, as published; documents by their headings lose nothing."""
    folder = data_folder / "wikitext-2"
    settings = DataSettings(
        path=folder / "valid.txt.xz",
        validation=folder / "valid.txt.xz",
        test=folder / "test.txt.xz",
        document_start=r"^ = [^=]+ = $",
    )
    with pytest.raises(DataError, match=r"no text here|nothing is left to train on"):
        prepare(settings, TokenizerSettings(kind="word", size=0), tmp_path / "root")
    settings = DataSettings(
        path=folder / "valid.txt.xz",
        test=folder / "test.txt.xz",
        document_start=r"^ = [^=]+ = $",
        split={"validation": 0},
    )
    prepared = prepare(settings, TokenizerSettings(kind="word", size=0), tmp_path / "root")
    assert prepared.shards("test").header.tokens == 245_569
    assert prepared.shards("test").header.bytes == 1_256_449
    assert prepared.shards("train").header.tokens == 217_646


@pytest.mark.slow
def test_one_line_of_two_hundred_megabytes(tmp_path):
    """Traps 49 and 54: as text and as JSON, within 2 GB of memory."""
    text = "".join(f"words of one endless line {i} " for i in range(6_500_000))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text(text)
    size = len(text)
    text = text.replace("words", "names")  # no part of it is a duplicate of the first
    (tmp_path / "text" / "b.jsonl").write_text(json.dumps({"text": text}))
    size += len(text)
    del text
    code = (
        "import sys\nfrom pathlib import Path\nfrom telos.data.prepare import prepare\n"
        "from telos.data.settings import DataSettings\nfrom telos.tokenizer import TokenizerSettings\n"
        "t = TokenizerSettings(kind='bpe', size=1000)\n"
        "p = prepare(DataSettings(path=Path(sys.argv[1])), t, Path(sys.argv[2]))\n"
        "print(sum(s['bytes'] for s in p.card.splits.values()))"
    )
    said = subprocess.check_output(
        [sys.executable, "-c", code, str(tmp_path / "text"), str(tmp_path / "root")]
    )
    assert int(said) == size
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 3 << 20
    assert Shards(next((tmp_path / "root").glob("*/train"))).header.tokens > 0

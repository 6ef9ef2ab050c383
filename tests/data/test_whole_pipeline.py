"""Copies, passages and leaks as preparation treats them: held-out text first, and nothing without a count."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from telos.config import read
from telos.data import documents
from telos.data.documents import SPLITS
from telos.data.prepare import Prepared, prepare
from telos.data.settings import DataSettings
from telos.errors import ConfigError, DataError
from telos.run import load_recipe
from telos.tokenizer import TokenizerSettings
from tests.data.test_documents import jsonl

BYTE = TokenizerSettings(kind="byte")
NOTICE = "All of the words on this page were written by the people of the village and belong to nobody else"


def sentences(seed: int, count: int = 6) -> str:
    """Text in which hardly any five words in a row stand elsewhere."""
    return " ".join(f"w{seed}x{n} the v{seed * 7 % 101}y{n} of u{n}z{seed}." for n in range(count * 3))


def texts_of(ready: Prepared) -> dict[str, str]:
    found = {}
    for split in SPLITS:
        shards = ready.shards(split)
        for at in range(len(shards)):
            found[ready.tokenizer.decode(shards.document(at))] = split
    return found


def prepared(tmp_path: Path, train: list[str], **data) -> Prepared:
    given = {
        "path": str(jsonl(tmp_path / "train.jsonl", train)),
        "split": {"validation": 0, "test": 0},
        **data,
    }
    ready = prepare(read(DataSettings, given), BYTE, tmp_path / "root")
    kept = sum(int(split["documents"]) for split in ready.card.splits.values())
    assert ready.card.documents == kept + sum(drop["documents"] for drop in ready.card.dropped.values())
    return ready


@pytest.fixture(params=[1 << 25, 600], ids=["one task", "many tasks"])
def tasks(request, monkeypatch):
    monkeypatch.setattr(documents, "TASK_BYTES", request.param)
    monkeypatch.setattr(documents, "TASK_FILES", 1 if request.param == 600 else 1000)


def test_near_copies_of_every_kind_are_dropped_across_splits(tmp_path):
    """Trap 53: with other case, other white space, or a part of other words; held-out text stays."""
    base = [sentences(n) for n in range(40)]
    test = jsonl(tmp_path / "test.jsonl", base[:10])
    near = [
        base[0].upper(),
        base[1].replace(" ", "\n\n"),
        base[2].replace(".", "!"),
        base[3] + " And this is new.",
    ]
    ready = prepared(tmp_path, [*base[10:], *near, base[12].upper()], test=str(test), dedupe={"near": "drop"})
    found = texts_of(ready)
    assert {text for text, split in found.items() if split == "test"} == set(base[:10])
    assert {text for text, split in found.items() if split == "train"} == set(base[10:])
    assert ready.card.dropped["near copy of test"]["documents"] == 4
    assert ready.card.dropped["near copy"]["documents"] == 1
    assert ready.card.duplicates == {"clusters": 5, "near copies": 5, "of held-out text": 4}


def test_exact_copies_stay_where_that_is_asked_for(tmp_path):
    base = [sentences(n) for n in range(8)]
    assert prepared(tmp_path, [*base, base[2]]).card.splits["train"]["documents"] == 8
    ready = prepared(tmp_path, [*base, base[2]], dedupe={"exact": False})
    assert ready.card.splits["train"]["documents"] == 9
    assert not ready.card.dropped


def test_near_copies_can_be_counted_and_kept(tmp_path):
    base = [sentences(n) for n in range(20)]
    ready = prepared(tmp_path, [*base, base[3].upper()], dedupe={"near": "report"})
    assert len(texts_of(ready)) == 21
    assert ready.card.duplicates["near copies"] == 1
    assert "1 text like an earlier one" in ready.card.markdown()
    assert prepared(tmp_path, [*base, base[3].upper()]).card.duplicates == {}


@pytest.mark.usefixtures("tasks")
def test_paragraphs_that_stood_before_are_cut_out_of_texts_to_train_on(tmp_path):
    """Held-out text is never changed, and what stands in it does not stay in the text to train on."""
    base = [sentences(n) for n in range(6)]
    held_out = jsonl(tmp_path / "test.jsonl", [f"{base[0]}\n{NOTICE}\n", f"{base[1]}\n{NOTICE}\n"])
    train = [f"{base[2]}\n{NOTICE}\n", f"{base[3]}\n\n{base[4]}\n", f"{base[5]}\n{base[4]}", base[4], NOTICE]
    ready = prepared(tmp_path, train, test=str(held_out), dedupe={"paragraphs": 8})
    found = texts_of(ready)
    assert [text for text, split in found.items() if split == "train"] == [
        f"{base[2]}\n",
        f"{base[3]}\n\n{base[4]}\n",
        base[5],
    ]
    assert [text for text, split in found.items() if split == "test"] == [
        f"{base[0]}\n{NOTICE}\n",
        f"{base[1]}\n{NOTICE}\n",
    ]
    assert ready.card.passages["texts"] == 2
    assert ready.card.dropped["nothing but passages that stood before"]["documents"] == 2
    assert ready.card.splits["train"]["bytes"] == sum(
        len(text.encode()) for text, split in found.items() if split == "train"
    )


@pytest.mark.usefixtures("tasks")
def test_stretches_that_stood_before_are_cut_wherever_they_begin(tmp_path):
    """Lee et al., 2022: with no line end about them."""
    base = [sentences(n) for n in range(4)]
    ready = prepared(
        tmp_path, [f"{base[0]} {NOTICE} {base[1]}", f"{base[2]} {NOTICE} {base[3]}"], dedupe={"stretches": 12}
    )
    first, second = texts_of(ready)
    assert first == f"{base[0]} {NOTICE} {base[1]}"
    assert NOTICE not in second and second.startswith(base[2]) and second.endswith(base[3])


def test_the_vocabulary_is_learned_without_what_was_cut_out(tmp_path):
    train = [f"{sentences(n)}\n{NOTICE}" for n in range(12)]
    path = jsonl(tmp_path / "train.jsonl", train)
    given = {"path": str(path), "split": {"validation": 0, "test": 0}, "dedupe": {"paragraphs": 8}}
    card = prepare(read(DataSettings, given), TokenizerSettings(size=300), tmp_path / "root").card
    assert card.vocabulary["learned_from_bytes"] == card.splits["train"]["bytes"]


def test_text_of_evaluation_sets_is_found_counted_dropped_or_refused(tmp_path):
    """Trap 53: those that the settings name, and the files of held-out text; never their own documents."""
    item, own = (" ".join(f"{word}{n}" for n in range(15)) for word in ("exam", "held"))
    exam, test = jsonl(tmp_path / "exam.jsonl", [item]), jsonl(tmp_path / "test.jsonl", [own])
    base = [sentences(n) for n in range(8)]
    train = [*base, f"{sentences(20)} {item.upper()}", f"{sentences(21)} {own}"]

    def run(action: str, **more) -> Prepared:
        leaks = {"action": action, "against": [str(exam)], **more}
        return prepared(tmp_path, train, test=str(test), decontaminate=leaks)

    dropped = run("drop")
    assert {text for text, split in texts_of(dropped).items() if split == "train"} == set(base)
    assert dropped.card.dropped["text of an evaluation set"]["documents"] == 2
    assert own in texts_of(dropped)
    reported = run("report")
    assert len(texts_of(reported)) == len(train) + 1
    assert reported.card.contamination["texts"] == 2
    assert "2 texts to train on" in reported.card.markdown()
    assert run("report", share=0.9).card.contamination["texts"] == 0
    with pytest.raises(DataError, match=r"2 texts to train on hold text.*train\.jsonl:9, train\.jsonl:10"):
        run("refuse")
    before = dropped.folder.name
    jsonl(exam, [item, "other words that nobody has asked for before in any exam that there was"])
    assert run("drop").folder.name != before


def test_items_with_personal_data_are_found_in_text_that_was_scrubbed(tmp_path):
    item = (
        " ".join(f"exam{n} of{n}" for n in range(6))
        + " to somebody@mail.org "
        + "and the rest of what is asked"
    )
    exam = jsonl(tmp_path / "exam.jsonl", [item])
    leaks = {"action": "report", "against": [str(exam)], "share": 0.99}
    train = [*(sentences(n) for n in range(4)), item]
    ready = prepared(tmp_path, train, decontaminate=leaks, privacy={"action": "replace"})
    assert ready.card.contamination["texts"] == 1


def test_chinese_near_copies_and_leaks(tmp_path):
    poems = ["".join(chr(0x4E00 + (n * 977 + k * 131) % 20000) for k in range(60)) for n in range(20)]
    exam = jsonl(tmp_path / "exam.jsonl", [poems[0][10:45]])
    near = "，".join(poems[5][k : k + 5] for k in range(0, 60, 5)) + "。"
    ready = prepared(
        tmp_path,
        [*poems, near],
        dedupe={"near": "drop"},
        decontaminate={"action": "drop", "against": [str(exam)]},
    )
    assert set(texts_of(ready)) == set(poems[1:])
    assert {why: drop["documents"] for why, drop in ready.card.dropped.items()} == {
        "near copy": 1,
        "text of an evaluation set": 1,
    }


def test_filters_and_personal_data_are_on_the_card(tmp_path):
    train = [f"Write to somebody{n}@mail.org. {sentences(n)}" for n in range(10)] + [
        "too short",
        "also this one",
    ]
    ready = prepared(
        tmp_path,
        train,
        filters=[{"name": "length", "least_words": 5}],
        privacy={"action": "replace"},
    )
    assert ready.card.privacy["email"]["found"] == 10
    assert not any("@" in text for text in texts_of(ready))
    assert not any("somebody" in shape for shape in ready.card.privacy["email"]["shapes"])
    assert sum(drop["documents"] for why, drop in ready.card.dropped.items() if why.startswith("length")) == 2
    assert "| email | 10 |" in ready.card.markdown()
    dropped = prepared(tmp_path, train, privacy={"action": "drop"})
    assert dropped.card.dropped["personal data"]["documents"] == 10
    assert not any("@" in shown for shown in dropped.card.dropped["personal data"]["examples"])


def test_a_filters_own_file_is_in_the_key(tmp_path):
    """Trap 47."""
    mine = tmp_path / "mine.py"
    mine.write_text("def keep(text):\n    return 'w3x' not in text\n")
    train = [sentences(n) for n in range(8)]
    first = prepared(tmp_path, train, filters=[{"name": "python", "file": str(mine)}])
    assert len(texts_of(first)) == 7
    mine.write_text("def keep(text):\n    return True\n")
    assert len(texts_of(prepared(tmp_path, train, filters=[{"name": "python", "file": str(mine)}]))) == 8


def test_what_is_misspelt_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"dedupe\.near = 'yes'.*'off', 'report' or 'drop'"):
        read(DataSettings, {"path": "x", "dedupe": {"near": "yes"}}, "data")
    with pytest.raises(ConfigError, match=r"has no 'lenght'\. Did you mean 'length'"):
        read(DataSettings, {"path": "x", "filters": ["lenght"]})


def test_targets_are_cleaned_and_scrubbed_too(tmp_path):
    rows = [{"text": sentences(n), "target": f"Antwort {n} an a{n}@mail.org"} for n in range(4)]
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"path": str(path), "split": {"validation": 0, "test": 0}, "privacy": {"action": "replace"}}
    ready = prepare(read(DataSettings, given), BYTE, tmp_path / "root", columns=["target"])
    shards = ready.shards("train")
    said = [ready.tokenizer.decode(shards.column("target", at)) for at in range(4)]
    assert said == [f"Antwort {n} an [EMAIL]" for n in range(4)]


def test_text_and_evaluation_sets_that_are_elsewhere(tmp_path, monkeypatch):
    """A URL is fetched once and prepared as the same file here; private hosts only if they are named."""
    monkeypatch.chdir(tmp_path)
    away = tmp_path / "away"
    away.mkdir()
    texts = [sentences(n) for n in range(12)]
    jsonl(away / "train.jsonl", [*texts, f"{sentences(30)} {texts[0]}"])
    jsonl(away / "exam.jsonl", [texts[0]])
    handler = partial(SimpleHTTPRequestHandler, directory=str(away))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *given: None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        host = f"127.0.0.1:{server.server_port}"
        given = {
            "path": f"http://{host}/train.jsonl",
            "split": {"validation": 0, "test": 0},
            "decontaminate": {"action": "drop", "against": [f"http://{host}/exam.jsonl"]},
        }
        with pytest.raises(DataError, match="http"):
            prepare(read(DataSettings, given), BYTE, tmp_path / "root")
        given["remote"] = {"allow_hosts": [host]}
        ready = prepare(read(DataSettings, given), BYTE, tmp_path / "root")
    finally:
        server.shutdown()
        server.server_close()
    assert set(texts_of(ready)) == set(texts[1:])
    here = given | {"path": str(away / "train.jsonl")}
    here["decontaminate"] = {"action": "drop", "against": [str(away / "exam.jsonl")]}
    assert prepare(read(DataSettings, here), BYTE, tmp_path / "root").folder == ready.folder
    assert read(DataSettings, given).table()["path"] == f"http://{host}/train.jsonl"
    recipe = load_recipe(f"http://{host}/train.jsonl")  # as `telos prepare URL` has it
    assert (recipe.name, recipe.data.path) == ("train", f"http://{host}/train.jsonl")

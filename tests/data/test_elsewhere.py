"""Data that was prepared elsewhere is used as if it had been prepared here, and only as what it is."""

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telos.config import read
from telos.data import elsewhere
from telos.data.card import read_card
from telos.data.prepare import Prepared, prepare
from telos.data.remote import Access, RemoteFile, listing
from telos.data.settings import DataSettings
from telos.errors import ConfigError, DataError
from telos.run import fit, load_recipe, open_run
from telos.tokenizer import TokenizerSettings
from tests.data.servers import Served, Server, web_server
from tests.data.test_documents import jsonl, many
from tests.data.test_prepare import files, leftovers
from tests.small import NARROW, SHRUNK, last_weights, write_texts

BPE = TokenizerSettings(size=400)
COLUMNS = ["word_start"]


@pytest.fixture
def made(tmp_path: Path) -> Prepared:
    """Prepared from a text that is then gone."""
    path = jsonl(tmp_path / "texts.jsonl", many(200))
    ready = prepare(DataSettings(path=path), BPE, tmp_path / "made", columns=COLUMNS)
    path.unlink()
    return ready


@pytest.fixture
def server(made: Prepared, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("telos.data.remote.PAUSE", 0.01)
    with web_server() as served:
        serve(served, made.folder, made.folder.name)
        yield served


def serve(server: Server, folder: Path, name: str) -> None:
    for path, data in files(folder).items():
        server.files[f"/prepared/{name}/{path}"] = Served(data)


def there(server: Server, made: Prepared, tmp_path: Path, **more: Any) -> DataSettings:
    remote = {"cache": tmp_path / "cache", "allow_hosts": [server.host]}
    return read(
        DataSettings, {"prepared": server.url(f"/prepared/{made.folder.name}/"), "remote": remote, **more}
    )


def asked(server: Server, before: int = 0) -> set[str]:
    """The files that were asked for, by the last part of their names."""
    return {path.rpartition("/")[2] for path, _ in server.asked[before:]}


# ---- over https


def test_it_is_what_was_prepared_and_fetched_once(server: Server, made: Prepared, tmp_path: Path) -> None:
    """Its text is not there; the second time nothing is asked for at all."""
    root, data = tmp_path / "root", there(server, made, tmp_path)
    ready = prepare(data, BPE, root, columns=COLUMNS)
    assert ready.folder == root / made.folder.name and files(ready.folder) == files(made.folder)
    assert ready.card == made.card and not leftovers(root, ready)
    before = len(server.asked)
    again = prepare(data, BPE, root, columns=COLUMNS)
    assert again.folder == ready.folder and len(server.asked) == before


def test_what_broke_off_is_gone_on_from(
    server: Server, made: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a file, and between files: what is there whole is not asked for again."""
    data, name = there(server, made, tmp_path), f"/prepared/{made.folder.name}"

    def breaks(url: str, access: Access) -> list[RemoteFile]:
        found = listing(url, access)
        if url.endswith("train/ids.bin"):
            server.files[f"{name}/train/ids.bin"].breaks = 1000
        return found

    monkeypatch.setattr(elsewhere, "listing", breaks)
    kept = server.files.pop(f"{name}/validation/ids.bin")
    with pytest.raises(DataError, match="validation/ids"):
        prepare(data, BPE, tmp_path / "root", columns=COLUMNS)
    ranges = [headers["Range"] for path, headers in server.asked if "Range" in headers and "train" in path]
    assert ranges == ["bytes=1000-"]
    assert not (tmp_path / "root" / made.folder.name).exists()
    server.files[f"{name}/validation/ids.bin"] = kept
    before = len(server.asked)
    ready = prepare(data, BPE, tmp_path / "root", columns=COLUMNS)
    assert files(ready.folder) == files(made.folder)
    assert f"{name}/train/ids.bin" not in {path for path, _ in server.asked[before:]}


@pytest.mark.parametrize("name", ["train/ids.bin", "test/offsets.bin", "tokenizer.json", "card.json"])
def test_content_that_is_not_what_was_written_is_refused(
    name: str, server: Server, made: Prepared, tmp_path: Path
) -> None:
    place = f"/prepared/{made.folder.name}/{name}"
    whole = server.files[place].data
    server.files[place] = Served(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    data = there(server, made, tmp_path)
    with pytest.raises(DataError, match=f"{name}: its content is not what is said beside it"):
        prepare(data, BPE, tmp_path / "root", columns=COLUMNS)
    server.files[place] = Served(whole)
    assert files(prepare(data, BPE, tmp_path / "root", columns=COLUMNS).folder) == files(made.folder)


def test_what_is_damaged_here_is_fetched_again(server: Server, made: Prepared, tmp_path: Path) -> None:
    data = there(server, made, tmp_path)
    ready = prepare(data, BPE, tmp_path / "root", columns=COLUMNS)
    damaged = ready.folder / "train" / "ids.bin"
    damaged.write_bytes(damaged.read_bytes()[:-2] + b"??")
    with pytest.warns(RuntimeWarning, match="is damaged, and is made again"):
        again = prepare(data, BPE, tmp_path / "root", columns=COLUMNS)
    assert files(again.folder) == files(made.folder)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"data": {"clean": {"lower": True}}}, r"data\.clean\.lower: false there, true here"),
        ({"data": {"split": {"test": 0.2}}}, r"data\.split\.test: 0\.05 there, 0\.2 here"),
        ({"data": {"filters": ["length"]}}, r"data\.filters: \[\] there, \[.*\"length\".*\] here"),
        ({"tokenizer": TokenizerSettings(size=500)}, r"tokenizer\.size: 400 there, 500 here"),
        ({"tokenizer": TokenizerSettings(kind="byte")}, r'tokenizer\.kind: "bpe" there, "byte" here'),
        (
            {"columns": ["word_start", "target"]},
            r'columns: \["word_start"\] there, \["target", "word_start"\]',
        ),
        ({"specials": ["<|gap|>"]}, r'specials: \[\] there, \["<\|gap\|>"\] here'),
    ],
)
def test_other_settings_are_named_before_the_tokens_are_fetched(
    more: dict[str, Any], message: str, server: Server, made: Prepared, tmp_path: Path
) -> None:
    """Trap 39: settings that the data was not prepared with would have no effect."""
    data = there(server, made, tmp_path, **more.pop("data", {}))
    given = {"tokenizer": BPE, "columns": COLUMNS, **more}
    with pytest.raises(ConfigError, match=message):
        prepare(data, root=tmp_path / "root", **given)
    assert not [name for name in asked(server) if name.endswith(".bin")]
    ready = prepare(there(server, made, tmp_path), BPE, tmp_path / "root", columns=COLUMNS)
    with pytest.raises(ConfigError, match=message):  # fetched by now
        prepare(data, root=tmp_path / "root", **given)
    assert files(ready.folder) == files(made.folder)


def test_where_things_are_is_no_such_setting(server: Server, made: Prepared, tmp_path: Path) -> None:
    """So the recipe that it was prepared by is as it was but for `prepared`."""
    more = {"path": "/gone/texts.jsonl", "engine": {"workers": 7}}
    ready = prepare(there(server, made, tmp_path, **more), BPE, tmp_path / "root", columns=COLUMNS)
    assert ready.card.key == made.card.key


def test_another_preparation_under_its_name_is_refused(
    server: Server, made: Prepared, tmp_path: Path
) -> None:
    """Though a part of the right one is here from an attempt that broke off."""
    data, name = there(server, made, tmp_path), made.folder.name
    del server.files[f"/prepared/{name}/test/ids.bin"]
    with pytest.raises(DataError, match="test/ids"):
        prepare(data, BPE, tmp_path / "root", columns=COLUMNS)
    other = jsonl(tmp_path / "other.jsonl", many(200, seed=1))
    found = prepare(DataSettings(path=other), BPE, tmp_path / "made", columns=COLUMNS)
    serve(server, found.folder, name)
    with pytest.raises(DataError, match=f"is called by its key, which is {found.card.key} here"):
        prepare(data, BPE, tmp_path / "root", columns=COLUMNS)


@pytest.mark.parametrize("name", ["../../evil.bin", "/etc/passwd", "sub/card.json", "..", "evil.exe"])
@pytest.mark.parametrize("said", ["whole.json", "train/header.json"])
def test_names_that_lead_elsewhere_are_refused(
    name: str, said: str, server: Server, made: Prepared, tmp_path: Path
) -> None:
    place = f"/prepared/{made.folder.name}/{said}"
    table = json.loads(server.files[place].data)
    table["files"][name] = next(iter(table["files"].values()))
    server.files[place] = Served(json.dumps(table).encode())
    with pytest.raises(DataError, match=f"{said}: not of prepared data: it names a file"):
        prepare(there(server, made, tmp_path), BPE, tmp_path / "root", columns=COLUMNS)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"files": {"card.json": "no digest"}}', b"\xff"])
def test_what_is_no_prepared_data_is_named(
    text: bytes, server: Server, made: Prepared, tmp_path: Path
) -> None:
    server.files[f"/prepared/{made.folder.name}/whole.json"] = Served(text)
    with pytest.raises(DataError, match=r"whole\.json: not of prepared data"):
        prepare(there(server, made, tmp_path), BPE, tmp_path / "root", columns=COLUMNS)


def test_two_processes_at_once_fetch_once(server: Server, made: Prepared, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()

    def one() -> None:
        ready = prepare(there(server, made, tmp_path), BPE, tmp_path / "root", columns=COLUMNS)
        told.put(len(ready.shards("train")))

    processes = [context.Process(target=one) for _ in range(2)]
    for process in processes:
        process.start()
    assert [told.get() for _ in processes] == [len(made.shards("train"))] * 2
    for process in processes:
        process.join()
    counts = Counter(path for path, _ in server.asked)
    assert len(set(counts.values())) == 1, counts


# ---- in a folder


def test_a_folder_is_used_where_it_is(
    made: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written, there or here."""
    before = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")}
    ready = prepare(DataSettings(prepared=made.folder), BPE, tmp_path / "root", columns=COLUMNS)
    assert ready.folder == made.folder and not (tmp_path / "root").exists()
    monkeypatch.chdir(made.folder)
    assert prepare(DataSettings(prepared=Path()), BPE, tmp_path / "root", columns=COLUMNS).card == made.card
    assert {path: path.stat().st_mtime_ns for path in made.folder.rglob("*")} == before
    with pytest.raises(ConfigError, match=r"tokenizer\.size: 400 there, 8192 here"):
        prepare(DataSettings(prepared=made.folder), TokenizerSettings(), tmp_path, columns=COLUMNS)


def test_a_folder_that_is_not_whole_is_refused_and_stays(made: Prepared, tmp_path: Path) -> None:
    data = DataSettings(prepared=made.folder)
    damaged = made.folder / "train" / "ids.bin"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-2] + b"??")
    with pytest.raises(DataError, match="its content is not what was written"):
        prepare(data, BPE, tmp_path / "root", columns=COLUMNS)
    damaged.write_bytes(content)
    (made.folder / "card.json").rename(made.folder / "card")
    with pytest.raises(DataError, match=r"no prepared data is here: there is no card\.json"):
        prepare(data, BPE, tmp_path / "root", columns=COLUMNS)
    (made.folder / "card").rename(made.folder / "card.json")
    moved = made.folder.rename(made.folder.with_name("renamed"))
    with pytest.raises(DataError, match=f"is called by its key, which is {made.card.key} here"):
        prepare(DataSettings(prepared=moved), BPE, tmp_path / "root", columns=COLUMNS)


def test_a_card_that_says_no_settings_is_refused(made: Prepared, tmp_path: Path) -> None:
    """As those of an older Telos are."""
    card = json.loads((made.folder / "card.json").read_text())
    del card["settings"]
    (made.folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(DataError, match="its card does not say with what settings"):
        prepare(DataSettings(prepared=made.folder), BPE, tmp_path / "root", columns=COLUMNS)


def test_the_seed_of_stand_ins_is_not_on_the_card(tmp_path: Path) -> None:
    """Trap 78: who knows it can test guesses of what a stand-in was."""
    path = jsonl(tmp_path / "texts.jsonl", many(60))
    given = {"path": path, "privacy": {"action": "replace", "replacement": "fake", "seed": 987654321}}
    ready = prepare(read(DataSettings, given), BPE, tmp_path / "root")
    assert "987654321" not in (ready.folder / "card.json").read_text()
    assert ready.card.settings["data"]["privacy"]["replacement"] == "fake"
    assert read_card(ready.folder).settings == ready.card.settings


def test_text_that_has_to_be_read_must_be_there(made: Prepared) -> None:
    with pytest.raises(ConfigError, match="path must be given"):
        read(DataSettings, {})
    assert read(DataSettings, {"prepared": str(made.folder)}).path is None


# ---- a run from it


@pytest.mark.parametrize("remote", [True, False])
def test_a_run_is_trained_evaluated_and_gone_on_with(
    remote: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the run from the text itself, to the bit; the place may change on the way."""
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "texts")
    steady = "train.schedule={kind='constant', warmup=0.0}"
    given = [*SHRUNK, *NARROW["decoder"], "tokenizer.size=300", "name=small", steady]
    longer = "train.budget.steps=4"
    whole = fit(load_recipe("gpt-small", [*given, "data.path=texts", longer]), "one")
    loss = whole.evaluate()["loss"]
    (made,) = (path for path in Path("one/prepared").iterdir() if path.is_dir())
    with web_server() as server:
        serve(server, made, made.name)
        place = server.url(f"/prepared/{made.name}") if remote else str(made.resolve())
        given += [f"data.prepared={place}", f"data.remote.allow_hosts=['{server.host}']", "data.path=gone"]
        fit(load_recipe("gpt-small", given), "two")
        if not remote:
            Path("moved").mkdir()
            given.append(f"data.prepared={made.rename(Path('moved') / made.name).resolve()}")
        run = fit(load_recipe("gpt-small", [*given, longer]), "two")
    for name, tensor in last_weights(run).items():
        assert tensor.equal(last_weights(whole)[name])
    assert open_run("two/small", "cpu").evaluate()["loss"] == loss
    assert Path(f"two/prepared/{made.name}").exists() == remote

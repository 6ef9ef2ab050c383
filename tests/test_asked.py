"""What a run is asked reaches its model cleaned as the text it was trained on: a model that has read lower
case alone knows no capitals, and one of half-width digits none that are full-width."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from telos.config import override, read
from telos.data.clean import cleaner
from telos.data.settings import CleanSettings
from telos.generate._rows import Gap, Talk, cleaned
from telos.measure import judge_of, measure_probe
from telos.recipe import Recipe
from telos.run import Run, fit
from telos.tasks.translation import picture, translate
from telos.turns import Turn
from tests.serve.world import serving
from tests.small import NARROW, SHRUNK, labelled, write_texts
from tests.tasks.test_translation import write_pairs

RAW, CLEAN = "THE Cat ２０２４\r\nsat", "the cat 2024\nsat"
CLEANING = "data.clean={lower=true, width='half', spaces='collapse'}"


def trained(folder: Path, kind: str, table: dict[str, Any], *changes: str) -> Run:
    settings = [*SHRUNK, CLEANING, f"model.name={kind}", *NARROW[kind], "train.window=64", *changes]
    return fit(read(Recipe, override(table, settings)), folder / "runs", device="cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One that goes on with texts."""
    folder = tmp_path_factory.mktemp("asked")
    table = {"name": "plain", "data": {"path": str(write_texts(folder / "texts"))}}
    return trained(folder, "decoder", table, "tokenizer.size=300")


# ---- the function


def test_a_part_of_a_text_keeps_what_it_ends_with() -> None:
    """It goes on: `Once ` is no line with a blank at its end, and a notice in it may be what is meant."""
    settings = read(CleanSettings, {"lower": True, "spaces": "collapse", "boilerplate": True})
    whole, part = cleaner(settings), cleaner(settings, part=True)
    text = "Once \n \n\n\nWe use cookies \u3000"
    assert whole(text) == "once\n\n"
    assert part(text) == "once\n\nwe use cookies \u3000"
    assert part(" \t") == " \t" and part("") == ""


def test_every_kind_of_prompt_is_cleaned() -> None:
    clean = cleaner(read(CleanSettings, {"lower": True}), part=True)
    assert cleaned("A ", clean) == "a "
    assert cleaned(("A ", " B"), clean) == Gap("a ", " b")
    talk = Talk((Turn("user", " HI\n"), Turn("assistant", "Yes")))
    assert cleaned(talk, clean) == Talk((Turn("user", "hi"), Turn("assistant", "yes")))


# ---- a run


def test_it_goes_on_with_the_cleaned_prompt(run: Run) -> None:
    """The same sample to the bit, and a prompt as the model saw it."""
    assert run.generate([RAW], seed=3) == run.generate([CLEAN], seed=3)
    assert run.generate([RAW])[0].prompt == CLEAN


def test_it_judges_the_cleaned_text(run: Run) -> None:
    judge = judge_of(run)
    assert judge.text(RAW).ids.tolist() == run.tokenizer.encode(CLEAN).tolist()
    assert judge.score([judge.text(RAW, "A ")]) == judge.score([judge.text(CLEAN, "a ")])


def test_its_states_are_those_of_the_cleaned_text(run: Run, tmp_path: Path) -> None:
    """What was learned of small letters is known of large ones."""

    def written(name: str, change: Callable[[str], str]) -> Path:
        lines = [{"text": change(text), "label": label} for text, label in labelled(48)]
        (tmp_path / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        return tmp_path / name

    small, large = written("small.jsonl", str.lower), written("large.jsonl", str.upper)
    found = measure_probe(run, small, small).accuracy
    assert found.value > 0.9 and measure_probe(run, small, large).accuracy == found


def test_words_are_looked_up_cleaned(run: Run) -> None:
    assert run.neighbours(["Cat"]) == run.neighbours(["cat"])


@pytest.mark.filterwarnings("ignore:Glyph")  # of what it says, hardly trained
def test_it_translates_the_cleaned_text(tmp_path: Path) -> None:
    """Seven BLEU of Multi30k were lost by a model of lower case that was given capitals."""
    folder = write_pairs(tmp_path / "pairs")
    data = {"source": "pairs", "pair": ["de", "en"], "path": f"{folder}/train.de"}
    data |= {"validation": f"{folder}/val.de", "test": f"{folder}/test.de"}
    table = {"name": "pairs", "objective": "sequence_to_sequence", "data": data}
    run = trained(tmp_path, "encoder_decoder", table, "tokenizer={kind='character', size=0}")
    assert translate(run, ["ZWEI Ärger", "\u3000"]) == translate(run, ["zwei ärger", ""])
    assert picture(run, ["ZWEI"], tmp_path / "looks.png").read == (*"zwei", "⊣")


# ---- served


def test_what_a_server_is_asked_is_cleaned(run: Run) -> None:
    with serving(run.folder) as server, httpx.Client(base_url=server.address, timeout=60) as http:

        def told(path: str, key: str, text: str, **more: Any) -> Any:
            answer = http.post(path, json={"model": run.folder.name, key: text, **more})
            assert answer.status_code == 200, answer.text
            return answer.json()

        for path, key, more in [
            ("/v1/completions", "prompt", {"seed": 1, "max_tokens": 8}),
            ("/v1/embeddings", "input", {}),
            ("/v1/score", "input", {}),
        ]:
            raw, clean = (told(path, key, text, **more) for text in (RAW, CLEAN))
            found = "choices" if "choices" in raw else "data"
            assert raw[found] == clean[found] and raw.get("usage") == clean.get("usage")
        nothing = http.post("/v1/embeddings", json={"model": run.folder.name, "input": "\x00"})
        assert nothing.status_code == 400 and "empty" in nothing.text
        tokens = told("/v1/score", "input", RAW)["data"][0]["tokens"]
        assert "".join(token["text"] for token in tokens) == CLEAN

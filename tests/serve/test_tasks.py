"""Translation and classification over HTTP are what `telos.tasks` gives."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from telos.config import read
from telos.recipe import Recipe
from telos.run import Run, fit
from telos.tasks.classification import classify
from telos.tasks.translation import translate
from tests.serve.world import refused, serving
from tests.tasks.test_classification import TEXTS, trained
from tests.tasks.test_translation import table_of, write_pairs

SENTENCES = ["eins zwei", "猫 Ärger drei", "vier", "zwei zwei zwei"]


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("translator")
    table = table_of(write_pairs(folder / "text"))
    table["train"]["budget"] = {"steps": 60}
    return fit(read(Recipe, table), folder / "runs")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder: Path = tmp_path_factory.mktemp("judge")
    return trained(folder)


@pytest.fixture(scope="module")
def asked(translator: Run, judge: Run) -> Iterator[httpx.Client]:
    with (
        serving(translator.folder, judge.folder) as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        yield client


def post(client: httpx.Client, address: str, **body: Any) -> list[dict[str, Any]]:
    answer = client.post(f"/v1/{address}", json=body)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    assert [each.pop("index") for each in data] == list(range(len(data)))
    return data


def test_models_say_that_they_can(asked: httpx.Client) -> None:
    pairs, judge = asked.get("/v1/models").json()["data"]
    assert "translate" in pairs["telos"]["capabilities"] and pairs["telos"]["labels"] == []
    assert "classify" in judge["telos"]["capabilities"] and "complete" not in judge["telos"]["capabilities"]
    assert judge["telos"]["labels"] == ["negative", "positive"]


@pytest.mark.parametrize(("n", "beam"), [(1, None), (3, None), (2, 4)])
def test_translations_are_those_of_the_task(
    asked: httpx.Client, translator: Run, n: int, beam: int | None
) -> None:
    """Trap 33: the best first, by the score that is told."""
    overrides = [] if beam is None else [f"beam.width={beam}"]
    wanted = translate(translator, SENTENCES, n=n, overrides=overrides)
    more = {} if beam is None else {"beam": beam}
    found = post(asked, "translate", model="pairs", input=SENTENCES, n=n, **more)
    for own, each in zip(wanted, found, strict=True):
        assert [one["text"] for one in each["translations"]] == [one.text for one in own]
        scores = [one["score"] for one in each["translations"]]
        assert scores == pytest.approx([one.score for one in own], abs=1e-5)
        assert scores == sorted(scores, reverse=True)


def test_many_who_translate_at_once_get_their_own(asked: httpx.Client, translator: Run) -> None:
    """Trap 33: what else is searched for changes nothing."""
    wanted = [own[0].text for own in translate(translator, SENTENCES)]

    def one(text: str) -> str:
        (found,) = post(asked, "translate", model="pairs", input=text)
        return str(found["translations"][0]["text"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, SENTENCES * 4)) == wanted * 4


def test_classes_are_those_of_the_task(asked: httpx.Client, judge: Run) -> None:
    for given in ({}, {"threshold": 0.999999}):
        wanted = classify(judge, TEXTS, **given)
        found = post(asked, "classify", model="judge", input=TEXTS, **given)
        assert [each["label"] for each in found] == [each.label for each in wanted]
        assert [each["abstained"] for each in found] == [each.abstained for each in wanted]
        for each, own in zip(found, wanted, strict=True):
            assert each["probabilities"] == pytest.approx(dict(own.probabilities))
            assert each["probability"] == pytest.approx(own.probability)


def test_what_no_task_takes_is_refused(asked: httpx.Client) -> None:
    for address, body, message in (
        ("translate", {"model": "pairs", "input": "eins " * 40}, "divide it"),
        ("translate", {"model": "pairs", "input": "eins", "n": 4, "beam": 2}, "beam"),
        ("translate", {"model": "judge", "input": "eins"}, "cannot translate"),
        ("classify", {"model": "judge", "input": ["a", " "]}, "text 2 of 2 is empty"),
        ("classify", {"model": "pairs", "input": "a"}, "cannot classify"),
        ("classify", {"model": "judge", "input": "a", "threshold": 1.5}, "threshold"),
        ("completions", {"model": "judge", "prompt": "a"}, "cannot write"),
    ):
        assert message in refused(asked.post(f"/v1/{address}", json=body), 400)["message"]


def test_a_translator_streams_its_answer_too(asked: httpx.Client, translator: Run) -> None:
    (wanted,) = translator.generate(["eins zwei"], ["length=6"], seed=1)
    body = {"model": "pairs", "prompt": "eins zwei", "max_tokens": 6, "seed": 1}
    assert asked.post("/v1/completions", json=body).json()["choices"][0]["text"] == wanted.text

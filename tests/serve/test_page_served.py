"""The web page on the real server, with models that were trained: the same clicks as on the stand-in."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from telos.config import override, read
from telos.recipe import Recipe
from telos.run import Run, fit
from tests.serve.browser import opened, running
from tests.serve.test_page import is_done, panel, send
from tests.serve.world import serving
from tests.small import NARROW, SHRUNK, labelled, write_labelled, write_talks, write_texts
from tests.tasks.test_translation import table_of, write_pairs

LABELS = ["<b>bad", "good"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """One that goes on with texts and fills gaps, one that judges, one that translates, one that chats; all
    small."""
    folder = tmp_path_factory.mktemp("page")
    texts, small = write_texts(folder / "texts"), [*SHRUNK, *NARROW["decoder"], "tokenizer.size=300"]
    rows = [(text, LABELS[label == "positive"]) for text, label in labelled(60)]
    judged, pairs = write_labelled(folder / "texts.csv", rows), write_pairs(folder / "pairs")
    split = {"validation": 0.2, "test": 0.2}
    talks = {"path": str(write_talks(folder / "talks.jsonl")), "text_key": "messages"}
    recipes = [
        override({"name": "fills", "objective": "infill", "data": {"path": str(texts)}}, small),
        override(
            {"name": "judges", "objective": "classify", "data": {"path": str(judged), "split": split}},
            [*small, "train.window=32"],
        ),
        override(table_of(pairs), ["train.budget.steps=2"]),
        override({"name": "talks", "objective": "instruct", "data": talks}, [*small, "train.window=96"]),
    ]
    return [fit(read(Recipe, recipe), folder / "runs", device="cpu") for recipe in recipes]


def test_trained_models_are_used_and_watched(runs: list[Run]) -> None:
    folders: list[Path] = [run.folder for run in runs]
    with running() as browser, serving(*folders) as server, opened(browser, server.address) as page:
        writes(page)
        chats(page)
        judges(page)
        translates(page)
        sees(page)
        part = panel(page, "runs")
        expect(part.locator(".run b")).to_have_text(["fills", "judges", "pairs", "talks"])
        expect(part.locator(".run .state")).to_have_text(["finished at step 2"] * 4)
        expect(part.locator(".figures dd").first).to_have_text("2")
        policy = page.request.get(server.address).headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy


def writes(page: Page) -> None:
    part = panel(page, "write")
    part.locator("select").select_option("fills")
    send(part, prompt="The cat ", max_tokens="8", n="2")
    is_done(part)
    expect(part.locator(".sample")).to_have_count(2)
    expect(part.locator(".sample footer")).to_contain_text([re.compile("ended|cut")] * 2)
    part.get_by_label("Fill a gap").check()
    send(part, prompt="The ", suffix=" sat.", max_tokens="4")
    is_done(part)
    expect(part.locator(".given")).to_have_text(["The ", " sat."] * 2)


def chats(page: Page) -> None:
    part = panel(page, "chat")
    expect(part.locator("select option")).to_have_text(["talks"])
    part.locator("summary").click()
    send(part, system="Be brief.", max_tokens="4", input="What is 1 and 1?")
    is_done(part)
    send(part, input="Sure?")
    is_done(part)
    expect(part.locator(".turn .text")).to_have_count(4)
    expect(part.locator(".turn footer")).to_contain_text([re.compile("ended|cut")] * 2)
    expect(part.locator(".used")).to_contain_text("96")


def judges(page: Page) -> None:
    part = panel(page, "judge")
    expect(part.locator("select option")).to_have_text(["judges"])
    send(part, input="a great film\nan awful film")
    is_done(part)
    expect(part.locator(".verdict")).to_have_count(2)
    for label in part.locator(".label").all_text_contents():
        assert label in LABELS
    shares = [float(share.rstrip("%")) for share in part.locator(".figure").all_text_contents()]
    assert len(shares) == 4 and sum(shares) == pytest.approx(200, abs=0.3)


def translates(page: Page) -> None:
    part = panel(page, "translate")
    expect(part.locator("select option")).to_have_text(["pairs"])
    send(part, input="eins zwei\ndrei", n="2")
    is_done(part)
    expect(part.locator(".source")).to_have_text(["eins zwei", "drei"])
    scores = [
        float(score.replace("−", "-").split()[-1]) for score in part.locator(".score").all_text_contents()
    ]
    assert len(scores) == 4 and scores[0] >= scores[1] and scores[2] >= scores[3]


def sees(page: Page) -> None:
    part = panel(page, "see")
    part.locator("select").select_option("fills")
    send(part, input="The cat sat. 床前明月光")
    is_done(part)
    assert "".join(part.locator(".token").all_text_contents()).replace("▫", "") == "The cat sat. 床前明月光"
    part.locator(".token").last.click()
    expect(part.locator(".alternatives .share")).to_have_count(10)

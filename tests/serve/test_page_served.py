"""The web page on the real server, with a model that was trained: the same clicks as on the stand-in."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

import telos
from telos.config import override, read
from telos.recipe import Recipe
from tests.serve.browser import opened, running
from tests.serve.test_page import is_done, panel, send
from tests.small import NARROW, SHRUNK, write_texts

pytest.importorskip("telos.serve.server", reason="needs the server: pip install 'telos-lm[serve]'")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that goes on with texts and fills gaps."""
    folder = tmp_path_factory.mktemp("served")
    write_texts(folder / "texts")
    recipe = {"name": "tiny", "objective": "infill", "data": {"path": str(folder / "texts")}}
    small = ['model={name="decoder"}', "tokenizer.size=300", *SHRUNK, *NARROW["decoder"]]
    return telos.fit(read(Recipe, override(recipe, small)), folder / "runs").folder


@contextmanager
def served(run: Path) -> Iterator[str]:
    """`telos serve RUN`, as a user starts it; its address."""
    command = [sys.executable, "-m", "telos", "serve", str(run), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        yield found[0]
    finally:
        process.terminate()
        process.stderr.close()
        process.wait(30)


def test_a_trained_model_is_used_and_watched(trained: Path) -> None:
    with running() as browser, served(trained) as address, opened(browser, address) as page:
        write = panel(page, "write")
        send(write, prompt="The cat ", max_tokens="8", n="2")
        is_done(write)
        expect(write.locator(".sample")).to_have_count(2)
        expect(write.locator(".sample footer")).to_contain_text([re.compile("ended|cut")] * 2)
        write.get_by_label("Fill a gap").check()
        send(write, prompt="The ", suffix=" sat.", max_tokens="4")
        is_done(write)
        expect(write.locator(".given")).to_have_text(["The ", " sat."] * 2)
        expect(panel(page, "translate").locator(".lacking")).to_be_visible()
        expect(panel(page, "judge").locator(".lacking")).to_be_visible()

        see = panel(page, "see")
        send(see, input="The cat sat. 床前明月光")
        is_done(see)
        assert (
            "".join(see.locator(".token").all_text_contents()).replace("▫", "") == "The cat sat. 床前明月光"
        )
        see.locator(".token").last.click()
        expect(see.locator(".alternatives .share")).to_have_count(10)

        runs = panel(page, "runs")
        expect(runs.locator(".run .state")).to_have_text("finished at step 2")
        expect(runs.locator(".figures dd").first).to_have_text("2")
        policy = page.request.get(address).headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy

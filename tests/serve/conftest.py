"""Runs that are trained once, and a server that all tests of a session may ask."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from telos.run import Run
from telos.serve import models
from telos.serve.server import Server
from tests.generate.test_left_to_right import Scripted
from tests.serve.world import serving, train


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A causal decoder, a masked encoder, a GRU, and a decoder that was trained on conversations."""
    return train(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="session")
def server(runs: dict[str, Run]) -> Iterator[Server]:
    with serving(*(run.folder for run in runs.values())) as started:
        yield started


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=60) as client:
        yield client


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, as it comes."""
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def endless(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder says one letter for ever, and quickly."""
    open_run = models.open_run

    def opened(*given: Any) -> Run:
        run = open_run(*given)
        letter = int(run.tokenizer.encode("a")[0])
        run.__dict__["network"] = Scripted(run.tokenizer.size, [letter])
        return run

    monkeypatch.setattr(models, "open_run", opened)

"""Surprise per token, and what is asked of models that cannot."""

import math
from itertools import pairwise
from typing import Any

import httpx
import pytest

from telos.evaluate.texts import Judge, TextSettings, text_of
from telos.run import Run
from tests.generate.oracle import next_logits
from tests.serve.world import KINDS, refused

TEXTS = ["The cat sat on the mat.", "床前明月光，疑是地上霜 🙂🙂", "a", "x" * 200]


def score(http: httpx.Client, name: str, **more: Any) -> list[dict[str, Any]]:
    answer = http.post("/v1/score", json={"model": name, "input": TEXTS, **more})
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "list" and answer.json()["model"] == name
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


@pytest.mark.parametrize("name", KINDS)
def test_tokens_add_up_to_the_score_of_the_text(http: httpx.Client, runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    judge = Judge(run.network, run.recipe.objective, run.tokenizer, window=48, gives=run.recipe.model.gives)
    wanted = judge.score([text_of(text, run.tokenizer) for text in TEXTS]).nats
    found = score(http, name)
    assert [each["index"] for each in found] == [0, 1, 2, 3]
    assert {each["kind"] for each in found} == {"pseudo" if name == "encoder" else "exact"}
    for text, each, nats in zip(TEXTS, found, wanted, strict=True):
        assert each["nats"] == pytest.approx(nats, abs=1e-3)
        assert math.fsum(token["nats"] for token in each["tokens"]) == pytest.approx(nats, abs=1e-3)
        assert each["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text.encode()), abs=1e-4)


@pytest.mark.parametrize("name", ["decoder", "gru"])
def test_each_token_costs_what_the_model_says_of_it(
    http: httpx.Client, runs: dict[str, Run], name: str
) -> None:
    """From left to right, after what stands before it: a full forward pass for each."""
    run = runs[name]
    for text, each in list(zip(TEXTS, score(http, name), strict=True))[:3]:
        ids = [run.tokenizer.begin, *run.tokenizer.encode(text).tolist()]
        for place, token in enumerate(each["tokens"]):
            said = next_logits(run.network, ids[: place + 1]).log_softmax(-1)
            assert token["nats"] == pytest.approx(-float(said[token["id"]]), abs=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_tokens_lie_side_by_side_in_the_text(http: httpx.Client, runs: dict[str, Run], name: str) -> None:
    """Trap 51: a character of several tokens is told once, and whole."""
    for text, each in zip(TEXTS, score(http, name), strict=True):
        tokens = each["tokens"]
        assert [token["id"] for token in tokens] == runs[name].tokenizer.encode(text).tolist()
        assert "".join(token["text"] for token in tokens) == text
        assert all(text[token["start"] : token["end"]] == token["text"] for token in tokens)
        assert all(one["end"] == two["start"] for one, two in pairwise(tokens))
        assert not any("\ufffd" in token["text"] for token in tokens)


@pytest.mark.parametrize("name", KINDS)
def test_alternatives_are_the_likeliest(http: httpx.Client, runs: dict[str, Run], name: str) -> None:
    for each in score(http, name, top=5):
        for token in each["tokens"]:
            chances = [other["logprob"] for other in token["top"]]
            assert len(chances) == 5 and chances == sorted(chances, reverse=True)
            same = [other for other in token["top"] if other["id"] == token["id"]]
            assert all(other["logprob"] == pytest.approx(-token["nats"], abs=1e-3) for other in same)
            assert same or chances[-1] >= -token["nats"] - 1e-3
    assert all(token["top"] == [] for each in score(http, name) for token in each["tokens"])


def test_a_long_text_lets_others_have_their_turn(runs: dict[str, Run]) -> None:
    """Trap 76: each of its tokens takes a pass, and a model has one thread."""
    run = runs["encoder"]
    judge = Judge(run.network, run.recipe.objective, run.tokenizer, TextSettings(batch=8), window=48)
    text = text_of("x y " * 200, run.tokenizer)
    with run.network.at_rest():
        assert len(list(judge.token_steps(text))) >= len(text.ids) // 16


def test_an_empty_text_has_nothing_to_score(http: httpx.Client) -> None:
    (each,) = http.post("/v1/score", json={"model": "gru", "input": ""}).json()["data"]
    assert each == {"index": 0, "kind": "exact", "nats": 0.0, "bits_per_byte": None, "tokens": []}


@pytest.mark.parametrize(("path", "cannot"), [("translate", "translate"), ("classify", "classify")])
def test_models_that_cannot_say_what_they_can(http: httpx.Client, path: str, cannot: str) -> None:
    error = refused(http.post(f"/v1/{path}", json={"model": "gru", "input": "The cat"}), 400)
    assert error["message"] == f"The model 'gru' cannot {cannot}. It can: complete, score, embed."

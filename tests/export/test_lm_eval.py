"""Minimal pairs as EleutherAI's evaluation harness scores them on an exported folder: the same figures."""

import importlib.util
import json
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from telos.evaluate.texts import text_of
from telos.measure import judge_of, measure_pairs
from telos.run import Run, fit, load_recipe
from tests.small import NARROW, SHRUNK, write_texts

PARADIGM, PAIRS = "adjunct_island", 100
DOCUMENT = Path(__file__).parents[2] / "docs" / "evaluation.md"


@pytest.fixture(scope="module")
def pairs(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first pairs of one paradigm of BLiMP."""
    with lzma.open(data_folder / "blimp" / "blimp.jsonl.xz", "rt", encoding="utf-8") as file:
        lines = [line for line in file if json.loads(line)["UID"] == PARADIGM][:PAIRS]
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("lm")
    texts = write_texts(folder / "texts")
    changes = [f"data.path={texts}", *SHRUNK, *NARROW["decoder"], "tokenizer.size=300", "name=small"]
    longer = ["train.window=64", "train.budget={steps=60}"]
    return fit(load_recipe("gpt-small", [*changes, *longer]), folder / "runs", device="cpu")


def tasks(pairs: Path) -> dict[str, str]:
    """The task that the document shows, and the same without what it says of blanks, as BLiMP's own are."""
    found = re.search(r"```text\n(task: pairs\n.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found and '\ntarget_delimiter: ""\n' in found[1]
    shown = found[1].replace("pairs.jsonl", str(pairs))
    stock = shown.replace('target_delimiter: ""\n', "")
    return {
        name: text.replace("task: pairs", f"task: {name}")
        for name, text in (("plain", shown), ("stock", stock))
    }


def harness(folder: Path, tasks: dict[str, str], into: Path) -> dict[str, Any]:
    """By task: the accuracy and the log-likelihoods of both sentences of each pair."""
    for name, text in tasks.items():
        (into / f"{name}.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--log_samples"]
    command += ["--model_args", f"pretrained={folder},dtype=float32", "--batch_size", "8"]
    command += ["--tasks", ",".join(tasks), "--include_path", str(into), "--output_path", str(into / "out")]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(into / "cache")}
    done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (into / "out").rglob("results_*.json")
    accuracy = json.loads(results.read_text())["results"]
    found = {}
    for name in tasks:
        (samples,) = (into / "out").rglob(f"samples_{name}_*.jsonl")
        records = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda each: each["doc_id"])
        said = [[float(answer[0]) for answer in each["filtered_resps"]] for each in records]
        found[name] = accuracy[name]["acc,none"], said
    return found


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs the extra eval")
def test_the_harness_finds_the_same_on_an_export(run: Run, pairs: Path, tmp_path: Path) -> None:
    """After the begin token, without an end token: sentence by sentence the same nats, where the harness puts
    no blank before a sentence; as its own BLiMP tasks stand they do, and so they score other texts."""
    folder = Path(run.export("hf", tmp_path / "model")["folder"])
    theirs = harness(folder, tasks(pairs), tmp_path)
    judge = judge_of(run)
    lines = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines()]
    for name, before in (("plain", ""), ("stock", " ")):
        keys = ("sentence_good", "sentence_bad")
        texts = [text_of(before + line[key], judge.tokenizer) for line in lines for key in keys]
        accuracy, said = theirs[name]
        ours = [-nats for nats in judge.score(texts).nats]
        assert ours == pytest.approx([value for pair in said for value in pair], rel=1e-5)
        right = sum(good > bad for good, bad in zip(ours[::2], ours[1::2], strict=True)) / len(lines)
        assert accuracy == pytest.approx(right) and 0 < right < 1
    assert measure_pairs(run, pairs).accuracy.value == pytest.approx(theirs["plain"][0])
    assert theirs["plain"][1] != theirs["stock"][1]

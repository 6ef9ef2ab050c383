"""From two files of sentences to a model that translates, by Python and on the command line."""

import itertools
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telos.batch import Rows
from telos.config import read
from telos.errors import ConfigError, DataError
from telos.recipe import Recipe
from telos.run import Run, fit, prepare
from telos.said import summary
from telos.tasks.translation import evaluate, pairs_of, picture, translate
from tests.small import write_texts

WORDS = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four", "Ärger": "trouble", "猫": "cat"}


def write_pairs(folder: Path) -> Path:
    """Sentences of one to three words with their translations, word by word; some are held out."""
    sentences = [s for n in (1, 2, 3) for s in itertools.product(WORDS, repeat=n)]
    random.Random(0).shuffle(sentences)
    folder.mkdir(parents=True)
    for name, part in (("train", sentences[:220]), ("val", sentences[220:235]), ("test", sentences[235:])):
        lines = [(" ".join(each), " ".join(WORDS[word] for word in each)) for each in part]
        for language, side in (("de", 0), ("en", 1)):
            text = "".join(f"{line[side]}\n" for line in lines)
            (folder / f"{name}.{language}").write_text(text, encoding="utf-8")
    return folder


def table_of(folder: Path, **changes: Any) -> dict[str, Any]:
    data = {"source": "pairs", "pair": ["de", "en"], "path": f"{folder}/train.de"}
    data |= {"validation": f"{folder}/val.de", "test": f"{folder}/test.de"}
    return {
        "name": "pairs",
        "objective": "sequence_to_sequence",
        "data": data,
        "tokenizer": {"kind": "word"},
        "model": {"name": "encoder_decoder", "width": 32, "depth": 1, "heads": 2},
        "train": {
            "window": 16,
            "batch": 8,
            "budget": {"steps": 160},
            "optimizer": {"name": "adamw", "rate": 1e-2},
            "watch": {"evaluate_every": 0, "log": {"tensorboard": False}},
            "compute": {"precision": "float32"},
        },
        **changes,
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "text")


@pytest.fixture(scope="module")
def run(corpus: Path) -> Run:
    return fit(read(Recipe, table_of(corpus)), corpus.parent / "runs")


def test_it_has_learned_to_translate_what_it_never_saw(run: Run) -> None:
    found = evaluate(run)
    assert found.sentences == len(pairs_of(run, "test")[0]) > 10
    assert found.figures["chrf"]["score"] > 80 and not any(found.faults.values())


def test_the_best_come_first(run: Run) -> None:
    ((first, second, third),) = translate(run, ["eins zwei drei"], n=3)
    assert first.text == "one two three" and first.finished
    assert first.score >= second.score >= third.score and len({first.text, second.text, third.text}) == 3


def test_order_company_and_empty_texts_change_nothing(run: Run) -> None:
    texts = ["eins zwei", "", "猫", " \n", "drei vier Ärger"]
    together = [best.text for (best,) in translate(run, texts)]
    assert together == [best.text for text in texts for (best,) in translate(run, [text])]
    assert together == [best.text for (best,) in translate(run, texts, together=2)]
    assert together[1] == together[3] == "" and translate(run, []) == []


def test_a_text_that_does_not_fit_is_named(run: Run) -> None:
    with pytest.raises(DataError, match="text 2 has 40 tokens, and the model reads 15"):
        translate(run, ["eins", "eins " * 40])


def plain_run(tmp_path: Path) -> Run:
    """One that goes on with texts."""
    table = {"name": "plain", "data": {"path": str(write_texts(tmp_path / "texts"))}}
    table |= {"model": {"width": 16, "depth": 1, "heads": 2}}
    small = {"window": 16, "batch": 2, "budget": {"steps": 1}, "watch": {"log": {"tensorboard": False}}}
    return fit(read(Recipe, {**table, "train": small}), tmp_path / "runs")


def test_a_run_that_answers_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'causal' goes on with texts and does not answer them"):
        translate(plain_run(tmp_path), ["a"])


@pytest.mark.parametrize(
    ("model", "form"), [("decoder", "prefix"), ("decoder", "causal"), ("recurrent_encoder_decoder", "source")]
)
def test_other_models_translate_too(model: str, form: str, corpus: Path, tmp_path: Path) -> None:
    sizes = {"width": 32, "depth": 1, "heads": 2} if model == "decoder" else {"embedding": 24, "width": 32}
    changes = {"model": {"name": model, **sizes}, "objective": {"name": "sequence_to_sequence", "form": form}}
    trained = fit(read(Recipe, table_of(corpus, **changes)), tmp_path / "runs")
    assert evaluate(trained).figures["chrf"]["score"] > 60
    if form == "source":
        found = picture(trained, ["eins zwei"], tmp_path / "picture.png")
        np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-5)
    else:
        with pytest.raises(ConfigError, match="reads and says in one row"):
            picture(trained, ["eins zwei"], tmp_path / "picture.png")


def test_two_tasks_in_one_model_are_told_apart_by_their_prefix(corpus: Path, tmp_path: Path) -> None:
    """Text to text: the same text is answered with its translation or with its class, as the prefix says."""
    lines = (corpus / "train.de").read_text(encoding="utf-8").splitlines()
    records = [f"{line}\t{'long' if len(line.split()) > 2 else 'short'}\n" for line in lines]
    (tmp_path / "classes.tsv").write_text("text\tlabel\n" + "".join(records), encoding="utf-8")
    pairs = {"name": "translate", "source": "pairs", "pair": ["de", "en"], "path": f"{corpus}/train.de"}
    judge = {"name": "judge", "path": f"{tmp_path}/classes.tsv", "target_key": "label", "prefix": "judge "}
    data = {"sources": [pairs, judge], "split": {"validation": 0.1, "test": 0.1}}
    table = table_of(corpus, data=data)
    table["train"] |= {"budget": {"steps": 400}, "loader": {"mix": {"weights": {"translate": 1, "judge": 1}}}}
    both = fit(read(Recipe, table), tmp_path / "runs")
    assert evaluate(both, source="translate").figures["chrf"]["score"] > 60
    assert evaluate(both, source="judge").exact.value > 0.9
    ((said,), (judged,)) = translate(both, ["eins zwei", "judge eins zwei"])
    assert said.text == "one two" and judged.text == "short"
    with pytest.raises(ConfigError, match="There are: translate, judge"):
        evaluate(both, source="other")


def test_where_it_looked(run: Run, tmp_path: Path) -> None:
    """Shares add up to 1, and the model that learned to translate word by word looks at the word."""
    found = picture(run, ["eins zwei drei"], tmp_path / "picture.svg")
    assert found.read == ("eins", "zwei", "drei", "⊣") and found.said == ("one", "two", "three", "⊣")
    np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-5)
    assert "three" in (tmp_path / "picture.svg").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="of one text, and there are 2"):
        picture(run, ["eins", "zwei"], tmp_path / "picture.svg")


def test_looking_changes_nothing(run: Run) -> None:
    """Nothing of the looking is left behind."""
    network: Any = run.network
    main, source = _rows([1, 7, 8]), _rows([6, 7, 8, 9], full=True)
    with network.at_rest():
        shares = network.looks(main, source)
        hidden, _ = network.encode(main, source)
        again, _ = network.encode(main, source)
    assert shares.shape == (1, 3, 4) and torch.equal(hidden, again), "hooks must be gone"
    assert not any(block.read._forward_pre_hooks for block in network._readers())


def _rows(ids: list[int], full: bool = False) -> Rows:
    places = torch.arange(len(ids))[None]
    zeros = torch.zeros_like(places)
    return Rows(
        ids=torch.tensor([ids]),
        positions=places,
        segment=zeros,
        order=zeros if full else places,
        seen=zeros == 0,
        pattern="full" if full else "causal",
    )


# ---- preparing pairs


def test_targets_are_in_the_vocabulary_and_in_the_shards(run: Run) -> None:
    sources, targets = pairs_of(run, "train")
    assert len(sources) == 220 and set(" ".join(targets).split()) == set(WORDS.values())
    assert all(" ".join(WORDS[w] for w in s.split()) == t for s, t in zip(sources, targets, strict=True))


def prepared_of(folder: Path, lines: str, **data: Any) -> Any:
    folder.mkdir()
    (folder / "pairs.tsv").write_text(lines, encoding="utf-8")
    table = {
        "path": f"{folder}/pairs.tsv",
        "columns": ["text", "target"],
        "split": {"validation": 0, "test": 0},
    }
    recipe = {"data": {**table, **data}, "objective": "sequence_to_sequence", "model": "encoder_decoder"}
    return prepare(read(Recipe, {**recipe, "tokenizer": {"kind": "byte"}}), folder / "runs")


def test_a_text_with_two_translations_is_two_pairs(tmp_path: Path) -> None:
    lines = "ja\tyes\nja\tyeah\nja\tyes\nnein\tno\n"
    prepared = prepared_of(tmp_path / "a", lines)
    assert len(prepared.shards("train")) == 3
    assert prepared.card.dropped["exact copy"]["documents"] == 1


def test_a_text_that_is_held_out_is_not_trained_on_with_another_translation(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("ja\tyes\n", encoding="utf-8")
    lines = "ja\tyeah\nnein\tno\n"
    prepared = prepared_of(tmp_path / "a", lines, test=f"{tmp_path}/test.tsv", split={"validation": 0})
    assert len(prepared.shards("train")) == 1
    assert prepared.card.dropped["in test"]["documents"] == 1


def test_a_text_without_a_target_is_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    records: list[dict[str, str]] = [{"text": "ja", "target": "yes"}, {"text": "nein"}]
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    table = {"path": str(path), "split": {"validation": 0, "test": 0}}
    recipe = {"data": table, "objective": "sequence_to_sequence", "model": "encoder_decoder"}
    prepared = prepare(read(Recipe, {**recipe, "tokenizer": {"kind": "byte"}}), tmp_path / "runs")
    assert len(prepared.shards("train")) == 1
    assert prepared.card.dropped["without a target"]["documents"] == 1


# ---- the command line


def called(capsys: pytest.CaptureFixture[str], *words: str, command: str = "translate") -> str:
    from typer.testing import CliRunner

    from telos.cli import app

    done = CliRunner().invoke(app, [command, *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_texts_on_the_command_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(capsys, str(run.folder), "eins zwei", "猫") == "one two\ncat\n"
    best = called(capsys, str(run.folder), "eins", "-n", "2").splitlines()
    assert best[0].endswith("one") and float(best[0].split()[0]) >= float(best[1].split()[0])
    table = json.loads(called(capsys, str(run.folder), "eins", "--json"))
    assert table[0]["text"] == "eins" and table[0]["translations"][0]["text"] == "one"


def test_files_line_by_line(
    run: Run, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = tmp_path / "in.txt", tmp_path / "out.txt"
    given.write_text("\ufeffeins zwei\r\n\r\ndrei", encoding="utf-8")
    assert called(capsys, str(run.folder), "--file", str(given), "--out", str(out)) == ""
    assert out.read_text(encoding="utf-8") == "one two\n\nthree\n"
    test = [str(corpus / f"test.{language}") for language in ("de", "en")]
    figures = json.loads(called(capsys, str(run.folder), "--file", test[0], "--reference", test[1], "--json"))
    assert figures["chrf"]["score"] > 80 and "signature" in figures["bleu"]
    said = called(capsys, str(run.folder), "--file", test[0], "--reference", test[1], "--against", test[1])
    assert "BLEU" in said and "nrefs:1" in said and "against" in said and "p = " in said


def test_evaluating_says_what_training_noted_of_the_answers(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """BLEU and chrF with their signatures, as `telos translate --split test` finds them, without a search; so
    does the end of training."""
    found = json.loads(called(capsys, str(run.folder), "--split", "test", "--json"))
    figures = json.loads(called(capsys, str(run.folder), "--json", command="evaluate"))
    assert figures["pairs"] == found and figures["split"] == "test" and figures["loss"] > 0
    for said in (called(capsys, str(run.folder), command="evaluate"), summary(run, run.figures())):
        assert f"{len(pairs_of(run, 'test')[0])} texts of it answered, as noted when training ended" in said
        for name, metric in (("BLEU", "bleu"), ("chrF", "chrf")):
            score = re.escape(f"{found[metric]['score']:.2f}")
            assert re.search(rf"^{name} +{score}.*\n +{re.escape(found[metric]['signature'])}$", said, re.M)
        assert "telos translate" not in said


def test_evaluating_says_how_to_have_figures_of_answers_that_nobody_noted(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another split; and of the same one where the weights are others now."""
    said = called(capsys, str(run.folder), "--split", "validation", command="evaluate")
    assert re.search(rf"^BLEU and chrF +telos translate {run.folder} --split validation$", said, re.M)
    older = run.folder.parent / "older"
    shutil.copytree(run.folder, older)
    evaluation = json.loads((older / "evaluation.json").read_text(encoding="utf-8"))
    evaluation["test"]["step"] -= 1
    (older / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    said = called(capsys, str(older), command="evaluate")
    assert f"telos translate {older} --split test" in said and "nrefs" not in said


def test_evaluating_a_run_that_answers_nothing_does_not_speak_of_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = called(capsys, str(plain_run(tmp_path).folder), command="evaluate")
    assert "bits per byte" in said and "BLEU" not in said


def test_what_cannot_be_is_said(run: Run, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from telos.cli import app

    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"eins\nzw\xffei\n")
    for words, why in (
        ([], "Give texts to translate, or a file"),
        (["--file", str(bad)], "bad.txt:2: not UTF-8"),
        (["eins", "--against", "x"], "--against compares"),
        (["eins", "--set", "beam.widht=3"], "did you mean|Did you mean"),
    ):
        with pytest.raises((ConfigError, DataError), match=why):
            CliRunner().invoke(app, ["translate", str(run.folder), *words], catch_exceptions=False)

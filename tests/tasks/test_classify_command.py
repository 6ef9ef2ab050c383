"""`telos classify`: files in, files out, and what is wrong with them told by line."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from telos.cli import app
from telos.errors import ConfigError, DataError
from telos.run import Run
from tests.small import labelled, write_labelled
from tests.tasks.test_classification import trained


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("judge"))


def asked(run: Run, *words: str) -> Result:
    return CliRunner().invoke(app, ["classify", str(run.folder), "--device", "cpu", *words])


def answered(run: Run, *words: str) -> str:
    done = asked(run, *words)
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_texts_are_judged_in_lines_or_as_json(judge: Run) -> None:
    lines = answered(judge, "a great film", "awful").splitlines()
    assert [line.split()[0] for line in lines] == ["positive", "negative"] and lines[0].endswith(
        "a great film"
    )
    first, second = json.loads(answered(judge, "a great film", "awful", "--threshold", "1", "--json"))
    assert (
        first["label"] is None
        and first["abstained"]
        and set(first["probabilities"]) == {"negative", "positive"}
    )
    assert second["probability"] == max(second["probabilities"].values())


def test_rows_come_back_whole_with_what_was_found(judge: Run, tmp_path: Path) -> None:
    """Commas, quotes, line ends, a byte order mark and text of another alphabet."""
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    given = [
        {"id": "1", "text": 'a "great", lovely\nfilm', "note": "床前,明月"},
        {"id": "2", "text": "dull", "note": ""},
    ]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "note"])
        writer.writeheader()
        writer.writerows(given)
    figures = json.loads(answered(judge, "--file", str(path), "--out", str(out), "--json"))
    assert figures == {"file": str(out), "rows": 2, "judged": 2, "abstained": 0, "empty": 0}
    found = rows_of(out)
    assert [{key: row[key] for key in given[0]} for row in found] == given
    assert [row["label"] for row in found] == ["positive", "negative"]
    for row in found:
        shares = [float(row["probability_negative"]), float(row["probability_positive"])]
        assert sum(shares) == pytest.approx(1, abs=1e-5) and float(row["probability"]) == max(shares)
    again = tmp_path / "again.csv"
    answered(judge, "--file", str(out), "--out", str(again))
    assert rows_of(again)[0]["judged_label"] == "positive" and rows_of(again)[0]["label"] == "positive"


def test_unsure_and_empty_rows_have_no_class(judge: Run, tmp_path: Path) -> None:
    path, out = write_labelled(tmp_path / "in.csv", [("great", "x"), ("  ", "y")]), tmp_path / "out.csv"
    told = answered(judge, "--file", str(path), "--out", str(out), "--threshold", "1")
    assert "1 abstained" in told and "1 empty" in told
    first, second = rows_of(out)
    assert first["judged_label"] == "" and first["probability"] and first["label"] == "x"
    assert second["judged_label"] == second["probability"] == second["probability_negative"] == ""


@pytest.mark.parametrize("form", ["tsv", "jsonl", "txt", "columns"])
def test_other_formats_are_read(judge: Run, tmp_path: Path, form: str) -> None:
    out, more = tmp_path / "out.csv", []
    if form == "tsv":
        path = write_labelled(tmp_path / "in.tsv", [("great film", "p"), ("dull", "n")])
    elif form == "columns":
        path = write_labelled(tmp_path / "in.csv", [("great film", "p"), ("dull", "n")], header=None)
        more = ["--columns", "body,label", "--text-key", "body"]
    else:
        path = tmp_path / f"in.{form}"
        rows = ["great film", "dull"]
        lines = [json.dumps({"text": row, "n": [1, "月"]}, ensure_ascii=False) for row in rows]
        path.write_text("\n\n".join(rows if form == "txt" else lines) + "\n", encoding="utf-8")
    answered(judge, "--file", str(path), "--out", str(out), *more)
    found = rows_of(out)
    key = "judged_label" if form in ("tsv", "columns") else "label"
    assert [row[key] for row in found] == ["positive", "negative"]
    if form == "jsonl":
        assert found[0]["n"] == '[1, "月"]'


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", 'text,label\ngood,1\n"open,2\n', r"a\.csv:3: not a row of CSV: a quote is opened"),
        ("a.csv", "text,label\ngood\n", r"a\.csv:2: 1 values in 2 columns"),
        ("a.csv", "body,label\na,b\n", r"a\.csv: there is no column 'text'.*There are: body, label"),
        ("a.csv", "text,label\n", r"a\.csv: there are no rows"),
        ("a.jsonl", '{"text": "a"}\n{"text"\n', r"a\.jsonl:2: not a JSON object"),
        ("a.jsonl", '{"text": ["a"]}\n', r"a\.jsonl:1: 'text' is a list"),
        ("a.docx", "x", r"a\.docx: its suffix says no format"),
        ("a.csv", b"\xff\xfet\x00", r"a\.csv: this is UTF-16"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_line(
    judge: Run, tmp_path: Path, name: str, text: Any, why: str
) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = asked(judge, "--file", str(path), "--out", str(tmp_path / "out.csv"))
    assert isinstance(done.exception, DataError)
    with pytest.raises(DataError, match=why):
        raise done.exception
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "give texts to judge, or a file"),
        (["a", "--file", "x.csv", "--out", "y.csv"], "give texts to judge, or a file"),
        (["--file", "x.csv"], "--file takes --out"),
        (["a", "--out", "y.csv"], "--file takes --out"),
        (["a", "--words", "positive"], "CLASS=WORD"),
        (["a", "--examples", "x.csv"], "say its --words"),
    ],
)
def test_what_does_not_go_together_is_told(judge: Run, words: list[str], why: str) -> None:
    done = asked(judge, *words)
    assert isinstance(done.exception, ConfigError) and why in str(done.exception)


def test_a_labelled_file_is_scored(judge: Run, tmp_path: Path) -> None:
    path = write_labelled(tmp_path / "test.csv", [*labelled(20, first=700), ("great", "negative")])
    told = answered(judge, "--file", str(path), "--evaluate", "--threshold", "0.5")
    for part in ("accuracy", "macro-F1", "calibration error, 15 bins", "recall of positive", "right (rows)"):
        assert part in told
    figures = json.loads(answered(judge, "--file", str(path), "--evaluate", "--json"))
    assert figures["texts"] == 21 and figures["confusion"] == [[10, 1], [0, 10]]
    (mistake,) = figures["mistakes"]
    assert (mistake["text"], mistake["right"], mistake["said"]) == ("great", "negative", "positive")


def test_a_language_model_is_asked_by_words_and_shown_examples(judge: Run, tmp_path: Path) -> None:
    from tests.tasks.test_classification import NARROW, SHRUNK, Recipe, fit, override, read, write_texts

    table = {"name": "writer", "data": {"path": str(write_texts(tmp_path / "texts"))}}
    changes = [*SHRUNK, *NARROW["decoder"], "tokenizer.size=300", "train.window=64"]
    run = fit(read(Recipe, override(table, changes)), tmp_path / "runs", device="cpu")
    words = ["--words", "positive=great", "--words", "negative=awful", "--json"]
    (plain,) = json.loads(answered(run, "the cat", *words))
    path = write_labelled(tmp_path / "shown.csv", labelled(4))
    (shown,) = json.loads(answered(run, "the cat", *words, "--examples", str(path), "--shots", "1"))
    assert set(plain["probabilities"]) == {"positive", "negative"}
    assert shown["probabilities"] != plain["probabilities"]

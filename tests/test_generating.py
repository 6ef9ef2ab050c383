"""`telos generate`: prompts from and samples to anywhere, what is said of them, the loop that asks."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import telos
from telos import cli
from telos.evaluate.copied import LONG
from telos.generate._forms import check_form
from telos.generate._rows import Sample
from tests.small import NARROW, SHRUNK, write_texts

TINY = (*SHRUNK, *NARROW["decoder"], "tokenizer.size=300")
Telos = Callable[..., Any]


class Done(str):
    """Standard output, and what else a command did."""

    status: int
    err: str


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Telos:
    """`telos generate RUN …` in this process, with these lines as standard input."""

    def run(*arguments: str | Path, given: str = "") -> Done:
        text = io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", text)
        monkeypatch.setattr(sys, "argv", ["telos", "generate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        done = Done(written.out)
        done.status, done.err = int(ended.value.code or 0), written.err
        return done

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> telos.Run:
    place = tmp_path_factory.mktemp("generating")
    texts = write_texts(place / "texts")
    recipe = telos.load_recipe("gpt-small", [f"data.path={texts}", "name=small", *TINY])
    return telos.fit(recipe, place / "runs")


PROMPTS = ["The cat", "", "床前", "The cat"]


@pytest.fixture(scope="module")
def expected(run: telos.Run) -> list[dict[str, Any]]:
    """What the prompts give when they are handed over in Python, as JSON has it."""
    found = json.loads(json.dumps([s.table() for s in run.generate(PROMPTS, seed=4)]))
    assert len({tuple(sample["ids"]) for sample in found}) == 4
    return found  # type: ignore[no-any-return]


# ---- where prompts come from, and samples go


def test_prompts_from_a_file_are_the_same_as_others(
    run: telos.Run, run_command: Telos, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Trap 35: wherever a prompt comes from, it is put to the model in the same way."""
    lines = tmp_path / "prompts.txt"
    lines.write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")
    records = tmp_path / "prompts.jsonl"
    records.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS), encoding="utf-8")
    common = (run.folder, "--seed", "4", "--json")
    assert json.loads(run_command(*common, "--file", lines)) == expected
    assert json.loads(run_command(*common, "--file", records)) == expected
    assert json.loads(run_command(*common, "--file", "-", given="\n".join(PROMPTS))) == expected
    shown = run_command(run.folder, "--seed", "4", "--file", lines)
    assert shown == "\n\n".join(s["prompt"] + s["text"] for s in expected) + "\n"


def test_samples_go_into_a_file_a_line_each(
    run: telos.Run, run_command: Telos, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")
    shown = run_command(run.folder, "--seed", "4", "--file", prompts, "--out", out, "--set", "batch=3")
    written = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [s["ids"] for s in written] == [s["ids"] for s in expected] and written[2]["prompt"] == "床前"
    assert shown == f"4 samples: {out}\n"
    figures = json.loads(run_command(run.folder, "a", "--out", out, "--json", "--set", "samples=2"))
    assert figures == {"out": str(out), "samples": 2} and len(out.read_text().splitlines()) == 2


def test_a_bad_line_is_named_and_what_came_before_is_written(
    run: telos.Run, run_command: Telos, tmp_path: Path
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('"a"\n"b"\n{"text": "c"}\n')
    done = run_command(run.folder, "--file", prompts, "--out", out, "--set", "batch=1")
    assert done.status == 2 and "prompts.jsonl:3: there is no 'prompt'" in done.err
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "--file", "x"), "PROMPT and --file each say where the prompts come from"),
        (("--file", "x", "--interactive"), "--file and --interactive"),
        (("--interactive", "--out", "x"), "--out does nothing with --interactive"),
        (("--file", "x", "--after", "b"), "--after goes with a PROMPT"),
        (("--file", "absent.txt"), "absent.txt: there is no such file of prompts"),
        (
            (
                "--out",
                "absent/x.jsonl",
            ),
            "absent/x.jsonl",
        ),
        (("--set", "constraint.regex=(a"), "generate.constraint.regex: "),
        (("--set", "unmask.steps=3"), "generate.unmask does nothing here"),
    ],
)
def test_what_cannot_be_is_told(
    run: telos.Run, run_command: Telos, arguments: tuple[str, ...], message: str
) -> None:
    done = run_command(run.folder, *arguments)
    assert done.status == 2 and message in done.err and "Traceback" not in done.err


# ---- what is said of samples


def test_statistics_are_of_all_samples(run: telos.Run, run_command: Telos, tmp_path: Path) -> None:
    found = json.loads(run_command(run.folder, "a", "b", "--set", "samples=3", "--statistics", "--json"))
    said = found["statistics"]
    assert said["samples"] == len(found["samples"]) == 6
    assert said["cut"] == sum(s["finished"] == "length" for s in found["samples"])
    nats = -sum(s["logprob"] for s in found["samples"])
    tokens = sum(len(s["ids"]) for s in found["samples"])
    assert said["perplexity"] == pytest.approx(2.718281828459045 ** (nats / tokens))
    shown = run_command(run.folder, "a", "b", "--set", "samples=3", "--statistics")
    assert "distinct-2" in shown and "repetition-4" in shown and "perplexity under the model" in shown
    out = tmp_path / "out.jsonl"
    assert "distinct-1" in run_command(run.folder, "a", "--statistics", "--out", out)


def test_forms_are_checked_where_one_is_asked_for(run: telos.Run, run_command: Telos) -> None:
    pytest.importorskip("llguidance")
    asked = ("--set", "constraint.form=wujue", "--set", "length=150", "--set", "samples=3")
    found = json.loads(run_command(run.folder, "", *asked, "--statistics", "--json"))
    assert found["statistics"]["in_form"] == 3
    assert all(check_form(sample["text"], "wujue") == [] for sample in found["samples"])


def test_copies_are_shown_beside_each_sample(
    run: telos.Run, run_command: Telos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that knew its text by heart: what it says is the beginning of a document of the train split."""
    known = run.tokenizer.decode(run.shards("train").document(3))
    number = next(  # an equal document may stand before it
        n for n in range(4) if run.tokenizer.decode(run.shards("train").document(n)) == known
    )
    recites(monkeypatch, run, known)
    asked = (run.folder, "--copied")
    done = json.loads(told := run_command(*asked, "--json"))
    copied = done[0]["copied"]
    assert (copied["document"], copied["at"], copied["share"]) == (number, 0, 1.0)
    assert copied["tokens"] >= LONG and f"repeats {copied['tokens']} tokens of the training text" in told.err
    shown = run_command(*asked)
    assert f"[100% copied; the longest stretch has {copied['tokens']} tokens" in shown


def test_nothing_copied_is_said_too(run: telos.Run, run_command: Telos) -> None:
    assert "[nothing is copied from the training text]" in run_command(
        run.folder, "", "--copied", "--set", "length=3"
    )


def recites(monkeypatch: pytest.MonkeyPatch, run: telos.Run, text: str) -> None:
    """Let the model say this text, whatever it is asked."""
    ids = tuple(run.tokenizer.encode(text).tolist())
    sample = Sample(prompt="", text=text, ids=ids, finished="length", logprob=-1.0)
    monkeypatch.setattr("telos.opened.generated", lambda *given, **more: iter([sample]))


def test_the_report_tells_what_samples_copy(run: telos.Run) -> None:
    samples = json.loads((run.folder / "samples.json").read_text(encoding="utf-8"))
    assert all(sample["copied"].keys() >= {"tokens", "share", "document", "excerpt"} for sample in samples)
    before = (run.folder / "samples.json").read_text(encoding="utf-8")
    found = {"tokens": 77, "characters": 99, "share": 0.5, "document": 3, "at": 0, "excerpt": "<b>\u202ex"}
    try:
        (run.folder / "samples.json").write_text(json.dumps([{"prompt": "", "text": "x", "copied": found}]))
        page = run.report().read_text(encoding="utf-8")
    finally:
        (run.folder / "samples.json").write_text(before, encoding="utf-8")
        run.report()
    assert "50% of it stands in the training text" in page and "the model knows it by heart" in page
    assert "&lt;b&gt;⟦U+202E⟧x" in page and "<b>" not in page


# ---- the loop that asks


def test_lines_are_answered_one_after_the_other(run: telos.Run, run_command: Telos) -> None:
    """Where standard input is no terminal: each line is a prompt, each answer is a line that begins with
    it; a prompt that is asked twice gets two texts."""
    talked = run_command(run.folder, "--interactive", "--json", given="The cat\nThe cat\n床前")
    records = [json.loads(line) for line in talked.splitlines()]
    assert [r["prompt"] for r in records] == ["The cat", "The cat", "床前"]
    assert records[0]["text"] != records[1]["text"]
    again = run.generate(["The cat"], seed=1)[0]
    assert records[1]["text"] == again.text
    plain = run_command(run.folder, "--interactive", given="The cat\nThe cat\n")
    assert plain == "".join(f"The cat{record['text']}\n" for record in records[:2])


def test_what_cannot_be_answered_does_not_end_the_loop(run: telos.Run, run_command: Telos) -> None:
    pytest.importorskip("llguidance")
    asked = ("--interactive", "--json", "--set", "constraint.form=wujue", "--set", "length=150")
    talked = run_command(run.folder, *asked, given="no poem\n春\n")
    assert "no 五绝 begins with 'no poem'" in talked.err and json.loads(talked)["prompt"] == "春"


def test_a_text_is_stopped_and_the_loop_goes_on(
    run: telos.Run, run_command: Telos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of the first text."""
    from telos.generate.left_to_right import LeftToRight

    advance, runs = LeftToRight.advance, []

    def interrupted(self: LeftToRight) -> None:
        runs.append(1)
        if len(runs) == 3:
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(LeftToRight, "advance", interrupted)
    talked = run_command(run.folder, "--interactive", given="The cat\nThe dog\n")
    first, second, *rest = talked.split("The dog")
    assert talked.status == 0 and first.startswith("The cat") and first.endswith("\n") and not rest
    assert second.rstrip("\n") == run.generate(["The dog"], seed=1)[0].text.rstrip("\n")


@pytest.fixture
def terminal(run: telos.Run) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The program at a terminal of its own, and our end of it."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "telos", "generate", str(run.folder), "--interactive"]
    started = subprocess.Popen(
        [*command, "--set", "length=100000", "--set", "temperature=3", "--device", "cpu"],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb"},
    )
    os.close(theirs)
    yield started, ours
    os.close(ours)
    if started.poll() is None:
        started.kill()
    started.wait()


def read_until(ours: int, wanted: bytes, said: bytes = b"") -> bytes:
    """What is said until that; at most a minute."""
    end = time.monotonic() + 60
    while wanted not in said:
        ready, _, _ = select.select([ours], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{wanted!r} was not said: {said!r}"
        said += os.read(ours, 1 << 12)
    return said


def test_at_a_terminal(terminal: tuple[subprocess.Popen[bytes], int]) -> None:
    """It asks, writes without an end in sight, stops at Ctrl-C, asks again, and ends at Ctrl-D."""
    program, ours = terminal
    read_until(ours, b"> ")
    os.write(ours, b"The cat\n")
    read_until(ours, b"The cat\r\nThe cat")
    read_until(ours, b"e")
    program.send_signal(signal.SIGINT)
    read_until(ours, b"> ")
    os.write(ours, b"\x04")
    assert program.wait(timeout=60) == 0

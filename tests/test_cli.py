"""The command line: what it prints where, how it ends, and that it helps."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from telos import __version__, cli, switches
from tests.small import NARROW, SHRUNK, write_texts

TINY = (*SHRUNK, *NARROW["decoder"], "tokenizer.size=300")
COMMANDS = (
    "demo",
    "prepare",
    "train",
    "evaluate",
    "generate",
    "translate",
    "classify",
    "neighbours",
    "compare",
    "export",
    "serve",
    "recipes",
    "doctor",
)
DEEPER = ("tokenizer compare", "data report")
"""Commands within one."""


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict:  # type: ignore[type-arg]
        return json.loads(self.out)  # type: ignore[no-any-return]


Telos = Callable[..., Done]


@pytest.fixture
def telos(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Telos:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["telos", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return Done(int(ended.value.code or 0), written.out, written.err)

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `texts/` and the finished run `runs/small`."""
    from telos.run import fit, load_recipe

    place = tmp_path_factory.mktemp("cli")
    texts = write_texts(place / "texts")
    fit(load_recipe("gpt-small", [f"data.path={texts}", "name=small", *TINY]), place / "runs")
    return place


def test_every_command_is_helpful(telos: Telos) -> None:
    """Help names what the command does, shows an example, and ends well; so does the program's own."""
    whole = telos("--help")
    assert whole.status == 0 and all(name in whole.out for name in COMMANDS)
    for name in (*COMMANDS, *DEEPER):
        told = telos(*name.split(), "--help")
        assert told.status == 0 and f"Example: telos {name}" in told.out, told.out
    assert telos("--version").out.strip() == f"telos {__version__}"


def test_every_command_here_is_a_command_there_and_reports_as_json() -> None:
    found = {
        info.name or getattr(info.callback, "__name__", ""): info for info in cli.app.registered_commands
    }
    assert set(found) == set(COMMANDS)
    inside = {info.name or "": info.typer_instance for info in cli.app.registered_groups}
    assert [f"{name} {c.name}" for name, part in inside.items() for c in part.registered_commands] == [
        *DEEPER
    ]
    group = typer.main.get_command(cli.app)
    for name in (*COMMANDS, *DEEPER):
        command: Any = group
        for word in name.split():
            command = command.commands[word]
        options = [opt for parameter in command.params for opt in parameter.opts]
        assert "--json" in options or name == "serve", name  # which has no figures, but addresses


def test_train_on_a_folder_of_text(telos: Telos, place: Path, tmp_path: Path) -> None:
    """The shortest way: a folder, and nothing else but sizes; standard output is JSON and nothing but
    JSON."""
    done = telos("train", place / "texts", *TINY, "--runs", tmp_path, "--json")
    assert done.status == 0, done.err
    assert done.json["run"] == str(tmp_path / "texts") and done.json["finished"]
    assert done.json["evaluation"]["test"]["bits_per_byte"] > 0 and done.json["machine"]["parameters"] > 0
    assert "step 2" in done.err and "tokens/s" in done.err


def test_train_tells_people_the_figures_and_where_the_report_is(telos: Telos, place: Path) -> None:
    done = telos(
        "train", "gpt-small", f"data.path={place / 'texts'}", "name=small", *TINY, "--runs", place / "runs"
    )
    assert done.status == 0
    for words in (
        "bits per byte",
        "perplexity",
        "raw LZMA2 -9, each file alone",
        "gzip -9, all files together",
    ):
        assert words in done.out
    assert str(place / "runs" / "small" / "report.html") in done.out


def test_prepare(telos: Telos, place: Path, tmp_path: Path) -> None:
    done = telos("prepare", place / "texts", "tokenizer.size=300", "--runs", tmp_path, "--json")
    assert done.status == 0 and done.json["splits"]["train"]["tokens"] > 0
    assert Path(done.json["folder"], "train", "header.json").exists()
    card = telos("prepare", place / "texts", "tokenizer.size=300", "--runs", tmp_path)
    assert card.out.startswith("# Data card")


def test_data_report(telos: Telos, place: Path, tmp_path: Path) -> None:
    """Text that is prepared on the way, and what was prepared; figures as JSON, the answer for people."""
    assert "Example: telos data report" in telos("data", "report", "--help").out
    given = ("data", "report", place / "texts", "tokenizer.size=300", "--runs", tmp_path)
    figures = telos(*given, "--model", "124M", "--json").json
    assert figures["documents"]["adds_up"] and figures["answer"]["parameters"] == 124_000_000
    assert Path(figures["page"]) == Path(figures["folder"], "data.html") and Path(figures["page"]).is_file()
    page = tmp_path / "page.html"
    shown = telos("data", "report", figures["folder"], "--language", "zh", "--out", page)
    assert shown.out.startswith("# 数据报告") and page.is_file()
    assert telos("data", "report", figures["folder"], "--model", "gpt-smal").status == 2


def test_evaluate(telos: Telos, place: Path) -> None:
    run = place / "runs" / "small"
    figures = telos("evaluate", run, "--json").json
    strided = telos("evaluate", run, "--stride", "4", "--batch", "3", "--json").json
    assert (figures["stride"], strided["stride"]) == (16, 4) and strided["tokens"] == figures["tokens"]
    assert "bits per byte" in telos("evaluate", run, "--split", "validation").out
    narrow = telos("evaluate", run, "--window", "8", "--json").json
    assert narrow["window"] == 8 and narrow["loss"] != figures["loss"]


def test_generate(telos: Telos, place: Path) -> None:
    run = place / "runs" / "small"
    told = telos("generate", run, "The cat", "--set", "length=5", "--json").json
    shown = telos("generate", run, "The cat", "--set", "length=5").out
    assert shown == "The cat" + told[0]["text"] + "\n"  # type: ignore[index]
    assert len(telos("generate", run, "a", "b", "--set", "samples=2", "--json").json) == 4
    refused = telos("generate", run, "The cat", "--set", "lenght=3")
    assert refused.status == 2 and refused.out == "" and "Did you mean 'length'?" in refused.err
    assert telos("generate", run, "--seed", "1").out != telos("generate", run, "--seed", "2").out


def test_neighbours_recipes_and_doctor(telos: Telos, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near = telos("neighbours", place / "runs" / "small", "a", "-n", "3", "--json").json
    assert len(near["a"]["nearest"]) == 3 and -1 <= near["a"]["nearest"][0]["similarity"] <= 1
    shown = telos("neighbours", place / "runs" / "small", "a", "unquestionable").out.splitlines()
    assert shown[0].startswith("a: ") and re.match(r"unquestionable \(mean of \d+ tokens\): ", shown[1])
    assert "gpt-small" in telos("recipes").out and "demo" in telos("recipes", "--json").json
    monkeypatch.setattr("telos.doctor._SECONDS", 0.01)
    assert telos("doctor", "--json").json["hardware"]["cores"] >= 1
    shown = telos("doctor").out
    assert "GFLOP/s" in shown and re.search(r"^memory +[\d.]+ GiB$", shown, re.MULTILINE)
    assert not re.search(r"\d{9}", shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "gpt-smal"), "Did you mean 'gpt-small'"),
        (("train", "gpt-small", "data.path=x", "train.steps=50"), "Did you mean 'train.budget.steps'?"),
        (("train", "gpt-small", "data.path=nowhere", "--runs", "runs"), "there is no such file or folder"),
        (("train", "absent.toml"), "absent.toml: there is no such file"),
        (("demo", "train.budget.minutes=soon"), "train.budget.minutes = 'soon'"),
        (("demo", "--device", "quantum"), "device = 'quantum'"),
        (("evaluate", "runs/absent"), "not a run"),
        (("generate", "runs/absent", "x"), "not a run"),
        (("generate", "runs/absent", "generate.length=5"), "write --set length=5"),
        (("demo", "model.wdith=2"), "Did you mean 'model.width'?"),
        (("demo", "name="), "name = '': must not be empty"),
        (("demo", "model=3"), "model = 3: expected a table"),
        (("demo", "objective={name='mixture', of=['caual']}"), "Did you mean 'causal'?"),
        (("demo", "objective={name='mixture'}"), 'must be given, for example of = ["causal"]'),
    ],
)
def test_what_a_user_can_mend_is_told_in_plain_words(
    telos: Telos, arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = telos(*arguments)
    assert done.status == 2 and message in done.err and "Traceback" not in done.err and done.out == ""


def test_a_run_named_without_its_folder_is_told_where_it_is(
    telos: Telos, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    done = telos("evaluate", "small")
    assert done.status == 2 and "such as runs/small" in done.err


def test_fast_ways_are_turned_off_by_name(telos: Telos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "_off", set())
    monkeypatch.setenv("TELOS_WITHOUT", "recurrent")
    assert telos("recipes").status == 0 and not switches.on("recurrent")
    monkeypatch.setenv("TELOS_WITHOUT", "recurent")
    done = telos("recipes")
    assert (
        done.status == 2
        and "there is no 'recurent' to turn off, only dropout, encoding, norms, pages, parts, recurrent"
        in done.err
    )


def test_only_what_is_wrong_is_told(telos: Telos) -> None:
    """Neither that a list whose items are wrong is too short, nor a recipe's name for a folder's."""
    assert "item" not in telos("demo", "objective={name='mixture', of=['caual']}").err
    assert "Did you mean" not in telos("train", "my-texts").err


@pytest.mark.parametrize(("option", "value"), [("batch", "0"), ("window", "-1"), ("stride", "-1")])
def test_options_of_evaluation_are_named_like_settings(
    telos: Telos, place: Path, option: str, value: str
) -> None:
    done = telos("evaluate", place / "runs" / "small", f"--{option}", value)
    assert done.status == 2 and f"evaluate.{option} = {value}" in done.err and "Traceback" not in done.err


def test_folders_that_cannot_be_used_are_named(telos: Telos, place: Path, tmp_path: Path) -> None:
    """A file as the folder of all runs, or as the run's."""
    occupied, given = tmp_path / "plain", (place / "texts", *TINY)
    occupied.write_text("mine")
    for command in ("train", "prepare"):
        done = telos(command, *given, "--runs", occupied)
        assert (
            done.status == 2
            and str(occupied) in done.err
            and "a file is where a folder should be" in done.err
        )
    (tmp_path / "texts").write_text("mine")
    done = telos("train", *given, "--runs", tmp_path)
    assert done.status == 2 and "something else, not a run" in done.err
    assert occupied.read_text() == (tmp_path / "texts").read_text() == "mine"


LIMITED = """
import resource, sys
from telos.cli import main
from telos import run
train = run._train
def full(*given):  # from here on no file may be longer than this
    outcome = train(*given)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    return outcome
run._train = full
sys.argv = ["telos", *sys.argv[1:]]
main()
"""


def test_a_full_disk_is_told_and_leaves_nothing_half_written(place: Path, tmp_path: Path) -> None:
    given = ["train", str(place / "texts"), *TINY, "--runs", str(tmp_path), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", LIMITED, *given], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "evaluation.json: cannot be written: the disk is full" in done.stderr
    names = {path.name for path in (tmp_path / "texts").iterdir()}
    assert not names & {"evaluation.json", "samples.json", "report.html"}
    assert not [name for name in names if name.endswith(".tmp")]


def test_what_the_system_refuses_is_told_in_plain_words(
    telos: Telos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Wherever it happens: an error of the operating system that nobody foresaw."""
    (tmp_path / "file").touch()
    monkeypatch.setattr("telos.shipped.described", lambda: (tmp_path / "file" / "within").read_text())
    done = telos("recipes")
    assert done.status == 2 and f"{tmp_path / 'file' / 'within'}: a file is where" in done.err


def test_a_reader_who_leaves_is_no_error() -> None:
    """`telos recipes | true`: nothing is said, and the status is that of success."""
    command = [sys.executable, "-m", "telos", "recipes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(60) == 0


def test_ctrl_c_before_training_stops(telos: Telos, monkeypatch: pytest.MonkeyPatch) -> None:
    """While text is prepared, or modules are loaded."""

    def interrupted() -> dict[str, str]:
        signal.raise_signal(signal.SIGINT)
        return {}

    monkeypatch.setattr("telos.shipped.described", interrupted)
    # A program that was started in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = telos("recipes")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.status, done.err) == (130, "Stopped.\n")


def test_mistyped_commands_and_options_are_answered_with_the_nearest(telos: Telos) -> None:
    for arguments, meant in ((("trian",), "train"), (("recipes", "--jsn"), "--json")):
        done = telos(*arguments)
        assert done.status == 2 and meant in done.err


def test_debug_shows_the_traceback(telos: Telos, monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.errors import ConfigError

    monkeypatch.setattr(sys, "argv", ["telos", "--debug", "train", "gpt-smal"])
    with pytest.raises(ConfigError):
        cli.main()


def test_an_error_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only errors that a user can mend are told in a sentence."""

    def broken() -> dict[str, str]:
        raise KeyError("ours")

    monkeypatch.setattr("telos.shipped.described", broken)
    monkeypatch.setattr(sys, "argv", ["telos", "recipes"])
    with pytest.raises(KeyError):
        cli.main()


def test_the_program_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "telos", "recipes", "--json"], capture_output=True, text=True, check=True
    )
    assert "demo" in json.loads(done.stdout)


def test_help_is_quick() -> None:
    """Help does not load what trains: no more than half a second of work in the processor, with room for a
    busy machine."""
    code = """
import resource, sys
sys.argv = ["telos", "--help"]
try:
    from telos.cli import main
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(re.findall(r"[\d.]+", done.stderr)[-1]) < 1.5

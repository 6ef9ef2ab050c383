"""The command line: one thin function per command. Heavy
modules are imported by the command that needs them."""

import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from telos import __version__, commands, switches
from telos.commands._shared import (
    RUNS,
    Changes,
    Device,
    Json,
    New,
    Root,
    RunFolder,
    Split,
    What,
    printed,
    run_at,
)
from telos.errors import TelosError, explained
from telos.find import load, names
from telos.said import measure_line, score_lines, summary

if TYPE_CHECKING:
    from telos.recipe import Recipe

__all__ = ["app", "main"]


class _Stopped(Exception):
    """Ctrl-C, while nothing was under way that had to be finished."""


class _NobodyReads(Exception):
    """Standard output was closed, as by `| head`."""


class _Commands(TyperGroup):
    """All commands; what stops them is told by `main`."""

    def invoke(self, ctx: Any) -> Any:
        try:
            value = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise _Stopped from None
        except BrokenPipeError:
            raise _NobodyReads from None
        return value


app = typer.Typer(
    name="telos",
    cls=_Commands,
    help="Train language models from text, and choose the training objective.",
    epilog="Start with: telos demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

tokenizer = typer.Typer(help="Vocabularies.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(tokenizer, name="tokenizer")

_data = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What is in the text (telos data report)."
)
app.add_typer(_data, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"telos {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and end."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Train language models from text, and choose the training objective."""


@app.command()
def demo(
    changes: Changes = None,
    runs: Root = RUNS,
    new: New = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train, evaluate and try a small model on text that every machine has.

    Example: telos demo
    """
    from telos.run import load_recipe

    _train(load_recipe("demo", changes or []), runs, new=new, device=device, as_json=as_json)


@app.command()
def prepare(what: What, changes: Changes = None, runs: Root = RUNS, as_json: Json = False) -> None:
    """Clean and split text, train the vocabulary, write shards and a data card.

    Example: telos prepare my-texts/ tokenizer.size=16000
    """
    from telos import run
    from telos.train.display import display

    prepared = run.prepare(run.load_recipe(what, changes or []), runs, display=display())
    printed({"folder": str(prepared.folder), **asdict(prepared.card)}, prepared.card.markdown(), as_json)


@tokenizer.command("compare")
def compare_tokenizers(
    what: What,
    changes: Changes = None,
    sizes: Annotated[str, typer.Option(help="Divided by commas.")] = "2000,8000,16000",
    kinds: Annotated[
        str, typer.Option(help="Divided by commas.")
    ] = "bpe,unigram,wordpiece,byte,character,word",
    file: Annotated[list[Path] | None, typer.Option(help="A tokenizer.json to measure beside them.")] = None,
    as_json: Json = False,
) -> None:
    """Learn vocabularies of several kinds and sizes from the train split, and measure them on held-out text.

    Example: telos tokenizer compare my-texts/ --sizes 2000,8000 --kinds bpe,unigram
    """
    from telos import vocabularies
    from telos.run import load_recipe

    asked = vocabularies.asked(kinds, sizes, changes or [])
    recipe = load_recipe(what, changes or [])
    found = vocabularies.compare_vocabularies(recipe, *asked, file or [], progress=vocabularies.told)
    printed(found.table(), found.markdown(), as_json)


@_data.command("report")
def data_report(
    what: What,
    changes: Changes = None,
    model: Annotated[
        str, typer.Option(help="The answer is for it: another recipe's name, or parameters: 124M.")
    ] = "",
    language: Annotated[str, typer.Option(help="en or zh.")] = "en",
    out: Annotated[Path | None, typer.Option(help="The page; by default data.html beside the card.")] = None,
    runs: Root = RUNS,
    as_json: Json = False,
) -> None:
    """How much text there is, how much a model wants, how often it can be read again: a page with plots.
    WHAT can be prepared data, too: runs/prepared/KEY.

    Example: telos data report my-texts/ --model gpt-small
    """
    from telos.data_report import data_report as report
    from telos.train.display import display

    found = report(what, changes or [], runs, model=model, language=language, out=out, display=display())
    printed(found.figures, f"{found.text}\nReport: {found.path}", as_json)


@app.command()
def train(
    what: What,
    changes: Changes = None,
    runs: Root = RUNS,
    new: New = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a model; the same command again goes on where it stopped.

    Example: telos train gpt-small data.path=my-texts/ train.budget.epochs=2
    """
    from telos.run import load_recipe

    _train(load_recipe(what, changes or []), runs, new=new, device=device, as_json=as_json)


@app.command()
def evaluate(
    run: RunFolder,
    split: Split = "test",
    window: Annotated[
        int | None, typer.Option(help="Tokens that a prediction may look back on. 0: as in training.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="New tokens per window; the rest is context. 0: the whole window.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Rows at a time: changes time and memory, never the figures.")
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(help="Score so many held-out tokens as the objective scores a given text, instead."),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Minimal pairs: JSON lines with sentence_good, sentence_bad.")
    ] = None,
    few_shot: Annotated[
        Path | None, typer.Option(help="Few-shot: JSON lines with text and label, or text and target.")
    ] = None,
    shots: Annotated[str, typer.Option(help="Examples shown in a few-shot prompt.")] = "0,1,4,8",
    probe: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="TRAIN TEST", help="Linear probe: JSON lines with text and label, twice."),
    ] = None,
    limit: Annotated[
        int, typer.Option(help="Of each paradigm, task or labelled file so many lines; 0: all.")
    ] = 0,
    words: Annotated[
        bool, typer.Option("--words", help="Pseudo-likelihood: hide the rest of a word with its token.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score held-out text: loss in nats, perplexity, bits per byte. Or measure something else of the model:
    minimal pairs, few-shot answers, a linear probe.

    Example: telos evaluate runs/demo --stride 128
    """
    opened = run_at(run, device)
    wanted: dict[str, Any] = {"tokens": tokens, "pairs": pairs, "few_shot": few_shot, "probe": probe}
    if any(value is not None for value in wanted.values()):
        from telos.measure import measured

        found = measured(opened, **wanted, split=split, shots=shots, limit=limit, words=words)
        printed(found.table, "\n".join(found.lines), as_json)
        return
    given = {
        name: value
        for name, value in (("window", window), ("stride", stride), ("batch", batch))
        if value is not None
    }
    from telos.tasks.translation import noted, pointer

    figures = {**opened.evaluate(split, opened.evaluate_settings(given)), **noted(opened, split)}
    printed(figures, "\n".join([*score_lines(figures), *pointer(opened, split, figures)]), as_json)


@app.command()
def compare(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A comparison: its .toml file, or its name.")],
    changes: Changes = None,
    runs: Root = RUNS,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train the same text under several objectives, and say what differs. Called again it goes on.

    Example: telos compare objectives base.data.path=my-texts/
    """
    from telos.compare import compare as run_all
    from telos.compare import load_comparison
    from telos.train.display import display

    comparison = load_comparison(file, changes or [])
    compared = run_all(comparison, runs, device=device, display=display())
    folder = runs / comparison.name
    text = (folder / "compare.md").read_text(encoding="utf-8")
    printed(compared.table(), f"{text}\nReport: {folder / 'compare.html'}", as_json)


@app.command()
def neighbours(
    run: RunFolder,
    words: Annotated[list[str], typer.Argument(metavar="WORD...")],
    number: Annotated[int, typer.Option("--number", "-n", help="How many for each.")] = 10,
    as_json: Json = False,
) -> None:
    """The nearest words in the model's embedding, and how similar they are.

    Example: telos neighbours runs/demo import class
    """
    found = run_at(run, "cpu").neighbours(words, number)
    table = {
        each.word: {"pieces": each.pieces, "nearest": [n._asdict() for n in each.nearest]} for each in found
    }
    lines = []
    for each in found:
        mean = f" (mean of {each.pieces} tokens)" if each.pieces > 1 else ""
        near = ", ".join(f"{near.word} {near.similarity:.2f}" for near in each.nearest)
        lines.append(f"{each.word}{mean}: {near}")
    printed(table, "\n".join(lines), as_json)


@app.command()
def export(
    run: RunFolder,
    to: Annotated[str, typer.Option("--to", help="The format: hf (Hugging Face), or peft (adapters alone).")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; by default RUN/export/FORMAT.")
    ] = None,
    partner: Annotated[
        str, typer.Option("--partner", help="A network that was trained beside it instead: generator.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Write a model for other programs, and prove that it says the same.

    Example: telos export runs/demo --to hf
    """
    figures = run_at(run, "cpu").export(to, out, partner=partner)
    logits = max(value for kind in figures["logits"].values() for value in kind.values())
    lines = [
        f"{figures['folder']}: {figures['architecture']}, {figures['format']}",
        f"{'logits differ by at most':34} {logits:.1e} of the largest",
    ]
    if "classes" in figures:
        lines.append(f"{'classes':34} {', '.join(figures['classes']['names'])}")
    else:
        ours, theirs = (figures["perplexity"][side] for side in ("ours", "theirs"))
        lines.append(f"{'perplexity here and there':34} {ours:.4f} {theirs:.4f}")
        lines.append(f"{'greedy tokens that are the same':34} {figures['greedy']['tokens']}, all")
    printed(figures, "\n".join(lines), as_json)


@app.command()
def recipes(as_json: Json = False) -> None:
    """The recipes that come with Telos.

    Example: telos recipes
    """
    from telos.shipped import described

    found = described()
    lines = [f"{name}\n  " + text.replace("\n", "\n  ") for name, text in found.items()]
    printed(found, "\n".join(lines), as_json)


@app.command()
def doctor(device: Device = "auto", as_json: Json = False) -> None:
    """What this machine can do, measured.

    Example: telos doctor
    """
    from telos import doctor as doctors

    examination = doctors.examine(device=doctors.choose_device(device))
    table = examination.table()
    sizes = {**table["hardware"], **{name: table[name] for name in ("free_memory_bytes", "free_disk_bytes")}}
    lines = [measure_line(key, value) for key, value in sizes.items()]
    lines += [
        f"{'float32':18} {table['float32'] / 1e9:.0f} GFLOP/s",
        f"{'bfloat16':18} {table['bfloat16'] / 1e9:.0f} GFLOP/s"
        if table["bfloat16"]
        else f"{'bfloat16':18} not here",
    ]
    printed(table, "\n".join([*lines, "", *table["advice"]]), as_json)


for _name in names(commands):
    app.command()(getattr(load(commands, _name), _name))


# ---- helpers


def _train(recipe: "Recipe", runs: Path, *, new: bool, device: str, as_json: bool) -> None:
    from telos.run import fit
    from telos.train.display import display

    shown = display()
    run = fit(recipe, runs, new=new, device=device, display=shown)
    outcome = run.outcome
    assert outcome is not None
    if outcome.reason == "signal":
        print(
            f"Stopped at step {outcome.step}. Everything is saved: the same command goes on from here.",
            file=sys.stderr,
        )
        raise typer.Exit(outcome.exit_status)
    figures = {**run.figures(), "step": outcome.step}
    printed(figures, summary(run, figures), as_json)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"Warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line; an error that a user can mend is told in plain words, with exit status 2."""
    warnings.showwarning = _warn
    # Threads that wait for each other sleep rather than spin, as OpenMP's runtime would by default: beside
    # another busy program, spinning makes a training step several times as slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        switches.turn_off(os.environ.get("TELOS_WITHOUT", ""))
        app()
    except TelosError as error:
        if "--debug" in sys.argv:
            raise
        print(f"telos: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if "--debug" in sys.argv or error.errno is None:
            raise
        print(f"telos: {error.filename or 'the operating system'}: {explained(error)}", file=sys.stderr)
        sys.exit(2)
    except (_Stopped, KeyboardInterrupt):
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    except _NobodyReads:
        # What is still to be written goes nowhere, so that the interpreter does not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)

"""`telos classify`: a model puts texts in classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telos.commands._shared import Device, Json, RunFolder, printed, run_at
from telos.errors import ConfigError
from telos.said import classified_lines

if TYPE_CHECKING:
    from telos.run import Run
    from telos.tasks._files import Table
    from telos.tasks.classification import Judged

__all__ = ["classify"]

SEED = 0
"""Decides which examples are shown."""


def classify(
    run: RunFolder,
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to judge.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Judge the rows of a .csv, .tsv, .jsonl or .txt file instead.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write its rows to this .csv, with classes and probabilities.")
    ] = None,
    text_key: Annotated[str, typer.Option(help="The column of the texts.")] = "text",
    label_key: Annotated[str, typer.Option(help="The column of known classes.")] = "label",
    columns: Annotated[
        str, typer.Option(help="Names of the columns, divided by commas, where the file has none.")
    ] = "",
    threshold: Annotated[float, typer.Option(help="Below this probability, give no class.")] = 0.0,
    words: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=WORD", help="Ask a language model which word is likeliest; one each."),
    ] = None,
    template: Annotated[str, typer.Option(help="How it is asked.")] = "{text} It was {label}.",
    examples: Annotated[
        Path | None, typer.Option(help="Show it solved examples out of this file first.")
    ] = None,
    shots: Annotated[int, typer.Option(help="How many of them.")] = 4,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Say how well it does on a file that has the classes.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Put texts in the classes that a model was trained for; or in those that words stand for.

    Example: telos classify runs/classify-sst2 "a gripping, funny film" --threshold 0.8
    """
    _check(texts or [], file, out, evaluate)
    names = tuple(name.strip() for name in columns.split(",") if name.strip())
    given: dict[str, Any] = {"threshold": threshold, "template": template}
    if words:
        given |= {"words": _words(words), "examples": _examples(examples, shots, text_key, label_key, names)}
    elif examples is not None:
        raise ConfigError("--examples are shown to a language model: say its --words, CLASS=WORD, too.")
    opened = run_at(run, device)
    if file is None:
        from telos.tasks import classification

        found = classification.classify(opened, texts or [], **given)
        printed([_plain(each) for each in found], "\n".join(map(_line, found, texts or [])), as_json)
        return
    from telos.tasks._files import read_table

    table = read_table(file, names)
    if evaluate:
        _evaluate(opened, table, (text_key, label_key), given, as_json)
    else:
        _judge(opened, table, text_key, out, given, as_json)


def _check(texts: Sequence[str], file: Path | None, out: Path | None, evaluate: bool) -> None:
    if bool(texts) == (file is not None):
        raise ConfigError("give texts to judge, or a file of them (--file), and not both.")
    if (out is None) != (file is None or evaluate):
        raise ConfigError(
            "--file takes --out, the .csv to write, or --evaluate, which only says how well it does."
        )


def _words(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for each in given:
        label, equals, word = each.partition("=")
        if not equals or not label or not word:
            raise ConfigError(f"--words {each}: it is written CLASS=WORD, such as positive=great.")
        found[label] = word
    return found


def _examples(
    path: Path | None, shots: int, text_key: str, label_key: str, names: tuple[str, ...]
) -> list[tuple[str, str]]:
    """So many solved examples of a file, drawn once."""
    if path is None:
        return []
    import numpy as np

    from telos.tasks._files import read_table

    table = read_table(path, names)
    solved = list(zip(table.column(text_key), table.column(label_key), strict=True))
    order = np.random.default_rng(SEED).permutation(len(solved)).tolist()
    return [solved[place] for place in order[:shots]]


def _evaluate(
    run: "Run", table: "Table", keys: tuple[str, str], given: Mapping[str, Any], as_json: bool
) -> None:
    from telos.tasks.classification import score_labelled

    found = score_labelled(run, table.column(keys[0]), table.column(keys[1]), **given).table()
    printed(found, "\n".join(classified_lines(found)), as_json)


def _judge(
    run: "Run", table: "Table", text_key: str, out: Path | None, given: Mapping[str, Any], as_json: bool
) -> None:
    """Every row that has a text, and the rows written with what was found."""
    from telos.tasks._files import write_table
    from telos.tasks.classification import classify as judge

    assert out is not None
    texts = table.column(text_key)
    there = [number for number, text in enumerate(texts) if text.strip()]
    found = dict(zip(there, judge(run, [texts[number] for number in there], **given), strict=True))
    write_table(out, table, _added([found.get(number) for number in range(len(texts))]))
    abstained = sum(each.abstained for each in found.values())
    counts = {"rows": len(texts), "judged": len(found) - abstained, "abstained": abstained}
    counts["empty"] = len(texts) - len(found)
    told = ", ".join(f"{value:,} {name}" for name, value in counts.items())
    printed({"file": str(out), **counts}, f"{out}: {told}", as_json)


def _added(found: Sequence["Judged | None"]) -> dict[str, list[Any]]:
    """The columns to write: of a row without a text they are empty."""
    names = next((list(each.probabilities) for each in found if each), [])
    return {
        "label": [each.label or "" if each else "" for each in found],
        "probability": [_digits(each.probability) if each else "" for each in found],
        **{
            f"probability_{name}": [_digits(each.probabilities[name]) if each else "" for each in found]
            for name in names
        },
    }


def _digits(probability: float) -> str:
    return f"{probability:.6f}"


def _plain(each: "Judged") -> dict[str, Any]:
    return {**each._asdict(), "probabilities": dict(each.probabilities)}


def _line(each: "Judged", text: str) -> str:
    return f"{each.label or '(unsure)':16} {each.probability:.3f}  {' '.join(text.split())[:80]}"

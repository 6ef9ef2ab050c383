"""What commands share: arguments that mean the same in all of them, opening a run, printing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from telos.run import Run

__all__ = [
    "RUNS",
    "Changes",
    "Device",
    "Json",
    "New",
    "Root",
    "RunFolder",
    "Split",
    "What",
    "printed",
    "run_at",
]

What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT", help="A recipe's file or name (telos recipes), or a file or folder of text."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings laid over it: train.budget.steps=50"),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/demo.")]
Root = Annotated[Path, typer.Option("--runs", help="The folder that holds all runs.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the figures as JSON on standard output, and nothing else there.")
]
New = Annotated[bool, typer.Option("--new", help="Start over. An earlier run is kept, under another name.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Split = Annotated[str, typer.Option(help="train, validation or test.")]

RUNS = Path("runs")


def run_at(run: Path, device: str) -> "Run":
    """The run in a folder."""
    from telos.run import open_run

    return open_run(run, device)


def printed(value: Any, text: str, as_json: bool) -> None:
    """`value` as JSON, or `text` for people, on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) if as_json else text)

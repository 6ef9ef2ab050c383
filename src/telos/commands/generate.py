"""`telos generate`: a model writes."""

from pathlib import Path
from typing import Annotated

import typer

from telos.commands._shared import Device, Json, RunFolder, run_at
from telos.errors import ConfigError

__all__ = ["generate"]


def generate(
    run: RunFolder,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]...", help="How each text begins; none: from nothing."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the settings of generation.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="Fill the gap between the prompt and this, and go no further.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Prompts: a line each, .jsonl or .csv with `prompt`; - for standard input."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the samples here, as JSON lines.")] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Keep asking: Ctrl-C stops a text, Ctrl-D ends.")
    ] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="How varied the samples are, how much they repeat.")
    ] = False,
    copied: Annotated[
        bool, typer.Option("--copied", help="What of each sample stands in the training text.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed and prompt give the same text.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Let a model write.

    Example: telos generate runs/demo "def " --set temperature=0.8 --set length=100
    """
    from telos.commands._writing import Wanted, talk, write, write_one
    from telos.generate._prompts import read_prompts

    _check(prompts or [], after, file, interactive, out)
    wanted = Wanted(settings or [], seed, out, statistics, copied, as_json)
    opened = run_at(run, device)
    if interactive:
        talk(opened, wanted)
        return
    texts = prompts or [""]
    asked = texts if after is None else [(before, after) for before in texts]
    one = len(texts) == 1 and opened.generate_settings(wanted.settings).samples == 1
    if file is not None:
        write(opened, read_prompts(file), wanted)
    elif one and not as_json and out is None:
        write_one(opened, asked[0], wanted)
    else:
        write(opened, asked, wanted)


def _check(
    prompts: list[str], after: str | None, file: Path | None, interactive: bool, out: Path | None
) -> None:
    """Refuse what does not go together."""
    for text in prompts:
        if text.startswith("generate.") and "=" in text:
            raise ConfigError(
                f"{text!r} reads like a setting and stands where a text begins: "
                f"write --set {text.removeprefix('generate.')}"
            )
    sources = {"PROMPT": prompts, "--file": file, "--interactive": interactive}
    given = [name for name, value in sources.items() if value]
    if len(given) > 1:
        raise ConfigError(
            f"{' and '.join(given)} each say where the prompts come from; leave all but one out."
        )
    if after is not None and not prompts and given:
        raise ConfigError(
            '--after goes with a PROMPT; in a file of JSON lines write "after" beside "prompt".'
        )
    if interactive and out is not None:
        raise ConfigError("--out does nothing with --interactive; leave one of them out.")

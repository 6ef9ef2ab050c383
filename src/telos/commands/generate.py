"""`telos generate`: a model writes."""

from dataclasses import asdict
from typing import Annotated

import typer

from telos.commands._shared import Device, Json, RunFolder, printed, run_at
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
    seed: Annotated[int, typer.Option(help="The same seed and prompt give the same text.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Let a model write.

    Example: telos generate runs/demo "def " --set temperature=0.8 --set length=100
    """
    texts = prompts or [""]
    for text in texts:
        if text.startswith("generate.") and "=" in text:
            raise ConfigError(
                f"{text!r} reads like a setting and stands where a text begins: "
                f"write --set {text.removeprefix('generate.')}"
            )
    opened = run_at(run, device)
    asked = texts if after is None else [(before, after) for before in texts]
    if as_json:
        printed([asdict(sample) for sample in opened.generate(asked, settings or [], seed=seed)], "", as_json)
        return
    several = len(texts) > 1 or opened.generate_settings(settings or []).samples > 1
    if not several:
        print(texts[0], end="")
    samples = opened.generate(asked, settings or [], seed=seed, stream=None if several else _stream)
    whole = [sample.prompt + sample.text + sample.after for sample in samples]
    print("\n\n".join(whole) if several else samples[0].after)


def _stream(index: int, text: str) -> None:
    print(text, end="", flush=True)

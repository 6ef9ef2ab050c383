"""`telos serve`: runs behind an HTTP interface."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from telos.commands._shared import Device
from telos.errors import ConfigError

__all__ = ["serve"]

KEY = "TELOS_API_KEY"


def serve(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, such as runs/demo.")],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any that is free.")] = 8000,
    key_file: Annotated[
        Path | None, typer.Option(help=f"A file with the key that clients must show; or set {KEY}.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, such as batch=8 or limits.tokens=500.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Serve runs over HTTP, as OpenAI's clients speak it, and a page to try them.

    Example: telos serve runs/demo
    """
    from telos.config import override, read
    from telos.serve.settings import ServeSettings

    asked = read(ServeSettings, override({"host": host, "port": port}, settings or []), "--set")
    try:
        from telos.serve.server import serve as start
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"Serving needs a package that is not installed: {missing.name}. Install it: "
            "pip install 'telos-lm[serve]'"
        ) from None
    start(runs, asked, key=_key(key_file), device=device, ready=_ready)


def _key(path: Path | None) -> str:
    """From the file, or else from the environment: never from the command line, which everybody sees."""
    if path is None:
        return _checked(os.environ.get(KEY, ""), KEY) if KEY in os.environ else ""
    try:
        return _checked(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"--key-file {path}: it cannot be read, or is no text.") from None


def _checked(text: str, source: str) -> str:
    key = text.strip()
    if len(key) < 16 or not key.isascii() or any(mark.isspace() for mark in key):
        raise ConfigError(
            f"{source}: a key is one line of at least 16 letters, digits and marks, without blanks. Make "
            "one by: openssl rand -hex 32"
        )
    return key


def _ready(address: str) -> None:
    print(f"Serving at {address} (Ctrl-C stops it).", file=sys.stderr, flush=True)

"""What a result says of the machine and of the program: hardware, versions, revision, load."""

import json
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .driver_side import PEERS, Failed, python_of

__all__ = ["described", "load", "revision", "versions_in"]

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
OURS = ("torch", "numpy", "tokenizers", "telos-lm")
TRAINERS = (
    "accelerate",
    "keras",
    "keras-hub",
    "lightning",
    "litgpt",
    "torch",
    "transformers",
    "x-transformers",
)
ASKED = (
    "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
)


def described() -> dict[str, Any]:
    """Hardware and versions; no names of hosts, users or folders."""
    from telos.doctor import hardware
    from telos.processor import processor_flags

    flags = processor_flags()
    return {
        "hardware": {**hardware(), "features": [name for name in FEATURES if name in flags]},
        "versions": {name: _version(name) for name in OURS},
        "peers": _peers(),
    }


def revision() -> str:
    """The commit that is measured, with a + where files differ from it; empty outside of a repository."""
    here = Path(__file__).parent
    commit = _git(here, "rev-parse", "--short=10", "HEAD")
    return commit + ("+" if commit and _git(here, "status", "--porcelain", "--untracked-files=no") else "")


def load() -> float:
    """Processes that wanted to run in the last minute, on average."""
    return round(os.getloadavg()[0], 2)


def versions_in(python: Path, *names: str) -> dict[str, str]:
    """Of packages as an interpreter has them; empty without the interpreter."""
    try:
        done = subprocess.run([str(python), "-c", ASKED], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    found: dict[str, str] = json.loads(done.stdout)
    return {name: found[name] for name in names if name in found}


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _peers() -> dict[str, Any]:
    """Versions in the peers' environment, and what could not be installed there."""
    try:
        python = python_of("peers")
    except Failed as why:
        return {"missing": str(why)}
    failed = PEERS / "failed.json"
    return {
        "versions": versions_in(python, *TRAINERS),
        "failed": json.loads(failed.read_text("utf-8")) if failed.is_file() else {},
    }

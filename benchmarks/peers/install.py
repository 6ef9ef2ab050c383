"""Make the peers' environment, benchmarks/peers/.venv: what Telos is measured against.

    python benchmarks/peers/install.py

The build of PyTorch is chosen as in the Makefile: with an NVIDIA GPU what the package index has, without one
the wheel in pip's find-links folder, or PyTorch's own CPU index. A package that cannot be installed is
written to .venv/failed.json with the reason; the benchmarks then record its rows as not measured.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"
TIMEOUT = 1800
"""Seconds for one command."""


def main() -> int:
    """Install everything that can be; returns 1 only if not even the requirements as a whole could be."""
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    failed = {}
    wanted = _listed("requirements.txt")
    said = _install(*wanted)
    if said:
        print("Not all together; one by one:", *said.splitlines()[-5:], sep="\n  ")
        failed = {name: said for name in wanted if (said := _install(name))}
    failed |= {name: said for name in _listed("alone.txt") if (said := _install("--no-deps", name))}
    (VENV / "failed.json").write_text(json.dumps(failed, indent=1) + "\n", encoding="utf-8")
    for name, why in failed.items():
        print(f"{name} could not be installed: {why.splitlines()[-1]}")
    return 1 if any(name.startswith("torch==") for name in failed) else 0


def _listed(name: str) -> list[str]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _install(*what: str) -> str:
    """Run the installer; returns what it said if it failed, else nothing."""
    command, environment = _installer()
    try:
        done = subprocess.run(
            [*command, *what], env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT} s"
    return "" if done.returncode == 0 else (done.stderr or done.stdout or "no reason given").strip()


def _installer() -> tuple[list[str], dict[str, str]]:
    """The command that installs into the peers' environment, and the environment variables for it."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        return [str(PYTHON), "-m", "pip", "install", "--quiet"], dict(os.environ)
    environment = {"UV_SYSTEM_CERTS": "1", "UV_HTTP_TIMEOUT": "300"} | os.environ
    command = [uv, "pip", "install", "--quiet", "--python", str(PYTHON)]
    links = os.environ.get("PIP_FIND_LINKS", "") or _configured_links()
    if shutil.which("nvidia-smi"):
        pass
    elif links:
        environment["UV_FIND_LINKS"] = ",".join(links.split())
    else:
        command.append("--torch-backend=cpu")
    return command, environment


def _configured_links() -> str:
    """The folder of wheels that pip is configured with."""
    command = [str(PYTHON), "-m", "pip", "config", "get", "global.find-links"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())

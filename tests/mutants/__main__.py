"""Run the mutants: `python -m tests.mutants [--list] [--jobs N] [part of a name] …`. Ends with 1 if any bug
goes unseen."""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mutants import Mutant, all_mutants

_PYTEST = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-x",
    "-p",
    "no:cacheprovider",
    "--no-header",
    "-o",
    "addopts=",
)
_SECONDS = 600
"""A mutant that makes a test hang counts as seen after this time."""


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen mutants, print a line for each, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="run those whose name holds one of these; all by default")
    parser.add_argument("--list", action="store_true", help="only list them")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    chosen = parser.parse_args(arguments)
    mutants = [
        m for m in all_mutants().values() if not chosen.names or any(part in m.name for part in chosen.names)
    ]
    if chosen.list:
        print("\n".join(f"{m.name:45} trap {m.trap or '-':>3}  {m.kills}" for m in mutants))
        return 0
    if not _healthy(mutants):
        return 1
    with ThreadPoolExecutor(chosen.jobs) as pool:
        verdicts = list(pool.map(_judge, mutants))
    return _summary(mutants, verdicts)


def _healthy(mutants: list[Mutant]) -> bool:
    """Whether all the named tests exist and pass as they are."""
    tests = sorted({m.kills for m in mutants})
    if not tests:
        print("There is no such mutant.")
        return False
    print(f"The {len(tests)} tests without any bug …", flush=True)
    command = [*(part for part in _PYTEST if part != "-x"), *tests]
    return subprocess.run(command, check=False).returncode == pytest.ExitCode.OK


def _judge(mutant: Mutant) -> str:
    """`killed`, or what is wrong."""
    command = [*_PYTEST, "--mutant", mutant.name, mutant.kills]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode == pytest.ExitCode.TESTS_FAILED:
        verdict = "killed"
    elif done.returncode == pytest.ExitCode.OK:
        verdict = "SURVIVED: the test passes with the bug put back"
    else:
        verdict = f"BROKEN: pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    print(f"{mutant.name:45} {verdict}", flush=True)
    return verdict


def _summary(mutants: list[Mutant], verdicts: list[str]) -> int:
    seen = verdicts.count("killed")
    traps = sorted({m.trap for m in mutants if m.trap})
    print(f"{seen} of {len(mutants)} mutants killed. Traps: {', '.join(map(str, traps)) or 'none'}.")
    return 0 if seen == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())

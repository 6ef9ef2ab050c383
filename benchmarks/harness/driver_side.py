"""The driver's end of the line protocol: workers are started one after the other, and only one works at a
time. See worker_side.py for the lines."""

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .worker_side import Spec

__all__ = ["PEERS", "Failed", "Worker", "python_of"]

HERE = Path(__file__).resolve().parent.parent
PEERS = HERE / "peers" / ".venv"
READY = 1200.0
"""Seconds until the first steps must be done; compiling takes some."""


FOLDERS = re.compile(r"(?<![\w/])/(?:[\w.+-]+/)+")
"""Where files lie on this machine is nobody's business."""


class Failed(Exception):
    """A contestant could not be started, or ended before it was told to."""


def python_of(environment: str) -> Path:
    """The interpreter of `telos`, which is this one, or of `peers`.

    Raises:
        Failed: the peers' environment is not there.
    """
    if environment == "telos":
        return Path(sys.executable)
    python = PEERS / "bin" / "python"
    if not python.exists():
        raise Failed("the peers' environment is not there: python benchmarks/peers/install.py")
    return python


class Worker:
    """A contestant's process."""

    def __init__(
        self, spec: Spec, environment: str, log: Path, more: Mapping[str, str] | None = None
    ) -> None:
        """`more` goes into its environment."""
        spec = replace(spec, spawned=time.time())
        self._log = log
        command = [str(python_of(environment)), str(HERE / "worker.py"), json.dumps(asdict(spec))]
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=_environment(spec) | (more or {}),
            )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.ready: Mapping[str, Any] = self._answer(READY)["ready"]
        except BaseException:
            self.stop()
            raise

    def window(self, seconds: float) -> dict[str, Any]:
        """Let it work for about so many seconds.

        Raises:
            Failed: it ended, or was not done in many times that.
        """
        assert self._process.stdin is not None
        try:
            print(f"go {seconds}", file=self._process.stdin, flush=True)
        except OSError:
            raise Failed(self._last_words()) from None
        return self._answer(10 * seconds + 600)

    def course(self, seconds: float) -> Iterator[dict[str, Any]]:
        """What it says until its time is over, each within so many seconds; the last one has `end`.

        Raises:
            Failed: it ended before, or was silent for longer.
        """
        while "end" not in (answer := self._answer(seconds)):
            yield answer
        yield answer

    def stop(self) -> None:
        """End it, kindly or not."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise Failed(f"no answer in {seconds:.0f} s") from None
        if not line:
            raise Failed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        """The end of what it wrote to standard error: the exception, as a rule."""
        said = [line for line in self._log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
        return (
            FOLDERS.sub("", said[-1].strip())[-600:] if said else f"ended with status {self._process.poll()}"
        )


def _environment(spec: Spec) -> dict[str, str]:
    """Offline, on the torch backend of Keras, and with so many threads if that is asked for."""
    more = {"HF_HUB_OFFLINE": "1", "KERAS_BACKEND": "torch", "TOKENIZERS_PARALLELISM": "false"}
    if spec.threads:
        more["OMP_NUM_THREADS"] = str(spec.threads)
    return os.environ | more

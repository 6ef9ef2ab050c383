"""Start-up: seconds from the start of a program to its first training step, on data that is prepared.

    settings    of: "telos", the command `telos train`; or a spec of another contestant, as a table

A unit is one start, in a new process.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.worker_side import Session, Spec


def run(spec: Spec, session: Session) -> None:
    """Start it again and again until the process is ended."""
    while True:
        if spec.settings["of"] == "telos":
            _telos(spec)
        else:
            _other(spec, spec.settings["of"])
        session.tick(1)


def _telos(spec: Spec) -> None:
    """Until the line of the first step is shown, without compiling."""
    root, corpus = Path(spec.corpus["root"]), spec.corpus
    shutil.rmtree(root / "startup", ignore_errors=True)
    own = ["name=startup", f"train.batch={spec.batch}", "train.compute.compile=false"]
    changes = [*corpus["overrides"], *own]
    words = [sys.executable, "-m", "telos", "train", corpus["recipe"], *changes, "--runs", str(root)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("step "):
            break
    else:
        raise SystemExit("telos train ended before its first step: " + "".join(said[-3:]))
    process.kill()
    process.wait()


def _other(spec: Spec, of: Any) -> None:
    """Until the contestant says that it is ready, which with one step of warming is after its first."""
    told = {**of, "shape": spec.shape, "corpus": spec.corpus, "batch": spec.batch, "warm": 1}
    told |= {"threads": spec.threads, "spawned": time.time()}
    worker = Path(__file__).resolve().parent.parent / "worker.py"
    process = subprocess.Popen(
        [sys.executable, str(worker), json.dumps(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit("the contestant ended before its first step")
    process.communicate()

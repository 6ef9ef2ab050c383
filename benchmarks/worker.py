"""One contestant as a process of its own, started by the other programs here; see harness/worker_side.py.

python benchmarks/worker.py '{"family": "decoders", …}'
"""

import importlib
import json
import sys

from harness.course import Course
from harness.worker_side import Session, Spec, channel


def main() -> None:
    """Run the contestant that the argument describes."""
    spec = Spec(**json.loads(sys.argv[1]))
    session = (Course if spec.course else Session)(spec, *channel())
    if spec.threads:
        import torch

        torch.set_num_threads(spec.threads)
    importlib.import_module(f"contestants.{spec.family}").run(spec, session)


if __name__ == "__main__":
    main()

"""What is measured is a run that trained to its end."""

from telos.run import Run

__all__ = ["whole"]


def whole(run: Run) -> Run:
    """The run, if it is whole. One that a signal stopped is saved, to be gone on with, and is no result: the
    program ends as the run did."""
    if run.outcome and run.outcome.reason == "signal":
        raise SystemExit(run.outcome.exit_status)
    return run

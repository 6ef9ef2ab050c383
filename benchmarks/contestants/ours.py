"""Telos as a user gets it: `telos.run.fit` by a recipe, with its loader, precision, optimizer and log.

Nothing of it is rebuilt here; after each step the trainer is asked how far it is.

    settings    overrides: dotted settings laid over the work's
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from harness.worker_side import Session, Spec

from telos import run as telos_run
from telos.recipe import Recipe
from telos.train.display import Display
from telos.train.loop import Trainer

UNENDING = (
    "train.budget={minutes = 100000.0}",
    "train.schedule={kind = 'constant', warmup = 0.0}",
    "train.watch={evaluate_every = 0, checkpoint_every = 0}",
)
"""The run ends when the driver says so, and holds the rate meanwhile, as all contestants do."""


def run(spec: Spec, session: Session) -> None:
    """Train until the process is ended."""
    recipe = described(spec)
    shutil.rmtree(Path(spec.corpus["root"]) / recipe.name, ignore_errors=True)
    with patch.object(telos_run, "Trainer", _watched(session)):
        telos_run.fit(recipe, spec.corpus["root"], device="cpu", display=_Shown())


def described(spec: Spec) -> Recipe:
    """The work's recipe at this batch, with the contestant's own settings."""
    own = spec.settings.get("overrides", ())
    name = "-".join(("throughput", spec.settings["work"], spec.settings["name"]))
    named = [f"name={name}", f"train.batch={spec.batch}", "train.compute.micro_batch=0"]
    given = [*spec.corpus["overrides"], *named, *UNENDING, *own]
    return telos_run.load_recipe(spec.corpus["recipe"], given)


def _watched(session: Session) -> type[Trainer]:
    """The trainer, which reports after each step."""

    class Watched(Trainer):
        def __init__(self, **parts: Any) -> None:
            super().__init__(**parts)
            network = self.models["main"]
            session.noted["parameters"] = sum(p.numel() for p in network.parameters())
            session.noted["settings"] = {
                "precision": self.state.precision,
                "optimizer": self.settings.optimizer.table(),
                "compute": self.settings.compute.table(),
            }
            self.periodic.append((1, _reporter(session)))

    return Watched


def _reporter(session: Session) -> Callable[[Trainer], None]:
    before = 0

    def report(trainer: Trainer) -> None:
        nonlocal before
        done = trainer.state.counters.tokens - before
        before = trainer.state.counters.tokens
        shown = trainer.display
        assert isinstance(shown, _Shown)
        session.tick(done, lambda: shown.loss)

    return report


class _Shown(Display):
    """Keeps the loss that is shown."""

    loss: float | None = None

    def show(self, *, step: int, share: float, loss: float | None, speed: float, left: float | None) -> None:
        if loss is not None:
            self.loss = loss

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass

"""Telos as a user gets it: `telos.run.fit` by a recipe, with its loader, precision, optimizer and log.

Nothing of it is rebuilt here; after each step the trainer is asked how far it is.

    settings    overrides: dotted settings laid over the work's
                recipe: by which, if not the work's
                whole: held-out text is scored as `telos evaluate` does, on all of validation and test
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from harness.course import Course
from harness.held_out import scored
from harness.worker_side import Held, Session, Spec
from torch import Tensor

from telos import run as telos_run
from telos import switches
from telos.batch import Rows
from telos.data.shards import Shards
from telos.evaluate.likelihood import score
from telos.models._base import Network
from telos.recipe import Recipe
from telos.tokenizer import Tokenizer
from telos.train.average import OWN
from telos.train.display import Display
from telos.train.loop import Outcome, Trainer

UNENDING = (
    "train.budget={minutes = 100000.0}",
    "train.schedule={kind = 'constant', warmup = 0.0}",
    "train.watch={evaluate_every = 0, checkpoint_every = 0}",
)
"""The run ends when the driver says so, and holds the rate meanwhile, as all contestants do."""


def run(spec: Spec, session: Session) -> None:
    """Train until the process is ended."""
    switches.turn_off(spec.settings.get("without", ""))
    recipe = described(spec)
    shutil.rmtree(Path(spec.corpus["root"]) / recipe.name, ignore_errors=True)
    with patch.object(telos_run, "Trainer", _watched(session, recipe)):
        telos_run.fit(recipe, spec.corpus["root"], device="cpu", display=_Shown())


def described(spec: Spec) -> Recipe:
    """The work's recipe at this batch, with the contestant's own settings."""
    own = spec.settings.get("overrides", ())
    name = "-".join(("throughput", spec.settings["work"], spec.settings["name"]))
    named = [f"name={name}", f"train.batch={spec.batch}", "train.compute.micro_batch=0"]
    given = [*spec.corpus["overrides"], *named, *UNENDING, *own]
    if spec.course:
        given = [*spec.corpus["overrides"], *_planned(spec, name), *own]
    return telos_run.load_recipe(spec.settings.get("recipe") or spec.corpus["recipe"], given)


def _planned(spec: Spec, name: str) -> list[str]:
    """For a stretch of time, which the recipe's own schedule goes by; rate and batch only where they are
    chosen."""
    given = [f"name={name}-{spec.seed}", f"seed={spec.seed}"]
    given += [f"train.budget={{minutes={spec.course['minutes']}}}", UNENDING[-1]]
    if spec.batch:
        given.append(f"train.batch={spec.batch}")
    if spec.course["rate"]:
        given.append(f"train.optimizer.rate={spec.course['rate']}")
    return given


def _watched(session: Session, recipe: Recipe) -> type[Trainer]:
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
            session.noted["recipe"] = recipe.table()["train"] | {"model": recipe.model.table()}
            self.periodic.append((1, _reporter(session)))
            if session.spec.course:
                session.scores(**_scorers(self, session.spec, recipe))

        def make_room(self) -> int:
            session.begin()
            return super().make_room()

        def run(self) -> Outcome:
            outcome = super().run()
            if isinstance(session, Course):
                assert isinstance(self.display, _Shown)
                session.close(self.display.loss)
            return outcome

    return Watched


def _scorers(trainer: Trainer, spec: Spec, recipe: Recipe) -> dict[str, Callable[[], Held]]:
    """Of the network that the run would be used by: its average, where it has one."""
    network: Network = trainer.models.get(OWN, trainer.models["main"])
    if not spec.settings.get("whole"):
        return {"validation": lambda: _in_windows(network, spec)}
    tokenizer = Tokenizer.load(Path(spec.corpus["tokenizer"]))

    def whole(split: str) -> Held:
        shards = Shards(Path(spec.corpus["folder"]) / split)
        window, gives = recipe.train.window, recipe.model.gives
        found = score(
            network, recipe.objective, shards, tokenizer, recipe.evaluate, window=window, gives=gives
        )
        return Held(nats=found.nats, asked=found.tokens, bytes=found.bytes)

    return {split: partial(whole, split) for split in ("validation", "test")}


def _in_windows(network: Network, spec: Spec) -> Held:
    def logits(ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1]).expand_as(ids)
        rows = Rows(
            ids=ids,
            positions=places,
            segment=torch.zeros_like(ids),
            order=places,
            seen=torch.ones_like(ids, dtype=torch.bool),
        )
        return network.logits(network.encode(rows)[0])

    with network.at_rest():
        return scored(spec.corpus, logits)


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

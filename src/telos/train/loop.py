"""The loop. It knows no objective and no model by name: batches go in, sums come out, and are divided once.

    loss = Σ over terms   coefficient · Σ over micro-batches of the term's sum / the term's denominator

The denominators come from the weight asked in the whole step, so a step does not depend on how it is cut into
micro-batches. Before each micro-batch the generators are seeded from (seed, step, micro-batch): dropout is a
function of the place in the run, and no generator's state has to be saved.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from telos.batch import Batch, Place
from telos.data.loader import LoaderPlan, Step, dead_worker, steps
from telos.data.order import mixed
from telos.errors import CheckpointError, TrainingError
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.optim._groups import parameter_groups
from telos.optim._schedule import rate_at
from telos.train import checkpoint, compiled, room, trial
from telos.train.average import OWN, averaged, follow, kept
from telos.train.defaults import inner_parameters, settled
from telos.train.display import Display, Quiet
from telos.train.log import Log
from telos.train.precision import autocast, resolved
from telos.train.settings import TrainSettings
from telos.train.signals import Interrupted, Signals
from telos.train.state import (
    Best,
    Mark,
    RunState,
    detached,
    flattened,
    optimizer_state,
    parameters,
    restore_optimizer,
    unflattened,
)
from telos.train.sums import owner, places, total

__all__ = ["Outcome", "Trainer"]

AVERAGE = 0.999
"""What a partner with the role `averaged` keeps of itself in each step (Tarvainen and Valpola, 2017)."""

Validate = Callable[[Network], Mapping[str, float]]
"""Scores a network on the validation split; `loss` is what the best checkpoint is chosen by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt at training ended."""

    reason: Literal["budget", "signal"]
    """The budget is used up, or a signal asked for a stop: the run can be gone on with."""
    step: int
    signal: int = 0

    @property
    def exit_status(self) -> int:
        """What the process answers: 0, or 128 + the signal as in shells (SIGINT 130, SIGTERM 143)."""
        return 128 + self.signal if self.signal else 0


class Trainer:
    """One run's training.

    Args:
        models: The network under the name `main`, and the objective's partners under theirs, all on one
            device.
        objective: What is asked; also makes the batches, through `plan`.
        plan: Where batches come from.
        settings: Everything else.
        folder: Where checkpoints go (`runs/NAME/checkpoints`), or `None` for no checkpoints.
        validate: Scores the network on the validation split.
        log: Where figures go.
        display: Who watches.
    """

    def __init__(
        self,
        *,
        models: Mapping[str, nn.Module],
        objective: Objective,
        plan: LoaderPlan,
        settings: TrainSettings,
        folder: Path | None = None,
        validate: Validate | None = None,
        log: Log | None = None,
        display: Display | None = None,
    ) -> None:
        self.models: dict[str, Any] = dict(models)
        self.objective = objective
        self.plan = plan
        self.settings = settings
        self.folder = folder
        self.validate = validate
        self.log = log
        self.display = display or Quiet()
        self.roles = {"main": "trained"} | {name: p.role for name, p in objective.partners().items()}
        self.settled = settled(settings, plan, inner_parameters(self.models["main"]))
        if self.settled.average:
            self.models[OWN], self.roles[OWN] = averaged(self.models["main"]), "averaged"
        assert self.roles.keys() == self.models.keys(), (self.roles.keys(), self.models.keys())
        self._ready_models()
        for model in self.trained().values():
            network: Any = checkpoint.bare(model)
            network.recompute = settings.compute.recompute
        self.device = next(self.models["main"].parameters()).device
        self.optimizer = settings.optimizer.build(parameter_groups(self.trained(), self.settled.decay))
        precision = resolved(settings.compute.precision, self.device)
        self.state = RunState(precision=precision, batch=plan.batch, passes=plan.passes)
        self.periodic: list[tuple[int, Callable[[Trainer], None]]] = []
        """More to do now and then: (every so many steps, what), in order, after evaluation and checkpoint."""
        self._carried: dict[int, Any] = {}
        self._room: room.Room | None = None
        self._sped = False
        self._saved = -1
        self._norm = 0.0
        self._noted: dict[str, Tensor] = {}
        self._signals = Signals()
        self._start = self._since = self._mark()

    def resume(self) -> int:
        """Go on from the newest whole checkpoint, if there is one; returns the step that the run stands at.

        Raises:
            CheckpointError: the checkpoint belongs to another model or to a later version of Telos.
        """
        path = checkpoint.newest_valid(self.folder) if self.folder else None
        if path is None:
            return 0
        self.load(checkpoint.load(path))
        self._saved = self.state.step
        return self.state.step

    def load(self, saved: checkpoint.Checkpoint) -> None:
        """Take over everything that a checkpoint holds.

        Raises:
            CheckpointError: it belongs to another model, or does not hold the state of a run.
        """
        for name, model in self.models.items():
            begins = name == OWN and OWN not in saved.tensors  # an average, with the weights as they are
            checkpoint.restore(model, saved.tensors.get("model" if begins else _file(name), {}), name)
        try:
            self._load_state(saved)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
            raise CheckpointError(
                f"{saved.path}: state.json does not say where a run stands: {error!r}"
            ) from None

    def _load_state(self, saved: checkpoint.Checkpoint) -> None:
        names = parameters(self.trained())
        restore_optimizer(self.optimizer, names, saved.tensors["optimizer"], saved.state["optimizer"])
        self.state = RunState.of(saved.state["run"])
        self.plan = self.state.as_begun(self.plan)
        carried, tensors = saved.state["carried"], saved.tensors["carried"]
        self._carried = {int(k): unflattened(s, tensors, self.device) for k, s in carried.items()}

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one.

        Raises:
            CheckpointError: the disk is full, or the weights are not finite.
        """
        if self.folder is None or self._saved == self.state.step:
            return
        tensors, plain = optimizer_state(self.optimizer, parameters(self.trained()))
        files = {_file(name): checkpoint.weights(model) for name, model in self.models.items()}
        carried = {micro: flattened(state, str(micro)) for micro, state in self._carried.items()}
        files["optimizer"] = tensors
        files["carried"] = {name: tensor for _, found in carried.values() for name, tensor in found.items()}
        state = {
            "run": self.state.table(),
            "optimizer": plain,
            "carried": {str(micro): skeleton for micro, (skeleton, _) in carried.items()},
        }
        checkpoint.save(self.folder, self.state.step, files, state)
        self._saved = self.state.step
        if self.state.best is not None and self.state.best.step == self.state.step:
            checkpoint.set_best(self.folder, self.state.step, self.state.best.loss)
        checkpoint.retain(self.folder, self.settings.watch.keep)

    def make_room(self) -> int:
        """The rows that go through the model at once, 0 for all of a step's. Settled before the first step:
        where the settings leave it open, as many as fit in memory; and kept when the run is gone on with.

        Raises:
            TrainingError: the machine is too small for the model.
            DataError: there is nothing to train on.
        """
        if self._room is None:
            self._room = room.of(self, self.trained())
            wanted = self.settings.compute.micro_batch
            rows = self.state.micro_batch if wanted == "auto" else wanted
            self.state.micro_batch = rows = room.settle(self._room, rows, self.display.say)
            self.plan = replace(self.plan, micro_batch=rows)
        return self.plan.micro_batch

    def trial(self, batch: Batch) -> int:
        """The most bytes that the passes of a batch hold at a time; nothing of the run changes."""
        with self.rehearsed(batch) as passes:
            return trial.most_held(passes, self.device)

    @contextmanager
    def rehearsed(self, batch: Batch) -> Iterator[Callable[[], tuple[dict[str, float], bool]]]:
        """The passes of a batch, forward and backward: what they give the sum of each term, and whether all
        are finite. Gradients are there until the end; nothing of the run changes."""
        carried, self._carried = self._carried, {}
        step = Step(batches=(batch,), place=Place(), epoch=0, share=0.0)
        try:
            with trial.undisturbed(self.models.values(), self.device):
                yield partial(self._gradients, step, batch.asked)
        finally:
            self._carried = carried

    def speed_up(self) -> bool:
        """Whether blocks are compiled: settled before the first step, and kept from then on."""
        if not self._sped:
            self._sped, self.state.compiled = True, compiled.settle(self, self.display.say)
        return bool(self.state.compiled)

    def run(self) -> Outcome:
        """Train until the budget is used up or a signal asks for a stop; either way the run is saved.

        Raises:
            TrainingError: too many non-finite steps in a row, a loader worker died, or memory ran out.
            CheckpointError: a checkpoint cannot be written.
            DataError: there is nothing to train on.
        """
        with Signals() as self._signals:
            if self.log:
                self.log.start(self.state.step)
            try:
                if not self.finished:
                    self.make_room()
                    self.speed_up()
                self._loop()
                if not self._signals.received:
                    self._evaluate()
            except Interrupted:
                pass
            except RuntimeError as error:
                full = room.ran_out(error, self._room, self.plan.micro_batch)
                raise dead_worker(error) or full or error from None
            finally:
                self.display.close()
                if self.log:
                    self.log.close()
            self.save()
        received = self._signals.received
        reason: Literal["signal", "budget"] = "signal" if received else "budget"
        return Outcome(reason=reason, step=self.state.step, signal=received)

    def _loop(self) -> None:
        self._start = self._since = self._mark()
        if self._due(
            self.settings.watch.evaluate_every
        ):  # a stop during that step's evaluation left it undone
            self._evaluate()
        with closing(steps(self.plan, self.state.place)) as source:
            while self._share() < 1 and not self._signals.received:
                start = time.perf_counter()
                with self._signals.at_once():
                    step = next(source)
                self.take(step)
                self.state.seconds += time.perf_counter() - start
                self._now_and_then()

    def take(self, step: Step) -> None:
        """One step: forward, backward, clip, update, count.

        Raises:
            TrainingError: this was one non-finite step in a row too many.
        """
        asked = total(batch.asked for batch in step.batches)
        self._set_rate()
        sums, finite = self._gradients(step, asked)
        self._norm = norm = self._clip() if any(asked.values()) else 0.0
        good = finite and math.isfinite(norm)
        if good and any(asked.values()):
            self.optimizer.step()
        else:
            self.state.counters.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        self._count(good)
        if good and any(asked.values()):
            self._move_averages()
        if good:
            self._tally(sums, asked)
        self._advance(step, asked, good)

    def _count(self, good: bool) -> None:
        """Let what is learned by counting move, and keep what is to be logged of it."""
        for name, model in self.trained().items():
            network: Any = checkpoint.bare(model)
            front = "" if name == "main" else f"{name}."
            self._noted |= {front + what: value for what, value in network.stepped(good).items()}

    def _gradients(self, step: Step, asked: Mapping[str, float]) -> tuple[dict[str, float], bool]:
        """Add up the gradients of the micro-batches; the sum
        of each term, and whether all of them are finite.
        """
        denominators = self.objective.denominators(asked)
        collected: dict[str, list[Tensor]] = defaultdict(list)
        seed = mixed(self.plan.seed, self.state.step)
        for micro, batch in enumerate(step.batches):
            torch.manual_seed(mixed(seed, micro))
            with autocast(self.state.precision, self.device):
                answer = self.objective.step(
                    self.models, batch.to(self.device), self._carried.get(micro), seed
                )
            if self.plan.settings.carry:
                self._carried[micro] = detached(answer.state)
            for term, value in answer.sums.items():
                collected[term].append(value.detach())
            loss = self._loss(answer.sums, denominators)
            if loss is not None and loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        sums = {term: math.fsum(torch.stack(values).tolist()) for term, values in collected.items()}
        return sums, all(math.isfinite(value) for value in sums.values())

    def _loss(self, sums: Mapping[str, Tensor], denominators: Mapping[str, float]) -> Tensor | None:
        """What is minimised: each term by its coefficient over the whole step's denominator."""
        parts = []
        for term, value in sums.items():
            asked = owner(term, denominators)
            if denominators[asked] > 0:  # nothing asked is nothing to learn, not 0 / 0
                parts.append(value * (self.objective.coefficient(asked) / denominators[asked]))
        return torch.stack(parts).sum() if parts else None

    def _clip(self) -> float:
        """Shorten the gradient to the norm asked for; returns its norm before, computed in float32."""
        gradients = [p.grad for g in self.optimizer.param_groups for p in g["params"] if p.grad is not None]
        if not gradients:
            return 0.0
        exact = torch.promote_types(gradients[0].dtype, torch.float32)
        norms = torch._foreach_norm(gradients, 2, dtype=exact)
        norm = float(torch.linalg.vector_norm(torch.stack(norms)))
        limit = self.settings.compute.clip
        if limit and limit < norm < math.inf:
            torch._foreach_mul_(gradients, limit / norm)
        return norm

    def _set_rate(self) -> float:
        """The learning rate of the step that is about to be taken, in every group its share of it."""
        rate = self.settled.rate * rate_at(self.settings.schedule, self.state.step, self._share())
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        return rate

    def _tally(self, sums: Mapping[str, float], asked: Mapping[str, float]) -> None:
        """Add a step's sums to what the next line of the log will show."""
        for counted, values in ((self.state.tally, sums), (self.state.asked, asked)):
            for term, value in values.items():
                counted[term] = counted.get(term, 0.0) + value

    def _advance(self, step: Step, asked: Mapping[str, float], good: bool) -> None:
        """Count the step, whether it changed anything or not: the run's place never stands still."""
        state, counters = self.state, self.state.counters
        state.step += 1
        state.place, state.epochs = step.place, step.epoch + step.share
        rows = [row for batch in step.batches for row in batch.samples]
        counters.rows += sum(1 for row in rows if row)
        counters.samples += sum(len(row) for row in rows)
        counters.tokens += sum(places(batch) for batch in step.batches)
        counters.asked += math.fsum(asked.values())
        state.bad_in_a_row = 0 if good else state.bad_in_a_row + 1
        if not good:
            self._carried = {}  # what comes out of a broken step would break all that follow
        if state.bad_in_a_row >= self.settings.watch.stop_after_bad:
            raise TrainingError(
                f"Loss or gradient was not finite {state.bad_in_a_row} steps in a row, up to {state.step}; "
                "nothing of it reached the weights. Lower train.optimizer.rate or train.compute.clip, "
                'raise train.schedule.warmup, or set train.compute.precision = "float32"; then start again.'
            )

    def _now_and_then(self) -> None:
        """After each step: log, evaluate, save, and whatever else is due."""
        watch = self.settings.watch
        self._show()
        if self._due(watch.log_every):
            self._write_log()
        if self._due(watch.evaluate_every):
            self._evaluate()
        if self._due(watch.checkpoint_every):
            self.save()
        for every, act in self.periodic:
            if self._due(every):
                act(self)

    def _due(self, every: int) -> bool:
        return every > 0 and self.state.step > 0 and self.state.step % every == 0

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self._share() >= 1

    def _share(self) -> float:
        """How much of the budget is used: 1 or more at the end."""
        state = self.state
        return self.settings.budget.share(
            steps=state.step, epochs=state.epochs, tokens=state.counters.tokens, minutes=state.seconds / 60
        )

    def _mark(self) -> Mark:
        return Mark(self.state.counters.tokens, self.state.seconds, self._share())

    def _losses(self) -> dict[str, float]:
        """Since the last line: mean loss per term; `loss`, which is their weighted sum by the denominators of
        training, without auxiliary terms; and where several terms were asked, their shares of that."""
        sums, asked = self.state.tally, self.state.asked
        apart, together = self.objective.logged(asked), self.objective.denominators(asked)
        means = {term: sums[term] / n for term in sums if (n := apart[owner(term, apart)])}
        main = [term for term in means if "." not in term or term.rpartition(".")[0] not in means]
        parts = [self.objective.coefficient(t) * sums[t] / together[owner(t, together)] for t in main]
        whole = math.fsum(asked.values())
        shares = {f"share.{term}": weight / whole for term, weight in asked.items() if len(asked) > 1}
        loss = math.fsum(parts) if means else math.nan
        return {"loss": loss} | {f"loss.{term}": mean for term, mean in means.items()} | shares

    def _show(self) -> None:
        share, now = self._share(), self._mark()
        used = share - self._start.share
        left = (now.seconds - self._start.seconds) / used * max(1 - share, 0.0) if used > 0 else None
        loss = self._losses()["loss"] if self.state.tally else None
        speed = now.speed_since(self._since)
        self.display.show(step=self.state.step, share=share, loss=loss, speed=speed, left=left)

    def _write_log(self) -> None:
        now, state = self._mark(), self.state
        values: dict[str, Any] = {
            **self._losses(),
            **asdict(state.counters),
            "epochs": state.epochs,
            "rate": max(group["lr"] for group in self.optimizer.param_groups),
            "norm": self._norm,
            **{name: float(value) for name, value in self._noted.items()},
            "seconds": state.seconds,
            "tokens_per_second": now.speed_since(self._since),
        }
        state.tally, state.asked = {}, {}
        self._since = now
        if self.log:
            self.log.write(state.step, values)

    def _evaluate(self) -> None:
        """Validate, unless this step has been; a signal breaks it off. The best so far is saved at once."""
        if self.validate is None or self.state.evaluated == self.state.step:
            return
        with self._signals.at_once():
            figures = dict(self.validate(self.models.get(OWN, self.models["main"])))
        self._ready_models()
        self.state.evaluated = self.state.step
        self._saved = -1  # what is saved of this step does not know of its evaluation
        if self.log:
            self.log.write(self.state.step, {f"validation.{name}": value for name, value in figures.items()})
        loss = figures["loss"]
        self.display.say(f"step {self.state.step}: validation loss {loss:.4f}")
        if math.isfinite(loss) and (self.state.best is None or loss < self.state.best.loss):
            self.state.best = Best(self.state.step, loss)
            self.save()

    def trained(self) -> dict[str, Any]:
        """The models that gradients reach, by name."""
        return {name: model for name, model in self.models.items() if self.roles[name] == "trained"}

    def _ready_models(self) -> None:
        """Trained models in training mode; the others at rest, without gradients."""
        for name, model in self.models.items():
            trained = self.roles[name] == "trained"
            model.train(trained)
            if not trained:
                model.requires_grad_(False)

    def _move_averages(self) -> None:
        """What has the role `averaged` follows the main model: partners, and the run's own average."""
        updates = self.state.step + 1 - self.state.counters.skipped
        for name, role in self.roles.items():
            if role == "averaged":
                keep = kept(self.settled.average, updates) if name == OWN else AVERAGE
                follow(self.models[name], self.models["main"], keep)


def _file(model: str) -> str:
    return {"main": "model", OWN: OWN}.get(model, f"partner-{model}")

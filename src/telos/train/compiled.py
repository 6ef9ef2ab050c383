"""Blocks in their compiled form (`torch.compile`), where that wins: settled once, checked, and kept.

Regions are compiled and not the whole model: `Network.through` calls every block in its compiled form while a
network trains. Blocks with equal code share one form, whatever their weights and the rows that they get, so
little is compiled; evaluation and generation stay as they are written; and modules keep their names.

Random numbers are drawn by the same operations either way, so dropout stays a function of the place in the
run. Before the first step loss and gradients are compared with those of the code as it is written; where they
differ by more than rounding, or nothing can be compiled, the run goes on without, and says so.
"""

import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from telos.batch import Batch
from telos.train.checkpoint import bare
from telos.train.defaults import SPEED, tokens
from telos.train.precision import Precision
from telos.train.room import out_of_memory
from telos.train.trial import template, widened

if TYPE_CHECKING:
    from telos.train.loop import Trainer

__all__ = ["Blocks", "Work", "compiler", "settle", "worth", "wrong"]

BACKEND = "inductor"
"""Of `torch.compile`."""
FORMS = 64
"""Forms of blocks that a run may have: by kind of block, by what may be seen, by precision."""
ROUNDING: dict[Precision, float] = {"float32": 1e-3, "bfloat16": 0.06}
"""How far a gradient may be from the other's, as a share of its norm. Seen were 1e-5 and 0.02."""
SLIGHT = 1e-3
"""Share of the norm of all gradients below which one is rounding and nothing else."""


class Blocks:
    """Calls blocks in their compiled form: `self(block, *given)` is `block(*given)`.

    One form serves all numbers of rows and places but 1, which would need another: where several `rows` are
    usual, a single one goes through the block as it is written. So do rows whose attention is in parts
    (`models/_parts.py`): these are others in every step, and save more than compiling does.
    """

    refused: str = ""
    """Why a block could not be compiled. From then on all of them run as they are written."""
    say: Callable[[str], None] | None = None

    def __init__(self, rows: int) -> None:
        self._several = rows > 1
        self._call = _compile(_called)

    def __call__(self, block: Callable[..., Any], *given: Any) -> Any:
        single = self._several and 1 in next(x for x in given if isinstance(x, Tensor)).shape[:2]
        if self.refused or single or any(getattr(part, "parts", None) for part in given):
            return block(*given)
        try:
            return self._call(block, *given)
        except _refusals() as error:
            self.refused = _told(error)
            if self.say is not None:
                self.say(f"Warning: blocks run as they are written from here on: {self.refused}")
            return block(*given)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` in its compiled form, in one piece, for all sizes."""
    make: Any = torch.compile
    options = {"fallback_random": True} if BACKEND == "inductor" else None
    newer = {"recompile_limit": FORMS, "isolate_recompiles": True}
    known = {name: value for name, value in newer.items() if name in signature(make).parameters}
    made: Callable[..., Any] = make(
        function, backend=BACKEND, fullgraph=True, dynamic=True, options=options, **known
    )
    return made


def _called(block: Callable[..., Any], *given: Any) -> Any:
    return block(*given)


@cache
def _refusals() -> tuple[type[BaseException], ...]:
    """What is raised where something cannot be compiled."""
    from torch._dynamo import exc

    return exc.TorchDynamoException, exc.FailOnRecompileLimitHit


# ---- whether it pays


class Work(NamedTuple):
    """What is known of a run's length before it begins."""

    device: str
    """Kind of device: `cpu`, `cuda`, …"""
    operations: float
    """Floating-point operations of the whole run; infinite where its budget does not say."""
    minutes: float
    """Minutes of the budget; infinite where it has none."""


class Costs(NamedTuple):
    """What compiling costs on a kind of device, and what it brings."""

    rate: float
    """Operations per second that small models train at."""
    saved: float
    """Share of the time that compiled blocks save."""
    seconds: float
    """Seconds that compiling takes, and the check."""


COSTS = {"cpu": Costs(SPEED["cpu"], 0.09, 60.0), "cuda": Costs(SPEED["cuda"], 0.2, 60.0)}
"""Measured on a CPU; of a GPU it is an estimate. No clock is asked: equal runs decide alike."""
MARGIN = 2.0
"""How many times what it costs it has to save."""


def worth(work: Work) -> tuple[bool, str]:
    """Whether compiling saves clearly more time than it takes, and why, as the end of a sentence."""
    costs = COSTS.get(work.device)
    if costs is None:
        return False, f"there is no experience with it on {work.device}"
    if sys.platform == "win32":
        return False, "on Windows it wants more than is usually there"
    seconds = min(60 * work.minutes, work.operations / costs.rate)
    enough = seconds * costs.saved > MARGIN * costs.seconds
    if enough and compiler() is None:
        return False, "there is no C++ compiler"
    much = "is long enough for it" if enough else "is too short to win back what it takes"
    return enough, f"about {_duration(seconds)} of training {much}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "endless hours"
    return f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{math.ceil(seconds / 60)} minutes"


def compiler() -> str | None:
    """The C++ compiler that compiled blocks are made with, where there is one."""
    from torch._inductor import config  # takes a second

    return next((found for name in config.cpp.cxx if name and (found := shutil.which(name.split()[0]))), None)


# ---- settled, and checked


def settle(trainer: "Trainer", say: Callable[[str], None]) -> bool:
    """Whether the blocks of what is trained are compiled; if so, from now on they are.

    What a run began with it keeps: whether it pays is asked before the first step alone. Blocks that cannot
    be compiled, or compute something else then, stay as they are written, and people are told.
    """
    trained = [_bare(model) for model in trainer.trained().values()]
    asked = trainer.settings.compute.compile
    wanted = trainer.state.compiled if asked == "auto" else asked
    if wanted is None:
        wanted = not trainer.state.step and _pays(trainer, trained, say)
    if not wanted:
        return False
    began = time.perf_counter()
    blocks = Blocks(rows(trainer))
    reason = _refused(trainer, trained, blocks)
    if reason:
        _use(trained, None)
        resumed = " The run does not go on to the bit as it began." if trainer.state.compiled else ""
        say(f"Warning: blocks are not compiled: {reason}. They run as they are written.{resumed}")
        return False
    took = time.perf_counter() - began
    say(f"Blocks are compiled, and compute the same as before up to rounding ({took:.0f} s).")
    blocks.say = say
    return True


def _bare(network: Any) -> Any:
    return bare(network)


def rows(trainer: "Trainer") -> int:
    """Rows that go through the model at once."""
    return trainer.plan.micro_batch or trainer.plan.batch


def _pays(trainer: "Trainer", trained: list[Any], say: Callable[[str], None]) -> bool:
    """Whether compiling pays; people are told why."""
    if not any(network.model.compiles for network in trained):
        return False
    enough, why = worth(work(trainer, trained))
    say(f"Blocks are {'' if enough else 'not '}compiled: {why} (train.compute.compile).")
    return enough


def work(trainer: "Trainer", trained: list[Any]) -> Work:
    """How long the run will be, as far as its budget says: by 6 operations per weight and token."""
    budget = trainer.settings.budget
    weights = sum(p.numel() for network in trained for p in network.parameters())
    operations = 6.0 * weights * tokens(budget, trainer.plan)
    return Work(trainer.device.type, operations, budget.minutes or math.inf)


def _refused(trainer: "Trainer", trained: list[Any], blocks: Blocks) -> str:
    """Why the blocks cannot be used in their compiled form; nothing if they can, and then they are."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's compiler has much to say of PyTorch
            for batch in _batches(trainer):
                _use(trained, None)
                plain = _learned(trainer, batch)
                _use(trained, blocks)
                found = wrong(_learned(trainer, batch), plain, trainer.state.precision)
                if blocks.refused or found:
                    return blocks.refused or found
    except Exception as error:
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise
        return _told(error)
    return ""


def _told(error: BaseException) -> str:
    """The beginning of what went wrong, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _use(trained: list[Any], blocks: Blocks | None) -> None:
    for network in trained:
        network.compiled = blocks if network.model.compiles else None


def _batches(trainer: "Trainer") -> Iterator[Batch]:
    """Rows that are as full as rows can be: as many as go through at once, and one fewer, which see what rows
    of one text see where that is another case. They are the same whenever the run goes on, so that the same
    code is made for them."""
    plan, few = trainer.plan, template(trainer.plan)
    full = rows(trainer)
    yield widened(few, full, plan)
    fewer = widened(few, max(full - 1, min(full, 2)), plan)
    alone = fewer.main.pattern in ("causal", "full") and fewer.source is None
    yield replace(fewer, main=replace(fewer.main, packed=False)) if alone else fewer


Learned = dict[str, Tensor]
"""Sums by term, and gradients by the names of their parameters."""


def _learned(trainer: "Trainer", batch: Batch) -> Learned:
    """What one pass forward and backward gives, with the random numbers of the run's place."""
    with trainer.rehearsed(batch) as passes:
        sums, _ = passes()
        found = {f"the loss {term}": torch.tensor(value) for term, value in sums.items()}
        for label, model in trainer.trained().items():
            named = bare(model).named_parameters()
            found |= {f"{label}.{name}": p.grad for name, p in named if p.grad is not None}
    return found


def wrong(ours: Learned, plain: Learned, precision: Precision) -> str:
    """What is further from the plain way than rounding explains, as part of a sentence; or nothing."""
    whole = math.hypot(*(float(value.norm()) for name, value in plain.items() if name[:3] != "the"))
    for name, value in plain.items():
        size = float(value.norm())
        apart = float((ours[name] - value).norm()) / max(size, SLIGHT * whole, 1e-30)
        if not apart <= ROUNDING[precision]:
            what = name if name[:3] == "the" else f"the gradient of {name}"
            return f"{what} comes out another ({apart:.1%} apart)"
    return ""

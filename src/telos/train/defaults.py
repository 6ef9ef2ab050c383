"""What follows from the budget where the recipe leaves it out.

Tokens in a step and the rate, for D tokens of training and N parameters between embedding and heads (Li et
al., 2025, "Predictable Scale: Part I"):

    tokens in a step    0.58 · D^0.571
    rate                1.79 · N^−0.713 · D^0.307, between 2e-4 and 4e-3

Where the budget is in minutes, D is what a device of its kind reads in them: operations per second that small
models train at (`SPEED`), by operations per token. No clock is asked, so equal runs decide alike; of what is
not known of a kind of device, 32 rows and 1e-3 are taken. And text read many times wants other settings:

    passes over the text    decay of matrices    average
    up to 8, or unknown     0.1                  none
    more                    1.0                  0.1

Read up to 4 times, text is nearly as good as new each time (Muennighoff et al., 2023); read more often,
it is learned by heart, and heavier decay helps (Kim et al., 2025), as does an average. A constant rate
always has an average: nothing else takes the noise of the last steps out of the weights (Hägele et al.,
2024). Our own sweeps are in benchmarks/README.md.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from telos.data.loader import LoaderPlan, steps_per_epoch
from telos.optim._base import RATE

if TYPE_CHECKING:
    from telos.train.settings import BudgetSettings, TrainSettings

__all__ = [
    "MANY",
    "ROWS",
    "SPEED",
    "Settled",
    "expected",
    "inner_parameters",
    "pace",
    "passes",
    "rate",
    "rows",
    "settled",
    "tokens",
]

SPEED = {"cpu": 1.5e11, "cuda": 2e13}
"""Operations per second that small models train at, by kind of device. Measured on a CPU; of a GPU it is an
estimate."""

ROWS = 32
"""In a step, where nothing says how many."""
STEP, STEP_POWER = 0.58, 0.571
LEAST_RATE, MOST_RATE = 2e-4, 4e-3
"""The law was found on models of 60 million parameters and more; smaller ones do not take what it gives."""
MANY = 8.0
"""Passes over the text above which it counts as read many times."""
FEW_DECAY, MANY_DECAY = 0.1, 1.0
AVERAGE = 0.1


class Settled(NamedTuple):
    """The settings that a run goes by."""

    rate: float
    """The peak of the learning rate."""
    decay: float
    """Of the optimizer, in units of the rate."""
    average: float
    """How far back the average of the weights stands, as a share of the steps; 0 for none."""


def pace(operations: float, device: str) -> float:
    """Tokens that a kind of device is expected to train on in a minute, at so many operations a token; 0
    where nothing is known of it."""
    return 60 * SPEED.get(device, 0.0) / operations


def expected(budget: "BudgetSettings", pace: float) -> "BudgetSettings":
    """The budget with its minutes as the tokens that they hold at that pace; as it is where that is 0."""
    if budget.minutes is None or not pace:
        return budget
    held = max(1, round(min(budget.minutes * pace, budget.tokens or math.inf)))
    return budget.model_copy(update={"tokens": held, "minutes": None})


def settled(settings: "TrainSettings", plan: LoaderPlan, parameters: int) -> Settled:
    """What the recipe says, and where it says nothing what suits its budget and the model, which has so many
    `parameters` between embedding and heads.

    Raises:
        DataError: the corpus is empty.
    """
    budget = expected(settings.budget, plan.pace)
    decay, average, peak = settings.optimizer.decay, settings.schedule.average, settings.optimizer.rate
    many = None in (decay, average) and passes(budget, plan) > MANY
    noisy = many or settings.schedule.kind == "constant"
    if peak is None:
        peak = rate(parameters, tokens(budget, plan)) if budget.minutes is None else RATE
    return Settled(
        rate=peak,
        decay=(MANY_DECAY if many else FEW_DECAY) if decay is None else decay,
        average=(AVERAGE if noisy else 0.0) if average is None else average,
    )


def rate(parameters: int, trained: float) -> float:
    """The peak rate for a model of so many parameters that is trained on so many tokens."""
    law = 1.79 * math.pow(max(parameters, 1), -0.713) * math.pow(trained, 0.307)
    return min(max(law, LEAST_RATE), MOST_RATE)


def rows(budget: "BudgetSettings", window: int, text: int) -> int:
    """Rows of `window` places in a step, for a text of so many tokens (0: not known)."""
    steps = budget.steps or 0  # of s tokens: s = 0.58 · (steps · s)^0.571
    limits = (
        budget.tokens or 0,
        (budget.epochs or 0.0) * text,
        steps * math.pow(STEP * math.pow(steps, STEP_POWER), 1 / (1 - STEP_POWER)),
    )
    trained = min(filter(None, limits), default=0)
    if budget.minutes is not None or not trained:
        return ROWS
    return max(1, round(STEP * math.pow(trained, STEP_POWER) / window))


def inner_parameters(network: nn.Module) -> int:
    """Trained numbers between embeddings and heads."""
    tables = {id(part.weight) for part in network.modules() if isinstance(part, nn.Embedding)}
    inner = ((n, p) for n, p in network.named_parameters() if id(p) not in tables)
    return sum(p.numel() for name, p in inner if ".heads." not in f".{name}")


def tokens(budget: "BudgetSettings", plan: LoaderPlan) -> float:
    """About how many tokens are trained on; infinite where no part of the budget but its minutes says it."""
    step = plan.batch * plan.window
    found = min(budget.tokens or math.inf, step * (budget.steps or math.inf))
    if budget.epochs is not None:
        found = min(found, budget.epochs * steps_per_epoch(plan) * step)
    return found


def passes(budget: "BudgetSettings", plan: LoaderPlan) -> float:
    """About how often the text is read; 0 where that is not known, since minutes do not say it."""
    if budget.minutes is not None:
        return 0.0
    return tokens(budget, plan) / (steps_per_epoch(plan) * plan.batch * plan.window)

"""What follows from the budget where the recipe leaves it out: text read many times wants other settings.

    passes over the text    decay of matrices    average
    up to 8, or unknown     0.1                  none
    more                    1.0                  0.1

Read up to 4 times, text is nearly as good as new each time (Muennighoff et al., 2023); read more often,
it is learned by heart, and heavier decay helps (Kim et al., 2025), as does an average. A constant rate
always has an average: nothing else takes the noise of the last steps out of the weights (Hägele et al.,
2024). Our own sweeps are in benchmarks/README.md.
"""

import math
from typing import NamedTuple

from telos.data.loader import LoaderPlan, steps_per_epoch
from telos.train.settings import BudgetSettings, TrainSettings

__all__ = ["MANY", "Settled", "passes", "settled"]

MANY = 8.0
"""Passes over the text above which it counts as read many times."""
FEW_DECAY, MANY_DECAY = 0.1, 1.0
AVERAGE = 0.1


class Settled(NamedTuple):
    """The settings that a run goes by."""

    decay: float
    """Of the optimizer, in units of the rate."""
    average: float
    """How far back the average of the weights stands, as a share of the steps; 0 for none."""


def settled(settings: TrainSettings, plan: LoaderPlan) -> Settled:
    """What the recipe says, and where it says nothing what suits its budget.

    Raises:
        DataError: the corpus is empty.
    """
    decay, average = settings.optimizer.decay, settings.schedule.average
    many = None in (decay, average) and passes(settings.budget, plan) > MANY
    noisy = many or settings.schedule.kind == "constant"
    return Settled(
        decay=(MANY_DECAY if many else FEW_DECAY) if decay is None else decay,
        average=(AVERAGE if noisy else 0.0) if average is None else average,
    )


def passes(budget: BudgetSettings, plan: LoaderPlan) -> float:
    """About how often the text is read; 0 where that is not known, since minutes do not say it."""
    if budget.minutes is not None:
        return 0.0
    found = math.inf if budget.epochs is None else budget.epochs
    if budget.steps is not None or budget.tokens is not None:
        steps = steps_per_epoch(plan)
        found = min(found, (budget.steps or math.inf) / steps)
        found = min(found, (budget.tokens or math.inf) / (steps * plan.batch * plan.window))
    return found

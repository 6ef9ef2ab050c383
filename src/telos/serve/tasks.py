"""What models do beside writing: adapters between the server and `telos.tasks`, and nothing else.

A run can translate where its objective reads pairs, and classify where it reads labels, if the file of
`telos.tasks` that does it is there.
"""

from collections.abc import Sequence
from typing import Any

from telos import tasks
from telos.find import load, names
from telos.opened import Run

__all__ = ["can_classify", "can_translate", "classified", "labels_of", "translated"]


def can_translate(run: Run) -> bool:
    """Whether it says a text in other words."""
    return "translation" in names(tasks) and "target" in run.recipe.objective.columns()


def can_classify(run: Run) -> bool:
    """Whether it says which of some labels a text has."""
    return "classification" in names(tasks) and "label" in run.recipe.objective.columns()


def labels_of(run: Run) -> list[str]:
    """The labels between which it decides."""
    return list(load(tasks, "classification").labels(run)) if can_classify(run) else []


def translated(run: Run, texts: Sequence[str], n: int, beam: int | None) -> list[list[dict[str, Any]]]:
    """`n` translations of each text, the best first."""
    given = {} if beam is None else {"beam": beam}
    found = load(tasks, "translation").translate(run, texts, n=n, **given)
    return [[{"text": each.text, "score": float(each.score)} for each in several] for several in found]


def classified(run: Run, texts: Sequence[str], threshold: float | None) -> list[dict[str, Any]]:
    """Each text's label; none where the likeliest is less probable than the threshold."""
    given = {} if threshold is None else {"threshold": threshold}
    found = load(tasks, "classification").classify(run, texts, **given)
    return [
        {
            "label": each.label,
            "probability": max(each.probabilities.values()),
            "probabilities": dict(each.probabilities),
            "abstained": each.label is None,
        }
        for each in found
    ]

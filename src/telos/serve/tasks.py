"""What models do beside writing: adapters between the server and `telos.tasks`, and nothing else."""

from collections.abc import Sequence
from typing import Any

from telos.opened import Run
from telos.tasks import classification, translation

__all__ = ["can_classify", "can_translate", "classified", "labels_of", "translated"]


def can_translate(run: Run) -> bool:
    """Whether it answers texts: its objective reads pairs."""
    return "target" in run.recipe.objective.columns()


def can_classify(run: Run) -> bool:
    """Whether it says which of some labels a text has."""
    return bool(run.recipe.objective.classes())


def labels_of(run: Run) -> list[str]:
    """The labels between which it decides."""
    return list(run.recipe.objective.classes())


def translated(run: Run, texts: Sequence[str], n: int, beam: int | None) -> list[list[dict[str, Any]]]:
    """`n` translations of each text, the best first."""
    overrides = [] if beam is None else [f"beam.width={beam}"]
    found = translation.translate(run, texts, n=n, overrides=overrides)
    return [[{"text": each.text, "score": each.score} for each in several] for several in found]


def classified(run: Run, texts: Sequence[str], threshold: float | None) -> list[dict[str, Any]]:
    """Each text's label; none where the likeliest is less probable than the threshold."""
    found = classification.classify(run, texts, threshold=threshold or 0.0)
    return [
        {
            "label": each.label,
            "probability": each.probability,
            "probabilities": dict(each.probabilities),
            "abstained": each.abstained,
        }
        for each in found
    ]

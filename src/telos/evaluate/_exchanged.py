"""A classifier that is surely worse than chance knows something: what exchange of labels would be right."""

from collections import Counter
from collections.abc import Sequence
from itertools import permutations

from telos.evaluate._intervals import Interval

__all__ = ["exchanged"]

_PERMUTED = 6
"""Labels of which every exchange is tried."""


def exchanged(accuracy: Interval, labels: Sequence[str], answers: Sequence[tuple[str, str]]) -> str | None:
    """Where the accuracy of these (right, said) answers is below chance, what exchange would be best, as a
    sentence; `None` where there is nothing to say."""
    if not 2 <= len(labels) <= _PERMUTED or accuracy.high is None or accuracy.high >= 1 / len(labels):
        return None
    counts = Counter(answers)
    reading = max(
        permutations(labels),
        key=lambda order: sum(counts[right, said] for said, right in zip(labels, order, strict=True)),
    )
    better = sum(counts[right, said] for said, right in zip(labels, reading, strict=True)) / len(answers)
    changed = [f"{said!r} as {right!r}" for said, right in zip(labels, reading, strict=True) if said != right]
    return (
        f"{accuracy.value:.1%} are right, which is below chance ({1 / len(labels):.1%}). "
        f"Read {', '.join(changed)}, {better:.1%} would be: are labels exchanged?"
    )

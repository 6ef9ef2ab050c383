"""Adding up what batches ask and hold, and finding what a sum belongs to."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch

from telos.batch import Batch

__all__ = ["owner", "places", "total"]


def total(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Weights by term, added up."""
    sums: dict[str, float] = defaultdict(float)
    for part in parts:
        for term, weight in part.items():
            sums[term] += weight
    return dict(sums)


def owner(term: str, denominators: Mapping[str, float]) -> str:
    """The asked term that a sum belongs to: itself, or for an auxiliary one (`tokens.z`) what it is of."""
    found = term
    while found not in denominators:
        found, dot, _ = found.rpartition(".")
        assert dot, f"the sum {term!r} belongs to nothing that was asked: {', '.join(denominators)}"
    return found


def places(batch: Batch) -> int:
    """Tokens read: places of rows that hold a sample, padding left out, both sides."""
    real = torch.tensor([bool(row) for row in batch.samples])
    sides = [batch.main] if batch.source is None else [batch.main, batch.source]
    return sum(int((side.segment[real] >= 0).sum()) for side in sides)

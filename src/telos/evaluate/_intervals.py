"""How sure a figure is: 95 % confidence intervals of shares and of means over seeds."""

import math
from collections.abc import Sequence
from statistics import mean, stdev, variance
from typing import NamedTuple

__all__ = ["Interval", "difference", "over_seeds", "share"]

_Z = 1.959963984540054
"""97.5 % of a normal distribution lie below it."""


class Interval(NamedTuple):
    """A figure and its 95 % confidence interval; without one where it cannot be known."""

    value: float
    low: float | None = None
    high: float | None = None

    def table(self) -> dict[str, float | None]:
        """As plain data."""
        return {"value": self.value, "low": self.low, "high": self.high}


def share(right: float, of: int) -> Interval:
    """The share `right` / `of` with its score interval (Wilson, 1927); a tie counts half in `right`."""
    assert of > 0 and 0 <= right <= of, (right, of)
    p, z2 = right / of, _Z**2
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    reach = _Z / (1 + z2 / of) * math.sqrt(p * (1 - p) / of + z2 / (4 * of**2))
    return Interval(p, min(p, max(0.0, middle - reach)), max(p, min(1.0, middle + reach)))


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean of a figure over seeds, with Student's interval; none for a single seed."""
    if len(values) < 2:
        return Interval(mean(values))
    reach = _student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(mean(values), mean(values) - reach, mean(values) + reach)


def difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """The mean of `first` less that of `second`, with Welch's interval (1947), which lets the two spread
    differently; none where either has a single value, or neither spreads at all."""
    gap = mean(first) - mean(second)
    if min(len(first), len(second)) < 2:
        return Interval(gap)
    parts = [variance(values) / len(values) for values in (first, second)]
    if not sum(parts):
        return Interval(gap)
    pairs = zip(parts, (first, second), strict=True)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in pairs)
    reach = _student(freedom) * math.sqrt(sum(parts))
    return Interval(gap, gap - reach, gap + reach)


def _student(freedom: float) -> float:
    """Below it lie 97.5 % of Student's distribution with so many degrees of freedom, by bisection."""
    low, high = 0.0, 1e3
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _student_below(middle, freedom) < 0.975 else (low, middle)
    return high


def _student_below(t: float, freedom: float) -> float:
    """P(T ≤ t) for t ≥ 0, from the regularised incomplete beta function (Abramowitz and Stegun, 26.5)."""
    return 1 - 0.5 * _beta_share(freedom / (freedom + t * t), freedom / 2, 0.5)


def _beta_share(x: float, a: float, b: float) -> float:
    """I(x; a, b), by its continued fraction where that converges fast, and by symmetry where not."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share(1 - x, b, a)
    logs = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    fraction = 1.0
    for m in range(200, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        fraction = 1 + even / (1 + odd / fraction)
    first = -(a + b) * x / (a + 1)
    return math.exp(logs) / a / (1 + first / fraction)

"""From logits to tokens, for all rows at once: which tokens are drawn from, and which one it is.

    z → z / temperature → the top_k most probable → the fewest that reach top_p → those not below min_p
      → what is left, scaled to a sum of 1 → the first token at which the sum of the shares, in the order of
        their ids, passes a random number

Shares and their sums are in float64. Rows have nothing to do with one another.
"""

import torch
from torch import Tensor

from telos.generate._settings import DrawSettings

__all__ = ["draw", "exact", "kept", "log_totals", "where_exact"]

NARROW = 8
"""Sorting only what is not cut off already pays where that is so many times less than all there is."""


def exact(logits: Tensor) -> Tensor:
    """Logits in float64, on their device if it knows such numbers."""
    return where_exact(logits).double()


def where_exact(logits: Tensor) -> Tensor:
    """Logits as they are, on a device that knows numbers in float64."""
    return logits.cpu() if logits.device.type == "mps" else logits


def log_totals(logits: Tensor) -> Tensor:
    """log Σ exp of each row (B, outputs), in float64: (B,). Each exponential is as exact as the logits are,
    and their sum is in float64; to have all in float64 would take twice as long."""
    top = logits.amax(1, keepdim=True)
    total = (logits - top).exp_().sum(1, dtype=torch.float64)
    return top.squeeze(1).double() + total.log()


def draw(logits: Tensor, settings: DrawSettings, uniform: Tensor) -> Tensor:
    """A token for each row of logits (B, outputs), −∞ for what may not be drawn: (B,), int64.

    Args:
        uniform: (B,), float64, a random number in [0, 1) for each row; not looked at where temperature is 0.
            Of tokens that are equally probable the first one is then taken.
    """
    if settings.temperature == 0:
        return logits.argmax(1)
    weights = _weights(logits.double(), settings)
    reached = weights.cumsum(1)
    goal = (uniform * reached[:, -1]).unsqueeze(1)
    place = torch.searchsorted(reached, goal, right=True).squeeze(1)
    return torch.where(place < weights.shape[1], place, weights.argmax(1))  # rounding may pass the end


def kept(logits: Tensor, settings: DrawSettings) -> Tensor:
    """The probability with which each token of each row is drawn: (B, outputs), nought for what is cut off.
    Of tokens that are equally probable the first ones are kept."""
    weights = _weights(logits, settings)
    return weights / weights.sum(1, keepdim=True)


def _weights(logits: Tensor, settings: DrawSettings) -> Tensor:
    """The same, but for a factor in each row, which nothing depends on."""
    weights = logits - logits.amax(1, keepdim=True)
    if settings.temperature != 1:
        weights /= settings.temperature
    weights.exp_()
    if settings.top_k and settings.top_k < logits.shape[1]:
        weights.masked_fill_(_less_probable(logits, settings.top_k), 0.0)
    if settings.top_p < 1:
        weights = _nucleus(weights, settings.top_p)
    if settings.min_p:
        weights.masked_fill_(weights < settings.min_p * weights.amax(1, keepdim=True), 0.0)
    return weights


def _less_probable(logits: Tensor, count: int) -> Tensor:
    """All but so many in each row: those below the last of these, and of its equals all but the first."""
    last = logits.topk(count, 1, sorted=True).values[:, -1:]
    equal = logits == last
    left = count - (logits > last).sum(1, keepdim=True)
    return (logits < last) | (equal & (equal.cumsum(1) > left))


def _nucleus(weights: Tensor, share: float) -> Tensor:
    """Nought for all but the fewest, most probable tokens that together make `share` of the whole.

    A token below (1 − share) / outputs is never one of them: all such tokens together are less than what may
    be left out.
    """
    total = weights.sum(1, keepdim=True)
    likely = weights >= (1 - share) / weights.shape[1] * total
    many = int(likely.sum(1).max())
    places = None
    if many * NARROW <= weights.shape[1]:
        places = torch.where(likely, weights, 0.0).topk(many, 1, sorted=False).indices.sort(1).values
    among = weights if places is None else weights.gather(1, places)
    ranked, order = among.sort(dim=1, descending=True, stable=True)
    before = ranked.cumsum(1) - ranked
    ranked = torch.where(before < share * total, ranked, 0.0)
    among = torch.zeros_like(among).scatter_(1, order, ranked)
    return among if places is None else torch.zeros_like(weights).scatter_(1, places, among)

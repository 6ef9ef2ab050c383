"""From logits to tokens, for all rows at once: which tokens are drawn from, and which one it is.

    z → z / temperature → the top_k most probable → the fewest that reach top_p → those not below min_p
      → what is left, scaled to a sum of 1 → the first token at which the sum of the shares, in the order of
        their ids, passes a random number

All in float64. Rows have nothing to do with one another.
"""

import torch
from torch import Tensor

from telos.generate._settings import DrawSettings

__all__ = ["draw", "exact", "kept"]

NARROW = 8
"""Sorting only what is not cut off already pays where that is so many times less than all there is."""


def exact(logits: Tensor) -> Tensor:
    """Logits in float64, on their device if it knows such numbers."""
    return (logits.cpu() if logits.device.type == "mps" else logits).double()


def draw(logits: Tensor, settings: DrawSettings, uniform: Tensor) -> Tensor:
    """A token for each row of logits (B, outputs) in float64, −∞ for what may not be drawn: (B,), int64.

    Args:
        uniform: (B,), float64, a random number in [0, 1) for each row; not looked at where temperature is 0.
            Of tokens that are equally probable the first one is then taken.
    """
    if settings.temperature == 0:
        return logits.argmax(1)
    shares = kept(logits, settings)
    reached = shares.cumsum(1)
    goal = (uniform * reached[:, -1]).unsqueeze(1)
    place = torch.searchsorted(reached, goal, right=True).squeeze(1)
    return torch.where(place < shares.shape[1], place, shares.argmax(1))  # rounding may pass the end


def kept(logits: Tensor, settings: DrawSettings) -> Tensor:
    """The probability with which each token of each row is drawn: (B, outputs), nought for what is cut off.
    Of tokens that are equally probable the first ones are kept."""
    if settings.top_k and settings.top_k < logits.shape[1]:
        logits = _most_probable(logits, settings.top_k)
    shares = ((logits - logits.amax(1, keepdim=True)) / settings.temperature).exp()
    shares = shares / shares.sum(1, keepdim=True)
    if settings.top_p < 1:
        shares = _nucleus(shares, settings.top_p)
    if settings.min_p:
        shares = torch.where(shares >= settings.min_p * shares.amax(1, keepdim=True), shares, 0.0)
    return shares / shares.sum(1, keepdim=True)


def _most_probable(logits: Tensor, count: int) -> Tensor:
    """−∞ for all but so many in each row: those above the last of them, and of its equals the first."""
    last = logits.topk(count, 1, sorted=True).values[:, -1:]
    equal = logits == last
    left = count - (logits > last).sum(1, keepdim=True)
    return logits.masked_fill((logits < last) | (equal & (equal.cumsum(1) > left)), -torch.inf)


def _nucleus(shares: Tensor, share: float) -> Tensor:
    """Nought for all but the fewest, most probable tokens whose probability together reaches `share`.

    A token below (1 − share) / outputs is never one of them: all such tokens together are less than what may
    be left out.
    """
    likely = shares >= (1 - share) / shares.shape[1]
    many = int(likely.sum(1).max())
    places = None
    if many * NARROW <= shares.shape[1]:
        places = torch.where(likely, shares, 0.0).topk(many, 1, sorted=False).indices.sort(1).values
    among = shares if places is None else shares.gather(1, places)
    ranked, order = among.sort(dim=1, descending=True, stable=True)
    before = ranked.cumsum(1) - ranked
    ranked = torch.where(before < share, ranked, 0.0)
    among = torch.zeros_like(among).scatter_(1, order, ranked)
    return among if places is None else torch.zeros_like(shares).scatter_(1, places, among)

"""Weights averaged over the run so far: where there are such, what is evaluated, chosen by and used.

    a ← β · a + (1 − β) · w      after the t-th step that changed anything, w the weights that are trained
    β = (1 − 1/t)^(γ + 1)        γ = 1 / share − 2

So step i counts in proportion to i^γ, and in the mean the average stands `share` · t steps back, however long
the run is (power-law averages: Karras et al., 2024). A share of ½ is the plain mean of all steps (Polyak and
Juditsky, 1992).
"""

import copy

import torch
from torch import nn

from telos.train.checkpoint import bare, weights

__all__ = ["OWN", "averaged", "follow", "kept"]

OWN = "average"
"""The averaged weights' name among a run's models, and that of their file in a checkpoint."""


def averaged(network: nn.Module) -> nn.Module:
    """A second network that starts as the first one is: what is tied in that is tied in this."""
    return copy.deepcopy(bare(network))


def kept(share: float, updates: int) -> float:
    """What an average keeps of itself at an update, counted from 1; at the first it becomes the weights."""
    return float((1 - 1 / updates) ** (1 / share - 1))


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move an average towards the network: its parameters and the buffers that are saved; what is no floating
    number, a counter, becomes the network's.
    """
    own, others = weights(average), weights(network)
    moved = [name for name in own if own[name].is_floating_point()]
    torch._foreach_lerp_([own[name] for name in moved], [others[name] for name in moved], 1 - keep)
    for name in own.keys() - moved:
        own[name].copy_(others[name])

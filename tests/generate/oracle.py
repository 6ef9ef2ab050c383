"""The slow and simple way to the next token: all the context in one row, no cache, no padding, no batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from telos.batch import Rows
from telos.models._base import Network


def next_logits(network: Network, context: Sequence[int]) -> Tensor:
    """Logits (outputs,) in float64 of the token after the context (n ≥ 1)."""
    ids = torch.tensor([list(context)])
    places = torch.arange(len(context)).unsqueeze(0)
    zeros = torch.zeros_like(ids)
    rows = Rows(ids=ids, positions=places, segment=zeros, order=places, seen=zeros == 0)
    with network.at_rest():
        hidden, _ = network.encode(rows)
        return network.logits(hidden[0, -1]).double()

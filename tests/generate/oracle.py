"""The slow and simple way to the next token: all the context in one row, no cache, no padding, no batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from telos.batch import Rows
from telos.models._base import Network


def next_logits(
    network: Network, context: Sequence[int], source: Sequence[int] = (), prefix: int = 1
) -> Tensor:
    """Logits (outputs,) in float64 of the token after the context (n ≥ 1), of which the first `prefix` tokens
    see one another, when `source` has been read."""
    places = torch.arange(len(context)).unsqueeze(0)
    rows = _row(context, (places - prefix + 1).clamp(min=0))
    read_first = _row(source, torch.zeros(1, len(source), dtype=torch.int64)) if source else None
    with network.at_rest():
        hidden, _ = network.encode(rows, read_first)
        return network.logits(hidden[0, -1]).double()


def _row(ids: Sequence[int], order: Tensor) -> Rows:
    places = torch.arange(len(ids)).unsqueeze(0)
    zeros = torch.zeros_like(places)
    return Rows(
        ids=torch.tensor([list(ids)]),
        positions=places,
        segment=zeros,
        order=order,
        seen=zeros == 0,
        pattern="general",
        packed=True,
    )

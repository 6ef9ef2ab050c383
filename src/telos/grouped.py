"""The vocabulary in groups of ever rarer tokens, the adaptive softmax (Grave et al., 2017):

    q(token) = q(token among the frequent)               the first `cutoffs[0]` ids
    q(token) = q(group) · q(token | group)               the others, group by group

A place whose answer is frequent is multiplied with the frequent ids and a vector per group alone, and only a
place whose answer is in a group with that group's ids. Ids go from frequent to rare in vocabularies of words
and nearly so in learned ones; where they do not, this is no less exact, but saves less.

Each id keeps its vector at full width, so a head can share the embedding's. What is added to a group's logit
is the logarithm of its size: with first values q is even over the vocabulary.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from telos.batch import Soft
from telos.losses import LossSettings, linear_cross_entropy, linear_logits, plain_cross_entropy

__all__ = ["Table", "bounds", "grouped_cross_entropy", "grouped_logits", "share_multiplied"]


class Table(NamedTuple):
    """The weights of a head whose vocabulary is in groups."""

    weight: Tensor
    """(V, D)."""
    bias: Tensor | None
    """(V,), if any."""
    groups: Tensor
    """(groups, D): a vector for each."""
    group_bias: Tensor | None
    """(groups,), if any."""
    cutoffs: tuple[int, ...]
    """The first id of each group, ascending."""


def bounds(cutoffs: Sequence[int], outputs: int) -> list[tuple[int, int]]:
    """First id, and the one after the last, of the frequent tokens and of each group."""
    return list(pairwise((0, *cutoffs, outputs)))


def share_multiplied(cutoffs: Sequence[int], outputs: int) -> float:
    """Which share of a head's weights a place multiplies with, expected where the token of rank r has a
    frequency in proportion to 1 / r (Zipf)."""
    if not cutoffs:
        return 1.0
    (_, first), *groups = bounds(cutoffs, outputs)
    whole = math.log(outputs + 1)
    asked = sum((end - begin) * math.log((end + 1) / (begin + 1)) / whole for begin, end in groups)
    return (first + len(groups) + asked) / outputs


def grouped_cross_entropy(
    hidden: Tensor,
    table: Table,
    target: Tensor,
    row_weight: Tensor,
    *,
    negative: bool = False,
    soft: Soft | None = None,
) -> Tensor:
    """The weighted sum of cross-entropies, a scalar, as of `losses.linear_cross_entropy`.

    Distributions and unlikelihood need all logits of a place, and take the memory of (K, V) numbers.
    """
    if negative or soft is not None or target.is_floating_point():
        return plain_cross_entropy(
            grouped_logits(hidden, table), target, row_weight, negative=negative, soft=soft
        )
    (_, first), *groups = bounds(table.cutoffs, len(table.weight))
    weights = torch.split(table.weight, [first, *(end - begin for begin, end in groups)])
    member = torch.bucketize(target, target.new_tensor(table.cutoffs), right=True)
    entropy = _entropy(
        hidden,
        torch.cat((weights[0], table.groups)),
        _front(table),
        torch.where(member > 0, first - 1 + member, target),
        row_weight,
    )
    for number, (begin, end) in enumerate(groups, 1):
        rows = (member == number).nonzero().squeeze(1)
        bias = None if table.bias is None else table.bias[begin:end]
        entropy = entropy + _entropy(
            hidden.index_select(0, rows),
            weights[number],
            bias,
            target.index_select(0, rows) - begin,
            row_weight.index_select(0, rows),
        )
    return entropy


def grouped_logits(hidden: Tensor, table: Table) -> Tensor:
    """log q (…, V) at hidden states (…, D), float32."""
    first = table.cutoffs[0]
    every = linear_logits(hidden, table.weight, table.bias)
    of_groups = linear_logits(hidden, table.groups, None) + _front(table)[first:]
    front = torch.log_softmax(torch.cat((every[..., :first], of_groups), -1), -1)
    parts = [front[..., :first]]
    for number, (begin, end) in enumerate(bounds(table.cutoffs, len(table.weight))[1:]):
        parts.append(front[..., first + number, None] + torch.log_softmax(every[..., begin:end], -1))
    return torch.cat(parts, -1)


def _entropy(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, rows: Tensor) -> Tensor:
    sums = linear_cross_entropy(hidden, weight, bias, target, rows, settings=LossSettings(), training=False)
    return sums.entropy


def _front(table: Table) -> Tensor:
    """What is added to the logits of the frequent ids and of the groups (first + groups,)."""
    first, *groups = bounds(table.cutoffs, len(table.weight))
    kind = table.groups
    sizes = kind.new_tensor([math.log(end - begin) for begin, end in groups])
    own = kind.new_zeros(first[1]) if table.bias is None else table.bias[: first[1]]
    return torch.cat((own, sizes if table.group_bias is None else sizes + table.group_bias))

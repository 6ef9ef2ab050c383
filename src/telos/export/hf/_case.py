"""The same question put to both: our network's answer and that of a model of theirs."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from telos.batch import Pattern, Rows
from telos.export.hf._base import Architecture
from telos.models._base import Network
from telos.tokenizer import Tokenizer

__all__ = ["Case", "case", "ours_say", "theirs_say"]

HIDDEN = 7
"""Of what reads in both directions, every so many tokens are hidden."""


class Case(NamedTuple):
    """One text as a model reads it, and what it is scored on."""

    ids: Tensor
    """(T,)"""
    at: Tensor
    """Places (K,)."""
    target: Tensor
    """The true tokens there (K,)."""
    source: Tensor | None = None
    """The encoder's side (S,)."""


def case(architecture: Architecture, ids: Tensor, tokenizer: Tokenizer) -> Case:
    """A text (T,) as this kind of architecture reads it."""
    places = torch.arange(len(ids))
    if architecture.reads == "causal":
        return Case(ids, places[:-1], ids[1:])
    at = places[places % HIDDEN == HIDDEN // 2]
    return Case(ids.index_fill(0, at, tokenizer.mask), at, ids[at])


def ours_say(network: Network, asked: Case, architecture: Architecture) -> Tensor:
    """Logits (T, vocabulary) of the token head."""
    rows = _rows(asked.ids, "causal" if architecture.reads == "causal" else "full")
    hidden, _ = network.encode(rows)
    return network.logits(hidden)[0]


def theirs_say(model: Any, asked: Case, architecture: Architecture) -> Tensor:
    """Logits (T, vocabulary) of a model of transformers."""
    answer = model(input_ids=asked.ids[None])
    said: Tensor = answer["prediction_logits" if "prediction_logits" in answer else "logits"][0]
    return said


def _rows(ids: Tensor, pattern: Pattern) -> Rows:
    place = torch.arange(len(ids))[None]
    nothing = torch.zeros_like(place)
    return Rows(
        ids=ids[None],
        positions=place,
        segment=nothing,
        order=place if pattern == "causal" else nothing,
        seen=torch.ones_like(place, dtype=torch.bool),
        pattern=pattern,
    )

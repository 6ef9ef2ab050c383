"""The same question put to both: our network's answer and that of a model of theirs."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from telos.batch import Example, Pattern, Rows, gathered
from telos.data.packing import collate
from telos.export.hf._base import Architecture
from telos.models._base import Network
from telos.tokenizer import Tokenizer

__all__ = ["Case", "case", "ours_judge", "ours_say", "rows_of", "theirs_say"]

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
    head: str = "tokens"
    """The head that is asked."""


def case(architecture: Architecture, ids: Tensor, tokenizer: Tokenizer, head: str = "tokens") -> Case:
    """A text (T,) as this kind of architecture reads it. A head other than `tokens` is asked at every place
    whether its token was replaced; every so many are, by the one before."""
    places = torch.arange(len(ids))
    if architecture.reads == "causal":
        return Case(ids, places[:-1], ids[1:])
    ids = ids.clone()
    if architecture.reads == "pair":
        ids[-1] = tokenizer.end
        return Case(torch.cat((torch.tensor([tokenizer.begin]), ids[:-1])), places, ids, source=ids)
    if len(ids) > 2:
        ids[0], ids[-1] = tokenizer.begin, tokenizer.separate
    at = places[places % HIDDEN == HIDDEN // 2]
    if head != "tokens":
        shown = ids.index_copy(0, at, ids[at - 1])
        return Case(shown, places, (shown != ids).long(), head=head)
    return Case(ids.index_fill(0, at, tokenizer.mask), at, ids[at])


def ours_say(network: Network, asked: Case, architecture: Architecture) -> Tensor:
    """Logits (T, classes) of the head that is asked."""
    rows = rows_of(asked.ids, "full" if architecture.reads == "full" else "causal")
    source = None if asked.source is None else rows_of(asked.source, "full")
    hidden, _ = network.encode(rows, source)
    return network.logits(hidden, asked.head)[0]


def ours_judge(network: Network, question: Example) -> Tensor:
    """Logits (1, classes) of a text that is asked as a whole."""
    batch = collate([[question]])
    (asked,) = batch.asks
    hidden, _ = network.encode(batch.main)
    return network.logits(gathered(hidden.flatten(0, 1), asked), asked.head)[:1]


def theirs_say(model: Any, asked: Case, architecture: Architecture) -> Tensor:
    """Logits (T, classes) of a model of transformers; where it says one number for each place, that of no
    is 0."""
    if asked.source is None:
        answer = model(input_ids=asked.ids[None])
    else:
        answer = model(input_ids=asked.source[None], decoder_input_ids=asked.ids[None])
    said: Tensor = answer["prediction_logits" if "prediction_logits" in answer else "logits"][0]
    return said if said.ndim == 2 else torch.stack((torch.zeros_like(said), said), -1)


def rows_of(ids: Tensor, pattern: Pattern) -> Rows:
    """One text (T,) as a row that sees what was before, or all."""
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

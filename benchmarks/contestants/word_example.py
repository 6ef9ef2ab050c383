"""PyTorch's word-language-model example (pytorch/examples, word_language_model/main.py): a tied LSTM.

    settings    dropout: a share
                cell: "lstm"; tied: true
    shape       embedding, width, depth, window

As its script has it: the text is one stream in as many columns as a batch has rows, read window by window
with the state carried on; weights start evenly within ±0.1; plain SGD at a rate of 20, the gradient shortened
to a norm of 0.25; after each pass the validation text is scored, and where that is no better the rate is
divided by 4; the best model so far is the one that is tested. Scoring after a pass costs no time here.

Held-out text is read in 10 columns, as there; each starts with the token before it (the first one with a line
end), so that every token of the split is asked once.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.worker_side import Held, Session, Spec
from torch import Tensor, nn
from torch.nn import functional

from telos.data.shards import Shards

from .words import Words

COLUMNS = 10
ANNEAL = 4.0
CLIP = 0.25
NOT_ASKED = -100


def run(spec: Spec, session: Session) -> None:
    """Train until the process is ended."""
    torch.manual_seed(spec.seed)
    model = Words(spec)
    for weight in (model.embedding.weight, model.head.weight):
        nn.init.uniform_(weight, -0.1, 0.1)
    nn.init.zeros_(model.head.bias)
    session.noted["parameters"] = sum(p.numel() for p in model.parameters())
    best = _Best(model)
    session.scores(
        validation=lambda: _scored(model, spec, "validation"),
        test=lambda: _scored(best.better(session.evaluate().nats), spec, "test"),
    )
    rate = session.rate(20.0)
    session.begin()
    while True:
        _one_pass(model, spec, session, rate)
        if not best.kept(session.evaluate().nats):
            rate /= ANNEAL


def _one_pass(model: Words, spec: Spec, session: Session, rate: float) -> None:
    state: tuple[Tensor, ...] | None = None
    parameters = list(model.parameters())
    for ids, target in _columns(_split(spec, "train"), spec.batch, spec.shape["window"]):
        model.zero_grad(set_to_none=True)
        logits, state = model(ids, state)
        loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, CLIP)
        with torch.no_grad():
            torch._foreach_add_(parameters, [p.grad for p in parameters], alpha=-rate)
        session.tick(ids.numel(), loss.detach().item)


def _columns(ids: Any, count: int, window: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Once through a stream (N,): what goes in and what comes next, (count, ≤ window); the rest that fills no
    row of columns is left out."""
    length = len(ids) // count
    laid = torch.from_numpy(ids[: count * length].astype(np.int64)).view(count, length)
    for start in range(0, length - 1, window):
        rows = laid[:, start : start + window + 1]
        yield rows[:, :-1], rows[:, 1:]


def _split(spec: Spec, name: str) -> Any:
    return Shards(Path(spec.corpus["folder"]) / name).ids


class _Best:
    """The weights that were best on validation after a pass."""

    def __init__(self, model: Words) -> None:
        self._model, self._weights = model, copy.deepcopy(model)
        self._nats = float("inf")

    def kept(self, nats: float) -> bool:
        """Keep the weights as they are now, if they are better; whether they are."""
        if nats >= self._nats:
            return False
        self._nats = nats
        self._weights.load_state_dict(self._model.state_dict())
        return True

    def better(self, nats: float) -> Words:
        """The kept ones, or the ones as they are now, whose score this is."""
        return self._model if nats < self._nats else self._weights


def _scored(model: Words, spec: Spec, split: str) -> Held:
    """All tokens of a split, once each."""
    ids = _split(spec, split).astype(np.int64)
    length = -(-len(ids) // COLUMNS)
    before = np.concatenate([ids[-1:], ids, np.full(COLUMNS * length - len(ids), NOT_ASKED)])
    state: tuple[Tensor, ...] | None = None
    nats = 0.0
    goes_in = torch.from_numpy(before[: COLUMNS * length].clip(0)).view(COLUMNS, length)
    target = torch.from_numpy(before[1:]).view(COLUMNS, length)
    model.eval()
    with torch.no_grad():
        for rows, wanted in zip(goes_in.split(100, 1), target.split(100, 1), strict=True):
            logits, state = model(rows, state)
            each = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
            nats += float(each.double().sum())
    model.train()
    return Held(nats=nats, asked=len(ids), bytes=0)

"""Held-out text as windows, and the one way in which every contestant is scored on it.

A window holds T places and what comes after each; it never crosses from one document into another. The first
of a document starts with a begin token, its last one asks for an end token. Each token of the chosen windows
is asked once, by the same context for everyone. Scored in float32, whatever a contestant trains in.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .worker_side import Held

__all__ = ["scored", "windows"]

ROWS = 16
"""Windows that are scored at a time."""
NOT_ASKED = -100


def windows(prepared: Any, window: int, tokens: int, path: Path) -> dict[str, int]:
    """Draw windows of the validation split until about so many tokens are asked, and write them; returns how
    many windows, tokens and bytes there are.

    Args:
        prepared: Telos' prepared text.
        window: places of a window.
        tokens: to be asked, at least, or all that there are.
        path: of the .npz file.
    """
    from telos.data.corpus import Corpus
    from telos.objectives.causal import Causal

    tokenizer = prepared.tokenizer
    corpus = Corpus(prepared.shards("validation"), Causal().cut(window), tokenizer)
    rows: list[Any] = []
    asked = size = 0
    for index in np.random.default_rng(0).permutation(len(corpus)).tolist():
        if asked >= tokens:
            break
        ids = corpus[index].ids
        missing = window + 1 - len(ids)
        goes_in = np.append(ids[:-1], [tokenizer.pad] * missing)
        rows.append((goes_in, np.append(ids[1:], [NOT_ASKED] * missing)))
        asked += len(ids) - 1
        text = (token for token in ids[1:].tolist() if token not in tokenizer.special_ids)
        size += sum(len(tokenizer.token_bytes(token)) for token in text)
    path.parent.mkdir(parents=True, exist_ok=True)
    ids, targets = (np.stack(side).astype(np.int64) for side in zip(*rows, strict=True))
    np.savez(path, ids=ids, targets=targets, bytes=size)
    return {"windows": len(rows), "tokens": asked, "bytes": size}


def scored(corpus: Mapping[str, Any], logits: Callable[[Tensor], Tensor]) -> Held:
    """The nats of all that the windows ask.

    Args:
        corpus: names the file of the windows as `held_out`.
        logits: ids (B, T) → (B, T, vocabulary) of the contestant's model.
    """
    nats = 0.0
    with np.load(corpus["held_out"]) as file:
        ids, targets, size = torch.from_numpy(file["ids"]), torch.from_numpy(file["targets"]), file["bytes"]
    with torch.no_grad():
        for rows, wanted in zip(ids.split(ROWS), targets.split(ROWS), strict=True):
            said = logits(rows).float().flatten(0, 1)
            each = functional.cross_entropy(said, wanted.flatten(), ignore_index=NOT_ASKED, reduction="none")
            nats += float(each.double().sum())
    return Held(nats=nats, asked=int((targets != NOT_ASKED).sum()), bytes=int(size))

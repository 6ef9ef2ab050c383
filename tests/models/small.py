"""Small networks, and rows of a batch written by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from telos import models
from telos.batch import Asked, Batch, HeadSpec, Pattern, Rows
from telos.config import read
from telos.find import find
from telos.losses import LossSettings
from telos.models._base import Model, Network, Sizes
from telos.models._initial import initialise

VOCABULARY = 50
WINDOW = 24

MODELS: dict[str, dict[str, Any]] = {
    "llama": {"name": "decoder", "width": 32, "depth": 2, "heads": {"count": 4, "keys": 2}},
    "gpt2": {
        "name": "decoder",
        "width": 32,
        "depth": 2,
        "heads": 4,
        "positions": "learned",
        "norm": "layer",
        "feed": "gelu",
    },
    "untied": {"name": "decoder", "width": 32, "depth": 1, "heads": 2, "tied": False},
    "local": {
        "name": "decoder",
        "width": 32,
        "depth": 3,
        "heads": {"count": 4, "keys": 2, "normed": True, "local": {"reach": 3, "every": 2, "base": 50.0}},
    },
    "experts": {
        "name": "decoder",
        "width": 32,
        "depth": 2,
        "heads": 4,
        "feed": {"width": 24, "experts": {"count": 5, "active": 2}},
    },
    "experts-gelu": {
        "name": "decoder",
        "width": 32,
        "depth": 1,
        "heads": 4,
        "feed": {"kind": "gelu", "width": 24, "experts": {"count": 4, "active": 3}},
    },
    "bert": {
        "name": "encoder",
        "width": 32,
        "depth": 2,
        "heads": 4,
        "positions": "learned",
        "norm": "post",
        "feed": "gelu",
        "embedding": {"types": 2},
    },
    "electra": {
        "name": "encoder",
        "width": 32,
        "depth": 2,
        "heads": 4,
        "positions": "learned",
        "norm": "post",
        "feed": "gelu",
        "embedding": {"width": 20, "types": 2},
    },
    "modern-narrow": {"name": "encoder", "width": 32, "depth": 2, "heads": 4, "embedding": 12},
    "modern": {
        "name": "encoder",
        "width": 32,
        "depth": 3,
        "heads": {"count": 4, "local": {"reach": 3, "every": 2, "base": 50.0}},
        "positions": {"base": 1000.0},
    },
    "gru": {"name": "gru", "embedding": 20, "width": 32, "depth": 2},
    "lstm": {"name": "gru", "embedding": 20, "width": 32, "depth": 2, "cell": "lstm", "tied": True},
}
"""Settings by a name for the tests."""
DECODERS = [name for name, table in MODELS.items() if table["name"] == "decoder"]
ENCODERS = [name for name, table in MODELS.items() if table["name"] == "encoder"]
RECURRENT = [name for name, table in MODELS.items() if table["name"] == "gru"]


def described(name: str, **changed: Any) -> Model:
    table = MODELS[name] | changed
    kind: type[Model] = find(models, table["name"], Model)
    return read(kind, {key: value for key, value in table.items() if key != "name"})


def sizes(loss: LossSettings | None = None, *, vocabulary: int = VOCABULARY, classes: int = 0) -> Sizes:
    heads = [HeadSpec(name="tokens", outputs=vocabulary)]
    if classes:
        heads.append(HeadSpec(name="next", outputs=classes, kind="classes"))
        heads.append(HeadSpec(name="odd", outputs=2, kind="marks"))
    return Sizes(vocabulary, WINDOW, tuple(heads), loss or LossSettings())


def built(name: str, *, seed: int = 0, loss: LossSettings | None = None, **changed: Any) -> Network:
    network = described(name, **changed).build(sizes(loss))
    initialise(network, seed)
    return network


def rows_of(*rows: Sequence[Sequence[int]], order: str = "causal", pattern: Pattern = "causal") -> Rows:
    """Each row is a list of documents, each a list of ids; padded on the right with id 0, segment −1,
    unseen."""
    longest = max(sum(map(len, row)) for row in rows)
    made: dict[str, list[list[int]]] = {key: [] for key in ("ids", "positions", "segment", "order", "seen")}
    for row in rows:
        line: dict[str, list[int]] = {key: [] for key in made}
        for segment, document in enumerate(row):
            places = list(range(len(document)))
            line["ids"] += document
            line["positions"] += places
            line["segment"] += [segment] * len(document)
            line["order"] += places if order == "causal" else [0] * len(document)
            line["seen"] += [1] * len(document)
        padding = longest - len(line["ids"])
        for key, value in (("ids", 0), ("positions", 0), ("segment", -1), ("order", 0), ("seen", 0)):
            made[key].append(line[key] + [value] * padding)
    tensors = {key: torch.tensor(value) for key, value in made.items()}
    tensors["seen"] = tensors["seen"].bool()
    packed = any(len(row) > 1 for row in rows)
    padded = bool((tensors["segment"] < 0).any())
    return Rows(**tensors, pattern=pattern, packed=packed or (padded and pattern != "causal"))


def drawn(length: int, seed: int = 0) -> list[int]:
    draw = torch.Generator().manual_seed(1000 * length + seed)
    return torch.randint(1, VOCABULARY, (length,), generator=draw).tolist()


def asked_all(rows: Rows, **extra: Any) -> Batch:
    """Every real place is asked for the token after it in its row (modulo the row: what it is does not
    matter)."""
    at = (rows.segment >= 0).flatten().nonzero().squeeze(1)
    target = rows.ids.roll(-1, 1).flatten()[at]
    ask = Asked(head="tokens", term="tokens", at=at, target=target, weight=torch.ones(len(at)))
    return Batch(main=rows, asks=(ask,), asked={"tokens": float(len(at))}, **extra)


def part(rows: Rows, begin: int, end: int) -> Rows:
    """Places begin … end − 1 of all rows."""
    keys = ("ids", "positions", "segment", "order", "seen")
    return replace(rows, **{key: getattr(rows, key)[:, begin:end] for key in keys})


def hidden_of(network: Network, rows: Rows, **given: Any) -> Tensor:
    hidden, _ = network.encode(rows, **given)
    return hidden

"""The works: what is trained, by whom, and how far ahead Telos is to be. One entry is one row of RESULTS.md.

A work's shape is what all its contestants share; `overrides` put it into the settings of Telos, where {names}
stand for the shape's. `quick` is a shape so small that everything can be tried in seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from . import flops

__all__ = ["WORKS", "Entrant", "Target", "Work"]


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A contestant of a work."""

    name: str
    family: str
    """A file in contestants/."""
    environment: Literal["telos", "peers"] = "telos"
    """Whose packages it runs with."""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the issue asks of `ours`."""

    measure: Literal["times", "memory", "utilisation", "seconds", "rate"]
    """`times` as fast as the best of `against`, at least; `memory` as a share of the least of theirs, at
    most; a share of the matrix rate, at least; seconds, at most; units per second of processor, at least."""
    limit: float
    against: Sequence[str] = ()
    says: str
    """Of whom."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A row of the table."""

    name: str
    title: str
    unit: str = "tokens/s"
    shape: Mapping[str, int]
    quick: Mapping[str, int]
    recipe: str = ""
    """That Telos trains by, and that the text is prepared by; none where there is no text."""
    overrides: Sequence[str] = ()
    entrants: Sequence[Entrant]
    targets: Sequence[Target] = ()
    batch: int = 0
    """Rows of a step, unless tuned."""
    batches: Sequence[int] = ()
    """What `--tune` tries; none where the batch is part of the work."""
    warm: int = 4
    """Steps before measuring."""
    seconds: float | None = None
    """Of a window, where that is not what the driver was told."""
    flops: str = ""
    """A function of `flops`, where utilisation is stated."""

    def flops_per_token(self, shape: Mapping[str, int], vocabulary: int) -> int:
        """By `flops.FORMULA`; 0 where none is stated."""
        if self.flops != "decoder":
            return 0
        width = shape["width"]
        feed = 3 * width * shape["inner"]
        return flops.decoder(
            width=width, depth=shape["depth"], feed=feed, vocabulary=vocabulary, window=shape["window"]
        )


RATE = Entrant(name="matrix-bfloat16", family="matrix", settings={"precision": "bfloat16"})
"""The machine's matrix rate, in windows between those of the others."""


def _trainer(name: str, model: str, dropout: float, **arguments: Any) -> Entrant:
    settings = {"model": model, "dropout": dropout, "arguments": arguments}
    return Entrant(name=name, family="trainer", environment="peers", settings=settings)


def _trainers(model: str, dropout: float) -> tuple[Entrant, ...]:
    """Transformers' Trainer as it comes, and faster and faster."""
    return (
        _trainer("transformers", model, dropout),
        _trainer("transformers-bfloat16", model, dropout, bf16=True),
        _trainer("transformers-bfloat16-compiled", model, dropout, bf16=True, torch_compile=True),
    )


def _loop(name: str, model: str, *, compiled: bool) -> Entrant:
    environment: Literal["telos", "peers"] = "telos" if model == "plain" else "peers"
    settings = {"model": model, "bfloat16": True, "compile": compiled}
    return Entrant(name=name, family="decoders", environment=environment, settings=settings)


def _ours(*more: str, name: str = "ours", without: str = "") -> Entrant:
    settings = {"overrides": list(more)} | ({"without": without} if without else {})
    return Entrant(name=name, family="ours", settings=settings)


SMALL_PAGES = _ours(name="ours-small-pages", without="pages")
"""Ours with memory as the C library has it by itself."""


def _words(cell: str, tied: bool = False) -> tuple[Entrant, ...]:
    """Ours, ours in float32, and PyTorch's layers in two precisions."""
    of = {"cell": cell, "tied": tied}
    return (
        _ours(),
        _ours("train.compute.precision=float32", name="ours-float32"),
        SMALL_PAGES,
        Entrant(name=f"nn-{cell}-float32", family="words", settings=of | {"bfloat16": False}),
        Entrant(name=f"nn-{cell}-bfloat16", family="words", settings=of | {"bfloat16": True}),
    )


BEST_TRAINERS = ("transformers", "transformers-bfloat16", "transformers-bfloat16-compiled")
TRANSFORMER = ("model.width={width}", "model.depth={depth}", "train.window={window}")
RECURRENT = (
    "tokenizer.size={vocabulary}",
    "model.embedding={embedding}",
    "model.width={width}",
    "model.depth={depth}",
    "train.window={window}",
)

GPT = Work(
    name="gpt",
    title="GPT, 6 × 384, vocabulary 8k, T 256",
    shape={"width": 384, "depth": 6, "heads": 6, "inner": 1024, "window": 256, "vocabulary": 8192}
    | {"matrix": 2048},
    quick={"width": 64, "depth": 2, "heads": 2, "inner": 192, "window": 32, "vocabulary": 512}
    | {"matrix": 256},
    recipe="gpt-small",
    overrides=(*TRANSFORMER, "model.heads={heads}", "tokenizer.size={vocabulary}"),
    entrants=(
        _ours(),
        *_trainers("gpt2", 0.0),
        _loop("plain-bfloat16", "plain", compiled=False),
        _loop("plain-bfloat16-compiled", "plain", compiled=True),
        _loop("litgpt-bfloat16-compiled", "litgpt", compiled=True),
        _loop("x-transformers-bfloat16", "x-transformers", compiled=False),
        _loop("x-transformers-bfloat16-compiled", "x-transformers", compiled=True),
        Entrant(
            name="keras-hub-bfloat16",
            family="keras_fit",
            environment="peers",
            settings={"policy": "mixed_bfloat16"},
        ),
        SMALL_PAGES,
        RATE,
    ),
    targets=(
        Target(measure="times", limit=1.3, against=BEST_TRAINERS, says="Transformers at its best"),
        Target(measure="times", limit=2.2, against=("transformers",), says="Transformers as it comes"),
        Target(
            measure="times",
            limit=1.1,
            against=(
                "plain-bfloat16-compiled",
                "litgpt-bfloat16-compiled",
                "x-transformers-bfloat16-compiled",
            ),
            says="the best compiled plain loop",
        ),
        Target(measure="utilisation", limit=0.7, against=(RATE.name,), says="of the bfloat16 matrix rate"),
    ),
    batch=16,
    batches=(4, 8, 16, 32),
    flops="decoder",
)

MASKED = Work(
    name="masked-lm",
    title="masked LM, 12 × 384, vocabulary 30k, T 128",
    shape={"width": 384, "depth": 12, "heads": 12, "inner": 1536, "window": 128, "vocabulary": 30522},
    quick={"width": 64, "depth": 2, "heads": 2, "inner": 256, "window": 32, "vocabulary": 512},
    recipe="bert-base",
    overrides=(
        *TRANSFORMER,
        "model.heads={heads}",
        "tokenizer.size={vocabulary}",
        "tokenizer.kind=bpe",
        "train.compute.micro_batch=0",
        "train.batch=8",
    ),
    entrants=(_ours(), SMALL_PAGES, *_trainers("bert", 0.1)),
    targets=(
        Target(measure="times", limit=4.0, against=("transformers",), says="Transformers as it comes"),
        Target(measure="times", limit=1.7, against=BEST_TRAINERS, says="Transformers at its best"),
    ),
    batch=16,
    batches=(8, 16, 32, 64),
)

GRU = Work(
    name="gru-classic",
    title="GRU, vocabulary 5000, embedding 300, width 1024, T 100",
    shape={"embedding": 300, "width": 1024, "depth": 1, "window": 100, "vocabulary": 5000},
    quick={"embedding": 16, "width": 32, "depth": 1, "window": 16, "vocabulary": 512},
    recipe="gru-classic",
    overrides=RECURRENT,
    entrants=_words("gru"),
    targets=(Target(measure="times", limit=2.5, against=("nn-gru-float32",), says="nn.GRU in float32"),),
    batch=64,
    batches=(8, 16, 32, 64),
)

SMALL_GRU = Work(
    name="gru-small",
    title="GRU, vocabulary 5000, embedding 128, width 128, T 100, batch 8",
    shape={"embedding": 128, "width": 128, "depth": 1, "window": 100, "vocabulary": 5000},
    quick={"embedding": 16, "width": 32, "depth": 1, "window": 16, "vocabulary": 512},
    recipe="gru-classic",
    overrides=RECURRENT,
    entrants=_words("gru"),
    targets=(Target(measure="times", limit=3.0, against=("nn-gru-float32",), says="nn.GRU in float32"),),
    batch=8,
    warm=10,
)

LSTM = Work(
    name="lstm",
    title="LSTM, 2 × 384, vocabulary 8k, tied, T 100",
    shape={"embedding": 384, "width": 384, "depth": 2, "window": 100, "vocabulary": 8192},
    quick={"embedding": 16, "width": 16, "depth": 2, "window": 16, "vocabulary": 512},
    recipe="gru-classic",
    overrides=(*RECURRENT, "model.cell=lstm", "model.tied=true"),
    entrants=_words("lstm", tied=True),
    targets=(Target(measure="times", limit=1.5, against=("nn-lstm-float32",), says="nn.LSTM in float32"),),
    batch=32,
    batches=(8, 16, 32, 64),
)

LOSS = Work(
    name="loss-layer",
    title="loss layer, 2048 × 32k, width 384, forward and backward",
    unit="rows/s",
    shape={"rows": 2048, "vocabulary": 32768, "width": 384},
    quick={"rows": 64, "vocabulary": 512, "width": 32},
    entrants=(
        Entrant(name="ours", family="loss_layer", settings={"kind": "ours", "precision": "bfloat16"}),
        Entrant(name="ours-float32", family="loss_layer", settings={"kind": "ours", "precision": "float32"}),
        Entrant(
            name="plain-float32", family="loss_layer", settings={"kind": "plain", "precision": "float32"}
        ),
        Entrant(
            name="plain-bfloat16", family="loss_layer", settings={"kind": "plain", "precision": "bfloat16"}
        ),
    ),
    targets=(
        Target(measure="times", limit=2.0, against=("plain-float32",), says="plain float32"),
        Target(measure="times", limit=1.5, against=("plain-bfloat16",), says="plain bfloat16"),
        Target(measure="memory", limit=0.1, against=("plain-float32",), says="the memory of plain float32"),
    ),
)

SPANS = Work(
    name="t5",
    title="T5 span corruption, small (6 + 6 × 512, vocabulary 32k), T 512",
    shape={"width": 512, "depth": 6, "heads": 8, "head": 64, "inner": 2048, "window": 512}
    | {"vocabulary": 32000},
    quick={"width": 32, "depth": 2, "heads": 2, "head": 16, "inner": 64, "window": 32, "vocabulary": 512},
    recipe="t5-small",
    overrides=(
        *TRANSFORMER,
        "model.heads={{ count = {heads}, width = {head} }}",
        "model.feed={{ kind = 'relu', width = {inner} }}",
        "tokenizer.size={vocabulary}",
        "tokenizer.kind=bpe",
    ),
    entrants=(_ours(), SMALL_PAGES, *_trainers("t5", 0.1)),
    targets=(Target(measure="times", limit=3.0, against=("transformers",), says="Transformers as it comes"),),
    batch=4,
    batches=(2, 4, 8, 16),
    warm=3,
)


def _loader(name: str, of: Work, limit: float) -> Work:
    return Work(
        name=name,
        title=f"the loader of `{of.name}` alone, in the training process",
        shape=of.shape,
        quick=of.quick,
        recipe=of.recipe,
        overrides=of.overrides,
        entrants=(Entrant(name="ours", family="loader"),),
        targets=(Target(measure="rate", limit=limit, says="tokens per second of one core"),),
        batch=32,
        warm=64,
    )


LOADERS = (
    _loader("loader", GPT, 2e6),
    _loader("loader-masked", MASKED, 5e5),
    _loader("loader-spans", SPANS, 5e5),
)

_TRAINER = GPT.entrants[1]
_COMPILED = GPT.entrants[3]
STARTUP = Work(
    name="start-up",
    title="start-up: from the command to the first step of `gpt` on prepared data",
    unit="starts/s",
    shape=GPT.shape,
    quick=GPT.quick,
    recipe=GPT.recipe,
    overrides=GPT.overrides,
    entrants=(
        Entrant(name="ours", family="startup", settings={"of": "telos"}),
        *(
            Entrant(
                name=each.name,
                family="startup",
                environment="peers",
                settings={"of": {"family": each.family, "settings": each.settings}},
            )
            for each in (_TRAINER, _COMPILED)
        ),
    ),
    targets=(Target(measure="seconds", limit=5.0, says="to the first step"),),
    batch=8,
    warm=1,
    seconds=0.0,
)

WORKS: Mapping[str, Work] = {
    work.name: work for work in (GPT, MASKED, GRU, SMALL_GRU, LSTM, LOSS, SPANS, *LOADERS, STARTUP)
}
"""By name, in the order of the table."""

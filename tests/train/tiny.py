"""A run so small that it trains in a second: what the tests of training share."""

import hashlib
import json
import multiprocessing
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from telos import models
from telos.batch import Cut, Example, Rows, Side
from telos.config import override, read
from telos.data.corpus import Corpus
from telos.data.packing import collate
from telos.data.shards import Shards, ShardWriter
from telos.find import find
from telos.models._base import Model, Network, Sizes
from telos.models._initial import initialise
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from telos.train.log import Log
from telos.train.loop import Trainer
from telos.train.settings import TrainSettings

SMALL: dict[str, dict[str, Any]] = {
    "decoder": {"width": 16, "depth": 1, "heads": 2, "dropout": 0.1},
    "gru": {"embedding": 12, "width": 16, "dropout": {"output": 0.2}},
}

TRAIN: dict[str, Any] = {
    "window": 16,
    "batch": 4,
    "budget": {"steps": 12},
    "optimizer": {"name": "adamw", "rate": 0.01},
    "schedule": {"warmup": 4.0},
    "compute": {"precision": "float32"},
    "watch": {"evaluate_every": 0, "checkpoint_every": 0, "log_every": 1, "log": {"tensorboard": False}},
    "loader": {"block": 2},
}


def texts(number: int = 40, seed: int = 0, longest: int = 12) -> list[str]:
    """Small documents of made-up words, of very different lengths."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("aeioutnsrlk", k=draw.randint(1, 5))) for _ in range(50)]
    return [" ".join(draw.choices(words, k=draw.randint(1, longest))) for _ in range(number)]


@cache
def vocabulary() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(kind="byte"), iter(()))


def corpus(folder: Path, cut: Cut, documents: list[str] | None = None) -> Corpus:
    tokenizer = vocabulary()
    if not (folder / "header.json").exists():
        writer = ShardWriter(folder, tokenizer.hash, tokenizer.size)
        for text in texts() if documents is None else documents:
            writer.add(tokenizer.encode(text), bytes=len(text.encode()))
        writer.close()
    return Corpus(Shards(folder), cut, tokenizer)


def train_settings(*changes: str) -> TrainSettings:
    return read(TrainSettings, override(TRAIN, changes), "test")


def network(name: str, objective: Objective, window: int, seed: int = 0, **changes: Any) -> Network:
    model = read(find(models, name, Model), {**SMALL[name], **changes})
    made = model.build(Sizes(vocabulary().size, window, objective.heads(vocabulary().size)))
    initialise(made, seed)
    return made


def trainer(
    root: Path,
    *changes: str,
    model: str = "decoder",
    objective: Objective | None = None,
    partners: Mapping[str, nn.Module] | None = None,
    documents: list[str] | None = None,
    batch: int | None = None,
    **rest: Any,
) -> Trainer:
    """A trainer in the folder `root`, with dotted changes of the train settings; `batch` is what the loader's
    plan has in place of theirs."""
    objective = Causal() if objective is None else objective
    settings = train_settings(*changes)
    main = network(model, objective, settings.window)
    plan = settings.plan(
        corpus=corpus(root / "data", objective.cut(settings.window), documents),
        objective=objective,
        tokenizer=vocabulary(),
        seed=7,
        gives=find(models, model, Model).gives,
    )
    plan = plan if batch is None else replace(plan, batch=batch)
    rest.setdefault("folder", root / "checkpoints")
    everyone = {"main": main, **(partners or {})}
    return Trainer(models=everyone, objective=objective, plan=plan, settings=settings, **rest)


def rows(ids: np.ndarray[Any, Any]) -> Rows:
    """One row of one document, as a model reads it."""
    example = Example(main=Side.of(ids, causal=True), asks=())
    return collate([[example]], len(ids)).main


class Recorder:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def start(self, step: int) -> None:
        self.lines = [line for line in self.lines if line["step"] <= step]

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        self.lines.append({"step": step, **values})

    def close(self) -> None:
        pass


def digest(module: nn.Module) -> str:
    """A hash of every bit of a module's weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def ledger(trainer: Trainer) -> Callable[[], list[Any]]:
    """From now on, notes the samples of every step."""
    taken: list[Any] = []
    before = trainer.take

    def take(step: Any) -> None:
        taken.append([row for batch in step.batches for row in batch.samples])
        before(step)

    trainer.take = take  # type: ignore[method-assign]
    return lambda: taken


def train(folder: Path, told: Mapping[str, Any]) -> None:
    """Train in this process, as `trainer` is told; `outcome.json` says how it ended."""
    torch.set_num_threads(1)
    rest = dict(told)
    made = trainer(folder, *rest.pop("changes", ()), **rest)
    made.log = Log(folder, made.settings.watch.log)
    start = made.resume()
    outcome = made.run()
    said = {
        "start": start,
        "step": outcome.step,
        "reason": outcome.reason,
        "weights": digest(made.models["main"]),
    }
    (folder / "outcome.json").write_text(json.dumps(said))
    sys.exit(outcome.exit_status)


def process(folder: Path, told: Mapping[str, Any]) -> Any:
    """`train` in a process of its own, which can be killed."""
    # Forked where it can be, which spares the child its imports; with CUDA, autograd cannot run in a fork.
    context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    started = context.Process(target=train, args=(folder, told))
    started.start()
    return started

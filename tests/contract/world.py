"""A small world for the contract suites: documents, a vocabulary, shards, and a model or two."""

import copy
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from telos import models, objectives
from telos.batch import Cut
from telos.config import read
from telos.data.corpus import Corpus
from telos.data.shards import Shards, ShardWriter
from telos.find import find, names
from telos.models._base import Model, Network, Sizes
from telos.models._initial import initialise
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer

__all__ = ["DOCUMENTS", "built", "corpus", "make_model", "make_objective", "sizes_for", "write_shards"]

DOCUMENTS = (
    "The cat sat on the mat. The dog sat on the log. The cat saw the dog, and the dog saw the cat.",
    "床前明月光,疑是地上霜。举头望明月,低头思故乡。",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n",
    "x",
    "<|end|> is a text like any other, and so is <|mask|>; numbers are 1, 2, 3, 5, 8, 13, 21, 34.",
    "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen. " * 3,
)

CLASSES = {"prose": {"train": 2}, "verse": {"train": 2}}
"""Of the documents, and how many are of each."""

_SMALL: dict[str, dict[str, Any]] = {
    "decoder": {"width": 16, "depth": 2, "heads": 2},
    "encoder": {"width": 16, "depth": 2, "heads": 2, "embedding": {"types": 2}},
    "encoder_decoder": {"width": 16, "depth": 2, "heads": 2, "feed": {"width": 32}},
    "gru": {"embedding": 12, "width": 16},
    "min_gru": {"width": 16, "depth": 2},
    "recurrent_encoder_decoder": {"embedding": 12, "width": 24},
    "state_space": {"width": 16, "depth": 2, "head": 8, "state": 8},
}
"""Settings that make a model small; a model without an entry is built as it is."""


@cache
def vocabulary(specials: tuple[str, ...] = ()) -> Tokenizer:
    return train_tokenizer(TokenizerSettings(kind="bpe", size=280 + len(specials)), iter(DOCUMENTS), specials)


@cache
def characters(specials: tuple[str, ...] = ()) -> Tokenizer:
    """A vocabulary in which each character is a token, so that to change one changes no other."""
    settings = TokenizerSettings(kind="character", size=280 + len(specials))
    return train_tokenizer(settings, iter(DOCUMENTS), specials)


def write_shards(folder: Path, tokenizer: Tokenizer, texts: Sequence[str] = DOCUMENTS) -> Shards:
    columns = ("word_start", "sentence_start")
    more: dict[str, Any] = {"target": None, "label": None}
    writer = ShardWriter(folder, tokenizer.hash, tokenizer.size, (*columns, *more), tuple(CLASSES))
    for number, text in enumerate(texts):
        ids, *starts = tokenizer.encode_words(text)
        more["target"] = tokenizer.encode(texts[number - 1])
        more["label"] = number % (len(CLASSES) + 1) - 1  # of no class, of the first, of the second, …
        writer.add(ids, len(text.encode()), **more, **dict(zip(columns, starts, strict=True)))
    writer.close()
    return Shards(folder)


def corpus(folder: Path, cut: Cut, tokenizer: Tokenizer, texts: Sequence[str] = DOCUMENTS) -> Corpus:
    if not (folder / "header.json").exists():
        write_shards(folder, tokenizer, texts)
    return Corpus(Shards(folder), cut, tokenizer)


def make_objective(name: str) -> Objective:
    """An objective of that name; where it is made of others, of `causal` ones."""
    kind = find(objectives, name, Objective)
    made_of = {
        field: "causal" if "tuple" not in str(info.annotation) else ["causal"]
        for field, info in kind.model_fields.items()
        if info.is_required()
    }
    return read(kind, made_of).informed(CLASSES)


def make_model(name: str, **changes: Any) -> Model:
    return read(find(models, name, Model), {**copy.deepcopy(_SMALL.get(name, {})), **changes})


def sizes_for(objective: Objective, tokenizer: Tokenizer, window: int) -> Sizes:
    return Sizes(tokenizer.size, window, objective.heads(tokenizer.size))


def built(model: Model, sizes: Sizes, seed: int = 0) -> Network:
    """The network, initialised, in float32 on the CPU."""
    with torch.device("cpu"):
        network = model.build(sizes)
    initialise(network, seed)
    return network


NAMES_OF_MODELS = names(models)

"""A model to start from, wherever it is: the folder of a run here, or one as Hugging Face writes it.

Of a run, its `recipe.toml` says what the model is, its `tokenizer.json` is the vocabulary, and the weights
are those of the checkpoint that `open_run` would take: the best on validation, averaged where so kept.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from telos.batch import HeadSpec
from telos.config import read_toml
from telos.errors import CheckpointError, ConfigError
from telos.export.hf._source import Described
from telos.export.hf._source import describe as describe_foreign
from telos.models._base import Network
from telos.train import checkpoint

__all__ = ["Given", "describe", "is_run", "take_over"]


def is_run(source: str) -> bool:
    """Whether it is the folder of a run."""
    return (Path(source) / "recipe.toml").is_file()


def describe(source: str, adapter: str = "") -> Described:
    """What a recipe must say to start from what is in `source`, with an `adapter` on it if there is one.

    Raises:
        ConfigError: there is no such folder, or a model or an adapter of a kind that is not known here.
        CheckpointError: the run has no whole checkpoint.
        DataError: a file is missing or broken.
    """
    if not is_run(source):
        return describe_foreign(source, adapter)
    if adapter:
        raise ConfigError(
            f"model.from.adapter: {source} is a run, and an adapter of peft stands on a folder of Hugging "
            "Face's. Write the run as one first: telos export RUN --to hf."
        )
    return _describe_run(Path(source))


def _describe_run(folder: Path) -> Described:
    model = read_toml(folder / "recipe.toml").get("model", {})
    saved = folder / "checkpoints"
    chosen = checkpoint.newest_valid(saved, first=checkpoint.best(saved))
    tokenizer = folder / "tokenizer.json"
    if chosen is None or not tokenizer.is_file():
        raise CheckpointError(f"{folder}: this run has no whole checkpoint to start from. Train it first.")
    model = {key: value for key, value in model.items() if key not in ("from", "vectors")}
    whole = hashlib.blake2b(json.dumps(model, sort_keys=True).encode(), digest_size=16)
    for path in (tokenizer, chosen / "manifest.json"):  # which holds the hashes of the weights
        whole.update(hashlib.blake2b(path.read_bytes()).digest())
    return Described(model=model, tokenizer={"path": str(tokenizer)}, content=whole.hexdigest(), places=0)


class Given(NamedTuple):
    """A trained network, and what its heads are."""

    network: Network
    heads: tuple[HeadSpec, ...]
    name: str
    """What errors call it."""


def take_over(given: Given, network: Network, heads: tuple[HeadSpec, ...]) -> list[str]:
    """Put the weights of a trained network into one that was built by the same description and initialised.

    Heads that it lacks, or that are asked other things there, stay as they are; so do rows of the embedding
    and of heads for tokens beyond its vocabulary.

    Returns: sentences that say what was not simply taken over.

    Raises:
        ConfigError: the network has more places than the given one, or other sizes.
    """
    theirs, ours = (checkpoint.weights(each) for each in (given.network, network))
    common = [head.name for head in heads if any(_alike(head, other) for other in given.heads)]
    growing = ("embedding.", *(f"heads.{h.name}." for h in heads if h.kind == "tokens" and h.name in common))
    anew = []
    with torch.no_grad():
        for name, tensor in ours.items():
            head = name.split(".")[1] if name.startswith("heads.") else ""
            if head and (head not in common or name not in theirs):
                anew.append(name)
                continue
            _check(name, tensor, theirs, name.startswith(growing), given.name)
            rows = slice(min(len(tensor), len(theirs[name])))
            tensor[rows].copy_(theirs[name][rows])
    said = [f"{name} starts anew: {given.name} does not hold it" for name in anew]
    left = sorted({name.split(".")[1] for name in theirs if name not in ours and name.startswith("heads.")})
    said += [f"the head {name} of {given.name} is left: nothing here asks it" for name in left]
    return said + _grown(ours["embedding.weight"], theirs["embedding.weight"])


def _alike(head: HeadSpec, other: HeadSpec) -> bool:
    """Whether two heads are asked the same; a vocabulary may have grown."""
    if head.kind != "tokens":
        return head == other
    return (head.name, head.kind, head.ahead) == (other.name, other.kind, other.ahead)


def _check(name: str, ours: Tensor, theirs: Mapping[str, Tensor], grows: bool, where: str) -> None:
    """A tensor must be there in the same shape; only where rows stand for tokens may there be more of them,
    and where they stand for places fewer."""
    there = theirs.get(name)
    if there is None:
        raise ConfigError(
            f"model.from: {where} has no {name}. Leave the settings of the model out, but for dropout."
        )
    if name == "places.weight" and len(ours) > len(there):
        raise ConfigError(
            f"train.window = {len(ours)}: the model in {where} has {len(there)} places. Set train.window to "
            f"at most {len(there)}."
        )
    loose = grows or name == "places.weight"
    if ours.shape[1:] != there.shape[1:] or (ours.shape != there.shape and not loose):
        raise ConfigError(
            f"model.from: {name} is {tuple(there.shape)} in {where}, and the settings of the model say "
            f"{tuple(ours.shape)}. Leave them out, but for dropout."
        )


def _grown(ours: Tensor, theirs: Tensor) -> list[str]:
    if len(ours) == len(theirs):
        return []
    return [f"the embedding grew from {len(theirs):,} to {len(ours):,} rows, for special tokens"]

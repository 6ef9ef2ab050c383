"""What an architecture of Hugging Face's is to us: its description, its tensors, both ways.

To add one, write a file in this folder, called as config.json calls it (`model_type`), with one final class
that derives from `Architecture`. Nothing else is edited. One table, `pairs`, says which tensor of ours is
which of theirs; it is read in both directions, so that they cannot differ.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from telos.batch import HeadSpec
from telos.errors import ConfigError
from telos.models._base import Model, Sizes
from telos.tokenizer import Tokenizer

__all__ = [
    "BOTH_WAYS",
    "Architecture",
    "Classifier",
    "Fixed",
    "Pair",
    "classifies",
    "figure",
    "has_head",
    "integer",
    "key_heads_misfit",
    "linear",
    "named_head",
    "norm",
    "rotary_base",
    "stacked",
    "table",
    "to_ours",
    "to_theirs",
]


class Pair(NamedTuple):
    """A tensor of ours, and the tensors of theirs that it is made of, one under the other."""

    ours: str
    theirs: tuple[str, ...]
    heights: tuple[int, ...] = ()
    """Rows of each of theirs, where there are several."""
    turned: bool = False
    """They keep it transposed, as GPT-2 does its matrices."""
    per: Literal["", "token", "place"] = ""
    """What its rows stand for, where there may be more or fewer of them than in a file."""
    spare: str = ""
    """Which of theirs it begins as where a file has no such tensor."""
    upside_down: bool = False
    """Their rows are in the opposite order: their class 0 is our 1."""
    times: float = 1.0
    """What theirs is multiplied by to be ours: a power of two, which loses nothing."""


class Fixed(NamedTuple):
    """A key of config.json that our network knows one value of, and what it is where it is not said."""

    key: str
    value: Any
    default: Any


class Classifier(NamedTuple):
    """Their model that puts texts in classes."""

    kind: str
    """Its class: `BertForSequenceClassification`."""
    head: str
    """Its last layer, which has a row for each class."""
    asked: Mapping[str, Mapping[str, Any]]
    """Where a text can be asked: at the `first` place of its row, at the `last`, or the mean of `all`; and
    what config.json says of it."""
    unlike: str = ""
    """Why ours is never the same, where it is not."""


BOTH_WAYS: Mapping[str, str] = {
    "begin": "[CLS]",
    "end": "[SEP]",
    "separate": "[SEP]",
    "pad": "[PAD]",
    "mask": "[MASK]",
}
"""Special tokens of those that read in both directions, where their files do not say."""

_OPENED = {
    "causal": "AutoModelForCausalLM",
    "full": "AutoModelForMaskedLM",
    "pair": "AutoModelForSeq2SeqLM",
}


class Architecture(ABC):
    """Base of all architectures of Hugging Face's."""

    model: ClassVar[str]
    """The member of `models/` that it is."""
    style: ClassVar[str]
    """What a description must say to be one of these, for a reader whose own says something else."""
    reads: ClassVar[Literal["causal", "full", "pair"]]
    """Left to right, in both directions, or a source and then what follows from it."""
    heads: ClassVar[tuple[str, ...]] = ("tokens",)
    """Heads that it can have; others are left out of an export."""
    body: ClassVar[str] = ""
    """What the names of all tensors but the heads' begin with, and are without in files of the body alone."""
    derived: ClassVar[tuple[str, ...]] = ()
    """Endings of names of tensors that are no weights."""
    tied: ClassVar[tuple[str, ...]] = ()
    """Names of the embedding and of the heads that can be the same."""
    classifier: ClassVar[Classifier | None] = None
    """The model with a head for classes that have names, where there is one."""
    fixed: ClassVar[tuple[Fixed, ...]] = ()
    """What config.json must say so that our network computes the same."""
    specials: ClassVar[Mapping[str, str]] = {}
    """Special tokens that its tokenizers have where their files do not say: `begin`, `end`, `pad`, …"""

    @abstractmethod
    def misfit(self, model: Model, sizes: Sizes) -> str:
        """What in a description is not as here; empty where it fits."""

    @abstractmethod
    def config(self, model: Model, sizes: Sizes) -> dict[str, Any]:
        """The part of config.json that describes the architecture: `architectures` and sizes."""

    @abstractmethod
    def describe(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of our model that a config.json says, as a recipe would write them.

        Raises:
            ConfigError: it says what our model cannot be.
        """

    @abstractmethod
    def pairs(self, model: Model, sizes: Sizes) -> list[Pair]:
        """Every tensor of our network, and what it is there."""

    def opened_by(self, sizes: Sizes) -> str:
        """The class of transformers' that opens it with all its heads."""
        return "AutoModelForSequenceClassification" if classifies(sizes) else _OPENED[self.reads]

    def asks(self, sizes: Sizes) -> str:
        """The head that the proof compares."""
        named = named_head(sizes)
        return named.name if named is not None and classifies(sizes) else "tokens"

    def kept(self, sizes: Sizes) -> tuple[str, ...]:
        """Of the heads that there are, those that an export has."""
        return (self.asks(sizes),) if classifies(sizes) else self.heads

    def generation(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """What generation_config.json says beside special tokens: those that are never written."""
        silent = sorted(tokenizer.special_ids - {tokenizer.end})
        return {"suppress_tokens": silent} if self.reads == "causal" else {}

    def places(self, config: Mapping[str, Any]) -> int:
        """Places that the file has vectors for; 0 where positions have no end."""
        return 0

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuse a config.json that means another computation.

        Raises:
            ConfigError: names the key, its value and the one that we know.
        """
        for key, value, default in self.fixed:
            found = config.get(key, default)
            if found != value:
                raise ConfigError(
                    f"config.json: {key} = {found!r}; the {self.model} here computes with {value!r} only."
                )


def has_head(sizes: Sizes, name: str) -> bool:
    """Whether a network of these sizes has that head."""
    return any(spec.name == name for spec in sizes.heads)


def named_head(sizes: Sizes) -> HeadSpec | None:
    """The head that puts texts in classes which have names."""
    return next((spec for spec in sizes.heads if spec.kind == "classes" and spec.names), None)


def classifies(sizes: Sizes) -> bool:
    """Whether a network of these sizes does nothing but put texts in classes."""
    return named_head(sizes) is not None and all(spec.kind == "classes" for spec in sizes.heads)


def key_heads_misfit(model: Any) -> str:
    """What attention heads have that none of theirs has which reads in both directions; empty for nothing."""
    shared = model.key_heads != model.heads.count
    return "key heads are shared or normed" if shared or model.heads.normed else ""


def integer(config: Mapping[str, Any], key: str, default: int) -> int:
    """A size that config.json says.

    Raises:
        ConfigError: it is no number of at least 1.
    """
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"config.json: {key} = {value!r}: expected a whole number of at least 1.")
    return value


def figure(config: Mapping[str, Any], key: str, default: float) -> float:
    """A share of dropout, or the ε of norms, that config.json says.

    Raises:
        ConfigError: it is no number.
    """
    value = config.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigError(f"config.json: {key} = {value!r}: expected a number.")
    return float(value)


def table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A table that config.json holds; empty where it has none.

    Raises:
        ConfigError: something else is there.
    """
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"config.json: {key} = {value!r}: expected a table.")
    return value


def rotary_base(config: Mapping[str, Any], default: float = 10000.0) -> float:
    """The base of plain rotary angles.

    Raises:
        ConfigError: they are scaled, for longer windows; or they are no numbers.
    """
    said = table(config, "rope_parameters") or table(config, "rope_scaling")
    kind = said.get("rope_type", said.get("type", "default"))
    if kind != "default" or said.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConfigError(
            f"config.json: rotary positions of the kind {kind!r}, scaled or of a part of each head; the "
            'decoder here knows plain ones ("default") of whole heads only.'
        )
    return figure(said, "rope_theta", figure(config, "rope_theta", default))


def linear(ours: str, theirs: str, *, bias: bool, turned: bool = False) -> list[Pair]:
    """A linear layer's weight, and its bias where it has one."""
    return _with_bias(ours, (theirs,), (), bias=bias, turned=turned)


def stacked(
    ours: str, theirs: Sequence[str], heights: Sequence[int], *, bias: bool, turned: bool = False
) -> list[Pair]:
    """One matrix of ours that is several of theirs, one under the other."""
    return _with_bias(ours, tuple(theirs), tuple(heights), bias=bias, turned=turned)


def norm(ours: str, theirs: str, *, bias: bool) -> list[Pair]:
    """A norm's weight, and its bias where it has one."""
    return _with_bias(ours, (theirs,), (), bias=bias, turned=False)


def _with_bias(
    ours: str, theirs: tuple[str, ...], heights: tuple[int, ...], *, bias: bool, turned: bool
) -> list[Pair]:
    weight = Pair(f"{ours}.weight", tuple(f"{name}.weight" for name in theirs), heights, turned)
    return [weight, Pair(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs), heights)][: 1 + bias]


def to_theirs(pairs: Iterable[Pair], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors as theirs, each with memory of its own. Every one of ours must be in the table, and the
    other way round."""
    found: dict[str, Tensor] = {}
    known = set()
    for pair in pairs:
        known.add(pair.ours)
        tensor = ours[pair.ours].detach().cpu()
        parts = torch.split(tensor, list(pair.heights)) if pair.heights else (tensor,)
        for name, part in zip(pair.theirs, parts, strict=True):
            part = (part.flip(0) if pair.upside_down else part) / pair.times
            found[name] = (part.t() if pair.turned else part).clone(memory_format=torch.contiguous_format)
    assert known == ours.keys(), f"not in the table, or not in the network: {known ^ ours.keys()}"
    return found


def to_ours(pair: Pair, theirs: Mapping[str, Tensor]) -> Tensor:
    """One tensor of ours out of theirs, in float32."""
    parts = [theirs[name].t() if pair.turned else theirs[name] for name in pair.theirs]
    found = torch.cat([part.float() for part in parts]) * pair.times
    return found.flip(0) if pair.upside_down else found

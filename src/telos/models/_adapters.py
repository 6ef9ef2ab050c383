"""Low-rank adapters: beside a linear layer stands a narrow one, and only that is trained (LoRA: Hu et al.,
2022).

    y = W x + b + (alpha / rank) · up · down · x        down (rank, inward), up (outward, rank)

`up` begins as zeros, so a model with new adapters says to the bit what it said without. The layer keeps the
names of its weight and bias, so all that knows the network by names knows it still. After training
`merged` adds the product to W, and what is left is the plain layer again.

Tokens that the vocabulary got have rows that nobody ever trained. `grow` makes these a parameter of their own
beside the table, `rows`, which is what is read in their places; after training they are put into the table.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from telos.errors import ConfigError
from telos.models._base import Initial, Network
from telos.models._dropout import dropout
from telos.models._initial import drawn

__all__ = ["KINDS", "Adapted", "adapt", "adapters", "bared", "grow", "grown", "merged"]

KINDS = {"attention": ("*.attend.*", "*.read.*"), "feed_forward": ("*.feed.*",)}
"""Layers by what they are for, as patterns of their names."""

N = TypeVar("N", bound=nn.Module)


class Adapted(nn.Linear):
    """A linear layer, which stays as it is, with an adapter."""

    def __init__(self, plain: nn.Linear, rank: int, alpha: float, share: float) -> None:
        """`share` of what goes into the adapter is dropped in training."""
        super().__init__(plain.in_features, plain.out_features, plain.bias is not None, device="meta")
        self.rank, self.alpha, self.share = rank, alpha, share
        self.weight, self.bias = plain.weight, plain.bias
        self.down = nn.Parameter(plain.weight.new_empty(rank, plain.in_features))
        self.up = nn.Parameter(plain.weight.new_zeros(plain.out_features, rank))

    @property
    def scale(self) -> float:
        """What the adapter's answer counts."""
        return self.alpha / self.rank

    def forward(self, x: Tensor) -> Tensor:
        """`x` (…, inward) → (…, outward)."""
        narrow = functional.linear(dropout(x, self.share, self.training), self.down)
        return functional.linear(x, self.weight, self.bias) + functional.linear(narrow, self.up) * self.scale

    @torch.no_grad()
    def plain(self, *, merged: bool) -> nn.Linear:
        """The layer without its adapter; `merged`: with the product of its matrices added, exact but for one
        rounding."""
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        plain.weight, plain.bias = self.weight, self.bias
        if merged:
            moved = self.weight.double() + self.scale * (self.up.double() @ self.down.double())
            plain.weight = nn.Parameter(moved.to(self.weight.dtype), self.weight.requires_grad)
        return plain.train(self.training)


def adapt(
    network: Network, on: Sequence[str], *, rank: int, alpha: float, dropout: float, seed: int
) -> list[str]:
    """Put new adapters on the layers that `on` names, in place: kinds of layers (`attention`,
    `feed_forward`), or patterns of their names. Returns the names of these layers.

    `down` is drawn from (seed, name), uniform in ±1/√inward, as `peft` has it.

    Raises:
        ConfigError: one of `on` names no linear layer of the network.
    """
    there = dict(_linear_layers(network))
    chosen = [name for name in there if any(_is(name, each) for each in on)]
    for each in on:
        if not any(_is(name, each) for name in there):
            raise ConfigError(f"tune.lora.on = {each!r}: {_nothing_there(list(there))}")
    for name in chosen:
        layer = Adapted(there[name], rank, alpha, dropout)
        initial = Initial("uniform", layer.in_features**-0.5)
        with torch.no_grad():
            layer.down.copy_(drawn(initial, layer.down.shape, seed, f"{name}.down"))
        _put(network, name, layer.train(there[name].training))
    return chosen


def grow(network: Network, count: int) -> None:
    """Make the last `count` rows of the network's tables of tokens parameters of their own, in place: those
    of its embedding, and of the head for tokens where that has its own."""
    if not count:
        return
    heads: list[Any] = [head for name, head in network.heads.items() if name == "tokens"]
    for table in (network.embedding, *(head for head in heads if head.weight is not None)):
        table.rows = nn.Parameter(table.weight.detach()[-count:].clone())
    network.embedding.register_forward_hook(_with_rows)


def grown(network: nn.Module) -> list[nn.Parameter]:
    """The rows that `grow` made."""
    return [parameter for name, parameter in network.named_parameters() if name.endswith(".rows")]


def _with_rows(table: Any, given: tuple[Tensor, ...], known: Tensor) -> Tensor:
    """What the embedding gives for ids (…,), its new rows from beside it."""
    if table.rows is None:
        return known
    place = given[0] - (len(table.weight) - len(table.rows))
    new = functional.embedding(place.clamp(min=0), table.rows)
    return torch.where((place >= 0).unsqueeze(-1), new, known)


@torch.no_grad()
def _settled(network: N) -> N:
    """The same network, in place, new rows put into its tables."""
    every: list[Any] = list(network.modules())
    for table in (module for module in every if module._parameters.get("rows") is not None):
        table.weight[-len(table.rows) :] = table.rows
        table.rows = None
    return network


def adapters(network: nn.Module) -> dict[str, Adapted]:
    """The layers that have adapters, by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Adapted)}


def merged(network: N) -> N:
    """The same network, in place, its adapters merged into the layers that they stand beside."""
    for name, layer in adapters(network).items():
        _put(network, name, layer.plain(merged=True))
    return _settled(network)


def bared(network: N) -> N:
    """The same network, in place, without its adapters; new rows are its own."""
    for name, layer in adapters(network).items():
        _put(network, name, layer.plain(merged=False))
    return _settled(network)


def _linear_layers(network: Network) -> Iterator[tuple[str, nn.Linear]]:
    """Those between embedding and heads that do nothing but what a linear layer does."""
    for name, module in network.named_modules():
        if type(module) is nn.Linear and not name.startswith("heads."):
            yield name, module


def _is(name: str, wanted: str) -> bool:
    """Whether a layer is of a kind, or fits a pattern."""
    return any(fnmatchcase(name, pattern) for pattern in KINDS.get(wanted, (wanted,)))


def _nothing_there(there: Sequence[str]) -> str:
    if not there:
        return (
            "this model has no linear layers between its embedding and its heads, so adapters cannot be put "
            'on it. Train it whole, tune.only = "all", or its heads.'
        )
    names = dict.fromkeys(".".join("*" if p.isdigit() else p for p in n.split(".")) for n in there)
    return (
        f"no linear layer of this model is called so. There are: {', '.join(names)}. Give one of "
        f"{', '.join(KINDS)}, or patterns of these names."
    )


def _put(network: nn.Module, name: str, layer: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(network.get_submodule(owner), last, layer)

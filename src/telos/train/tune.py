"""What of a model is trained, and at what share of the rate: set on a network from outside, before training.

| only | trained | to use it |
|---|---|---|
| `all` | every weight | most text, or a task far from what the model knows; most memory |
| `heads` | the heads, on what the model makes of a text as it is | a quick look at what is in a model |
| `lora` | adapters, heads other than `tokens`, rows of new tokens | little memory; a small result |

What is not trained is in no optimizer and has no gradient. With `decay` d, a layer learns at the rate times d
to the power of the layers above it (Howard and Ruder, 2018; Clark et al., 2020): heads at the whole rate, the
last block at d, the embedding of a model of N blocks at d^(N + 1).
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from telos.config import Lax, Settings
from telos.errors import ConfigError
from telos.models._adapters import adapt, adapters, grow, grown
from telos.models._base import Network

__all__ = ["LoraSettings", "TuneSettings", "put_on", "trained_numbers", "tune"]


class LoraSettings(Settings):
    """Low-rank adapters (Hu et al., 2022): W x + (alpha / rank) · up · down · x, where W stays."""

    rank: int = Field(8, ge=1)
    """Width of an adapter: the rank of what it can add to a matrix."""
    alpha: float = Field(16.0, gt=0)
    """Over rank, what an adapter's answer counts."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of what goes into an adapter that is dropped in training."""
    on: Annotated[tuple[str, ...], Lax, Field(min_length=1)] = ("attention", "feed_forward")
    """Which linear layers have one: `attention`, `feed_forward`, or patterns of their names, as
    `"blocks.*.attend.inward"`."""


class TuneSettings(Settings):
    """What of a model that was trained before (`model.from`) is trained on."""

    only: Literal["all", "heads", "lora"] = "all"
    """Every weight; the heads alone; or adapters, with which heads other than `tokens` and the rows of tokens
    that are new to the model are trained too."""
    lora: LoraSettings = LoraSettings()
    """The adapters."""
    decay: float = Field(1.0, gt=0, le=1)
    """A layer learns at the rate times this to the power of the layers above it."""

    @model_validator(mode="after")
    def _settings_count(self) -> "TuneSettings":
        if self.only != "lora" and self.lora != LoraSettings():
            raise ValueError(
                f'lora does nothing with only = "{self.only}"; set only = "lora" or leave it out'
            )
        if self.only == "heads" and self.decay != 1.0:
            raise ValueError('decay does nothing with only = "heads": all heads learn at the whole rate')
        return self


def tune(network: Network, settings: TuneSettings, seed: int, *, new: int = 0) -> None:
    """Make a network, which has its first values, ready to be trained so. `new`: the last so many tokens of
    its vocabulary were not in that of the model which it began from.

    Raises:
        ConfigError: the network has no such layers, or no head of its own.
    """
    if settings.only == "lora":
        put_on(network, settings.lora, seed)
        grow(network, new)
    if settings.only != "all":
        _freeze(network, settings.only)
    if settings.decay != 1.0:
        network.shares = {name: settings.decay**above for name, above in network.layers_above().items()}


def put_on(network: Network, lora: LoraSettings, seed: int = 0) -> None:
    """New adapters by the settings.

    Raises:
        ConfigError: the network has no such layers.
    """
    settings = lora.model_dump()
    adapt(network, settings.pop("on"), **settings, seed=seed)


def _freeze(network: Network, only: str) -> None:
    """Gradients for what is trained alone."""
    new = {id(p) for layer in adapters(network).values() for p in (layer.down, layer.up)}
    new |= {id(rows) for rows in grown(network)}
    for name, parameter in network.named_parameters():
        head = name.startswith("heads.") and (only == "heads" or not name.startswith("heads.tokens."))
        parameter.requires_grad_(head or id(parameter) in new)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(
            'tune.only = "heads": this model has no head with weights of its own: that of `tokens` is the '
            'embedding, turned around (model.tied). Set tune.only = "lora" or "all".'
        )


def trained_numbers(network: Network) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)

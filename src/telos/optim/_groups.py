"""Which parameters are trained, and which of them decay. Each is in one group, once, whatever shares it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from telos.errors import ConfigError

__all__ = ["parameter_groups"]


class Trained(Protocol):
    """What is asked of a network here: its parameters by name, and which of them do not decay."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def undecayed(self) -> Sequence[str]: ...


def parameter_groups(networks: Mapping[str, Trained], decay: float) -> list[dict[str, Any]]:
    """Two groups for a `torch.optim.Optimizer`: what decays, with `weight_decay = decay`, and what does not,
    which is marked as `spared`.

    `params` is a list of (`role.name`, parameter), so that the optimizer's state can be told by name.
    Parameters that are frozen (`requires_grad` is false) are in no group; one that several names or networks
    share is in one, under its first name.

    Raises:
        ConfigError: a network's `undecayed` names something that is not one of its parameters, or nothing can
        be trained.
    """
    decayed: list[tuple[str, Any]] = []
    undecayed: list[tuple[str, Any]] = []
    taken: set[int] = set()
    for role, network in networks.items():
        exempt = _exempt(role, network)
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and id(parameter) not in taken:
                taken.add(id(parameter))
                (undecayed if name in exempt else decayed).append((f"{role}.{name}", parameter))
    if not taken:
        raise ConfigError(f"nothing to train: every parameter of {', '.join(networks)} is frozen.")
    groups = [
        {"params": decayed, "weight_decay": decay},
        {"params": undecayed, "weight_decay": 0.0, "spared": True},
    ]
    return [group for group in groups if group["params"]]


def _exempt(role: str, network: Trained) -> set[str]:
    exempt = set(network.undecayed())
    unknown = sorted(exempt - {name for name, _ in network.named_parameters()})
    if unknown:
        raise ConfigError(
            f"{role}: undecayed() names {', '.join(unknown)}, which the network does not have. "
            f"It has: {', '.join(name for name, _ in network.named_parameters())}."
        )
    return exempt

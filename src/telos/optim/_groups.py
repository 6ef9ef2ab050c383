"""Which parameters are trained, and which of them decay. Each is in one group, once, whatever shares it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from telos.errors import ConfigError

__all__ = ["parameter_groups"]


class Trained(Protocol):
    """What is asked of a network here: its parameters by name, which of them do not decay, and which learn at
    a share of the rate only."""

    @property
    def shares(self) -> Mapping[str, float]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def undecayed(self) -> Sequence[str]: ...


def parameter_groups(networks: Mapping[str, Trained], decay: float) -> list[dict[str, Any]]:
    """Groups for a `torch.optim.Optimizer`: what decays, with `weight_decay = decay`, and what does not,
    which is marked as `spared`; and both again for each `share` of the rate below 1 at which parameters
    learn.

    `params` is a list of (`role.name`, parameter), so that the optimizer's state can be told by name.
    Parameters that are frozen (`requires_grad` is false) are in no group; one that several names or networks
    share is in one, under its first name.

    Raises:
        ConfigError: a network's `undecayed` names something that is not one of its parameters, or nothing can
            be trained.
    """
    found: dict[tuple[float, bool], list[tuple[str, Any]]] = {}
    taken: set[int] = set()
    for role, network in networks.items():
        exempt = _exempt(role, network)
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and id(parameter) not in taken:
                taken.add(id(parameter))
                kind = (network.shares.get(name, 1.0), name in exempt)
                found.setdefault(kind, []).append((f"{role}.{name}", parameter))
    if not taken:
        raise ConfigError(f"nothing to train: every parameter of {', '.join(networks)} is frozen.")
    ordered = sorted(found, key=lambda kind: (-kind[0], kind[1]))
    return [_group(found[kind], decay, *kind) for kind in ordered]


def _group(parameters: list[tuple[str, Any]], decay: float, share: float, spared: bool) -> dict[str, Any]:
    decayed = {"weight_decay": 0.0, "spared": True} if spared else {"weight_decay": decay}
    return {"params": parameters, **decayed, **({} if share == 1.0 else {"share": share})}


def _exempt(role: str, network: Trained) -> set[str]:
    exempt = set(network.undecayed())
    unknown = sorted(exempt - {name for name, _ in network.named_parameters()})
    if unknown:
        raise ConfigError(
            f"{role}: undecayed() names {', '.join(unknown)}, which the network does not have. "
            f"It has: {', '.join(name for name, _ in network.named_parameters())}."
        )
    return exempt

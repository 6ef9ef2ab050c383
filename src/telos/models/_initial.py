"""First values: a function of seed and parameter's name, not of device or order of building."""

import hashlib

import torch
from torch import Tensor

from telos.models._base import Initial, Network

__all__ = ["drawn", "initialise"]


@torch.no_grad()
def initialise(network: Network, seed: int) -> None:
    """Fill every parameter as the network's `initial` says; drawn in float32 on the host, then copied."""
    for name, parameter in network.named_parameters():
        parameter.copy_(drawn(network.initial(name), parameter.shape, seed, name))


def drawn(initial: Initial, shape: torch.Size, seed: int, name: str) -> Tensor:
    """First values of one parameter, float32, on the host."""
    generator, values = _generator(seed, name), torch.empty(shape, device="cpu")
    if initial.kind == "normal":
        return values.normal_(0.0, initial.scale, generator=generator)
    if initial.kind == "uniform":
        return values.uniform_(-initial.scale, initial.scale, generator=generator)
    assert initial.kind == "constant", initial
    return values.fill_(initial.scale)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=7).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "big"))

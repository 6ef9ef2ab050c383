"""First values: a function of seed and parameter's name, not of device or order of building."""

import hashlib

import torch
from torch import Tensor

from telos.models._base import Initial, Network

__all__ = ["initialise"]


@torch.no_grad()
def initialise(network: Network, seed: int) -> None:
    """Fill every parameter as the network's `initial` says; drawn in float32 on the host, then copied."""
    for name, parameter in network.named_parameters():
        parameter.copy_(_draw(network.initial(name), parameter.shape, _generator(seed, name)))


def _draw(initial: Initial, shape: torch.Size, generator: torch.Generator) -> Tensor:
    values = torch.empty(shape, device="cpu")
    if initial.kind == "normal":
        return values.normal_(0.0, initial.scale, generator=generator)
    if initial.kind == "uniform":
        return values.uniform_(-initial.scale, initial.scale, generator=generator)
    assert initial.kind == "constant", initial
    return values.fill_(initial.scale)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=7).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest, "big"))

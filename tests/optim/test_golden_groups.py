"""Trap 25: what every parameter of every architecture is to an optimizer, in a table that is read by people.

    tests/golden/parameter_groups.json    {architecture: {name: kind}}

`turned`: decays, and is orthogonalised by Muon. `decays`: decays, AdamW's in Muon too (experts, heads).
`spared`: does not decay, AdamW's. All go at one rate. After a change that is meant:

    python -m tests.optim.test_golden_groups
"""

import json
from pathlib import Path

import pytest
import torch

from telos.models._base import Network
from telos.optim._groups import parameter_groups
from telos.optim.adamw import AdamW
from telos.optim.muon import Muon
from tests.contract import world
from tests.contract.test_models import network_of
from tests.models.small import MODELS, built

GOLDEN = Path(__file__).parents[1] / "golden" / "parameter_groups.json"
DECAY, RATE = 0.25, 0.003


def architectures() -> dict[str, Network]:
    """One network of each kind: the contract's, and the decoders and encoders that differ from it."""
    return {name: network_of(name) for name in world.NAMES_OF_MODELS} | {
        f"small/{name}": built(name) for name in MODELS
    }


def kinds(network: Network) -> dict[str, str]:
    """By the optimizers themselves: the group that each has put a parameter into."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    adamw = AdamW(rate=RATE, decay=DECAY).build(parameter_groups({"main": network}, DECAY))
    muon = Muon(rate=RATE, decay=DECAY).build(parameter_groups({"main": network}, DECAY))
    found: dict[str, str] = {}
    for group in adamw.param_groups:
        assert group["lr"] == RATE and group["weight_decay"] in (0.0, DECAY)
        found |= {names[id(p)]: "decays" if group["weight_decay"] else "spared" for p in group["params"]}
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(found) == len(names)
    for group in muon.param_groups:
        turned = "momentum" in group
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == RATE and bool(group["weight_decay"]) == (found[name] == "decays"), name
            assert not turned or (found[name] == "decays" and parameter.ndim == 2), name
            found[name] = "turned" if turned else found[name]
    assert sum(len(group["params"]) for group in muon.param_groups) == len(names)
    return found


def table() -> dict[str, dict[str, str]]:
    return {name: kinds(network) for name, network in architectures().items()}


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def test_every_parameter_is_what_the_table_says(golden: dict[str, dict[str, str]]) -> None:
    assert table() == golden


def test_the_table_holds_every_architecture(golden: dict[str, dict[str, str]]) -> None:
    assert set(world.NAMES_OF_MODELS) | {f"small/{name}" for name in MODELS} == set(golden)


@pytest.mark.parametrize("name", world.NAMES_OF_MODELS)
def test_without_gradients_decay_leaves_the_spared_to_the_bit(
    name: str, golden: dict[str, dict[str, str]]
) -> None:
    """Whatever the decay, without gradients what is spared stays as it is, and all else shrinks."""
    for kind in (AdamW, Muon):
        network = network_of(name)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 1.0
        before = {label: p.detach().clone() for label, p in network.named_parameters()}
        optimizer = kind(rate=RATE, decay=DECAY).build(parameter_groups({"main": network}, DECAY))
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        for label, parameter in network.named_parameters():
            same = torch.equal(parameter.detach(), before[label])
            assert same == (golden[name][label] == "spared"), (kind.__name__, label)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(table(), indent=1) + "\n", encoding="utf-8")

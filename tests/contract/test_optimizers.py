"""The contract of optimizers, checked on every file of `src/telos/optim/`."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from telos import optim
from telos.find import find, names
from telos.optim._base import Optimizer
from telos.optim._groups import parameter_groups
from tests.contract import world
from tests.contract.test_models import batch_of, network_of

NAMES = names(optim)
DOCS = Path(__file__).parents[2] / "docs"


def made(name: str, parameters: list[Tensor], **settings: float) -> torch.optim.Optimizer:
    rate = settings.pop("rate", 0.05)
    optimizer: Optimizer = find(optim, name, Optimizer)(rate=rate, **settings)
    named = [(str(place), parameter) for place, parameter in enumerate(parameters)]
    return optimizer.build([{"params": named, "weight_decay": optimizer.decay or 0.0}])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("page", ["training.md", "zh/training.md"])
def test_it_is_in_the_docs(name: str, page: str) -> None:
    assert re.search(rf"\b{name}\b", (DOCS / page).read_text(encoding="utf-8"), re.IGNORECASE)


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_the_bottom_of_a_bowl(name: str) -> None:
    weight = nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = made(name, [weight], decay=0.0)
    for _ in range(300):
        optimizer.zero_grad()
        ((weight - torch.tensor([1.0, 1.0])) ** 2).sum().backward()
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.ones(2), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_at_the_rate_of_its_groups(name: str) -> None:
    """The schedule writes `lr` into the groups before every step: at 0 nothing moves, at twice the rate more
    does."""
    moved = []
    for rate in (0.0, 0.01, 0.02):
        weight = nn.Parameter(torch.tensor([3.0]))
        optimizer = made(name, [weight], decay=0.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        (weight**2).sum().backward()
        optimizer.step()
        moved.append(abs(3.0 - weight.item()))
    assert moved[0] == 0 and 0 < moved[1] < moved[2]


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_gradient_stays(name: str) -> None:
    idle, busy = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = made(name, [idle, busy])
    (busy**2).sum().backward()
    optimizer.step()
    assert torch.equal(idle.detach(), torch.ones(3)) and not torch.equal(busy.detach(), torch.ones(3))


@pytest.mark.parametrize("name", NAMES)
def test_its_state_is_all_it_needs_to_go_on(name: str) -> None:
    """Trap 63: saved and loaded after 3 steps, the next 3 are the same to the bit."""

    def train(weight: nn.Parameter, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            ((weight - step) ** 2).sum().backward()
            optimizer.step()

    through = nn.Parameter(torch.arange(4.0))
    optimizer = made(name, [through])
    train(through, optimizer, range(3))
    resumed = nn.Parameter(through.detach().clone())
    other = made(name, [resumed])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(through, optimizer, range(3, 6))
    train(resumed, other, range(3, 6))
    assert torch.equal(through, resumed)


@pytest.mark.parametrize("name", NAMES)
def test_decay_shrinks_matrices_and_nothing_else(name: str) -> None:
    """Trap 25: with no gradient to speak of, only what is in the decaying group gets smaller."""
    network = network_of("decoder")
    optimizer: Optimizer = find(optim, name, Optimizer)(rate=0.1, decay=0.5)
    before = {label: p.detach().clone() for label, p in network.named_parameters()}
    built = optimizer.build(parameter_groups({"main": network}, optimizer.decay or 0.0))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    built.step()
    tables = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    for label, parameter in network.named_parameters():
        changed = not torch.equal(parameter, before[label])
        assert changed == (parameter.ndim >= 2 and id(parameter) not in tables), label


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_every_model(name: str) -> None:
    for model in world.NAMES_OF_MODELS:
        network = network_of(model)
        optimizer: Optimizer = find(optim, name, Optimizer)(rate=0.05 if name == "sgd" else 0.01)
        built = optimizer.build(parameter_groups({"main": network}, optimizer.decay or 0.0))
        batch = batch_of(10, 12)
        losses = []
        for _ in range(60):
            built.zero_grad()
            loss = network(batch).sums["tokens"] / batch.asked["tokens"]
            loss.backward()
            built.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] - 0.2

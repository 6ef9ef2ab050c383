"""Trap 37: with blocks computed again in the backward pass, losses and gradients are the same to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from telos import models, objectives
from telos.batch import Batch
from telos.config import override, read
from telos.data.packing import collate, pack
from telos.errors import ConfigError
from telos.find import find, names
from telos.models import _base
from telos.models._base import Model, Network
from telos.objectives._base import Objective
from telos.recipe import Recipe, models_that_fit
from telos.run import fit
from telos.train.precision import Precision, autocast
from telos.train.trial import most_held
from tests.contract import world
from tests.small import last_weights, write_texts
from tests.train import tiny

WINDOW = 48
KINDS = [name for name in names(models) if find(models, name, Model).recomputes]
EXPERTS = {"norm": "rms", "feed": {"width": 8, "experts": {"count": 4, "active": 2}}}
PAIRS = [
    (objective, model, settings)
    for objective in names(objectives)
    for model in models_that_fit(world.make_objective(objective))
    for settings in ([{}, EXPERTS] if model == "decoder" else [{}])
    if model in KINDS
]
IDS = [f"{name}-{model}{'-experts' if settings else ''}" for name, model, settings in PAIRS]
CPU = torch.device("cpu")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
DEVICES = [
    CPU,
    pytest.param(
        torch.device("cuda"),
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")],
    ),
]


def networks(objective: Objective, model: Model, device: torch.device) -> dict[str, Network]:
    """The model and the objective's partners, in the mode that they have in training."""
    tokenizer = world.vocabulary(objective.specials())
    sizes = world.sizes_for(objective, tokenizer, WINDOW)
    made = {"main": world.built(model, sizes).train()}
    for name, partner in objective.partners().items():
        named = [replace(head, outputs=head.outputs or tokenizer.size) for head in partner.heads]
        made[name] = world.built(model, sizes._replace(heads=tuple(named) or sizes.heads)).train(
            partner.role == "trained"
        )
    objective.bind(made)
    return {name: network.to(device) for name, network in made.items()}


def batch_of(objective: Objective, folder: Path) -> Batch:
    tokenizer = world.vocabulary(objective.specials())
    corpus = world.corpus(folder, objective.cut(WINDOW), tokenizer)
    made = [objective.example(corpus, i, np.random.default_rng(i), tokenizer) for i in range(len(corpus))]
    return collate(pack(made, WINDOW)[:6], WINDOW)


def learned(
    models: dict[str, Network], objective: Objective, batch: Batch, precision: Precision, recompute: bool
) -> dict[str, Tensor]:
    """Every sum, every gradient and every buffer after one pass forward and backward."""
    device = batch.main.ids.device
    for network in models.values():
        network.recompute = recompute
        network.zero_grad(set_to_none=True)
        for buffer in network.buffers():
            buffer.zero_()
    torch.manual_seed(5)
    with autocast(precision, device):
        sums = objective.step(models, batch, None, 3).sums  # type: ignore[arg-type]
    torch.stack(list(sums.values())).sum().backward()
    found = {f"sum {term}": value.detach() for term, value in sums.items()}
    for name, network in models.items():
        grads = ((n, p.grad) for n, p in network.named_parameters() if p.grad is not None)
        found |= {f"{name} gradient {n}": grad for n, grad in grads}
        found |= {f"{name} buffer {n}": buffer.clone() for n, buffer in network.named_buffers()}
    return found


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize(("name", "model", "settings"), PAIRS, ids=IDS)
def test_losses_and_gradients_are_the_same_to_the_bit(
    tmp_path: Path,
    name: str,
    model: str,
    settings: dict[str, Any],
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap 37: with dropout, in both precisions, with partners, experts and two sides."""
    ran = counting(monkeypatch)
    objective = world.make_objective(name)
    made = networks(objective, world.make_model(model, dropout=0.1, **settings), device)
    batch = batch_of(objective, tmp_path).to(device)
    for precision in PRECISIONS:
        kept = learned(made, objective, batch, precision, recompute=False)
        before = len(ran)
        again = learned(made, objective, batch, precision, recompute=True)
        assert len(ran) >= before + 2, "no block was computed again"
        assert kept.keys() == again.keys() and len(kept) > 10
        assert [key for key in kept if not torch.equal(kept[key], again[key])] == []


def counting(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The blocks that go through recomputation, from now on."""
    ran: list[Any] = []
    before = _base.recomputed

    def counted(block: Any, *given: Any) -> Any:
        ran.append(block)
        return before(block, *given)

    monkeypatch.setattr(_base, "recomputed", counted)
    return ran


RUNS = {
    "experts": {"name": "decoder", "width": 16, "depth": 2, "heads": 2, "dropout": 0.1, **EXPERTS},
    "carried": {"name": "state_space", "width": 16, "depth": 2, "head": 8, "state": 8, "dropout": 0.1},
}


def recipe_of(kind: str, texts: Path, *changes: str) -> Recipe:
    carry = ["train.loader.carry=true"] if kind == "carried" else []
    table = {"model": RUNS[kind], "data": {"path": str(texts)}, "tokenizer": {"size": 300}}
    small = ["train.window=16", "train.batch=6", "train.budget.steps=6", "train.compute.micro_batch=2"]
    still = [
        'train.schedule={kind="constant", warmup=1.0}',
        "train.watch={evaluate_every=0, checkpoint_every=3, keep=9, log={tensorboard=false}}",
    ]
    return read(Recipe, override(table, [*small, *still, *carry, *changes]))


@pytest.mark.parametrize("kind", RUNS)
def test_a_whole_run_is_the_same_and_may_go_on_either_way(tmp_path: Path, kind: str) -> None:
    """What experts count is counted once over micro-batches and recomputed blocks, and state is carried."""
    texts = write_texts(tmp_path / "texts", 20)
    on = "train.compute.recompute=true"
    kept = fit(recipe_of(kind, texts, "name=kept"), tmp_path)
    again = fit(recipe_of(kind, texts, "name=again", on), tmp_path)
    fit(recipe_of(kind, texts, "name=both", "train.budget.steps=3"), tmp_path)
    both = fit(recipe_of(kind, texts, "name=both", on), tmp_path)
    wanted = last_weights(kept)
    for run in (again, both):
        found = last_weights(run)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_less_is_held(tmp_path: Path) -> None:
    """Of six blocks, little more than what one holds and what goes into each."""
    objective = world.make_objective("causal")
    model = world.make_model("decoder", depth=6, width=64, dropout=0.1)
    made = networks(objective, model, CPU)
    batch = batch_of(objective, tmp_path)
    held = [
        most_held(lambda: learned(made, objective, batch, "float32", recompute), CPU)  # noqa: B023
        for recompute in (False, True)
    ]
    assert held[1] < 0.5 * held[0]


def test_it_does_nothing_outside_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = counting(monkeypatch)
    objective = world.make_objective("causal")
    made = networks(objective, world.make_model("decoder"), CPU)
    made["main"].recompute = True
    with made["main"].at_rest():
        made["main"](batch_of(objective, tmp_path))
    assert not ran


def test_the_setting_reaches_the_trained_networks(tmp_path: Path) -> None:
    for on in (False, True):
        made = tiny.trainer(tmp_path, f"compute.recompute={str(on).lower()}", folder=None)
        assert made.models["main"].recompute is on


@pytest.mark.parametrize("name", names(models))
def test_models_without_blocks_are_refused_by_name(name: str) -> None:
    objective = "causal" if "source" not in find(models, name, Model).needs else "span"
    table = {"model": name, "objective": objective, "data": {"path": "x"}}
    on = {**table, "train": {"compute": {"recompute": True}}}
    if name in KINDS:
        assert read(Recipe, on).train.compute.recompute
    else:
        with pytest.raises(ConfigError, match=rf"train\.compute\.recompute: model = '{name}' has no blocks"):
            read(Recipe, on)

"""What of a model is trained: all of it, heads, adapters; and layers at shares of the rate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telos.batch import HeadSpec
from telos.config import read
from telos.data.packing import collate
from telos.errors import ConfigError
from telos.losses import LossSettings, linear_cross_entropy
from telos.models._adapters import merged
from telos.models._base import Network, Sizes
from telos.models._initial import initialise
from telos.objectives.causal import Causal
from telos.optim._groups import parameter_groups
from telos.optim.adamw import AdamW
from telos.optim.muon import Muon
from telos.recipe import Recipe
from telos.run import Run, fit, load_recipe, open_run
from telos.train import compiled as compiled_blocks
from telos.train.loop import Trainer
from telos.train.tune import TuneSettings, trained_numbers, tune
from tests.contract import world
from tests.small import NARROW, SHRUNK, labelled, last_weights, write_labelled, write_texts
from tests.train import tiny

LORA = {"only": "lora", "lora": {"rank": 2}}
NEW = (".down", ".up")


def tuned(settings: dict[str, Any], model: str = "decoder", **changes: Any) -> Network:
    network = tiny.network(model, Causal(), 16, **changes)
    tune(network, read(TuneSettings, settings), 0)
    return network


def trainer_of(network: Network, root: Path, *changes: str, **rest: Any) -> Trainer:
    """A trainer of that network."""
    settings, objective = tiny.train_settings(*changes), Causal()
    plan = settings.plan(
        corpus=tiny.corpus(root / "data", objective.cut(settings.window)),
        objective=objective,
        tokenizer=tiny.vocabulary(),
        seed=7,
        gives=network.model.gives,  # type: ignore[union-attr, operator]
    )
    return Trainer(models={"main": network}, objective=objective, plan=plan, settings=settings, **rest)


# ---- adapters alone


def test_only_adapters_move_and_only_they_are_held(tmp_path: Path) -> None:
    """Nothing else is in the optimizer, has a gradient, or is another bit after training."""
    network = tuned(LORA)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trainer = trainer_of(network, tmp_path, "budget.steps=3", "optimizer.decay=0.1")
    seen: list[str] = []

    def look(step: Any) -> None:
        seen.extend(n for n, p in network.named_parameters() if p.grad is not None)

    step = trainer.optimizer.step
    trainer.optimizer.step = lambda: (look(0), step())[1]  # type: ignore[method-assign, assignment]
    trainer.run()
    assert seen and all(name.endswith(NEW) for name in seen)
    after = network.state_dict()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor) is not name.endswith(NEW), name
    held = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    named = dict(network.named_parameters())
    assert (
        held
        == {id(p) for name, p in named.items() if name.endswith(NEW)}
        == {*map(id, trainer.optimizer.state)}
    )
    numbers = sum(p.numel() for name, p in named.items() if name.endswith(NEW))
    assert trained_numbers(network) == numbers < sum(p.numel() for p in named.values()) / 3
    moments = sum(s["exp_avg"].numel() for s in trainer.optimizer.state.values())
    assert moments == numbers


def test_of_a_frozen_table_no_gradient_is_ever_made() -> None:
    """The loss makes its gradients going forward: of a frozen vocabulary it must make none, and of what is
    left the same."""
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*s) for s in ((7, 4), (50, 4), (50,)))
    target, row_weight = torch.randint(0, 50, (7,)), torch.rand(7)
    found = {}
    for frozen in (False, True):
        leaves = [hidden.clone().requires_grad_(), weight.clone(), bias.clone()]
        for leaf in leaves[1:]:
            leaf.requires_grad_(not frozen)
        saved: list[int] = []

        def keep(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            said = linear_cross_entropy(
                *leaves, target, row_weight, settings=LossSettings(z=0.1, smoothing=0.1), training=True
            )
            assert said.z is not None
            (said.entropy + said.z).backward()  # type: ignore[no-untyped-call]
        found[frozen] = leaves[0].grad
        assert (weight.numel() in saved) is not frozen
        assert (leaves[1].grad is None) is frozen and (leaves[2].grad is None) is frozen
    assert torch.equal(found[False], found[True])


def test_a_frozen_weight_with_a_bias_that_learns() -> None:
    """BERT's head with a tied table: each gradient goes to its own place."""
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*s) for s in ((7, 4), (50, 4), (50,)))
    target, row_weight = torch.randint(0, 50, (7,)), torch.rand(7)
    grads = []
    for frozen in (False, True):
        leaves = [
            hidden.clone().requires_grad_(),
            weight.clone().requires_grad_(not frozen),
            bias.clone().requires_grad_(),
        ]
        said = linear_cross_entropy(*leaves, target, row_weight, settings=LossSettings(), training=True)
        said.entropy.backward()  # type: ignore[no-untyped-call]
        grads.append((leaves[0].grad, leaves[2].grad))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("changes", [[], ["compute.recompute=true"], ["schedule.average=0.2"]], ids=str)
def test_adapters_go_on_to_the_bit(tmp_path: Path, changes: list[str]) -> None:
    """Trap 41: stopped twice on the way; with dropout in them."""
    changes = ["schedule={kind='constant', warmup=4.0, average=0.0}", *changes]
    settings = {"only": "lora", "lora": {"rank": 2, "dropout": 0.3}, "decay": 0.7}
    whole = trainer_of(tuned(settings), tmp_path / "whole", "budget.steps=8", *changes)
    whole.run()
    for steps in (3, 5, 8):
        part = trainer_of(
            tuned(settings), tmp_path / "part", f"budget.steps={steps}", *changes, folder=tmp_path / "saved"
        )
        assert part.resume() == {3: 0, 5: 3, 8: 5}[steps]
        part.run()
    for name, model in whole.models.items():
        assert tiny.digest(part.models[name]) == tiny.digest(model)


def test_recomputed_and_compiled_blocks_learn_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recomputed to the bit; compiled (traced, in one piece, and the trace run as it is) to rounding."""
    monkeypatch.setattr(compiled_blocks, "BACKEND", "eager")
    settings = {"only": "lora", "lora": {"rank": 2, "dropout": 0.3}}
    runs: dict[str, dict[str, Any]] = {}
    for way in ("compute.recompute=false", "compute.recompute=true", "compute.compile=true"):
        made = trainer_of(tuned(settings), tmp_path / way, "budget.steps=2", way)
        made.run()
        assert bool(made.state.compiled) is (way == "compute.compile=true")
        runs[way] = made.models["main"].state_dict()
    plain, recomputed, compiled = runs.values()
    for name, tensor in plain.items():
        assert torch.equal(recomputed[name], tensor)
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-2, atol=1e-4)


# ---- heads alone


def test_heads_alone() -> None:
    network = tuned({"only": "heads"}, tied=False)
    assert [n for n, p in network.named_parameters() if p.requires_grad] == ["heads.tokens.weight"]
    with pytest.raises(ConfigError, match=r"no head with weights of its own.*model\.tied"):
        tuned({"only": "heads"})


def test_with_adapters_a_new_head_learns_too() -> None:
    """A head of classes is nothing that the model brought with it; the vocabulary's is."""
    heads = (HeadSpec(name="tokens", outputs=64), HeadSpec(name="mood", outputs=3, kind="classes"))
    network = world.make_model("encoder").build(Sizes(64, 16, heads))
    initialise(network, 0)
    tune(network, read(TuneSettings, LORA), 0)
    learns = {n for n, p in network.named_parameters() if p.requires_grad and not n.endswith(NEW)}
    assert learns == {n for n, _ in network.named_parameters() if n.startswith("heads.mood.")} != set()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["decoder", "encoder_decoder"])
def test_new_rows_learn_as_they_would_in_a_table_that_learns(name: str, tied: bool, tmp_path: Path) -> None:
    """Beside a table that stays, the same answers to the bit; their gradients are those that they have in a
    table that is trained; put back into it, the network is the plain one."""
    objective = world.make_objective("span" if name == "encoder_decoder" else "causal")
    tokenizer = world.vocabulary(objective.specials())
    model = world.make_model(name).model_copy(update={"tied": tied})
    read_from = world.corpus(tmp_path, objective.cut(32), tokenizer)
    made = [objective.example(read_from, n, np.random.default_rng(n), tokenizer) for n in range(3)]
    batch = collate([[each] for each in made], 32)
    networks = []
    for way in ("all", "lora"):
        network = world.built(model, world.sizes_for(objective, tokenizer, 32))
        tune(network, read(TuneSettings, {"only": way}), 0, new=100)
        network.double()
        sums = network(batch).sums
        sum(sums.values()).backward()
        networks.append((network, {term: value.detach() for term, value in sums.items()}))
    (plain, said), (beside, also) = networks
    assert all(torch.equal(value, also[term]) for term, value in said.items())
    names = ["embedding", *([] if tied else ["heads.tokens"])]
    own, whole = dict(beside.named_parameters()), dict(plain.named_parameters())
    assert {n for n in own if n.endswith(".rows")} == {f"{each}.rows" for each in names}
    for each in names:
        table, rows = own[f"{each}.weight"], own[f"{each}.rows"]
        assert table.grad is None and rows.grad is not None and rows.shape == (100, 16)
        torch.testing.assert_close(rows.grad, whole[f"{each}.weight"].grad[-100:], rtol=1e-9, atol=1e-12)
        assert float(rows.grad.abs().max()) > 0
    assert f"{names[0]}.rows" in beside.undecayed()
    with torch.no_grad():
        own["embedding.rows"].mul_(1.5)
        moved = beside(batch).sums
        back = merged(beside)
        assert not [n for n, _ in back.named_parameters() if n.endswith(".rows")]
        for term, value in back(batch).sums.items():
            torch.testing.assert_close(value, moved[term], rtol=1e-9, atol=1e-12)
            assert abs(float(value - said[term])) > 1e-4


# ---- shares of the rate

RATES = {
    "decoder": {
        "embedding.weight": 0.125,
        "blocks.0.attend.inward.weight": 0.25,
        "blocks.1.feed.outward.weight": 0.5,
        "norm.weight": 1.0,
    },
    "encoder": {
        "embedding.weight": 0.125,
        "types.weight": 0.125,
        "norm_embedded.weight": 0.125,
        "blocks.0.attend.inward.weight": 0.25,
        "blocks.1.norm_feed.weight": 0.5,
        "heads.tokens.transform.dense.weight": 1.0,
        "heads.tokens.bias": 1.0,
    },
    "encoder_decoder": {
        "embedding.weight": 0.5**5,
        "encoder.bias.table.weight": 0.5**5,
        "encoder.blocks.0.attend.query.weight": 0.5**4,
        "encoder.blocks.1.feed.outward.weight": 0.5**3,
        "encoder.norm.weight": 0.5**3,
        "decoder.blocks.0.read.memory.weight": 0.25,
        "decoder.blocks.1.norm_feed.weight": 0.5,
        "decoder.norm.weight": 1.0,
    },
    "state_space": {
        "embedding.weight": 0.125,
        "norms.0.weight": 0.25,
        "mixers.0.inward.weight": 0.25,
        "norms.1.weight": 0.5,
        "mixers.1.outward.weight": 0.5,
        "norm.weight": 1.0,
    },
}
"""Shares of the rate with decay 0.5 and two blocks, by hand."""


def two_blocks(name: str) -> Network:
    objective = world.make_objective(
        {"encoder": "masked"}.get(name, "span" if "encoder" in name else "causal")
    )
    tokenizer = world.vocabulary(objective.specials())
    return world.built(world.make_model(name), world.sizes_for(objective, tokenizer, 16))


@pytest.mark.parametrize("name", RATES)
def test_layers_learn_at_the_rates_of_the_table(name: str) -> None:
    """In the groups of the optimizer, where it counts; each parameter is in one."""
    network = two_blocks(name)
    tune(network, read(TuneSettings, {"decay": 0.5}), 0)
    groups = parameter_groups({"main": network}, 0.1)
    found = {n.removeprefix("main."): g.get("share", 1.0) for g in groups for n, _ in g["params"]}
    assert found.keys() == dict(network.named_parameters()).keys()
    assert {parameter: found[parameter] for parameter in RATES[name]} == RATES[name]
    spared = {n.removeprefix("main.") for g in groups if g.get("spared") for n, _ in g["params"]}
    assert spared == set(network.undecayed()), "decay of weights is another matter"


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_rate_of_every_group_follows_the_schedule(tmp_path: Path, optimizer: str) -> None:
    log = tiny.Recorder()
    made = trainer_of(
        tuned({"decay": 0.5}),
        tmp_path,
        f"optimizer={{name='{optimizer}', rate=0.01}}",
        "budget.steps=3",
        log=log,
    )
    made.run()
    (rate,) = {line["rate"] for line in log.lines[-1:]}
    shares = {group["lr"] / rate for group in made.optimizer.param_groups}
    assert shares == {1.0, 0.5, 0.25}, "what is logged is the rate itself"


def test_without_decay_nothing_is_another_group(tmp_path: Path) -> None:
    network = tiny.network("decoder", Causal(), 16)
    assert len(parameter_groups({"main": network}, 0.1)) == 2
    for kind in (AdamW, Muon):
        built = kind(rate=0.1).build(parameter_groups({"main": network}, 0.1))
        assert not any("share" in group for group in built.param_groups)


@pytest.mark.parametrize("name", world.NAMES_OF_MODELS)
def test_every_model_is_made_of_layers(name: str) -> None:
    """The embedding is below all, something is above all, and each layer between them is there."""
    found = two_blocks(name).layers_above()
    most = found["embedding.weight"]
    assert most == max(found.values()) >= 2 and set(found.values()) - {0} == set(range(1, most + 1))
    assert all(above == 0 for parameter, above in found.items() if parameter.startswith("heads."))


# ---- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora": {"rank": 4}}, 'lora does nothing with only = "all"'),
        ({"only": "heads", "decay": 0.9}, 'decay does nothing with only = "heads"'),
        ({"only": "head"}, "only"),
        ({"only": "lora", "lora": {"on": []}}, "on"),
    ],
)
def test_settings_that_do_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(TuneSettings, settings)


def test_there_must_be_something_to_keep() -> None:
    with pytest.raises(ConfigError, match=r"tune\.only = 'lora'.*model\.from"):
        read(Recipe, {"data": {"path": "x"}, "tune": {"only": "lora"}})


# ---- through the doors


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("text") / "texts")


@pytest.fixture(scope="module")
def first(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    changes = [f"data.path={texts}", *SHRUNK, *NARROW["decoder"], "tokenizer.size=300", "name=first"]
    return fit(load_recipe("gpt-small", changes), tmp_path_factory.mktemp("runs"), device="cpu")


def test_a_run_of_adapters_from_end_to_end(first: Run, texts: Path, tmp_path: Path) -> None:
    """Its weights are those it began from and adapters; opened it has them merged; its size is told; and a
    third run begins from what it says."""
    given = [f"model.from={first.folder}", *SHRUNK, "name=adapted", "tune.only=lora", "tune.lora.rank=2"]
    given += ["train.optimizer.rate=0.05", "train.schedule.warmup=1.0"]
    run = fit(load_recipe(texts, given), tmp_path, device="cpu")
    saved, base = last_weights(run), first.network.state_dict()
    assert {n for n in saved if n not in base} == {n for n in saved if n.endswith(NEW)} != set()
    assert all(torch.equal(saved[name], base[name]) for name in saved if name in base)
    opened = open_run(run.folder, "cpu")
    assert opened.network.state_dict().keys() == base.keys()
    name = "blocks.0.attend.inward"
    product = 8.0 * saved[f"{name}.up"].double() @ saved[f"{name}.down"].double()
    torch.testing.assert_close(
        opened.network.state_dict()[f"{name}.weight"], (base[f"{name}.weight"].double() + product).float()
    )
    machine = json.loads((run.folder / "machine.json").read_text())
    assert (
        machine["trained"]
        == sum(t.numel() for n, t in saved.items() if n.endswith(NEW))
        < machine["parameters"]
    )
    assert " trained" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert opened.generate(["the "], ["length=3"])

    third = fit(
        load_recipe(texts, [f"model.from={run.folder}", *SHRUNK, "name=third", "train.optimizer.rate=1e-9"]),
        tmp_path,
        device="cpu",
    )
    for key, tensor in last_weights(third).items():
        torch.testing.assert_close(tensor, opened.network.state_dict()[key], rtol=0, atol=1e-6)


def test_a_run_of_adapters_goes_on_and_keeps_to_its_settings(first: Run, texts: Path, tmp_path: Path) -> None:
    given = [f"model.from={first.folder}", *SHRUNK, "name=on", "tune.only=lora", "train.optimizer.rate=0.05"]
    fit(load_recipe(texts, given), tmp_path / "a", device="cpu")
    two = fit(load_recipe(texts, [*given, "train.budget.steps=4"]), tmp_path / "a", device="cpu")
    one = fit(load_recipe(texts, [*given, "train.budget.steps=4"]), tmp_path / "b", device="cpu")
    assert two.outcome is not None and two.outcome.step == 4
    assert one.recipe.train.budget == two.recipe.train.budget
    with pytest.raises(ConfigError, match=r"tune\.lora\.rank"):
        fit(load_recipe(texts, [*given, "tune.lora.rank=3"]), tmp_path / "a", device="cpu")


@pytest.mark.parametrize("only", ["heads", "lora"])
def test_classes_from_a_model_that_stays_as_it_is(first: Run, only: str, tmp_path: Path) -> None:
    """Its head begins anew and learns; of the rest nothing moves but adapters. So it is opened."""
    file = write_labelled(tmp_path / "labels.csv", labelled(60, 2), ("text", "label"))
    given = [f"model.from={first.folder}", *SHRUNK, "name=judge", f"tune.only={only}", "train.budget.steps=8"]
    objective = "objective={name='classify', read='causal'}"
    run = fit(load_recipe(file, [*given, objective, "train.optimizer.rate=0.05"]), tmp_path, device="cpu")
    saved, base = last_weights(run), first.network.state_dict()
    body = {name for name in saved if not name.startswith("heads.") and not name.endswith(NEW)}
    assert body and all(torch.equal(saved[name], base[name]) for name in body)
    learned = sum(t.numel() for n, t in saved.items() if n not in body)
    assert run.figures()["machine"]["trained"] == learned
    assert float(saved["heads.label.weight"].abs().max()) > 0.1  # it begins within 0.02, more or less
    assert open_run(run.folder, "cpu").network.heads.keys() == {"label"}


def test_a_second_model_that_learns_beside_it_is_refused(first: Run) -> None:
    table = first.recipe.table()
    electra = {"name": "encoder", "embedding": {"types": 2}, "from": {"source": "x", "content": "y"}}
    with pytest.raises(ConfigError, match=r"trains another model beside this one \(generator\)"):
        read(Recipe, {**table, "objective": "replaced", "model": electra, "tune": {"only": "lora"}})

"""Trap 24: compiled blocks compute what blocks compute as they are written, or are not used."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from telos import models
from telos.config import override, read
from telos.errors import ConfigError
from telos.find import find, names
from telos.models import _parts
from telos.models._base import Model
from telos.models._layers import Sight
from telos.recipe import Recipe
from telos.run import fit
from telos.train import compiled
from telos.train.compiled import COSTS, Blocks, Work, worth, wrong
from telos.train.display import Quiet
from telos.train.loop import Trainer
from tests.small import NARROW, SHRUNK, last_weights, write_texts
from tests.train import tiny

INF = math.inf
needs_compiler = pytest.mark.skipif(compiled.compiler() is None, reason="needs a C++ compiler")


class Heard(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def made(root: Path, on: str, *changes: str, **rest: Any) -> tuple[Trainer, Heard]:
    heard = Heard()
    few = ("batch=6", "budget={steps=4}")
    return tiny.trainer(root, f"compute.compile={on}", *few, *changes, display=heard, **rest), heard


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.models["main"].parameters()])


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are traced, and the trace is run as it is: everything but the making of code."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")


# ---------------------------------------------------------------- whether it pays


@needs_compiler
def test_a_run_is_compiled_if_it_is_long_enough() -> None:
    """Decided without a clock, by what the budget says; the first limit that is reached counts."""
    costs = COSTS["cpu"]
    just = 2 * costs.seconds / costs.saved
    assert worth(Work("cpu", 1.01 * just * costs.rate, INF))[0]
    assert not worth(Work("cpu", 0.99 * just * costs.rate, INF))[0]
    assert worth(Work("cpu", INF, 1.01 * just / 60))[0]
    assert not worth(Work("cpu", INF, 0.99 * just / 60))[0]
    assert not worth(Work("cpu", 0.99 * just * costs.rate, INF))[0]
    assert worth(Work("cuda", 1e18, INF))[0] and not worth(Work("mps", INF, INF))[0]


def test_without_a_compiler_nothing_is_compiled() -> None:
    from torch._inductor import config

    with config.patch({"cpp.cxx": (None, "no-such-compiler -O3")}):
        assert worth(Work("cpu", INF, INF)) == (False, "there is no C++ compiler")


def test_the_length_of_a_run_follows_from_its_budget(tmp_path: Path) -> None:
    trainer, _ = made(tmp_path, '"auto"', "window=16", "budget={steps=10, minutes=3}")
    found = compiled.work(trainer, [trainer.models["main"]])
    assert found == Work("cpu", 6.0 * len(weights(trainer)) * 10 * 6 * 16, 3)
    trainer.settings = tiny.train_settings("budget={steps=1000, tokens=960}", "batch=6")
    assert compiled.work(trainer, [trainer.models["main"]]).operations == found.operations


def test_a_short_run_is_not_compiled_and_says_so(tmp_path: Path) -> None:
    trainer, heard = made(tmp_path, '"auto"')
    trainer.run()
    assert trainer.state.compiled is False and trainer.models["main"].compiled is None
    assert any(line.startswith("Blocks are not compiled: ") for line in heard.lines)


def test_what_was_decided_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traced: None) -> None:
    """A run that goes on to the bit cannot think again, whatever its budget is by then."""
    monkeypatch.setattr(compiled, "worth", lambda work: (True, "so it is"))
    first, heard = made(tmp_path, '"auto"', "watch.checkpoint_every=2")
    first.run()
    assert first.state.compiled is True, heard.lines
    monkeypatch.setattr(compiled, "worth", lambda work: (False, "not any more"))
    again, heard = made(tmp_path, '"auto"', "budget={steps=6}")
    assert again.resume() == 4
    again.run()
    assert again.state.compiled is True, heard.lines
    assert again.models["main"].compiled is not None
    assert not any("not any more" in line for line in heard.lines)


def test_a_run_that_began_before_there_was_a_choice_goes_on_as_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traced: None
) -> None:
    monkeypatch.setattr(compiled, "worth", lambda work: (True, "so it is"))
    trainer, _ = made(tmp_path, '"auto"')
    trainer.state.step = 2
    assert not trainer.speed_up()


# ---------------------------------------------------------------- the same numbers


@needs_compiler
def test_compiled_runs_are_the_same_up_to_rounding_and_go_on_to_the_bit(tmp_path: Path) -> None:
    """Traps 24, 37 and 64: with dropout, rows of one text and of several, and another number of rows in some
    steps; recomputed blocks are equal to the bit; names are as ever; what is eager is as it was."""
    small = torch.tensor([1e-310], dtype=torch.float64), torch.tensor([1e-42])
    before = [value * 0.5 for value in small]
    plain, _ = made(tmp_path / "plain", "false")
    plain.run()
    whole, heard = made(tmp_path / "whole", "true", "watch={checkpoint_every=2, keep=9}")
    whole.run()
    assert whole.state.compiled, heard.lines
    assert any("compute the same" in line for line in heard.lines)
    apart = (weights(whole) - weights(plain)).norm() / weights(plain).norm()
    assert 0 < apart < 1e-4
    assert whole.models["main"].state_dict().keys() == plain.models["main"].state_dict().keys()
    assert [torch.equal(value * 0.5, was) for value, was in zip(small, before, strict=True)] == [True, True]
    shutil.copytree(
        tmp_path / "whole/checkpoints/step-00000002", tmp_path / "again/checkpoints/step-00000002"
    )
    again, _ = made(tmp_path / "again", "true", "compute.recompute=true")
    assert again.resume() == 2
    again.run()
    assert tiny.digest(again.models["main"]) == tiny.digest(whole.models["main"])


@needs_compiler
def test_blocks_that_read_a_source_are_compiled(tmp_path: Path) -> None:
    """An encoder and a decoder, with dropout: the whole run is that of the plain blocks up to rounding."""
    texts = write_texts(tmp_path / "texts", 30)
    table = {"model": "encoder_decoder", "objective": "span", "data": {"path": str(texts)}}
    small = [*SHRUNK, *NARROW["encoder_decoder"], "model.dropout=0.1", "tokenizer.size=400", "train.batch=6"]
    found = {}
    for on in ("true", "false"):
        changes = [*small, f"train.compute.compile={on}", f"name=compiled-{on}", "train.budget.steps=4"]
        run = fit(read(Recipe, override(table, changes)), tmp_path)
        assert run.figures()["machine"]["compiled"] is (on == "true")
        found[on] = torch.cat([tensor.flatten() for tensor in last_weights(run).values()])
    assert 0 < (found["true"] - found["false"]).norm() / found["false"].norm() < 1e-4


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_losses_and_gradients_are_compared_at_several_sizes(
    tmp_path: Path, traced: None, dropout: float, seed: int
) -> None:
    trainer, _ = made(tmp_path, "true")
    for block in trainer.models["main"].blocks:
        block.dropout = block.attend.dropout = dropout
    trainer.state.step = seed
    sizes = [(batch.main.shape[0], batch.main.packed) for batch in compiled._batches(trainer)]
    assert sizes == [(6, True), (5, False)]
    assert trainer.speed_up()


def test_evaluation_runs_as_it_is_written(tmp_path: Path) -> None:
    """It sees the weights of now, and nothing is compiled for its sizes."""
    trainer, _ = made(tmp_path, "false")
    network = trainer.models["main"]
    called: list[Any] = []

    def call(block: Any, *given: Any) -> Any:
        called.append(block)
        return block(*given)

    network.compiled = call
    rows = tiny.rows(torch.arange(9).numpy())
    with network.at_rest():
        was = network.encode(rows)[0]
    assert not called
    network.encode(rows)
    assert len(called) == len(network.blocks)
    with torch.no_grad():
        network.embedding.weight.mul_(2)
    with network.at_rest():
        assert not torch.equal(network.encode(rows)[0], was)


# ---------------------------------------------------------------- and if not


def test_what_rounding_does_not_explain_is_found() -> None:
    plain = {
        "the loss tokens": torch.tensor(5.0),
        "main.a": torch.ones(100),
        "main.b": torch.full((4,), 1e-6),
    }
    assert wrong(plain, plain, "float32") == ""
    noise = plain | {"main.b": torch.full((4,), 2e-7)}
    assert wrong(noise, plain, "float32") == ""  # as much smaller than the rest as rounding
    assert "the loss tokens" in wrong(plain | {"the loss tokens": torch.tensor(5.1)}, plain, "float32")
    slightly = plain | {"main.a": torch.ones(100) * 1.01}
    assert "the gradient of main.a" in wrong(slightly, plain, "float32")
    assert wrong(slightly, plain, "bfloat16") == ""
    assert "main.a" in wrong(plain | {"main.a": torch.full((100,), math.nan)}, plain, "bfloat16")


@pytest.mark.parametrize("how", ["wrong", "broken"])
def test_a_run_goes_on_without_what_is_wrong_or_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Wrong in the backward pass alone, too."""

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *upstream: Tensor) -> Tensor:
            return 2 * upstream[0]

    def call(block: Any, *given: Any) -> Any:
        if how == "broken":
            raise RuntimeError("no such header")
        x, past = block(*given)
        return Twice.apply(x), past

    monkeypatch.setattr(compiled, "_compile", lambda function: call)
    plain, _ = made(tmp_path / "plain", "false")
    plain.run()
    trainer, heard = made(tmp_path / "it", "true")
    trainer.run()
    (line,) = (line for line in heard.lines if line.startswith("Warning: blocks are not compiled: "))
    assert ("no such header" if how == "broken" else "comes out another") in line
    assert trainer.state.compiled is False
    assert tiny.digest(trainer.models["main"]) == tiny.digest(plain.models["main"])


def test_a_block_that_cannot_be_compiled_later_on_runs_as_it_is_written() -> None:
    from torch._dynamo.exc import TorchDynamoException

    blocks, said = Blocks(4), []

    def refuse(*given: Any) -> Any:
        raise TorchDynamoException("not this one")

    blocks._call, blocks.say = refuse, said.append
    assert blocks(torch.neg, torch.ones(2, 3)).sum() == -6
    assert "not this one" in blocks.refused and len(said) == 1
    assert blocks(torch.neg, torch.ones(2, 3)).sum() == -6 and len(said) == 1


def test_a_single_row_beside_several_is_not_compiled_for() -> None:
    called: list[int] = []
    for rows in (1, 4):
        blocks = Blocks(rows)
        blocks._call = lambda block, x: called.append(len(x))
        for size in (1, 4):
            blocks(torch.neg, torch.ones(size, 3))
    assert called == [1, 4, 4]


def test_rows_in_parts_are_not_compiled_for() -> None:
    """Their pieces are others in every step: each would be another form."""
    called: list[Sight] = []
    blocks = Blocks(4)
    blocks._call = lambda block, x, sight: called.append(sight)
    at = torch.arange(8).expand(4, 8)
    parts = _parts.Parts((), at, at, at)
    for sight in (Sight(None, causal=True), Sight(None, parts=parts)):
        blocks(lambda x, sight: None, torch.ones(4, 8, 3), sight)
    assert [sight.parts for sight in called] == [None]


def test_a_run_with_rows_in_parts_is_compiled_for_the_others(
    monkeypatch: pytest.MonkeyPatch, traced: None, tmp_path: Path
) -> None:
    """Whole runs: however rows are laid out, loss and gradients pass the check and nothing is refused."""
    monkeypatch.setattr(_parts, "WORTH", 1e9)
    trainer, heard = made(tmp_path, "true", folder=None)
    trainer.run()
    assert trainer.state.compiled and not any("Warning" in line for line in heard.lines), heard.lines


@pytest.mark.parametrize("name", names(models))
def test_models_that_cannot_be_compiled_are_refused_by_name(name: str) -> None:
    objective = "causal" if name == "decoder" else "masked" if name == "encoder" else None
    if objective is None:
        objective = "causal" if "source" not in find(models, name, Model).needs else "span"
    table = {"model": name, "objective": objective, "data": {"path": "x"}}
    on = {**table, "train": {"compute": {"compile": True}}}
    if name in ("decoder", "encoder", "encoder_decoder"):
        assert read(Recipe, on).train.compute.compile is True
    else:
        with pytest.raises(ConfigError, match=rf"train\.compute\.compile: model = '{name}'"):
            read(Recipe, on)

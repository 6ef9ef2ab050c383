"""Replaced-token detection: who is asked what, what was replaced, whose gradient goes where (trap 18)."""

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telos.batch import Batch, HeadSpec
from telos.config import override, read
from telos.data.packing import collate, pack
from telos.errors import ConfigError
from telos.models._base import Network
from telos.objectives import replaced
from telos.objectives.replaced import Replaced
from telos.recipe import Recipe
from telos.run import Run, fit, open_run
from telos.said import summary
from tests.contract import world
from tests.objectives.table import Table
from tests.objectives.world import Pieces, characters, draw
from tests.small import NARROW, SHRUNK, write_texts

TEXT = characters().encode("the chef cooked the meal").tolist()
HALF = read(Replaced, {"masked": {"rate": 0.5}})
SIZE = characters().size


def batch_of(objective: Replaced, *texts: list[int], seed: int = 0) -> Batch:
    return collate([[draw(objective, Pieces(ids), seed)] for ids in texts])


def generator_of(logits: torch.Tensor) -> Table:
    return Table(logits, HeadSpec(name="tokens", outputs=logits.shape[1]))


def judge(seed: int = 0) -> Table:
    said = torch.randn(SIZE, 2, generator=torch.Generator().manual_seed(seed))
    return Table(said, HeadSpec(name="replaced", outputs=2, kind="classes"))


def models(objective: Replaced) -> dict[str, Network]:
    """Real ones, of unlike size."""
    tokenizer = characters()
    sizes = world.sizes_for(objective, tokenizer, 32)
    small = sizes._replace(heads=(HeadSpec(name="tokens", outputs=tokenizer.size),))
    return {
        "main": world.built(world.make_model("encoder"), sizes),
        "generator": world.built(world.make_model("encoder", width=8, depth=1), small, seed=1),
    }


def test_the_generator_is_asked_what_is_hidden_and_the_model_everything_but_special_tokens() -> None:
    example = draw(HALF, Pieces(TEXT), 0)
    generator, model = example.asks
    vocabulary = characters()
    assert (generator.head, model.head) == ("tokens", "replaced")
    assert (example.main.ids[generator.at] == vocabulary.mask).all() and len(generator.at) == len(TEXT) // 2
    true = example.main.ids.copy()
    true[generator.at] = generator.target
    assert true.tolist() == [vocabulary.begin, *TEXT, vocabulary.separate]
    assert model.at.tolist() == list(range(1, len(TEXT) + 1))
    assert set(draw(Replaced(), Pieces(TEXT), 1).main.ids) <= {*TEXT, *vocabulary.special_ids}


def test_a_draw_that_is_the_true_token_was_not_replaced() -> None:
    """Trap 18: a generator that copies what was there: nothing is labelled replaced. One that always says
    something else: exactly what was hidden is."""
    text = [7] * 12
    batch = batch_of(HALF, text)
    hidden = set(batch.asks[1].at[batch.asks[1].weight > 0].tolist())
    for said, expected in ((7, set()), (8, hidden)):
        logits = torch.zeros(SIZE, SIZE)
        logits[:, said] = 1e4
        made = HALF.completed({"generator": generator_of(logits)}, batch, 0)
        (ask,) = made.asks
        assert set(ask.at[ask.target == 1].tolist()) == expected
        assert set(made.main.ids.flatten()[sorted(hidden)].tolist()) == {said}
        shown = [i for i in range(13) if i not in hidden]
        assert torch.equal(made.main.ids[0, shown], batch.main.ids[0, shown])


def test_the_worked_example_and_the_sum_of_both() -> None:
    """Trap 18: generator's loss + 50 · discriminator's."""
    first, second = 1 / 2, 1 / 8
    assert (math.log(1 / first) + math.log(1 / second)) / 2 == pytest.approx(1.386, abs=1e-3)
    assert 1.386 + 50 * math.log(5 / 4) == pytest.approx(12.54, abs=1e-2)
    batch = batch_of(HALF, TEXT, TEXT[:9])
    pair = {name: network.double() for name, network in models(HALF).items()}
    sums = HALF.step(pair, batch, None, 3).sums
    divided_by = HALF.denominators(batch.asked)
    loss = sum(HALF.coefficient(term) * sums[term] / divided_by[term] for term in sums)
    made = HALF.completed(pair, batch, 3)
    hidden = [ask for ask in batch.asks if ask.head == "tokens"]
    alone = pair["generator"](replace(batch, asks=tuple(hidden))).sums["tokens"] / batch.asked["tokens"]
    judged = pair["main"](made).sums["replaced"] / batch.asked["replaced"]
    assert loss.item() == pytest.approx((alone + 50 * judged).item(), abs=1e-6)
    assert batch.asked["replaced"] == len(TEXT) + 9


def test_no_gradient_of_the_discriminator_reaches_the_generator() -> None:
    """Trap 18: exactly none, nor the other way round; and both learn."""
    pair = models(HALF)
    batch = batch_of(HALF, TEXT)
    sums = HALF.step(pair, batch, None, 0).sums
    sums["replaced"].backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in pair["generator"].parameters())
    assert all(float(p.grad.abs().max()) > 0 for p in pair["main"].heads.parameters())
    before = {name: parameter.grad.clone() for name, parameter in pair["main"].named_parameters()}
    sums["tokens"].backward()
    assert all(torch.equal(p.grad, before[name]) for name, p in pair["main"].named_parameters())
    assert all(
        float(p.grad.abs().sum()) > 0 for n, p in pair["generator"].named_parameters() if "weight" in n
    )


def test_draws_belong_to_the_sample_and_not_to_the_batch() -> None:
    """Trap 18 and 11: the same sample alone, in company, packed behind others and in another row."""
    generator = generator_of(torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    texts = [TEXT, TEXT[3:14], TEXT[8:], TEXT[2:9]]
    made = [replace(draw(HALF, Pieces(text), seed), sample=100 + seed) for seed, text in enumerate(texts)]

    def filled(batch: Batch, seed: int = 5) -> dict[int, list[int]]:
        main = HALF.completed({"generator": generator}, batch, seed).main
        return {
            sample: main.ids[row][main.segment[row] == place].tolist()
            for row, samples in enumerate(batch.samples)
            for place, sample in enumerate(samples)
        }

    alone = {100 + i: filled(collate([[example]]))[100 + i] for i, example in enumerate(made)}
    assert filled(collate([[example] for example in reversed(made)])) == alone
    packed = collate(pack(made, 80), 80)
    assert max(len(row) for row in packed.samples) > 1 and filled(packed) == alone
    assert filled(packed, seed=6) != alone


def test_draws_have_the_chances_that_the_generator_says() -> None:
    """Trap 18: over many places; and in chunks as whole."""
    logits = torch.full((SIZE, SIZE), -50.0)
    chances = {6: 0.5, 7: 0.3, 8: 0.15, 9: 0.05}
    for token, chance in chances.items():
        logits[:, token] = math.log(chance)
    batch = collate([[replace(draw(HALF, Pieces([7] * 60), seed), sample=seed)] for seed in range(100)])
    ids = HALF.completed({"generator": generator_of(logits)}, batch, 0).main.ids.flatten()
    ask = next(a for a in batch.asks if a.head == "tokens")
    drawn = Counter(ids[ask.at[ask.weight > 0]].tolist())
    number = sum(drawn.values())
    assert number == 3000 and set(drawn) == set(chances)
    for token, chance in chances.items():
        assert abs(drawn[token] / number - chance) < 4 * math.sqrt(chance * (1 - chance) / number)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = generator_of(torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    batch = batch_of(HALF, TEXT, TEXT[4:])
    whole = HALF.completed({"generator": generator}, batch, 0)
    monkeypatch.setattr(replaced, "CHUNK", 2 * SIZE)
    assert torch.equal(HALF.completed({"generator": generator}, batch, 0).main.ids, whole.main.ids)


def test_with_nothing_hidden_nothing_is_replaced() -> None:
    """Trap 8: a generator that is asked nothing has a loss of 0, and the text stays as it is."""
    objective = read(Replaced, {"masked": {"rate": 0.001}})
    batch = batch_of(objective, TEXT[:4])
    assert batch.asked["tokens"] == 0
    pair = models(objective)
    sums = objective.step(pair, batch, None, 0).sums
    assert sums["tokens"].item() == 0
    made = objective.completed(pair, batch, 0)
    assert torch.equal(made.main.ids, batch.main.ids) and not made.asks[0].target.any()


def test_what_is_said_of_hiding_reaches_it() -> None:
    """Trap 18: rates are passed on; what is not said stays: everything hidden is behind a mask token."""
    objective = read(Replaced, {"masked": {"rate": 0.4, "unit": "word"}})
    assert objective.masked.rate == 0.4 and objective.masked.instead.mask == 1.0
    assert not objective.masked.reconstructs and objective.columns() == ("word_start",)
    moved = read(Replaced, {"masked": {"start": {"rate": 0.5, "passes": 2.0}}}).after(1.0)
    assert moved.masked.rate == pytest.approx(0.325)
    assert np.isclose(Replaced().masked.rate, 0.15)


def test_a_shared_table_gets_no_gradient_of_the_discriminator() -> None:
    """Trap 18: the model reads the generator's vectors plus its own, which start at 0; its gradient on the
    shared table is exactly 0, and its own table learns."""
    objective = read(Replaced, {"shared": True, "masked": {"rate": 0.5}})
    tokenizer = characters()
    sizes = world.sizes_for(objective, tokenizer, 32)
    small = sizes._replace(heads=(HeadSpec(name="tokens", outputs=tokenizer.size),))
    pair = {
        "main": world.built(world.make_model("encoder"), sizes),
        "generator": world.built(world.make_model("encoder", depth=1), small, seed=1),
    }
    own = pair["main"].embedding.weight
    objective.bind(pair)
    assert not own.any()
    ids = torch.tensor([[5, 6, 7]])
    shared = pair["generator"].embedding.weight
    assert torch.equal(pair["main"].embedding(ids), shared[ids])
    sums = objective.step(pair, batch_of(objective, TEXT), None, 0).sums
    sums["replaced"].backward(retain_graph=True)
    assert shared.grad is None and float(own.grad.abs().max()) > 0
    sums["tokens"].backward()
    assert float(shared.grad.abs().max()) > 0
    with torch.no_grad():
        own += 0.5
    before = pair["main"].embedding(ids)
    alone = world.built(world.make_model("encoder"), sizes)
    alone.load_state_dict(pair["main"].state_dict())
    objective.settle({"main": alone, "generator": pair["generator"]})
    torch.testing.assert_close(alone.embedding(ids), before)
    with pytest.raises(ConfigError, match=r"objective\.shared: the generator's embedding is 8 wide"):
        objective.bind(models(objective))


# ---------------------------------------------------------------- through the whole program


def recipe_of(objective: Any, texts: Path, *changes: str) -> Recipe:
    table = {
        "name": "electra",
        "objective": objective,
        "data": {"path": str(texts), "split": {"validation": 0.2, "test": 0.2}},
        "model": "encoder",
    }
    return read(Recipe, override(table, [*SHRUNK, *NARROW["encoder"], "tokenizer.size=300", *changes]))


def lines_of(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def losses_of(run: Run) -> list[dict[str, float]]:
    """What was logged in training, the clock left out."""
    lines = [line for line in lines_of(run) if "loss" in line]
    return [{key: value for key, value in line.items() if key.startswith("loss")} for line in lines]


def test_both_train_are_evaluated_and_resume_to_the_bit(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", 30)
    objective = {"name": "replaced", "generator": {"width": 8, "heads": {"count": 1}}}
    some = "train.watch.evaluate_every=2", "train.schedule={kind='constant', warmup=0}"
    whole = fit(recipe_of(objective, texts, "train.budget.steps=4", *some), tmp_path / "a")
    fit(recipe_of(objective, texts, "train.budget.steps=2", *some), tmp_path / "b")
    again = fit(recipe_of(objective, texts, "train.budget.steps=4", *some), tmp_path / "b")
    assert len(losses_of(whole)) == 4 and losses_of(whole) == losses_of(again)
    for line in losses_of(whole):
        assert line["loss"] == pytest.approx(line["loss.tokens"] + 50 * line["loss.replaced"], rel=1e-6)
    figures = whole.figures()["evaluation"]["test"]
    assert set(figures["terms"]) == {"replaced"} and 0 < figures["terms"]["replaced"] < 2
    assert re.search(r"loss of replaced +\d\.\d{4} nats per question", summary(whole, whole.figures()))
    opened = open_run(whole.folder)
    assert opened.partners["generator"].embedding.weight.shape == (opened.tokenizer.size, 8)
    assert opened.evaluate("test")["terms"] == pytest.approx(figures["terms"])
    with pytest.raises(ConfigError, match=r"objective\.generator.*'gru'.*must give full"):
        fit(recipe_of({"name": "replaced", "generator": {"name": "gru"}}, texts, "name=x"), tmp_path / "a")
    with pytest.raises(ConfigError, match=r"objective\.generator: .*widht.*Did you mean"):
        fit(recipe_of({"name": "replaced", "generator": {"widht": 8}}, texts, "name=y"), tmp_path / "a")


def test_a_run_with_a_shared_table_opens_as_it_was_trained(tmp_path: Path) -> None:
    """What validation said in training, the opened run says: the table is the sum of both."""
    texts = write_texts(tmp_path / "texts", 30)
    objective = {"name": "replaced", "shared": True, "generator": {"depth": 1}}
    changes = ("train.budget.steps=3", "train.watch.evaluate_every=1", "train.optimizer.rate=0.01")
    run = fit(recipe_of(objective, texts, *changes), tmp_path / "runs")
    opened = open_run(run.folder)
    (said,) = (
        line["validation.loss"]
        for line in lines_of(run)
        if line["step"] == opened.saved.step and "validation.loss" in line
    )
    assert opened.evaluate("validation")["loss"] == pytest.approx(said, rel=1e-5)
    own = opened.saved.tensors["model"]["embedding.weight"]
    shared = opened.saved.tensors["partner-generator"]["embedding.weight"]
    torch.testing.assert_close(opened.network.embedding.weight.detach(), own + shared)

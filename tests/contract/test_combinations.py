"""The contract of objectives holds for those that are made of others, and they train through the whole
program."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telos import objectives
from telos.config import override, read
from telos.data.packing import collate, pack
from telos.errors import ConfigError
from telos.find import find
from telos.objectives._base import Objective
from telos.recipe import Recipe, models_that_fit
from telos.run import Run, fit
from tests.contract import world
from tests.contract.objective_checks import CHECKS
from tests.objectives.world import Pieces, draw
from tests.small import NARROW, SHRUNK, last_weights, write_texts

BERT = {"name": "together", "of": ["next_sentence", "masked"], "weights": {"follows": 0.5}}
PREFIX_SPAN = {"name": "span", "form": "prefix"}
UL2 = {"name": "mixture", "of": ["causal", "masked", PREFIX_SPAN], "shares": [2, 1, 1]}
SOURCE_OR_NONE = {"name": "mixture", "of": ["span", "causal"]}
TWO_RATES = {"name": "mixture", "of": [{"name": "masked", "rate": rate} for rate in (0.15, 0.5)]}


def make(objective: Any) -> Objective:
    table = {"name": objective} if isinstance(objective, str) else dict(objective)
    return read(find(objectives, table.pop("name"), Objective), table)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "objective", [BERT, UL2, TWO_RATES, SOURCE_OR_NONE], ids=["bert", "ul2", "two-rates", "source-or-none"]
)
def test_contract(
    objective: dict[str, Any], check: Callable[[Objective, Path], None], tmp_path: Path
) -> None:
    check(make(objective), tmp_path)


def test_the_two_sides_of_an_example_share_their_segments() -> None:
    objective = make("span")
    tokenizer = world.vocabulary(objective.specials())
    pieces = (tokenizer.encode(text) for text in ("one two three four", "five six seven eight"))
    made = [draw(objective, Pieces(ids), tokenizer=tokenizer) for ids in pieces]
    batch = collate(pack(made, 64), 64)
    assert batch.source is not None and batch.main.segment.shape[0] == batch.source.segment.shape[0] == 1
    for side in (batch.main, batch.source):
        assert set(side.segment.unique().tolist()) - {-1} == {0, 1}


def test_bert_has_a_term_and_a_denominator_each(tmp_path: Path) -> None:
    objective = make(BERT)
    tokenizer = world.vocabulary()
    corpus = world.corpus(tmp_path, objective.cut(32), tokenizer)
    made = [objective.example(corpus, i, np.random.default_rng(i), tokenizer) for i in range(len(corpus))]
    batch = collate([[example] for example in made], 32)
    asked = sum(bool(example.asks) and example.asks[0].head == "follows" for example in made)
    assert batch.asked["follows"] == asked > 3 and batch.asked["tokens"] > asked
    assert objective.coefficient("follows") == 0.5 and objective.coefficient("tokens") == 1.0
    network = world.built(world.make_model("encoder"), world.sizes_for(objective, tokenizer, 32))
    sums = objective.step({"main": network}, batch, None, 0).sums
    assert set(network.heads) == set(sums) == {"follows", "tokens"}


def test_a_mixture_divides_by_all_that_was_asked() -> None:
    asked = {"causal.tokens": 30.0, "masked.tokens": 5.0}
    assert make({"name": "mixture", "of": ["causal", "masked"]}).denominators(asked) == dict.fromkeys(
        asked, 35.0
    )


@pytest.mark.parametrize("combined", ["together", "mixture"])
def test_a_step_of_its_own_is_never_left_out_in_silence(combined: str) -> None:
    """Trap 18: where only the data half of an objective would be used, one with a device half is refused."""
    for inner in ({"name": "distil", "teacher": "a run"}, "replaced"):
        with pytest.raises(ConfigError, match="trains with a step of its own"):
            make({"name": combined, "of": [inner]})
    inside = make({"name": "distil", "teacher": "a run", "of": {"name": combined, "of": ["causal"]}})
    assert inside.requires() == {"causal"}


def test_a_combination_is_scored_as_its_least_exact_part() -> None:
    assert make({"name": "mixture", "of": ["causal", "causal"]}).scored == "exact"
    assert make({"name": "mixture", "of": ["causal", "masked"]}).scored == "pseudo"


# ---------------------------------------------------------------- through the whole program


def recipe_of(objective: Any, texts: Path, *changes: str) -> Recipe:
    """A small recipe with this objective and a model that serves it, written as a recipe would."""
    fits = models_that_fit(make(objective))
    model = "decoder" if "decoder" in fits else fits[0]
    types = ["model.embedding.types=2"] if model == "encoder" else []
    table = {
        "model": model,
        "name": "small",
        "objective": objective,
        "data": {"path": str(texts), "split": {"validation": 0.2, "test": 0.2}},
    }
    sizes = [*SHRUNK, *NARROW[model], *types, "tokenizer.size=400", "train.window=24"]
    return read(Recipe, override(table, [*sizes, *changes]))


def logged(run: Run) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.parametrize(
    ("objective", "terms"),
    [
        ("masked", {"tokens"}),
        (PREFIX_SPAN, {"tokens"}),
        ("span", {"tokens"}),
        ("bart", {"tokens"}),
        (SOURCE_OR_NONE, {"span.tokens", "causal.tokens"}),
        (BERT, {"tokens", "follows"}),
        (UL2, {"causal.tokens", "masked.tokens", "span.tokens"}),
        ("hybrid", {"causal.tokens", "masked.tokens"}),
        ({"name": "multi_token", "tokens": 2}, {"tokens", "tokens2"}),
    ],
    ids=["masked", "span", "t5", "bart", "source-or-none", "bert", "ul2", "hybrid", "multi-token"],
)
def test_it_trains_from_end_to_end(objective: Any, terms: set[str], tmp_path: Path) -> None:
    """By its name in a recipe, through loader, trainer, checkpoint, evaluation, report; and it goes on to
    the bit."""
    texts = write_texts(tmp_path / "texts")
    steady = "train.schedule={kind='constant', warmup=0.0}"
    fit(recipe_of(objective, texts, steady, "train.budget.steps=2"), tmp_path / "two")
    resumed = fit(recipe_of(objective, texts, steady, "train.budget.steps=5"), tmp_path / "two")
    whole = fit(recipe_of(objective, texts, steady, "train.budget.steps=5"), tmp_path / "one")
    ours, theirs = last_weights(resumed), last_weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    found = {key.removeprefix("loss.") for line in logged(whole) for key in line if key.startswith("loss.")}
    assert found == terms
    assert all(np.isfinite(line["loss"]) for line in logged(whole))
    assert (whole.folder / "report.html").exists()
    assert whole.figures()["evaluation"]["test"]["kind"] == whole.recipe.objective.scored


def test_a_teacher_is_a_run_and_stays_as_it_is(tmp_path: Path) -> None:
    """A student learns from a finished run: its loss falls, and not a byte of the teacher's changes."""
    texts = write_texts(tmp_path / "texts")
    teacher = fit(
        recipe_of("causal", texts, "name=teacher", "train.budget.steps=30", "train.optimizer.rate=0.02"),
        tmp_path,
    )
    before = {path: path.read_bytes() for path in teacher.folder.rglob("*") if path.is_file()}
    objective = {"name": "distil", "hard": 0.0, "temperature": 1.0, "teacher": str(teacher.folder)}
    student = fit(recipe_of(objective, texts, "train.budget.steps=60", "train.optimizer.rate=0.02"), tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    losses = [line["loss"] for line in logged(student)]
    assert losses[-1] < 0.8 * losses[0]
    with pytest.raises(ConfigError, match="another vocabulary"):
        fit(recipe_of(objective, texts, "name=other", "tokenizer.size=300"), tmp_path)


def test_a_model_that_cannot_serve_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"needs a model that gives full; model = 'gru'.*These models do: decoder"
    ):
        read(Recipe, {"objective": "masked", "model": "gru", "data": {"path": "x"}})
    with pytest.raises(
        ConfigError, match=r"'span' needs a model that gives .*source.*These models do: encoder_decoder"
    ):
        read(Recipe, {"objective": "span", "data": {"path": "x"}})
    with pytest.raises(
        ConfigError, match=r"'encoder_decoder' needs an objective with source.*'causal' has none.*span"
    ):
        read(Recipe, {"model": "encoder_decoder", "data": {"path": "x"}})
    assert not list(tmp_path.iterdir())

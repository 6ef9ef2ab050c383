"""Classification: rows and questions as they are drawn, names as the contract, and all architectures."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from telos import models
from telos.batch import Example, Piece, gathered
from telos.config import override, read
from telos.data.corpus import Corpus
from telos.data.packing import collate
from telos.data.prepare import prepare
from telos.data.settings import DataSettings
from telos.errors import ConfigError, DataError
from telos.find import find, names
from telos.losses import LossSettings
from telos.models._base import Model
from telos.objectives.classify import Classify
from telos.recipe import Recipe
from telos.run import Run, fit
from telos.tokenizer import TokenizerSettings
from telos.train.trial import widened
from tests.contract import world
from tests.objectives.world import characters
from tests.small import NARROW, SHRUNK, labelled, last_weights, write_labelled

TWO = {"negative": {"train": 4, "validation": 1, "test": 1}, "positive": {"train": 4, "test": 2}}


def piece(text: str = "cat", label: str = "positive") -> Piece:
    ids = characters().encode(text)
    return Piece(ids=ids, document=3, columns={"label": np.array([label])})


class One(list[Piece]):
    """A corpus."""


def drawn(objective: Classify, *pieces: Piece) -> list[Example]:
    read_from: Any = One(pieces)
    made = [
        objective.example(read_from, n, np.random.default_rng(0), characters()) for n in range(len(pieces))
    ]
    return made


def sorted_into(**settings: Any) -> Classify:
    return Classify(labels=("negative", "positive"), **settings)


# ---- rows and questions


def test_a_text_is_read_in_both_directions_and_asked_about_at_its_beginning() -> None:
    (row,) = drawn(sorted_into(), piece())
    tokens = characters()
    assert row.main.ids.tolist() == [tokens.begin, *tokens.encode("cat").tolist(), tokens.separate]
    assert row.pattern == "full" and not row.main.order.any()
    (ask,) = row.asks
    assert (ask.at.tolist(), ask.target.tolist(), ask.weight.tolist()) == ([0], [1], [1.0])
    assert row.unit == 3 and row.sample == 0


def test_from_left_to_right_it_is_asked_about_where_all_has_been_seen() -> None:
    (row,) = drawn(sorted_into(read="causal"), piece())
    tokens = characters()
    assert row.main.ids.tolist() == [tokens.begin, *tokens.encode("cat").tolist(), tokens.end]
    assert row.pattern == "causal" and row.main.order.tolist() == [0, 1, 2, 3, 4]
    assert row.asks[0].at.tolist() == [4]


@pytest.mark.parametrize("way", ["full", "causal"])
def test_the_mean_is_of_the_texts_own_places(way: str) -> None:
    objective = sorted_into(read=way, pool="mean")
    (row,) = drawn(objective, piece())
    assert row.asks[0].at.tolist() == [1, 2, 3] and row.asks[0].of.tolist() == [0, 0, 0]
    (bare,) = drawn(objective, replace(piece(), ids=np.zeros(0, np.int64)))
    assert bare.asks[0].at.tolist() == [0 if way == "full" else 1] and bare.asks[0].of is None


@pytest.mark.parametrize("way", ["full", "causal"])
def test_the_mean_of_all_is_of_the_whole_row(way: str) -> None:
    """As ModernBERT's: what stands around the text counts as well."""
    objective = sorted_into(read=way, pool="all")
    (row,) = drawn(objective, piece())
    assert row.asks[0].at.tolist() == [0, 1, 2, 3, 4] and row.asks[0].of.tolist() == [0] * 5
    (bare,) = drawn(objective, replace(piece(), ids=np.zeros(0, np.int64)))
    assert bare.asks[0].at.tolist() == [0, 1] and bare.asks[0].of.tolist() == [0, 0]


def test_the_mean_by_hand_however_rows_are_packed() -> None:
    """The state of a place is its number in the batch. Texts of 3, 1 and 2 tokens stand behind a begin token:
    in rows of 8 places at 1 2 3, 9 and 17 18; in one row, at 1 2 3, 6 and 9 10."""
    made = drawn(sorted_into(pool="mean"), piece("cat"), piece("a", "negative"), piece("on"))
    for rows, expected in (([[e] for e in made], [2.0, 9.0, 17.5]), ([made], [2.0, 6.0, 9.5])):
        batch = collate(rows, 16)
        (asked,) = batch.asks
        states = torch.arange(batch.main.ids.numel(), dtype=torch.float32)[:, None].expand(-1, 2)
        found = gathered(states, asked)
        assert found[:3].tolist() == [[value, value] for value in expected]
        assert asked.target[:3].tolist() == [1, 0, 1] and asked.weight.tolist() == [1.0] * 3 + [0.0] * 5
        assert not found[3:].any() and gathered(states, asked, slice(1, 2)).tolist() == [[expected[1]] * 2]


def test_the_mean_is_kept_in_float32() -> None:
    """In bfloat16, 1024 places of 1.0 would add up to 256."""
    at = torch.arange(1024)
    (row,) = drawn(sorted_into(pool="mean"), piece())
    asked = replace(collate([[row]]).asks[0], at=at, of=torch.zeros(1024, dtype=torch.int64))
    found = gathered(torch.ones(1024, 1, dtype=torch.bfloat16), asked)
    assert found.dtype == torch.bfloat16 and found[0].item() == 1.0


def test_a_long_text_is_read_from_its_beginning(tmp_path: Path) -> None:
    objective, tokens = sorted_into(), characters()
    cut = objective.cut(6)
    assert cut.whole and cut.length == 4
    rows = world.corpus(tmp_path, cut, tokens, ["abcdefgh", "ab"])
    assert [len(rows[n]) for n in range(len(rows))] == [4, 2] and rows.shortened == 1
    with pytest.raises(ConfigError, match="window = 2"):
        objective.cut(2)


def test_a_text_without_a_class_is_not_asked_about_and_a_strange_one_is_told() -> None:
    labels = [piece(label=""), piece(label="negative")]
    assert [len(row.asks) for row in drawn(sorted_into(), *labels)] == [0, 1]
    with pytest.raises(DataError, match=r"'positve' is none of the classes.*Did you mean 'positive'"):
        drawn(sorted_into(), piece(label="positve"))
    with pytest.raises(DataError, match="prepared without it"):
        drawn(sorted_into(), replace(piece(), columns={}))


def test_rows_to_measure_memory_by_are_asked_as_often() -> None:
    """Each copy of a text is a question of its own, of as many places as fit."""
    batch = collate([[row] for row in drawn(sorted_into(pool="mean"), piece("cat"), piece("on"))])
    plan: Any = SimpleNamespace(window=16, settings=SimpleNamespace(carry=False), packed=True)
    (asked,) = widened(batch, 5, plan).asks
    states = torch.arange(5 * 16, dtype=torch.float32)[:, None]
    found = gathered(states, asked)[asked.weight > 0, 0].tolist()
    first = [base + mean for base in range(0, 80, 32) for start in (0, 8) for mean in (start + 2.0,)]
    second = [base + 16 + mean for base in range(0, 64, 32) for mean in (1.5, 9.5)]
    assert sorted(value for value in found if value) == sorted(first + second)


# ---- names


def test_classes_are_numbered_by_name_whatever_the_order_they_are_met_in() -> None:
    """Trap 36."""
    backwards = dict(reversed(list(TWO.items())))
    assert Classify().informed(TWO) == Classify().informed(backwards)
    assert Classify().informed(TWO).labels == ("negative", "positive")
    given = Classify(labels=("positive", "negative")).informed(TWO)
    assert given.labels == ("positive", "negative") and given.heads(9)[0].names == given.labels


@pytest.mark.parametrize(
    ("given", "classes", "why"),
    [
        ((), {**TWO, "neutral": {"train": 0, "test": 1}}, "'neutral' is in the test split and of no text to"),
        (("negative", "positive"), {**TWO, "neutral": {"train": 2}}, "'neutral' is none of the classes"),
        ((), {"": {"train": 9}, "good": {"train": 9, "test": 1}}, "has 1 classes, and two are needed"),
        ((), {}, "has 0 classes"),
    ],
)
def test_classes_that_cannot_be_learned_are_named(given: tuple[str, ...], classes: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        Classify(labels=given).informed(classes)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"labels": ["one"]}, "two names at least"),
        ({"labels": ["one", "one"]}, "two names at least"),
        ({"labels": ["one", ""]}, "two names at least"),
        ({"labels": ["one", "two"], "weights": {"three": 1.0}}, "names 'three', which is none of: one, two"),
        ({"weights": {"one": 0.0}}, "that of 'one' must be more than 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read(Classify, settings)


def test_weights_of_a_class_that_is_not_there_are_refused_once_it_is_known() -> None:
    with pytest.raises(ConfigError, match="names 'neutral', which is none of"):
        Classify(weights={"neutral": 2.0}).informed(TWO)


# ---- weights


def test_balanced_weights_by_hand() -> None:
    """6 of one class, 2 of the other, of none 5: 8/(2·6) and 8/(2·2)."""
    classes = {"": {"train": 5}, "a": {"train": 6, "test": 9}, "b": {"train": 2}}
    found = Classify(weights="balanced").informed(classes)
    assert found.weights == {"a": 8 / 12, "b": 2.0}
    assert found.informed(classes) == found


def test_the_loss_is_a_weighted_mean() -> None:
    """Two texts of one class and one of the other, which weighs 4, are divided by 6."""
    objective = sorted_into(weights={"positive": 4.0})
    made = drawn(objective, piece(label="negative"), piece(label="negative"), piece(label="positive"))
    batch = collate([[row] for row in made])
    assert batch.asked == {"label": 6.0}
    (asked,) = batch.asks
    assert asked.weight[:3].tolist() == [1.0, 1.0, 4.0] and not asked.weight[3:].any()
    model = read(find(models, "encoder", Model), {"width": 8, "depth": 1, "heads": 2})
    network = world.built(model, world.sizes_for(objective, characters(), 16))
    with torch.no_grad():
        network.heads["label"].weight.zero_()
        network.heads["label"].bias.copy_(torch.tensor([0.0, np.log(3.0)]))
    sums = objective.step({"main": network}, batch, None, 0).sums
    expected = 2 * np.log(4) + 4 * np.log(4 / 3)
    assert sums["label"].item() == pytest.approx(expected)
    assert objective.denominators(batch.asked) == {"label": 6.0}


@pytest.mark.parametrize("training", [True, False])
def test_classes_are_smoothed_in_training(training: bool) -> None:
    """By hand: p = (0.9, 0.1), q = (1/4, 3/4); on evaluation p = (1, 0)."""
    objective = sorted_into()
    batch = collate([drawn(objective, piece(label="negative"))])
    model = read(find(models, "encoder", Model), {"width": 8, "depth": 1, "heads": 2})
    sizes = world.sizes_for(objective, characters(), 16)._replace(loss=LossSettings(smoothing=0.2))
    network = world.built(model, sizes).train(training)
    with torch.no_grad():
        network.heads["label"].weight.zero_()
        network.heads["label"].bias.copy_(torch.tensor([0.0, np.log(3.0)]))
    sums = objective.step({"main": network}, batch, None, 0).sums
    expected = 0.9 * np.log(4) + 0.1 * np.log(4 / 3) if training else np.log(4)
    assert sums["label"].item() == pytest.approx(expected)


# ---- every architecture


@pytest.mark.parametrize("pool", ["mark", "mean", "all"])
@pytest.mark.parametrize(
    "name", [n for n in names(models) if find(models, n, Model).serves(frozenset({"causal"}))]
)
def test_what_is_said_of_a_text_does_not_hang_on_others(name: str, pool: str) -> None:
    """Trap 23: padded, packed or alone, the same answer; and it changes with the text's first token."""
    objective = sorted_into(read="causal", pool=pool)
    kind = find(models, name, Model)
    tokens = characters()
    network = world.built(world.make_model(name), world.sizes_for(objective, tokens, 32))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0)
    made = [
        objective.judged(piece(text), tokens)
        for text in ("the cat sat", "a", "on the mat it sat", "xhe cat sat")
    ]

    def said(rows: list[list[Example]]) -> list[list[float]]:
        batch = collate(rows, 32)
        with network.at_rest():
            hidden, _ = network.encode(batch.main)
            (asked,) = batch.asks
            return network.logits(gathered(hidden.flatten(0, 1), asked), "label").tolist()

    alone = [said([[row]])[0] for row in made]
    assert np.allclose(said([[row] for row in made])[:4], alone, atol=1e-5)
    assert not np.allclose(alone[0], alone[3], atol=1e-4)
    if "packed" in kind.gives:
        assert np.allclose(said([made[:2]])[:2], alone[:2], atol=1e-5)


def test_an_lstm_answers_too() -> None:
    objective = sorted_into(read="causal", pool="mean")
    network = world.built(world.make_model("gru", cell="lstm"), world.sizes_for(objective, characters(), 32))
    batch = collate([[row] for row in drawn(objective, piece("cat"), piece("a cat"))])
    answer = objective.step({"main": network}, batch, None, 0)
    answer.sums["label"].backward()
    assert network.embedding.weight.grad.abs().sum() > 0


# ---- through the whole program


def recipe_of(path: Path, *changes: str) -> Recipe:
    table = {
        "name": "small",
        "objective": {"name": "classify"},
        "data": {"path": str(path), "split": {"validation": 0.2, "test": 0.2}},
        "model": "encoder",
    }
    return read(Recipe, override(table, [*SHRUNK, *NARROW["encoder"], "tokenizer.size=300", *changes]))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [*labelled(60), ("of no class at all", ""), ("nor this one", "")]
    return write_labelled(tmp_path_factory.mktemp("text") / "texts.csv", rows)


@pytest.fixture(scope="module")
def finished(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(recipe_of(texts), tmp_path_factory.mktemp("runs"), device="cpu")


def test_the_runs_recipe_names_the_classes_and_it_goes_on(finished: Run, texts: Path) -> None:
    assert finished.recipe.objective.labels == ("negative", "positive")
    root = finished.folder.parent
    more = fit(recipe_of(texts, "train.budget.steps=3"), root, device="cpu")
    assert more.outcome is not None and more.outcome.step == 3
    again = fit(recipe_of(texts, "train.budget.steps=4", 'objective.labels=["negative", "positive"]'), root)
    assert again.outcome is not None and again.outcome.step == 4
    with pytest.raises(ConfigError, match=r"objective\.labels"):
        fit(recipe_of(texts, "train.budget.steps=5", 'objective.labels=["positive", "negative"]'), root)


def test_the_order_of_lines_changes_no_target(texts: Path, tmp_path: Path) -> None:
    """Trap 36: the numbers in the shards are others, what is asked of each text is the same."""
    seen = []
    for number, step in enumerate((1, -1)):
        rows = labelled(30)[::step]
        path = write_labelled(tmp_path / f"{number}.csv", rows)
        prepared = prepare(
            DataSettings(path=path), TokenizerSettings(kind="byte"), tmp_path / "root", columns=["label"]
        )
        objective = Classify().informed(prepared.card.classes)
        shards = prepared.shards("train")
        corpus = Corpus(shards, objective.cut(64), prepared.tokenizer)
        made = [
            objective.example(corpus, n, np.random.default_rng(0), prepared.tokenizer)
            for n in range(len(corpus))
        ]
        asked = {prepared.tokenizer.decode(e.main.ids): e.asks[0].target.tolist() for e in made}
        seen.append((asked, prepared.card.labels, objective))
    assert seen[0][0] == seen[1][0] and seen[0][2] == seen[1][2]
    assert seen[0][1] != seen[1][1], "both orders are numbered alike: this shows nothing"


def test_the_card_counts_classes_and_what_has_none(finished: Run) -> None:
    card = json.loads((finished.folder / "card.json").read_text())
    assert list(card["classes"]) == ["", "negative", "positive"]
    assert sum(card["classes"][""].values()) == 2
    assert sum(sum(each.values()) for each in card["classes"].values()) == 62
    assert "| (none) |" in (finished.folder / "card.md").read_text()


def test_a_model_that_reads_from_left_to_right_is_told_what_to_set(texts: Path) -> None:
    with pytest.raises(
        ConfigError, match=r'needs a model that gives full.*Or set objective\.read = "causal"'
    ):
        recipe_of(texts, "model={name='gru', embedding=8, width=8}")


def test_balanced_weights_stand_in_the_recipe_and_go_on(texts: Path, tmp_path: Path) -> None:
    few = recipe_of(texts, "objective.weights=balanced")
    run = fit(few, tmp_path, device="cpu")
    weights = run.recipe.objective.weights
    assert set(weights) == {"negative", "positive"} and few.objective.weights == "balanced"
    more = fit(recipe_of(texts, "objective.weights=balanced", "train.budget.steps=3"), tmp_path)
    assert more.outcome is not None and more.outcome.step == 3


def test_it_starts_from_a_run_of_another_objective(texts: Path, tmp_path: Path) -> None:
    """The encoder's weights are taken, the head is new; from a classifier of the same classes the head is
    taken too, from one of others it is not."""
    first = fit(recipe_of(texts, "objective=masked", "name=first"), tmp_path, device="cpu")
    begin = ["train.optimizer.rate=1e-9", "name=second"]
    given = {"name": "second", "objective": "classify", "model": {"from": str(first.folder)}}
    data = {"path": str(texts), "split": {"validation": 0.2, "test": 0.2}}
    second = fit(read(Recipe, override({**given, "data": data}, [*SHRUNK, *begin])), tmp_path, device="cpu")
    before, after = first.network.state_dict(), last_weights(second)
    shared = [name for name in after if not name.startswith("heads.")]
    assert len(shared) > 10
    for name in shared:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    given["model"] = {"from": str(second.folder)}
    third = fit(
        read(Recipe, override({**given, "data": data}, [*SHRUNK, *begin, "name=third", "seed=1"])), tmp_path
    )
    torch.testing.assert_close(last_weights(third)["heads.label.weight"], after["heads.label.weight"])
    other = [*begin, "name=other", "seed=1", 'objective.labels=["positive", "negative"]']
    turned = fit(read(Recipe, override({**given, "data": data}, [*SHRUNK, *other])), tmp_path)
    own = last_weights(turned)["heads.label.weight"]
    assert not torch.allclose(own, after["heads.label.weight"], rtol=0, atol=1e-4)


def test_together_with_masked_it_learns_both(texts: Path, tmp_path: Path) -> None:
    together = 'objective={name="together", of=["classify", "masked"]}'
    run = fit(recipe_of(texts, together), tmp_path, device="cpu")
    assert run.recipe.objective.classes() == ("negative", "positive")
    figures = run.figures()["evaluation"]["test"]
    assert set(figures["terms"]) == {"label", "tokens"} and figures["classification"]["texts"] > 0
    again = fit(recipe_of(texts, together, "train.budget.steps=3"), tmp_path, device="cpu")
    assert again.outcome is not None and again.outcome.step == 3

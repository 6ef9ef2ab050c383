"""The contract of objectives carries what the design lists: written here as files that an open set finds,
and thrown away.

Masked, span corruption with an encoder and as a prefix, next sentence, a teacher; alone, `together` and in a
`mixture`.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telos import objectives
from telos.batch import Piece
from telos.config import override, read
from telos.data.packing import collate, pack
from telos.errors import ConfigError, DataError
from telos.find import find, names
from telos.objectives._base import Objective
from telos.recipe import Recipe, models_that_fit
from telos.run import Run, fit
from tests.contract import world
from tests.contract.objective_checks import CHECKS
from tests.small import NARROW, SHRUNK, last_weights, write_texts

THROWN_AWAY = Path(__file__).parent / "throwaway"
TOYS = sorted(path.stem for path in THROWN_AWAY.glob("toy_*.py"))


@pytest.fixture(autouse=True, scope="module")
def toys() -> Iterator[None]:
    """The folder of objectives holds the toys as well: that is all there is to adding one."""
    objectives.__path__.append(str(THROWN_AWAY))
    yield
    objectives.__path__.remove(str(THROWN_AWAY))


def make(name: str, **settings: Any) -> Objective:
    return read(find(objectives, name, Objective), settings)


def test_a_file_in_the_folder_is_all_it_takes() -> None:
    assert set(TOYS) <= set(names(objectives)) and len(TOYS) == 5


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", TOYS)
def test_contract(name: str, check: Callable[[Objective, Path], None], tmp_path: Path) -> None:
    check(world.make_objective(name), tmp_path)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "name_and_members",
    [
        ("together", ("toy_next_sentence", "toy_masked")),
        ("mixture", ("causal", "toy_masked", "toy_span_prefix")),
        ("mixture", ({"name": "toy_masked", "rate": 0.15}, {"name": "toy_masked", "rate": 0.5})),
    ],
    ids=["bert", "ul2", "two-rates"],
)
def test_contract_of_combinations(
    name_and_members: tuple[str, tuple[Any, ...]], check: Callable[[Objective, Path], None], tmp_path: Path
) -> None:
    name, members = name_and_members
    check(make(name, of=list(members)), tmp_path)


class _Texts:
    """Documents, each one piece."""

    def __init__(self, *texts: str) -> None:
        self.pieces = [Piece(ids=world.vocabulary().encode(text), document=n) for n, text in enumerate(texts)]

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> Piece:
        return self.pieces[index]


def test_masked_hides_what_it_asks_and_nothing_else() -> None:
    texts = _Texts("the cat sat on the mat and the dog sat on the log")
    example = make("toy_masked").example(texts, 0, np.random.default_rng(0), world.vocabulary())
    (ask,) = example.asks
    assert (example.main.ids[ask.at] == world.vocabulary().mask).all() and len(ask.at) == round(
        0.15 * len(texts[0])
    )
    restored = example.main.ids.copy()
    restored[ask.at] = ask.target
    assert np.array_equal(restored, texts[0].ids)


def test_next_sentence_takes_the_other_half_from_another_document() -> None:
    objective, tokenizer = make("toy_next_sentence"), world.vocabulary()
    texts = _Texts("aaaa bbbb cccc dddd", "eeee ffff gggg hhhh")
    answers = []
    for seed in range(200):
        example = objective.example(texts, 0, np.random.default_rng(seed), tokenizer)
        second = example.main.ids[np.flatnonzero(example.main.ids == tokenizer.separate)[0] + 1 : -1]
        answers.append(int(example.asks[0].target[0]))
        assert bool(answers[-1]) == tokenizer.decode(second).endswith("dddd")
    assert 70 < sum(answers) < 130
    with pytest.raises(DataError, match="two documents"):
        for seed in range(20):
            objective.example(_Texts("aaaa bbbb"), 0, np.random.default_rng(seed), tokenizer)


@pytest.mark.parametrize("length", range(1, 40))
def test_spans_put_back_give_the_text(length: int) -> None:
    """Replacing each mark of the source by its span gives the tokens that were there."""
    objective: Any = make("toy_span")
    ids = np.arange(length)
    source, target = objective.corrupt(ids, np.random.default_rng(length), [1000, 1001])
    spans: dict[int, list[int]] = {}
    for token in target:
        if token >= 1000:
            spans[mark := token] = []
        else:
            spans[mark].append(token)
    rebuilt = [inner for token in source for inner in (spans[token] if token >= 1000 else [token])]
    assert rebuilt == ids.tolist()


def test_the_two_sides_of_an_example_share_their_segments() -> None:
    objective = make("toy_span")
    tokenizer = world.vocabulary(objective.specials())
    made = [
        objective.example(
            _Texts("one two three four", "five six seven eight"),
            index,
            np.random.default_rng(index),
            tokenizer,
        )
        for index in (0, 1)
    ]
    batch = collate(pack(made, 64), 64)
    assert batch.source is not None and batch.main.segment.shape[0] == batch.source.segment.shape[0] == 1
    for side in (batch.main, batch.source):
        assert set(side.segment.unique().tolist()) - {-1} == {0, 1}


def test_bert_has_a_term_and_a_denominator_each(tmp_path: Path) -> None:
    objective = make("together", of=["toy_next_sentence", "toy_masked"], weights={"follows": 2.0})
    tokenizer = world.vocabulary()
    read_from = world.corpus(tmp_path, objective.cut(32), tokenizer)
    made = [
        objective.example(read_from, i, np.random.default_rng(i), tokenizer) for i in range(len(read_from))
    ]
    batch = collate([[example] for example in made], 32)
    assert batch.asked["follows"] == len(made) and batch.asked["tokens"] > len(made)
    assert objective.coefficient("follows") == 2.0 and objective.coefficient("tokens") == 1.0
    network = world.built(world.make_model("decoder"), world.sizes_for(objective, tokenizer, 32))
    assert set(network.heads) == {"follows", "tokens"} and set(
        objective.step({"main": network}, batch, None, 0).sums
    ) == {
        "follows",
        "tokens",
    }


def test_a_mixture_draws_each_by_its_share_and_divides_by_all_that_was_asked(tmp_path: Path) -> None:
    objective = make("mixture", of=["causal", "toy_masked"], shares=[3, 1])
    tokenizer = world.vocabulary()
    read_from = world.corpus(tmp_path, objective.cut(16), tokenizer)
    made = [
        objective.example(read_from, i % len(read_from), np.random.default_rng(i), tokenizer)
        for i in range(400)
    ]
    causal = sum(example.asks[0].name == "causal.tokens" for example in made)
    assert 250 < causal < 350
    asked = collate([[example] for example in made], 16).asked
    assert set(objective.denominators(asked).values()) == {
        asked["causal.tokens"] + asked["toy_masked.tokens"]
    }


def test_a_teacher_gives_soft_targets_and_learns_nothing(tmp_path: Path) -> None:
    """A student that equals its teacher has the teacher's entropy as its loss, and the smallest loss there
    is: no gradient."""
    objective = make("toy_distilled", of="causal")
    assert {name: partner.role for name, partner in objective.partners().items()} == {"teacher": "frozen"}
    tokenizer = world.vocabulary()
    read_from = world.corpus(tmp_path, objective.cut(32), tokenizer)
    batch = collate(
        pack(
            [
                objective.example(read_from, i, np.random.default_rng(i), tokenizer)
                for i in range(len(read_from))
            ],
            32,
        ),
        32,
    )
    sizes = world.sizes_for(objective, tokenizer, 32)
    teacher, student = (world.built(world.make_model("decoder"), sizes, seed=1) for _ in range(2))
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    answer = objective.step({"main": student, "teacher": teacher}, batch, None, 0)
    (answer.sums["tokens"] / batch.asked["tokens"]).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert (
        max(
            float(parameter.grad.abs().max())
            for parameter in student.parameters()
            if parameter.grad is not None
        )
        < 1e-5
    )
    assert answer.sums["tokens"].item() > 0
    other = world.built(world.make_model("decoder"), sizes, seed=2)
    worse = objective.step({"main": other, "teacher": teacher}, batch, None, 0)
    assert worse.sums["tokens"].item() > answer.sums["tokens"].item()


# ---------------------------------------------------------------- through the whole program


def recipe_of(objective: Any, texts: Path, *changes: str) -> Recipe:
    """A small recipe with this objective and a model that serves it, written as a recipe would."""
    name = objective if isinstance(objective, str) else objective["name"]
    settings = {} if isinstance(objective, str) else {k: v for k, v in objective.items() if k != "name"}
    fit = models_that_fit(make(name, **settings))
    model = "decoder" if "decoder" in fit else fit[0]
    table = {
        "model": model,
        "name": "toy",
        "objective": objective,
        "data": {"path": str(texts), "split": {"validation": 0.2, "test": 0.2}},
    }
    return read(
        Recipe,
        override(table, [*SHRUNK, *NARROW[model], "tokenizer.size=300", "train.window=24", *changes]),
    )


def logged(run: Run) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.parametrize(
    ("objective", "terms"),
    [
        ("toy_masked", {"tokens"}),
        ("toy_span_prefix", {"tokens"}),
        ("toy_span", {"tokens"}),
        ({"name": "mixture", "of": ["toy_span", "causal"]}, {"toy_span.tokens", "causal.tokens"}),
        (
            {"name": "together", "of": ["toy_next_sentence", "toy_masked"], "weights": {"follows": 0.5}},
            {"tokens", "follows"},
        ),
        (
            {"name": "mixture", "of": ["causal", "toy_masked", "toy_span_prefix"], "shares": [2, 1, 1]},
            {"causal.tokens", "toy_masked.tokens", "toy_span_prefix.tokens"},
        ),
        ({"name": "toy_distilled", "of": "causal"}, {"tokens"}),
    ],
    ids=["masked", "span", "t5", "source-or-none", "bert", "ul2", "teacher"],
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
    objective = {"name": "toy_distilled", "of": "causal", "teacher": str(teacher.folder)}
    student = fit(recipe_of(objective, texts, "train.budget.steps=60", "train.optimizer.rate=0.02"), tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    losses = [line["loss"] for line in logged(student)]
    assert losses[-1] < 0.8 * losses[0]
    with pytest.raises(ConfigError, match="another vocabulary"):
        fit(recipe_of(objective, texts, "name=other", "tokenizer.size=310"), tmp_path)


def test_a_model_that_cannot_serve_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"needs a model that gives full; model = 'gru'.*These models do: decoder"
    ):
        read(Recipe, {"objective": "toy_masked", "model": "gru", "data": {"path": "x"}})
    with pytest.raises(
        ConfigError, match=r"'toy_span' needs a model that gives source.*These models do: encoder_decoder"
    ):
        read(Recipe, {"objective": "toy_span", "data": {"path": "x"}})
    with pytest.raises(
        ConfigError, match=r"'encoder_decoder' needs an objective with source.*'causal' has none.*toy_span"
    ):
        read(Recipe, {"model": "encoder_decoder", "data": {"path": "x"}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("combined", ["together", "mixture"])
def test_a_step_of_its_own_is_never_left_out_in_silence(combined: str) -> None:
    """Trap 18: where only the data half of an objective would be used, one with a device half is refused."""
    with pytest.raises(ConfigError, match="'toy_distilled' trains with a step of its own"):
        make(combined, of=[{"name": "toy_distilled", "of": "causal"}])
    inside = make("toy_distilled", of={"name": combined, "of": ["causal"]})
    assert inside.requires() == {"causal"}


def test_a_combination_is_scored_as_its_least_exact_part() -> None:
    assert make("mixture", of=["causal", "causal"]).scored == "exact"
    assert make("mixture", of=["causal", "toy_masked"]).scored == "pseudo"

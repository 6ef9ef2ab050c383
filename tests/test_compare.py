"""Objectives compared: the same conditions, nothing done twice, kinds kept apart, and differences told by the
spread of the seeds."""

import json
from pathlib import Path
from typing import Any

import pytest

from telos import compare as module
from telos import shipped
from telos.compare import Comparison, compare, load_comparison
from telos.compare_page import Cell, Compared, write_pages
from telos.config import read
from telos.errors import ConfigError, TrainingError
from telos.opened import open_run
from telos.train.display import Quiet
from tests.small import write_texts

TINY: dict[str, Any] = {
    "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2},
    "tokenizer": {"size": 300},
    "train": {
        "window": 16,
        "batch": 4,
        "compute": {"precision": "float32"},
        "watch": {"evaluate_every": 2, "checkpoint_every": 0, "log_every": 1, "log": {"tensorboard": False}},
    },
    "generate": {"length": 4},
}


def rows(path: Path, values: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(map(json.dumps, values)), encoding="utf-8")
    return path


def comparison(folder: Path, **changes: Any) -> Comparison:
    if not (folder / "texts").exists():
        write_texts(folder / "texts", 20)
    pairs = [{"sentence_good": "The cat sat on it.", "sentence_bad": "The cat on sat it.", "UID": "order"}]
    labelled = [{"text": f"the {w} cat {n}", "label": w} for n in range(6) for w in ("red", "old")]
    table: dict[str, Any] = {
        "name": "two",
        "seeds": [0, 1],
        "compute": {"tokens": 200},
        "base": {**TINY, "data": {"path": str(folder / "texts")}},
        "cells": [
            {"name": "gpt", "objective": "causal"},
            {"name": "bert", "objective": {"name": "masked", "rate": 0.3}},
        ],
        "measure": {
            "tokens": 60,
            "pairs": {"path": str(rows(folder / "pairs.jsonl", pairs))},
            "probe": {key: str(rows(folder / f"{key}.jsonl", labelled)) for key in ("train", "test")},
        },
    }
    return read(Comparison, {**table, **changes})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, Compared]:
    folder = tmp_path_factory.mktemp("compare")
    given = comparison(folder)
    return folder, given, compare(given, folder / "runs", device="cpu")


def test_every_cell_has_the_same_text_vocabulary_and_tokens(
    world: tuple[Path, Comparison, Compared],
) -> None:
    folder, _, compared = world
    runs = [
        open_run(folder / "runs" / "two" / f"{name}-{seed}") for name in ("gpt", "bert") for seed in (0, 1)
    ]
    assert len({run.tokenizer.hash for run in runs}) == 1
    assert len({json.dumps(run.recipe.data.table()) for run in runs}) == 1
    assert len({run.shards("test").header.bytes for run in runs}) == 1
    used = [cell.found["training"]["tokens"] for cell in compared.cells]
    assert all(200 <= tokens < 200 + 4 * 16 for tokens in used)
    assert [(cell.name, cell.seed) for cell in compared.cells] == [
        ("gpt", 0),
        ("gpt", 1),
        ("bert", 0),
        ("bert", 1),
    ]


def test_figures_of_different_kinds_never_share_a_row(world: tuple[Path, Comparison, Compared]) -> None:
    """Trap 34: bits per byte of a likelihood and of a pseudo-likelihood are two rows, and no difference."""
    folder, _, compared = world
    assert compared.values["bits per byte (exact)"].keys() == {"gpt"}
    assert compared.values["bits per byte (pseudo-likelihood)"].keys() == {"bert"}
    assert not any(each.figure.startswith("bits per byte") for each in compared.differences)
    assert {each.figure for each in compared.differences} == {
        "minimal pairs",
        "minimal pairs: order",
        "linear probe",
    }
    text = (folder / "runs" / "two" / "compare.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| bits per byte (exact)")]
    assert row.endswith("| – |") and "±" in row
    curves = sorted(path.name for path in (folder / "runs" / "two").glob("*.svg"))
    assert curves == ["curves-exact.svg", "curves-pseudo.svg", "pairs.svg", "probe.svg"]


def test_what_is_done_is_not_done_again(
    world: tuple[Path, Comparison, Compared], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, given, compared = world

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("trained or measured again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "fit", never)
        patch.setattr(module, "_measured", never)
        again = compare(given, folder / "runs", device="cpu")
    assert again.table() == json.loads((folder / "runs" / "two" / "compare.json").read_text())
    assert again == compared


def test_another_measure_measures_again_but_trains_nothing(
    world: tuple[Path, Comparison, Compared], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, given, _ = world
    assert module._what(*_first(given)) == module._what(*_first(given))
    before = module._what(*_first(given))
    pairs = folder / "pairs.jsonl"
    text = pairs.read_text()
    pairs.write_text(text + '\n{"sentence_good": "b", "sentence_bad": "c"}')
    assert module._what(*_first(given)) != before, "the files' content counts"
    pairs.write_text(text)
    steps: list[int] = []
    monkeypatch.setattr("telos.train.loop.Trainer._write_log", lambda self: steps.append(1))
    other = comparison(folder, measure={"tokens": 30})
    found = compare(other, folder / "runs", device="cpu")
    assert steps == [] and found.values.keys() == {
        "bits per byte (exact)",
        "bits per byte (pseudo-likelihood)",
    }


def _first(given: Comparison) -> tuple[Any, Any]:
    return next(iter(given.recipes().values())), given.measure


def test_equal_operations_are_fewer_tokens_for_a_larger_model(tmp_path: Path) -> None:
    wide = {"name": "wide", "model": {"width": 32}}
    given = comparison(
        tmp_path,
        compute={"flops": 1e9},
        cells=[{"name": "narrow"}, wide, {"name": "same", "objective": "causal"}],
    )
    prepared = module._prepared(given, tmp_path / "runs", Quiet())
    budgets = module._budgets(given, prepared)
    recipes = {name: recipe for (name, _), recipe in given.recipes().items()}
    assert budgets["narrow"] == budgets["same"] > budgets["wide"]
    for name, tokens in budgets.items():
        used = tokens * module._flops_per_token(recipes[name], prepared.tokenizer.size)
        assert 0.99e9 < used <= 1e9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cells": [{"name": "a"}]}, "two at least"),
        ({"cells": [{"name": "a"}, {"name": "a"}]}, "a name of its own"),
        ({"cells": [{"name": "a"}, {"objective": "causal"}]}, "a name of its own"),
        (
            {"cells": [{"name": "a"}, {"name": "b", "data": {"path": "x"}}]},
            "'b' sets data, which is the same",
        ),
        ({"cells": [{"name": "a"}, {"name": "b", "train": {"budget": {"steps": 1}}}]}, "sets train.budget"),
        ({"cells": [{"name": "a"}, {"name": "b", "tokenizer": {}}]}, "sets tokenizer"),
        ({"cells": [{"name": "a"}, {"name": "b", "objective": "causl"}]}, "Did you mean 'causal'"),
        ({"cells": [{"name": "a"}, {"name": "../b"}]}, "must be letters"),
        ({"seeds": [1, 1]}, "different numbers"),
        ({"compute": {}}, "one of tokens and flops"),
        ({"compute": {"tokens": 1, "flops": 1.0}}, "one of tokens and flops"),
        ({"sedes": [1]}, "is not a setting"),
    ],
)
def test_what_would_not_be_a_comparison_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        comparison(tmp_path, **changes)


def test_a_run_is_not_overwritten_and_a_stopped_one_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = comparison(tmp_path)
    (tmp_path / "runs" / "two").mkdir(parents=True)
    (tmp_path / "runs" / "two" / "recipe.toml").touch()
    with pytest.raises(ConfigError, match="a run is there"):
        compare(given, tmp_path / "runs")

    class Stopped:
        folder = tmp_path

        class outcome:
            reason, step = "signal", 7

    monkeypatch.setattr(module, "fit", lambda *_, **__: Stopped())
    with pytest.raises(TrainingError, match="stopped at step 7"):
        compare(read(Comparison, {**given.table(), "name": "other"}), tmp_path / "runs")


# ---- the pages


def made(name: str, seed: int, kind: str, bits: float, right: float) -> Cell:
    interval = {"value": right, "low": right, "high": right}
    training = {
        "objective": "o",
        "model": "m",
        "kind": kind,
        "parameters": 10,
        "tokens": 100,
        "flops": 1e6,
        "seconds": 1.0,
        "curve": [[50, 2.0], [100, 1.0 + seed]],
    }
    return Cell(
        name,
        seed,
        {
            "training": training,
            "held_out": {"kind": kind, "bits_per_byte": bits},
            "pairs": {"accuracy": interval, "phenomena": {"a_b": interval}},
        },
    )


def test_only_differences_beyond_the_seeds_spread_are_named(tmp_path: Path) -> None:
    cells = [
        *(made("far", s, "exact", 1.0 + 0.01 * s, 0.5 + 0.2 * s) for s in range(3)),
        *(made("near", s, "exact", 2.0 + 0.01 * s, 0.6 + 0.2 * s) for s in range(3)),
    ]
    compared = Compared("c", {}, tuple(cells))
    named = [(d.figure, d.first, d.second) for d in compared.differences if d.exceeds]
    assert named == [("bits per byte (exact)", "far", "near")]
    write_pages(compared, tmp_path)
    text = (tmp_path / "compare.md").read_text()
    assert "bits per byte (exact): far 1.000 (0.977 to 1.023) lower than near" in text
    assert "1 of 3 differences exceed the seeds' spread; about 0.2 would by chance alone." in text
    alone = Compared("c", {}, tuple(cell for cell in cells if cell.seed == 0))
    assert not any(d.exceeds for d in alone.differences)
    write_pages(alone, tmp_path)
    assert "There is one seed" in (tmp_path / "compare.html").read_text()


def test_names_are_text_wherever_they_stand(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>$x_1$|`*"
    compared = Compared(hostile, {}, (made(hostile, 0, "exact", 1.0, 0.5), made("b", 0, "pseudo", 1.0, 0.5)))
    write_pages(compared, tmp_path)
    for file in ("compare.html", "pairs.svg", "curves-exact.svg"):
        assert "<script" not in (tmp_path / file).read_text(encoding="utf-8")
    lines = (tmp_path / "compare.md").read_text(encoding="utf-8").splitlines()
    assert r"\<script\>alert(1)\</script\>$x\_1$\|\`\*" in lines[0]
    json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))


def test_those_that_come_with_telos_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shipped.path_of("objectives", "compare").parent
    for path in sorted(folder.glob("*.toml")):
        assert len(load_comparison(path).recipes()) >= 2
    assert load_comparison("objectives", ["seeds=[5]"]).seeds == (5,)
    with pytest.raises(
        ConfigError, match=r"nor a comparison that comes with Telos.*Did you mean 'objectives'"
    ):
        load_comparison("objectivs")


def test_an_objective_that_scores_no_texts_is_compared_by_the_rest(tmp_path: Path) -> None:
    """ELECTRA's model says which tokens were replaced, and how likely no text is."""
    given = comparison(
        tmp_path,
        seeds=(0,),
        cells=(
            {"name": "gpt", "objective": "causal"},
            {"name": "electra", "objective": "replaced", "model": {**TINY["model"], "name": "encoder"}},
        ),
    )
    compared = compare(given, tmp_path / "runs", device="cpu")
    assert compared.values["bits per byte (exact)"].keys() == {"gpt"}
    assert compared.values["minimal pairs"].keys() == {"gpt"}
    assert compared.values["linear probe"].keys() == {"gpt", "electra"}
    text = (tmp_path / "runs" / "two" / "compare.md").read_text(encoding="utf-8")
    assert "| electra | replaced | encoder | – |" in text

"""Distillation: the worked example, a sure teacher is the hard loss, and what cannot teach is refused."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from telos import losses
from telos.batch import Batch, HeadSpec
from telos.config import override, read
from telos.data.packing import collate
from telos.errors import ConfigError
from telos.objectives.distil import Distil
from telos.recipe import Recipe
from telos.run import Run, fit
from tests.objectives.table import Table
from tests.objectives.world import Pieces, draw
from tests.small import NARROW, SHRUNK, write_texts


def asked(objective: Distil, *ids: list[int]) -> Batch:
    return collate([[draw(objective, Pieces(row))] for row in ids])


def loss_of(objective: Distil, models: dict[str, Any], batch: Batch) -> torch.Tensor:
    """As the loop divides."""
    sums = objective.step(models, batch, None, 0).sums
    divided_by = objective.denominators(batch.asked)
    return torch.stack([objective.coefficient(t) * sums[t] / divided_by[t] for t in sums]).sum()


def test_the_worked_example() -> None:
    """After token 0 the teacher says 3 to 1 at T = 2, the student that both are alike; the right one is 0."""
    teacher = Table(torch.tensor([[2 * math.log(3), 0.0]] * 2))
    student = Table(torch.zeros(2, 2))
    objective = Distil(teacher="t", temperature=2.0, hard=0.5)
    batch = asked(objective, [1, 0])
    loss = loss_of(objective, {"main": student, "teacher": teacher}, batch)
    assert loss.item() == pytest.approx(2.5 * math.log(2))
    loss.backward()
    row = student.embedding.weight.grad[1].tolist()
    # 0.5 · T · (q − p) + 0.5 · (q₁ − one-hot), for the first logit
    assert row[0] == pytest.approx(0.5 * 2 * (1 / 2 - 3 / 4) + 0.5 * (1 / 2 - 1))
    assert row == pytest.approx([row[0], -row[0]])


@pytest.mark.parametrize("hard", [0.0, 0.5])
def test_a_teacher_that_is_sure_and_right_is_the_hard_loss(hard: float) -> None:
    """The teacher is one-hot on the next token: loss and gradients are those of `causal`."""
    ids = [0, 3, 1, 4, 2, 0, 3]
    sure = torch.zeros(5, 5)
    for token, following in pairwise(ids):
        sure[token, following] = 1e4
    objective = Distil(teacher="t", temperature=1.0, hard=hard)
    batch = asked(objective, ids, ids[2:5])
    draws = torch.Generator().manual_seed(0)
    student, alone = (Table(t) for t in [torch.randn(5, 5, generator=draws)] * 2)
    loss = loss_of(objective, {"main": student, "teacher": Table(sure)}, batch)
    wanted = objective.of.step({"main": alone}, batch, None, 0).sums["tokens"] / batch.asked["tokens"]
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    wanted.backward()
    for ours, theirs in zip(student.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_teacher_is_asked_a_chunk_at_a_time_and_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK", 5 * 3)
    draws = torch.Generator().manual_seed(0)
    teacher, student = (Table(torch.randn(5, 5, generator=draws)) for _ in range(2))
    heard: list[int] = []
    said = teacher.logits
    monkeypatch.setattr(teacher, "logits", lambda flat, head: heard.append(len(flat)) or said(flat, head))
    objective = Distil(teacher="t", hard=0.0)
    batch = asked(objective, [0, 3, 1, 4, 2, 0, 3, 1, 2])
    loss = loss_of(objective, {"main": student, "teacher": teacher}, batch)
    assert heard == [3, 3, 2]
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_with_nothing_asked_nothing_is_learned() -> None:
    """Trap 8: 0, not 0 / 0, and a gradient of exactly 0."""
    objective = Distil(teacher="t")
    batch = asked(objective, [0, 3, 1])
    silent = replace(batch, asks=tuple(replace(a, weight=torch.zeros_like(a.weight)) for a in batch.asks))
    student = Table(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    sums = objective.step({"main": student, "teacher": Table(torch.zeros(5, 5))}, silent, None, 0).sums
    assert {term: value.item() for term, value in sums.items()} == {"tokens": 0.0, "teacher.tokens": 0.0}
    sum(sums.values()).backward()
    assert all(float(parameter.grad.abs().max()) == 0 for parameter in student.parameters())


def test_a_teacher_without_the_head_is_refused() -> None:
    objective = Distil(teacher="runs/t")
    other = Table(torch.zeros(5, 5), HeadSpec(name="replaced", outputs=5))
    with pytest.raises(ConfigError, match=r"'runs/t': this run has no head 'tokens', only replaced"):
        objective.step(
            {"main": Table(torch.zeros(5, 5)), "teacher": other}, asked(objective, [0, 3]), None, 0
        )


def test_what_steps_by_itself_cannot_be_inside() -> None:
    with pytest.raises(ConfigError, match="trains with a step of its own"):
        read(Distil, {"teacher": "t", "of": {"name": "distil", "teacher": "u"}})


def test_it_asks_and_is_scored_as_what_it_is_made_of() -> None:
    objective = read(Distil, {"teacher": "t", "of": {"name": "span", "marks": 7}})
    assert objective.scored == "pseudo" and objective.requires() == {"causal", "source"}
    assert len(objective.specials()) == 7 and objective.cut(64) == objective.of.cut(64)
    assert objective.coefficient("tokens") == objective.coefficient("teacher.tokens") == 0.5
    none = read(Distil, {"teacher": "t", "hard": 0.25})
    assert none.coefficient("tokens") == 0.25 and none.coefficient("teacher.tokens") == 0.75


# ---------------------------------------------------------------- through the whole program


def recipe_of(objective: Any, texts: Path, *changes: str, model: str = "decoder") -> Recipe:
    table = {
        "name": "student",
        "objective": objective,
        "data": {"path": str(texts), "split": {"validation": 0.2, "test": 0.2}},
        "model": model,
    }
    return read(Recipe, override(table, [*SHRUNK, *NARROW[model], "tokenizer.size=300", *changes]))


def losses_of(run: Run) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_a_student_learns_from_a_run_and_a_run_that_cannot_teach_is_refused(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", 30)
    teacher = fit(recipe_of("causal", texts, "name=teacher"), tmp_path / "runs")
    objective = {"name": "distil", "teacher": str(teacher.folder), "hard": 0.25}
    student = fit(recipe_of(objective, texts), tmp_path / "runs")
    for line in losses_of(student):
        assert line["loss"] == pytest.approx(0.25 * line["loss.tokens"] + 0.75 * line["loss.teacher.tokens"])
    assert student.figures()["evaluation"]["test"]["kind"] == "exact"
    with pytest.raises(ConfigError, match=r"window = 16 and has no places beyond"):
        fit(recipe_of(objective, texts, "name=wide", "train.window=24"), tmp_path / "runs")
    recurrent = fit(recipe_of("causal", texts, "name=recurrent", model="gru"), tmp_path / "runs")
    objective["teacher"] = str(recurrent.folder)
    with pytest.raises(ConfigError, match=r"'gru', which does not give packed: it cannot read the rows"):
        fit(recipe_of(objective, texts, "name=other"), tmp_path / "runs")

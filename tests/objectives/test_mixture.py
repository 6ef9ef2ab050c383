"""Objectives mixed per sample, by shares that may move (trap 17)."""

import json
from pathlib import Path

import numpy as np
import pytest

from telos.config import override, read
from telos.errors import ConfigError
from telos.objectives.mixture import Mixture
from telos.recipe import Recipe
from telos.run import fit
from tests.objectives.world import Pieces, characters
from tests.small import NARROW, SHRUNK, write_texts

OF = ["causal", "prefix"]


def share_of_the_first(mixture: Mixture, passes: float, draws: int = 4000) -> float:
    objective, tokenizer = mixture.after(passes), characters(mixture.specials())
    pieces, rng = Pieces([tokenizer.begin, 1, 2, 3, tokenizer.end]), np.random.default_rng(0)
    first = [objective.example(pieces, 0, rng, tokenizer).asks[0].term for _ in range(draws)]
    return first.count("causal.tokens") / draws


def test_shares_move_from_the_start_to_the_recipes() -> None:
    """In a straight line: 1, then 1 − 0.75 / 2 in the middle, then 1 / 4 for good."""
    mixture = read(Mixture, {"of": OF, "shares": [1, 3], "start": {"shares": [5, 0], "passes": 2.0}})
    for passes, expected in ((0.0, 1.0), (1.0, 0.625), (2.0, 0.25), (9.0, 0.25)):
        assert abs(share_of_the_first(mixture, passes) - expected) < 0.03
    assert mixture.after(9.0).after(0.0).shares != mixture.shares or mixture.shares == (1, 3)


def test_held_out_text_is_scored_by_the_recipes_shares() -> None:
    mixture = read(Mixture, {"of": OF, "start": {"shares": [1, 0]}})
    objective, rng, tokenizer = mixture, np.random.default_rng(0), characters()
    terms = {objective.example(Pieces([1, 2, 3, 4]), 0, rng, tokenizer).asks[0].term for _ in range(50)}
    assert terms == {"causal.tokens", "prefix.tokens"}


@pytest.mark.parametrize("shares", [[1], [1, 2, 3], [0, 0], [-1, 2]])
@pytest.mark.parametrize("key", ["shares", "start"])
def test_shares_that_cannot_be_are_refused(key: str, shares: list[float]) -> None:
    given = {"shares": shares} if key == "start" else shares
    with pytest.raises(ConfigError, match="2 numbers ≥ 0"):
        read(Mixture, {"of": OF, key: given})


def test_what_one_decoder_can_serve_is_mixed_in_one_run(tmp_path: Path) -> None:
    """Trap 17: four objectives on a schedule, through the whole program. The loss of each and its share of
    the tokens are logged; together they make the loss."""
    objective = {
        "name": "mixture",
        "of": [
            "causal",
            "prefix",
            "infill",
            {"name": "span", "form": "prefix"},
            {"name": "denoise", "form": "prefix"},
        ],
        "start": {"shares": [1, 1, 1, 1, 5], "passes": 1.0},
    }
    given = {"name": "mixed", "objective": objective, "data": {"path": str(write_texts(tmp_path / "texts"))}}
    changes = [*SHRUNK, *NARROW["decoder"], "tokenizer.size=480", "train.window=32", "train.budget.steps=6"]
    run = fit(read(Recipe, override(given, [*changes, "train.watch.log_every=3"])), tmp_path)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    names = {key.removeprefix("share.") for line in lines for key in line if key.startswith("share.")}
    assert {name.partition(".")[0] for name in names} == {"causal", "prefix", "infill", "span", "denoise"}
    for line in lines:
        shares = {
            key.removeprefix("share."): value for key, value in line.items() if key.startswith("share.")
        }
        assert sum(shares.values()) == pytest.approx(1)
        assert line["loss"] == pytest.approx(sum(line[f"loss.{name}"] * s for name, s in shares.items()))

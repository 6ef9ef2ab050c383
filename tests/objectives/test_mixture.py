"""Objectives mixed per sample, by shares that may move (trap 17)."""

import json
from pathlib import Path

import numpy as np
import pytest

from telos import objectives
from telos.batch import Piece
from telos.config import override, read
from telos.errors import ConfigError
from telos.evaluate.likelihood import score
from telos.find import names
from telos.objectives.causal import Causal
from telos.objectives.mixture import Mixture
from telos.objectives.together import Together
from telos.recipe import Recipe
from telos.run import fit
from tests.contract import world
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


def test_shares_of_the_samples_are_as_asked() -> None:
    """Trap 17: within one hundredth."""
    mixture = read(Mixture, {"of": OF, "shares": [3, 7]})
    assert abs(share_of_the_first(mixture, 0.0, 20_000) - 0.3) < 0.01


EMPTY_AND_WHOLE = ("", "One two. Three four. Five six.", "", "床前明月光。疑是地上霜。", "x", "")


@pytest.mark.parametrize("name", names(objectives))
def test_texts_without_a_token_are_no_trouble(name: str, tmp_path: Path) -> None:
    """Traps 8, 12 and 14: beside `causal`, a document without text is a begin and an end token. Nothing is
    made of it, and nothing of another text is mixed with it."""
    other = world.make_objective(name)
    if other.partners():
        return
    mixture = read(Mixture, {"of": ["causal", {"name": name, **other.model_dump()}]})
    if other.cut(24).whole:
        with pytest.raises(ConfigError, match=f"'causal', '{name}': some read each text as a whole"):
            mixture.cut(24)
        return
    tokenizer = world.vocabulary(mixture.specials())
    corpus = world.corpus(tmp_path, mixture.cut(24), tokenizer, EMPTY_AND_WHOLE)
    pieces = [corpus[index].ids.tolist() for index in range(len(corpus))]
    assert pieces.count([tokenizer.begin, tokenizer.end]) == 3
    for index in range(len(corpus)):
        for seed in range(20):
            example = mixture.of[1].example(corpus, index, np.random.default_rng(seed), tokenizer)
            for side in (example.main, example.source):
                assert side is None or 0 < len(side) <= 24
            if example.main.types is not None:
                kinds = example.main.types[~np.isin(example.main.ids, list(tokenizer.special_ids))]
                assert set(kinds) == {0, 1}, "a stretch without text"


def test_held_out_text_is_scored_as_each_of_its_objectives_scores_it(tmp_path: Path) -> None:
    """Trap 3: beside `causal`, `hybrid` is exact too, by its causal half; and what is drawn there is no
    matter of which objective was drawn."""
    mixture = read(Mixture, {"of": ["causal", "hybrid"], "shares": [1, 3]})
    assert mixture.scored == "exact"
    tokenizer = world.vocabulary()
    shards = world.write_shards(tmp_path, tokenizer)
    network = world.built(world.make_model("decoder"), world.sizes_for(mixture, tokenizer, 24))
    ours, theirs = (score(network, o, shards, tokenizer, window=24) for o in (mixture, Causal()))
    assert ours.nats == pytest.approx(theirs.nats, rel=1e-6) and ours.tokens == theirs.tokens
    pieces = Pieces([tokenizer.begin, *range(40, 50), tokenizer.end])
    other = read(Mixture, {"of": ["causal", {"name": "infill", "rate": 0.5}]})
    tokenizer, drawn = world.vocabulary(other.specials()), []
    many = Repeated(pieces[0])
    for index in range(400):
        (example,) = other.tries(many, index, tokenizer)
        if example.asks[0].term.startswith("infill"):
            drawn.append(tokenizer.special("fim_middle") in example.main.ids)
    assert 150 < len(drawn) < 250 and 0.4 < np.mean(drawn) < 0.6


class Repeated:
    """One piece, many times."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> Piece:
        return self.piece


def test_what_a_head_counts_is_not_lost() -> None:
    """Trap 39: the weights of objectives inside of others; every other token counts the same."""
    several = {"name": "multi_token", "tokens": 2, "weight": 0.25}
    bert = {"name": "together", "of": ["next_sentence", "masked"], "weights": {"follows": 3.0}}
    inner = {"name": "mixture", "of": [several, "prefix"]}
    mixture = read(Mixture, {"of": ["causal", several, bert, "hybrid", inner]})
    for term, weight in (
        ("causal.tokens", 1.0),
        ("multi_token.tokens", 1.0),
        ("multi_token.tokens2", 0.25),
        ("together.follows", 3.0),
        ("together.tokens", 1.0),
        ("hybrid.causal.tokens", 1.0),
        ("hybrid.masked.tokens", 1.0),
        ("mixture.multi_token.tokens2", 0.25),
        ("mixture.prefix.tokens", 1.0),
    ):
        assert mixture.coefficient(term) == weight, term
    assert read(Together, {"of": [several]}).coefficient("tokens2") == 0.25
    assert read(Together, {"of": [several], "weights": {"tokens2": 2.0}}).coefficient("tokens2") == 2.0


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

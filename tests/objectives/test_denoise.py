"""UL2: modes have tokens of their own, are drawn as often as asked, and no token is dropped (trap 17)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from telos.config import read
from telos.errors import ConfigError
from telos.objectives._base import Objective
from telos.objectives.denoise import Denoise
from telos.tokenizer import Tokenizer
from tests.contract.objective_checks import CHECKS
from tests.objectives.test_span import reading, rebuilt
from tests.objectives.world import Pieces, answers, characters, draw


def test_the_modes_are_special_tokens_of_the_vocabulary(tmp_path: Path) -> None:
    """Trap 17: by name, in its file too, and before the text that is read."""
    objective = Denoise()
    tokenizer = characters(objective.specials())
    modes = {tokenizer.special(mode): mode for mode in "RSX"}
    assert set(modes) <= tokenizer.special_ids and len(modes) == 3
    saved = tmp_path / "tokenizer.json"
    tokenizer.save(saved)
    assert all(Tokenizer.load(saved).special(mode) == token for token, mode in modes.items())
    seen = set()
    for seed in range(60):
        example = draw(objective, Pieces(np.arange(30)), seed, tokenizer)
        mode = modes[reading(example)[0]]
        assert example.asks[0].term == f"{mode}.tokens"
        seen.add(mode)
    assert seen == {"R", "S", "X"}


@pytest.mark.parametrize("form", ["source", "prefix"])
@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_dropped_whatever_is_drawn(seed: int, form: str) -> None:
    """Traps 13, 14 and 17: what is read and what is said are the text, and both fit the window, for pieces as
    long as they get."""
    objective = read(Denoise, {"form": form})
    tokenizer = characters(objective.specials())
    length = objective.cut(128).length
    ids = np.random.default_rng(seed).integers(0, 30, length)
    example = draw(objective, Pieces(ids), seed, tokenizer)
    assert rebuilt(reading(example)[1:], answers(example), tokenizer, 100) == ids.tolist()
    assert len(example.main) <= 128 and (example.source is None or len(example.source) <= 128)


def test_denoisers_are_drawn_as_often_as_asked() -> None:
    """Trap 17: within one hundredth of 20 000 draws, and so are the shares of what is asked."""
    some = [
        {"mode": "R", "density": 0.1, "length": 3.0, "share": 3},
        {"mode": "S", "density": 0.2, "length": 0, "share": 1},
        {"mode": "X", "density": 0.5, "length": 8.0},
    ]
    objective = read(Denoise, {"of": some, "marks": 20})
    tokenizer, pieces, rng = characters(objective.specials()), Pieces(np.arange(30)), np.random.default_rng(0)
    drawn: dict[str, list[int]] = {"R.tokens": [], "S.tokens": [], "X.tokens": []}
    for _ in range(20_000):
        (ask,) = objective.example(pieces, 0, rng, tokenizer).asks
        drawn[ask.term].append(len(ask.at))
    for term, share in (("R.tokens", 0.6), ("S.tokens", 0.2), ("X.tokens", 0.2)):
        assert abs(len(drawn[term]) / 20_000 - share) < 0.01
    # R says 3 tokens in 1 span, S 6 in 1, X 15 in 2; each with its marks and the end token.
    weights = {"R.tokens": 0.6 * 5, "S.tokens": 0.2 * 8, "X.tokens": 0.2 * 18}
    whole = sum(map(sum, drawn.values()))
    for term, weight in weights.items():
        assert abs(sum(drawn[term]) / whole - weight / sum(weights.values())) < 0.01


def test_every_asked_token_counts_the_same() -> None:
    """Trap 17: the loss is divided by all that was asked; what is logged apart, by its own."""
    asked = {"R.tokens": 6.0, "X.tokens": 2.0}
    assert Denoise().denominators(asked) == {"R.tokens": 8.0, "X.tokens": 8.0}
    assert Denoise().logged(asked) == asked


def test_the_sequential_denoiser_goes_on() -> None:
    """As in the docstring: of eight tokens the last two are hidden, and the prompt is put the same way."""
    objective = read(Denoise, {"of": [{"mode": "S", "density": 0.25, "length": 0}]})
    tokenizer = characters(objective.specials())
    mode, mark = tokenizer.special("S"), tokenizer.special("<extra_id_0>")
    example = draw(objective, Pieces(np.arange(8)), 0, tokenizer)
    assert reading(example) == [mode, 0, 1, 2, 3, 4, 5, mark, tokenizer.end]
    assert answers(example) == [mark, 6, 7, tokenizer.end]
    prompt = Denoise().prompt(np.arange(6), characters(Denoise().specials()))
    assert prompt.source is not None and len(prompt.source) == 9 and len(prompt.main) == 2


def test_the_published_denoisers() -> None:
    """Tay et al. (2022), table 1: R, S and X with their mean lengths and shares."""
    assert [(d.mode, d.length, d.density) for d in Denoise().of] == [
        ("R", 3, 0.15),
        ("R", 8, 0.15),
        ("S", 0, 0.25),
        ("X", 3, 0.5),
        ("X", 8, 0.5),
        ("X", 64, 0.15),
        ("X", 64, 0.5),
    ]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Set objective.marks to at least 95"):
        Denoise(marks=94).cut(512)
    with pytest.raises(ConfigError, match="mode"):
        read(Denoise, {"of": [{"mode": "a b", "density": 0.5, "length": 3.0}]})


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_of_the_prefix_form(check: Callable[[Objective, Path], None], tmp_path: Path) -> None:
    check(Denoise(form="prefix"), tmp_path)

"""From logits to tokens: each cut by its definition, all rows at once."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from telos.generate import _draw
from telos.generate._draw import draw, kept
from telos.generate._settings import GenerateSettings

GREEDY = GenerateSettings(temperature=0)


def shares_of(logits: list[float], settings: GenerateSettings) -> list[float]:
    """The probability with which each token of one row is drawn."""
    found: list[float] = kept(torch.tensor([logits], dtype=torch.float64), settings)[0].tolist()
    return found


@given(
    logits=st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=9),
    temperature=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    top_k=st.integers(0, 10),
    top_p=st.sampled_from([0.05, 0.3, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.2, 0.7, 1.0]),
)
@example(logits=[1.0, 0.0, 1.0, 1.0], temperature=1.0, top_k=2, top_p=1.0, min_p=0.0)
def test_cuts_equal_their_definitions(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    """Each cut by brute force, in the order top-k, top-p, min-p, each on what the one before left."""
    settings = GenerateSettings(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    shares = shares_of(logits, settings)
    ranked = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    ranked = ranked[:top_k] if top_k else ranked
    share = _scaled({token: math.exp(logits[token] / temperature) for token in ranked})
    if top_p < 1:
        ranked = next(
            ranked[:n]
            for n in range(1, len(ranked) + 1)
            if sum(share[t] for t in ranked[:n]) >= top_p - 1e-12 or n == len(ranked)
        )
    share = _scaled({token: share[token] for token in ranked})
    expected = _scaled({t: p for t, p in share.items() if p >= min_p * max(share.values()) * (1 - 1e-12)})
    assert {token: share for token, share in enumerate(shares) if share} == pytest.approx(expected)
    assert sum(shares) == pytest.approx(1)


def _scaled(shares: dict[int, float]) -> dict[int, float]:
    total = math.fsum(shares.values())
    return {token: share / total for token, share in shares.items()}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.644, 0.237, 0.087, 0.032]),
        ({"temperature": 0.5}, [0.865, 0.117, 0.016, 0.002]),
        ({"temperature": 2.0}, [0.455, 0.276, 0.167, 0.102]),
        ({"top_k": 2}, [0.731, 0.269]),
        ({"top_p": 0.9}, [0.665, 0.245, 0.090]),
        ({"min_p": 0.2}, [0.731, 0.269]),
    ],
)
def test_the_example_of_the_guide(settings: dict[str, Any], expected: list[float]) -> None:
    shares = shares_of([2.0, 1.0, 0.0, -1.0], GenerateSettings(**settings))
    assert shares == pytest.approx(expected + [0.0] * (4 - len(expected)), abs=6e-4)


def test_draws_have_the_frequencies_of_the_distribution() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log().expand(20_000, 4)
    uniform = torch.from_numpy(np.random.default_rng(0).random(20_000))
    drawn = Counter(draw(logits, GenerateSettings(), uniform).tolist())
    assert [drawn[token] / 20_000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.012)


def test_greedy_takes_the_first_of_equals_and_no_randomness() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0, -torch.inf]], dtype=torch.float64)
    assert draw(logits, GREEDY, torch.full((1,), torch.nan)).tolist() == [1]


@given(
    rows=st.lists(st.lists(st.integers(-6, 6).map(float), min_size=40, max_size=40), min_size=1, max_size=6),
    uniform=st.floats(0, 1, exclude_max=True),
    chosen=st.sampled_from(
        [{}, {"top_k": 3}, {"top_p": 0.3}, {"top_k": 20, "top_p": 0.9}, {"min_p": 0.3}, {"temperature": 0.3}]
    ),
)
def test_rows_have_nothing_to_do_with_one_another(
    rows: list[list[float]], uniform: float, chosen: dict[str, Any]
) -> None:
    """However many there are, and whichever way their cuts are found: each gets what it gets alone."""
    settings = GenerateSettings(**chosen)
    logits = torch.tensor(rows, dtype=torch.float64)
    numbers = torch.full((len(rows),), uniform, dtype=torch.float64)
    together = draw(logits, settings, numbers).tolist()
    alone = [draw(row.unsqueeze(0), settings, numbers[:1]).item() for row in logits]
    assert together == alone
    assert all(kept(logits, settings)[row, token] > 0 for row, token in enumerate(together))


def test_what_may_not_be_drawn_never_is() -> None:
    """Trap 88: at both ends of the random numbers, and where only one token is left."""
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 1.0, -torch.inf]], dtype=torch.float64)
    for chosen in (GenerateSettings(), GenerateSettings(top_k=4), GenerateSettings(top_p=0.999)):
        for number, token in ((0.0, 1), (0.49, 1), (0.51, 3), (1 - 2**-53, 3)):
            uniform = torch.tensor([number], dtype=torch.float64)
            assert draw(logits, chosen, uniform).tolist() == [token]


@given(
    shares=st.lists(st.integers(0, 30), min_size=64, max_size=64).filter(any),
    share=st.sampled_from([0.05, 0.3, 0.5, 0.9, 0.999]),
)
def test_a_nucleus_is_the_same_however_it_is_looked_for(shares: list[int], share: float) -> None:
    """Among all tokens, or among those that are likely enough."""
    row = torch.tensor([shares], dtype=torch.float64) ** 4
    row = row / row.sum()
    usual = _draw._nucleus(row, share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_draw, "NARROW", 0 if int((row >= (1 - share) / 64).sum()) * 8 > 64 else 10**9)
        assert torch.equal(_draw._nucleus(row, share), usual)

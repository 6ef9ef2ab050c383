"""Finding hidden text: the prompt stays, blocks fill, end tokens end, and chance is as the model says."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch

from telos.batch import Rows
from telos.generate._base import generate
from telos.generate._settings import GenerateSettings, UnmaskSettings
from telos.models._base import Network
from telos.objectives.diffusion import Diffusion
from tests.objectives.table import Table
from tests.objectives.test_diffusion import tiny
from tests.objectives.world import characters

VOCABULARY = characters()
A, B, C = (int(VOCABULARY.encode(letter)[0]) for letter in "abc")


def says(**logits: float) -> Table:
    """At a hidden place these letters, by their logits; `end` is the end token."""
    table = torch.full((VOCABULARY.size, VOCABULARY.size), -50.0)
    for letter, logit in logits.items():
        token = VOCABULARY.end if letter == "end" else int(VOCABULARY.encode(letter)[0])
        table[VOCABULARY.mask, token] = logit
    return Table(table)


def run(network: Network, prompts: list[str], window: int = 0, seed: int = 0, **settings: Any) -> list[Any]:
    chosen = GenerateSettings(**settings)
    return generate(network, VOCABULARY, prompts, chosen, objective=Diffusion(), window=window, seed=seed)


class Watched(Table):
    """Keeps the rows that it was shown."""

    def __init__(self, inner: Table) -> None:
        super().__init__(inner.embedding.weight.detach())
        self.shown: list[list[int]] = []

    def encode(self, main: Rows, *rest: Any) -> Any:
        self.shown += [row[seg >= 0].tolist() for row, seg in zip(main.ids, main.segment, strict=True)]
        return super().encode(main, *rest)


@pytest.mark.parametrize(("steps", "runs"), [(0, 7), (7, 7), (3, 3), (1, 1), (100, 7)])
def test_so_many_runs_fill_a_block_and_the_prompt_stays(steps: int, runs: int) -> None:
    network = Watched(says(a=1.0, b=0.5))
    unmask = UnmaskSettings(steps=steps)
    (sample,) = run(network, ["cab"], length=7, unmask=unmask)
    assert len(network.shown) == runs and len(sample.ids) == 7 and set(sample.text) <= {"a", "b"}
    given = [VOCABULARY.begin, C, A, B]
    hidden = [row.count(VOCABULARY.mask) for row in network.shown]
    assert hidden[0] == 7 and all(before > after for before, after in pairwise(hidden))
    for before, after in pairwise(network.shown):
        assert after[:4] == given
        kept = [(x, y) for x, y in zip(before, after, strict=True) if x != VOCABULARY.mask]
        assert all(x == y for x, y in kept), "what was found stands"


def test_a_sure_model_is_followed_and_scored() -> None:
    (sample,) = run(says(a=0.0, b=math.log(3)), [""], temperature=0, length=5)
    assert sample.text == "bbbbb" and sample.finished == "length"
    assert sample.logprob == pytest.approx(5 * math.log(3 / 4))


def test_nothing_comes_after_an_end_token() -> None:
    """The text ends there, the end token is among its tokens, and what stood behind it is given up."""
    ended = 0
    for seed in range(20):
        (sample,) = run(says(a=0.0, end=-0.5), ["c"], length=8, seed=seed)
        if sample.finished == "end":
            ended += 1
            assert sample.ids[-1] == VOCABULARY.end and sample.ids.count(VOCABULARY.end) == 1
        assert sample.text == "a" * (len(sample.ids) - (sample.finished == "end"))
    assert ended > 10


def test_special_tokens_are_never_found_and_stop_strings_stop() -> None:
    network = says(a=1.0)
    with torch.no_grad():
        network.embedding.weight[VOCABULARY.mask, [VOCABULARY.mask, VOCABULARY.pad, VOCABULARY.begin]] = 9.0
    (sample,) = run(network, [""], length=6, stop=("aaa",))
    assert sample.text == "" and sample.finished == "stop" and set(sample.ids) == {A}


@pytest.mark.parametrize("block", [0, 3])
def test_blocks_fit_the_window_and_the_last_half_goes_on(block: int) -> None:
    """`length` may be more than there is room for: block after block, and rows never leave the window."""
    network = Watched(says(a=1.0, b=0.5))
    settings = UnmaskSettings(steps=2, block=block)
    (sample,) = run(network, ["abcab"], window=8, length=23, unmask=settings)
    assert len(sample.ids) == 23
    assert max(map(len, network.shown)) <= 8
    assert network.shown[0][0] == VOCABULARY.begin
    assert all(row.count(VOCABULARY.mask) <= (block or 8) for row in network.shown)


def test_a_sample_is_the_same_in_company() -> None:
    network = tiny(VOCABULARY.size)
    alone = run(network, ["ab"], window=8, length=5, seed=4)
    both = run(network, ["cabc", "ab"], window=8, length=5, seed=4)
    assert both[1] == alone[0]
    assert run(network, ["ab"], window=8, length=5, seed=5) != alone
    twice = run(network, ["ab"], window=8, length=5, seed=4, samples=2)
    assert twice[0] == alone[0] and twice[1] != twice[0]


def test_text_is_handed_on_as_it_is_certain() -> None:
    pieces: list[str] = []
    (sample,) = generate(
        says(a=1.0, b=0.5),
        VOCABULARY,
        ["c"],
        GenerateSettings(length=9),
        objective=Diffusion(),
        window=6,
        stream=lambda index, text: pieces.append(text),
    )
    assert "".join(pieces) == sample.text and len(pieces) > 1


def test_the_surest_place_is_found_first() -> None:
    """Places 2, 3 and 4 with sureness 3/4, 1/2 and 7/8: found in the order 4, 2, 3."""

    class ByPlace(Watched):
        def encode(self, main: Rows, *rest: Any) -> Any:
            super().encode(main, *rest)
            return self.embedding(main.positions), None

    table = torch.full((VOCABULARY.size, VOCABULARY.size), -50.0)
    for place, odds in ((2, 3.0), (3, 1.0), (4, 7.0)):
        table[place, A], table[place, B] = math.log(odds), 0.0
    network = ByPlace(Table(table))
    run(network, ["c"], length=3, temperature=0)
    hidden = [[p for p, token in enumerate(row) if token == VOCABULARY.mask] for row in network.shown]
    assert hidden == [[2, 3, 4], [2, 3], [3]]


def test_random_order_draws_from_the_distribution_that_is_bounded() -> None:
    """Two places, two letters. Hidden beside a hidden one, a place says a 1/2; beside an a 9/10; beside a b
    1/4. So a b is found by 1/2 · 1/10 with its a first, by 1/2 · 1/4 with its b first; and so on."""

    class Beside(Table):
        def encode(self, main: Rows, *rest: Any) -> Any:
            return self.embedding(main.ids[:, [0, 1, 3, 2]]), None

    table = torch.full((VOCABULARY.size, VOCABULARY.size), -50.0)
    for beside, odds in ((VOCABULARY.mask, 1.0), (A, 9.0), (B, 1 / 3)):
        table[beside, A], table[beside, B] = math.log(odds), 0.0
    number = 2000
    samples = run(Beside(table), ["c"], length=2, samples=number, unmask=UnmaskSettings(order="random"))
    drawn = Counter(sample.text for sample in samples)
    wanted = {"aa": 0.45, "ab": 0.0875, "ba": 0.0875, "bb": 0.375}
    for text, chance in wanted.items():
        assert abs(drawn[text] / number - chance) < 4 * math.sqrt(chance * (1 - chance) / number), text

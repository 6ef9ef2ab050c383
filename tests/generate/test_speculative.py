"""Guessing ahead: the same samples as from left to right, token by token, with fewer runs of the model."""

from typing import Any

import pytest
import torch

from telos.batch import Rows
from telos.generate._base import generate
from telos.generate._settings import GenerateSettings
from telos.models._base import Network
from telos.objectives.multi_token import MultiToken
from tests.contract import world
from tests.objectives.world import characters

VOCABULARY = characters()
PROMPTS = ["the cat", "", "a"]


def made(model: str, tokens: int = 4, seed: int = 0, window: int = 16) -> Network:
    """In float64, and sure enough of itself that its heads agree now and then."""
    sizes = world.sizes_for(MultiToken(tokens=tokens), VOCABULARY, window)
    network = world.built(world.make_model(model), sizes, seed).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 2 and "transform" not in name:
                parameter.mul_(6)
    return network


def runs(network: Network, decoder: str, **settings: Any) -> tuple[Any, int]:
    """The samples, and how often the model was run."""
    count, encode = [0], network.encode

    def counted(main: Rows, *rest: Any) -> Any:
        count[0] += 1
        return encode(main, *rest)

    network.encode = counted  # type: ignore[method-assign]
    prompts, window = settings.pop("prompts", PROMPTS), settings.pop("window", 16)
    chosen = GenerateSettings(**settings)
    samples = generate(network, VOCABULARY, prompts, chosen, seed=3, window=window, decoder=decoder)
    network.encode = encode  # type: ignore[method-assign]
    return samples, count[0]


@pytest.mark.parametrize("model", ["decoder", "gru"])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("length", [1, 9, 40])
def test_the_text_is_that_of_left_to_right(model: str, temperature: float, length: int) -> None:
    """Trap 23: greedy or drawn, beyond the window and within, alone and in company."""
    window = 16 if model == "decoder" else 0
    for seed in range(3):
        network = made(model, seed=seed)
        chosen = {"temperature": temperature, "length": length, "samples": 2, "window": window}
        plain, _ = runs(network, "left_to_right", **chosen)
        guessed, _ = runs(network, "speculative", **chosen)
        for ours, theirs in zip(guessed, plain, strict=True):
            assert (ours.ids, ours.text, ours.finished) == (theirs.ids, theirs.text, theirs.finished)
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-6)


class Straight(Network):
    """The tokens go round and round, 8, 9, … 29, 8: and each head knows it but the one that looks `wrong`
    tokens further on. Its state is that of a real decoder."""

    def __init__(self, tokens: int, wrong: int = 0) -> None:
        super().__init__()
        inner = made("decoder", tokens)
        self.embedding, self.inner, self.heads, self.wrong = inner.embedding, inner, inner.heads, wrong

    def encode(self, main: Rows, source: Any = None, state: Any = None, continues: Any = None) -> Any:
        _, state = self.inner.encode(main, source, state, continues)
        return main.ids.double().unsqueeze(-1), state

    def logits(self, hidden: torch.Tensor, head: str = "tokens") -> torch.Tensor:
        ahead = self.heads[head].ahead
        off = 1 if ahead and ahead == self.wrong else 0
        following = 8 + (hidden[..., 0].long() - 8 + 1 + ahead + off) % 22
        return 9.0 * torch.nn.functional.one_hot(following, VOCABULARY.size).double()

    def unread(self, state: Any, places: torch.Tensor) -> Any:
        return self.inner.unread(state, places)

    def initial(self, name: str) -> Any:
        raise AssertionError


@pytest.mark.parametrize(("tokens", "expected"), [(1, 24), (2, 13), (4, 7)])
def test_right_guesses_save_runs(tokens: int, expected: int) -> None:
    """24 tokens: the first run knows one, each run after it as many as there are heads."""
    network = Straight(tokens)
    samples, count = runs(network, "speculative", prompts=["a"], length=24, temperature=0, window=0)
    plain, slow = runs(network, "left_to_right", prompts=["a"], length=24, temperature=0, window=0)
    assert samples == plain and len(samples[0].ids) == 24
    assert slow == 24 and count == expected


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_a_wrong_guess_costs_what_is_behind_it_and_changes_nothing(wrong: int) -> None:
    network = Straight(4, wrong)
    samples, count = runs(network, "speculative", prompts=["a"], length=24, temperature=0, window=0)
    plain, _ = runs(network, "left_to_right", prompts=["a"], length=24, temperature=0, window=0)
    assert samples == plain
    assert count == {1: 24, 2: 13, 3: 9}[wrong]


def test_nothing_is_said_beyond_the_length_or_an_end() -> None:
    for length in (1, 2, 3, 5):
        (sample,), _ = runs(Straight(4), "speculative", prompts=["a"], length=length, temperature=0)
        assert len(sample.ids) == length and sample.finished == "length"


def test_without_further_heads_it_is_left_to_right() -> None:
    network = made("decoder", tokens=1)
    (one, first), (two, second) = (runs(network, d, length=12) for d in ("speculative", "left_to_right"))
    assert [sample.ids for sample in one] == [sample.ids for sample in two] and first == second


def test_a_recurrent_network_stops_guessing() -> None:
    """Its state cannot be taken apart: it is read once more, and then goes on as from left to right."""
    network = made("gru", seed=1)
    _, slow = runs(network, "left_to_right", length=30, window=0)
    _, count = runs(network, "speculative", length=30, window=0)
    assert count <= slow + 2

"""Beam search finds what a slow and simple search finds, on every kind of model, whatever is beside it."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from telos.config import read
from telos.errors import ConfigError
from telos.generate._base import generate
from telos.generate._rows import Sample
from telos.generate._settings import GenerateSettings
from telos.models._base import Model, Network
from telos.models.encoder_decoder import EncoderDecoder
from telos.models.recurrent_encoder_decoder import RecurrentEncoderDecoder
from telos.objectives._base import Objective
from telos.objectives.prefix import Prefix
from telos.objectives.sequence_to_sequence import SequenceToSequence
from telos.tokenizer import Tokenizer
from tests.evaluate.world import MODELS, network_of, pair_tokenizer
from tests.generate.oracle import next_logits

PROMPTS = ["The cat", "春眠不觉晓", "def f(x):\n    return", "a"]
BOTH: dict[str, Model] = {
    "t5": EncoderDecoder(width=32, depth=2, heads=4),
    "attention": RecurrentEncoderDecoder(embedding=16, width=24, depth=2),
}
WINDOW = 40
SHARP = 0.6


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return pair_tokenizer()


def sharper(network: Network, end: int) -> Network:
    """Its end token comes up early now and then, so that texts of several lengths are found."""
    head: Any = network.heads["tokens"]
    generator = torch.Generator().manual_seed(4)
    head.table.data[end] = SHARP * torch.randn(head.table.shape[1], generator=generator)
    return network


def searched(
    network: Network, prompt: Any, tokenizer: Tokenizer, settings: GenerateSettings
) -> list[tuple[float, tuple[int, ...]]]:
    """The same rule, with the whole text read anew for each token: (Σ log q, tokens), the best first."""
    source = [] if prompt.source is None else prompt.source.ids.tolist()
    prefix = int((prompt.main.order == 0).sum())
    width, alpha = settings.beam.width, settings.beam.length_penalty
    barred = sorted(tokenizer.special_ids - {tokenizer.end})
    alive: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    found: list[tuple[float, tuple[int, ...]]] = []

    def rank(text: tuple[float, tuple[int, ...]]) -> float:
        return text[0] / len(text[1]) ** alpha

    while len(alive[0][1]) < settings.length:
        following = []
        for total, ids in alive:
            logits = next_logits(network, [*prompt.main.ids.tolist(), *ids], source, prefix)
            said = (logits - logits.logsumexp(0)).numpy()
            said[barred] = -math.inf
            said = said[: tokenizer.size]
            following += [(total + float(said[token]), (*ids, token)) for token in range(len(said))]
        best = sorted(following, key=lambda text: -text[0])[: 2 * width]
        found += [text for text in best[:width] if text[1][-1] == tokenizer.end]
        alive = [text for text in best if text[1][-1] != tokenizer.end][:width]
        if len(found) >= width and sorted(map(rank, found))[-width] >= max(map(rank, alive)):
            break
    if len(found) < width:
        found += alive
    return sorted(found, key=rank, reverse=True)[: settings.samples]


def objective_for(model: Model) -> Objective:
    if "source" in model.gives:
        return SequenceToSequence()
    return read(SequenceToSequence, {"form": "prefix" if "prefix" in model.gives else "causal"})


@pytest.mark.parametrize("alpha", [1.0, 0.0])
@pytest.mark.parametrize("name", [*MODELS, *BOTH])
def test_what_is_found_is_what_a_simple_search_finds(name: str, alpha: float, tokenizer: Tokenizer) -> None:
    model = {**MODELS, **BOTH}[name]
    network = sharper(network_of(model, tokenizer, WINDOW), tokenizer.end)
    settings = GenerateSettings(length=6, samples=2, beam={"width": 3, "length_penalty": alpha})
    objective = objective_for(model)
    found = generate(network, tokenizer, PROMPTS, settings, objective=objective, window=WINDOW)
    for number, prompt in enumerate(PROMPTS):
        asked = objective.prompt(tokenizer.encode(prompt), tokenizer)
        expected = searched(network, asked, tokenizer, settings)
        own = found[2 * number : 2 * number + 2]
        assert [sample.ids for sample in own] == [ids for _, ids in expected]
        assert [sample.logprob for sample in own] == pytest.approx([total for total, _ in expected], abs=1e-4)


def test_company_changes_nothing(tokenizer: Tokenizer) -> None:
    network = sharper(network_of(BOTH["t5"], tokenizer, WINDOW), tokenizer.end)
    settings = GenerateSettings(length=12, samples=4, beam={"width": 4})
    given: dict[str, Any] = {"objective": SequenceToSequence(), "window": WINDOW}
    together = generate(network, tokenizer, PROMPTS, settings, **given)
    alone = [s for prompt in PROMPTS for s in generate(network, tokenizer, [prompt], settings, **given)]
    assert [s.ids for s in together] == [s.ids for s in alone]
    assert len({len(s.ids) for s in together}) > 1, "searches must end at different times"


def test_a_wide_beam_finds_the_best_of_all(tokenizer: Tokenizer) -> None:
    """As wide as there are beginnings of one token, two steps are an exhaustive search."""
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    settings = GenerateSettings(length=2, beam={"width": tokenizer.size, "length_penalty": 0.0})
    (sample,) = generate(network, tokenizer, ["The"], settings, window=WINDOW)
    prompt = [tokenizer.begin, *tokenizer.encode("The").tolist()]
    first = next_logits(network, prompt)
    first = first - first.logsumexp(0)
    best = first[tokenizer.end].item()
    for token in set(range(tokenizer.size)) - tokenizer.special_ids:
        second = next_logits(network, [*prompt, token])
        second = second - second.logsumexp(0)
        second[sorted(tokenizer.special_ids - {tokenizer.end})] = -math.inf
        best = max(best, first[token].item() + second.max().item())
    assert sample.logprob == pytest.approx(best, abs=1e-5)


def test_special_tokens_are_never_found(tokenizer: Tokenizer) -> None:
    """Not even where the model would say one first of all."""
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    prompt = [tokenizer.begin, *tokenizer.encode("The").tolist()]
    head: Any = network.heads["tokens"]
    with network.at_rest():
        hidden, _ = network.encode(_rows(torch.tensor([prompt])))
        head.table.data[tokenizer.mask] = 10 * hidden[0, -1]
    assert int(next_logits(network, prompt).argmax()) == tokenizer.mask
    settings = GenerateSettings(length=4, samples=3, beam={"width": 3})
    found = generate(network, tokenizer, ["The"], settings, window=WINDOW)
    special = tokenizer.special_ids - {tokenizer.end}
    assert not special & {token for sample in found for token in sample.ids}


def test_a_beam_is_no_worse_than_greedy(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["gru"], tokenizer, WINDOW)
    greedy = generate(network, tokenizer, PROMPTS, GenerateSettings(temperature=0, length=8))
    wide = GenerateSettings(length=8, beam={"width": 6, "length_penalty": 0.0})
    beam = generate(network, tokenizer, PROMPTS, wide)
    assert all(b.logprob >= g.logprob - 1e-9 for b, g in zip(beam, greedy, strict=True))
    assert any(b.logprob > g.logprob + 1e-3 for b, g in zip(beam, greedy, strict=True))


def test_nothing_goes_beyond_the_window(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["learned"], tokenizer, 12)
    settings = GenerateSettings(length=50, beam={"width": 2})
    (sample,) = generate(network, tokenizer, ["a"], settings, window=12)
    assert len(sample.ids) <= 12 - 2 + 1 and sample.finished in ("length", "end")
    with pytest.raises(ConfigError, match="a prompt takes"):
        generate(network, tokenizer, ["The cat sat on the mat. " * 4], settings, window=12)


def test_stop_strings_cut_what_was_found(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    settings = GenerateSettings(length=10, beam={"width": 3})
    (whole,) = generate(network, tokenizer, ["The"], settings, window=WINDOW)
    stop = whole.text[1:2] or whole.text[:1]
    (cut,) = generate(
        network, tokenizer, ["The"], settings.model_copy(update={"stop": (stop,)}), window=WINDOW
    )
    assert cut.text == whole.text[: whole.text.index(stop)] and cut.finished == "stop"


def test_the_prefix_objective_is_searched_too(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    settings = GenerateSettings(length=5, beam={"width": 3})
    found: list[Sample] = generate(
        network, tokenizer, PROMPTS[:1], settings, objective=Prefix(), window=WINDOW
    )
    asked = Prefix().prompt(tokenizer.encode(PROMPTS[0]), tokenizer)
    assert found[0].ids == searched(network, asked, tokenizer, settings)[0][1]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"samples": 5, "beam": {"width": 4}}, "finds at most so many"),
        ({"temperature": 0.5, "beam": {"width": 4}}, "temperature does nothing with a beam"),
        ({"beam": {"length_penalty": 0.5}}, "does nothing with beam.width = 1"),
        ({"beam": {"width": 0}}, "width"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read(GenerateSettings, given)


def test_states_are_chosen_row_by_row(tokenizer: Tokenizer) -> None:
    """A state of each kind of model, with its rows exchanged, goes on as the rows do."""
    for name, model in {**MODELS, **BOTH}.items():
        network = network_of(model, tokenizer, WINDOW)
        ids = torch.tensor([[3, 5, 7], [8, 9, 10]]) + 10
        rows = _rows(ids)
        source = _rows(ids, full=True) if name in BOTH else None
        with network.at_rest():
            _, state = network.encode(rows, source)
            turned = network.chosen(state, torch.tensor([1, 0, 1]))
            nexts = torch.tensor([[20], [21]])
            straight, _ = network.encode(_rows(nexts, 3), None, state, torch.ones(2, dtype=torch.bool))
            crossed, _ = network.encode(
                _rows(nexts[[1, 0, 1]], 3), None, turned, torch.ones(3, dtype=torch.bool)
            )
        np.testing.assert_allclose(crossed.numpy(), straight[[1, 0, 1]].numpy(), atol=1e-6, err_msg=name)


def _rows(ids: torch.Tensor, start: int = 0, full: bool = False) -> Any:
    from telos.batch import Rows

    places = torch.arange(start, start + ids.shape[1]).expand_as(ids)
    zeros = torch.zeros_like(ids)
    return Rows(
        ids=ids,
        positions=places,
        segment=zeros,
        order=zeros if full else places,
        seen=zeros == 0,
        pattern="full" if full else "causal",
    )

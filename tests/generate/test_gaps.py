"""Gaps filled by models that learned to: what stands there follows from both sides."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from telos.data.packing import collate
from telos.errors import ConfigError
from telos.generate._base import generate
from telos.generate._rows import Gap
from telos.generate._settings import GenerateSettings
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.objectives.denoise import Denoise
from telos.objectives.hybrid import Hybrid
from telos.objectives.infill import Infill
from telos.objectives.masked import Masked
from telos.objectives.mixture import Mixture
from telos.objectives.span import Span
from telos.tokenizer import Tokenizer
from tests.contract import world
from tests.objectives.world import Pieces, characters

SIDES = "ab明月"
TEXTS = {(before, after): before + after for before in SIDES for after in SIDES}
"""Before and after a gap, and what stands there: it cannot be told from one side alone."""
WINDOW = 24
GREEDY = GenerateSettings(temperature=0, length=6)
LEARNERS: dict[str, tuple[Objective, str, int, int]] = {
    "infill": (Infill(rate=1.0), "decoder", 6, 500),
    "span": (Span(density=0.5, length=2.0, marks=2), "encoder_decoder", 6, 400),
    "masked": (Masked(rate=0.5), "encoder", 2, 250),
    "hybrid": (Hybrid(masked=Masked(rate=0.5), share=0.8), "decoder", 2, 250),
}


@cache
def learned(name: str) -> tuple[Network, Objective, Tokenizer]:
    """Trained on all the texts, in seconds."""
    objective, kind, _, steps = LEARNERS[name]
    tokenizer = characters(objective.specials())
    texts = [before + middle + after for (before, after), middle in TEXTS.items()]
    rows = [tokenizer.encode(text) for text in texts]
    if "source" not in objective.requires():
        rows = [np.concatenate([[tokenizer.begin], ids, [tokenizer.end]]) for ids in rows]
    model = world.make_model(kind, width=48, depth=2, heads=4)
    torch.manual_seed(0)
    network = world.built(model, world.sizes_for(objective, tokenizer, WINDOW))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.0)
    pieces, rng = Pieces(*rows), np.random.default_rng(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 40) * (1 - step / steps)
        made = [
            objective.example(pieces, index, rng, tokenizer) for index in range(len(rows)) for _ in "1234"
        ]
        batch = collate([[example] for example in made])
        sums = objective.step({"main": network}, batch, None, step).sums
        loss = sum(sums[term] / max(asked, 1) for term, asked in objective.denominators(batch.asked).items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network, objective, tokenizer


def filled(name: str, gaps: list[Gap], settings: GenerateSettings = GREEDY, **rest: Any) -> list[Any]:
    network, objective, tokenizer = learned(name)
    settings = settings.model_copy(update={"length": min(settings.length, LEARNERS[name][2])})
    return generate(network, tokenizer, gaps, settings, objective=objective, window=WINDOW, **rest)


@pytest.mark.parametrize("name", LEARNERS)
def test_both_sides_are_read(name: str) -> None:
    """Every middle follows from both sides, so a model that forgot one would be right one time in four."""
    samples = filled(name, [Gap(*sides) for sides in TEXTS])
    right = [sample.text == middle for sample, middle in zip(samples, TEXTS.values(), strict=True)]
    assert sum(right) >= 15, [(s.prompt, s.text, s.after) for s in samples]
    for sample, (before, after) in zip(samples, TEXTS, strict=True):
        assert (sample.prompt, sample.after) == (before, after)
        assert sample.finished == ("length" if LEARNERS[name][2] == 2 else "end")


@pytest.mark.parametrize("name", ["infill", "span", "masked"])
def test_company_changes_nothing(name: str) -> None:
    """Drawn, not greedy; sides of many lengths, beside each other and alone."""
    settings = GenerateSettings(temperature=2.0, length=6, samples=2)
    gaps = [Gap("a", "b"), Gap("", "明月c"), Gap("abcab", ""), Gap("", "")]
    together = filled(name, gaps, settings, seed=4)
    alone = [sample for gap in gaps for sample in filled(name, [gap], settings, seed=4)]
    assert [s.ids for s in together] == [s.ids for s in alone]
    assert [s.logprob for s in together] == pytest.approx([s.logprob for s in alone], abs=1e-4)


@pytest.mark.parametrize("name", ["infill", "span"])
def test_what_is_around_a_gap_is_never_forgotten(name: str) -> None:
    """A text fills what is left of the window and no more; one with no room for its sides is refused."""
    endless = GenerateSettings(length=200, temperature=5.0)
    network, objective, tokenizer = learned(name)
    gap = Gap("ab" * 4, "c" * 4)
    samples = [
        generate(network, tokenizer, [gap], endless, objective=objective, window=WINDOW, seed=seed)[0]
        for seed in range(40)
    ]
    full = [len(sample.ids) for sample in samples if sample.finished == "length"]
    given = len(objective.gap(*map(tokenizer.encode, gap), tokenizer).main)  # type: ignore[union-attr]
    assert set(full) == {WINDOW - given + 1} == {max(len(sample.ids) for sample in samples)}
    with pytest.raises(ConfigError, match=r"the text around the gap takes 2[5-9] places.*model has 24"):
        filled(name, [Gap("a" * 12, "b" * 12)])


def test_by_unmasking_no_end_token_is_found_in_a_gap() -> None:
    """The text goes on behind it. And what comes after is seen however long the text before it is."""
    samples = filled("masked", [Gap(before, "月") for before in ("a", "ab" * 20)], seed=1)
    assert all(sample.finished == "length" and len(sample.text) == 2 for sample in samples)


def test_a_gap_is_asked_for_as_it_was_learned() -> None:
    objective = Infill()
    tokenizer = characters(objective.specials())
    before, after = tokenizer.encode("ab"), tokenizer.encode("c")
    prefix, suffix, middle = (tokenizer.special(f"<|fim_{part}|>") for part in ("prefix", "suffix", "middle"))
    first = [tokenizer.begin, prefix, *before.tolist(), suffix, *after.tolist(), middle]
    assert objective.gap(before, after, tokenizer).main.ids.tolist() == first
    last = [tokenizer.begin, prefix, suffix, *after.tolist(), middle, *before.tolist()]
    assert Infill(end_first=1.0).gap(before, after, tokenizer).main.ids.tolist() == last
    mixed = Mixture(of=(Causal(), Infill())).gap(before, after, tokenizer)
    assert mixed is not None and mixed.main.ids.tolist() == first
    asked = Denoise(marks=3)
    tokenizer = characters(asked.specials())
    put = asked.gap(before, after, tokenizer)
    ids = [tokenizer.special("<|R|>"), *before, tokenizer.special("<extra_id_0>"), *after, tokenizer.end]
    assert put.source is not None and put.source.ids.tolist() == ids


def test_who_has_not_learned_it_says_so() -> None:
    tokenizer = characters()
    network = world.built(world.make_model("decoder"), world.sizes_for(Causal(), tokenizer, WINDOW))
    with pytest.raises(ConfigError, match=r"'causal' has not learned to fill a gap.*infill.*masked.*span"):
        generate(network, tokenizer, [Gap("a", "b")], objective=Causal())

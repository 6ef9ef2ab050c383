"""Rows that join a batch which is under way, and leave it: none says anything else than alone."""

from collections.abc import Sequence

import pytest
import torch

from telos.errors import ConfigError
from telos.generate import _past
from telos.generate._base import Decoder, begin, generate
from telos.generate._rows import Gap, Row, Talk
from telos.generate._settings import GenerateSettings
from telos.models._base import Network
from telos.models.decoder import Decoder as DecoderModel
from telos.models.encoder import Encoder
from telos.models.encoder_decoder import EncoderDecoder
from telos.models.recurrent_encoder_decoder import RecurrentEncoderDecoder
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.objectives.instruct import Instruct
from telos.objectives.masked import Masked
from telos.objectives.multi_token import MultiToken
from telos.objectives.sequence_to_sequence import SequenceToSequence
from telos.objectives.span import Span
from telos.tokenizer import Tokenizer
from telos.turns import Turn
from tests.contract import world
from tests.evaluate.world import MODELS, network_of, pair_tokenizer
from tests.generate.oracle import next_logits

WINDOW = 24
PROMPTS = ["The cat", "", "春眠不觉晓", "def f(x):\n    return", "a", "one two three four five"]
SETTINGS = GenerateSettings(length=30)
"""Longer than what is left of the window, so that rows slide."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return pair_tokenizer()


def grown(
    network: Network, tokenizer: Tokenizer, prompts: Sequence[str | Gap], objective: Objective, every: int
) -> list[Row]:
    """Each prompt joins `every` steps after the one before it; rows leave when they are finished."""
    waiting: list[Decoder] = [
        begin(network, tokenizer, [prompt], SETTINGS, seed=3, objective=objective, window=WINDOW)
        for prompt in prompts
    ]
    rows = [row for each in waiting for row in each.rows]
    running, step = waiting.pop(0), 0
    with network.at_rest():
        while running.rows or waiting:
            if waiting and step % every == 0:
                waiting[0].advance()
                running.join(waiting.pop(0))
            if any(not row.finished for row in running.rows):
                running.advance()
            running.keep([i for i, row in enumerate(running.rows) if not row.finished])
            step += 1
    return rows


def same_as_alone(
    network: Network, tokenizer: Tokenizer, prompts: Sequence[str | Gap], objective: Objective, every: int
) -> None:
    joined = grown(network, tokenizer, prompts, objective, every)
    for prompt, row in zip(prompts, joined, strict=True):
        (alone,) = generate(
            network, tokenizer, [prompt], SETTINGS, seed=3, objective=objective, window=WINDOW
        )
        sample = row.sample()
        assert (sample.ids, sample.text, sample.finished) == (alone.ids, alone.text, alone.finished)
        assert sample.logprob == pytest.approx(alone.logprob, abs=1e-3)


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_rows_that_join_say_what_they_say_alone(tokenizer: Tokenizer, name: str, every: int) -> None:
    """Trap 23: another's cache, padded or recurrent, is laid beside theirs and never seen."""
    same_as_alone(network_of(MODELS[name], tokenizer, WINDOW), tokenizer, PROMPTS, Causal(), every)


@pytest.mark.parametrize("name", ["encoder_decoder", "recurrent_encoder_decoder"])
def test_rows_with_sources_of_unequal_length_join(name: str) -> None:
    objective = Span(marks=4)
    tokenizer = pair_tokenizer_with(objective)
    model = {
        "encoder_decoder": EncoderDecoder(width=32, depth={"encoder": 1, "decoder": 2}, heads={"count": 4}),
        "recurrent_encoder_decoder": RecurrentEncoderDecoder(embedding=16, width=24),
    }[name]
    same_as_alone(network_of(model, tokenizer, WINDOW), tokenizer, PROMPTS, objective, 3)


def pair_tokenizer_with(objective: Objective) -> Tokenizer:
    from telos.tokenizer import TokenizerSettings, train_tokenizer
    from tests.evaluate.world import TEXTS

    return train_tokenizer(TokenizerSettings(size=320), iter(TEXTS * 3), objective.specials())


def test_rows_that_guess_ahead_join(tokenizer: Tokenizer) -> None:
    objective = MultiToken(tokens=3)
    network = world.built(
        DecoderModel(width=32, depth=2, heads=4), world.sizes_for(objective, tokenizer, WINDOW)
    )
    same_as_alone(network, tokenizer, PROMPTS, objective, 2)


def test_rows_that_are_unmasked_join_and_so_do_gaps(tokenizer: Tokenizer) -> None:
    network = network_of(Encoder(width=32, depth=2, heads=4), tokenizer, WINDOW)
    same_as_alone(network, tokenizer, [*PROMPTS[:3], Gap("The", "mat"), Gap("", "a")], Masked(), 2)


def test_rows_with_and_without_a_source_do_not_meet(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    causal = begin(network, tokenizer, ["a"], SETTINGS, objective=Causal(), window=WINDOW)
    other = begin(network, tokenizer, ["b"], SETTINGS, objective=Causal(), window=WINDOW)
    assert causal.goes_with(other)
    source = begin(network, tokenizer, ["b"], SETTINGS, objective=SequenceToSequence(), window=WINDOW)
    assert not causal.goes_with(source)
    masked = begin(network, tokenizer, ["b"], SETTINGS, objective=Masked(), window=WINDOW)
    assert not causal.goes_with(masked)


def test_a_cache_does_not_grow_as_rows_come_and_go(tokenizer: Tokenizer) -> None:
    """Without end: one row is always there, and those before it have left their places behind."""
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    short = GenerateSettings(length=6)
    running = begin(network, tokenizer, ["ab"], short, objective=Causal(), window=WINDOW)
    assert isinstance(running, _past.Past)
    widest = 0
    with network.at_rest():
        for step in range(200):
            running.advance()
            widest = max(widest, running.state.seen.shape[1])
            if step % 3 == 0:
                new = begin(
                    network, tokenizer, [f"{step}"], short, seed=step, objective=Causal(), window=WINDOW
                )
                new.advance()
                running.join(new)
            running.keep([i for i, row in enumerate(running.rows) if not row.finished])
    assert widest <= 2 * WINDOW


def test_a_cache_does_not_grow_as_rows_slide(tokenizer: Tokenizer) -> None:
    """It holds a window of each row, and at most half a window of what none sees any more."""
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    settings = GenerateSettings(length=10 * WINDOW, temperature=0)
    running = begin(network, tokenizer, PROMPTS, settings, objective=Causal(), window=WINDOW)
    assert isinstance(running, _past.Past)
    widths = []
    with network.at_rest():
        while any(not row.finished for row in running.rows):
            running.advance()
            widths.append(running.state.seen.shape[1])
    assert len(widths) > 5 * WINDOW and max(widths) <= 2 * WINDOW


def test_rows_of_other_settings_are_drawn_by_their_own(tokenizer: Tokenizer) -> None:
    """Trap 23: one client's temperature is not another's."""
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    several = [
        GenerateSettings(temperature=0, length=12),
        GenerateSettings(temperature=3.0, length=12),
        GenerateSettings(top_k=1, length=12),
        GenerateSettings(top_p=0.2, length=12),
    ]
    begun = [
        begin(network, tokenizer, ["The cat"], settings, seed=5, objective=Causal(), window=WINDOW)
        for settings in several
    ]
    rows = [row for each in begun for row in each.rows]
    running = begun[0]
    with network.at_rest():
        for each in begun:
            each.advance()
        for each in begun[1:]:
            running.join(each)
        while any(not row.finished for row in running.rows):
            running.advance()
    for settings, row in zip(several, rows, strict=True):
        (alone,) = generate(
            network, tokenizer, ["The cat"], settings, seed=5, objective=Causal(), window=WINDOW
        )
        assert row.sample().ids == alone.ids
    assert len({row.sample().ids for row in rows}) > 1


def test_a_search_that_nobody_waits_for_makes_room(tokenizer: Tokenizer) -> None:
    """The other goes on as it would have alone; and no rows join a search."""
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    settings = GenerateSettings(length=10, samples=2, beam={"width": 3})
    running = begin(network, tokenizer, ["The cat", "a"], settings, objective=Causal(), window=WINDOW)
    kept = running.rows[2:]
    with network.at_rest():
        running.advance()
        running.advance()
        running.keep([2, 3])
        while any(not row.finished for row in running.rows):
            running.advance()
    alone = generate(network, tokenizer, ["a"], settings, objective=Causal(), window=WINDOW)
    assert [row.sample().ids for row in kept] == [sample.ids for sample in alone]
    drawn = begin(network, tokenizer, ["a"], SETTINGS, objective=Causal(), window=WINDOW)
    assert not running.goes_with(drawn) and not drawn.goes_with(running)


def test_a_conversation_is_put_to_a_model_that_learned_some(tokenizer: Tokenizer) -> None:
    talk = Talk((Turn("user", "The cat?"),))
    network = network_of(MODELS["rotary"], tokenizer, 64)
    with pytest.raises(ConfigError, match="'causal' has learned no conversations"):
        generate(network, tokenizer, [talk], SETTINGS, objective=Causal(), window=64)
    plain = Instruct(format="plain")
    (sample,) = generate(network, tokenizer, [talk], SETTINGS, objective=plain, window=64)
    asked = plain.chat(talk.turns, tokenizer)
    assert sample.prompt == "The cat?" and asked is not None
    first = next_logits(network, asked.main.ids.tolist())
    greedy = GenerateSettings(temperature=0, length=1)
    (said,) = generate(network, tokenizer, [talk], greedy, objective=plain, window=64)
    first[sorted(tokenizer.special_ids - {tokenizer.end})] = -torch.inf
    assert said.ids == (int(first[: tokenizer.size].argmax()),)

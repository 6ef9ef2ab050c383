"""What the hybrid promises: its causal half is `causal`, and its masked half answers at the same places."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from telos.batch import Example, Piece
from telos.config import read
from telos.data.packing import collate, pack
from telos.errors import ConfigError, DataError
from telos.evaluate.likelihood import score
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.objectives.hybrid import Hybrid
from tests.contract import world
from tests.contract.objective_checks import no_target_is_seen_by_its_predictor, same
from tests.objectives.world import Pieces, characters, draw

ALL_MASK = {"instead": {"mask": 1.0, "random": 0.0}}


def make(**settings: Any) -> Hybrid:
    return read(Hybrid, settings)


def text(letters: str = "abcdef") -> Pieces:
    """A document as the cut of `causal` gives it."""
    tokenizer = characters()
    return Pieces([tokenizer.begin, *tokenizer.encode(letters), tokenizer.end])


def half(example: Example) -> str:
    (ask,) = example.asks
    return ask.name.partition(".")[0]


def examples(objective: Objective, number: int, half_wanted: str) -> list[Example]:
    made = (draw(objective, text(), seed) for seed in range(number))
    return [example for example in made if half(example) == half_wanted]


def test_a_hidden_token_is_asked_at_the_place_before_it() -> None:
    """Traps 4 and 17: the shift is there in the masked half too. For a piece of five tokens, by hand."""
    tokenizer = characters()
    ids = tokenizer.encode("abc")
    found = set()
    for example in examples(make(masked={"rate": 0.34, **ALL_MASK}), 300, "masked"):
        (ask,) = example.asks
        assert example.pattern == "full" and not example.main.order.any()
        for at, target in zip(ask.at.tolist(), ask.target.tolist(), strict=True):
            assert example.main.ids[at + 1] == tokenizer.mask
            assert target == text()[0].ids[at + 1]
        assert (example.main.ids == tokenizer.mask).sum() == len(ask.at)
        found.update(ask.at.tolist())
    assert found == {0, 1, 2, 3, 4, 5}, "every token of the text is asked, the first from the begin token"
    assert len(ids) == 3


def test_the_causal_half_is_causal_to_the_bit() -> None:
    """Trap 17: the same rows, sights and asks, and the same loss and gradient under a model."""
    plain = draw(Causal(), text())
    made = examples(make(), 40, "causal")
    assert made
    for example in made:
        (ours,), (theirs,) = example.asks, plain.asks
        assert same(example.main, plain.main) and example.pattern == plain.pattern
        assert np.array_equal(ours.at, theirs.at) and np.array_equal(ours.target, theirs.target)
    network = world.built(world.make_model("decoder"), world.sizes_for(Causal(), characters(), 16))
    losses = []
    for example in (made[0], plain):
        network.zero_grad()
        (total,) = network(collate([[example]]), None).sums.values()
        total.backward()
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        losses.append((total.detach(), gradients))
    assert torch.equal(losses[0][0], losses[1][0])
    assert all(torch.equal(a, b) for a, b in zip(losses[0][1], losses[1][1], strict=True))


@pytest.mark.parametrize("share", [0.5, 0.9375])
def test_the_halves_are_drawn_by_their_share(share: float) -> None:
    """Trap 17: ± 1 %, and each half's loss counts by its share, however few tokens it asks."""
    objective = make(share=share)
    drawn = [half(draw(objective, text("ab"), seed)) for seed in range(5000)]
    assert abs(drawn.count("masked") / 5000 - share) < 0.01
    batch = collate(pack([draw(objective, text(), seed) for seed in range(40)], 16), 16)
    assert set(batch.asked) == {"causal.tokens", "masked.tokens"}
    assert objective.denominators(batch.asked) == batch.asked
    assert objective.coefficient("masked.tokens") == share
    assert objective.coefficient("causal.tokens") == 1 - share


def test_nobody_sees_what_it_is_asked(tmp_path: Path) -> None:
    """Trap 4: in either half, where all hidden places show the mask token."""
    objective = make(masked={"rate": 0.3, **ALL_MASK})
    assert not objective.reconstructs and make().reconstructs
    no_target_is_seen_by_its_predictor(objective, tmp_path)


def test_without_a_first_token_to_predict_from_it_is_refused() -> None:
    assert make().cut(8).begin
    for seed in range(5):
        with pytest.raises(DataError, match="must begin with a begin token"):
            draw(make(), Pieces([5, 6, 7]), seed)
    with pytest.raises(ConfigError, match="cannot come second in `together`"):
        make().extend(draw(Causal(), text()), np.random.default_rng(0), characters())


def test_the_first_token_of_a_later_piece_is_context() -> None:
    """Nothing in the row stands before it, so it is not asked; the piece before answered for it, causally."""
    later = Piece(ids=np.arange(5, 15), document=0, start=20, ask_from=4)
    for seed in range(60):
        example = make(masked={"rate": 0.9}).example([later], 0, np.random.default_rng(seed), characters())
        assert example.asks[0].at.min(initial=9) >= 3


def test_held_out_text_is_scored_exactly(tmp_path: Path) -> None:
    """As under `causal`, token for token."""
    tokenizer = world.vocabulary()
    shards = world.write_shards(tmp_path, tokenizer)
    network = world.built(world.make_model("decoder"), world.sizes_for(Causal(), tokenizer, 24))
    ours, theirs = (score(network, o, shards, tokenizer, window=24) for o in (make(), Causal()))
    assert ours.kind == "exact" and ours.nats == theirs.nats and ours.tokens == theirs.tokens
    piece = text()[0]
    whole = make().whole(piece, tokenizer)
    assert whole is not None and len(whole.asks[0].at) == len(piece) - 1


def test_places_of_a_given_text_are_hidden_and_asked_from_before() -> None:
    piece, tokenizer = text()[0], characters()
    example = make().hide(piece, np.array([2, 3]), np.array([2]), tokenizer)
    assert example.main.ids.tolist() == [*piece.ids[:2], tokenizer.mask, tokenizer.mask, *piece.ids[4:]]
    assert example.asks[0].at.tolist() == [1] and example.asks[0].target.tolist() == [piece.ids[2]]


def test_the_masked_half_is_set_as_masked_is() -> None:
    objective = make(masked={"unit": "word", "rate": 0.1, "start": {"rate": 0.5, "passes": 2.0}})
    assert objective.columns() == ("word_start",)
    assert objective.after(1.0).masked.rate == pytest.approx(0.3) and objective.after(2.0).masked.rate == 0.1

"""A linear probe: what it reads off, and that it reads the text and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from telos.batch import Example, Piece, Side
from telos.data.packing import Row, collate
from telos.errors import DataError
from telos.evaluate.probe import features, probe, read_labelled
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.objectives.masked import Masked
from telos.objectives.next_sentence import NextSentence
from telos.objectives.replaced import Replaced
from telos.tokenizer import Tokenizer
from tests.evaluate.world import MODELS, network_of, pair_tokenizer

WINDOW = 24
LINES = ["The cat sat", "a", "春眠不觉晓", "one two three four"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return pair_tokenizer()


def mean_state(network: Network, objective: Objective, tokenizer: Tokenizer, text: str) -> np.ndarray:
    """One text, alone, without padding: after a begin token, and before a separate token where it is seen in
    both directions."""
    causal = "causal" in objective.requires()
    ids = [tokenizer.begin, *tokenizer.encode(text).tolist(), *[tokenizer.separate] * (not causal)]
    row: Row = [Example(main=Side.of(np.array(ids), causal=causal), asks=(), pattern="general")]
    with network.at_rest():
        states = network.encode(collate([row]).main)[0][0, : len(ids)]
    mean: np.ndarray = states.double().mean(0).numpy()
    return mean


@pytest.mark.parametrize(
    ("objective", "model"), [(Causal(), "rotary"), (Causal(), "lstm"), (Masked(), "learned")]
)
def test_features_are_the_mean_over_the_text_alone(
    tokenizer: Tokenizer, objective: Objective, model: str
) -> None:
    """Trap 30: neither padding nor company is in the mean."""
    network = network_of(MODELS[model], tokenizer, WINDOW).double()
    expected = np.stack([mean_state(network, objective, tokenizer, text) for text in LINES])
    for batch in (1, 3, 32):
        found = features(network, objective, tokenizer, LINES, window=WINDOW, batch=batch)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_model_that_marks_what_was_replaced_reads_texts_as_they_are(tokenizer: Tokenizer) -> None:
    """ELECTRA's, which is trained to be used so: as BERT's, and no mask token goes in."""
    network, texts = network_of(MODELS["learned"], tokenizer, WINDOW), ["one two", "three one two"]
    found, other = (
        features(network, objective, tokenizer, texts, window=WINDOW) for objective in (Replaced(), Masked())
    )
    assert np.array_equal(found, other)
    piece = Piece(ids=tokenizer.encode(texts[0]), document=0)
    example = Replaced().unhidden(piece, tokenizer)
    assert example is not None and tokenizer.mask not in example.main.ids


def test_long_texts_are_read_from_their_beginning(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    long = "one two three " * 20
    found = features(network, Masked(), tokenizer, [long, long + "four"], window=WINDOW)
    assert np.array_equal(found[0], found[1]) and np.isfinite(found).all()


def test_an_objective_that_reads_no_text_is_refused(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    with pytest.raises(DataError, match="nothing can be probed"):
        features(network, NextSentence(), tokenizer, ["a"], window=WINDOW)


def test_what_is_linear_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(250, 5))
    labels = np.where(points[:, 0] - 2 * points[:, 3] > 0.5, "yes", np.where(points[:, 1] > 1, "maybe", "no"))
    found = probe(points[:150], labels[:150].tolist(), points[150:], labels[150:].tolist())
    assert found.accuracy.value > 0.9 > 0.7 > found.majority
    assert found.labels == ("maybe", "no", "yes") and (found.fitted, found.texts) == (150, 100)
    noise = rng.permutation(labels)
    blind = probe(points[:150], noise[:150].tolist(), points[150:], noise[150:].tolist())
    assert blind.accuracy.value < blind.majority + 0.1
    json.dumps(found.table(), allow_nan=False)


def test_the_scale_and_the_names_make_no_difference() -> None:
    """Trap 36: labels by name; and features of any size, one of them constant."""
    rng = np.random.default_rng(1)
    points = np.hstack([rng.normal(size=(120, 3)) * [1e-4, 1, 1e4] + [0, 0, 1e6], np.ones((120, 1))])
    labels = ["a" if point[1] > 0 else "b" for point in points]
    found = probe(points[:80], labels[:80], points[80:], labels[80:])
    other = [{"a": "z", "b": "y"}[label] for label in labels]
    assert found.accuracy.value > 0.9
    assert probe(points[:80], other[:80], points[80:], other[80:]).accuracy == found.accuracy
    with pytest.raises(DataError, match="'c' of the test is none of the training's: a, b"):
        probe(points[:80], labels[:80], points[80:81], ["c"])


def test_labelled_texts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"t{n}", "label": "ab"[n % 2]}) for n in range(10)))
    whole = read_labelled(path)
    assert whole[:2] == [("t0", "a"), ("t1", "b")] and len(whole) == 10
    assert len(read_labelled(path, 4)) == 4 and set(read_labelled(path, 4)) < set(whole)
    path.write_text('{"text": "t", "label": "a"}')
    with pytest.raises(DataError, match="all labels are the same"):
        read_labelled(path)


def test_the_network_is_left_as_it_was(tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    features(network, Causal(), tokenizer, LINES, window=WINDOW)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())

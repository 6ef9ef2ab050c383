"""Hugging Face both ways: the same logits to the last digits, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from telos import models
from telos.batch import HeadSpec
from telos.config import read
from telos.errors import ConfigError, DataError
from telos.export import hf
from telos.export.hf._base import Architecture
from telos.export.hf._case import Case, case, ours_say, theirs_say
from telos.export.hf._source import describe, load
from telos.find import find
from telos.models._base import Model, Network, Sizes
from telos.models._initial import initialise
from tests.export import theirs

LENGTHS = (1, 20, 512)

MADE: dict[str, Callable[[], Any]] = {
    "gpt2": theirs.gpt2,
    "gpt2-untied": lambda: theirs.gpt2(tie_word_embeddings=False, n_inner=40),
    "llama": theirs.llama,
    "llama-tied": lambda: theirs.llama(
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 5e4}
    ),
    "llama-all-heads": lambda: theirs.llama(num_key_value_heads=4),
}
"""By a name for the tests that begins with the architecture's."""


def architecture_of(name: str) -> Architecture:
    return find(hf, name.partition("-")[0], Architecture)()


def taken(folder: Path, window: int = theirs.WINDOW) -> tuple[Network, Model, Sizes]:
    """Our network with the weights of a folder."""
    found = describe(str(folder))
    table = dict(found.model)
    model = read(find(models, table.pop("name"), Model), table)
    config = json.loads((folder / "config.json").read_text())
    rows = config["vocab_size"]
    sizes = Sizes(rows, window, (HeadSpec(name="tokens", outputs=rows),))
    network = model.build(sizes)
    initialise(network, 7)
    load(str(folder), network, model, sizes)
    return network.eval(), model, sizes


def question(name: str, length: int) -> Case:
    draw = torch.Generator().manual_seed(length)
    ids = torch.randint(5, theirs.VOCABULARY, (length,), generator=draw)

    class Vocabulary:
        mask, begin, end, pad = 3, 1, 2, 0

    return case(architecture_of(name), ids, Vocabulary())  # type: ignore[arg-type]


def largest(a: Tensor, b: Tensor) -> float:
    """The largest difference as a share of the largest logit."""
    assert a.std() >= 1, "logits too small to tell anything"
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("name", MADE)
def test_our_forward_says_what_theirs_says(name: str, tmp_path: Path) -> None:
    """Traps 86, 87, 91: with every tensor redrawn, at lengths 1, 20 and 512, in both precisions."""
    model = theirs.redrawn(MADE[name]())
    network, _, _ = taken(theirs.saved(model, tmp_path))
    with torch.no_grad():
        asked = [question(name, length) for length in LENGTHS]
        kind = architecture_of(name)
        for each in asked:
            assert largest(ours_say(network, each, kind), theirs_say(model, each, kind)) <= 1e-5
        network.double()
        with theirs.exactly(model) as exact:
            for each in asked:
                assert largest(ours_say(network, each, kind), theirs_say(exact, each, kind)) <= 1e-9

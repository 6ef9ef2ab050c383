"""The prefix sees itself in both directions, what follows sees what came before, and only that is asked (trap
15)."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from telos.batch import Example
from telos.data.packing import collate
from telos.objectives._sequence import prefixed
from telos.objectives.prefix import Prefix
from tests.contract import world
from tests.objectives.world import Pieces, answers, characters, draw

TEXT = (1, 10, 11, 12, 13, 14, 15, 2)


def test_only_what_follows_the_prefix_is_asked() -> None:
    """Trap 15: never within the prefix, which sees its own answers; the first answer is asked of its end."""
    drawn = set()
    for seed in range(60):
        example = draw(Prefix(), Pieces(TEXT), seed)
        prefix = int((example.main.order == 0).sum())
        drawn.add(prefix)
        assert answers(example) == list(TEXT[prefix:])
        assert example.asks[0].at.tolist() == list(range(prefix - 1, len(TEXT) - 1))
        assert example.main.ids.tolist() == list(TEXT[:-1])
    assert drawn == {1, 2, 3, 4}


def test_the_share_bounds_the_prefix() -> None:
    wide = {int((draw(Prefix(share=0.9), Pieces(TEXT), s).main.order == 0).sum()) for s in range(90)}
    assert wide == {1, 2, 3, 4, 5, 6, 7}


def gradients(prefix: int, depth: int, layer: int, places: int = 7) -> NDArray[np.bool_]:
    """Whether the hidden state of place i (rows) depends on the embedding of place j (columns), in a network
    of that depth in which attention speaks in one layer only. The example stands in a row with padding."""
    batch = collate([[Example(main=prefixed(np.arange(places), prefix), asks=(), pattern="prefix")]], 8)
    assert batch.main.shape == (1, 8)
    sizes = world.sizes_for(Prefix(), characters(), 8)
    network = world.built(world.make_model("decoder", depth=depth, positions="learned"), sizes)
    for name, weight in network.named_parameters():
        if "attend.outward" in name and f"blocks.{layer}." not in name:
            weight.requires_grad_(False).zero_()
    table = network.get_parameter("embedding.weight")
    hidden, _ = network.encode(batch.main)
    found = []
    for place in range(places):
        (grad,) = torch.autograd.grad(hidden[0, place].pow(2).sum(), table, retain_graph=True)
        found.append((grad[:places].abs().sum(1) > 0).numpy())
    return np.array(found)


@pytest.mark.parametrize(("depth", "layer"), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("prefix", [0, 1, 3, 7])
def test_places_depend_on_what_they_may_see_and_on_nothing_else(prefix: int, depth: int, layer: int) -> None:
    """Trap 15: ∂ state(i) / ∂ embedding(j) is not 0 if and only if j ≤ i or both are in the prefix, in every
    layer by itself (through all of them together, one layer that is right would hide others that are not); a
    prefix of none or of one is causal, one of all is bidirectional."""
    place = np.arange(7)
    may = (place[None] <= place[:, None]) | (place[None] < prefix) & (place[:, None] < prefix)
    assert (gradients(prefix, depth, layer) == may).all()


def test_padding_and_company_change_nothing() -> None:
    """Trap 15: an example says the same alone, padded beside a longer one, and after another in its row."""
    tokenizer, objective = characters(), Prefix()
    short, long = draw(objective, Pieces(TEXT), 5), draw(objective, Pieces([1, *range(20), 2]), 5)
    sizes = world.sizes_for(objective, tokenizer, 40)
    network = world.built(world.make_model("decoder"), sizes).double().eval()
    n = len(short.main)
    with torch.no_grad():
        alone = network.encode(collate([[short]], n).main)[0][0, :n]
        padded = network.encode(collate([[long], [short]], 40).main)[0][1, :n]
        packed = network.encode(collate([[long, short]], 40).main)[0][0, len(long.main) :][:n]
    assert torch.allclose(alone, padded, atol=1e-12) and torch.allclose(alone, packed, atol=1e-12)


def test_a_prompt_is_the_prefix() -> None:
    tokenizer = characters()
    main = Prefix().prompt(np.array([4, 5]), tokenizer).main
    assert main.ids.tolist() == [tokenizer.begin, 4, 5] and not main.order.any()

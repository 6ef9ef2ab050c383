"""The contract of models, checked on every file of `src/telos/models/`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from telos import models
from telos.batch import Ask, Batch, Example, HeadSpec, Rows, Side, may_see
from telos.data.packing import collate
from telos.find import find, names
from telos.losses import LossSettings
from telos.models._base import Model, Network, Sizes
from telos.models._initial import initialise
from telos.train import checkpoint
from tests.contract import world

NAMES = names(models)
DOCS = Path(__file__).parents[2] / "docs"
VOCABULARY = 50
HEADS = (HeadSpec(name="tokens", outputs=VOCABULARY), HeadSpec(name="kind", outputs=3, kind="classes"))
SIZES = Sizes(VOCABULARY, 16, HEADS[:1])


def network_of(name: str, seed: int = 0, sizes: Sizes = SIZES) -> Network:
    return world.built(world.make_model(name), sizes, seed)


def rows_of(
    ids: Tensor, order: Tensor | None = None, pattern: Any = "causal", segment: Tensor | None = None
) -> Rows:
    """Rows of ids (B, T) with positions from 0; causal unless an order is given."""
    place = torch.arange(ids.shape[1]).expand(ids.shape)
    return Rows(
        ids=ids,
        positions=place,
        segment=torch.zeros_like(ids) if segment is None else segment,
        order=place if order is None else order.expand(ids.shape),
        seen=torch.ones(ids.shape, dtype=torch.bool),
        pattern=pattern,
        packed=segment is not None,
    )


def some_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def batch_of(*lengths: int, seed: int = 0) -> Batch:
    """A row per length; each place is asked for the next token."""
    rng = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        ids = rng.integers(VOCABULARY, size=length + 1)
        ask = Ask(head="tokens", at=np.arange(length), target=ids[1:], weight=np.ones(length, np.float32))
        rows.append([Example(main=Side.of(ids[:-1], causal=True), asks=(ask,))])
    return collate(rows)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("page", ["models.md", "zh/models.md"])
def test_it_has_a_row_in_the_table_of_the_docs(name: str, page: str) -> None:
    assert f"| `{name}` |" in (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vocabulary", [40, 65])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("cutoffs", [(), (9, 30)])
def test_parameter_count_is_what_is_built(
    name: str, vocabulary: int, heads: int, cutoffs: tuple[int, ...]
) -> None:
    """The closed form counts exactly the trained numbers, shared ones once, without building anything."""
    specs = (HeadSpec(name="tokens", outputs=vocabulary), HEADS[1])[:heads]
    for model in (world.make_model(name), find(models, name, Model)()):
        sizes = Sizes(vocabulary, 24, specs, LossSettings(cutoffs=cutoffs))
        with torch.device("meta"):
            network = model.build(sizes)
        assert model.parameter_count(sizes) == sum(p.numel() for p in network.parameters())
        assert all(p.is_meta for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_flops_grow_with_the_vocabulary_and_are_at_least_six_per_multiplied_weight(name: str) -> None:
    model = world.make_model(name)
    few, many = (
        model.flops_per_token(Sizes(n, 16, (HeadSpec(name="tokens", outputs=n),))) for n in (50, 100)
    )
    assert isinstance(few, int) and 0 < few < many
    width = network_of(name).encode(rows_of(some_ids(1, 2)))[0].shape[-1]
    assert many - few == 6 * 50 * width, "the projection to the vocabulary: forward 2, backward 4 per weight"


@pytest.mark.parametrize("name", NAMES)
def test_it_declares_what_it_gives(name: str) -> None:
    known = {"causal", "full", "prefix", "general", "source", "types", "packed", "carries"}
    assert find(models, name, Model).gives <= known


@pytest.mark.parametrize("name", NAMES)
def test_first_values_are_a_function_of_seed_and_name(name: str) -> None:
    """Trap 26: the same seed gives the same values in whatever order things are built; another seed other
    ones."""
    first, again, other = network_of(name, 1), network_of(name, 1), network_of(name, 2)
    drawn = 0
    for (label, a), (_, b), (_, c) in zip(
        *(n.named_parameters() for n in (first, again, other)), strict=True
    ):
        assert torch.equal(a, b) and bool(torch.isfinite(a).all())
        if first.initial(label).kind != "constant":
            drawn += 1
            assert not torch.equal(a, c), label
    assert drawn > 1


@pytest.mark.parametrize("name", NAMES)
def test_first_values_have_the_scale_that_is_documented(name: str) -> None:
    """Trap 26: the spread of every parameter is the one that `initial` says."""
    network = network_of(name)
    for label, parameter in network.named_parameters():
        kind, scale = network.initial(label)
        if kind == "constant":
            assert bool((parameter == scale).all()), label
        elif parameter.numel() >= 200:
            expected = scale if kind == "normal" else scale / 3**0.5
            assert float(parameter.detach().std()) == pytest.approx(
                expected, rel=4 / (2 * parameter.numel()) ** 0.5
            ), label


@pytest.mark.parametrize("name", NAMES)
def test_untrained_it_knows_nothing(name: str) -> None:
    """Trap 4: the loss of first values is near ln(vocabulary): what the right answer costs, any other costs
    too. Logits of standard deviation 1, as T5's are, cost half a nat more."""
    batch = batch_of(16, 16, 16, 16)
    network = network_of(name)
    loss = network(batch).sums["tokens"].item() / batch.asked["tokens"]
    said = network.logits(network.encode(batch.main)[0]).detach()
    any_other = (said.logsumexp(-1) - said.mean(-1)).mean().item()
    assert loss == pytest.approx(any_other, rel=0.05)
    assert 0.95 * np.log(VOCABULARY) < loss < 1.05 * np.log(VOCABULARY) + float(said.var()) / 2


@pytest.mark.parametrize("name", NAMES)
def test_the_future_is_not_seen(name: str) -> None:
    """A changed token changes nothing before it."""
    if "causal" not in find(models, name, Model).gives:
        return
    network = network_of(name).eval()
    ids = some_ids(2, 12)
    before, _ = network.encode(rows_of(ids))
    for place in (11, 5, 1):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % VOCABULARY
        after, _ = network.encode(rows_of(changed))
        assert torch.equal(before[:, :place], after[:, :place])
        assert not torch.equal(before[:, place:], after[:, place:])


RELATIONS: dict[str, Callable[[int], Tensor]] = {
    "causal": lambda n: torch.arange(n),
    "full": lambda n: torch.zeros(n, dtype=torch.int64),
    "prefix": lambda n: (torch.arange(n) - 3).clamp(min=0),
    "general": lambda n: torch.tensor([5, 0, 3, 3, 1, 7, 2, 0, 4, 6][:n]),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pattern", RELATIONS)
def test_it_sees_what_it_may_and_all_of_it(name: str, pattern: str) -> None:
    """Trap 15: the gradient of place i with respect to the token at j is there if and only if i may see j,
    at any depth."""
    if pattern not in find(models, name, Model).gives:
        return
    for depth in (1, 2):
        network = world.built(world.make_model(name, depth=depth), SIZES).eval()
        rows = rows_of(some_ids(1, 10), RELATIONS[pattern](10), pattern)
        seen = may_see(rows, rows)[0, 0]
        reach = torch.linalg.matrix_power(seen.float(), depth) > 0  # what is seen of what is seen
        assert torch.equal(influence(network, rows), reach)


def influence(network: Network, rows: Rows) -> Tensor:
    """(T, T) bool: whether the token at j changes the hidden state at i."""
    table = network.embedding.weight
    found: list[Tensor] = []
    hook = network.embedding.register_forward_hook(lambda module, given, out: found.append(out) or out)
    hidden, _ = network.encode(rows)
    hook.remove()
    (embedded,) = found
    assert embedded.shape[-1] == table.shape[-1]
    weights = torch.linspace(0.5, 1.5, hidden.shape[-1])
    lines = [
        torch.autograd.grad((hidden[0, i] * weights).sum(), embedded, retain_graph=True)[0][0]
        for i in range(hidden.shape[1])
    ]
    return torch.stack([line.abs().sum(-1) > 0 for line in lines])


@pytest.mark.parametrize("name", NAMES)
def test_documents_in_a_row_never_meet(name: str) -> None:
    """Trap 6: packed in one row, each document has the hidden states that it has alone."""
    if "packed" not in find(models, name, Model).gives:
        return
    network = network_of(name).eval()
    a, b = some_ids(1, 5, seed=1), some_ids(1, 7, seed=2)
    place = torch.cat((torch.arange(5), torch.arange(7)))[None]
    both = rows_of(torch.cat((a, b), 1), place[0], segment=torch.tensor([[0] * 5 + [1] * 7]))
    packed, _ = network.encode(replace(both, positions=place))
    torch.testing.assert_close(packed[:, :5], network.encode(rows_of(a))[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(packed[:, 5:], network.encode(rows_of(b))[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing_and_poisons_nothing(name: str) -> None:
    """Traps 8 and 21: a padded row answers as it does alone; a row of nothing but padding is finite, and so
    are gradients."""
    network = network_of(name)
    alone, beside = batch_of(5), batch_of(5, 16)
    expected = network(alone).sums["tokens"]
    asked = beside.asks[0]
    first = replace(asked, weight=torch.where(asked.at < beside.main.shape[1], asked.weight, 0.0))
    torch.testing.assert_close(
        network(replace(beside, asks=(first,))).sums["tokens"], expected, rtol=1e-5, atol=1e-5
    )
    rows = beside.main
    nothing = replace(rows, segment=rows.segment.clone(), seen=rows.seen.clone())
    nothing.segment[0], nothing.seen[0] = -1, False
    answer = network(replace(beside, main=nothing)).sums["tokens"]
    answer.backward()
    assert bool(torch.isfinite(answer)) and all(
        bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None
    )


@pytest.mark.parametrize("name", NAMES)
def test_nothing_asked_is_zero_with_no_gradient(name: str) -> None:
    """Trap 8: a batch whose answers all have weight 0 has a loss of 0 and gradients of exactly 0."""
    network = network_of(name)
    batch = batch_of(6, 9)
    idle = replace(batch, asks=tuple(replace(ask, weight=torch.zeros_like(ask.weight)) for ask in batch.asks))
    total = network(idle).sums["tokens"]
    total.backward()
    assert total.item() == 0
    assert all(p.grad is None or not bool(p.grad.any()) for p in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_token_by_token_equals_all_at_once(name: str) -> None:
    """Trap 23: with the state that is handed on, each place has the hidden state that the whole row gives
    it."""
    network = network_of(name).eval()
    ids = some_ids(3, 12)
    whole, _ = network.encode(rows_of(ids))
    state: Any = None
    steps = []
    for place in range(12):
        rows = rows_of(ids[:, place : place + 1])
        here = torch.full_like(rows.positions, place)
        hidden, state = network.encode(replace(rows, positions=here, order=here), None, state, None)
        steps.append(hidden)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_carried_state_is_detached_and_dropped_where_a_document_begins(name: str) -> None:
    """Trap 28: chunks with carried state equal one long pass; a row that starts anew starts from nothing; no
    history is kept."""
    if "carries" not in find(models, name, Model).gives:
        return
    network = network_of(name)
    ids = some_ids(2, 12)
    whole, _ = network.encode(rows_of(ids))
    first, state = network.encode(rows_of(ids[:, :6]), None, None, torch.tensor([False, False]))
    assert all(not leaf.requires_grad and leaf.grad_fn is None for leaf in leaves(state))
    second, _ = network.encode(rows_of(ids[:, 6:]), None, state, torch.tensor([True, False]))
    torch.testing.assert_close(torch.cat((first[0], second[0])), whole[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second[1], network.encode(rows_of(ids[1:, 6:]))[0][0], rtol=1e-5, atol=1e-6)


def leaves(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    inner = state.values() if isinstance(state, dict) else state
    return [leaf for part in inner for leaf in leaves(part)]


@pytest.mark.parametrize("name", NAMES)
def test_it_can_learn_a_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network = network_of(name)
    batch = batch_of(12, 12, 12)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-2, weight_decay=0.0)
    for _ in range(150):
        loss = network(batch).sums["tokens"] / batch.asked["tokens"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_is_the_same(name: str, tmp_path: Path) -> None:
    """Trap 64: all weights and nothing else, by their own names, to the bit."""
    network, other = network_of(name, 1), network_of(name, 2)
    save_file(
        {key: value.contiguous() for key, value in checkpoint.weights(network).items()},
        tmp_path / "model.safetensors",
    )
    checkpoint.restore(other, load_file(tmp_path / "model.safetensors"))
    batch = batch_of(7, 16)
    assert torch.equal(network.eval()(batch).sums["tokens"], other.eval()(batch).sums["tokens"])


@pytest.mark.parametrize("name", NAMES)
def test_dropout_rests_in_evaluation_and_wakes_in_training(name: str) -> None:
    """Trap 22, for every share called dropout that the model has."""
    kind = find(models, name, Model)
    inner = kind.model_fields["dropout"].annotation
    shares: Any = (
        0.5
        if inner is float
        else {key: 0.5 for key, f in inner.model_fields.items() if f.annotation is float}
    )
    network = world.built(world.make_model(name, depth=2, dropout=shares), SIZES)
    batch = batch_of(16, 16)

    def loss() -> Tensor:
        found: Tensor = network(batch).sums["tokens"].detach()
        return found

    network.train()
    assert not torch.equal(loss(), loss())
    network.eval()
    assert torch.equal(loss(), loss())
    network.train()
    assert not torch.equal(loss(), loss())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "modifier", [{"smoothing": 0.1}, {"z": 0.01}, {"soft_cap": 0.01}, {"cutoffs": (5, 20)}]
)
def test_modifiers_of_the_loss_reach_its_head(name: str, modifier: dict[str, Any]) -> None:
    """Trap 39: no setting of the loss is dropped on the way, and those of training rest in evaluation."""
    batch = batch_of(16)
    plain = network_of(name)
    modified = network_of(name, sizes=SIZES._replace(loss=LossSettings(**modifier)))

    def total(network: Network) -> float:
        return sum(value.item() for value in network(batch).sums.values())

    assert total(plain) != total(modified)
    same = total(plain.eval()) == total(modified.eval())
    assert same != bool(modifier.keys() & {"soft_cap", "cutoffs"})


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_a_matrix_does_not_decay(name: str) -> None:
    """Trap 25: vectors, embeddings and convolutions over channels are spared, every other matrix
    is not, and names are real."""
    network = network_of(name)
    spared, known = set(network.undecayed()), dict(network.named_parameters())
    assert spared <= known.keys()
    tables = {id(m.weight) for m in network.modules() if isinstance(m, torch.nn.Embedding)}
    assert spared == {
        label for label, p in known.items() if p.ndim < 2 or id(p) in tables or label.endswith("convolution")
    }
    assert known.keys() - spared


def test_initialise_draws_nothing_from_the_process() -> None:
    """Another run's random numbers are not moved by building a model."""
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    for name in NAMES:
        with torch.device("meta"):
            network = world.make_model(name).build(SIZES)
        initialise(network.to_empty(device="cpu"), 0)
    assert torch.equal(torch.rand(1), expected)


# ---- those with a source


def two_sides(*pairs: tuple[int, int], packed: bool = False, seed: int = 0) -> Batch:
    """A (source, main) of these lengths per row, or all in one row; each place of main is asked."""
    rng = np.random.default_rng(seed)
    examples = []
    for read_first, said in pairs:
        ids, source = rng.integers(VOCABULARY, size=said + 1), rng.integers(VOCABULARY, size=read_first)
        ask = Ask(head="tokens", at=np.arange(said), target=ids[1:], weight=np.ones(said, np.float32))
        side = Side.of(source, causal=False) if read_first else None
        examples.append(Example(main=Side.of(ids[:-1], causal=True), source=side, asks=(ask,)))
    return collate([examples] if packed else [[example] for example in examples])


READERS = [name for name in NAMES if "source" in find(models, name, Model).gives]


@pytest.mark.parametrize("name", READERS)
def test_all_of_its_own_source_is_seen_and_no_other(name: str) -> None:
    """Trap 6: every token of a source tells on every place of the main side that goes with it, and on none
    beside it."""
    network = network_of(name).eval()
    packed = "packed" in find(models, name, Model).gives
    batch = two_sides((5, 4), (3, 6), packed=packed)
    assert batch.source is not None
    before = network.encode(batch.main, batch.source)[0].detach()
    for first in (True, False):
        row, start, length = (
            (0, 0 if first else 5, 5 if first else 3) if packed else (0 if first else 1, 0, 3)
        )
        for place in range(start, start + length):
            ids = batch.source.ids.clone()
            ids[row, place] = (ids[row, place] + 1) % VOCABULARY
            after = network.encode(batch.main, replace(batch.source, ids=ids))[0].detach()
            changed = (before != after).any(-1)[batch.main.segment >= 0]
            assert changed.tolist() == [first] * 4 + [not first] * 6


@pytest.mark.parametrize("name", READERS)
def test_sources_of_any_length_are_read_as_alone(name: str) -> None:
    """Trap 21: padding of a source is nothing; no source, beside others that have one, is finite, and so are
    gradients."""
    network = network_of(name).eval()
    lengths = ((5, 4), (9, 3), (0, 6))
    together = two_sides(*lengths)
    hidden, _ = network.encode(together.main, together.source)
    assert together.source is not None
    for row, (read_first, said) in enumerate(lengths):
        main = rows_of(together.main.ids[row : row + 1, :said])
        source = rows_of(
            together.source.ids[row : row + 1, :read_first], torch.zeros(1, dtype=torch.int64), "full"
        )
        alone, _ = network.encode(main, source if read_first else None)
        torch.testing.assert_close(hidden[row, :said], alone[0], rtol=1e-5, atol=1e-5)
    network.train()(together).sums["tokens"].backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in network.parameters())


@pytest.mark.parametrize("name", READERS)
def test_token_by_token_with_a_source_equals_all_at_once(name: str) -> None:
    """Trap 23: the source is given with the first token and kept in the state."""
    network = network_of(name).eval()
    batch = two_sides((5, 8), (9, 8))
    whole, _ = network.encode(batch.main, batch.source)
    state: Any = None
    steps = []
    for place in range(8):
        rows = rows_of(batch.main.ids[:, place : place + 1])
        here = torch.full_like(rows.positions, place)
        going = torch.full((2,), place > 0)
        source = None if place else batch.source
        hidden, state = network.encode(replace(rows, positions=here, order=here), source, state, going)
        steps.append(hidden)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=1e-5, atol=1e-5)

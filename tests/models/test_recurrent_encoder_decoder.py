"""The recurrent encoder and decoder: against the papers' formulas in numpy; both directions, attention,
padding, the cache, dropout, first values, ties."""

import copy
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.flop_counter import FlopCounterMode

from telos.batch import Ask, Batch, Example, HeadSpec, Piece, Rows, Side
from telos.config import read
from telos.data.packing import collate
from telos.errors import ConfigError
from telos.models import _fused
from telos.models._base import Network, Sizes
from telos.models._initial import initialise
from telos.models.recurrent_encoder_decoder import RecurrentEncoderDecoder
from telos.objectives._base import Objective
from telos.objectives.bart import Bart
from telos.objectives.denoise import Denoise
from telos.objectives.span import Span
from telos.recipe import Recipe
from telos.train import checkpoint
from tests.contract import world
from tests.models.small import VOCABULARY, drawn, sizes
from tests.objectives.world import Pieces, characters

MODELS: dict[str, dict[str, Any]] = {
    "luong": {"embedding": 12, "width": 16, "depth": {"encoder": 2, "decoder": 3}, "cell": "lstm"},
    "bahdanau": {"embedding": 20, "width": 16, "attention": {"score": "additive", "width": 11}},
    "tied": {
        "embedding": 10,
        "width": 14,
        "depth": {"encoder": 3, "decoder": 1},
        "attention": "additive",
        "tied": True,
    },
    "lstm": {"embedding": 9, "width": 13, "depth": 2, "cell": "lstm", "attention": "additive"},
    "gru": {"embedding": 16, "width": 16, "depth": 2, "tied": True},
}
parametrized = pytest.mark.parametrize("name", MODELS)
Array = NDArray[np.float64]


def described(name: str, **changed: Any) -> RecurrentEncoderDecoder:
    return read(RecurrentEncoderDecoder, MODELS[name] | changed)


def built(name: str, seed: int = 0, **changed: Any) -> Any:
    network = described(name, **changed).build(sizes())
    initialise(network, seed)
    return network


def lively(name: str, **changed: Any) -> Any:
    """In float64, with weights so large that whatever is wrong is seen."""
    network = built(name, **changed).double().eval()
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) * 0.5)
    return network


def pair(source: Sequence[int], main: Sequence[int]) -> Example:
    """A source, and a main side each of whose places is asked for its own token again."""
    ids = np.array(main)
    ask = Ask(head="tokens", at=np.arange(len(ids)), target=ids, weight=np.ones(len(ids), np.float32))
    read_first = Side.of(np.array(source, np.int64), causal=False) if len(source) else None
    return Example(main=Side.of(ids, causal=True), source=read_first, asks=(ask,))


def batch_of(*rows: tuple[Sequence[int], Sequence[int]]) -> Batch:
    """Each row is a source and a main side."""
    return collate([[pair(*each)] for each in rows])


def hidden_of(network: Network, batch: Batch, **given: Any) -> Tensor:
    with torch.no_grad():
        return network.encode(batch.main, batch.source, **given)[0]


PAIRS = [(drawn(11), drawn(12, 1)), (drawn(3, 2), drawn(9, 3)), ([], drawn(10, 4)), (drawn(1, 5), drawn(2))]
"""Of unequal length, one without a source."""


# ---- the formulas


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


class Oracle:
    """The network of the papers in numpy, one place after the other.

    GRU: s = (1 − z) ∘ s̃ + z ∘ s', where Cho et al. (2014) call z what is (1 − z) in Bahdanau et al. (2015),
    and the reset multiplies what the old state says through its matrix, as the kernels have it.
    """

    def __init__(self, network: Any) -> None:
        self.model: RecurrentEncoderDecoder = network.model
        self.w = {key: value.detach().numpy() for key, value in network.named_parameters()}

    def step(self, layer: str, x: Array, state: list[Array]) -> list[Array]:
        """The layer's next state: s, or s and the cell."""
        w = {key: self.w[f"{layer}.{key}_l0"] for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        inward = w["weight_ih"] @ x + w["bias_ih"]
        across = w["weight_hh"] @ state[0] + w["bias_hh"]
        if self.model.cell == "gru":
            (a_r, a_z, a_n), (b_r, b_z, b_n) = np.split(inward, 3), np.split(across, 3)
            z = sigmoid(a_z + b_z)
            return [(1 - z) * np.tanh(a_n + sigmoid(a_r + b_r) * b_n) + z * state[0]]
        i, f, g, o = np.split(inward + across, 4)
        cell = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(cell), cell]

    def run(self, layer: str, xs: Array, state: list[Array]) -> list[Array]:
        said = []
        for x in xs:
            state = self.step(layer, x, state)
            said.append(state[0])
        return said

    def annotations(self, source: Sequence[int]) -> Array:
        """[→h; ←h] by place."""
        xs = self.w["embedding.weight"][list(source)]
        nothing = [np.zeros(self.model.width)] * (1 if self.model.cell == "gru" else 2)
        for n in range(self.model.depth.encoder):
            right = self.run(f"encoder.rightward.{n}", xs, nothing)
            left = self.run(f"encoder.leftward.{n}", xs[::-1], nothing)[::-1]
            xs = np.array([np.concatenate(both) for both in zip(right, left, strict=True)])
        return xs

    def starts(self, annotations: Array) -> Array:
        """By part of a state and by layer of the decoder."""
        width, depth = self.model.width, self.model.decoder_depth
        parts = 1 if self.model.cell == "gru" else 2
        if not len(annotations):
            return np.zeros((parts, depth, width))
        ends = np.concatenate([annotations[-1][:width], annotations[0][width:]])
        return np.tanh(self.w["bridge.weight"] @ ends).reshape(parts, depth, width)

    def score(self, state: Array, annotation: Array) -> float:
        key = self.w["align.memory.weight"] @ annotation
        if self.model.attention.score == "general":
            return float(state @ key)
        return float(self.w["align.score.weight"][0] @ np.tanh(self.w["align.queries.weight"] @ state + key))

    def context(self, state: Array, annotations: Array, seen: Sequence[bool]) -> Array:
        there = [h for h, visible in zip(annotations, seen, strict=True) if visible]
        if not there:
            return np.zeros(2 * self.model.width)
        weights = np.exp([self.score(state, h) for h in there])
        return np.array(weights / weights.sum() @ np.array(there))

    def hidden(self, source: Sequence[int], main: Sequence[int], seen: Sequence[bool] | None = None) -> Array:
        """tanh(C [c; s]) by place of the main side."""
        annotations = self.annotations(source) if len(source) else np.zeros((0, 2 * self.model.width))
        starts = self.starts(annotations)
        xs = self.w["embedding.weight"][list(main)]
        for n in range(self.model.decoder_depth):
            xs = np.array(self.run(f"decoder.{n}", xs, list(starts[:, n])))
        contexts = [self.context(s, annotations, seen or [True] * len(annotations)) for s in xs]
        return np.tanh(np.concatenate([np.array(contexts), xs], 1) @ self.w["combine.weight"].T)

    def logits(self, *given: Any) -> Array:
        table = self.w["embedding.weight" if self.model.tied else "heads.tokens.weight"]
        return self.hidden(*given) @ table.T + self.w["heads.tokens.bias"]


@parametrized
def test_it_is_its_formula(name: str) -> None:
    """Trap 38: every row, beside others of other lengths, in the logits."""
    network = lively(name)
    batch = batch_of(*PAIRS)
    hidden = hidden_of(network, batch)
    head = network.heads["tokens"]
    for row, (source, main) in enumerate(PAIRS):
        wanted = Oracle(network).logits(source, main)
        found = (hidden[row, : len(main)] @ head.table.T + head.bias).detach().numpy()
        assert wanted.std() > 0.3
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


@parametrized
def test_the_encoder_is_the_bidirectional_kernel_over_packed_rows(name: str) -> None:
    """Another way to the same: PyTorch's own two directions, over rows packed by their lengths."""
    network = lively(name)
    batch = batch_of(*(each for each in PAIRS if each[0]))
    assert batch.source is not None
    kind = nn.GRU if network.model.cell == "gru" else nn.LSTM
    x = network.embedding(batch.source.ids)
    lengths = (batch.source.segment >= 0).sum(1)
    for right, left in zip(network.encoder.rightward, network.encoder.leftward, strict=True):
        theirs = kind(x.shape[-1], network.model.width, batch_first=True, bidirectional=True).double()
        weights = dict(right.named_parameters())
        weights |= {f"{key}_reverse": value for key, value in left.named_parameters()}
        theirs.load_state_dict(weights)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True, total_length=x.shape[1])
    real = batch.source.segment >= 0
    torch.testing.assert_close(network.read(batch.source)[real], x[real], rtol=1e-12, atol=1e-12)


@parametrized
def test_a_layer_is_one_call_of_the_kernel_whatever_the_length(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = built(name)
    calls: list[int] = []
    kernel = network.model.cell
    owner = _fused if kernel == "gru" else torch
    right = getattr(owner, kernel)

    def counting(*given: Any) -> Any:
        calls.append(1)
        return right(*given)

    monkeypatch.setattr(owner, kernel, counting)
    for length in (3, 20):
        calls.clear()
        network(batch_of((drawn(length), drawn(length, 1)), (drawn(2), drawn(1))))
        assert len(calls) == 2 * network.model.depth.encoder + network.model.decoder_depth


# ---- what is seen


@parametrized
@pytest.mark.parametrize("training", [False, True])
def test_a_row_is_as_it_is_alone(name: str, training: bool) -> None:
    """Trap 21: whatever is beside it; in training as well, and in its gradients."""
    network = lively(name).train(training)
    together, _ = network.encode(*sides(*PAIRS))
    for row, each in enumerate(PAIRS):
        alone, _ = network.encode(*sides(each))
        here = together[row, : len(each[1])]
        alone = alone[0, : len(each[1])]
        torch.testing.assert_close(here, alone, rtol=1e-12, atol=1e-12)
        grads = [
            torch.autograd.grad(h.sum(), network.embedding.weight, retain_graph=True) for h in (here, alone)
        ]
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)


def sides(*rows: tuple[Sequence[int], Sequence[int]]) -> tuple[Rows, Rows | None]:
    batch = batch_of(*rows)
    return batch.main, batch.source


@parametrized
def test_padding_is_never_read(name: str) -> None:
    """Trap 21: to the bit, whatever stands there; the second direction begins at the row's own end."""
    network = lively(name)
    batch = batch_of(*PAIRS)
    assert batch.source is not None
    before = hidden_of(network, batch)
    ids = torch.where(batch.source.segment < 0, batch.source.ids + 7, batch.source.ids)
    assert not torch.equal(ids, batch.source.ids)
    assert torch.equal(before, hidden_of(network, replace(batch, source=replace(batch.source, ids=ids))))
    ids = torch.where(batch.main.segment < 0, batch.main.ids + 7, batch.main.ids)
    after = hidden_of(network, replace(batch, main=replace(batch.main, ids=ids)))
    real = batch.main.segment >= 0
    assert torch.equal(before[real], after[real]) and not torch.equal(before, after)


@parametrized
def test_a_source_of_another_segment_is_not_looked_at(name: str) -> None:
    """Trap 6: equal segment and seen, place by place."""
    network = lively(name)
    source, main = drawn(7), drawn(6, 1)
    batch = batch_of((source, main))
    assert batch.source is not None
    padding = batch.source.segment[0, len(source) :].tolist()
    for own in ([0, 0, 0, 1, 1, 1, 1], [1] * 7):
        rows = replace(batch.source, segment=torch.tensor([own + padding]))
        wanted = Oracle(network).hidden(source, main, [segment == 0 for segment in own])
        found = hidden_of(network, replace(batch, source=rows))[0, : len(main)]
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-10)
    seen = batch.source.seen.clone()
    seen[0, [1, 4, 5]] = False
    wanted = Oracle(network).hidden(source, main, seen[0, : len(source)].tolist())
    found = hidden_of(network, replace(batch, source=replace(batch.source, seen=seen)))[0, : len(main)]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-10)


@parametrized
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_padding_is_finite_and_harmless(name: str, kind: str) -> None:
    """Traps 8 and 21: rows of padding alone on either side, in training, forward and backward."""
    network = built(name, dropout={"weights": 0.1, "words": 0.1})
    batch = batch_of((drawn(6), drawn(4, 1)), (drawn(9, 2), drawn(8, 3)))
    assert batch.source is not None
    source = replace(batch.source, segment=batch.source.segment.clone(), seen=batch.source.seen.clone())
    main = replace(batch.main, segment=batch.main.segment.clone(), seen=batch.main.seen.clone())
    source.segment[1], source.seen[1] = -1, False
    main.segment[0], main.seen[0] = -1, False
    for side in (batch.main, main):
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
            total = network(replace(batch, main=side, source=source)).sums["tokens"]
        total.backward()
        assert bool(torch.isfinite(total))
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())


@parametrized
def test_the_gradient_reaches_every_token_of_the_source_and_every_weight(name: str) -> None:
    network = built(name)
    source, main = [5, 9, 12, 30], [1, 2, 3]
    network(batch_of((source, main))).sums["tokens"].backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in network.parameters())
    untied = built(name, tied=False)
    untied(batch_of((source, main))).sums["tokens"].backward()
    reached = untied.embedding.weight.grad.abs().sum(1) > 0
    assert sorted(source + main) == reached.nonzero().flatten().tolist()


# ---- one token after the other


@parametrized
def test_steps_on_a_cache_are_one_forward_pass(name: str) -> None:
    """Trap 23: mains and sources of unequal length, one of them empty; the first tokens at once, then one by
    one; the source is given once; a row that is finished has no place and stays as it was."""
    network = lively(name)
    pairs = PAIRS[:3]
    whole = [hidden_of(network, batch_of(each))[0] for each in pairs]
    read_so_far = [5, 2, 1]
    begun = batch_of(*((source, main[:n]) for (source, main), n in zip(pairs, read_so_far, strict=True)))
    with torch.no_grad():
        hidden, state = network.encode(begun.main, begun.source)
        for row, n in enumerate(read_so_far):
            torch.testing.assert_close(hidden[row, :n], whole[row][:n])
        for step in range(5):
            rests = step % 3  # this row has no place in this step
            ids = torch.tensor([[main[n]] for (_, main), n in zip(pairs, read_so_far, strict=True)])
            place = torch.tensor([[n] for n in read_so_far])
            segment = torch.zeros_like(ids)
            segment[rests] = -1
            rows = Rows(ids=ids, positions=place, segment=segment, order=place, seen=segment == 0)
            hidden, state = network.encode(rows, None, state, torch.tensor([True] * 3))
            for row in {0, 1, 2} - {rests}:
                torch.testing.assert_close(hidden[row, 0], whole[row][read_so_far[row]])
                read_so_far[row] += 1


@parametrized
def test_a_row_that_starts_anew_forgets_both_sides(name: str) -> None:
    """Trap 23: by row; and a new source takes the place of the old one."""
    network = lively(name)
    old = batch_of((drawn(6), drawn(8, 1)), (drawn(7, 2), drawn(8, 3)))
    new = batch_of(([], drawn(8, 4)), ([], drawn(8, 5)))
    with torch.no_grad():
        _, state = network.encode(old.main, old.source)
        mixed, _ = network.encode(new.main, None, state, torch.tensor([True, False]))
        carried, _ = network.encode(new.main, None, state)
        again, _ = network.encode(new.main, old.source, state, torch.tensor([False, False]))
    torch.testing.assert_close(mixed[1], hidden_of(network, new)[1])
    assert torch.equal(mixed[0], carried[0]) and not torch.equal(carried[1], mixed[1])
    torch.testing.assert_close(again, hidden_of(network, replace(new, source=old.source)))


@parametrized
def test_a_new_source_is_looked_at_by_rows_that_go_on(name: str) -> None:
    """The decoder goes on from where it was, and finds the new source, not the old one."""
    network = lively(name)
    old, new = batch_of((drawn(6), drawn(8, 1))), batch_of((drawn(7, 2), drawn(5, 3)))
    going = torch.tensor([True])
    with torch.no_grad():
        _, state = network.encode(old.main, old.source)
        found, after = network.encode(new.main, new.source, state, going)
        kept, left = network.encode(new.main, None, state, going)
    torch.testing.assert_close(after.decoder["hidden"], left.decoder["hidden"])
    assert not torch.equal(found, kept) and torch.equal(after.memory.values, network.read(new.source))


@parametrized
def test_the_state_has_no_history_and_training_leaves_none(name: str) -> None:
    network = built(name)
    batch = batch_of((drawn(4), drawn(5)))
    assert network.encode(batch.main, batch.source)[1] is None
    _, state = network.eval().encode(batch.main, batch.source)
    leaves = [*state.decoder.values(), *state.memory]
    assert all(not leaf.requires_grad and leaf.grad_fn is None for leaf in leaves)


# ---- training


TASKS = {"copied": lambda texts: texts, "reversed": lambda texts: texts[:, ::-1]}
STEPS = 350


@pytest.mark.parametrize(
    ("task", "name"),
    [("reversed", "gru"), ("reversed", "luong"), ("copied", "bahdanau"), ("copied", "luong")],
)
def test_what_attention_is_for_can_be_learned(task: str, name: str) -> None:
    """Texts that were never seen are said again, in order or from their end. Who is cut off from the source,
    and has no more than the state that the encoder ended with, can say little of them with the same weights.

    It is learned because the embedding starts wide: from ±0.1, as in a language model, it takes the attention
    thousands of steps to find anything.
    """
    torch.manual_seed(0)
    network = built(name, width=48, embedding=32, depth=1, tied=False)
    optimizer, rng = torch.optim.Adam(network.parameters()), np.random.default_rng(0)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1.5e-2 * (1 - step / STEPS)
        batch = task_batch(task, rng)
        optimizer.zero_grad()
        (network(batch).sums["tokens"] / batch.asked["tokens"]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    batch = task_batch(task, np.random.default_rng(1))
    assert batch.source is not None
    elsewhere = replace(batch.source, segment=batch.source.segment + 1)
    with network.at_rest():
        looking, cut = (
            network(each).sums["tokens"].item() / batch.asked["tokens"]
            for each in (batch, replace(batch, source=elsewhere))
        )
    assert looking < 0.25 and cut > 2, (looking, cut)


def task_batch(task: str, rng: np.random.Generator, rows: int = 32, length: int = 6) -> Batch:
    """Of a million texts of ten tokens each."""
    texts = rng.integers(2, 12, (rows, length))
    examples = []
    for text, said in zip(texts, TASKS[task](texts), strict=True):
        example = pair(text, [1, *said[:-1]])
        examples.append([replace(example, asks=(replace(example.asks[0], target=said),))])
    return collate(examples)


@pytest.mark.parametrize("objective", [Span(), Bart(), Denoise()], ids=lambda o: o.name)
@parametrized
def test_it_serves_what_has_a_source_and_says_causally(name: str, objective: Objective) -> None:
    """Its recipe is accepted, its examples have a source, and its loss is near that of knowing nothing."""
    assert objective.requires() == {"causal", "source"}
    table = {"objective": objective.name, "model": {"name": "recurrent_encoder_decoder", **MODELS[name]}}
    read(Recipe, {**table, "data": {"path": "texts"}})
    tokenizer = characters(objective.specials())
    pieces = Sentences(*(tokenizer.encode("the cat sat. it saw. " * n) for n in (1, 2)))
    rng = np.random.default_rng(0)
    made = [objective.example(pieces, index, rng, tokenizer) for index in (0, 1)]
    batch = collate([[example] for example in made])
    assert batch.source is not None
    network = world.built(described(name), world.sizes_for(objective, tokenizer, 64))
    total = torch.stack([*network(batch).sums.values()]).sum()
    total.backward()
    ignorant = sum(batch.asked.values()) * math.log(tokenizer.size)
    assert 0.9 < total.item() / ignorant < 1.1


class Sentences(Pieces):
    """A sentence begins at every tenth token."""

    def __getitem__(self, index: int) -> Piece:
        piece = super().__getitem__(index)
        return replace(piece, columns={"sentence_start": np.arange(len(piece)) % 10 == 0})


@pytest.mark.parametrize("name", ["luong", "gru"])
@pytest.mark.parametrize("share", ["words", "input", "between", "output", "weights"])
def test_every_dropout_drops_on_both_sides_where_it_says(name: str, share: str) -> None:
    """Trap 22: in training only; on the source's side all but what the last layer says."""
    network = built(name, dropout={share: 0.5})
    batch = batch_of((drawn(9), drawn(8, 1)))
    assert batch.source is not None

    def moves(found: Any) -> bool:
        return not torch.equal(found(), found())

    assert moves(lambda: network.encode(batch.main, batch.source)[0])
    assert moves(lambda: network.read(batch.source)) is (share != "output")
    assert moves(lambda: network.encode(batch.main)[0])
    network.eval()
    assert not moves(lambda: network.encode(batch.main, batch.source)[0])


@pytest.mark.parametrize("locked", [True, False])
def test_locked_dropout_drops_the_same_units_at_all_places(locked: bool) -> None:
    network = built("gru", dropout={"output": 0.5, "locked": locked})
    hidden, _ = network.encode(*sides((drawn(9), drawn(8, 1))))
    gone = hidden[0] == 0
    assert bool((gone == gone[0]).all()) is locked and 0.2 < gone.float().mean() < 0.8


# ---- first values, ties, decay, sizes


@parametrized
def test_first_values_are_those_of_the_table(name: str) -> None:
    """Trap 26: the spread of every tensor, by its name; no two tensors are equal."""
    changed: dict[str, Any] = {"width": 48, "embedding": 40}
    network = built(name, **changed)
    additive = network.model.hidden_layer
    fan_in = {
        "encoder.": 48,
        "decoder.": 48,
        "bridge.weight": 96,
        "combine.weight": 3 * 48,
        "align.memory.weight": 96,
        "align.queries.weight": 48,
        "align.score.weight": additive,
    }
    seen: list[Tensor] = []
    for label, values in network.named_parameters():
        if label == "heads.tokens.bias":
            assert (values == 0).all()
            continue
        (bound,) = [n**-0.5 for key, n in fan_in.items() if label.startswith(key)] or [
            1.0 if label == "embedding.weight" else 0.1
        ]
        assert values.abs().max() <= bound, label
        wanted = bound / math.sqrt(3)
        assert abs(values.std().item() / wanted - 1) < 4 / math.sqrt(2 * values.numel()), label
        assert abs(values.mean().item()) < 4 * wanted / math.sqrt(values.numel()), label
        assert not any(torch.equal(values, other) for other in seen), label
        seen.append(values)


@pytest.mark.parametrize("name", ["tied", "gru"])
def test_a_tied_head_is_the_embedding_and_learns_from_both_sides_and_the_head(name: str) -> None:
    """Traps 29 and 87: one storage, one name, one entry, however it is copied or loaded."""
    tied = built(name)
    other = copy.deepcopy(tied)
    checkpoint.restore(other, checkpoint.weights(built(name, 3)))
    for network in (tied, other):
        assert network.heads["tokens"].table is network.embedding.weight
        assert "heads.tokens.weight" not in checkpoint.weights(network)
    width = tied.model.embedding
    batch = batch_of((drawn(9), drawn(7, 1)))
    tied = tied.double()
    tied(batch).sums["tokens"].backward()
    with torch.no_grad():
        hidden = tied.encode(batch.main, batch.source)[0][0, :7]
    assert hidden.shape[-1] == width
    said = torch.softmax(tied.heads["tokens"].logits(hidden).double(), -1)
    said[torch.arange(7), batch.asks[0].target[:7]] -= 1
    of_the_head = said.T @ hidden / math.sqrt(width)
    source, main = batch.source.ids, batch.main.ids  # type: ignore[union-attr]
    unread = torch.ones(VOCABULARY, dtype=torch.bool)
    unread[torch.cat((source.flatten(), main.flatten()))] = False
    gradient = tied.embedding.weight.grad
    torch.testing.assert_close(gradient[unread], of_the_head[unread], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(gradient[source[0]], of_the_head[source[0]], rtol=1e-3)


@given(
    embedding=st.integers(1, 6),
    width=st.integers(1, 6),
    depth=st.tuples(st.integers(1, 3), st.integers(0, 3)),
    cell=st.sampled_from(["gru", "lstm"]),
    attention=st.sampled_from([("general", 0), ("additive", 0), ("additive", 7)]),
    tied=st.booleans(),
    classes=st.booleans(),
)
def test_parameter_count(
    embedding: int,
    width: int,
    depth: tuple[int, int],
    cell: str,
    attention: tuple[str, int],
    tied: bool,
    classes: bool,
) -> None:
    table = {
        "embedding": embedding,
        "width": width,
        "depth": {"encoder": depth[0], "decoder": depth[1]},
        "cell": cell,
        "attention": {"score": attention[0], "width": attention[1]},
        "tied": tied,
    }
    model = read(RecurrentEncoderDecoder, table)
    heads = [HeadSpec(name="tokens", outputs=11)]
    heads += [HeadSpec(name="kind", outputs=3, kind="classes")] * classes
    given_sizes = Sizes(11, 5, tuple(heads))
    with torch.device("meta"):
        numbers = sum(p.numel() for p in model.build(given_sizes).parameters())
    assert model.parameter_count(given_sizes) == numbers


@parametrized
def test_flops_are_those_that_are_counted(name: str) -> None:
    """PyTorch's counter sees every product but those inside the LSTM's kernel, which are 6 per weight and
    place; and a gradient of biases, which is summed up as a product."""
    model, network = described(name, cell="lstm"), built(name, cell="lstm")
    length, count = 16, 3
    batch = batch_of(*((drawn(length, row), drawn(length, 9 + row)) for row in range(count)))
    with FlopCounterMode(display=False) as counter:
        network(batch).sums["tokens"].backward()
    hidden = sum(p.numel() for n, p in network.named_parameters() if "_l0" in n and p.ndim == 2)
    given_sizes = Sizes(VOCABULARY, length, sizes().heads)
    counted = counter.get_total_flops() / (count * length) + 6 * hidden - 2 * VOCABULARY
    assert model.flops_per_token(given_sizes) == counted


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"attention": {"width": 8}}, 'attention: width does nothing with score = "general"'),
        ({"attention": "dot"}, "attention.score"),
        ({"dropout": {"between": 0.1}}, "dropout.between does nothing with one layer on each side"),
        ({"cell": "rnn"}, "cell"),
        ({"depth": 0}, "depth.encoder"),
        ({"heads": 3}, "heads"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        read(RecurrentEncoderDecoder, wrong)

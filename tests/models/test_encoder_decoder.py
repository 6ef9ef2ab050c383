"""T5: against its formula in float64 and against Hugging Face's; what is seen of either side, packing,
padding, dropout, the cache, first values, ties."""

import copy
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from telos.batch import Ask, Batch, Example, HeadSpec, Rows, Side
from telos.config import read
from telos.data.packing import collate, pack
from telos.errors import ConfigError
from telos.models import _relative
from telos.models._base import Network, Sizes
from telos.models._initial import initialise
from telos.models._relative import backwards, both_ways, bucket_starts
from telos.models.encoder_decoder import EncoderDecoder
from telos.train import checkpoint
from tests.models.small import VOCABULARY, WINDOW, drawn, sizes

MODELS: dict[str, dict[str, Any]] = {
    "v1.0": {
        "width": 24,
        "depth": 2,
        "heads": 3,
        "relative": {"buckets": 8, "distance": 9},
        "feed": "relu",
        "tied": True,
    },
    "v1.1": {
        "width": 16,
        "depth": {"encoder": 1, "decoder": 2},
        "heads": {"count": 3, "width": 5},
        "relative": {"buckets": 8, "distance": 9},
        "feed": {"kind": "geglu", "width": 20},
    },
}
parametrized = pytest.mark.parametrize("name", MODELS)


def described(name: str, **changed: Any) -> EncoderDecoder:
    return read(EncoderDecoder, MODELS[name] | changed)


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
        network.decoder.norm.weight *= 8
    return network


def pair(source: Sequence[int], main: Sequence[int], sample: int = 0) -> Example:
    """A source, and a main side each of whose places is asked for its own token again."""
    ids = np.array(main)
    ask = Ask(head="tokens", at=np.arange(len(ids)), target=ids, weight=np.ones(len(ids), np.float32))
    read_first = Side.of(np.array(source, np.int64), causal=False) if len(source) else None
    return Example(main=Side.of(ids, causal=True), source=read_first, asks=(ask,), sample=sample)


def batch_of(*rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Batch:
    """Each row is a list of (source, main)."""
    return collate([[pair(*each) for each in row] for row in rows])


def hidden_of(network: Network, batch: Batch, **given: Any) -> Tensor:
    with torch.no_grad():
        return network.encode(batch.main, batch.source, **given)[0]


# ---- buckets


def bucket_by_the_formula(distance: int, buckets: int, furthest: int) -> int:
    """The paper's formula, one distance at a time, in exact arithmetic: (n / half)^rest ≥ (furthest / half)^k
    says that n is in the k-th of the growing buckets or beyond."""
    half = buckets // 2
    if distance < half:
        return distance
    rest = buckets - half
    return half + sum(
        Fraction(distance, half) ** rest >= Fraction(furthest, half) ** k for k in range(1, rest)
    )


def offsets(length: int) -> Tensor:
    place = torch.arange(length)
    return place[None, :] - place[:, None]


@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 16), (4, 3), (10, 100), (64, 33)])
def test_buckets_are_those_of_the_formula(buckets: int, furthest: int) -> None:
    """Trap 38: a slow loop over every pair of places; later places have buckets of their own in the encoder,
    and are as near as can be in the decoder."""
    length = 160
    both, back = (bucket(offsets(length), buckets, furthest) for bucket in (both_ways, backwards))
    side = buckets // 2
    near = [bucket_by_the_formula(n, side, furthest) for n in range(length)]
    far = [bucket_by_the_formula(n, buckets, furthest) for n in range(length)]
    for looks in range(0, length, 7):
        for seen in range(length):
            ahead = seen - looks
            assert both[looks, seen] == near[abs(ahead)] + (side if ahead > 0 else 0)
            assert back[looks, seen] == far[max(0, -ahead)]
    assert int(both.max()) == buckets - 1 and int(back.max()) == buckets - 1


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_the_biases_gradient_is_that_of_an_embedding(kind: torch.dtype) -> None:
    """Rows with positions of their own, several pairs in a bucket; 2000 in bfloat16 are added up exactly."""
    bucket = torch.randint(5, (3, 4, 6), generator=torch.Generator().manual_seed(0))
    above = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(1), dtype=kind)
    table = torch.randn(5, 2, generator=torch.Generator().manual_seed(2), dtype=kind).requires_grad_()
    said = functional.embedding(bucket, table).permute(0, 3, 1, 2)
    found = _relative._looked_up(table, bucket, kind)
    assert torch.equal(found, said)
    (true,), (ours,) = (torch.autograd.grad(out, table, above) for out in (said, found))
    torch.testing.assert_close(ours, true)
    half = _relative._looked_up(table, torch.zeros(1, 50, 40, dtype=torch.int64), torch.bfloat16)
    half.sum().backward()
    assert table.grad is not None and table.grad[0].tolist() == [2000, 2000]


def test_the_buckets_of_the_published_models() -> None:
    """Trap 38: the distances at which T5's buckets begin, worked out by hand: 8 · 2^(k/2), 16 · 2^(3k/16)."""
    assert bucket_starts(16, 128) == (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91)
    grown = (19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113)
    assert bucket_starts(32, 128) == (*range(1, 17), *grown)


def test_buckets_are_those_of_hugging_face() -> None:
    """Trap 38: theirs are computed by logarithms in float32."""
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    offset = torch.arange(-3000, 3001)
    for bucket, both in ((both_ways, True), (backwards, False)):
        theirs = t5.T5Attention._relative_position_bucket(offset, both, 32, 128)
        assert torch.equal(bucket(offset, 32, 128), theirs)


# ---- the whole


def root(number: int) -> float:
    """The power of two nearest to its square root."""
    return 2.0 ** round(math.log2(number) / 2)


def kept_as_t5(network: Any) -> dict[str, Tensor]:
    """Its weights as T5's own files have them: queries and the embedding are kept otherwise."""
    w = dict(network.named_parameters())
    w["embedding.weight"] = w["embedding.weight"] * root(network.model.width)
    return {
        label: value / root(network.model.head_width) if label.endswith("query.weight") else value
        for label, value in w.items()
    }


def oracle(network: Any, source: Sequence[int], main: Sequence[int]) -> Tensor:
    """Logits (T, V) of one pair by loops over blocks, heads and places, and the weights."""
    model: EncoderDecoder = network.model
    w = kept_as_t5(network)
    count, size = model.heads.count, model.head_width

    def norm(name: str, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"]

    def attended(name: str, x: Tensor, other: Tensor, bias: Any) -> Tensor:
        queries = x @ w[f"{name}.query.weight"].T
        keys, values = (other @ w[f"{name}.memory.weight"].T).split(count * size, 1)
        found = torch.zeros_like(queries)
        for head in range(count):
            part = slice(head * size, (head + 1) * size)
            for i in range(len(x)):
                said = [queries[i, part] @ keys[j, part] + bias(head, i, j) for j in range(len(other))]
                found[i, part] = torch.stack(said).softmax(0) @ values[:, part]
        return found @ w[f"{name}.outward.weight"].T

    def fed(name: str, x: Tensor) -> Tensor:
        inner = x @ w[f"{name}.inward.weight"].T
        if model.feed.kind == "relu":
            return inner.clamp(min=0) @ w[f"{name}.outward.weight"].T
        gate, up = inner.split(model.feed_width, 1)
        bent = 0.5 * gate * (1 + torch.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        return (bent * up) @ w[f"{name}.outward.weight"].T

    def both(head: int, i: int, j: int) -> Any:
        side = model.relative.buckets // 2
        bucket = bucket_by_the_formula(abs(j - i), side, model.relative.distance) + side * (j > i)
        return w["encoder.bias.table.weight"][bucket, head]

    def back(head: int, i: int, j: int) -> Any:
        if j > i:
            return -math.inf
        bucket = bucket_by_the_formula(i - j, model.relative.buckets, model.relative.distance)
        return w["decoder.bias.table.weight"][bucket, head]

    def nothing(head: int, i: int, j: int) -> float:
        return 0.0

    table = w["embedding.weight"]
    read_first = table[list(source)]
    for n in range(model.depth.encoder):
        block = f"encoder.blocks.{n}"
        normed = norm(f"{block}.norm_attend", read_first)
        read_first = read_first + attended(f"{block}.attend", normed, normed, both)
        read_first = read_first + fed(f"{block}.feed", norm(f"{block}.norm_feed", read_first))
    read_first = norm("encoder.norm", read_first)
    x = table[list(main)]
    for n in range(model.decoder_depth):
        block = f"decoder.blocks.{n}"
        normed = norm(f"{block}.norm_attend", x)
        x = x + attended(f"{block}.attend", normed, normed, back)
        if len(source):
            normed = norm(f"{block}.norm_read", x)
            x = x + attended(f"{block}.read", normed, read_first, nothing)
        x = x + fed(f"{block}.feed", norm(f"{block}.norm_feed", x))
    x = norm("decoder.norm", x)
    return x / math.sqrt(model.width) @ table.T if model.tied else x @ w["heads.tokens.weight"].T


def logits_of(network: Any, batch: Batch) -> Tensor:
    """(B, T, V) in the network's own type."""
    head = network.heads["tokens"]
    return head.transform(hidden_of(network, batch)) @ head.table.T


@parametrized
def test_it_is_its_formula(name: str) -> None:
    """Trap 38: no scale, biases by distance on both sides' own attention alone and shared by their blocks,
    the scale before a tied head."""
    network = lively(name)
    source, main = drawn(15), drawn(13, 1)
    with torch.no_grad():
        wanted = oracle(network, source, main)
    assert wanted.std() > 1
    found = logits_of(network, batch_of([(source, main)]))[0, : len(main)]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def theirs_of(ours: Any) -> Any:
    """Hugging Face's model with the same weights, its norms in the type of their input: as published they
    round to float32, whatever the rest is computed in."""
    transformers = pytest.importorskip("transformers")
    model: EncoderDecoder = ours.model
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=model.width,
        d_kv=model.head_width,
        d_ff=model.feed_width,
        num_layers=model.depth.encoder,
        num_decoder_layers=model.decoder_depth,
        num_heads=model.heads.count,
        relative_attention_num_buckets=model.relative.buckets,
        relative_attention_max_distance=model.relative.distance,
        feed_forward_proj={"relu": "relu", "geglu": "gated-gelu"}[model.feed.kind],
        tie_word_embeddings=model.tied,
    )
    theirs = transformers.T5ForConditionalGeneration(config).double().eval()
    if not model.tied:  # it ties whatever it is told, and only then loads another head
        theirs.lm_head.weight = torch.nn.Parameter(torch.empty_like(theirs.shared.weight))
    w = {key: value.detach() for key, value in kept_as_t5(ours).items()}
    with torch.no_grad():
        for key, value in theirs.named_parameters():
            value.copy_(by_their_name(key, w, model))
    return theirs


def by_their_name(key: str, w: dict[str, Tensor], model: EncoderDecoder) -> Tensor:
    if key in ("shared.weight", "lm_head.weight"):
        return w[{"s": "embedding.weight", "l": "heads.tokens.weight"}[key[0]]]
    side, *rest = key.removesuffix(".weight").split(".")
    if rest == ["final_layer_norm"]:
        return w[f"{side}.norm.weight"]
    if rest[-1] == "relative_attention_bias":
        return w[f"{side}.bias.table.weight"]
    block, layer, *inner = rest[1], int(rest[3]), *rest[4:]
    parts = ["attend", "feed"] if side == "encoder" else ["attend", "read", "feed"]
    name = f"{side}.blocks.{block}.{parts[layer]}"
    if inner == ["layer_norm"]:
        return w[f"{side}.blocks.{block}.norm_{parts[layer]}.weight"]
    where, half = {
        "q": ("query", None),
        "k": ("memory", 0),
        "v": ("memory", 1),
        "o": ("outward", None),
        "wi": ("inward", None),
        "wi_0": ("inward", 0),
        "wi_1": ("inward", 1),
        "wo": ("outward", None),
    }[inner[-1]]
    found = w[f"{name}.{where}.weight"]
    return found if half is None else found.chunk(2)[half]


@parametrized
def test_it_says_what_hugging_face_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 38: logits equal in float64, padding and all, at once and token by token."""
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    ours = lively(name, relative={"buckets": 32, "distance": 128})
    theirs = theirs_of(ours)

    def exact(self: Any, x: Tensor) -> Tensor:
        normed: Tensor = self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return normed

    monkeypatch.setattr(t5.T5LayerNorm, "forward", exact)
    pairs = [(drawn(150), drawn(140, 1)), (drawn(33, 2), drawn(140, 3))]
    batch = batch_of(*([each] for each in pairs))
    assert batch.source is not None
    given = {"input_ids": batch.source.ids, "attention_mask": batch.source.seen.long()}
    main = batch.main.ids[:, :140]
    with torch.no_grad():
        wanted = theirs(**given, decoder_input_ids=main).logits
        found = logits_of(ours, batch)[:, :140]
    assert wanted.std() > 1
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


# ---- what is seen


@parametrized
def test_packed_pairs_are_as_each_alone(name: str) -> None:
    """Trap 6: on both sides and across; positions begin again in each document."""
    network = lively(name)
    pairs = [
        (drawn(9), drawn(5, 1)),
        (drawn(3, 2), drawn(8, 3)),
        ([], drawn(4, 5)),
        (drawn(7, 6), drawn(2, 7)),
    ]
    packed = hidden_of(network, batch_of(pairs, pairs[1:]))
    for row, first in ((0, 0), (1, 1)):
        start = 0
        for each in pairs[first:]:
            alone = hidden_of(network, batch_of([each]))[0, : len(each[1])]
            torch.testing.assert_close(packed[row, start : start + len(each[1])], alone)
            start += len(each[1])


@parametrized
def test_all_of_the_source_is_seen_and_of_the_main_side_the_past(name: str) -> None:
    """Trap 38: a changed token of the source changes every place of its own pair and no other; a changed
    token of the main side only what follows."""
    network = lively(name)
    pairs = [(drawn(6), drawn(7, 1)), (drawn(5, 2), drawn(4, 3))]
    batch = batch_of(pairs)
    assert batch.source is not None
    before = hidden_of(network, batch)[0]
    for place in range(11):
        ids = batch.source.ids.clone()
        ids[0, place] = ids[0, place] % (VOCABULARY - 1) + 1
        after = hidden_of(network, replace(batch, source=replace(batch.source, ids=ids)))[0]
        changed = (before != after).any(-1)
        assert changed[:11].tolist() == ([True] * 7 + [False] * 4 if place < 6 else [False] * 7 + [True] * 4)
    ids = batch.main.ids.clone()
    ids[0, 3] = ids[0, 3] % (VOCABULARY - 1) + 1
    after = hidden_of(network, replace(batch, main=replace(batch.main, ids=ids)))[0]
    assert (before != after).any(-1).tolist()[:11] == [False] * 3 + [True] * 4 + [False] * 4


def test_a_hidden_place_of_the_source_is_seen_by_none() -> None:
    """`seen` is obeyed by the encoder and by what looks at it: it is as if the token were another."""
    network = lively("v1.1")
    batch = batch_of([(drawn(6), drawn(4, 1))])
    assert batch.source is not None
    seen = batch.source.seen.clone()
    seen[0, 2] = False
    ids = batch.source.ids.clone()
    ids[0, 2] = ids[0, 2] % (VOCABULARY - 1) + 1
    one, other = (replace(batch.source, ids=each, seen=seen) for each in (batch.source.ids, ids))
    assert torch.equal(*(hidden_of(network, replace(batch, source=source)) for source in (one, other)))


@parametrized
def test_without_a_source_the_decoder_is_alone(name: str) -> None:
    """Trap 21: no source, an empty one beside others and one of padding alone are the same, and finite."""
    network = lively(name)
    alone, main = batch_of([([], drawn(5))]), drawn(5)
    assert alone.source is None
    with torch.no_grad():
        wanted = oracle(network, [], main)
    torch.testing.assert_close(logits_of(network, alone)[0, :5], wanted, rtol=1e-10, atol=1e-10)
    beside = batch_of([([], main)], [(drawn(9, 1), drawn(8, 2))])
    torch.testing.assert_close(logits_of(network, beside)[0, :5], wanted)


@parametrized
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_padding_is_finite_and_harmless(name: str, kind: str) -> None:
    """Traps 8 and 21: rows of padding alone on either side, in training, forward and backward."""
    network = built(name, dropout=0.1)
    batch = batch_of([(drawn(6), drawn(4, 1))], [(drawn(9, 2), drawn(8, 3))])
    assert batch.source is not None
    source = replace(batch.source, segment=batch.source.segment.clone(), seen=batch.source.seen.clone())
    main = replace(batch.main, segment=batch.main.segment.clone(), seen=batch.main.seen.clone())
    source.segment[1], source.seen[1] = -1, False
    for side in (batch.main, main):
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
            total = network(replace(batch, main=side, source=source)).sums["tokens"]
        total.backward()
        assert bool(torch.isfinite(total))
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in network.parameters())
        main.segment[0], main.seen[0] = -1, False


@parametrized
def test_what_rows_are_padded_with_is_nothing_to_them(name: str) -> None:
    """Trap 21: NaN in the padding stays there."""
    network = lively(name)
    short, long = (drawn(5), drawn(3, 1)), (drawn(12, 2), drawn(9, 3))
    both = batch_of([short], [long])
    alone = hidden_of(network, batch_of([short]))[0, :3]
    torch.testing.assert_close(hidden_of(network, both)[0, :3], alone)


# ---- one token after the other


@parametrized
def test_steps_on_a_cache_are_one_forward_pass(name: str) -> None:
    """Trap 23: mains and sources of unequal length, the first tokens at once, then one by one; the source is
    given once."""
    network = lively(name)
    pairs = [(drawn(11), drawn(12, 1)), (drawn(3, 2), drawn(9, 3)), ([], drawn(10, 4))]
    whole = [hidden_of(network, batch_of([each]))[0] for each in pairs]
    firsts = [5, 2, 1]
    begun = batch_of(*([(source, main[:n])] for (source, main), n in zip(pairs, firsts, strict=True)))
    with torch.no_grad():
        hidden, state = network.encode(begun.main, begun.source)
        for row, n in enumerate(firsts):
            torch.testing.assert_close(hidden[row, :n], whole[row][:n])
        for step in range(4):
            ids = torch.tensor([[main[n + step]] for (_, main), n in zip(pairs, firsts, strict=True)])
            place = torch.tensor([[n + step] for n in firsts])
            zero = torch.zeros_like(ids)
            rows = Rows(ids=ids, positions=place, segment=zero, order=place, seen=zero == 0)
            hidden, state = network.encode(rows, None, state, torch.tensor([True] * 3))
            for row, n in enumerate(firsts):
                torch.testing.assert_close(hidden[row, 0], whole[row][n + step])


def test_a_row_that_starts_anew_forgets_both_sides() -> None:
    """Trap 23: by row; and a new source takes the place of the old one."""
    network = lively("v1.0")
    old, new = (
        batch_of([(drawn(6), drawn(8, 1))], [(drawn(7, 2), drawn(8, 3))]),
        batch_of([([], drawn(8, 4))], [([], drawn(8, 5))]),
    )
    with torch.no_grad():
        _, state = network.encode(old.main, old.source)
        mixed, _ = network.encode(new.main, None, state, torch.tensor([True, False]))
        carried, _ = network.encode(new.main, None, state)
        fresh = hidden_of(network, new)
        again, _ = network.encode(new.main, old.source, state, torch.tensor([False, False]))
    torch.testing.assert_close(mixed[1], fresh[1])
    assert torch.equal(mixed[0], carried[0]) and not torch.equal(carried[1], fresh[1])
    torch.testing.assert_close(again, hidden_of(network, replace(new, source=old.source)))


# ---- training


@parametrized
def test_attention_weights_are_dropped_in_training_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 22: the kernel does as it is told, so it must be told."""
    told: list[float] = []
    attend = _relative.attention

    def listening(*given: Any, dropout: float = 0.0, **named: Any) -> Tensor:
        told.append(dropout)
        return attend(*given, dropout=dropout, **named)

    monkeypatch.setattr(_relative, "attention", listening)
    network, batch = built(name, dropout=0.25), batch_of([(drawn(6), drawn(5, 1))])
    for training, share in ((True, 0.25), (False, 0.0), (True, 0.25)):
        told.clear()
        network.train(training)
        network(batch)
        assert (
            set(told) == {share}
            and len(told) == network.model.depth.encoder + 2 * network.model.decoder_depth
        )


@parametrized
def test_dropout_is_where_t5_has_it(name: str) -> None:
    """Trap 22: on each side the embeddings, in each block what is added and the inside of the feed-forward,
    and after the last norm; on, off and on again."""
    network = built(name, dropout=0.4)
    dropped: list[str] = []
    modules = dict(network.named_modules())
    for label, module in modules.items():
        if isinstance(module, torch.nn.Dropout):
            assert module.p == 0.4
            dropped.append(label)
    blocks = [f"encoder.blocks.{n}" for n in range(network.model.depth.encoder)]
    blocks += [f"decoder.blocks.{n}" for n in range(network.model.decoder_depth)]
    assert sorted(dropped) == sorted(f"{b}.{inner}" for b in blocks for inner in ("drop", "feed.drop"))
    batch = batch_of([(drawn(6), drawn(8, 1))])
    assert batch.source is not None
    ends = {"encoder": network.read(batch.source), "decoder": network.encode(batch.main, batch.source)[0]}
    for side, hidden in ends.items():
        zeros = (hidden == 0).float().mean().item()
        assert 0.25 < zeros < 0.55, side
    network.eval()
    assert torch.equal(hidden_of(network, batch), hidden_of(network, batch))
    network.train()
    assert not torch.equal(hidden_of(network, batch), hidden_of(network, batch))


@parametrized
def test_what_is_said_can_be_learned_from_the_source_alone(name: str) -> None:
    """Main sides that are all alike up to their answers: only who reads can tell them apart."""
    network = built(name)
    rows = [[pair([a, b], [1, 2]), pair([b, a, a], [1])] for a, b in ((5, 9), (9, 5), (7, 7))]
    for row in rows:
        for number, each in enumerate(row):
            assert each.source is not None
            answers = np.resize(each.source.ids, len(each.main))
            row[number] = replace(each, asks=(replace(each.asks[0], target=answers),))
    batch = collate(rows)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(200):
        loss = network(batch).sums["tokens"] / batch.asked["tokens"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_packing_keeps_both_sides_of_an_example_in_a_row_and_changes_no_loss() -> None:
    """Trap 7: the sum over packed rows is the sum over examples alone."""
    network = lively("v1.1")
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, WINDOW, (20, 2)).tolist()
    examples = [pair(drawn(s, n), drawn(m + 1, 50 + n), n) for n, (s, m) in enumerate(lengths)]
    rows = pack(examples, WINDOW)
    assert len(rows) < len(examples)
    with torch.no_grad():
        together = network(collate(rows, WINDOW)).sums["tokens"]
        alone = sum(network(collate([[each]])).sums["tokens"] for each in examples)
    torch.testing.assert_close(together, alone)


# ---- first values, ties, decay, sizes


@pytest.mark.parametrize("depth", [2, 5])
@pytest.mark.parametrize("tied", [False, True])
def test_first_values_are_those_of_the_table(tied: bool, depth: int) -> None:
    """Trap 26: the standard deviation of every tensor, by its name; no two tensors are equal."""
    network = built("v1.1", width=64, depth=depth, heads={"count": 4, "width": 8}, tied=tied)
    spread = {
        "embedding.weight": 8**2,
        "query.weight": 64 * 8 / root(8) ** 2,
        "memory.weight": 64,
        "attend.outward.weight": 32,
        "read.outward.weight": 32,
        "feed.inward.weight": 64,
        "feed.outward.weight": 20,
        "bias.table.weight": 64,
        "heads.tokens.weight": 64,
    }
    seen: list[Tensor] = []
    for label, values in network.named_parameters():
        if "norm" in label:
            assert (values == 1).all(), label
            continue
        (wanted,) = [1 / math.sqrt(n) for key, n in spread.items() if label.endswith(key)]
        assert abs(values.std().item() / wanted - 1) < 4 / math.sqrt(2 * values.numel()), label
        assert abs(values.mean().item()) < 4 * wanted / math.sqrt(values.numel()), label
        assert not any(torch.equal(values, other) for other in seen), label
        seen.append(values)
    assert ("heads.tokens.weight" in dict(network.named_parameters())) is not tied


def test_a_tied_head_is_the_embedding_and_learns_from_both_sides_and_the_head() -> None:
    """Traps 29 and 87: one storage, one name, one entry, however it is copied or loaded; the gradient is that
    of an untied network's embedding and head together."""
    tied = built("v1.0")
    other = copy.deepcopy(tied)
    checkpoint.restore(other, checkpoint.weights(built("v1.0", 3)))
    for network in (tied, other):
        assert network.heads["tokens"].table is network.embedding.weight
        assert not [label for label in checkpoint.weights(network) if label.startswith("heads")]
    untied = built("v1.0", tied=False).double()
    tied = tied.double()
    weights = dict(tied.named_parameters())
    untied.load_state_dict(
        {**weights, "heads.tokens.weight": weights["embedding.weight"] * root(24) / math.sqrt(24)}
    )
    batch = batch_of([(drawn(9), drawn(7, 1))])
    for network in (tied, untied):
        network(batch).sums["tokens"].backward()
    head = untied.heads["tokens"].weight.grad * root(24) / math.sqrt(24)
    torch.testing.assert_close(tied.embedding.weight.grad, untied.embedding.weight.grad + head)


def test_what_decays() -> None:
    """Trap 25: matrices, an untied head among them; not the embedding, the biases by distance, the norms."""
    network = built("v1.1")
    spared = set(network.undecayed())
    assert {"embedding.weight", "encoder.bias.table.weight", "decoder.bias.table.weight"} <= spared
    kinds = ("query", "memory", "outward", "inward", "heads.tokens")
    for label, _ in network.named_parameters():
        decays = label.removesuffix(".weight").endswith(kinds)
        assert decays is (label not in spared), label
        assert decays or label in spared


@given(
    width=st.integers(1, 6),
    depth=st.tuples(st.integers(1, 3), st.integers(0, 3)),
    count=st.integers(1, 3),
    head_width=st.integers(0, 4),
    feed=st.tuples(st.sampled_from(["relu", "geglu"]), st.sampled_from([0, 7])),
    tied=st.booleans(),
    classes=st.booleans(),
)
def test_parameter_count(
    width: int,
    depth: tuple[int, int],
    count: int,
    head_width: int,
    feed: tuple[str, int],
    tied: bool,
    classes: bool,
) -> None:
    model = read(
        EncoderDecoder,
        {
            "width": width * count,
            "depth": {"encoder": depth[0], "decoder": depth[1]},
            "heads": {"count": count, "width": head_width},
            "relative": {"buckets": 6},
            "feed": {"kind": feed[0], "width": feed[1]},
            "tied": tied,
        },
    )
    heads = [HeadSpec(name="tokens", outputs=11)]
    heads += [HeadSpec(name="kind", outputs=3, kind="classes")] * classes
    given_sizes = Sizes(11, 5, tuple(heads))
    with torch.device("meta"):
        numbers = sum(p.numel() for p in model.build(given_sizes).parameters())
    assert model.parameter_count(given_sizes) == numbers


@parametrized
def test_flops_are_those_that_are_counted(name: str) -> None:
    """Against PyTorch's counter, which sees every product: it counts the hidden half of causal attention
    too."""
    model, network = described(name), built(name)
    length, count = 16, 3
    batch = batch_of(*([(drawn(length, row), drawn(length, 9 + row))] for row in range(count)))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(batch).sums["tokens"].backward()
    given_sizes = Sizes(VOCABULARY, length, sizes().heads)
    hidden_half = 6 * model.decoder_depth * model.inner * length
    assert counter.get_total_flops() == count * length * (model.flops_per_token(given_sizes) + hidden_half)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"width": 20, "heads": 3},
            "width must be a multiple of heads: 20 is not one of 3; or set heads.width",
        ),
        ({"relative": {"buckets": 7}}, "relative.buckets"),
        ({"relative": {"buckets": 32, "distance": 16}}, "distance must be more than buckets / 2 = 16"),
        ({"feed": "swiglu"}, "feed.kind"),
        ({"depth": 0}, "depth.encoder"),
        ({"norm": "rms"}, "norm"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        read(EncoderDecoder, wrong)

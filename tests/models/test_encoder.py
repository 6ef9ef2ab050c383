"""The encoder: against its formulas in float64, what local blocks see, rows of several texts, its heads."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from telos.batch import Ask, Asked, Batch, Example, HeadSpec, Pattern, Place, Rows, Side, may_see
from telos.config import read
from telos.data.loader import LoaderPlan, steps
from telos.data.packing import collate, pack, singly
from telos.errors import ConfigError
from telos.evaluate.likelihood import score
from telos.losses import LossSettings
from telos.models._base import Network, Sizes
from telos.models._transformer import Local, pairs_seen
from telos.models.encoder import Encoder
from telos.objectives.masked import Masked
from telos.recipe import Recipe
from tests.contract import world
from tests.models.small import ENCODERS, WINDOW, built, described, drawn, hidden_of, part, rows_of, sizes
from tests.models.test_decoder import looked, roughened

HEADS = (
    HeadSpec(name="tokens", outputs=50),
    HeadSpec(name="next", outputs=2, kind="classes"),
    HeadSpec(name="odd", outputs=2, kind="marks"),
)


def with_heads(name: str, **changed: Any) -> Network:
    """A network with all kinds of heads, in float64, its parameters drawn anew so that each shows."""
    network = described(name, **changed).build(sizes(classes=2)).double()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for label, parameter in network.named_parameters():
            middle = 1.0 if "norm" in label and label.endswith("weight") else 0.0
            parameter.copy_(middle + 0.3 * torch.randn(parameter.shape, generator=draw))
    return network


class Formula:
    """An encoder written out: one text, its own weights, loops over places and heads."""

    def __init__(self, network: Network) -> None:
        self.model: Encoder = network.model  # type: ignore[assignment]
        self.weights = {name: value.detach().double() for name, value in network.named_parameters()}

    def norm(self, name: str, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + (1e-12 if self.model.norm == "post" else 1e-5)).sqrt()
        return x * self.weights[f"{name}.weight"] + self.weights.get(f"{name}.bias", 0)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights.get(f"{name}.bias", 0)

    def gelu(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    def turned(self, head: Tensor, base: float) -> Tensor:
        if self.model.positions.kind == "learned":
            return head
        half = head.shape[1] // 2
        pairs = torch.complex(head[:, :half], head[:, half:])
        angles = torch.arange(len(head))[:, None] * base ** (-torch.arange(half).double() / half)
        pairs = pairs * torch.exp(1j * angles)
        return torch.cat((pairs.real, pairs.imag), 1)

    def attended(self, block: int, x: Tensor) -> Tensor:
        local, width = self.model.heads.local, len(x[0]) // self.model.heads.count
        near = bool(local.reach) and bool(not local.every or block % local.every)
        base = local.base if near and local.base else self.model.positions.base
        parts = self.linear(f"blocks.{block}.attend.inward", x).chunk(3, 1)
        heads = []
        for query, key, value in zip(*(each.split(width, 1) for each in parts), strict=True):
            query, key = self.turned(query, base), self.turned(key, base)
            mixed = []
            for i in range(len(x)):
                seen = [j for j in range(len(x)) if not near or abs(i - j) <= local.reach]
                scores = (key[seen] @ query[i] / math.sqrt(width)).exp()
                mixed.append(scores / scores.sum() @ value[seen])
            heads.append(torch.stack(mixed))
        return self.linear(f"blocks.{block}.attend.outward", torch.cat(heads, 1))

    def fed(self, block: int, x: Tensor) -> Tensor:
        x = self.linear(f"blocks.{block}.feed.inward", x)
        if self.model.feed.kind == "geglu":
            gate, up = x.chunk(2, 1)
            return self.linear(f"blocks.{block}.feed.outward", self.gelu(gate) * up)
        return self.linear(f"blocks.{block}.feed.outward", self.gelu(x))

    def hidden(self, ids: Sequence[int], types: Sequence[int]) -> Tensor:
        """(T, width) of a text all of whose places see each other."""
        x = self.weights["embedding.weight"][list(ids)]
        if self.model.embedding.types:
            x = x + self.weights["types.weight"][list(types)]
        if self.model.positions.kind == "learned":
            x = x + self.weights["places.weight"][: len(ids)]
        x = self.norm("norm_embedded", x)
        if "widen.weight" in self.weights:
            x = self.linear("widen", x)
        for block in range(self.model.depth):
            names = f"blocks.{block}.norm_attend", f"blocks.{block}.norm_feed"
            if self.model.norm == "post":
                x = self.norm(names[0], x + self.attended(block, x))
                x = self.norm(names[1], x + self.fed(block, x))
            else:
                x = x + self.attended(block, self.norm(names[0], x) if block else x)
                x = x + self.fed(block, self.norm(names[1], x))
        return x if self.model.norm == "post" else self.norm("norm", x)

    def logits(self, hidden: Tensor, head: str) -> Tensor:
        name = f"heads.{head}.transform"
        if head == "next" and self.model.norm == "post":
            bent = torch.tanh(self.linear(f"{name}.dense", hidden))
        elif head == "odd" and self.model.norm == "post":
            bent = self.gelu(self.linear(f"{name}.dense", hidden))
        else:
            bent = self.norm(f"{name}.norm", self.gelu(self.linear(f"{name}.dense", hidden)))
        table = self.weights["embedding.weight" if head == "tokens" else f"heads.{head}.weight"]
        said = bent @ table.T + self.weights[f"heads.{head}.bias"]
        return torch.cat((torch.zeros_like(said), said), -1) if head == "odd" else said


def full(rows: Rows, types: Tensor | None = None) -> Rows:
    return replace(rows, order=torch.zeros_like(rows.order), pattern="full", types=types)


@pytest.mark.parametrize("name", ENCODERS)
def test_its_logits_are_those_of_the_formula(name: str) -> None:
    """Two texts in a row, one of them in two types, and a padded row: each as if alone, in float64."""
    network, formula = with_heads(name), Formula(with_heads(name))
    texts = [drawn(9), drawn(6, 1), drawn(11)]
    rows = rows_of([texts[0], texts[1]], [texts[2]], pattern="full", order="full")
    types = torch.zeros_like(rows.ids)
    types[0, 4:9] = 1
    hidden, _ = network.encode(replace(rows, types=types))
    for row, start, text, kinds in (
        (0, 0, texts[0], [0] * 4 + [1] * 5),
        (0, 9, texts[1], [0] * 6),
        (1, 0, texts[2], [0] * 11),
    ):
        wanted = formula.hidden(text, kinds)
        for head in ("tokens", "next", "odd"):
            said = network.logits(hidden[row, start : start + len(text)], head)
            torch.testing.assert_close(said, formula.logits(wanted, head), rtol=1e-9, atol=1e-9)
            assert said.std() > 0.3


@pytest.mark.parametrize("name", ENCODERS)
def test_the_loss_of_a_head_is_that_of_its_logits(name: str) -> None:
    """The transform comes before the projection in training as it does in reading out logits."""
    network = with_heads(name)
    rows = rows_of([drawn(9)], pattern="full", order="full")
    hidden, _ = network.encode(rows)
    targets = {"tokens": torch.tensor([7, 3]), "next": torch.tensor([1, 0]), "odd": torch.tensor([0, 1])}
    for head, target in targets.items():
        at = torch.tensor([2, 5])
        ask = Asked(head=head, term=head, at=at, target=target, weight=torch.tensor([1.0, 2.0]))
        logits = network.logits(hidden[0, at], head)
        wanted = (torch.nn.functional.cross_entropy(logits, target, reduction="none") * ask.weight).sum()
        torch.testing.assert_close(network(Batch(main=rows, asks=(ask,))).sums[head], wanted)
        if head == "odd":  # one number for each place, as ELECTRA has it
            binary = torch.nn.functional.binary_cross_entropy_with_logits
            alone = binary(logits[:, 1], target.to(logits), weight=ask.weight.to(logits), reduction="sum")
            torch.testing.assert_close(wanted, alone)


PATTERNS: dict[Pattern, list[int]] = {
    "full": [0] * 9,
    "prefix": [0, 0, 0, 0, 1, 2, 3, 4, 5],
    "causal": list(range(9)),
    "general": [3, 0, 5, 1, 1, 4, 2, 0, 3],
}


@pytest.mark.parametrize("every", [0, 3])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_local_blocks_see_what_is_near_of_what_may_be_seen(
    pattern: Pattern, packed: bool, every: int
) -> None:
    """Traps 6 and 15: all three blocks see what is near of what they may see, or the first sees all of that;
    positions begin anew with each text, and padding and hidden places are seen by nobody."""
    network = roughened("modern", heads={"count": 4, "local": {"reach": 2, "every": every}}).double()
    rows = replace(rows_of([drawn(9)]), order=torch.tensor([PATTERNS[pattern]]), pattern=pattern)
    if packed:
        segment = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, -1]])
        positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 0]])
        seen = torch.tensor([[True] * 2 + [False] + [True] * 5 + [False]])
        rows = replace(rows, segment=segment, positions=positions, seen=seen, packed=True)
    sees = may_see(rows, rows)[0, 0].double()
    close = (rows.positions[0][:, None] - rows.positions[0]).abs() <= 2
    first = sees if every else sees * close
    assert torch.equal(looked(network, rows), (sees * close) @ (sees * close) @ first > 0)


def test_local_blocks_are_counted_from_the_first() -> None:
    assert [Local(reach=2, every=3).at(block) for block in range(7)] == [False, True, True] * 2 + [False]
    assert [Local(reach=2).at(block) for block in range(3)] == [True] * 3
    assert not any(Local().at(block) for block in range(3))


@given(window=st.integers(1, 20), reach=st.integers(0, 25))
def test_pairs_that_are_near_are_counted_in_closed_form(window: int, reach: int) -> None:
    wanted = sum(abs(i - j) <= reach for i in range(window) for j in range(window))
    assert pairs_seen(window, reach) == wanted


@st.composite
def encoders(draw: st.DrawFn) -> dict[str, Any]:
    keys, learned = draw(st.sampled_from([1, 2])), draw(st.booleans())
    count = keys * draw(st.integers(1, 2))
    return {
        "width": count * 2 * draw(st.integers(1, 6)),
        "depth": draw(st.integers(1, 3)),
        "heads": {"count": count, "keys": keys, "normed": draw(st.booleans())},
        "positions": {"kind": "learned" if learned else "rotary"},
        "norm": draw(st.sampled_from(["pre", "post"])),
        "feed": {"kind": draw(st.sampled_from(["geglu", "gelu"])), "width": draw(st.sampled_from([0, 10]))},
        "embedding": {
            "width": draw(st.sampled_from([0, 6, 8])),
            "types": draw(st.sampled_from([0, 2, 3])),
        },
    }


@settings(max_examples=30)
@given(table=encoders(), vocabulary=st.integers(1, 60), window=st.integers(1, 60), heads=st.integers(0, 3))
def test_its_parameters_are_counted_in_closed_form(
    table: dict[str, Any], vocabulary: int, window: int, heads: int
) -> None:
    model = read(Encoder, table)
    given_sizes = Sizes(vocabulary, window, (replace(HEADS[0], outputs=vocabulary), *HEADS[1:])[:heads])
    with torch.device("meta"):
        network = model.build(given_sizes)
    assert model.parameter_count(given_sizes) == sum(p.numel() for p in network.parameters())


def test_the_published_sizes() -> None:
    """110,106,428 parameters in BERT-base with both heads, 13,549,057 in ELECTRA-small, 149,655,232 in
    ModernBERT-base: as many as `transformers` 5.23 builds."""
    wide: dict[str, Any] = {"width": 768, "heads": 12}
    style: dict[str, Any] = {"depth": 12, "positions": "learned", "norm": "post", "feed": "gelu"}
    bert = {**wide, **style, "embedding": {"types": 2}}
    electra = {**style, "width": 256, "heads": 4, "embedding": {"width": 128, "types": 2}}
    assert read(Encoder, electra).parameter_count(Sizes(30522, 512, HEADS[2:])) == 13_549_057
    specs = (HeadSpec(name="tokens", outputs=30522), HEADS[1])
    assert read(Encoder, bert).parameter_count(Sizes(30522, 512, specs)) == 110_106_428
    modern = {**wide, "depth": 22, "feed": {"kind": "geglu", "width": 1152}}
    specs = (HeadSpec(name="tokens", outputs=50368),)
    assert read(Encoder, modern).parameter_count(Sizes(50368, 8192, specs)) == 149_655_232


def test_the_first_block_has_no_norm_before_attention_and_pre_no_biases() -> None:
    names = [name for name, _ in with_heads("modern").named_parameters()]
    assert [name for name in names if "norm_attend" in name] == [
        f"blocks.{block}.norm_attend.weight" for block in (1, 2)
    ]
    heads = [f"heads.{head}.bias" for head in ("tokens", "next", "odd")]
    assert [name for name in names if name.endswith("bias")] == heads


def test_types_are_told_apart_and_the_first_is_meant_where_there_are_none() -> None:
    network = roughened("bert")
    rows = rows_of([drawn(8)], pattern="full", order="full")
    plain = hidden_of(network, rows)
    types = torch.zeros_like(rows.ids)
    assert torch.equal(hidden_of(network, replace(rows, types=types)), plain)
    types[0, 5:] = 1
    assert not torch.allclose(hidden_of(network, replace(rows, types=types)), plain, atol=1e-3)


def test_an_objective_that_needs_types_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.causal import Causal

    monkeypatch.setattr(Causal, "requires", lambda self: frozenset({"full", "types"}))
    table: dict[str, Any] = {"data": {"path": "x"}, "model": {"name": "encoder"}}
    with pytest.raises(ConfigError, match=r"needs a model that gives types: set model.embedding.types = 2"):
        read(Recipe, table)
    typed = {**table, "model": {"name": "encoder", "embedding": {"types": 2}}}
    assert read(Recipe, typed).model.lacks() == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"embedding": {"types": 1}}, "tells no token from another"),
        ({"width": 65, "heads": 4}, "multiple of heads"),
        ({"width": 12, "heads": 4}, "even width"),
        ({"feed": "swiglu"}, "feed.kind"),
        (
            {"positions": "learned", "heads": {"local": {"reach": 2, "base": 500.0}}},
            "local.base does nothing",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(Encoder, wrong)


def examples(lengths: Sequence[int]) -> list[Example]:
    """Texts of these lengths, all places of which see each other; every third is asked what it is, and the
    first whether the text is long."""
    made = []
    for number, length in enumerate(lengths):
        ids = np.array(drawn(length, number))
        at = np.arange(0, length, 3)
        asks = (
            Ask(head="tokens", at=at, target=ids[at], weight=np.ones(len(at), np.float32)),
            Ask(
                head="next",
                at=at[:1],
                target=np.array([length > 5]).astype(np.int64),
                weight=np.ones(1, "f4"),
            ),
        )
        made.append(Example(main=Side.of(ids, causal=False), asks=asks, pattern="full", sample=number))
    return made


@pytest.mark.parametrize("name", ENCODERS)
def test_packed_texts_answer_as_each_alone(name: str) -> None:
    """Traps 6 and 8: short texts share rows without seeing each other, so that hardly a place is padding, and
    what they answer does not change."""
    network = with_heads(name)
    texts = examples([9, 3, 12, 5, 7, 1, 10])
    rows = pack(texts, WINDOW)
    together = collate(rows, WINDOW)
    assert len(rows) == 2 and together.main.packed and together.main.pattern == "full"
    assert int((together.main.segment < 0).sum()) == 2 * WINDOW - 47
    alone: dict[str, Tensor] = {}
    for row in singly(texts, WINDOW):
        for term, value in network(collate([row], WINDOW)).sums.items():
            alone[term] = alone.get(term, torch.zeros(())) + value
    sums = network(together).sums
    assert sums.keys() == {"tokens", "next"}
    for term, value in sums.items():
        torch.testing.assert_close(value, alone[term], rtol=1e-9, atol=0)


def test_training_and_evaluation_pack_texts_that_see_all_of_themselves(tmp_path: Path) -> None:
    """Unpadded from end to end: the loader fills rows with several texts; a split scored in packed rows and
    one text a row has the same figures."""
    objective = read(Masked, {"rate": 0.3})
    tokenizer = world.vocabulary(objective.specials())
    corpus = world.corpus(tmp_path / "shards", objective.cut(64), tokenizer)
    plan = LoaderPlan(
        corpus=corpus, objective=objective, tokenizer=tokenizer, window=64, batch=16, packed=True
    )
    (batch,) = next(steps(plan, Place())).batches
    assert batch.main.packed and any(len(row) > 1 for row in batch.samples)
    model = described("modern", heads={"count": 4, "local": {"reach": 5, "every": 3}})
    network = world.built(model, world.sizes_for(objective, tokenizer, 64))
    packed, alone = (
        score(network, objective, corpus.shards, tokenizer, window=64, gives=gives)
        for gives in (frozenset({"packed"}), frozenset[str]())
    )
    assert packed.tokens == alone.tokens > 0 and packed.kind == "pseudo"
    assert packed.nats == pytest.approx(alone.nats, rel=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_another_text_in_the_row_changes_nothing_to_the_bit(name: str) -> None:
    """Trap 6."""
    network = roughened(name)
    first, second = drawn(9), drawn(7)
    other = [token % 49 + 1 for token in first]
    before, after = (hidden_of(network, full(rows_of([ids, second]))) for ids in (first, other))
    assert torch.equal(before[0, 9:], after[0, 9:])
    assert not torch.equal(before[0, :9], after[0, :9])


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_padding_is_finite_and_harmless(name: str, autocast: bool, backend: SDPBackend) -> None:
    """Traps 20 and 21: padding, and a row of nothing else; sums stay in float32, padding gets no gradient."""
    network = roughened(name)
    rows = rows_of([drawn(9)], [drawn(4)], [[]], pattern="full", order="full")
    at = (rows.segment >= 0).flatten().nonzero().squeeze(1)
    ask = Asked(head="tokens", term="tokens", at=at, target=at, weight=torch.ones(len(at)))
    with sdpa_kernel(backend), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        hidden = hidden_of(network, rows)
        loss = network(Batch(main=rows, asks=(ask,))).sums["tokens"]
    assert loss.dtype == torch.float32 and torch.isfinite(hidden).all() and torch.isfinite(loss)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    network.zero_grad()
    hidden_of(network, rows)[rows.segment >= 0].square().sum().backward()
    assert (network.embedding.weight.grad[0] == 0).all()


@pytest.mark.parametrize("name", [*ENCODERS, "local"])
def test_steps_on_a_cache_are_one_forward_pass(name: str) -> None:
    """Trap 23: prompts of unequal length, then place after place; a local block counts positions, not the
    padding between."""
    network = roughened(name).eval()
    prompts, further = [drawn(7), drawn(3)], [drawn(6, 9), drawn(6, 8)]
    with torch.no_grad():
        _, state = network.encode(rows_of(*([prompt] for prompt in prompts)))
        together = []
        for step in range(6):
            place = torch.tensor([[len(prompt) + step] for prompt in prompts])
            ids = torch.tensor([[tokens[step]] for tokens in further])
            rows = replace(
                part(rows_of(*([p] for p in prompts)), 0, 1), ids=ids, positions=place, order=place
            )
            hidden, state = network.encode(rows, None, state)
            together.append(hidden)
        for row, (prompt, tokens) in enumerate(zip(prompts, further, strict=True)):
            alone = hidden_of(network, rows_of([prompt + tokens]))[0, len(prompt) :]
            torch.testing.assert_close(torch.cat(together, 1)[row], alone, atol=1e-5, rtol=1e-5)


def test_there_is_no_state_where_all_see_all() -> None:
    """What such places say depends on those that come after them: nothing of it can be kept."""
    network = built("modern").eval()
    assert network.encode(full(rows_of([drawn(5)])))[1] is None
    assert network.encode(rows_of([drawn(5)]))[1] is not None
    assert network.train().encode(rows_of([drawn(5)]))[1] is None


@pytest.mark.parametrize("name", ENCODERS)
def test_dropout_is_for_training(name: str) -> None:
    """Trap 22: on the embeddings, on attention, on what blocks add, each alone; in training only."""
    rows = full(rows_of([drawn(9)]))
    for where in ("embed", "attend", "block"):
        network = roughened(name)
        if where == "embed":
            network.model = network.model.model_copy(update={"dropout": 0.5})
        for block in network.blocks:
            (block.attend if where == "attend" else block).dropout = 0.0 if where == "embed" else 0.5
        network.train()
        assert not torch.equal(hidden_of(network, rows), hidden_of(network, rows)), where
        network.eval()
        assert torch.equal(hidden_of(network, rows), hidden_of(network, rows)), where


@pytest.mark.parametrize("name", ENCODERS)
def test_the_projection_is_the_embedding_and_is_not_stored_twice(name: str) -> None:
    """Traps 29 and 87: one storage, one entry in the state, whose gradient is the sum of both uses."""
    network = with_heads(name)
    head: Any = network.heads["tokens"]
    assert head.table is network.embedding.weight
    shape = network.embedding.weight.shape
    assert [key for key, kept in network.state_dict().items() if kept.shape == shape] == ["embedding.weight"]
    rows = full(rows_of([[1, 2, 3]]))
    ask = Asked(head="tokens", term="t", at=torch.tensor([1]), target=torch.tensor([9]), weight=torch.ones(1))
    network(Batch(main=rows, asks=(ask,))).sums["t"].backward()
    assert (network.embedding.weight.grad != 0).any(1).all()


def test_a_loss_with_modifiers_goes_through_the_transform() -> None:
    network = described("bert").build(sizes(LossSettings(soft_cap=3.0)))
    assert network.logits(torch.full((1, 32), 100.0)).abs().max() <= 3

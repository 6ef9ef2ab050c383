"""The decoder: against its formula in float64, what may be seen, padding, packing, dropout, the cache."""

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import telos
from telos.batch import Pattern, Rows, may_see
from telos.config import override, read, to_toml
from telos.errors import ConfigError
from telos.models._base import Network
from telos.models.decoder import Decoder
from tests.models.small import DECODERS, WINDOW, asked_all, built, described, drawn, hidden_of, part, rows_of


def oracle(network: Network, ids: list[int]) -> Tensor:
    """Hidden states (T, width) of one causal document, in float64: loops over layers, heads and places, and
    the weights."""
    model: Decoder = network.model  # type: ignore[assignment]
    w = {name: value.detach().double() for name, value in network.named_parameters()}

    def norm(name: str, x: Tensor) -> Tensor:
        if model.norm.kind == "layer":
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + model.norm.epsilon).sqrt()
        return x * w[f"{name}.weight"] + w.get(f"{name}.bias", 0)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    def turned(head: Tensor, base: float) -> Tensor:
        if model.positions.kind == "learned":
            return head
        half = head.shape[1] // 2
        out = head.clone()
        for place in range(len(head)):
            for i in range(half):
                angle = place * base ** (-i / half)
                a, b = head[place, i], head[place, i + half]
                out[place, i] = a * math.cos(angle) - b * math.sin(angle)
                out[place, i + half] = b * math.cos(angle) + a * math.sin(angle)
        return out

    def attended(name: str, x: Tensor) -> Tensor:
        size, count, keys = model.head_width, model.heads.count, model.key_heads
        q, k, v = linear(f"{name}.inward", x).split([count * size, keys * size, keys * size], dim=1)
        local = model.heads.local.at(int(name.split(".")[1]))
        base = model.heads.local.base if local else model.positions.base
        heads = []
        for h in range(count):
            shared = slice((h * keys // count) * size, (h * keys // count + 1) * size)
            query, key = q[:, h * size : (h + 1) * size], k[:, shared]
            if model.heads.normed:
                query, key = norm(f"{name}.level.norm_queries", query), norm(f"{name}.level.norm_keys", key)
            query, key = turned(query, base), turned(key, base)
            mixed = []
            for i in range(len(x)):
                first = max(0, i - model.heads.local.reach) if local else 0
                scores = (key[first : i + 1] @ query[i] / math.sqrt(size)).exp()
                mixed.append(scores / scores.sum() @ v[first : i + 1, shared])
            heads.append(torch.stack(mixed))
        return linear(f"{name}.outward", torch.cat(heads, 1))

    def chosen(name: str, x: Tensor) -> Tensor:
        """Token by token, expert by expert."""
        scores = 1 / (1 + (-(x @ w[f"{name}.router.weight"].T)).exp())
        wanted = scores + network.get_buffer(f"{name}.bias").double()
        out = torch.zeros_like(x)
        for place in range(len(x)):
            best = sorted(range(model.feed.experts.count), key=lambda e: -float(wanted[place, e]))
            best = best[: model.feed.experts.active]
            for expert in best:
                w["one.inward.weight"] = w[f"{name}.inward"][expert]
                w["one.outward.weight"] = w[f"{name}.outward"][expert]
                share = scores[place, expert] / sum(scores[place, e] for e in best)
                out[place] += share * fed("one", x[place : place + 1])[0]
        return out

    def fed(name: str, x: Tensor) -> Tensor:
        if f"{name}.router.weight" in w:
            return chosen(name, x)
        x = linear(f"{name}.inward", x)
        if model.feed.kind == "swiglu":
            gate, up = x.split(model.feed_width, dim=1)
            return linear(f"{name}.outward", gate / (1 + (-gate).exp()) * up)
        x = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return linear(f"{name}.outward", x)

    x = w["embedding.weight"][ids]
    if model.positions.kind == "learned":
        x = x + w["places.weight"][: len(ids)]
    for layer in range(model.depth):
        x = x + attended(f"blocks.{layer}.attend", norm(f"blocks.{layer}.norm_attend", x))
        x = x + fed(f"blocks.{layer}.feed", norm(f"blocks.{layer}.norm_feed", x))
    return norm("norm", x)


def roughened(name: str, **changed: Any) -> Network:
    """A network whose norms and biases are not at their first values, so that to forget one shows."""
    network = built(name, **changed)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=draw)
        for buffer in network.buffers():  # experts' biases, which choose and do not count
            buffer += 0.1 * torch.randn(buffer.shape, generator=draw)
    return network


@pytest.mark.parametrize("name", DECODERS)
def test_the_loss_is_that_of_the_formula(name: str) -> None:
    network = roughened(name)
    documents = [drawn(11), drawn(6)]
    batch = asked_all(rows_of(*([document] for document in documents)))
    table: Any = network.heads["tokens"]
    total = torch.zeros((), dtype=torch.float64)
    for row, document in enumerate(documents):
        logits = oracle(network, document) @ table.table.detach().double().T
        target = batch.main.ids[row].roll(-1)[: len(document)]
        total += torch.nn.functional.cross_entropy(logits, target, reduction="sum")
    torch.testing.assert_close(network.double()(batch).sums["tokens"], total, rtol=1e-10, atol=0)
    torch.testing.assert_close(network.float()(batch).sums["tokens"].double(), total, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", DECODERS)
def test_the_future_is_not_seen(name: str) -> None:
    network = roughened(name).eval()
    document = drawn(16)
    changed = [*document[:9], document[9] % 49 + 1, *document[10:]]
    with torch.no_grad():
        before, after = (hidden_of(network, rows_of([ids])) for ids in (document, changed))
    assert torch.equal(before[0, :9], after[0, :9])
    assert not torch.equal(before[0, 9:], after[0, 9:])


@pytest.mark.parametrize("name", DECODERS)
def test_packed_documents_do_not_meet(name: str) -> None:
    """Trap 6: change every token of A, and B is the same to the bit; and loss(A, B) = loss(A) + loss(B)."""
    network = roughened(name).eval()
    first, second = drawn(9), drawn(7)
    other = [token % 49 + 1 for token in first]
    with torch.no_grad():
        before, after = (hidden_of(network, rows_of([ids, second])) for ids in (first, other))
        if name.startswith("experts"):  # whose products are over the tokens of both, so they round otherwise
            torch.testing.assert_close(before[0, 9:], after[0, 9:], rtol=0, atol=1e-6)
        else:
            assert torch.equal(before[0, 9:], after[0, 9:])
        alone = [hidden_of(network, rows_of([ids])) for ids in (first, second)]
    torch.testing.assert_close(before, torch.cat(alone, 1), rtol=1e-5, atol=1e-5)


def _order(pattern: str, n: int) -> list[int]:
    if pattern == "causal":
        return list(range(n))
    if pattern == "full":
        return [0] * n
    if pattern == "prefix":
        return [max(0, place - 4) for place in range(n)]
    return [3, 0, 5, 1, 1, 4, 2, 0, 3][:n]


def _pattern_rows(pattern: Pattern) -> Iterator[tuple[str, Rows]]:
    rows = rows_of([drawn(9)])
    rows = replace(rows, order=torch.tensor([_order(pattern, 9)]), pattern=pattern)
    yield "whole", rows
    segment = torch.tensor([[0, 0, 0, 0, 1, 1, 1, -1, -1]])
    hidden = replace(rows, segment=segment, packed=True)
    hidden.seen[0, 2] = False
    hidden.seen[0, 7:] = False
    yield "packed", hidden


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("pattern", ["causal", "full", "prefix", "general"])
def test_gradients_flow_where_may_see_says_and_nowhere_else(pattern: Pattern, depth: int) -> None:
    """Traps 6 and 21: through d layers a place depends on what it reaches in d looks, exactly."""
    network = roughened("llama", depth=depth).double()
    for what, rows in _pattern_rows(pattern):
        sees = may_see(rows, rows)[0, 0]
        reached = torch.linalg.matrix_power(sees.double(), depth) > 0
        assert torch.equal(looked(network, rows), reached), what


def looked(network: Network, rows: Rows) -> Tensor:
    """(T, T): whether the hidden state at i depends on the token at j."""
    kept: list[Tensor] = []
    hook = network.embedding.register_forward_hook(lambda module, given, out: kept.append(out))
    hidden = hidden_of(network, rows)
    hook.remove()
    weights = torch.linspace(0.5, 1.5, hidden.shape[-1], dtype=hidden.dtype)  # a norm's outputs add up to 0
    lines = [
        torch.autograd.grad((hidden[0, place] * weights).sum(), kept[0], retain_graph=True)[0][0]
        for place in range(rows.shape[1])
    ]
    return torch.stack([line.abs().sum(1) > 0 for line in lines])


@pytest.mark.parametrize("pattern", ["causal", "full", "prefix", "general"])
def test_local_blocks_see_what_is_near_of_what_may_be_seen(pattern: Pattern) -> None:
    """Trap 15: packed, padded and hidden places included; after d blocks a place has been reached through d
    looks, of which only those of the first and third block go far."""
    for depth in (1, 2, 3):
        local = {"reach": 2, "every": 2}
        network = roughened("llama", depth=depth, heads={"count": 4, "local": local}).double()
        for what, rows in _pattern_rows(pattern):
            sees = may_see(rows, rows)[0, 0].double()
            close = (rows.positions[0][:, None] - rows.positions[0]).abs() <= 2
            reached = sees
            for block in range(1, depth):
                reached = (sees * close if block % 2 else sees) @ reached
            assert torch.equal(looked(network, rows), reached > 0), (what, depth)


def test_a_reach_as_long_as_the_window_is_none() -> None:
    heads: dict[str, Any] = {"count": 4, "local": {"reach": WINDOW - 1}}
    rows = rows_of([drawn(WINDOW)])
    far, whole = (built("llama", heads=each) for each in (heads, 4))
    assert torch.equal(hidden_of(far, rows), hidden_of(whole, rows))
    heads["local"]["reach"] -= 1
    assert not torch.equal(hidden_of(built("llama", heads=heads), rows), hidden_of(whole, rows))


@pytest.mark.parametrize("pattern", ["causal", "full"])
def test_the_fast_kernels_see_what_the_rule_says(pattern: Pattern) -> None:
    network = roughened("llama")
    rows = replace(rows_of([drawn(9)], [drawn(9, 1)]), pattern=pattern)
    if pattern == "full":
        rows = replace(rows, order=torch.zeros_like(rows.order))
    fast, ruled = hidden_of(network, rows), hidden_of(network, replace(rows, packed=True))
    torch.testing.assert_close(fast, ruled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
@pytest.mark.parametrize("pattern", ["causal", "general"])
def test_padding_is_finite_and_harmless(pattern: Pattern, backend: SDPBackend, autocast: bool) -> None:
    """Trap 21: padding on the right, a row of nothing but padding: all is finite, forward and backward, on
    each kernel, and padding gets no gradient."""
    network = roughened("gpt2")
    rows = rows_of([drawn(9)], [drawn(4)], [[]], pattern=pattern)
    batch = asked_all(rows)
    with sdpa_kernel(backend), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        hidden = hidden_of(network, rows)
        loss = network(batch).sums["tokens"]
    loss.backward()
    assert torch.isfinite(hidden).all() and torch.isfinite(loss)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    asked = rows.ids[rows.segment >= 0].unique()
    unused = [i for i in range(50) if i not in asked and i != 0]
    network.zero_grad()
    hidden_of(network, rows)[rows.segment >= 0].square().sum().backward()
    assert (network.embedding.weight.grad[unused] == 0).all()
    assert (network.embedding.weight.grad[0] == 0).all()


def test_no_call_passes_a_constant_dropout() -> None:
    """Trap 22: attention's dropout is written as an expression of `training`, wherever attention is
    called."""
    calls = []
    for path in sorted(Path(telos.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func).rpartition(".")[2]
            shares = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called == "attention" and path.name == "_parts.py":  # with what `in_parts` was given
                assert shares["dropout"] == "dropout", path
            elif called in ("attention", "in_parts"):
                calls.append(shares["dropout"])
            elif called == "scaled_dot_product_attention":  # with what its caller gave to `attention`
                assert path.name == "_attention.py" and shares["dropout_p"] == "dropout", path
    assert len(calls) == 3 and all("self.training" in call for call in calls), calls


def test_attention_weights_are_dropped_in_training_only() -> None:
    """Trap 22: with all other dropout out of the way."""
    network = roughened("llama")
    for block in network.blocks:
        block.attend.dropout = 0.5
    rows = rows_of([drawn(9)])
    assert not torch.equal(hidden_of(network, rows), hidden_of(network, rows))
    network.eval()
    assert torch.equal(hidden_of(network, rows), hidden_of(network, rows))


def test_nothing_is_compiled_unasked() -> None:
    """Trap 24: models, losses and optimizers run as they are written."""
    folder = Path(telos.__file__).parent
    files = [folder / "losses.py", *(folder / "models").glob("*.py"), *(folder / "optim").glob("*.py")]
    assert [path.name for path in files if "torch.compile" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("name", DECODERS)
def test_steps_on_a_cache_are_one_forward_pass(name: str, step: int) -> None:
    """Trap 23: grouped queries, rotary and learned positions, one place and several places a step."""
    network = roughened(name).eval()
    rows = rows_of([drawn(15)], [drawn(15, 1)])
    with torch.no_grad():
        whole = network.logits(hidden_of(network, rows))
        state, parts = None, []
        for begin in range(0, 15, step):
            hidden, state = network.encode(part(rows, begin, begin + step), None, state)
            parts.append(network.logits(hidden))
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_prompts_of_unequal_length_go_on_as_each_alone(name: str) -> None:
    """Trap 23: right-padded prompts in one batch; what comes after them stands after the padding, and does
    not see it."""
    network = roughened(name).eval()
    prompts, further = [drawn(7), drawn(3), drawn(5)], [drawn(4, 9), drawn(4, 8), drawn(4, 7)]
    with torch.no_grad():
        _, state = network.encode(rows_of(*([prompt] for prompt in prompts)))
        together = []
        for step in range(4):
            place = torch.tensor([[len(prompt) + step] for prompt in prompts])
            ids = torch.tensor([[tokens[step]] for tokens in further])
            rows = Rows(
                ids=ids,
                positions=place,
                segment=torch.zeros_like(ids),
                order=place,
                seen=torch.ones_like(ids, dtype=torch.bool),
            )
            hidden, state = network.encode(rows, None, state)
            together.append(hidden)
        for row, (prompt, tokens) in enumerate(zip(prompts, further, strict=True)):
            alone = hidden_of(network, rows_of([prompt + tokens]))[0, len(prompt) :]
            torch.testing.assert_close(torch.cat(together, 1)[row], alone, atol=1e-5, rtol=1e-5)


def test_rows_that_start_anew_do_not_see_the_past() -> None:
    network = roughened("llama").eval()
    document = drawn(6)
    with torch.no_grad():
        _, state = network.encode(rows_of([drawn(5, 1)], [drawn(5, 2)]))
        rows = rows_of([document], [document])
        hidden, state = network.encode(rows, None, state, torch.tensor([False, True]))
        alone = hidden_of(network, rows_of([document]))[0]
        torch.testing.assert_close(hidden[0], alone, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(hidden[1], alone, atol=1e-3)


def test_a_cache_holds_no_history() -> None:
    network = built("llama")
    rows = rows_of([drawn(5)])
    assert network.encode(rows)[1] is None
    _, state = network.eval().encode(rows)
    assert all(not past.keys.requires_grad and not past.values.requires_grad for past in state.layers)


def test_the_convention_of_rotary_positions_is_relative() -> None:
    """A document far down a window is what it is at its beginning: only distances count."""
    network = roughened("llama").double().eval()
    rows = rows_of([drawn(9)])
    moved = replace(rows, positions=rows.positions + 1000)
    torch.testing.assert_close(hidden_of(network, moved), hidden_of(network, rows), rtol=1e-4, atol=1e-4)


def test_short_forms_mean_the_long_ones() -> None:
    short = read(Decoder, {"heads": 4, "width": 64, "feed": "gelu", "positions": "learned", "norm": "layer"})
    long = {
        "heads": {"count": 4},
        "feed": {"kind": "gelu"},
        "positions": {"kind": "learned"},
        "norm": "layer",
    }
    assert read(Decoder, {"width": 64} | long) == short
    assert read(Decoder, short.table()) == short
    assert "count = 4" in to_toml(short)
    changed = override({"width": 64, "heads": 4, "feed": "gelu"}, ["feed.width=7"])
    assert read(Decoder, changed).feed_width == 7


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"width": 65, "heads": 4}, "multiple of heads"),
        ({"width": 12, "heads": 4}, "even width"),
        ({"heads": {"count": 6, "keys": 4}}, "keys must divide count"),
        ({"positions": {"kind": "learned", "base": 500.0}}, "base does nothing"),
        (
            {"positions": "learned", "heads": {"local": {"reach": 2, "base": 500.0}}},
            "local.base does nothing",
        ),
        ({"heads": {"local": {"every": 3}}}, "without a reach"),
        ({"heads": {"local": {"reach": 3, "every": 1}}}, "leaves no block local"),
        ({"heads": {"local": {"reach": 3, "base": 0.5}}}, "must be more than 1"),
        ({"heads": "six"}, "heads.count"),
        ({"feed": "swigloo"}, "feed.kind"),
        ({"positions": {"kin": "rotary"}}, "positions.kin"),
        ({"depth": 0}, "depth"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        read(Decoder, wrong)


def test_inner_width_of_the_feed_forward() -> None:
    assert described("gpt2").feed_width == 4 * 32  # type: ignore[attr-defined]
    assert read(Decoder, {"width": 384}).feed_width == 1024
    assert read(Decoder, {"width": 768, "heads": 12}).feed_width == 2048
    assert read(Decoder, {"width": 100, "heads": 5}).feed_width == 320


def test_learned_positions_reach_to_the_end_of_the_window() -> None:
    network = built("gpt2").eval()
    assert hidden_of(network, rows_of([drawn(WINDOW)])).shape == (1, WINDOW, 32)

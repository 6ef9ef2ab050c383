"""Attention in parts: equal to the formula under the dense rule of `may_see`, in float64, gradients too."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from telos import switches
from telos.batch import Rows, may_see
from telos.models import _layers, _parts
from telos.models._layers import near
from telos.models._parts import Parts, cut, in_parts
from telos.models._transformer import Cache, sight
from tests.models.small import DECODERS, ENCODERS, asked_all, built, drawn, hidden_of, part, rows_of

HEADS, WIDTH = 4, 8
LAYOUTS: dict[str, list[list[int]]] = {
    "two documents, one that fills its row, many": [[9, 15], [24], [3, 5, 1, 2, 13]],
    "one token each": [[1] * 6, [1, 1, 1, 1, 1, 1]],
    "padding at the end": [[5, 2], [1], [17, 3, 1]],
    "one document a row": [[20], [7], [19]],
    "one row": [[4, 30, 4]],
}
"""Documents' lengths, row by row."""


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rows are cut however little that saves, and long documents into pieces of few places."""
    monkeypatch.setattr(_parts, "WORTH", 1e9)
    monkeypatch.setattr(_parts, "CHUNK", 4)
    yield


def laid(lengths: Sequence[Sequence[int]], order: str) -> Rows:
    """Rows of documents so long, of which each place sees what the order says."""
    rows = rows_of(*([drawn(n, seed) for seed, n in enumerate(row)] for row in lengths))
    real, place = rows.segment >= 0, rows.positions
    draw = torch.Generator().manual_seed(7)
    orders = {
        "causal": place,
        "full": torch.zeros_like(place),
        "prefix": (place - 2).clamp(min=0),
        "any": torch.randint(0, 9, place.shape, generator=draw),
        "some unseen": place,
        "some of all unseen": torch.zeros_like(place),
    }
    seen = real & (torch.rand(place.shape, generator=draw) < 0.6) if "unseen" in order else real
    return replace(rows, order=orders[order].masked_fill(~real, 0), seen=seen, packed=True)


def given(rows: Rows, kind: torch.dtype = torch.float64, key_heads: int = HEADS) -> list[Tensor]:
    """Queries, keys, values and what comes from above, (B, heads, T, width)."""
    torch.manual_seed(0)
    count, places = rows.shape
    heads = [HEADS, key_heads, key_heads, HEADS]
    return [torch.randn(count, places, each, WIDTH).bfloat16().to(kind).transpose(1, 2) for each in heads]


def formula(rows: Rows, reach: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    mask = may_see(rows, rows)
    if reach:
        mask = mask & near(rows.positions, rows.positions, reach)
    keys, values = (each.repeat_interleave(HEADS // each.shape[1], 1) for each in (keys, values))
    logits = (queries @ keys.transpose(2, 3) * WIDTH**-0.5).masked_fill(~mask, -torch.inf)
    found: Tensor = torch.softmax(logits, 3) @ values
    return found


def parts_of(rows: Rows, reach: int = 0, kind: torch.dtype = torch.float32) -> Parts:
    parts = cut(rows, kind, reach)
    assert parts is not None
    return parts


def compared(rows: Rows, reach: int, kind: torch.dtype = torch.float64, key_heads: int = HEADS) -> float:
    """Largest difference to the formula in float64 of values and gradients, by the largest of each."""
    ours = [each.requires_grad_() for each in given(rows, kind, key_heads)]
    exact = [each.requires_grad_() for each in given(rows, torch.float64, key_heads)]
    found = in_parts(ours[0], ours[1], ours[2], parts_of(rows, reach, kind))
    wanted = formula(rows, reach, exact[0], exact[1], exact[2])
    assert found.dtype == kind and found.shape == wanted.shape
    found.backward(ours[3].detach())
    wanted.backward(exact[3].detach())
    worst = 0.0
    for a, b in [(found, wanted), *((a.grad, b.grad) for a, b in zip(ours[:3], exact[:3], strict=True))]:
        assert a is not None and b is not None
        error = (a.detach().double() - b.detach()).abs().max()
        worst = max(worst, float(error / b.detach().abs().max().clamp(min=1e-3)))
    return worst


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("reach", [0, 1, 3, 5, 40])
@pytest.mark.parametrize("order", ["causal", "full", "prefix", "any", "some unseen", "some of all unseen"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_gradients_are_those_of_the_dense_rule(layout: str, order: str, reach: int) -> None:
    """Trap 6: whatever rows hold; padding included, which finds its own value."""
    assert compared(laid(LAYOUTS[layout], order), reach) < 1e-12


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("reach", [0, 6])
@pytest.mark.parametrize("seed", range(8))
def test_any_rows_at_all(seed: int, reach: int) -> None:
    draw = np.random.default_rng(seed)
    lengths = [draw.integers(1, 40, draw.integers(1, 6)).tolist() for _ in range(draw.integers(1, 5))]
    order = ["causal", "full", "prefix", "any"][seed % 4]
    assert compared(laid(lengths, order), reach, key_heads=(1, 2)[seed % 2]) < 1e-12


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reach", [0, 3])
def test_smaller_types_are_as_near_as_their_digits(kind: torch.dtype, reach: int) -> None:
    """Query heads that share key heads as well."""
    for order in ("causal", "full", "any"):
        for key_heads in (HEADS, 2):
            error = compared(laid([[9, 15], [30], [1, 5, 11]], order), reach, kind, key_heads)
            assert error < (2e-6 if kind == torch.float32 else 0.02)


@pytest.mark.usefixtures("small_pieces")
def test_positions_that_do_not_count_up_are_looked_at_one_by_one() -> None:
    """What is near is known by position, and it need not be the place: a gap that is filled last."""
    rows = laid([[30], [12, 9]], "causal")
    moved = rows.positions.clone()
    moved[0, :30] = torch.cat((torch.arange(10), torch.arange(20, 30), torch.arange(10, 20)))
    for reach in (2, 5):
        assert compared(replace(rows, positions=moved), reach) < 1e-12


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("reach", [0, 3])
@pytest.mark.parametrize("order", ["causal", "full"])
def test_what_another_document_says_changes_no_bit(order: str, reach: int) -> None:
    """Trap 6: whatever stands in the first document, the second finds the same, and asks nothing of it."""
    rows = laid([[9, 15, 4]], order)
    queries, keys, values, _ = (each.requires_grad_() for each in given(rows, torch.float32))
    before = in_parts(queries, keys, values, parts_of(rows, reach))
    changed = [each.detach().clone() for each in (queries, keys, values)]
    for each in changed:
        each[:, :, :9] = 1e4
    after = in_parts(changed[0], changed[1], changed[2], parts_of(rows, reach))
    assert torch.equal(before[:, :, 9:], after[:, :, 9:])
    assert not torch.equal(before[:, :, :9], after[:, :, :9])
    before[:, :, 9:24].sum().backward()
    for each in (queries, keys, values):
        assert each.grad is not None
        other = each.grad.clone()
        other[:, :, 9:24] = 0
        assert not other.any() and each.grad[:, :, 9:24].any()


def products(parts: Parts) -> int:
    """Of a query and a key, for every head."""
    return sum(each.pieces * each.queries * each.keys for each in parts.parts)


def test_most_products_of_packed_rows_are_not_made() -> None:
    rows = laid([[100] * 5 + [12]] * 4, "causal")
    assert products(parts_of(rows)) < 0.22 * 4 * 512**2  # a fifth, and what fills up


def test_places_that_see_what_is_near_cost_the_same_in_longer_rows() -> None:
    for order, most in (("causal", 2), ("full", 3)):
        for places in (1024, 2048):
            rows = laid([[places]], order)
            assert products(parts_of(rows, 64)) <= most * 64 * places
            assert cut(rows, torch.float32) is None


def test_rows_are_cut_where_that_saves_enough() -> None:
    """By what the rows hold, never by a clock: short rows and rows of one document go the plain way."""
    assert cut(laid([[60, 68]] * 16, "causal"), torch.float32) is None
    assert cut(laid([[512]] * 4, "causal"), torch.float32) is None
    assert cut(laid([[500, 12]] * 4, "causal"), torch.float32) is None
    assert cut(laid([[256, 256]] * 4, "causal"), torch.float32) is not None
    assert cut(laid([[512]] * 4, "causal"), torch.float32, 64) is not None
    assert cut(laid([[512]] * 4, "causal"), torch.float32, 400) is None
    assert cut(laid([[100] * 5, [140]], "full"), torch.float32) is not None


@pytest.mark.usefixtures("small_pieces")
def test_a_segment_that_goes_on_after_another_is_left_to_the_mask() -> None:
    rows = laid([[4, 4, 4]], "causal")
    assert cut(rows, torch.float32) is not None
    woven = rows.segment.clone()
    woven[woven == 2] = 0
    assert cut(replace(rows, segment=woven), torch.float32) is None


@pytest.mark.usefixtures("small_pieces")
def test_only_processors_read_rows_and_it_can_be_turned_off() -> None:
    rows = laid([[9, 15]], "causal")
    assert sight(rows, None, torch.float32).parts is not None
    with switches.without("parts"):
        plain = sight(rows, None, torch.float32)
    assert plain.parts is None and plain.mask is not None
    elsewhere = {name: getattr(rows, name).to("meta") for name in ("positions", "segment", "order", "seen")}
    assert cut(replace(rows, **elsewhere), torch.float32) is None


@pytest.mark.usefixtures("small_pieces")
def test_with_a_cache_there_are_no_parts() -> None:
    """New places look at the cached ones too, which no piece of new rows holds."""
    rows = laid([[9, 15]], "causal")
    old, new = part(rows, 0, 12), part(rows, 12, 24)
    past = Cache((), old.segment, old.order, old.seen, old.positions)
    found = sight(new, past, torch.float32, 3)
    assert found.parts is None and found.mask is not None and found.mask.shape == (1, 1, 12, 24)


@pytest.mark.usefixtures("small_pieces")
def test_dropout_takes_its_share_and_leaves_the_mean() -> None:
    rows = laid([[1] * 200, [40, 100, 60]], "full")
    queries, keys, values, _ = given(rows, torch.float32)
    ones = torch.ones_like(values)
    torch.manual_seed(0)
    found = in_parts(queries, keys, ones, parts_of(rows), dropout=0.25)
    alone = found[0]  # places that see themselves only: all or nothing
    assert alone.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert float((alone == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert float(found[1].mean()) == pytest.approx(1, abs=0.02)
    torch.manual_seed(0)
    assert torch.equal(found, in_parts(queries, keys, ones, parts_of(rows), dropout=0.25))


# ---- networks


def gradients(network: Any, rows: Rows) -> list[Tensor]:
    """The loss and its gradients."""
    network.zero_grad()
    loss = network(asked_all(rows)).sums["tokens"]
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


def packed(name: str) -> Rows:
    order: Any = "full" if name in ENCODERS else "causal"
    documents = [[drawn(9), drawn(15)], [drawn(1), drawn(6), drawn(2)], [drawn(24)]]
    return rows_of(*documents, order=order, pattern=order)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_a_network_learns_the_same_without_it(
    monkeypatch: pytest.MonkeyPatch, name: str, recompute: bool
) -> None:
    calls = []
    right = _layers.in_parts
    monkeypatch.setattr(_layers, "in_parts", lambda *all, **named: calls.append(1) or right(*all, **named))
    network: Any = built(name).double().train()
    network.recompute = recompute
    fast, made = gradients(network, packed(name)), len(calls)
    with switches.without("parts"):
        plain = gradients(network, packed(name))
    assert made == network.model.depth * (2 if recompute else 1) and len(calls) == made
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_documents_cost_in_one_row_what_they_cost_alone(name: str) -> None:
    """Trap 6, and positions that begin with each document."""
    order: Any = "full" if name in ENCODERS else "causal"
    network = built(name).double().eval()
    alone = [drawn(9), drawn(5), drawn(1), drawn(8)]
    row = rows_of(alone, order=order, pattern=order)
    assert sight(row, None, torch.float64).parts is not None
    with torch.no_grad():
        together = hidden_of(network, row)[0]
        with switches.without("parts"):
            each = [hidden_of(network, rows_of([ids], order=order, pattern=order))[0] for ids in alone]
    torch.testing.assert_close(together, torch.cat(each), rtol=1e-10, atol=1e-12)

"""Examples into rows and batches: nothing is lost, nothing is moved, documents never meet."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from telos.batch import Ask, Example, Side, may_see
from telos.data.packing import Row, collate, pack, singly


def example(length: int, sample: int = 0, *, causal: bool = True, source: int = 0, first: int = 1) -> Example:
    """An example whose ids tell where they come from, asked about every place but the first."""
    ids = first + 1000 * sample + np.arange(length)
    at = np.arange(1, length)
    ask = Ask(head="tokens", at=at, target=ids[at] + 7, weight=np.ones(len(at), np.float32))
    return Example(
        main=Side.of(ids, causal=causal),
        asks=(ask,),
        source=Side.of(np.arange(source), causal=False) if source else None,
        pattern="causal" if causal else "full",
        unit=sample,
        sample=sample,
    )


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


@given(lengths=LENGTHS, slack=st.integers(0, 30))
def test_packing_loses_nothing_and_overfills_nothing(lengths: list[int], slack: int) -> None:
    window = max(lengths) + slack
    rows = pack([example(n, k) for k, n in enumerate(lengths)], window)
    assert sorted(e.sample for row in rows for e in row) == list(range(len(lengths)))
    used = sorted(sum(len(e.main) for e in row) for row in rows)
    assert used[-1] <= window and used[0] > 0
    assert len(used) < 2 or used[0] + used[1] > window, "two rows that would fit into one"
    assert len(rows) <= 11 / 9 * -(-sum(lengths) // window) + 6 / 9 + len(
        [n for n in lengths if n * 2 > window]
    )


@given(pairs=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=40))
def test_both_sides_fit(pairs: list[tuple[int, int]]) -> None:
    rows = pack([example(n, k, source=m) for k, (n, m) in enumerate(pairs)], 24)
    assert sorted(e.sample for row in rows for e in row) == list(range(len(pairs)))
    for row in rows:
        assert sum(len(e.main) for e in row) <= 24
        assert sum(len(e.source) for e in row if e.source) <= 24


def test_packing_wastes_little() -> None:
    draw = np.random.default_rng(0)
    lengths = np.minimum(draw.geometric(1 / 60, 4000), 256)
    rows = pack([example(int(n), k) for k, n in enumerate(lengths)], 256)
    assert lengths.sum() / (len(rows) * 256) > 0.99


def test_single_rows_come_by_length() -> None:
    rows = singly([example(n, k) for k, n in enumerate([5, 2, 9, 2])], 10)
    assert [[e.sample for e in row] for row in rows] == [[1], [3], [0], [2]]


@pytest.mark.parametrize("make", [pack, singly])
def test_a_longer_example_than_the_window_is_our_mistake(make: object) -> None:
    with pytest.raises(AssertionError, match="window 4"):
        make([example(5)], 4)  # type: ignore[operator]


@given(lengths=LENGTHS, per_row=st.integers(1, 4))
def test_each_example_is_in_the_batch_as_it_was(lengths: list[int], per_row: int) -> None:
    """Trap 7: what is asked is asked at its own place, and no target comes from another document."""
    examples = [example(n, k) for k, n in enumerate(lengths)]
    rows = [examples[k : k + per_row] for k in range(0, len(examples), per_row)]
    batch = collate(rows)
    (asked,) = batch.asks
    real = int(asked.weight.sum())
    assert batch.asked == {"tokens": float(sum(lengths) - len(lengths))} and real == sum(lengths) - len(
        lengths
    )
    flat = batch.main.ids.flatten()
    assert torch.equal(flat[asked.at[:real]] + 7, asked.target[:real]), (
        "each target was made from the id at its place"
    )
    assert not asked.weight[real:].any() and not asked.at[real:].any() and not asked.target[real:].any()
    assert len(asked.at) % 8 == 0 and len(asked.at) <= max(8, real * 17 / 16 + 8)
    for index, row in enumerate(rows):
        start = 0
        assert batch.samples[index] == tuple(e.sample for e in row)
        for number, one in enumerate(row):
            part = slice(start, start + len(one.main))
            assert np.array_equal(batch.main.ids[index, part], one.main.ids)
            assert np.array_equal(batch.main.positions[index, part], np.arange(len(one.main)))
            assert (batch.main.segment[index, part] == number).all() and batch.main.seen[index, part].all()
            start += len(one.main)
        assert (batch.main.segment[index, start:] == -1).all() and not batch.main.seen[index, start:].any()


def test_documents_in_a_row_never_see_each_other() -> None:
    """Trap 6: what may be seen does not cross from one document to the next, nor to padding."""
    batch = collate([[example(3, 0), example(4, 1)], [example(5, 2)]])
    sees = may_see(batch.main, batch.main)[:, 0]
    expected = torch.zeros(2, 8, 8, dtype=torch.bool)
    for row, start, length in [(0, 0, 3), (0, 3, 4), (1, 0, 5)]:
        part = slice(start, start + length)
        expected[row, part, part] = torch.ones(length, length).tril().bool()
    expected |= torch.eye(8, dtype=torch.bool)
    assert torch.equal(sees, expected)
    assert batch.main.packed and not collate([[example(5)], [example(3)]]).main.packed


def test_segments_of_an_example_stay_apart_and_agree_on_both_sides() -> None:
    """An example may have several segments; cross-attention goes by equal numbers, so both sides move
    together.
    """

    def two(source: int) -> Example:
        main = Side.of(np.arange(4), causal=True)
        sides = Side(
            ids=main.ids,
            positions=main.positions,
            segment=np.array([0, 0, 1, 1]),
            order=main.order,
            seen=main.seen,
        )
        far = Side.of(np.arange(source), causal=False)
        far = Side(
            ids=far.ids,
            positions=far.positions,
            segment=np.arange(source) % 3,
            order=far.order,
            seen=far.seen,
        )
        return Example(main=sides, asks=(), source=far, sample=source)

    batch = collate([[two(3), two(5)]])
    assert batch.source is not None
    assert batch.main.segment[0].tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    assert batch.source.segment[0].tolist() == [0, 1, 2, 3, 4, 5, 3, 4]
    assert batch.source.pattern == "full" and batch.source.packed


def test_examples_with_and_without_a_source_share_a_row() -> None:
    """Trap 6: an example without a source has no place on that side, and the sources of the others keep the
    segments of their main sides."""
    examples = [example(3, 0), example(4, 1, source=2), example(2, 2), example(5, 3, source=6)]
    batch = collate([examples, examples[:1]])
    assert batch.source is not None
    assert batch.main.segment[0].tolist() == [0] * 3 + [1] * 4 + [2] * 2 + [3] * 5 + [-1] * 2
    assert batch.source.segment.tolist() == [[1] * 2 + [3] * 6, [-1] * 8]
    assert batch.source.packed and not batch.source.seen[1].any()
    assert collate([examples[:1], examples[2:3]]).source is None
    none = replace(examples[0], source=Side.of(np.arange(0), causal=False))
    empty = collate([[none]]).source
    assert empty is not None and empty.shape == (1, 8) and not empty.seen.any()


def test_padding_is_known_by_place_and_not_by_id() -> None:
    """Trap 5: an id that is also the padding's (0) is asked and seen like any other."""
    ids = np.array([0, 0, 5, 0])
    ask = Ask(head="tokens", at=np.arange(4), target=np.array([0, 5, 0, 0]), weight=np.ones(4, np.float32))
    batch = collate([[Example(main=Side.of(ids, causal=True), asks=(ask,))], [example(7)]])
    assert batch.main.seen[0].tolist() == [True] * 4 + [False] * 4
    assert batch.asked["tokens"] == 4 + 6 and float(batch.asks[0].weight.sum()) == 10


def ask(head: str, **rest: object) -> Ask:
    given = {"at": np.array([1]), "target": np.array([2]), "weight": np.ones(1, np.float32), **rest}
    return Ask(head=head, **given)  # type: ignore[arg-type]


def test_asks_are_gathered_per_head_term_sign_and_kind() -> None:
    soft = np.array([[0.25, 0.75]], np.float32)
    asks = (ask("a"), ask("a", term="x"), ask("a", negative=True), ask("b", target=soft), ask("b"))
    side = Side.of(np.arange(3), causal=True)
    batch = collate([[Example(main=side, asks=asks)], [Example(main=side, asks=(ask("a"),))]])
    found = {(a.head, a.term, a.negative, a.target.ndim): float(a.weight.sum()) for a in batch.asks}
    assert found == {
        ("a", "a", False, 1): 2,
        ("a", "x", False, 1): 1,
        ("a", "a", True, 1): 1,
        ("b", "b", False, 2): 1,
        ("b", "b", False, 1): 1,
    }
    assert batch.asked == {"a": 3, "x": 1, "b": 2}
    assert next(a for a in batch.asks if a.target.ndim == 2).target.shape == (8, 2)


def test_the_batch_is_as_wide_as_its_longest_row_and_never_wider_than_the_window() -> None:
    assert collate([[example(3)], [example(17)]]).main.shape == (2, 24)
    assert collate([[example(3)], [example(17)]], window=20).main.shape == (2, 20)
    assert collate([[example(20)]], window=20).main.shape == (1, 20)


@pytest.mark.parametrize(
    ("rows", "pattern", "packed"),
    [
        ([[example(8)], [example(8)]], "causal", False),
        ([[example(8)], [example(5)]], "causal", False),
        ([[example(8, causal=False)]], "full", False),
        ([[example(8, causal=False)], [example(5, causal=False)]], "full", True),
        ([[example(8, causal=False)], [example(8)]], "general", False),
        ([[example(4), example(4)]], "causal", True),
    ],
)
def test_the_pattern_says_what_a_kernel_must_know(rows: list[Row], pattern: str, packed: bool) -> None:
    batch = collate(rows)
    assert (batch.main.pattern, batch.main.packed) == (pattern, packed)


def test_a_hidden_place_makes_the_pattern_insufficient() -> None:
    side = Side.of(np.arange(8), causal=True)
    hidden = Side(
        ids=side.ids, positions=side.positions, segment=side.segment, order=side.order, seen=np.arange(8) != 3
    )
    assert collate([[Example(main=hidden, asks=())]]).main.packed


def test_types_are_kept() -> None:
    side = Side.of(np.arange(3), causal=False)
    typed = Side(
        ids=side.ids,
        positions=side.positions,
        segment=side.segment,
        order=side.order,
        seen=side.seen,
        types=np.array([0, 1, 1]),
    )
    batch = collate([[Example(main=typed, asks=(), pattern="full")], [example(2, causal=False)]])
    assert batch.main.types is not None and batch.main.types[:, :3].tolist() == [[0, 1, 1], [0, 0, 0]]

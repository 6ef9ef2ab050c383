"""Keys and values that grow in place: the same as put together anew, whoever goes on from where."""

import pytest
import torch
from torch import Tensor

from telos.models._cache import Past, Room


def new(places: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, 2, 3, places, 4, generator=generator)
    return keys, values


def joined(*seeds: int) -> tuple[Tensor, Tensor]:
    parts = [new(1 + seed % 3, seed) for seed in seeds]
    return torch.cat([k for k, _ in parts], 2), torch.cat([v for _, v in parts], 2)


def grown(past: Past, *seeds: int) -> Past:
    for seed in seeds:
        past = past.then(*new(1 + seed % 3, seed))
    return past


def same(past: Past, *seeds: int) -> bool:
    keys, values = joined(*seeds)
    return torch.equal(past.keys, keys) and torch.equal(past.values, values)


def test_it_grows_as_if_put_together() -> None:
    with torch.no_grad():
        assert same(grown(Past(*new(1, 0)), *range(1, 40)), *range(40))


def test_two_that_go_on_from_the_same_place_do_not_overwrite_each_other() -> None:
    """Trap 23: a state can be gone on from twice, as when several texts share a beginning."""
    with torch.no_grad():
        trunk = grown(Past(*new(1, 0)), 1)
        one = grown(trunk, 3)
        assert trunk.room is not None and one.room is trunk.room
        other = grown(trunk, 6)
        assert same(trunk, 0, 1) and same(one, 0, 1, 3) and same(other, 0, 1, 6)
        assert same(grown(one, 7), 0, 1, 3, 7) and same(grown(trunk, 8), 0, 1, 8) and same(other, 0, 1, 6)


def test_rows_that_are_chosen_or_changed_are_not_taken_for_those_that_lie_there() -> None:
    with torch.no_grad():
        past = grown(Past(*new(1, 0)), 1, 2)
        turned = past._replace(keys=past.keys.flip(0), values=past.values.flip(0))
        keys, values = new(1, 3)
        longer = turned.then(keys, values)
        assert torch.equal(longer.keys[:, :, :-1], past.keys.flip(0)) and torch.equal(
            longer.keys[:, :, -1:], keys
        )
        assert torch.equal(longer.values[:, :, :-1], past.values.flip(0))


def test_gradients_go_through() -> None:
    keys, values = new(2, 0)
    keys.requires_grad_()
    longer = Past(keys, values).then(*new(1, 1))
    longer.keys.sum().backward()
    assert longer.room is None and keys.grad is not None


def test_most_times_only_what_is_new_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    init = Room.__init__

    def counted(self: Room, past: Past, more: int) -> None:
        made.append(past.keys.shape[2])
        init(self, past, more)

    monkeypatch.setattr(Room, "__init__", counted)
    with torch.no_grad():
        past = Past(*new(1, 0))
        for _ in range(500):
            past = past.then(*new(1, 1))
    assert past.keys.shape[2] == 501
    assert len(made) < 12 and sum(made) < 3 * past.keys.shape[2]

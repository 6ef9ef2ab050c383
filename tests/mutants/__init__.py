"""Mutants: bugs put back on purpose, to show that the tests which should catch them go red.

A mutant is a function that breaks the program through pytest's `MonkeyPatch`; it names the test that it must
turn red:

    @mutant(kills="tests/data/test_shards.py::test_vocabulary_sizes_round_trip", trap=48)
    def uint16_overflow(monkeypatch):
        monkeypatch.setattr("telos.data.shards._dtype", lambda size: np.uint16)

`make mutants` (`python -m tests.mutants [part of a name] …`) runs every such test twice: as it is, when it
must pass, and with the bug put back, when it must fail. The bug is put back before the tests are collected,
so that names imported by a test are broken as well. A mutant is called by its file and its function:
`shards.uint16_overflow`.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest

__all__ = ["Mutant", "all_mutants", "mutant"]

Break = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A bug, the test that must see it, and the number of the trap that it comes from."""

    name: str
    kills: str
    trap: int | None
    apply: Break


_registered: dict[str, Mutant] = {}


def mutant(*, kills: str, trap: int | None = None) -> Callable[[Break], Break]:
    """Register a function that puts a bug back; `kills` is the pytest id of the test that must fail with
    it."""

    def register(apply: Break) -> Break:
        name = f"{apply.__module__.rpartition('.')[2]}.{apply.__name__}"
        assert name not in _registered or _registered[name].apply.__module__ == apply.__module__, (
            f"two mutants are called {name}"
        )
        _registered[name] = Mutant(name=name, kills=kills, trap=trap, apply=apply)
        return apply

    return register


def all_mutants() -> dict[str, Mutant]:
    """Every mutant of this folder, by its name."""
    for found in pkgutil.iter_modules(__path__):
        if not found.name.startswith("_"):
            importlib.import_module(f"{__name__}.{found.name}")
    return dict(sorted(_registered.items()))

"""Bugs of adapters that come in, put back."""

from pathlib import Path
from typing import Any

import pytest

from tests.mutants import mutant

HERE = "tests/export/test_adapters_in.py::"
SAYS = f"{HERE}test_we_say_what_peft_says"


def _read_as(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """What is read of an adapter is another."""
    from telos.export.hf import _adapter

    right = _adapter.read
    monkeypatch.setattr(_adapter, "read", lambda *given: change(right(*given)))


@mutant(kills=f"{SAYS}[llama]", trap=91)
def an_adapter_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    _read_as(monkeypatch, lambda found: found._replace(products={}, whole={}))


@mutant(kills=f"{SAYS}[bert]", trap=91)
def alpha_is_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    _read_as(monkeypatch, lambda found: found._replace(scale=5.0))


@mutant(kills=f"{SAYS}[gpt2]")
def no_product_is_transposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a matrix is as high as it is wide, nothing else would tell."""
    from telos.export.hf._adapter import Adapter

    def flat(self: Adapter, name: str, weight: Any, product: Any, wanted: Any) -> Any:
        same = product.t() if product.shape != weight.shape else product
        return (weight.double() + self.scale * same).float()

    monkeypatch.setattr(Adapter, "_moved", flat)


@mutant(kills=f"{HERE}test_the_scale_of_many_ranks")
def ranks_are_always_divided_by(monkeypatch: pytest.MonkeyPatch) -> None:
    _read_as(monkeypatch, lambda found: found._replace(scale=5 / 3))


@mutant(kills=f"{HERE}test_modules_that_were_trained_whole_take_their_places")
def only_products_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _read_as(monkeypatch, lambda found: found._replace(whole={}))


@mutant(kills=f"{HERE}test_an_embedding_that_is_the_head_moves_with_it_or_not_at_all[False]", trap=87)
def a_head_follows_its_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._adapter.Adapter._check_tied", lambda self, tied: None)


@mutant(kills=f"{HERE}test_other_kinds_are_refused_by_name[dora]", trap=91)
def every_adapter_is_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._adapter._check_kind", lambda config: None)


@mutant(kills=f"{HERE}test_a_head_for_classes_comes_with_an_adapter[llama]")
def the_head_of_an_adapter_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.export.hf._adapter.Adapter.told", lambda self, config, kind: dict(config))


@mutant(kills=f"{HERE}test_what_went_out_as_an_adapter_comes_in_and_is_trained_on", trap=47)
def the_adapter_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(folder: Path) -> tuple[Path, ...]:
        return ()

    monkeypatch.setattr("telos.export.hf._adapter.files", none)

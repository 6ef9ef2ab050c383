"""The contract of what scores and what generates: every file of `src/telos/evaluate/` and
`src/telos/generate/`."""

import importlib
import inspect
from types import ModuleType

import pytest

from telos import evaluate, generate, objectives
from telos.config import Settings
from telos.find import find, names
from telos.generate._base import Decoder
from telos.generate._settings import GenerateSettings
from tests.contract import world


def module(package: ModuleType, name: str) -> ModuleType:
    return importlib.import_module(f"{package.__name__}.{name}")


@pytest.mark.parametrize("name", names(evaluate))
def test_a_measure_gives_plain_data(name: str) -> None:
    """Each has a frozen result whose `table()` is plain data for JSON."""
    results = [
        kind
        for kind in vars(module(evaluate, name)).values()
        if inspect.isclass(kind)
        and kind.__module__ == f"telos.evaluate.{name}"
        and hasattr(kind, "__dataclass_params__")
    ]
    tabled = [kind for kind in results if callable(getattr(kind, "table", None))]
    assert tabled and all(kind.__dataclass_params__.frozen for kind in tabled)


@pytest.mark.parametrize("name", names(generate))
def test_a_decoder_makes_rows_grow_and_reads_tables_that_there_are(name: str) -> None:
    found = find(generate, name, Decoder)
    assert found.advance is not Decoder.advance
    assert found.reads <= {n for n, f in GenerateSettings.model_fields.items() if is_table(f.annotation)}


def is_table(kind: object) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Settings)


@pytest.mark.parametrize("name", names(objectives))
def test_each_objective_names_a_decoder_that_is_there(name: str) -> None:
    assert world.make_objective(name).decoded in names(generate)

"""The contract of objectives, checked on every file of `src/telos/objectives/`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from telos import objectives
from telos.find import names
from telos.objectives._base import Objective
from tests.contract.objective_checks import CHECKS
from tests.contract.world import make_objective

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", names(objectives))
def test_contract(name: str, check: Callable[[Objective, Path], None], tmp_path: Path) -> None:
    check(make_objective(name), tmp_path)


@pytest.mark.parametrize("name", names(objectives))
@pytest.mark.parametrize("page", ["objectives.md", "zh/objectives.md"])
def test_it_has_a_row_in_the_table_of_the_docs(name: str, page: str) -> None:
    assert f"| `{name}` |" in (DOCS / page).read_text(encoding="utf-8")

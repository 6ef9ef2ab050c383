"""What the command line makes of its options of measuring."""

from pathlib import Path
from typing import Any

import pytest

from telos import measure
from telos.errors import ConfigError
from telos.evaluate._intervals import share
from telos.evaluate.few_shot import FewShot, FewShotSettings


def answered(_: Any, __: Path, settings: FewShotSettings) -> FewShot:
    accuracy = {k: share(1, 2) for k in settings.shots}
    shown = {k: float(k) for k in settings.shots}
    return FewShot(
        kind="exact",
        labels=(),
        items=settings.limit,
        chance=0.25,
        majority=0.5,
        accuracy=accuracy,
        shown=shown,
    )


def test_shots_are_numbers_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "measure_few_shot", answered)
    run: Any = None
    found = measure.measured(run, few_shot=Path("a"), shots="0, 2,16", limit=7)
    assert list(found.table["few_shot"]["shots"]) == ["0", "2", "16"]
    assert found.table["few_shot"]["items"] == 7
    assert "2 examples (2.0 fit)" in found.lines[2] and "50.0%" in found.lines[2]
    for wrong in ("1,x", "-1", ""):
        with pytest.raises(ConfigError, match="shots"):
            measure.measured(run, few_shot=Path("a"), shots=wrong)

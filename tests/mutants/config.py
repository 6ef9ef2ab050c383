"""Bugs of settings and of what is done with them."""

from typing import Any

import pytest

from tests.mutants import mutant

LIVE = "tests/test_settings_live.py::test_every_setting_changes_what_a_run_says"


@mutant(kills="tests/test_config.py::test_every_misspelt_key_is_refused_with_a_suggestion", trap=39)
def unknown_keys_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.config import Member, Settings, read

    def lax(kind: type[Settings], given: dict[str, Any], source: str = "") -> Settings:
        def known(kind: Any, table: Any) -> Any:
            if not (isinstance(table, dict) and isinstance(kind, type) and issubclass(kind, Settings)):
                return table
            if issubclass(kind, Member):  # what it is stands in it
                return table
            fields = kind.model_fields
            return {
                key: known(fields[key].annotation, value) for key, value in table.items() if key in fields
            }

        return read(kind, known(kind, given), source)

    monkeypatch.setattr("telos.config.read", lax)


@mutant(kills="tests/test_config.py::test_what_is_wrong_is_named", trap=39)
def nothing_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.config.nearest", lambda wrong, known, *rest: "")


@mutant(kills="tests/test_config.py::test_overrides_do_what_tables_do")
def overrides_are_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.config._value", lambda text: text)


@mutant(kills="tests/test_config.py::test_what_is_written_reads_back_equal")
def defaults_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    import tomli_w

    def thrifty(settings: Any) -> str:
        return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True, exclude={"inner"}))

    monkeypatch.setattr("telos.config.to_toml", thrifty)


@mutant(kills="tests/test_config.py::test_a_newer_recipe_is_refused")
def newer_recipes_are_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    import telos.recipe

    monkeypatch.setattr(telos.recipe, "VERSION", 99)


@mutant(kills=f"{LIVE}[loss.smoothing]", trap=39)
def the_loss_settings_get_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import opened, run
    from telos.losses import LossSettings

    whole = run.sizes_of
    for module in (opened, run):
        monkeypatch.setattr(
            module,
            "sizes_of",
            lambda recipe, tokenizer: whole(recipe, tokenizer)._replace(loss=LossSettings()),
        )


@mutant(kills=f"{LIVE}[seed]", trap=39)
def the_seed_gets_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import opened, run
    from telos.train.settings import TrainSettings

    initialise, plan = run.initialise, TrainSettings.plan
    monkeypatch.setattr(run, "initialise", lambda network, seed: initialise(network, 0))
    monkeypatch.setattr(TrainSettings, "plan", lambda self, **rest: plan(self, **{**rest, "seed": 0}))
    generate = opened.generate
    monkeypatch.setattr(opened, "generate", lambda *given, **rest: generate(*given, **{**rest, "seed": 0}))


@mutant(kills=f"{LIVE}[evaluate.stride]", trap=39)
def the_stride_gets_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import opened
    from telos.evaluate.likelihood import EvaluateSettings

    score = opened.score
    monkeypatch.setattr(
        opened, "score", lambda a, b, c, d, settings, **rest: score(a, b, c, d, EvaluateSettings(), **rest)
    )

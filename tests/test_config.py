"""Settings: strict reading, overrides, writing back; and that no setting is dead (trap 39)."""

import random
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from telos.config import Lax, Settings, changes, fingerprint, override, read, read_toml, to_toml
from telos.errors import ConfigError
from telos.recipe import Recipe
from tests.recipes_tree import FULL, dotted_keys, flips, misspelt, put


class Inner(Settings):
    """A nested table."""

    width: int = Field(8, ge=1)
    rate: float = 0.5
    kinds: Annotated[tuple[str, ...], Lax] = ("a", "b")


class Outer(Settings):
    """A table with one of every kind of value."""

    title: str = "untitled"
    path: Annotated[Path | None, Lax] = None
    on: bool = True
    inner: Inner = Inner()


values = st.fixed_dictionaries(
    {},
    optional={
        "title": st.text(),
        "on": st.booleans(),
        "path": st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1).map(
            lambda s: f"a/{s}"
        ),
        "inner": st.fixed_dictionaries(
            {},
            optional={
                "width": st.integers(1, 2**63 - 1),
                "rate": st.floats(allow_nan=False, allow_infinity=False),
                "kinds": st.lists(st.text()),
            },
        ),
    },
)


@given(values)
def test_what_is_written_reads_back_equal(table: dict[str, Any]) -> None:
    import tomllib

    settings = read(Outer, table)
    again = read(Outer, tomllib.loads(to_toml(settings)))
    assert again == settings and fingerprint(again) == fingerprint(settings)


@given(values)
def test_overrides_do_what_tables_do(table: dict[str, Any]) -> None:
    """Any value that TOML can write can be given as a dotted override."""
    import tomli_w

    assignments = []
    for key, value in dotted_keys({name: part for name, part in table.items() if part != {}}):
        assignments.append(key + "=" + tomli_w.dumps({"x": value}).removeprefix("x = ").strip())
    assert read(Outer, override({}, assignments)) == read(Outer, table)


def test_a_path_and_a_plain_string_need_no_quotes() -> None:
    settings = read(
        Outer, override({}, ["path=my texts/a.txt", "title=hello world", "inner.kinds=['x']", "on=false"])
    )
    assert settings == Outer(
        path=Path("my texts/a.txt"), title="hello world", on=False, inner=Inner(kinds=("x",))
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"inner": {"widht": 3}}, r"x\.toml: inner\.widht: is not a setting\. Did you mean 'inner\.width'\?"),
        ({"zzz": 3}, r"x\.toml: zzz: is not a setting\. There are: title, path, on, inner\."),
        ({"width": 3}, r"x\.toml: width: is not a setting\. Did you mean 'inner\.width'\?"),
        ({"inner": {"KINDS": 3}}, r"x\.toml: inner\.KINDS: is not a setting\. Did you mean 'inner\.kinds'\?"),
        ({"inner": {"width": "3"}}, r"x\.toml: inner\.width = '3': .*integer"),
        ({"inner": {"width": 3.0}}, r"inner\.width = 3\.0: .*integer"),
        ({"inner": {"width": 0}}, r"inner\.width = 0: .*greater than or equal to 1"),
        ({"inner": {"rate": float("nan")}}, r"inner\.rate = nan: .*finite"),
        ({"on": 1}, r"on = 1: .*boolean"),
        ({"inner": 3}, r"inner = 3: expected a table"),
        ({"inner": {"kinds": "x"}}, r"inner\.kinds = 'x': expected a list, for example"),
        ({"title": ["a"]}, r"title = \['a'\]: .*string"),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(Outer, table, "x.toml")


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read(Outer, {"on": "yes", "inner": {"width": "wide"}})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [("train.steps", "for example train.budget.steps=50"), ("=3", "key=value"), ("title.length=3", "title")],
)
def test_bad_overrides_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(Outer, override({"title": "a"}, [assignment]))


@pytest.mark.parametrize("text", ["a = ", "a = 1\na = 2", "[a\n", "\xff"])
def test_broken_toml_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"broken\.toml: not a TOML file"):
        read_toml(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_toml(tmp_path / "absent.toml")


def test_toml_from_windows_is_read(tmp_path: Path) -> None:
    """A byte-order mark and CRLF are no part of the recipe."""
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfname = 'a'\r\n[model]\r\nname = 'gru'\r\n")
    assert read_toml(path) == {"name": "a", "model": {"name": "gru"}}


def test_changes_are_named_with_old_and_new_values() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert changes(old, new) == {"a.c": (2, 5), "d": (3, None), "e": (None, 4)}


# ---------------------------------------------------------------- the whole tree of recipes


@pytest.mark.parametrize("key", sorted({key for table in FULL for key, _ in dotted_keys(table)}))
def test_every_misspelt_key_is_refused_with_a_suggestion(key: str) -> None:
    """Trap 39: a misspelt key at any depth is an error that names what was probably meant."""
    table = next(table for table in FULL if key in dict(dotted_keys(table)))
    wrong = misspelt(key)
    with pytest.raises(ConfigError) as caught:
        read(Recipe, put(table, wrong, dict(dotted_keys(table))[key]))
    assert wrong in str(caught.value) and "is not a setting" in str(caught.value)
    assert "Did you mean" in str(caught.value) or "There are:" in str(caught.value)


@pytest.mark.parametrize("key", sorted({key for table in FULL for key, _ in dotted_keys(table)}))
def test_every_wrong_type_is_refused(key: str) -> None:
    table = next(table for table in FULL if key in dict(dotted_keys(table)))
    if key.endswith(".name") or key == "version":
        return
    with pytest.raises(ConfigError) as caught:
        read(Recipe, put(table, key, {"no": ["such", "value"]}))
    assert key in str(caught.value)


@pytest.mark.parametrize("index", range(len(FULL)))
def test_whole_recipes_survive_writing(index: int) -> None:
    import tomllib

    recipe = read(Recipe, FULL[index])
    text = to_toml(recipe)
    assert read(Recipe, tomllib.loads(text)) == recipe
    assert to_toml(read(Recipe, tomllib.loads(text))) == text


@given(st.randoms(use_true_random=False), st.sampled_from(FULL))
def test_any_recipe_survives_writing(rng: random.Random, table: dict[str, Any]) -> None:
    """Any settings, flipped at random, come back equal from TOML and as overrides."""
    import tomllib

    flipped = dict(table)
    for key, value in flips(table):
        if rng.random() < 0.2:
            try:
                read(Recipe, put(flipped, key, value))
            except ConfigError:
                continue  # goes against another flip
            flipped = put(flipped, key, value)
    recipe = read(Recipe, flipped)
    assert read(Recipe, tomllib.loads(to_toml(recipe))) == recipe


def test_a_newer_recipe_is_refused() -> None:
    newer = Recipe.model_fields["version"].default + 1
    with pytest.raises(ConfigError, match=rf"version: {newer} is newer.*[Uu]pgrade"):
        read(Recipe, {"version": newer, "quantum": {"flux": 3}})
    assert FULL[0]["version"] == newer - 1


def test_settings_of_another_decoder_are_refused() -> None:
    """What would do nothing is not taken: in a recipe, and where text is asked for."""
    table = {"data": {"path": "x"}, "generate": {"unmask": {"steps": 3}}}
    with pytest.raises(ConfigError, match=r"generate.unmask does nothing here.*'left_to_right'"):
        read(Recipe, table)
    assert read(Recipe, {**table, "objective": "diffusion"}).generate.unmask.steps == 3

"""The tree of settings that a recipe is, walked automatically: every key, a misspelling of it, another value
for it."""

import copy
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import telos
from telos import models, objectives, optim
from telos.config import Settings, read
from telos.data import filters
from telos.errors import ConfigError
from telos.find import find, names
from telos.models._base import Model
from telos.objectives._base import Objective
from telos.recipe import Recipe, models_that_fit, objectives_that_use

__all__ = ["FULL", "candidates", "dotted_keys", "flips", "misspelt", "put", "settings_classes"]


def dotted_keys(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key that holds a value, and the value."""
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from dotted_keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def put(table: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of `table` with the dotted key set."""
    result = copy.deepcopy(dict(table))
    *path, last = key.split(".")
    inner = result
    for part in path:
        inner = inner.setdefault(part, {})
    inner[last] = value
    return result


def misspelt(key: str) -> str:
    """The key with two letters of its last part exchanged, or one more letter."""
    path, _, last = key.rpartition(".")
    swapped = last[:-2] + last[-1] + last[-2] if len(last) > 3 else last + "x"
    swapped = swapped if swapped != last else last + "x"
    return f"{path}.{swapped}" if path else swapped


def settings_classes(root: type[Settings]) -> set[type[Settings]]:
    """`root`, every class of settings inside it, and those of every member of an open set; none that tests
    made up."""
    found: set[type[Settings]] = set()
    package = Path(telos.__file__).parent

    def walk(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, Settings) and kind not in found:
            found.add(kind)
            for field in kind.model_fields.values():
                walk(field.annotation)
            for inherited in kind.__subclasses__():
                walk(inherited)
        for inner in get_args(kind):
            walk(inner)

    for table in FULL:
        read(root, table)  # imports the members
    walk(root)
    known = {kind for kind in found if kind.__module__ in sys.modules}  # less those of another test's members
    return {kind for kind in known if package in Path(inspect.getfile(kind)).parents}


def flips(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """For every setting of a whole recipe one other value that its class accepts, whether or not it suits
    the rest."""
    yield from dict(reversed(list(candidates(table)))).items()


def candidates(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """For every setting of a whole recipe the other values that are worth a try: those that its class
    accepts."""
    yield from _candidates(read(Recipe, table), "")


def _candidates(settings: Settings, prefix: str) -> Iterator[tuple[str, Any]]:
    now = settings.table()
    for key, name in type(settings).written().items():
        field, value = type(settings).model_fields[name], getattr(settings, name)
        if isinstance(value, Settings):
            yield from _candidates(value, f"{prefix}{key}.")
            continue
        for other in _others(field.annotation, now.get(key)):
            try:
                accepted = type(settings).model_validate({**now, key: other}).table()
            except (ValueError, ConfigError):
                continue
            if accepted.get(key) != now.get(key):
                yield prefix + key, other


def _others(annotation: Any, value: Any) -> Iterator[Any]:
    """Candidates for another value, the likely first."""
    if isinstance(annotation, types.UnionType) or (
        get_origin(annotation) is not None and get_origin(annotation) is not tuple
    ):
        for inner in get_args(annotation):
            if get_origin(annotation) is Literal:
                yield inner
            elif inner is not type(None):
                yield from _others(inner, value)
        return
    if annotation is bool:
        yield not value
    elif annotation is int:
        value = None if isinstance(value, str) else value  # "auto"
        yield from ((value or 0) + 1, (value or 0) * 2, (value or 2) // 2, 8, 0)
    elif annotation is float:
        value = None if isinstance(value, str) else value
        yield from (1e-5,) if value is None else ()
        yield from ((value or 0.0) * 0.5 + 0.1, (value or 0.0) + 0.25, 0.5, 0.0)
    elif get_origin(annotation) is tuple:
        yield from ([*(value or []), *((value or [])[:1])], [0.8, 0.9], ["other"], [], [1])
    elif isinstance(value, dict):
        yield {"other": "value"}
    else:
        yield from (f"{value or 'some'}x", f"{value or 'some'}-other", "text", "The", "offline")


def _full() -> list[dict[str, Any]]:
    """Whole recipes, every default written out, that between them hold every member of every open set of a
    recipe."""
    made_of: dict[str, Any] = {
        "together": {"of": ["causal"]},
        "mixture": {"of": ["causal", "causal"], "shares": [1, 2]},
        "distil": {"teacher": "runs/teacher"},
    }
    track = {"wandb": {"project": "p"}, "mlflow": {"experiment": "e"}}
    text = {"data": {"path": "texts"}}
    tables: list[dict[str, Any]] = [{"data": {"source": "python_library"}}, text]
    needed = {"perplexity": {"reference": "good"}, "python": {"file": "mine.py"}}
    judges = [{"name": name, **needed.get(name, {})} for name in names(filters)]
    tables.append({"data": {"path": "texts", "filters": judges}})
    for name in names(objectives):
        settings = made_of.get(name, {})
        table = {"objective": {"name": name, **settings}, "model": _model_for(name, settings)}
        tables.append({**text, **table})
    tables += [{**text, "model": {"name": name}, "objective": _serving(name)} for name in names(models)]
    tables += [{**text, "train": {"optimizer": name, "budget": {"steps": 9}}} for name in names(optim)]
    tables += [{**text, "train": {"budget": {"steps": 9}, "watch": {"log": track}}}]
    return [read(Recipe, table).table() for table in tables]


def _model_for(objective: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A model for it: the decoder, or the first one that serves."""
    wanted = read(find(objectives, objective, Objective), settings)
    fit = models_that_fit(wanted)
    types: dict[str, Any] = {"embedding": {"types": 2}} if "types" in wanted.requires() else {}
    return {"name": "decoder" if "decoder" in fit else fit[0], **types}


def _serving(model: str) -> str:
    """An objective for it: `causal`, or the first one that makes use of all that the model needs."""
    needed = find(models, model, Model).needs
    return "causal" if not needed else objectives_that_use(needed)[0]


FULL = _full()

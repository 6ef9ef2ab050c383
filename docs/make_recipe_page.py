"""Writes the tables of settings in recipe.md, in English and Chinese, from the settings classes themselves.

    python docs/make_recipe_page.py

tests/test_docs.py checks that the pages are as this would write them. What stands above the marker in each
page is written by hand. The Chinese descriptions are in zh/settings.toml, by class and setting; what has none
there appears in English.
"""

import tomllib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from telos import models, objectives, optim
from telos.config import Settings
from telos.data import filters
from telos.data.filters._base import Filter
from telos.find import find, names
from telos.models._base import Model
from telos.objectives._base import Objective
from telos.optim._base import Optimizer
from telos.recipe import Recipe

DOCS = Path(__file__).parent
MARKER = "<!-- Below this line: written by make_recipe_page.py -->\n"
OPEN_SETS = {Objective: objectives, Model: models, Optimizer: optim, Filter: filters}
WORDS = {
    "en": {
        "head": "| setting | type | default | what it does |",
        "must": "(must be given)",
        "none": "(none)",
        "table": "table",
        "of": "list of:",
        "map": "table of:",
        "member": "name or table: one of",
        "base": "The whole recipe",
        "types": {
            "int": "integer",
            "float": "number",
            "bool": "`true` or `false`",
            "str": "text",
            "Path": "path",
            "Any": "anything",
        },
    },
    "zh": {
        "head": "| 设置项 | 类型 | 默认值 | 作用 |",
        "must": "（必填）",
        "none": "（无）",
        "table": "表",
        "of": "列表，每项为",
        "map": "表，每项为",
        "member": "名称或表，可选",
        "base": "整个配方",
        "types": {
            "int": "整数",
            "float": "数",
            "bool": "`true` 或 `false`",
            "str": "文本",
            "Path": "路径",
            "Any": "任意",
        },
    },
}


def page(language: str) -> str:
    """The page as it should be."""
    path = path_of(language)
    above = path.read_text(encoding="utf-8").partition(MARKER)[0]
    return above + MARKER + "\n" + "\n".join(_section(*found, language) for found in _walk(Recipe, ""))


def path_of(language: str) -> Path:
    return DOCS / "recipe.md" if language == "en" else DOCS / language / "recipe.md"


def _walk(kind: type[Settings], prefix: str) -> Iterator[tuple[type[Settings], str]]:
    """Every class of settings, outside in, with the dotted key under which it stands."""
    yield kind, prefix
    for written, name in kind.written().items():
        field = kind.model_fields[name]
        key = f"{prefix}.{written}" if prefix else written
        for inner in _settings_in(field.annotation):
            if inner not in OPEN_SETS:
                yield from _walk(inner, key)
            elif " = " not in prefix:  # members of members (the objectives of a mixture) are described once
                for member in names(OPEN_SETS[inner]):
                    found = find(OPEN_SETS[inner], member, inner)
                    assert issubclass(found, Settings)
                    yield from _walk(found, f"{key} = {member}")


def _settings_in(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _settings_in(inner)]


def _section(kind: type[Settings], key: str, language: str) -> str:
    words = WORDS[language]
    base, _, member = key.partition(" = ")
    member, _, rest = member.partition(".")
    title = f"`{base}`" if base else words["base"]
    if member:
        title = f'`{base} = "{member}"`' + (f" · `{base}.{rest}`" if rest else "")
    said = _translated(language, kind, "") or (kind.__doc__ or "").strip()
    lines = [f"## {title}", "", " ".join(said.split()), ""]
    if kind.model_fields:
        lines += [str(words["head"]), "|---|---|---|---|"]
    for written, name in kind.written().items():
        field = kind.model_fields[name]
        what = (
            _translated(language, kind, name)
            or " ".join((field.description or "").split())
            or _of_table(field, language)
        )
        cells = (f"`{written}`", _type(field, language), _default(field, language), what.replace("|", "\\|"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _of_table(field: FieldInfo, language: str) -> str:
    """What a table without a description of its own is: the first sentence of its class."""
    kinds = _settings_in(field.annotation)
    said = [_translated(language, kind, "") or (kind.__doc__ or "").strip() for kind in kinds]
    return said[0].replace("。", "。\n").replace(". ", ".\n").partition("\n")[0] if said else ""


def _type(field: FieldInfo, language: str) -> str:
    said = _annotation(field.annotation, language)
    bounds = [
        f"{sign} {_number(getattr(limit, attribute))}"
        for limit in field.metadata
        for kind, attribute, sign in ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<"))
        if isinstance(limit, kind)
    ]
    return said + (" " + ", ".join(bounds) if bounds else "")


def _number(value: float) -> str:
    return f"2^{value.bit_length() - 1}" if isinstance(value, int) and value > 2**31 else f"{value:g}"


def _annotation(annotation: Any, language: str) -> str:
    words = WORDS[language]
    kinds: Mapping[str, str] = words["types"]  # type: ignore[assignment]
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and annotation in OPEN_SETS:
        return f"{words['member']} " + " ".join(f"`{name}`" for name in names(OPEN_SETS[annotation]))
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return str(words["table"])
    if origin is Literal:
        return " ".join(f'`"{choice}"`' for choice in inner)
    if origin in (Union, types.UnionType):
        return " / ".join(_annotation(part, language) for part in inner if part is not type(None))
    if origin is tuple:
        return f"{words['of']} {_annotation(inner[0], language)}"
    if origin is dict:
        return f"{words['map']} {_annotation(inner[1], language)}"
    if origin is not None:  # Annotated
        return _annotation(inner[0], language)
    return kinds[annotation.__name__]


def _default(field: FieldInfo, language: str) -> str:
    words = WORDS[language]
    if field.is_required():
        return str(words["must"])
    value = field.get_default(call_default_factory=True)
    if value is None:
        return str(words["none"])
    if isinstance(value, Settings):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(_inline, value))}]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _inline(value: Any) -> str:
    """A default within a list, as TOML; of a table what differs from its own defaults."""
    if isinstance(value, Settings):
        given = value.model_dump(exclude_defaults=True)
        return "{" + ", ".join(f"{name} = {_inline(inner)}" for name, inner in given.items()) + "}"
    return (
        f"{value:g}" if isinstance(value, float) else f'"{value}"' if isinstance(value, str) else repr(value)
    )


def _translated(language: str, kind: type[Settings], name: str) -> str:
    """What zh/settings.toml says of a setting, or of the class itself under the name `class`."""
    if language == "en":
        return ""
    table = tomllib.loads((DOCS / language / "settings.toml").read_text(encoding="utf-8"))
    found = table.get(kind.__name__, {}).get(name or "class", "")
    return str(found)


if __name__ == "__main__":
    for language in WORDS:
        path_of(language).write_text(page(language), encoding="utf-8", newline="\n")

"""Settings: TOML and dotted overrides in, frozen typed objects out, and the whole written back.

Each class's settings sit beside the class that uses them, as a subclass of `Settings`. Reading is strict: an
unknown key, a wrong type or a value out of range is refused with its dotted key, what was expected and, where
there is one, the key that was probably meant. A member of an open set is written as a table with its `name`,
or as the name alone:

    model = { name = "decoder", width = 384 }        objective = "causal"
"""

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeVar

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from telos.errors import ConfigError
from telos.find import find, names, nearest

__all__ = [
    "Lax",
    "Member",
    "Settings",
    "changes",
    "fingerprint",
    "member",
    "override",
    "read",
    "read_toml",
    "to_toml",
]

S = TypeVar("S", bound="Settings")
M = TypeVar("M", bound="Member")

Lax = Field(strict=False)
"""For fields whose TOML form is another type: a path is written as a string, a tuple as a list."""


class Settings(BaseModel):
    """Base of everything that a recipe can set: frozen, strict, closed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, given: Any) -> Any:
        if isinstance(given, dict):
            known = cls.written()
            for key in given:
                if key not in known:
                    there_are = f" There are: {', '.join(known)}."
                    near = nearest(str(key), list(known))
                    deeper = _deeper(cls, str(key)) or ([near] if near else [])
                    context = {"key": str(key), "hint": there_are, "deeper": deeper}
                    raise PydanticCustomError("telos", "is not a setting.{hint}", context)
        return given

    @classmethod
    def written(cls) -> dict[str, str]:
        """Every setting as a recipe writes it, and its name in Python: another only where that is a word of
        the language, such as `from`."""
        return {field.alias or name: name for name, field in cls.model_fields.items()}

    def table(self) -> dict[str, Any]:
        """The settings as plain data, ready for JSON or TOML; what is not set is left out."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


def _deeper(kind: type[Settings], wanted: str) -> list[str]:
    """The dotted keys of the settings called `wanted` in the tables within `kind`."""
    found = []
    for key, name in kind.written().items():
        inner = kind.model_fields[name].annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            here = [wanted] if wanted in inner.written() else []
            found += [f"{key}.{rest}" for rest in (*here, *_deeper(inner, wanted))]
    return found


class Member(Settings):
    """Base of what an open set holds: settings that also have the name of their file."""

    @property
    def name(self) -> str:
        """The member's name: its file's."""
        return type(self).__module__.rpartition(".")[2]


def member(package: ModuleType, base: type[M], default: str = "") -> Any:
    """The annotation of a field that holds a member of the open set `package`: `Annotated[base, …]`.

    A table without a `name` is one of `default`, where there is one, so that `model.width=64` says enough.
    """

    def choose(given: Any) -> Any:
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, Mapping):
            return given
        rest = dict(given)
        wanted = str(rest.pop("name", default))
        if not wanted:
            hint = f"must be given. There are: {', '.join(names(package))}."
            raise PydanticCustomError("telos", "{hint}", {"key": "name", "hint": hint})
        try:
            kind = find(package, wanted, base)
        except ConfigError as error:
            raise PydanticCustomError("telos", "{hint}", {"key": "name", "hint": str(error)}) from None
        try:
            return kind.model_validate(rest)
        except ValidationError as error:
            raise PydanticCustomError(
                "nested", "nested", {"errors": list(error.errors(include_url=False))}
            ) from None

    def write(value: Member) -> dict[str, Any]:
        return {"name": value.name, **value.table()}

    return Annotated[base, BeforeValidator(choose), PlainSerializer(write)]


def read(kind: type[S], given: Mapping[str, Any], source: str = "recipe") -> S:
    """`kind` made from plain data.

    Raises:
        ConfigError: names every dotted key that is wrong, what was expected and what it probably should be.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        lines = [f"{source}: {line}" for line in _explain(error.errors(include_url=False), ())]
        raise ConfigError("\n".join(lines)) from None


def _explain(errors: Iterable[Any], prefix: tuple[Any, ...]) -> list[str]:
    lines = []
    errors = list(errors)
    for error in errors:
        place = prefix + tuple(part for part in error["loc"] if not str(part).startswith("function-"))
        if error["type"] == "too_short" and any(_is_within(other, error) for other in errors):
            continue  # too short only because what is wrong in it does not count
        context = error.get("ctx", {})
        if error["type"] == "nested":
            lines += _explain(context["errors"], place)
        elif error["type"] == "telos":
            meant = " or ".join(repr(_dotted((*place, key))) for key in context.get("deeper", ()))
            message = f"is not a setting. Did you mean {meant}?" if meant else error["msg"]
            lines.append(f"{_dotted((*place, context['key']))}: {message}")
        elif error["type"] == "missing":
            example = _EXAMPLES.get(str(place[-1]), "") if place else ""
            lines.append(f"{_dotted(place)}: must be given{example}.")
        else:
            message = _IN_OUR_WORDS.get(error["type"]) or error["msg"].removeprefix("Value error, ")
            where = _dotted(place)
            given = error["input"]
            shown = f" = {given!r}" if isinstance(given, str | int | float | list) and where else ""
            lines.append(f"{where}{shown}: {message}" if where else message)
    return lines


_EXAMPLES = {"of": ', for example of = ["causal"]'}
"""What is added for a setting that is missing, by its name."""
_IN_OUR_WORDS = {
    "model_type": "expected a table",
    "model_attributes_type": "expected a table",
    "dict_type": "expected a table",
    "is_instance_of": "expected a name or a table",
    "tuple_type": 'expected a list, for example ["."]',
    "list_type": 'expected a list, for example ["."]',
}
"""For pydantic's errors that speak of Python's types."""


def _is_within(inner: Mapping[str, Any], outer: Mapping[str, Any]) -> bool:
    """Whether one error is about something inside of what the other is about."""
    return len(inner["loc"]) > len(outer["loc"]) and inner["loc"][: len(outer["loc"])] == outer["loc"]


def _dotted(place: Sequence[Any]) -> str:
    return ".".join(str(part) for part in place)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as plain data.

    Raises:
        ConfigError: there is no such file, or it is not TOML (with line and column).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def override(given: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """`given` with dotted assignments such as `train.budget.steps=50`
    laid over it; values are TOML, or else plain strings.

    Raises:
        ConfigError: an assignment has no `=`, or goes through something that is not a table.
    """
    result: dict[str, Any] = json.loads(json.dumps(given, default=str))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"{assignment!r}: an override is written key=value, for example train.budget.steps=50"
            )
        table = result
        *path, last = key.strip().split(".")
        for part in path:
            inner = table.setdefault(part, {})
            if isinstance(inner, str):  # objective = "causal" is short for { name = "causal" }
                inner = table[part] = {"name": inner}
            if not isinstance(inner, dict):
                raise ConfigError(f"{key}: {part!r} is {inner!r}, not a table.")
            table = inner
        table[last] = _value(text)
    return result


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def to_toml(settings: Settings) -> str:
    """The settings, every default included, as TOML that `read` takes back to an equal object."""
    return tomli_w.dumps(settings.table())


def fingerprint(*parts: Any) -> str:
    """A short hash of plain data: equal data, equal fingerprint."""
    text = json.dumps(
        [p.table() if isinstance(p, Settings) else p for p in parts], sort_keys=True, default=str
    )
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two tables differ, each with
    its old and new value (`None` where it is missing)."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found |= changes(before, after, f"{prefix}{key}.")
        elif before != after:
            found[prefix + key] = (before, after)
    return found

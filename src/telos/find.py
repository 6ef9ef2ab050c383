"""An open set is a folder with one file per member: the file listing is the registry.

A member is named by its file. Its file defines exactly one public class that derives from the set's base
class; files that start with `_` are machinery. Nothing is imported until it is asked for.
"""

import difflib
import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

from telos.errors import ConfigError

__all__ = ["find", "load", "names", "nearest", "suggestion"]

T = TypeVar("T")


def names(package: ModuleType) -> list[str]:
    """Every member of the open set `package`: its files, less those that start with `_`."""
    return sorted(
        found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_")
    )


def suggestion(wrong: str, known: list[str], cutoff: float = 0.5) -> str:
    """` Did you mean 'x'?`, or nothing when no known name is that much alike. Capitals do not count."""
    near = nearest(wrong, known, cutoff)
    return f" Did you mean {near!r}?" if near else ""


def nearest(wrong: str, known: list[str], cutoff: float = 0.5) -> str:
    """The known name that is most like `wrong`, or nothing; see `suggestion`."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(wrong.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else ""


def load(package: ModuleType, name: str) -> ModuleType:
    """The file `name` of the open set `package`.

    Raises:
        ConfigError: no file has that name; the message suggests the nearest and lists all.
    """
    known = names(package)
    kind = package.__name__.removeprefix("telos.")
    if name not in known:
        raise ConfigError(f"{kind} has no {name!r}.{suggestion(name, known)} There are: {', '.join(known)}.")
    return importlib.import_module(f"{package.__name__}.{name}")


def find(package: ModuleType, name: str, base: type[T]) -> type[T]:
    """The class that the file `name` of the open set `package` defines.

    Raises:
        ConfigError: as of `load`.
    """
    module = load(package, name)
    members = [
        member
        for label, member in vars(module).items()
        if inspect.isclass(member)
        and issubclass(member, base)
        and member.__module__ == module.__name__
        and label[0] != "_"
    ]
    assert len(members) == 1, f"{module.__name__} must define one public {base.__name__}, not {members}"
    return members[0]

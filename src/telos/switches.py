"""Fast ways that can be turned off by name, so that the plain ones can be measured and looked at beside them.

    with switches.without("recurrent"): …          in Python
    TELOS_WITHOUT=recurrent telos train …           on the command line

Either way gives the same results up to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from telos.errors import ConfigError

__all__ = ["NAMES", "on", "turn_off", "without"]

NAMES: dict[str, str] = {
    "dropout": "dropout on a CPU by draws of our own, four to one of PyTorch's",
    "encoding": "text to ids by fastokens or by tables, where the ids are those of `tokenizers`",
    "norms": "root mean square norms on a CPU by our own passes, forward and backward",
    "pages": "large tensors in large pages of memory that is kept, on Linux",
    "parts": "attention on a CPU by documents, and by what is near, in place of a mask over whole rows",
    "recurrent": "GRU layers on a CPU by our own passes, forward and backward, in place of PyTorch's",
}
"""What there is to turn off."""
_off: set[str] = set()


def on(name: str) -> bool:
    """Whether the fast way of that name is taken."""
    assert name in NAMES, name
    return name not in _off


def turn_off(names: str) -> None:
    """Turn off what a list with commas names, for the rest of the process.

    Raises:
        ConfigError: there is nothing of such a name.
    """
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in NAMES:
            raise ConfigError(f"TELOS_WITHOUT: there is no {name!r} to turn off, only {', '.join(NAMES)}.")
        _off.add(name)


@contextmanager
def without(name: str) -> Iterator[None]:
    """The plain way in place of the fast one of that name."""
    assert name in NAMES, name
    before = set(_off)
    _off.add(name)
    try:
        yield
    finally:
        _off.clear()
        _off.update(before)

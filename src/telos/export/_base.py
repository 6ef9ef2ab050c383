"""What a foreign format is: a way to write a trained model, and proof that what was written says the same.

To add one, write a file (or a folder) here with one final class that derives from `Format`. Nothing else is
edited. A format is written under another name, proved, and only then given its own: a folder that is there
under its name has passed.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telos import export
from telos.errors import ConfigError, ExportError, explained
from telos.find import find
from telos.models._base import Model, Network, Sizes
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["PROOF", "Format", "Held", "Trained", "write"]

PROOF = "telos.json"
"""The file of figures that every export has, and by which an earlier one is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Text that the model was not trained on, as its objective reads it: what the proof is made on."""

    name: str
    """Where it is from, for the reader of the figures."""
    documents: tuple[NDArray[np.int64], ...]
    """Token ids, begin and end tokens included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model and all that others must know of it."""

    name: str
    model: Model
    sizes: Sizes
    network: Network
    tokenizer: Tokenizer
    objective: Objective
    held: Held
    adapted: Network | None = None
    """The network with its adapters apart, where adapters were trained; `network` has them merged."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the run's files say of it: figures of evaluation, the text's card."""


class Format(ABC):
    """Base of all foreign formats."""

    @abstractmethod
    def write(self, trained: Trained, folder: Path) -> dict[str, Any]:
        """Write the model into the empty `folder` and prove it; the figures of the proof as plain data.

        Raises:
            ConfigError: the model is of a kind that the format does not know, or a library is missing.
            ExportError: what was written does not say the same.
        """


def write(name: str, trained: Trained, folder: Path) -> dict[str, Any]:
    """Export to the format `name`: the figures of the proof. An earlier export in `folder` is replaced.

    Raises:
        ConfigError: there is no such format, it does not know this kind of model, or something else is in
            `folder`.
        ExportError: what was written does not say the same, or could not be written. Nothing is left of it.
    """
    chosen = find(export, name, Format)()
    if folder.exists() and not (folder / PROOF).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: there is something else, not an export. Give another folder: --out …")
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        figures = chosen.write(trained, building)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder}: could not be written: {explained(error)}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return figures

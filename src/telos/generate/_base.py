"""What a decoder is: it makes samples grow, one run of the model at a time. All else about generation is the
same for all of them, and is here.

To add one, write a file in this folder with one final class that derives from `Decoder`. An objective names
the one that fits it (`Objective.decoded`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, ClassVar, Literal

import torch

from telos import generate as decoders
from telos.config import Settings
from telos.errors import ConfigError
from telos.find import find
from telos.generate._rows import Asked, OnText, Row, Sample, rows_for
from telos.generate._settings import GenerateSettings
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Decoder", "Precision", "begin", "check_settings", "decoder_for", "generate", "generated"]

Precision = Literal["float32", "bfloat16"]


class Decoder(ABC):
    """Makes all samples of a batch grow. Others can join it between two runs of the model, and leave it."""

    reads: ClassVar[frozenset[str]] = frozenset()
    """The tables of `GenerateSettings` that are for it and not for every decoder."""

    def __init__(
        self,
        network: Network,
        tokenizer: Tokenizer,
        rows: Sequence[Row],
        objective: Objective | None,
        window: int,
    ) -> None:
        self.network, self.tokenizer, self.rows = network, tokenizer, list(rows)
        self.objective, self.window = objective, window
        self.device = next(network.parameters()).device

    @abstractmethod
    def advance(self) -> None:
        """Run the model once: each row that is not finished gets nearer to it."""

    def goes_with(self, other: "Decoder") -> bool:
        """Whether the rows of another can grow beside these."""
        return type(self) is type(other)

    def join(self, other: "Decoder") -> None:
        """The rows of another, which goes with this one and is used no more, grow on here behind these."""
        self.rows += other.rows

    def keep(self, chosen: Sequence[int]) -> None:
        """Only these rows, by their numbers, grow on; the places of the others are free."""
        self.rows = [self.rows[index] for index in chosen]


def generate(
    network: Network,
    tokenizer: Tokenizer,
    prompts: Iterable[Asked],
    settings: GenerateSettings | None = None,
    **more: Any,
) -> list[Sample]:
    """All of `generated` at once."""
    return list(generated(network, tokenizer, prompts, settings, **more))


def generated(
    network: Network,
    tokenizer: Tokenizer,
    prompts: Iterable[Asked],
    settings: GenerateSettings | None = None,
    *,
    seed: int = 0,
    stream: OnText | None = None,
    objective: Objective | None = None,
    window: int = 0,
    decoder: str = "",
    precision: Precision = "float32",
) -> Iterator[Sample]:
    """`settings.samples` continuations of each prompt, or fillings of each gap, those of one next to each
    other; `settings.batch` are written side by side, and prompts are taken as they are needed.

    Args:
        objective: says how a prompt is put to the model, and how the model is decoded. Without one it stands
            after one begin token, as documents do, and text is made from left to right; an empty prompt is
            the begin token alone.
        seed: a sample is a function of the seed, its prompt and its number among the samples of that prompt.
        window: places that the model was built for, of which a longer source fills the last; 0 for a model
            without a limit, as recurrent ones are.
        stream: gets the text as it becomes certain; the pieces of a sample joined are its text.
        decoder: a member of this package, where it shall not be the objective's.

    Raises:
        ConfigError: the objective fills no gaps, a setting is for another decoder, or the constraint is none
            or does not go with the vocabulary or a prompt.
    """
    settings = settings or GenerateSettings()
    rows = rows_for(prompts, tokenizer, objective, settings, seed, stream)
    while batch := list(islice(rows, _at_once(settings))):
        growing = _growing(network, tokenizer, batch, settings, objective, window, decoder)
        with network.at_rest(), _autocast(growing.device, precision):
            while any(not row.finished for row in batch):
                growing.advance()
        yield from (row.sample() for row in batch)


def begin(
    network: Network,
    tokenizer: Tokenizer,
    prompts: Iterable[Asked],
    settings: GenerateSettings | None = None,
    *,
    seed: int = 0,
    stream: OnText | None = None,
    objective: Objective | None = None,
    window: int = 0,
    decoder: str = "",
) -> Decoder:
    """What `generate` lets grow, all of it side by side, before the model has run: for whoever advances it on
    his own, between other things (`network.at_rest` is then his to see to). There is at least one prompt.

    Raises:
        ConfigError: as of `generate`.
        DataError: a prompt is no text.
    """
    settings = settings or GenerateSettings()
    rows = list(rows_for(prompts, tokenizer, objective, settings, seed, stream))
    return _growing(network, tokenizer, rows, settings, objective, window, decoder)


def _growing(
    network: Network,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    settings: GenerateSettings,
    objective: Objective | None,
    window: int,
    decoder: str,
) -> Decoder:
    """Rows with what makes them grow."""
    name = decoder or _decoder_of(rows, objective, settings)
    check_settings(settings, name)
    return find(decoders, name, Decoder)(network, tokenizer, rows, objective, window)


def _at_once(settings: GenerateSettings) -> int:
    """Rows that are written side by side: a beam finds all samples of a prompt in one search."""
    if settings.beam.width == 1:
        return settings.batch
    return max(1, settings.batch // settings.samples) * settings.samples


def _decoder_of(rows: Sequence[Row], objective: Objective | None, settings: GenerateSettings) -> str:
    found = {_decoder(row, objective, settings) for row in rows}
    if len(found) > 1:
        raise ConfigError("gaps and texts to go on from need different decoders here: give them apart.")
    return found.pop()


def _decoder(row: Row, objective: Objective | None, settings: GenerateSettings) -> str:
    if row.after is not None:
        return "unmasking"
    return decoder_for(settings, objective.decoded if objective else Objective.decoded)


def decoder_for(settings: GenerateSettings, decoded: str) -> str:
    """The decoder of an objective that names `decoded`: a beam where one is asked for, in place of those that
    go from left to right."""
    return "beam" if settings.beam.width > 1 and decoded != "unmasking" else decoded


def check_settings(settings: GenerateSettings, decoder: str) -> None:
    """Refuse tables that this decoder does not read: they would do nothing.

    Raises:
        ConfigError: names the table and the decoder.
    """
    reads = find(decoders, decoder, Decoder).reads
    for name, value in settings:
        default = type(settings).model_fields[name].default
        if isinstance(value, Settings) and name not in reads and value != default:
            raise ConfigError(
                f"generate.{name} does nothing here: text of this objective is made by {decoder!r}, "
                "which has no such settings. Leave it out."
            )


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    return nullcontext() if precision == "float32" else torch.autocast(device.type, dtype=torch.bfloat16)

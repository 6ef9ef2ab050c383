"""`telos data report`: how much text there is and whether it is enough for a model, on one page.

What is asked about is a recipe, a file or folder of text (prepared first where it is not yet), a folder of
prepared data, or a run.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, get_args

from telos.config import override, read
from telos.data.card import read_card
from telos.data.prepare import Prepared, found
from telos.data.statistics import measure
from telos.data_answer import Asked, Found, markdown
from telos.data_page import page
from telos.errors import ConfigError, DataError
from telos.folder import write_text
from telos.how_much import answer
from telos.opened import RUNS, prepare, sizes_of
from telos.recipe import Recipe
from telos.report import Language
from telos.run import load_recipe
from telos.tokenizer import Tokenizer
from telos.train.display import Display, Quiet

__all__ = ["DataReport", "data_report", "measure_text"]

PAGE = "data.html"
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(e\d+)?([kmbgt]?)", re.IGNORECASE)
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


class DataReport(NamedTuple):
    """A report that was written."""

    path: Path
    """The HTML page."""
    text: str
    """The plain answer, as Markdown."""
    figures: dict[str, Any]
    """All figures, as plain data for JSON."""


def data_report(
    what: str | Path,
    changes: Iterable[str] = (),
    root: str | Path = RUNS,
    *,
    model: str = "",
    language: str = "en",
    out: str | Path | None = None,
    display: Display | None = None,
) -> DataReport:
    """Measure the training text of `what`, say whether it is enough, and write the page.

    Args:
        language: `en` or `zh`.
        out: The page that is written; by default data.html beside the data card.

    The other arguments, and what is raised, are those of `measure_text`.

    Raises:
        ConfigError: there is no such language.
        CheckpointError: the page cannot be written.
    """
    spoken = _spoken(language)
    measured = measure_text(what, changes, root, model=model, display=display)
    path = measured.folder / PAGE if out is None else Path(out)
    write_text(path, page(measured, spoken))
    return DataReport(path, markdown(measured, spoken), {"page": str(path), **measured.table()})


def measure_text(
    what: str | Path,
    changes: Iterable[str] = (),
    root: str | Path = RUNS,
    *,
    model: str = "",
    display: Display | None = None,
) -> Found:
    """What the training text of `what` is like, and how much a model wants.

    Args:
        what: A recipe's file or name, a file or folder of text, a folder of prepared data (runs/prepared/KEY)
            or of a run.
        changes: Dotted settings laid over the recipe.
        root: The folder that holds all runs: text is prepared in `root`/prepared.
        model: What the answer is for, if not the recipe's own model: the name or file of another recipe, or a
            number of parameters, `124M`.

    Raises:
        ConfigError: a setting or the model's name is wrong.
        DataError: the text cannot be read, or the prepared data is not whole.
    """
    display = display or Quiet()
    prepared, recipe = _text_of(Path(what), list(changes), Path(root), model, display)
    display.say("Measuring the text …")
    asked = _asked(model, recipe, prepared.tokenizer)
    shards = prepared.shards("train")
    if not shards.header.tokens:
        raise DataError(
            f"{prepared.folder}: the training split holds no tokens, so there is nothing to measure."
        )
    return Found(
        folder=prepared.folder,
        card=prepared.card,
        statistics=measure(shards, prepared.tokenizer),
        asked=asked,
        answer=answer(asked.parameters, shards.header.tokens, prepared.tokenizer.size),
    )


def _spoken(language: str) -> Language:
    for known in get_args(Language):
        if language == known:
            spoken: Language = known
            return spoken
    raise ConfigError(f"language = {language!r}: must be one of {', '.join(get_args(Language))}.")


def _text_of(
    what: Path, changes: list[str], root: Path, model: str, display: Display
) -> tuple[Prepared, Recipe]:
    """The prepared text, and the recipe whose model it is for."""
    if (what / "whole.json").is_file() and (what / "card.json").is_file():
        ready = found(what.absolute().parent, what.absolute().name)
        if ready is None:
            read_card(what)  # says more, if it is the card
            raise DataError(f"{what}: the prepared data is damaged. Delete the folder and prepare again.")
        return ready, _recipe_for(what, changes)
    if (what / "recipe.toml").is_file():
        what = what / "recipe.toml"
    recipe = load_recipe(what, changes)
    return prepare(recipe, root, display=display), recipe


def _recipe_for(text: Path, changes: list[str]) -> Recipe:
    """The default recipe, with settings laid over it, as if for this text."""
    return read(Recipe, override({"data": {"path": str(text)}}, changes), "settings")


def _asked(model: str, recipe: Recipe, tokenizer: Tokenizer) -> Asked:
    """The model that the answer is for: a number of parameters, another recipe's, or the recipe's own."""
    if number := _NUMBER.fullmatch(model.replace(",", "").replace("_", "")):
        value, power, unit = number.groups()
        parameters = round(float(value + (power or "")) * _UNITS[unit.lower()])
        if parameters < 1:
            raise ConfigError(f"model = {model!r}: must have at least one parameter.")
        return Asked(name=model, parameters=parameters)
    chosen = _other(model) if model else recipe
    sizes = sizes_of(chosen, tokenizer)
    budget = chosen.train.budget
    return Asked(
        name=f"{chosen.name} ({chosen.model.name})",
        parameters=chosen.model.parameter_count(sizes),
        vocabulary_parameters=_of_vocabulary(chosen, tokenizer.size),
        objective=chosen.objective.name,
        window=chosen.train.window,
        planned=budget.epochs
        if budget.epochs and budget.minutes is budget.steps is budget.tokens is None
        else None,
    )


def _other(model: str) -> Recipe:
    """The recipe of that name or file, whatever text it is for."""
    return load_recipe(model, ['data={path="."}'])


def _of_vocabulary(recipe: Recipe, size: int) -> int | None:
    """How many parameters there are for the vocabulary alone: what one token more would cost, times all. Not
    known of a vocabulary in groups, whose tokens cost differently."""
    if recipe.loss.cutoffs:
        return None

    def count(vocabulary: int) -> int:
        sizes = sizes_of(recipe, _Sized(vocabulary))  # type: ignore[arg-type]
        parameters: int = recipe.model.parameter_count(sizes)
        return parameters

    return size * (count(size + 1) - count(size))


class _Sized(NamedTuple):
    """As much of a vocabulary as the sizes of a model are made from."""

    size: int

"""A recipe: all that a run is, as one class of settings.
Together with the text it decides every number that comes out."""

from collections.abc import Mapping
from typing import Any, final

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from telos import models, objectives
from telos.config import Settings, member, read
from telos.data.settings import DataSettings
from telos.errors import ConfigError, TelosError
from telos.evaluate.likelihood import EvaluateSettings
from telos.find import find, names
from telos.generate._base import check_settings, decoder_for
from telos.generate._settings import GenerateSettings
from telos.losses import LossSettings
from telos.models._base import Model
from telos.objectives._base import Learned, Objective, Partner
from telos.tokenizer import TokenizerSettings
from telos.train.settings import TrainSettings
from telos.train.tune import TuneSettings

__all__ = ["VERSION", "Recipe", "models_that_fit", "objectives_that_use"]

VERSION = 1
"""Raised when a recipe that an older Telos wrote would mean something else."""


@final
class Recipe(Settings):
    """A run: data, a vocabulary, an objective, a model and a budget."""

    version: int = Field(VERSION, ge=1)
    """Of the recipe's format."""
    name: str = "run"
    """The run's folder is runs/NAME."""
    seed: int = Field(0, ge=0, lt=1 << 63)
    """Decides first weights, order of the text, dropout and samples."""
    objective: member(objectives, Objective, "causal") = Field(  # type: ignore[valid-type]
        "causal", validate_default=True
    )
    """A file name in objectives/ and its settings."""
    data: DataSettings
    """Where the text is, how it is cleaned and split."""
    tokenizer: TokenizerSettings = TokenizerSettings()
    """The vocabulary."""
    model: member(models, Model, "decoder") = Field(  # type: ignore[valid-type]
        "decoder", validate_default=True
    )
    """A file name in models/ and its settings."""
    loss: LossSettings = LossSettings()
    """Modifiers of the loss in training."""
    train: TrainSettings = TrainSettings()
    """Budget, optimizer, schedule, what is done on the way."""
    tune: TuneSettings = TuneSettings()
    """What of a model that was trained before is trained on."""
    evaluate: EvaluateSettings = EvaluateSettings()
    """How held-out text is scored."""
    generate: GenerateSettings = GenerateSettings()
    """How samples are drawn."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_newer(cls, given: Any) -> Any:
        """Before anything else: a newer recipe may well hold keys that are unknown here."""
        version = given.get("version", VERSION) if isinstance(given, dict) else VERSION
        if isinstance(version, int) and version > VERSION:
            known = f"which knows recipes up to version {VERSION}"
            hint = f"{version} is newer than this Telos, {known}. Upgrade Telos."
            raise PydanticCustomError("telos", "{hint}", {"key": "version", "hint": hint})
        return given

    @model_validator(mode="before")
    @classmethod
    def _begin_from(cls, given: Any) -> Any:
        """`model = { from = "FOLDER" }` stands for the description and the vocabulary that are there."""
        try:
            return _resolved(given)
        except TelosError as error:
            raise PydanticCustomError("telos", "{hint}", {"key": "model.from", "hint": str(error)}) from None

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if not name:
            raise ValueError("must not be empty: it is the name of the run's folder, runs/NAME")
        letters = name.replace("-", "").replace("_", "").replace(".", "")
        if (
            not letters.isalnum()
            or name.startswith((".", "-"))
            or name == "prepared"
            or len(name.encode()) > 200
        ):
            raise ValueError(
                'must be letters, digits, "-", "_" and ".", and not "prepared": a folder is called so'
            )
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        self._check_sight()
        self._check_windows()
        self._check_blocks()
        self._check_tuned()
        try:
            check_settings(self.generate, decoder_for(self.generate, self.objective.decoded))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        for name, partner in self.objective.partners().items():
            if not partner.run:
                self._check_partner(name, partner)
        return self

    def _check_partner(self, name: str, partner: Partner) -> None:
        try:
            self.model_of(name, partner)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def model_of(self, name: str, partner: Partner) -> Model:
        """What an objective's other model is, where it is no finished run's: its settings over the model's.

        Raises:
            ConfigError: its settings are wrong, or it cannot read the rows of the main one.
        """
        model: Model = self.model
        if partner.model is not None:
            rest = dict(partner.model)
            kind = str(rest.pop("name", model.name))
            as_it_is = model.model_copy(update={"origin": None, "vectors": None}).table()
            table = {**(as_it_is if kind == model.name else {}), **rest}
            model = read(find(models, kind, Model), table, f"objective.{name}")
        missing = self.objective.requires() - model.gives
        if missing:
            raise ConfigError(
                f"objective.{name}.name = {model.name!r}: must give {', '.join(sorted(missing))}, as model = "
                f"{self.model.name!r} does."
            )
        return model

    def informed(self, classes: Mapping[str, Mapping[str, int]]) -> "Recipe":
        """With what is known only once the text is prepared: see `Objective.informed`.

        Raises:
            DataError: the classes of the text cannot be learned.
        """
        return self.model_copy(update={"objective": self.objective.informed(classes)})

    def _check_sight(self) -> None:
        missing = self.objective.requires() - self.model.gives
        if missing:
            fit = models_that_fit(self.objective)
            instead = f"These models do: {', '.join(fit)}." if fit else "No model here does."
            raise ValueError(
                f"objective = {self.objective.name!r} needs a model that gives {_listed(missing)}; "
                f"model = {self.model.name!r} gives {_listed(self.model.gives)}. {instead}"
                f"{self.objective.otherwise(self.model.gives)}"
            )
        idle = self.model.needs - self.objective.requires()
        if idle:
            fit = objectives_that_use(self.model.needs)
            instead = f"These do: {', '.join(fit)}." if fit else "None here does."
            raise ValueError(
                f"model = {self.model.name!r} needs an objective with {_listed(idle)}, or a part of it would "
                f"lie idle; objective = {self.objective.name!r} has none. {instead}"
            )
        for capability, cure in self.model.lacks().items():
            if capability in self.objective.requires():
                raise ValueError(
                    f"objective = {self.objective.name!r} needs a model that gives {capability}: set {cure}."
                )
        if self.train.loader.carry and "carries" not in self.model.gives:
            raise ValueError(
                f"train.loader.carry: model = {self.model.name!r} has no state that goes on from "
                "window to window. Leave it out, or take one of: "
                f"{', '.join(_giving({'carries'})) or 'none here'}."
            )

    def _check_blocks(self) -> None:
        if self.train.compute.recompute and not self.model.recomputes:
            instead = [name for name in names(models) if find(models, name, Model).recomputes]
            raise ValueError(
                f"train.compute.recompute: model = {self.model.name!r} has no blocks that could be computed "
                f"again. Leave it out, or take one of: {', '.join(instead)}."
            )
        if self.train.compute.compile is True and not self.model.compiles:
            raise ValueError(
                f"train.compute.compile: model = {self.model.name!r} is not made of blocks that can be "
                "compiled, with these settings. Leave it out."
            )

    def _check_tuned(self) -> None:
        if self.tune.only == "all":
            return
        if self.model.origin is None:
            raise ValueError(
                f"tune.only = {self.tune.only!r}: most of the model stays as it begins, and it begins with "
                "random numbers. Say what was trained before: model.from=FOLDER"
            )
        beside = [name for name, partner in self.objective.partners().items() if not partner.run]
        if beside:
            raise ValueError(
                f"tune.only = {self.tune.only!r}: objective = {self.objective.name!r} trains another model "
                f"beside this one ({beside[0]}), and the two learn together or not at all. Leave tune.only "
                "out, or take another objective."
            )

    def _check_windows(self) -> None:
        try:
            self.objective.cut(self.train.window)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        window = self.evaluate.window or self.train.window
        if window > self.train.window and "carries" not in self.model.gives:
            raise ValueError(
                f"evaluate.window = {window} is more than train.window = {self.train.window}, "
                f"which is as far as model = {self.model.name!r} has places."
            )
        if self.evaluate.stride > window:
            raise ValueError(
                f"evaluate.stride = {self.evaluate.stride} is more than the window of {window}: tokens would "
                "be left out"
            )


def _resolved(given: Any) -> Any:
    """The recipe with what its `model.from` stands for written out; as it is where that was done before."""
    model = given.get("model") if isinstance(given, Mapping) else None
    if not isinstance(model, Mapping):
        return given
    origin = model.get("from")
    origin = {"source": origin} if isinstance(origin, str) else origin
    if not isinstance(origin, Mapping) or not isinstance(origin.get("source"), str) or origin.get("content"):
        return given
    from telos.origin import describe

    adapter = origin.get("adapter", "")
    if not isinstance(adapter, str):
        return given
    found = describe(origin["source"], adapter)
    if model.get("name", found.model["name"]) != found.model["name"]:
        raise ConfigError(
            f"what is there is a {found.model['name']}, not a {model['name']}: leave the name out."
        )
    tokenizer = given.get("tokenizer") or found.tokenizer
    if "path" not in tokenizer:
        raise ConfigError(
            "the vocabulary comes with the model: leave [tokenizer] out, or set tokenizer.path to a file "
            "with the same tokens."
        )
    described = {**found.model, **model, "from": {**origin, "content": found.content}}
    if found.classes is not None and "objective" in given:
        given = {**given, "objective": _knowing(given["objective"], found.classes)}
    return {**given, "tokenizer": tokenizer, "model": described}


def _knowing(given: Any, head: Learned) -> Any:
    """An objective, and those that it is made `of`, as a recipe gives them, with what a head for classes that
    comes with the model decides; as they are where they are no objectives."""
    if isinstance(given, list):
        return [_knowing(each, head) for each in given]
    table = {"name": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping) or table.get("name") not in names(objectives):
        return given
    inner = {"of": _knowing(table["of"], head)} if "of" in table else {}
    return find(objectives, table["name"], Objective).knowing({**table, **inner}, head)


def models_that_fit(objective: Objective) -> list[str]:
    """The models that give all that an objective requires."""
    required = objective.requires()
    return [name for name in names(models) if find(models, name, Model).serves(required)]


def objectives_that_use(needed: frozenset[str]) -> list[str]:
    """The objectives that, as they are by default, make use of all these capabilities."""
    kinds = {name: find(objectives, name, Objective) for name in names(objectives)}
    whole = {n: k for n, k in kinds.items() if not any(f.is_required() for f in k.model_fields.values())}
    return [name for name, kind in whole.items() if needed <= kind().requires()]


def _giving(required: frozenset[str] | set[str]) -> list[str]:
    return [name for name in names(models) if required <= find(models, name, Model).gives]


def _listed(capabilities: frozenset[str]) -> str:
    return ", ".join(sorted(capabilities)) or "nothing"

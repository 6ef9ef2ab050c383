"""The settings of training."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from telos import optim
from telos.config import Settings, member
from telos.data.loader import Documents, LoaderPlan, LoaderSettings, Makes
from telos.errors import ConfigError
from telos.optim._base import Optimizer
from telos.optim._schedule import ScheduleSettings
from telos.tokenizer import Tokenizer
from telos.train.defaults import expected, passes, rows
from telos.train.log import LogSettings

__all__ = ["BudgetSettings", "ComputeSettings", "TrainSettings", "WatchSettings"]


class BudgetSettings(Settings):
    """When training ends: at the first of these that is reached."""

    steps: int | None = Field(None, ge=1)
    """Optimizer steps."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the training split."""
    tokens: int | None = Field(None, ge=1)
    """Tokens read, padding left out."""
    minutes: float | None = Field(None, gt=0)
    """Minutes of training over all attempts, evaluation and saving left out."""

    @model_validator(mode="after")
    def _ends(self) -> "BudgetSettings":
        if not any(value is not None for value in (self.steps, self.epochs, self.tokens, self.minutes)):
            raise ValueError("needs at least one of steps, epochs, tokens, minutes: when shall training end?")
        return self

    def share(self, *, steps: int, epochs: float, tokens: int, minutes: float) -> float:
        """The share of the budget that is used: 1 or more at the end."""
        used = [(steps, self.steps), (epochs, self.epochs), (tokens, self.tokens), (minutes, self.minutes)]
        return max(amount / limit for amount, limit in used if limit is not None)


class WatchSettings(Settings):
    """What is done now and then while a run trains, counted in steps."""

    evaluate_every: int = Field(500, ge=0)
    """Steps between evaluations on the validation split; 0 for at the end only."""
    checkpoint_every: int = Field(500, ge=0)
    """Steps between checkpoints; 0 for at the end only."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints that stay; the best on validation stays as well."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of `metrics.jsonl`."""
    stop_after_bad: int = Field(10, ge=1)
    """Steps in a row with a non-finite loss or gradient after which the run stops; fewer are skipped."""
    log: LogSettings = LogSettings()
    """Where figures go beside `metrics.jsonl`."""


class ComputeSettings(Settings):
    """How a step is computed."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What matrix products are computed in; "auto" takes bfloat16 where the hardware multiplies in it."""
    micro_batch: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Rows that go through the model at once; 0 for all. "auto" takes all, or where memory is short as many
    as fit, measured when the run begins and kept from then on. Changes nothing but rounding."""
    recompute: bool = False
    """Blocks keep only what goes into them and are computed again for the gradient (Chen et al., 2016): less
    memory, more time, the same result to the bit. Not for recurrent models."""
    compile: Literal["auto"] | bool = "auto"
    """Blocks are compiled in training: less time, and the same but for rounding, which is checked before the
    first step. "auto" does so where the run is long enough to win back what it takes."""
    clip: float = Field(1.0, ge=0)
    """Largest norm of the gradient (Pascanu et al., 2013); longer ones are shortened to it, 0 for never."""


class TrainSettings(Settings):
    """How a model is trained."""

    window: int = Field(256, ge=1)
    """Places in a row: the longest context that is trained."""
    batch: int | None = Field(None, ge=1)
    """Rows in a step. By default they follow from the budget: few tokens want small steps."""
    budget: BudgetSettings = BudgetSettings(epochs=4.0)
    """When training ends."""
    optimizer: member(optim, Optimizer, "adamw") = Field(  # type: ignore[valid-type]
        "adamw", validate_default=True
    )
    """A file name in optim/ and its settings."""
    schedule: ScheduleSettings = ScheduleSettings()
    """How the learning rate moves."""
    compute: ComputeSettings = ComputeSettings()
    """Precision, micro-batches, clipping."""
    watch: WatchSettings = WatchSettings()
    """Evaluation, checkpoints and logs on the way."""
    loader: LoaderSettings = LoaderSettings()
    """How batches are made."""

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainSettings":
        rows = self.compute.micro_batch
        if self.batch is not None and rows != "auto" and rows > self.batch:
            raise ValueError(_too_many(rows, self.batch))
        return self

    def plan(
        self,
        *,
        corpus: Documents,
        objective: Makes,
        tokenizer: Tokenizer,
        seed: int,
        gives: frozenset[str],
        tokens: int = 0,
        pace: float = 0.0,
        sources: tuple[str, ...] = (),
    ) -> LoaderPlan:
        """The loader's plan, for a text of so many tokens of which a minute trains on `pace` (0: not known),
        from sources of these names, and a model that gives these capabilities.

        Raises:
            ConfigError: state is to be carried by a model that has none, a step has fewer rows than shall go
            through the model at once, or the sources cannot be mixed as the settings say.
        """
        if self.loader.carry and "carries" not in gives:
            raise ConfigError(
                "train.loader.carry: this model has no state that goes on from window to window. "
                "Leave it out, or take a recurrent model."
            )
        budget = expected(self.budget, pace)
        batch = rows(budget, self.window, tokens) if self.batch is None else self.batch
        at_once = 0 if self.compute.micro_batch == "auto" else self.compute.micro_batch
        if at_once > batch:
            raise ConfigError(f"train: {_too_many(at_once, batch)}")
        plan = LoaderPlan(
            corpus=corpus,
            objective=objective,
            tokenizer=tokenizer,
            window=self.window,
            batch=batch,
            micro_batch=at_once,
            seed=seed,
            packed="packed" in gives,
            pace=pace,
            settings=self.loader,
            sources=sources,
        )
        if self.loader.mix is None or not self.loader.mix.needs_length:
            return plan
        return replace(plan, passes=passes(self.budget, plan))


def _too_many(rows: int, batch: int) -> str:
    return (
        f"compute.micro_batch = {rows} rows is more than batch = {batch}: "
        "a step is cut into micro-batches. Lower it, or raise batch."
    )

"""The learning rate over a run, as a factor of its peak: a function of the step and the budget used.

    factor = warm-up(step) · course(progress)

    wsd         1, then straight down to final over the last `decay` share   (Hu et al., 2024)
    cosine      final + (1 − final) · (1 + cos π·progress) / 2               (Loshchilov and Hutter, 2017)
    constant    1

The warm-up is a factor and not a stretch of its own, because a budget in minutes does not say in advance at
which share of it a step will come. For the same reason the course depends on the budget alone: to stop early,
or to stop and go on, leaves every step's rate as it was.
"""

import math
from typing import Literal

from pydantic import Field, model_validator

from telos.config import Settings

__all__ = ["ScheduleSettings", "rate_at"]


class ScheduleSettings(Settings):
    """How the learning rate goes, and whether what comes of it is averaged."""

    kind: Literal["wsd", "cosine", "constant"] = "wsd"
    """The course after the warm-up: level and then straight down, a half cosine, or level to the end."""
    warmup: float = Field(0.05, ge=0)
    """Steps until the rate is full; below 1, the share of the budget."""
    final: float = Field(0.0, ge=0, le=1)
    """Where the rate ends, as a share of its peak; a constant rate does not end."""
    decay: float = Field(0.2, gt=0, le=1)
    """Share of the budget over which a warm-up–stable–decay schedule goes down."""
    average: float | None = Field(None, ge=0, le=0.5)
    """Evaluate and use an average of the weights that stands back this share of the steps so far; 0 for none.
    By default none; 0.1 for a constant rate, or a budget of more than 8 passes over the text."""

    @model_validator(mode="after")
    def _settings_count(self) -> "ScheduleSettings":
        if self.kind != "wsd" and self.decay != 0.2:
            raise ValueError(
                f'decay does nothing with kind = "{self.kind}"; set kind = "wsd" or leave it out'
            )
        if self.kind == "constant" and self.final != 0.0:
            raise ValueError('final does nothing with kind = "constant"; set another kind or leave it out')
        return self


def rate_at(settings: ScheduleSettings, step: int, progress: float) -> float:
    """Factor of the peak rate for `step` (from 0), before which the share `progress` of the budget was used.

    A warm-up of w steps gives 1/w at step 0 and 1 from step w − 1 on. A warm-up of a share starts at a
    hundredth, so that no step is without effect. The course reaches `final` at progress 1, which is one step
    after the last.
    """
    return _warmth(settings.warmup, step, progress) * _course(settings, min(max(progress, 0.0), 1.0))


def _warmth(warmup: float, step: int, progress: float) -> float:
    if warmup >= 1:
        return min(1.0, (step + 1) / warmup)
    return min(1.0, max(progress / warmup, 0.01)) if warmup else 1.0


def _course(settings: ScheduleSettings, progress: float) -> float:
    if settings.kind == "cosine":
        return settings.final + (1 - settings.final) * (1 + math.cos(math.pi * progress)) / 2
    if settings.kind == "wsd":
        return 1 - (1 - settings.final) * max(0.0, (progress - (1 - settings.decay)) / settings.decay)
    return 1.0

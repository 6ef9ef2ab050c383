"""How text is drawn."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from telos.config import Lax, Settings

__all__ = [
    "BeamSettings",
    "ConstraintSettings",
    "DrawSettings",
    "FormName",
    "GenerateSettings",
    "UnmaskSettings",
]

FormName = Literal["wujue", "wulü", "qijue", "qilü"]
"""五绝 五律 七绝 七律."""


class UnmaskSettings(Settings):
    """How hidden text is found, for objectives that are decoded by unmasking."""

    steps: int = Field(0, ge=0)
    """Runs of the model for each block, each finding about as many tokens; 0 for one token each."""
    order: Literal["confidence", "random"] = "confidence"
    """Which are found next: those of which the model is surest (Chang et al., 2022), or any."""
    block: int = Field(0, ge=0)
    """Tokens that are found side by side before the next ones are begun; 0 for as many as there is room."""


class ConstraintSettings(Settings):
    """What text must be like, for decoders that write from left to right: a token is drawn only if what is
    said with it can still become such a text (Willard and Louf, 2023). One of them at most."""

    regex: str = ""
    """A regular expression that the whole of what is generated matches; syntax of Rust's crate `regex`,
    without looking around."""
    choices: Annotated[tuple[str, ...], Lax] = ()
    """Texts of which what is generated is one."""
    form: Literal["", "wujue", "wulü", "qijue", "qilü"] = ""
    """A form of Chinese poetry, for prompt and text together: 五绝 (four verses of five characters), 五律
    (eight of five), 七绝 (four of seven) or 七律 (eight of seven). Neither tone nor rhyme."""

    @field_validator("choices")
    @classmethod
    def _choices_say_something(cls, choices: tuple[str, ...]) -> tuple[str, ...]:
        if "" in choices:
            raise ValueError("a choice must not be empty")
        return choices

    @model_validator(mode="after")
    def _one_at_most(self) -> "ConstraintSettings":
        given = [name for name, value in self if value]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} each say what the text must be like; leave all but one out"
            )
        return self


class BeamSettings(Settings):
    """How the most probable texts are searched for, in place of drawing them."""

    width: int = Field(1, ge=1, le=1024)
    """Texts that are kept while they grow; 1 draws text and does not search."""
    length_penalty: float = 1.0
    """Texts are ranked by Σ log q / length^α, tokens counted with the end token: 0 prefers short texts, 1
    their mean (Wu et al., 2016)."""


class DrawSettings(Settings):
    """How a token is drawn. The cuts act in the order top_k, top_p, min_p, each on what the one before
    left."""

    temperature: float = Field(1.0, ge=0)
    """Logits are divided by it: below 1 bolder, above 1 wilder. 0 takes the most probable token always."""
    top_k: int = Field(0, ge=0)
    """Only the k most probable tokens are drawn from; 0 for all (Fan et al., 2018)."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Only the fewest, most probable tokens whose probability together reaches p (Holtzman et al., 2020)."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Only tokens at least this share as probable as the most probable one (Nguyen et al., 2024)."""


class GenerateSettings(DrawSettings):
    """How text is made. The cuts of what is drawn act in the order top_k, top_p, min_p, each on what the one
    before left."""

    length: int = Field(200, ge=1)
    """Tokens to draw at most."""
    stop: Annotated[tuple[str, ...], Lax] = ()
    """Strings at which a sample ends; the string itself is left out."""
    samples: int = Field(1, ge=1)
    """Samples per prompt."""
    batch: int = Field(64, ge=1)
    """Samples that are written side by side: changes time and memory, never the text but for rounding."""
    unmask: UnmaskSettings = UnmaskSettings()
    beam: BeamSettings = BeamSettings()
    """The most probable texts in place of drawn ones."""
    constraint: ConstraintSettings = ConstraintSettings()

    @model_validator(mode="after")
    def _beam_fits(self) -> "GenerateSettings":
        if self.beam.width == 1:
            if self.beam.length_penalty != 1.0:
                raise ValueError("beam.length_penalty does nothing with beam.width = 1; leave it out")
            return self
        if self.samples > self.beam.width:
            raise ValueError(
                f"samples = {self.samples}: a beam of {self.beam.width} finds at most so many texts"
            )
        idle = [
            name for name, field in DrawSettings.model_fields.items() if getattr(self, name) != field.default
        ]
        if idle:
            raise ValueError(f"{idle[0]} does nothing with a beam, which draws nothing; leave it out")
        return self

    @field_validator("stop")
    @classmethod
    def _stop_says_something(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("a stop string must not be empty: it would end every sample at once")
        return stop

"""What clients may ask, as OpenAI's interface has it. What is not known is refused, as there; what is known
and cannot be done is refused with the reason, but for values that ask for nothing."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from telos.turns import Turn

__all__ = [
    "ChatRequest",
    "ClassifyRequest",
    "CompletionRequest",
    "EmbeddingRequest",
    "Message",
    "ScoreRequest",
    "TextRequest",
    "TranslateRequest",
]

TOP = 20
"""Alternatives to a token, at most."""
_SEED = 1 << 63


class Request(BaseModel):
    """What all requests have."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str
    user: str | None = None
    """Taken, and not used."""


class StreamOptions(BaseModel):
    """What a stream holds beside text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False
    """Taken, and not used."""


class TextRequest(Request):
    """A request for text. Where nothing is said of how it is drawn, it is as the run's recipe says."""

    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-_SEED, lt=_SEED)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        several = [stop] if isinstance(stop, str) else stop or []
        if len(several) > 16 or any(not 0 < len(each) <= 1000 for each in several):
            raise ValueError("at most 16 texts of 1 to 1000 characters")
        return stop

    @field_validator("presence_penalty", "frequency_penalty", "logit_bias")
    @classmethod
    def _asks_for_nothing(cls, value: Any) -> Any:
        if value:
            raise ValueError("is not supported here; leave it out")
        return value

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> "TextRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for streams: set stream")
        return self

    @property
    def stops(self) -> list[str] | None:
        """Texts that end a sample."""
        return [self.stop] if isinstance(self.stop, str) else self.stop


class CompletionRequest(TextRequest):
    """`POST /v1/completions`."""

    prompt: str | list[str] = ""
    suffix: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    logprobs: int | None = Field(None, ge=0, le=TOP)
    echo: bool | None = None
    best_of: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _goes_together(self) -> "CompletionRequest":
        if self.best_of not in (None, 1, self.n or 1):
            raise ValueError("best_of is not supported here; leave it out")
        if self.logprobs is not None and (self.stream or self.echo):
            raise ValueError("logprobs are for whole answers without echo; POST /v1/score scores given texts")
        if self.suffix is not None and self.echo:
            raise ValueError("echo does not go with suffix")
        return self


class Part(BaseModel):
    """Of a message."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None

    def turn(self) -> Turn:
        """As models are trained on it."""
        parts = [part.text for part in self.content] if isinstance(self.content, list) else [self.content]
        return Turn("system" if self.role == "developer" else self.role, "".join(parts).strip())


class ChatRequest(TextRequest):
    """`POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None

    @field_validator("logprobs", "top_logprobs", "tools")
    @classmethod
    def _no_more(cls, value: Any) -> Any:
        if value:
            raise ValueError("is not supported here; leave it out")
        return value

    @field_validator("response_format")
    @classmethod
    def _text_alone(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value not in (None, {"type": "text"}):
            raise ValueError("only text is supported here")
        return value


class EmbeddingRequest(Request):
    """`POST /v1/embeddings`."""

    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @field_validator("dimensions")
    @classmethod
    def _as_they_are(cls, value: int | None) -> int | None:
        if value is not None:
            raise ValueError("is not supported here: the states of a model are as wide as they are")
        return value


class ScoreRequest(Request):
    """`POST /v1/score`."""

    input: str | list[str]
    top: int = Field(0, ge=0, le=TOP)
    """Alternatives to each token."""


class TranslateRequest(Request):
    """`POST /v1/translate`."""

    input: str | list[str]
    n: int = Field(1, ge=1)
    """Translations of each text."""
    beam: int | None = Field(None, ge=1, le=64)
    """Hypotheses that are kept; by default as many as the run says."""


class ClassifyRequest(Request):
    """`POST /v1/classify`."""

    input: str | list[str]
    threshold: float | None = Field(None, ge=0, le=1)
    """A label that is less probable is not given."""

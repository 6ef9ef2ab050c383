"""What a server does and how much of it: where it listens, how much it does at once, what it refuses."""

from typing import Annotated

from pydantic import Field

from telos.config import Lax, Settings

__all__ = ["Limits", "ServeSettings"]


class Limits(Settings):
    """What one client can ask for, and all of them together."""

    body: int = Field(1 << 20, ge=1 << 10)
    """Bytes of a request."""
    prompt: int = Field(8192, ge=1)
    """Tokens of one text that is given."""
    tokens: int = Field(2048, ge=1)
    """Tokens of one text that is made."""
    inputs: int = Field(64, ge=1)
    """Texts in one request: those given, times the answers wanted to each."""
    requests: int = Field(64, ge=1)
    """Requests under way at a time; more are told to come again."""
    seconds: float = Field(120.0, gt=0)
    """Of one request, from its first byte to the last of its answer."""
    unread: int = Field(512, ge=1)
    """Pieces of text that wait for a client that does not read them; then it is given up."""


class ServeSettings(Settings):
    """Where a server listens and how it works."""

    host: str = Field("127.0.0.1", min_length=1)
    """The address that it listens at; any but a loopback address needs a key."""
    port: int = Field(8000, ge=0, le=65535)
    """0 takes any that is free."""
    names: Annotated[tuple[str, ...], Lax] = ()
    """Names beside the host's under which a browser may ask for it, where no key is needed."""
    batch: int = Field(32, ge=1)
    """Texts of one model that grow side by side; 1 serves one request after the other."""
    drain: float = Field(30.0, ge=0)
    """Seconds that requests under way have to end, once the server is told to stop."""
    patience: float = Field(10.0, gt=0)
    """Seconds that a client has to say the whole of what it asks."""
    limits: Limits = Limits()

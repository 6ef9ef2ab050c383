"""How `unmasking` goes about it: apart, because the settings of generation hold it and it needs them."""

from typing import Literal

from pydantic import Field

from telos.config import Settings

__all__ = ["UnmaskSettings"]


class UnmaskSettings(Settings):
    """How hidden text is found, for objectives that are decoded by unmasking."""

    steps: int = Field(0, ge=0)
    """Runs of the model for each block, each finding about as many tokens; 0 for one token each."""
    order: Literal["confidence", "random"] = "confidence"
    """Which are found next: those of which the model is surest (Chang et al., 2022), or any."""
    block: int = Field(0, ge=0)
    """Tokens that are found side by side before the next ones are begun; 0 for as many as there is room."""

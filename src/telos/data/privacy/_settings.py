"""What the recipe says about personal data."""

from pathlib import Path
from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from telos.config import Lax, Settings
from telos.data import privacy
from telos.find import names, suggestion

__all__ = ["PrivacySettings"]


@final
class PrivacySettings(Settings):
    """What becomes of personal data in the text: e-mail addresses, phone numbers, national ids,
    card numbers, keys … Scrubbing reduces a risk; it is no guarantee."""

    action: Literal["off", "replace", "drop"] = "off"
    """`replace` what is found, or `drop` every document
    that has some. The data card counts it by kind."""
    kinds: Annotated[tuple[str, ...], Lax] = ()
    """Members of `telos/data/privacy/`; empty: all of them."""
    replacement: Literal["tag", "mask", "fake"] = "tag"
    """`tag`: `[EMAIL]`. `mask`: `*` for each letter and digit. `fake`: a stand-in, the same for the same
    datum wherever it is found, from a reserved range where there is one (`user7@example.com`), else a
    numbered tag."""
    seed: int = Field(0, ge=0, lt=1 << 64)
    """Decides the stand-ins of `fake`. Who knows it can test
    guesses of what a stand-in was."""
    names: Annotated[Path, Lax] | None = None
    """Folder of a token classification model in the form of Hugging Face, which finds names of persons.
    Without one, names are not looked for."""

    @model_validator(mode="after")
    def _known(self) -> "PrivacySettings":
        known = names(privacy)
        for kind in self.kinds:
            if kind not in known:
                hint = suggestion(kind, known)
                raise ValueError(
                    f"there is no kind {kind!r} of personal data.{hint} There are: {', '.join(known)}."
                )
        if "name" in self.kinds and self.names is None:
            raise ValueError('kinds has "name": names must say in which folder the model is')
        return self

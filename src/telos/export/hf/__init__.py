"""Hugging Face's folders, both ways: one file per architecture, called as config.json calls it."""

from pathlib import Path
from typing import Any, final

from telos.export._base import Format, Trained

__all__ = ["Hf"]


@final
class Hf(Format):
    """A folder that `AutoModel…from_pretrained` and `AutoTokenizer.from_pretrained` load as it is."""

    def write(self, trained: Trained, folder: Path) -> dict[str, Any]:
        from telos.export.hf._write import write

        return write(trained, folder)

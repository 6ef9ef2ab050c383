"""Names of persons, found by a model: token classification from a local folder (Hugging Face's form)."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

from telos.data.privacy._base import Kind, Span
from telos.data.privacy._settings import PrivacySettings
from telos.data.privacy._view import View
from telos.errors import ConfigError

__all__ = ["Name"]

_STRIDE = 32
"""Tokens that neighbouring windows share, at most."""


@final
class Name(Kind):
    """What the model labels as a person: `PER` or `PERSON`, after `B-`, `I-` and the like."""

    priority: ClassVar[int] = 5

    def __init__(self, settings: PrivacySettings) -> None:
        assert settings.names is not None
        self._folder = settings.names

    def __getstate__(self) -> dict[str, Path]:
        return {"_folder": self._folder}

    def spans(self, view: View) -> Iterator[Span]:
        """See `Kind.spans`. Names that touch are one; a token is judged in the window where it is farthest
        from an end."""
        if not view.text.strip():
            return
        begin = end = -1
        for first, last in sorted(self._persons(view)):
            if end >= 0 and view.text[end:first].strip(" ·•.") == "" and first - end <= 2:
                end = last
                continue
            if end > begin:
                yield begin, end
            begin, end = first, last
        if end > begin:
            yield begin, end

    def _persons(self, view: View) -> Iterator[Span]:
        import torch

        tokenizer, network, persons = self._model
        size = min(tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", 512), 512)
        stride = min(_STRIDE, size // 4)
        parts = tokenizer(
            view.text,
            truncation=True,
            max_length=size,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        best: dict[Span, tuple[int, bool]] = {}
        for ids, mask, offsets in zip(
            parts["input_ids"], parts["attention_mask"], parts["offset_mapping"], strict=True
        ):
            with torch.inference_mode():
                logits = network(torch.tensor([ids]), attention_mask=torch.tensor([mask])).logits[0]
            labels = logits.argmax(-1).tolist()
            for place, (label, (first, last)) in enumerate(zip(labels, offsets, strict=True)):
                depth = min(place, len(ids) - place)
                if first < last and depth > best.get((first, last), (-1, False))[0]:
                    best[first, last] = depth, label in persons
        yield from (span for span, (_, person) in best.items() if person)

    @cached_property
    def _model(self) -> tuple[Any, Any, frozenset[int]]:
        """Tokenizer, network, and the labels of persons.

        Raises:
            ConfigError: the package is not there, or the folder has no such model.
        """
        try:
            from transformers import AutoModelForTokenClassification, AutoTokenizer
        except ImportError:
            raise ConfigError("privacy.names needs a package more: pip install 'telos-lm[hf]'") from None
        if not (self._folder / "config.json").is_file():
            raise ConfigError(
                f"privacy.names: {self._folder} has no config.json: give the folder of a model."
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
            network = AutoModelForTokenClassification.from_pretrained(
                self._folder, local_files_only=True
            ).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(f"privacy.names: the model in {self._folder} cannot be read: {error}") from None
        persons = frozenset(
            int(label)
            for label, name in network.config.id2label.items()
            if name.upper().rpartition("-")[2] in ("PER", "PERSON")
        )
        if not persons or not tokenizer.is_fast:
            raise ConfigError(
                f"privacy.names: {self._folder} must have a label PER or PERSON (it has "
                f"{', '.join(network.config.id2label.values())}) and a tokenizer.json."
            )
        return tokenizer, network, persons

"""Adapters as peft writes them, read: what each adds to a matrix of a model is added to it.

    W + scale · lora_B · lora_A        scale = lora_alpha / r, with use_rslora lora_alpha / √r

adapter_config.json says what kind of adapter it is; a kind that is not known here is refused by name.
adapter_model.safetensors has lora_A (rank, inward) and lora_B (outward, rank) of modules, and modules that
were trained whole (modules_to_save), which take the place of the model's.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from telos.errors import ConfigError, DataError
from telos.export.hf._base import Architecture, Pair, figure, integer
from telos.json_files import read_object

__all__ = ["FRONT", "Adapter", "files", "is_adapter", "read"]

FRONT = "base_model.model."
"""What all names in the file begin with."""
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_NO_MATTER = frozenset(
    {
        *(
            "base_model_name_or_path",
            "revision",
            "task_type",
            "auto_mapping",
            "inference_mode",
            "peft_version",
        ),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
        *(
            "peft_type",
            "r",
            "lora_alpha",
            "lora_dropout",
            "use_rslora",
            "init_lora_weights",
            "fan_in_fan_out",
        ),
        *("ensure_weight_tying", "megatron_core", "qalora_group_size", "eva_config"),
    }
)
"""Keys that are read here, or that a trained adapter's answer does not depend on."""
_BEGINNINGS = (True, False, "gaussian", "eva", "orthogonal")
"""How its matrices began, where the model that it stands on was left as it is."""


class Adapter(NamedTuple):
    """What an adapter's folder holds, by names as they are in the model's file."""

    source: str
    """What errors call it."""
    scale: float
    products: Mapping[str, tuple[Tensor, Tensor]]
    """Of each weight: lora_A (rank, inward) and lora_B (outward, rank)."""
    whole: Mapping[str, Tensor]
    """Weights that were trained whole."""

    def told(self, config: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
        """The model's config.json, with the head for classes that came with the adapter."""
        form = architecture.classifier
        rows = None if form is None else self.whole.get(f"{form.head}.weight")
        if form is None or rows is None:
            return dict(config)
        said, count = config.get("id2label"), len(rows) if rows.ndim else 0
        known = isinstance(said, dict) and len(said) == count
        named = {} if known else {"id2label": None, "num_labels": count}
        return {**config, "architectures": [form.kind], **named}

    def on(
        self, theirs: Mapping[str, Tensor], pairs: Sequence[Pair], architecture: Architecture, *, tied: bool
    ) -> dict[str, Tensor]:
        """The model's weights with the adapter's share in them, in float32 and rounded once. `tied`: its head
        for tokens is its embedding.

        Raises:
            ConfigError: it stands on something that neither the file nor our network has; or head and
                embedding would no longer be the same.
            DataError: a matrix is of another shape.
        """
        if tied:
            self._check_tied(architecture.tied)
        wanted = {name: pair for pair in pairs for name in pair.theirs}
        known = theirs.keys() | self.whole.keys()
        nowhere = [name for name in self.products if name not in known]
        nowhere += self.whole.keys() - theirs.keys() - wanted.keys() - set(architecture.tied)
        if nowhere:
            raise ConfigError(
                f"model.from.adapter: {self.source} stands on {min(nowhere).removesuffix('.weight')}, and "
                "nothing is called so in the model. Give the model that it was trained on, or an objective "
                "with such a head."
            )
        found = {**theirs, **self.whole}
        for name, (down, up) in self.products.items():
            found[name] = self._moved(name, found[name], up.double() @ down.double(), wanted)
        return found

    def _moved(self, name: str, weight: Tensor, product: Tensor, wanted: Mapping[str, Pair]) -> Tensor:
        if name in wanted and wanted[name].turned:
            product = product.t()
        if product.shape != weight.shape or not weight.is_floating_point():
            raise DataError(
                f"{name}: the model has it as {tuple(weight.shape)} of {weight.dtype}, and the adapter in "
                f"{self.source} is for {tuple(product.shape)}."
            )
        return (weight.double() + self.scale * product).float()

    def _check_tied(self, tied: Sequence[str]) -> None:
        moved = [self.whole.get(name) for name in tied if name in self.whole or name in self.products]
        first = moved[0] if moved else None
        alike = all(first is not None and each is not None and torch.equal(first, each) for each in moved)
        if moved and (not alike or len(moved) < len(tied)):
            name = next(name for name in tied if name in self.whole or name in self.products)
            raise ConfigError(
                f"model.from.adapter: {self.source} has trained {name.removesuffix('.weight')} apart, "
                "and in this model embedding and head are one matrix. Merge it with peft, and save the model "
                "with a head of its own: tie_word_embeddings = false."
            )


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (folder / _CONFIG).is_file() and not (folder / "config.json").is_file()


def files(folder: Path) -> tuple[Path, Path]:
    """What is read of an adapter's folder."""
    return folder / _CONFIG, folder / _WEIGHTS


def read(source: str, folder: Path, architecture: Architecture) -> Adapter:
    """What is in an adapter's folder, for a model of that kind.

    Raises:
        ConfigError: it is of a kind that is not known here; names the key.
        DataError: a file is missing or broken, or the weights are pickled.
    """
    config = read_object(folder / _CONFIG, DataError)
    _check_kind(config)
    rank, alpha = integer(config, "r", 8), figure(config, "lora_alpha", 8)
    weights = _weights(folder)
    if architecture.body and not any(name.startswith(architecture.body) for name in weights):
        weights = {architecture.body + name: tensor for name, tensor in weights.items()}
    products = {}
    for name in [name for name in weights if name.endswith((_DOWN, _UP))]:
        module = name.removesuffix(_DOWN).removesuffix(_UP)
        down, up = (weights.get(module + part) for part in (_DOWN, _UP))
        if down is None or up is None or (len(down.shape), len(up.shape)) != (2, 2):
            raise DataError(f"{folder / _WEIGHTS}: {module}: not two matrices.")
        if len(down) != rank or up.shape[1] != rank:
            raise DataError(f"{folder / _WEIGHTS}: {module}: not of rank {rank}, as {_CONFIG} says.")
        products[f"{module}.weight"] = (down, up)
    whole = {name: tensor for name, tensor in weights.items() if not name.endswith((_DOWN, _UP))}
    strange = sorted(name for name in whole if ".lora_" in name or ".token_adapter." in name)
    if strange:
        raise ConfigError(f"{folder / _WEIGHTS}: {strange[0]}: an adapter on something else than a matrix.")
    return Adapter(
        source=source,
        scale=alpha / (math.sqrt(rank) if config.get("use_rslora") else rank),
        products=products,
        whole=whole,
    )


def _check_kind(config: Mapping[str, Any]) -> None:
    """Refuse what computes otherwise.

    Raises:
        ConfigError: names the key and its value.
    """
    known = "Known are adapters of peft's LoRA on whole matrices: W + scale · lora_B · lora_A."
    if config.get("peft_type") != "LORA":
        raise ConfigError(f"adapter_config.json: peft_type = {config.get('peft_type')!r}. {known}")
    begun = config.get("init_lora_weights", True)
    if not isinstance(begun, bool | str) or begun not in _BEGINNINGS:
        raise ConfigError(
            f"adapter_config.json: init_lora_weights = {begun!r} changes the model that it stands on. Save "
            "it with peft as a plain one: path_initial_model_for_weight_conversion, or merged."
        )
    for key, value in config.items():
        if key not in _NO_MATTER and value and value != "none":
            raise ConfigError(f"adapter_config.json: {key} = {value!r} is not known here. {known}")


def _weights(folder: Path) -> dict[str, Tensor]:
    """All of them, by their names in the model.

    Raises:
        DataError: the file is missing or broken, or its names are not as peft writes them.
    """
    path = folder / _WEIGHTS
    if not path.is_file():
        pickled = (
            " What is there is pickled, and reading it could run any code: save it anew with peft where you "
        )
        more = f"{pickled}trust it." if (folder / "adapter_model.bin").is_file() else ""
        raise DataError(f"{path}: there is no such file.{more}")
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{path}: not a safetensors file that can be read: {error}") from None
    for name, tensor in found.items():
        if (
            not name.startswith(FRONT)
            or not tensor.is_floating_point()
            or not bool(torch.isfinite(tensor).all())
        ):
            raise DataError(f"{path}: {name}: not numbers by a name as peft writes them.")
    # of a head that has an adapter, the head comes with it
    return {name.removeprefix(FRONT).replace(".base_layer.", "."): found[name] for name in found}

"""A trained model as a folder of Hugging Face's: plain JSON and safetensors, the proof, and then the card."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from telos import __version__
from telos.errors import ConfigError
from telos.export import hf
from telos.export._base import PROOF, Trained
from telos.export.hf import _classes
from telos.export.hf._base import Architecture, Pair, classifies, has_head, to_theirs
from telos.export.hf._card import card
from telos.find import find, names
from telos.tokenizer import Tokenizer
from telos.train.checkpoint import weights

__all__ = [
    "TEMPLATE",
    "fitting",
    "pairs_of",
    "special_ids",
    "special_tokens",
    "write",
    "write_model",
    "write_tokenizer",
]

TEMPLATE = "chat_template.jinja"
"""The file in which programs look for how a conversation is put to a model."""


def write(trained: Trained, folder: Path) -> dict[str, Any]:
    """Model, vocabulary, proof and card into `folder`; the figures of the proof.

    Raises:
        ConfigError: no architecture of theirs is like the model, or transformers is not installed.
        ExportError: what was written does not say the same.
    """
    from telos.export.hf._proof import prove

    name, architecture = fitting(trained)
    write_model(trained, architecture, name, folder)
    figures = {"format": "hf", "architecture": name, **prove(trained, architecture, folder)}
    _write_json(folder / PROOF, figures)
    (folder / "README.md").write_text(card(trained, name, architecture, figures), encoding="utf-8")
    return figures


def fitting(trained: Trained) -> tuple[str, Architecture]:
    """The architecture of theirs that the model is, and its name.

    Raises:
        ConfigError: there is none; all that there are are named.
    """
    if trained.sizes.loss.soft_cap:
        raise ConfigError("loss.soft_cap: no architecture of Hugging Face's here bends logits so.")
    if trained.sizes.loss.cutoffs:
        raise ConfigError(
            "loss.cutoffs: no architecture of Hugging Face's here has its vocabulary in groups."
        )
    every = {name: find(hf, name, Architecture)() for name in names(hf)}
    reasons = []
    for name, architecture in every.items():
        if architecture.model == trained.model.name:
            why = architecture.misfit(trained.model, trained.sizes) or _headless(architecture, trained)
            if not why:
                return name, architecture
            reasons.append(f"  {name}: {architecture.style}; here {why}")
    if reasons:
        raise ConfigError("this model is none of Hugging Face's that are known here:\n" + "\n".join(reasons))
    known = sorted({architecture.model for architecture in every.values()})
    raise ConfigError(
        f"model = {trained.model.name!r} has no counterpart among Hugging Face's. What can be exported: "
        f"{', '.join(known)}."
    )


def _headless(architecture: Architecture, trained: Trained) -> str:
    """Whether nothing that the model was asked in training would be left of it, or it was asked otherwise."""
    if classifies(trained.sizes):
        return _classes.misfit(architecture, trained)
    if any(has_head(trained.sizes, head) for head in architecture.kept(trained.sizes)):
        return ""
    return f"the model has no head but {', '.join(spec.name for spec in trained.sizes.heads)}"


def write_model(trained: Trained, architecture: Architecture, name: str, folder: Path) -> None:
    """All but the card and the proof."""
    ids = special_ids(trained.tokenizer, architecture)
    config = {
        **architecture.config(trained.model, trained.sizes),
        **(_classes.described(architecture, trained) if classifies(trained.sizes) else {}),
        "model_type": name,
        "dtype": "float32",
        **ids,
    }
    generation = {**ids, **architecture.generation(trained.tokenizer)}
    kept = {
        name: tensor
        for name, tensor in weights(trained.network).items()
        if not _left_out(name, architecture.kept(trained.sizes))
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        to_theirs(pairs_of(trained, architecture), kept),
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", generation)
    write_tokenizer(trained, architecture, folder)


def pairs_of(trained: Trained, architecture: Architecture) -> list[Pair]:
    """Every tensor of ours that an export has, and what it is there."""
    kept = architecture.kept(trained.sizes)
    heads = tuple(spec for spec in trained.sizes.heads if spec.name in kept)
    return architecture.pairs(trained.model, trained.sizes._replace(heads=heads))


def _left_out(name: str, kept: Sequence[str]) -> bool:
    """Whether a weight belongs to a head that theirs has not."""
    part, _, rest = name.partition(".")
    return part == "heads" and rest.partition(".")[0] not in kept


def special_ids(tokenizer: Tokenizer, architecture: Architecture) -> dict[str, int]:
    """Theirs for ours: the same in every file."""
    more = {
        "causal": {},
        "full": {"cls_token_id": tokenizer.begin, "sep_token_id": tokenizer.separate},
        "pair": {"decoder_start_token_id": tokenizer.begin},
    }
    return {
        "bos_token_id": tokenizer.begin,
        "eos_token_id": tokenizer.end,
        "pad_token_id": tokenizer.pad,
        **more[architecture.reads],
    }


def special_tokens(tokenizer: Tokenizer, architecture: Architecture) -> dict[str, str]:
    """The same by what they are written as."""
    said = {"bos": "begin", "eos": "end", "pad": "pad", "mask": "mask", "sep": "separate"}
    if architecture.reads == "full":
        said["cls"] = "begin"
    return {f"{theirs}_token": tokenizer.text_of(ours) for theirs, ours in said.items()}


def write_tokenizer(trained: Trained, architecture: Architecture, folder: Path) -> None:
    """The vocabulary as it is, with the special tokens that training put around a text."""
    tokenizer = trained.tokenizer
    begin = ["begin"] if trained.objective.cut(trained.sizes.window).begin else []
    around = {"causal": (begin, []), "full": (["begin"], ["separate"]), "pair": ([], ["end"])}
    if classifies(trained.sizes):
        around["causal"] = (["begin"], ["end"])
    before, after = around[architecture.reads]
    text = tokenizer.for_others(before, after)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    tokens, template = special_tokens(tokenizer, architecture), trained.objective.template(tokenizer)
    if template:
        (folder / TEMPLATE).write_text(template, encoding="utf-8")
    table = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": trained.sizes.window,
        "clean_up_tokenization_spaces": False,
        # what stands in a template for a special token must become one
        "split_special_tokens": architecture.reads == "causal" and not template,
        **tokens,
    }
    _write_json(folder / "tokenizer_config.json", table)
    _write_json(folder / "special_tokens_map.json", tokens)


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    said = {"telos_version": __version__, **table} if path.name == "config.json" else table
    path.write_text(json.dumps(said, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")

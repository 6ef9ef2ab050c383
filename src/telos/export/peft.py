"""An adapter as `peft` writes it, and proof that the library itself, on the base model, says what ours says.

    adapter_config.json          what kind of adapter, on which modules, on top of which base model
    adapter_model.safetensors    two matrices for each of these modules
    base/                        the base model as of `--to hf`; not there where the one that training began
                                 from is that very model

Names are Hugging Face's, by the table that `export/hf` has of the architecture. Where one matrix of ours is
several of theirs, one under the other (queries, keys, values), each of them gets the same `lora_A` and its
rows of `lora_B`: the product is the same.
"""

import copy
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from safetensors.torch import save_file
from torch import Tensor

from telos.errors import ConfigError, ExportError
from telos.export._base import PROOF, Format, Trained
from telos.export.hf._adapter import FRONT
from telos.export.hf._base import Architecture, Pair, classifies
from telos.export.hf._proof import compared, loaded, quiet, same_chats, same_classes
from telos.export.hf._source import holds
from telos.export.hf._write import fitting, pairs_of, write_model, write_tokenizer
from telos.models._adapters import Adapted, adapters, bared
from telos.models._base import Network

__all__ = ["Peft"]

BASE = "base"
_TASKS = {"causal": "CAUSAL_LM", "pair": "SEQ_2_SEQ_LM", "full": None}
"""None for a model with classes either: by SEQ_CLS the library would look for its head in the adapter."""


@final
class Peft(Format):
    """A folder that `PeftModel.from_pretrained` loads."""

    def write(self, trained: Trained, folder: Path) -> dict[str, Any]:
        if trained.adapted is None:
            raise ConfigError(
                'this run has no adapters: they are what is trained with tune.only = "lora". Export the '
                "whole model: --to hf."
            )
        name, architecture = fitting(trained)
        base = replace(trained, network=bared(copy.deepcopy(trained.adapted).cpu()), adapted=None)
        write_model(base, architecture, name, folder / BASE)
        found = _parts(pairs_of(trained, architecture), adapters(trained.adapted))
        save_file(_tensors(found), folder / "adapter_model.safetensors", metadata={"format": "pt"})
        write_tokenizer(trained, architecture, folder)
        source = _source(base, folder / BASE)
        task = None if classifies(trained.sizes) else _TASKS[architecture.reads]
        config = _config(found, trained.adapted, task, source or BASE)
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        figures = {
            "format": "peft",
            "architecture": name,
            "base": source or BASE,
            "modules": len(found),
            "numbers": sum(part.down.numel() + part.up.numel() for part in found),
            **_prove(trained, architecture, folder),
        }
        if source:
            shutil.rmtree(folder / BASE)
        (folder / PROOF).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_card(trained, architecture, figures), encoding="utf-8")
        return figures


class Part(NamedTuple):
    """The adapter of one module of theirs."""

    module: str
    down: Tensor
    """(rank, inward)"""
    up: Tensor
    """(outward, rank)"""
    turned: bool
    """They keep the matrix beside it transposed."""
    every: frozenset[str]
    """Names of all modules of theirs that have a matrix."""


def _parts(pairs: Iterable[Pair], layers: Mapping[str, Adapted]) -> list[Part]:
    """The adapters by the names of theirs."""
    matrices = [pair for pair in pairs if pair.ours.endswith(".weight")]
    every = frozenset(_module(name) for pair in matrices for name in pair.theirs)
    found = []
    for pair in matrices:
        layer = layers.get(_module(pair.ours))
        if layer is None:
            continue
        down, up = layer.down.detach().cpu(), layer.up.detach().cpu()
        rows = torch.split(up, list(pair.heights)) if pair.heights else (up,)
        for name, part in zip(pair.theirs, rows, strict=True):
            found.append(Part(_module(name), down, part / pair.times, pair.turned, every))
    assert len({part.module for part in found}) == len(found) > 0
    return found


def _module(name: str) -> str:
    return name.removesuffix(".weight")


def _tensors(parts: Iterable[Part]) -> dict[str, Tensor]:
    found = {}
    for part in parts:
        found[f"{FRONT}{part.module}.lora_A.weight"] = part.down.clone()
        found[f"{FRONT}{part.module}.lora_B.weight"] = part.up.clone(memory_format=torch.contiguous_format)
    return found


def _config(parts: list[Part], adapted: Network, task: str | None, base: str) -> dict[str, Any]:
    layer = next(iter(adapters(adapted).values()))
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": layer.rank,
        "lora_alpha": int(layer.alpha) if float(layer.alpha).is_integer() else layer.alpha,
        "lora_dropout": layer.share,
        "target_modules": sorted(set(_short(parts))),
        "bias": "none",
        "fan_in_fan_out": parts[0].turned,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
    }


def _short(parts: list[Part]) -> Iterator[str]:
    """Of each module the shortest end of its name that means none without an adapter: `q_proj`."""
    targets = {part.module for part in parts}
    for part in parts:
        names = part.module.split(".")
        ends = (".".join(names[-count:]) for count in range(1, len(names) + 1))
        yield next(end for end in ends if _meant(end, part.every) <= targets)


def _meant(end: str, modules: Iterable[str]) -> set[str]:
    return {name for name in modules if name == end or name.endswith(f".{end}")}


def _source(base: Trained, folder: Path) -> str:
    """The model of theirs that training began from, where it is the base to the bit; empty where it is not:
    its vocabulary grew, heads were trained, or it was a run of Telos."""
    origin = base.model.origin
    return origin.source if origin is not None and holds(origin.source, folder) else ""


def _prove(trained: Trained, architecture: Architecture, folder: Path) -> dict[str, Any]:
    """The figures of `export/hf`'s comparisons, of our merged network with theirs under the adapter.

    Raises:
        ConfigError: a library is not installed.
        ExportError: they say something else.
    """
    with quiet() as transformers:
        try:
            import peft
        except ImportError:
            raise ConfigError(
                "exporting an adapter proves what it wrote with peft, which is not installed. Install the "
                "extra: pip install 'telos-lm[peft]'."
            ) from None
        theirs = loaded(transformers, trained, architecture, folder / BASE)
        model = peft.PeftModel.from_pretrained(theirs, folder, torch_device="cpu").eval()
        _all_taken(model, folder)
        classes = same_classes(transformers, trained, folder, model.get_base_model())
        figures = compared(trained, architecture, model.get_base_model())
        figures |= {**same_chats(transformers, trained, folder), **classes}
    return {"peft": peft.__version__, "transformers": transformers.__version__, **figures}


def _all_taken(model: Any, folder: Path) -> None:
    """Every matrix of the file is in the model, and the model has no other: the library only warns of
    either."""
    from safetensors.torch import load_file

    wanted = load_file(folder / "adapter_model.safetensors")
    there = {
        name.replace(".default.", "."): tensor
        for name, tensor in model.state_dict().items()
        if ".lora_" in name
    }
    if there.keys() != wanted.keys() or not all(torch.equal(there[n], t) for n, t in wanted.items()):
        wrong = sorted(there.keys() ^ wanted.keys())[:3]
        raise ExportError(f"peft loads the adapter otherwise than it was written: {', '.join(wrong)}.")


def _card(trained: Trained, architecture: Architecture, figures: Mapping[str, Any]) -> str:
    """README.md: what it is and how it is opened."""
    kind, base = architecture.opened_by(trained.sizes), figures["base"]
    where = f'"FOLDER/{BASE}"' if base == BASE else repr(base)
    differences = [
        f"| {k}, {n} tokens | {v:.1e} |" for k, t in figures["logits"].items() for n, v in t.items()
    ]
    lines = [
        *("---", "library_name: peft", "---", "", f"# {trained.name}", ""),
        f"A LoRA adapter of {figures['numbers']:,} numbers on {figures['modules']} modules of a "
        f"{figures['architecture']} model, trained with the objective `{trained.objective.name}` by Telos.",
        *(
            "",
            "```python",
            "from peft import PeftModel",
            f"from transformers import AutoTokenizer, {kind}",
            "",
        ),
        f"model = {kind}.from_pretrained({where})",
        'model = PeftModel.from_pretrained(model, "FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        *("```", "", "## Proof that it says the same", ""),
        f"Opened so with peft {figures['peft']} and transformers {figures['transformers']}, and compared "
        "with the model that was trained: difference of logits as a share of the largest. All figures are in "
        f"`{PROOF}`.",
        *("", "| compared | found |", "|---|---|", *differences),
    ]
    return "\n".join(lines) + "\n"

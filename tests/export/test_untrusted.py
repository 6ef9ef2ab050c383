"""Folders of strangers: whatever is in them, an error that says what is wrong, and nothing of it is run."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from telos.errors import ConfigError, DataError, TelosError
from telos.export._base import write
from telos.export.hf._source import describe
from telos.tokenizer import Tokenizer
from tests.export import theirs
from tests.export.test_hf import MADE, taken, trained

KINDS = ("gpt2", "llama", "bert", "electra", "modernbert", "t5-v1.0")
WEIRD: tuple[Any, ...] = (
    "canary",
    "canary.Model",
    "canary:Model",
    "os.system",
    -1,
    0,
    1.5,
    float("nan"),
    True,
    [],
    ["canary"],
    {},
    {"canary": "canary"},
)
OURS_TO_SAY = ("vocab_size", "architectures")
"""Keys that the tests read themselves."""


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that can be imported, and must not be."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "canary.py").write_text("class Model: ...")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    yield
    assert "canary" not in sys.modules


@pytest.mark.parametrize("name", KINDS)
def test_no_configuration_runs_anything_or_breaks_anything(name: str, canary: None, tmp_path: Path) -> None:
    """Trap 70: each key of config.json is something else, in turn, and so is what a tokenizer's
    configuration says."""
    folder = theirs.saved(MADE[name](), tmp_path / "source")
    config = json.loads((folder / "config.json").read_text())
    refused = 0

    def attempt(file: str, table: dict[str, Any]) -> None:
        nonlocal refused
        (folder / file).write_text(json.dumps(table))
        try:
            taken(folder, 16)
        except TelosError:
            refused += 1

    keys = {*config, "auto_map", "rope_scaling", "_attn_implementation", "torch_dtype"} - {*OURS_TO_SAY}
    for weird in WEIRD:
        for key in sorted(keys):
            attempt("config.json", {**config, key: weird})
            if isinstance(config.get(key), dict):
                for inner in config[key]:
                    attempt("config.json", {**config, key: {**config[key], inner: weird}})
    assert refused > 50
    attempt("config.json", config)
    before = refused
    for weird in WEIRD:
        for key in ("auto_map", "tokenizer_class", "bos_token", "chat_template", "added_tokens_decoder"):
            attempt("tokenizer_config.json", {key: weird})
    assert refused == before


def changes(tensor: Tensor) -> Iterator[Tensor]:
    """What no file should have in its place."""
    yield from (tensor[:1], tensor[:0], tensor.unsqueeze(0), torch.tensor(1.0), tensor.flatten())
    yield from (torch.cat([tensor, tensor], -1), tensor.to(torch.int8), torch.full_like(tensor, torch.nan))


@pytest.mark.parametrize("name", KINDS)
def test_no_tensor_breaks_anything(name: str, tmp_path: Path) -> None:
    """Trap 73: of any shape and type in the place of each."""
    folder = theirs.saved(theirs.redrawn(MADE[name]()), tmp_path)
    whole = load_file(folder / "model.safetensors")
    refused = 0
    for wrong in whole:
        for tensor in changes(whole[wrong]):
            save_file({**whole, wrong: tensor.contiguous()}, folder / "model.safetensors")
            try:
                taken(folder, 16)
            except TelosError:
                refused += 1
    assert refused > 4 * len(whole)


def test_no_file_of_weights_breaks_anything(tmp_path: Path) -> None:
    """Trap 73: a thousand files with a few bytes changed or cut off, most of them in the header."""
    folder = theirs.saved(theirs.redrawn(MADE["llama"]()), tmp_path)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    draw = torch.Generator().manual_seed(0)
    for number in range(1000):
        broken = bytearray(whole)
        for place in torch.randint(header if number % 4 else len(whole), (1 + number % 3,), generator=draw):
            broken[place] = int(torch.randint(256, (1,), generator=draw))
        path.write_bytes(broken[: header + number] if number % 10 == 0 else broken)
        try:
            taken(folder, 16)
        except TelosError as error:
            assert len(str(error)) < 2000


def test_parts_of_a_matrix_have_the_heights_that_are_said(tmp_path: Path) -> None:
    """Trap 73: keys of another height, and values that make up for it."""
    folder = theirs.saved(theirs.redrawn(MADE["llama"]()), tmp_path)
    whole = load_file(folder / "model.safetensors")
    keys, values = (f"model.layers.0.self_attn.{part}_proj.weight" for part in "kv")
    longer = torch.cat([whole[keys], whole[values][:4]])
    save_file({**whole, keys: longer, values: whole[values][4:]}, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"k_proj\.weight: the file has \(20, 32\).* say \(16, 32\)"):
        taken(folder)


def test_quantised_and_broken_weights_are_refused(tmp_path: Path) -> None:
    """Traps 73 and 91: whole numbers are no weights without their scales; NaN is none at all."""
    folder = theirs.saved(theirs.redrawn(MADE["gpt2"]()), tmp_path)
    whole = load_file(folder / "model.safetensors")
    name = "transformer.h.0.mlp.c_fc.weight"
    for tensor, why in ((whole[name].to(torch.int8), "quantised"), (whole[name] / 0, "not all.*finite")):
        save_file({**whole, name: tensor}, folder / "model.safetensors")
        with pytest.raises(DataError, match=f"{name}.*{why}"):
            taken(folder)


@pytest.mark.parametrize(
    "said",
    [
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 4.0}},
        {"head_dim": 16},
        {"attention_bias": True},
    ],
    ids=["scaled", "partial", "old", "wide", "biases"],
)
def test_angles_that_are_not_ours_are_refused(said: dict[str, Any], tmp_path: Path) -> None:
    """Trap 86: what would load and say something else."""
    folder = theirs.saved(MADE["llama"](), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **said}))
    with pytest.raises(
        ConfigError, match=r"config\.json: (rotary positions of the kind|head_dim|attention_bias)"
    ):
        taken(folder)


PAYLOAD = "{{ cycler.__init__.__globals__.os.system('touch ran') }}{% for _ in range(10 ** 9) %}x{% endfor %}"


def test_no_template_is_rendered_or_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 71: of a folder to start from, and of one that is written from it."""
    monkeypatch.chdir(tmp_path)
    folder = theirs.saved(MADE["llama"](), tmp_path / "source")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": PAYLOAD, "bos_token": PAYLOAD})
    )
    (folder / "chat_template.jinja").write_text(PAYLOAD)
    found = describe(str(folder))
    assert "chat_template" not in json.dumps(found)
    tokenizer = Tokenizer.load(Path(found.tokenizer["path"]), (), found.tokenizer["special"])
    tokenizer.encode(PAYLOAD)
    write("hf", trained("llama"), tmp_path / "out")
    assert not [p for p in (tmp_path / "out").iterdir() if "template" in p.read_text(errors="ignore")]
    assert not (tmp_path / "ran").exists()

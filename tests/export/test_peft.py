"""Adapters go out in the format of peft, and the library itself says with them what we say."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from telos.cli import app
from telos.errors import ConfigError, ExportError
from telos.export import peft as ours
from telos.run import Run, fit, load_recipe
from tests.export import theirs
from tests.export.test_tokenizers import gpt2 as gpt2_tokenizer
from tests.small import SHRUNK, last_weights, write_texts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft

LEARN = ("tune.only=lora", "tune.lora.rank=2", "train.optimizer.rate=0.05", "train.schedule.warmup=1.0")
KINDS: dict[str, tuple[Callable[[], Any], str, set[str]]] = {
    "llama": (
        lambda: theirs.llama(max_position_embeddings=16),
        "causal",
        {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    ),
    "gpt2": (lambda: theirs.gpt2(n_positions=16), "causal", {"c_attn", "c_proj", "c_fc"}),
    "bert": (
        lambda: theirs.bert("BertForMaskedLM", max_position_embeddings=16),
        "masked",
        {"query", "key", "value", "intermediate.dense", "output.dense"},
    ),
    "t5": (lambda: theirs.t5(num_decoder_layers=2), "span", {"q", "k", "v", "o", "wi", "wo"}),
    "modernbert": (lambda: theirs.modernbert(max_position_embeddings=16), "masked", {"Wqkv", "Wo", "Wi"}),
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("text") / "texts")


def learned(kind: str, texts: Path, root: Path, *changes: str) -> tuple[Run, Path]:
    """A run of adapters on one of theirs, whose logits they move."""
    make, objective, _ = KINDS[kind]
    folder = theirs.saved(theirs.redrawn(make()), root / kind)
    given = [f"model.from={folder}", f"objective={objective}", *SHRUNK, *LEARN, f"name={kind}", *changes]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of fifty words few are in the text
        return fit(load_recipe(texts, given), root / "runs", device="cpu"), folder


@pytest.mark.parametrize("kind", KINDS)
def test_peft_says_the_same(kind: str, texts: Path, tmp_path: Path) -> None:
    """On the base model as it was given, loaded as anyone would load both; where the marks of an objective
    made the vocabulary grow, on the base that comes with the adapter."""
    run, source = learned(kind, texts, tmp_path)
    figures = run.export("peft")
    folder = run.folder / "export" / "peft"
    # ours are merged, and so rounded to float32 once
    assert all(difference < 2e-6 for difference in figures["logits"]["float64"].values())
    grown = kind == "t5"
    assert figures["base"] == ("base" if grown else str(source))
    assert (folder / "base").exists() is grown
    config = json.loads((folder / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == KINDS[kind][2]
    assert config["fan_in_fan_out"] is (kind == "gpt2") and config["r"] == 2 and config["lora_alpha"] == 16
    base = folder / "base" if grown else source
    model = getattr(theirs.transformers, _class(kind)).from_pretrained(base)
    plain = _logits(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of peft's ways with transformers
        adapted = peft.PeftModel.from_pretrained(model, folder)
    assert float((_logits(adapted) - plain).abs().max()) > 1e-3, "the adapter is alive"
    merged = _logits(adapted.merge_and_unload())
    whole = run.export("hf", tmp_path / "whole")["folder"]
    again = getattr(theirs.transformers, _class(kind)).from_pretrained(whole)
    torch.testing.assert_close(_logits(again), merged, rtol=1e-4, atol=1e-4)


def _class(kind: str) -> str:
    if kind == "t5":
        return "AutoModelForSeq2SeqLM"
    return "AutoModelForCausalLM" if kind in ("llama", "gpt2") else "AutoModelForMaskedLM"


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[7, 9, 30, 22, 11, 8]])
    both = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    said: torch.Tensor = model.eval()(input_ids=ids, **both).logits
    return said


@pytest.fixture(scope="module")
def small(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    return learned("llama", texts, tmp_path_factory.mktemp("runs"))


def test_the_command_writes_a_folder_that_says_how_it_is_opened(small: tuple[Run, Path]) -> None:
    run, source = small
    done = CliRunner().invoke(app, ["export", str(run.folder), "--to", "peft", "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    folder = Path(figures["folder"])
    assert {p.name for p in folder.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "README.md",
        "telos.json",
    }
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"from_pretrained({str(source)!r})" in card and f"{figures['numbers']:,} numbers" in card
    size = sum(t.numel() for t in load_file(folder / "adapter_model.safetensors").values())
    assert figures["numbers"] == size and figures["modules"] == 14


def test_a_base_that_is_no_longer_theirs_comes_with_it(small: tuple[Run, Path], tmp_path: Path) -> None:
    """Trap 91: an adapter on another base says something else."""
    run, source = small
    path = source / "model.safetensors"
    right = load_file(path)
    try:
        save_file({name: tensor * 1.01 for name, tensor in right.items()}, path, metadata={"format": "pt"})
        figures = run.export("peft", tmp_path / "out")
    finally:
        save_file(right, path, metadata={"format": "pt"})
    assert figures["base"] == "base" and (tmp_path / "out" / "base" / "model.safetensors").is_file()


def halved(folder: Path) -> None:
    path = folder / "adapter_config.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps({**table, "lora_alpha": table["lora_alpha"] // 2}))


def one_is_missing(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    found = load_file(path)
    save_file({n: t for n, t in found.items() if "layers.1.mlp.down_proj" not in n}, path)


def rows_of_another(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    found = load_file(path)
    one, other = (f"base_model.model.model.layers.0.self_attn.{name}_proj.lora_B.weight" for name in "kv")
    save_file({**found, one: found[other].clone(), other: found[one].clone()}, path)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (halved, "logits in float32 differ"),
        (one_is_missing, "peft loads the adapter otherwise"),
        (rows_of_another, "logits in float32 differ"),
    ],
    ids=["halved", "missing", "rows"],
)
def test_an_adapter_that_says_something_else_is_not_written(
    damage: Callable[[Path], None],
    why: str,
    small: tuple[Run, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = ours._prove

    def wrong(trained: Any, architecture: Any, folder: Path) -> Any:
        damage(folder)
        return right(trained, architecture, folder)

    monkeypatch.setattr(ours, "_prove", wrong)
    with pytest.raises(ExportError, match=why):
        small[0].export("peft", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_without_adapters_is_refused(texts: Path, tmp_path: Path) -> None:
    run, _ = learned("llama", texts, tmp_path, "tune={only='all'}", "name=whole")
    with pytest.raises(ConfigError, match=r"no adapters.*--to hf"):
        run.export("peft")


def test_rows_of_tokens_that_are_never_read_do_not_learn(texts: Path, tmp_path: Path) -> None:
    """GPT-2 has a token that begins and ends; those that pad, mask and separate are new, and stand in no
    text."""
    tokenizer = gpt2_tokenizer()
    source = theirs.gpt2(n_positions=16, vocab_size=len(tokenizer))
    folder = theirs.saved(theirs.redrawn(source), tmp_path / "gpt2", tokenizer)
    given = [f"model.from={folder}", *SHRUNK, *LEARN, "name=on"]
    run = fit(load_recipe(texts, given), tmp_path / "runs", device="cpu")
    assert run.tokenizer.size == len(tokenizer) + 3
    assert not [name for name in last_weights(run) if name.endswith(".rows")]


def test_names_are_as_short_as_they_can_be() -> None:
    every = frozenset({"a.x.dense", "b.x.dense", "head.dense", "a.y.out", "b.y.out"})
    one = torch.zeros(1, 1)
    parts = [ours.Part(name, one, one, False, every) for name in ("a.x.dense", "b.x.dense", "a.y.out")]
    assert [*ours._short(parts)] == ["x.dense", "x.dense", "a.y.out"]

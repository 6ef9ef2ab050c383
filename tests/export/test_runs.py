"""Through the doors: a run is exported, another starts from it, goes on, and is refused when that changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from telos.cli import app
from telos.config import to_toml
from telos.errors import ConfigError, ExportError
from telos.run import Run, fit, load_recipe, open_run
from tests.export import theirs
from tests.small import NARROW, SHRUNK, last_weights, write_texts


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("text") / "texts")


@pytest.fixture(scope="module")
def finished(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    changes = [f"data.path={texts}", *SHRUNK, *NARROW["decoder"], "tokenizer.size=300", "name=small"]
    changes += ["data.clean.lower=true"]
    return fit(load_recipe("gpt-small", changes), tmp_path_factory.mktemp("runs"))


def test_the_command_writes_a_folder_and_its_figures(finished: Run) -> None:
    done = CliRunner().invoke(app, ["export", str(finished.folder), "--to", "hf", "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    folder = finished.folder / "export" / "hf"
    assert figures["folder"] == str(folder) and figures["text"] == "the test split"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{figures['perplexity']['ours']:.6f}" in card and "bits per byte" in card
    assert "It was cleaned: lower case. Do the same" in card
    assert str(finished.folder) not in card + (folder / "config.json").read_text()
    model = theirs.transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = theirs.transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("the cat", return_tensors="pt")["input_ids"]
    assert ids[0, 0] == finished.tokenizer.begin and model(ids).logits.shape[-1] == finished.tokenizer.size


def rewritten(name: str, **changed: Any) -> Callable[[Path], None]:
    """Damage: keys of a JSON file of the export are others."""

    def damage(folder: Path) -> None:
        table = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**table, **changed}), encoding="utf-8")

    return damage


def other_weights(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def one_is_larger(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    other_weights(folder, lambda found: {**found, name: found[name] * 1.5})


def one_is_missing(folder: Path) -> None:
    other_weights(folder, lambda found: {k: v for k, v in found.items() if k != "model.norm.weight"})


def two_tokens_are_exchanged(folder: Path) -> None:
    path = folder / "tokenizer.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    ids = table["model"]["vocab"]
    ids["a"], ids["t"] = ids["t"], ids["a"]
    path.write_text(json.dumps(table), encoding="utf-8")


def silence(folder: Path) -> None:
    """Of nearly all tokens."""
    config = json.loads((folder / "config.json").read_text())
    rewritten("generation_config.json", suppress_tokens=list(range(config["vocab_size"] - 20)))(folder)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "weight": (one_is_larger, "logits in float32 differ"),
    "missing": (one_is_missing, "loads the weights otherwise"),
    "norm": (rewritten("config.json", rms_norm_eps=0.5), "logits in float32 differ"),
    "tokens": (two_tokens_are_exchanged, "cuts this text otherwise"),
    "model-pad": (rewritten("config.json", pad_token_id=3), "config.json says pad_token_id = 3"),
    "written-end": (rewritten("generation_config.json", eos_token_id=1), "says eos_token_id = 1"),
    "pad": (rewritten("tokenizer_config.json", pad_token="<|mask|>"), "tokenizer_config.json says pad_token"),
    "map": (rewritten("special_tokens_map.json", bos_token="<|end|>"), "special_tokens_map.json says bos"),
    "greedy": (silence, "greedy text differs"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_command_fails_where_the_folder_says_something_else(
    kind: str, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traps 87, 88 and 91: whatever file of it is wrong. Nothing is written, and an export that was there
    stays."""
    from telos.export.hf import _write

    right, (damage, why) = _write.write_model, DAMAGE[kind]

    def wrong(trained: Any, architecture: Any, name: str, folder: Path) -> None:
        right(trained, architecture, name, folder)
        damage(folder)

    monkeypatch.setattr(_write, "write_model", wrong)
    out = finished.folder / "export" / kind
    done = CliRunner().invoke(app, ["export", str(finished.folder), "--to", "hf", "--out", str(out)])
    assert done.exit_code != 0 and isinstance(done.exception, ExportError) and why in str(done.exception)
    assert not out.exists() and not [p for p in out.parent.iterdir() if "building" in p.name]


def test_a_run_starts_from_a_folder_and_goes_on(finished: Run, texts: Path, tmp_path: Path) -> None:
    """Its first loss is that of the model it starts from; resumed it is as if it had never stopped; with
    other content it is refused by name; its own recipe says it all."""
    source = finished.export("hf", tmp_path / "source")["folder"]
    given = [f"model.from={source}", *SHRUNK, "train.optimizer.rate=1e-9", "name=on"]
    recipe = load_recipe(texts, given)
    assert recipe.model.width == 16 and recipe.model.origin and recipe.model.origin.content
    assert load_recipe(_written(recipe, tmp_path)) == recipe
    run = fit(recipe, tmp_path / "runs", device="cpu")
    before, after = last_weights(finished), last_weights(run)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)
    assert run.tokenizer.hash == finished.tokenizer.hash

    more = fit(load_recipe(texts, [*given, "train.budget.steps=4"]), tmp_path / "runs", device="cpu")
    assert more.outcome is not None and more.outcome.step == 4
    assert open_run(more.folder, "cpu").generate(["the "], ["length=3"])

    theirs_config = Path(source) / "config.json"
    theirs_config.write_text(theirs_config.read_text() + "\n")
    with pytest.raises(ConfigError, match=r"model\.from\.content"):
        fit(load_recipe(texts, given), tmp_path / "runs", device="cpu")


def _written(recipe: object, folder: Path) -> Path:
    path = folder / "on.toml"
    path.write_text(to_toml(recipe), encoding="utf-8")  # type: ignore[arg-type]
    return path


def test_what_does_not_go_with_a_source_is_refused(finished: Run, texts: Path, tmp_path: Path) -> None:
    source = finished.export("hf", tmp_path / "source")["folder"]
    for changes, why in (
        (["model.name=gru"], "what is there is a decoder, not a gru"),
        (["tokenizer.size=500"], "the vocabulary comes with the model"),
        (["model.vectors=words.txt"], "leave one out"),
    ):
        with pytest.raises(ConfigError, match=why):
            load_recipe(texts, [f"model.from={source}", *changes])
    with pytest.raises(ConfigError, match=r"model\.from.*no such folder"):
        load_recipe(texts, [f"model.from={tmp_path / 'nothing'}"])


def test_a_run_starts_from_bert(texts: Path, tmp_path: Path) -> None:
    """Fifty rows of a foreign vocabulary, and the second head that nothing here needs."""
    folder = theirs.saved(theirs.bert(max_position_embeddings=16), tmp_path / "bert")
    given = [f"model.from={folder}", "objective=masked", *SHRUNK, "name=bert"]
    with pytest.warns(UserWarning, match="of the tokens of the (validation|test) split are unknown"):
        run = fit(load_recipe(texts, given), tmp_path / "runs", device="cpu")
    figures = run.export("hf")
    assert figures["architecture"] == "bert" and figures["logits"]["float64"]["16"] < 1e-9


def test_electra_goes_out_as_two_models_and_either_comes_back(texts: Path, tmp_path: Path) -> None:
    """The discriminator by default and the generator by name; opened by the plain classes, without remote
    code; and a run starts from each, its first weights those of the file."""
    small = ["model.embedding.width=12", "objective.generator={width=8, heads=1}"]
    small += ["tokenizer={kind='bpe', size=300}"]
    given = [f"data.path={texts}", *SHRUNK, *NARROW["encoder"], *small]
    run = fit(load_recipe("electra-small", given), tmp_path / "runs", device="cpu")
    opened = {"": "AutoModelForPreTraining", "generator": "AutoModelForMaskedLM"}
    for partner, kind in opened.items():
        done = CliRunner().invoke(
            app,
            ["export", str(run.folder), "--to", "hf", "--json", *(["--partner", partner] if partner else [])],
        )
        assert done.exit_code == 0, done.output
        figures = json.loads(done.stdout)
        assert figures["architecture"] == "electra" and figures["logits"]["float64"]["16"] < 1e-9
        folder = Path(figures["folder"])
        assert folder.name == ("hf-generator" if partner else "hf")
        model = getattr(theirs.transformers, kind).from_pretrained(folder)
        assert type(model).__name__ == ("ElectraForMaskedLM" if partner else "ElectraForPreTraining")
        tokenizer = theirs.transformers.AutoTokenizer.from_pretrained(folder)
        ids = tokenizer("the cat", return_tensors="pt")["input_ids"]
        assert model(ids).logits.shape[:2] == ids.shape
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert ("fill-mask" in card) == bool(partner) and ("was it replaced?" in card) != bool(partner)
        objective = "objective=masked" if partner else "objective={name='replaced', generator={depth=1}}"
        on = [f"model.from={folder}", objective, *SHRUNK, "train.optimizer.rate=1e-9", f"name=on{partner}"]
        again = fit(load_recipe(texts, on), tmp_path / "runs", device="cpu")
        source = run.partners[partner] if partner else run.network
        for name, tensor in source.state_dict().items():
            torch.testing.assert_close(last_weights(again)[name], tensor.cpu(), rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match=r"partner = 'teacher'.*There are: generator"):
        run.export("hf", partner="teacher")

"""Adapters of peft come in: what the library says with them, we say; what we cannot hold is refused."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from telos import models
from telos.batch import HeadSpec, Piece
from telos.config import read
from telos.errors import ConfigError, DataError, TelosError
from telos.export.hf._case import ours_judge, ours_say, theirs_say
from telos.export.hf._source import describe, load
from telos.find import find
from telos.models._base import Model, Network, Sizes
from telos.models._initial import initialise
from telos.objectives.classify import Classify
from telos.run import fit, load_recipe, open_run
from telos.tokenizer import Tokenizer
from tests.export import theirs
from tests.export.test_hf import architecture_of, largest, question
from tests.export.test_peft import KINDS as OUT
from tests.export.test_peft import learned
from tests.export.test_untrusted import WEIRD
from tests.small import SHRUNK, last_weights, write_texts
from tests.test_origin import Heard

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft

MADE: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "gpt2": (theirs.gpt2, ["c_attn", "c_proj", "c_fc"]),
    "llama": (theirs.llama, ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "lm_head"]),
    "bert": (lambda: theirs.bert("BertForMaskedLM"), ["query", "value", "output.dense"]),
    "electra": (lambda: theirs.electra("ElectraForMaskedLM"), ["key", "embeddings_project"]),
    "modernbert": (theirs.modernbert, ["Wqkv", "Wo", "Wi"]),
    "t5": (theirs.t5, ["q", "k", "wi", "wo"]),
}

CLOSE = 5e-5
"""As a share of the largest logit, in float32: theirs adds up two products, where ours has them in one."""


def adapted(name: str, root: Path, **settings: Any) -> tuple[Any, Path, Path]:
    """A model of theirs with an adapter whose every matrix is drawn, and the folders of both."""
    make, on = MADE[name]
    base = theirs.saved(theirs.redrawn(make()), root / "base")
    return with_adapter(getattr(theirs.transformers, type(make()).__name__), base, root, on, **settings)


def with_adapter(kind: Any, base: Path, root: Path, on: list[str], **settings: Any) -> tuple[Any, Path, Path]:
    config = peft.LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": on, **settings})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of matrices that are turned
        model = peft.get_peft_model(kind.from_pretrained(base), config)
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in (p for n, p in sorted(model.named_parameters()) if p.requires_grad):
                spread = 1.0 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5
                parameter.copy_(spread * torch.randn(parameter.shape, generator=draw))
        model.save_pretrained(root / "adapter")
    return model.eval(), base, root / "adapter"


def taken(base: Path, adapter: Path, *heads: HeadSpec, window: int = 64) -> tuple[Network, list[str]]:
    """Our network of both, and what is said of it."""
    table = dict(describe(str(base), str(adapter)).model)
    model = read(find(models, table.pop("name"), Model), table)
    rows = json.loads((base / "config.json").read_text())["vocab_size"]
    sizes = Sizes(rows, window, heads or (HeadSpec(name="tokens", outputs=rows),))
    network = model.build(sizes)
    initialise(network, 7)
    return network.eval(), load(str(base), network, model, sizes, adapter=str(adapter))


@pytest.mark.parametrize("name", MADE)
def test_we_say_what_peft_says(name: str, tmp_path: Path) -> None:
    """And it is not what the model says without."""
    model, base, adapter = adapted(name, tmp_path)
    network, said = taken(base, adapter)
    assert not [line for line in said if "anew" in line]
    kind = architecture_of(name)
    plain, _ = taken_plain(base)
    with torch.no_grad():
        asked = [question(name, length) for length in (1, 20, 64)]
        for each in asked:
            ours = ours_say(network, each, kind)
            assert largest(ours, theirs_say(model.base_model, each, kind)) <= CLOSE
            assert largest(ours, ours_say(plain, each, kind)) > 1e-2


def taken_plain(base: Path) -> tuple[Network, list[str]]:
    table = dict(describe(str(base)).model)
    model = read(find(models, table.pop("name"), Model), table)
    rows = json.loads((base / "config.json").read_text())["vocab_size"]
    sizes = Sizes(rows, 64, (HeadSpec(name="tokens", outputs=rows),))
    network = model.build(sizes)
    return network.eval(), load(str(base), network, model, sizes)


def test_the_scale_of_many_ranks(tmp_path: Path) -> None:
    """With use_rslora it is alpha / √r."""
    model, base, adapter = adapted("llama", tmp_path, use_rslora=True)
    network, _ = taken(base, adapter)
    asked, kind = question("llama", 20), architecture_of("llama")
    with torch.no_grad():
        assert largest(ours_say(network, asked, kind), theirs_say(model.base_model, asked, kind)) <= CLOSE


def test_modules_that_were_trained_whole_take_their_places(tmp_path: Path) -> None:
    """Norms, and a head of its own; not one of a pair that is one matrix here."""
    model, base, adapter = adapted(
        "llama", tmp_path, modules_to_save=["norm", "lm_head"], target_modules=["v_proj"]
    )
    network, _ = taken(base, adapter)
    asked, kind = question("llama", 20), architecture_of("llama")
    with torch.no_grad():
        assert largest(ours_say(network, asked, kind), theirs_say(model.base_model, asked, kind)) <= CLOSE


@pytest.mark.parametrize("tied", [False, True])
def test_an_embedding_that_is_the_head_moves_with_it_or_not_at_all(tied: bool, tmp_path: Path) -> None:
    base = theirs.saved(theirs.redrawn(theirs.llama(tie_word_embeddings=True)), tmp_path / "base")
    whole = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": tied}
    model, _, adapter = with_adapter(
        theirs.transformers.LlamaForCausalLM, base, tmp_path, ["q_proj"], **whole
    )
    if not tied:
        with pytest.raises(ConfigError, match=r"has trained model\.embed_tokens apart, and .*one matrix"):
            taken(base, adapter)
        return
    network, _ = taken(base, adapter)
    asked, kind = question("llama", 20), architecture_of("llama")
    with torch.no_grad():
        assert largest(ours_say(network, asked, kind), theirs_say(model.base_model, asked, kind)) <= CLOSE


@pytest.mark.parametrize("name", ["gpt2", "llama", "modernbert"])
def test_a_head_for_classes_comes_with_an_adapter(name: str, tmp_path: Path) -> None:
    """On a model that says tokens: nobody named its classes, so a recipe must, in the order of its rows."""
    on = {"gpt2": ["c_attn"], "llama": ["q_proj"], "modernbert": ["Wqkv"]}[name]
    base = theirs.saved(theirs.redrawn(MADE[name][0]()), tmp_path / "base")
    auto = theirs.transformers.AutoModelForSequenceClassification
    kind = _Three(auto)
    model, _, adapter = with_adapter(kind, base, tmp_path, on, task_type="SEQ_CLS")
    head = describe(str(base), str(adapter)).classes
    assert head is not None and (head.names, head.rows) == ((), 3)
    with pytest.raises(ConfigError, match="for 3 classes, and nobody named them"):
        Classify.knowing({}, head)
    objective = read(Classify, Classify.knowing({"labels": ["a", "b", "c"]}, head))
    network, said = taken(base, adapter, *objective.heads(64))
    assert any("in the order of their rows they are a, b, c" in line for line in said)
    ids = question(name, 20).ids.numpy()
    row = objective.judged(Piece(ids=ids, document=0), Tokenizer.load(base / "tokenizer.json"))
    with torch.no_grad():
        there = model(input_ids=torch.from_numpy(row.main.ids)[None]).logits
        torch.testing.assert_close(ours_judge(network, row), there, rtol=1e-4, atol=1e-4)


class _Three:
    """A class of transformers' that opens folders with three classes."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def from_pretrained(self, folder: Path) -> Any:
        return self.kind.from_pretrained(folder, num_labels=3)


# ---- what is refused


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"use_dora": True}, "use_dora = True is not known here"),
        ({"bias": "all"}, "bias = 'all' is not known here"),
        ({"rank_pattern": {"v_proj": 2}}, r"rank_pattern = \{'v_proj': 2\} is not known"),
        ({"alpha_pattern": {"v_proj": 2}}, r"alpha_pattern = \{'v_proj': 2\} is not known"),
        ({"lora_bias": True}, "lora_bias = True is not known"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa' changes the model"),
        ({"trainable_token_indices": [3, 5]}, r"trainable_token_indices = .* is not known"),
        ({"target_modules": ["embed_tokens"]}, "an adapter on something else than a matrix"),
    ],
    ids=["dora", "bias", "ranks", "alphas", "lora_bias", "pissa", "tokens", "embedding"],
)
def test_other_kinds_are_refused_by_name(settings: dict[str, Any], why: str, tmp_path: Path) -> None:
    """As the library itself writes them."""
    _, base, adapter = adapted("llama", tmp_path, **settings)
    with pytest.raises(ConfigError, match=why):
        describe(str(base), str(adapter))


def test_other_methods_are_refused_by_name(tmp_path: Path) -> None:
    base = theirs.saved(theirs.redrawn(theirs.llama()), tmp_path / "base")
    model = theirs.transformers.LlamaForCausalLM.from_pretrained(base)
    settings = peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of peft's ways with transformers
        peft.get_peft_model(model, settings).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ConfigError, match=r"peft_type = 'IA3'.*Known are adapters of peft's LoRA"):
        describe(str(base), str(tmp_path / "adapter"))


def changed(adapter: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


VALUES = "base_model.model.model.layers.0.self_attn.v_proj"
BROKEN: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "other-model": (
        lambda t: {k.replace("layers.1", "layers.7"): v for k, v in t.items()},
        "layers.7.*called so",
    ),
    "one-matrix": (
        lambda t: {k: v for k, v in t.items() if k != f"{VALUES}.lora_A.weight"},
        "not two matrices",
    ),
    "rank": (lambda t: {**t, f"{VALUES}.lora_A.weight": torch.ones(2, 32)}, "not of rank 3"),
    "shape": (
        lambda t: {**t, f"{VALUES}.lora_A.weight": torch.ones(3, 31)},
        r"the adapter in .* is for \(16, 31\)",
    ),
    "whole": (
        lambda t: {**t, "base_model.model.score.weight": torch.ones(2, 32)},
        "stands on score, and nothing",
    ),
    "name": (lambda t: {**t, "score.weight": torch.ones(2, 32)}, "not numbers by a name as peft"),
    "nan": (lambda t: {**t, f"{VALUES}.lora_A.weight": torch.full((3, 32), torch.nan)}, "not numbers"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_does_not_fit_is_refused(kind: str, tmp_path: Path) -> None:
    """Trap 73: an adapter of another model, half of one, one of other sizes."""
    _, base, adapter = adapted("llama", tmp_path)
    change, why = BROKEN[kind]
    changed(adapter, change)
    with pytest.raises((ConfigError, DataError), match=why):
        taken(base, adapter)


def test_no_configuration_breaks_anything(tmp_path: Path) -> None:
    """Trap 70: each key of adapter_config.json is something else, in turn."""
    _, base, adapter = adapted("llama", tmp_path)
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    refused = 0
    for weird in WEIRD:
        for key in (*config, "a_key_of_tomorrow"):
            path.write_text(json.dumps({**config, key: weird}))
            try:
                taken(base, adapter)
            except TelosError:
                refused += 1
    assert refused > 100


def test_pickled_and_missing_files_are_refused(tmp_path: Path) -> None:
    """Trap 69; and an adapter alone is no model."""
    _, base, adapter = adapted("llama", tmp_path)
    with pytest.raises(ConfigError, match=r"is an adapter, which stands on a model.*adapter="):
        describe(str(adapter))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(DataError, match=r"adapter_model\.safetensors: there is no such file.*pickled"):
        describe(str(base), str(adapter))
    with pytest.raises(ConfigError, match=r"model\.from\.adapter = '.*nowhere': there is no such folder"):
        describe(str(base), str(tmp_path / "nowhere"))


# ---- through the doors


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("text") / "texts")


def test_what_went_out_as_an_adapter_comes_in_and_is_trained_on(texts: Path, tmp_path: Path) -> None:
    """Its first answers are those of the run that it came from; with new adapters on it, and another adapter
    is another beginning."""
    run, source = learned("llama", texts, tmp_path)
    assert "llama" in OUT and run.export("peft", tmp_path / "out")["base"] == str(source)
    begin = f"model.from={{source='{source}', adapter='{tmp_path / 'out'}'}}"
    given = [begin, *SHRUNK, "tune.only=lora", "train.optimizer.rate=1e-9", "name=on"]
    heard = Heard()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of fifty words few are in the text
        on = fit(load_recipe(texts, given), tmp_path / "runs", device="cpu", display=heard)
    assert any(f"with {tmp_path / 'out'} merged into it" in line for line in heard.said)
    before, after = run.network.state_dict(), open_run(on.folder, "cpu").network.state_dict()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)
    assert {name for name in last_weights(on) if name.endswith(".down")}
    assert open_run(on.folder).recipe.model.origin.adapter == str(tmp_path / "out")

    changed(tmp_path / "out", lambda found: {name: 2 * tensor for name, tensor in found.items()})
    with pytest.raises(ConfigError, match=re.escape("model.from.content")):
        fit(load_recipe(texts, given), tmp_path / "runs", device="cpu")
    with pytest.raises(ConfigError, match="is a run, and an adapter of peft stands on a folder"):
        load_recipe(texts, [f"model.from={{source='{run.folder}', adapter='{tmp_path / 'out'}'}}"])

"""Hugging Face both ways: the same logits to the last digits, and what is refused."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from telos import models
from telos.batch import Asked, Batch, HeadSpec
from telos.config import read
from telos.errors import ConfigError, DataError, ExportError
from telos.export import hf
from telos.export._base import Held, Trained, write
from telos.export.hf._base import Architecture, to_theirs
from telos.export.hf._case import Case, case, ours_say, rows_of, theirs_say
from telos.export.hf._source import describe, load
from telos.find import find
from telos.losses import LossSettings
from telos.models._base import Model, Network, Sizes
from telos.models._initial import initialise
from telos.objectives.causal import Causal
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from tests.export import theirs

LENGTHS = (1, 20, 512)
REPLACED = HeadSpec(name="replaced", outputs=2, kind="marks")
DISCRIMINATORS = ("electra", "electra-one-width")

MADE: dict[str, Callable[[], Any]] = {
    "gpt2": theirs.gpt2,
    "gpt2-untied": lambda: theirs.gpt2(tie_word_embeddings=False, n_inner=40),
    "llama": theirs.llama,
    "llama-tied": lambda: theirs.llama(
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 5e4}
    ),
    "llama-all-heads": lambda: theirs.llama(num_key_value_heads=4),
    "bert": theirs.bert,
    "bert-masked": lambda: theirs.bert("BertForMaskedLM"),
    "electra": theirs.electra,
    "electra-one-width": lambda: theirs.electra(embedding_size=theirs.WIDTH),
    "electra-generator": lambda: theirs.electra("ElectraForMaskedLM"),
    "modernbert": theirs.modernbert,
    "modernbert-all-see-all": lambda: theirs.modernbert(global_attn_every_n_layers=1),
    "t5-v1.0": theirs.t5,
    "t5-v1.1": lambda: theirs.t5(own_head=True, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5-v1.1-one-table": lambda: theirs.t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
"""By a name for the tests that begins with the architecture's."""


def architecture_of(name: str) -> Architecture:
    return find(hf, name.partition("-")[0], Architecture)()


def taken(folder: Path, window: int = theirs.WINDOW) -> tuple[Network, Model, Sizes]:
    """Our network with the weights of a folder."""
    found = describe(str(folder))
    table = dict(found.model)
    model = read(find(models, table.pop("name"), Model), table)
    config = json.loads((folder / "config.json").read_text())
    rows = config["vocab_size"]
    marks = "ElectraForPreTraining" in config["architectures"]
    sizes = Sizes(rows, window, (REPLACED if marks else HeadSpec(name="tokens", outputs=rows),))
    network = model.build(sizes)
    initialise(network, 7)
    load(str(folder), network, model, sizes)
    return network.eval(), model, sizes


def question(name: str, length: int, head: str = "tokens") -> Case:
    draw = torch.Generator().manual_seed(length)
    ids = torch.randint(5, theirs.VOCABULARY, (length,), generator=draw)

    class Vocabulary:
        mask, begin, end, pad, separate = 3, 1, 2, 0, 4

    return case(architecture_of(name), ids, Vocabulary(), head)  # type: ignore[arg-type]


def largest(a: Tensor, b: Tensor) -> float:
    """The largest difference as a share of the largest logit."""
    said = a[:, 1] if a.shape[1] == 2 else a  # of no or yes, that of no is always 0
    assert len(said) == 1 == said.numel() or said.std() >= 1, "logits too small to tell anything"
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("name", MADE)
def test_our_forward_says_what_theirs_says(name: str, tmp_path: Path) -> None:
    """Traps 86, 87, 91: with every tensor redrawn, at lengths 1, 20 and 512, in both precisions."""
    model = theirs.redrawn(MADE[name]())
    network, _, sizes = taken(theirs.saved(model, tmp_path))
    with torch.no_grad():
        kind = architecture_of(name)
        asked = [question(name, length, kind.asks(sizes)) for length in LENGTHS]
        for each in asked:
            assert largest(ours_say(network, each, kind), theirs_say(model, each, kind)) <= 1e-5
        network.double()
        with theirs.exactly(model) as exact:
            for each in asked:
                assert largest(ours_say(network, each, kind), theirs_say(exact, each, kind)) <= 1e-9


# ---- out: what we write, they open


def trained(name: str, seed: int = 0, **changed: Any) -> Trained:
    """A network of ours, every tensor redrawn, with a vocabulary and held-out text."""
    model = described(name, **changed)
    tokenizer = vocabulary()
    specs = [REPLACED if name in DISCRIMINATORS else HeadSpec(name="tokens", outputs=tokenizer.size)]
    if name == "bert":
        specs.append(HeadSpec(name="follows", outputs=2, kind="classes"))
    sizes = Sizes(tokenizer.size, 64, tuple(specs))
    network = model.build(sizes)
    initialise(network, seed)
    theirs.redrawn(network, seed)
    texts = ["the cat sat on the mat", "床前明月光,疑是地上霜", "def f(x): return x"]
    held = Held(name="three lines", documents=tuple(tokenizer.encode(text) for text in texts))
    return Trained(
        name="small",
        model=model,
        sizes=sizes,
        network=network,
        tokenizer=tokenizer,
        objective=Causal(),
        held=held,
    )


BERT = {
    "name": "encoder",
    "positions": "learned",
    "norm": "post",
    "feed": "gelu",
    "embedding": {"types": 2},
}
OURS: dict[str, dict[str, Any]] = {
    "gpt2": {"name": "decoder", "positions": "learned", "norm": "layer", "feed": "gelu"},
    "gpt2-untied": {
        "name": "decoder",
        "positions": "learned",
        "norm": "layer",
        "feed": "gelu",
        "tied": False,
    },
    "llama": {"name": "decoder", "heads": {"count": 4, "keys": 2}},
    "llama-untied": {"name": "decoder", "positions": {"kind": "rotary", "base": 5e4}, "tied": False},
    "bert": BERT,
    "electra": {**BERT, "embedding": {"width": 20, "types": 2}},
    "electra-one-width": BERT,
    "electra-generator": {**BERT, "embedding": {"width": 48, "types": 2}},
    "modernbert": {
        "name": "encoder",
        "heads": {"count": 4, "local": {"reach": 5, "every": 2, "base": 500.0}},
    },
    "t5-v1.0": {"name": "encoder_decoder", "feed": "relu", "tied": True},
    "t5-v1.1": {"name": "encoder_decoder", "depth": {"encoder": 2, "decoder": 1}},
}


def described(name: str, **changed: Any) -> Model:
    table = {"width": 32, "depth": 2, "heads": 4, **OURS[name], **changed}
    return read(find(models, table.pop("name"), Model), table)


@cache
def vocabulary() -> Tokenizer:
    texts = ["the cat sat on the mat and the dog", "床前明月光,疑是地上霜。"] * 20
    return train_tokenizer(TokenizerSettings(kind="bpe", size=320), iter(texts))


@pytest.mark.parametrize("name", OURS)
def test_what_is_written_says_the_same_and_comes_back(name: str, tmp_path: Path) -> None:
    """Traps 64, 86, 87, 88, 91: proved by the export itself; loaded twice it is the same; read back, every
    tensor is the one that it was, and a tied head is in the file once."""
    given = trained(name)
    folder = tmp_path / "out"
    figures = write("hf", given, folder)
    assert figures["architecture"] == name.partition("-")[0] and set(figures["logits"]) == {
        "float32",
        "float64",
    }
    assert json.loads((folder / "telos.json").read_text()) == figures
    assert not list(folder.glob("*.bin")) and "auto_map" not in (folder / "config.json").read_text()
    kind = architecture_of(name)
    opened = getattr(theirs.transformers, kind.opened_by(given.sizes))
    first, told = opened.from_pretrained(folder, output_loading_info=True)
    again = opened.from_pretrained(folder)
    assert not any(told.values())
    for (one, a), (two, b) in zip(first.named_parameters(), again.named_parameters(), strict=True):
        assert one == two and torch.equal(a, b)
    back = given.model.build(given.sizes)
    initialise(back, 99)
    assert load(str(folder), back, given.model, given.sizes) == []
    assert all(torch.equal(a, b) for a, b in zip(given.network.parameters(), back.parameters(), strict=True))
    assert Tokenizer.load(folder / "tokenizer.json").hash == given.tokenizer.hash
    found = dict(describe(str(folder)).model)
    assert read(find(models, found.pop("name"), Model), found).parameter_count(
        given.sizes
    ) == given.model.parameter_count(given.sizes)


def test_both_heads_of_bert_say_the_same(tmp_path: Path) -> None:
    """Trap 36: class 0 of the second head, "it follows", is our 1; and the loss of a masked batch is one
    number."""
    given = trained("bert")
    write("hf", given, tmp_path / "out")
    opened = theirs.transformers.BertForPreTraining.from_pretrained(tmp_path / "out").eval()
    ids = torch.from_numpy(np.concatenate(given.held.documents))
    types = (torch.arange(len(ids)) >= len(ids) // 2).long()
    asked = case(architecture_of("bert"), ids, given.tokenizer)
    rows = replace(rows_of(asked.ids, "full"), types=types[None])
    labels = torch.full_like(ids, -100).index_put((asked.at,), asked.target)
    with torch.no_grad():
        hidden, _ = given.network.eval().encode(rows)
        answer = opened(
            input_ids=asked.ids[None],
            token_type_ids=types[None],
            labels=labels[None],
            next_sentence_label=torch.tensor([0]),
        )
        second = given.network.logits(hidden[:, 0], "follows")
        flat = Asked(
            head="tokens", term="tokens", at=asked.at, target=asked.target, weight=torch.ones(len(asked.at))
        )
        follow = Asked(
            head="follows",
            term="next",
            at=torch.tensor([0]),
            target=torch.tensor([1]),
            weight=torch.ones(1),
        )
        answered = given.network(Batch(main=rows, asks=(flat, follow)))
    there = answer.seq_relationship_logits.flip(-1)
    torch.testing.assert_close(second, there, rtol=1e-5, atol=1e-5)
    loss = answered.sums["tokens"] / len(asked.at) + answered.sums["next"]
    torch.testing.assert_close(loss, answer.loss, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["electra", "electra-generator"])
def test_what_is_written_says_the_same_to_the_last_digits(name: str, tmp_path: Path) -> None:
    """Out as well as in: every tensor redrawn, no weight rounded on its way; and one loss for one batch."""
    given = trained(name)
    write("hf", given, tmp_path / "out")
    kind = architecture_of(name)
    opened = (
        getattr(theirs.transformers, kind.opened_by(given.sizes)).from_pretrained(tmp_path / "out").eval()
    )
    head = kind.asks(given.sizes)
    text = torch.from_numpy(np.resize(np.concatenate(given.held.documents), 64).astype(np.int64))
    asked = [case(kind, text[:length], given.tokenizer, head) for length in (1, 20, 64)]
    whole = asked[-1]
    weights = torch.ones(len(whole.at))
    ask = Asked(head=head, term=head, at=whole.at, target=whole.target, weight=weights)
    labels = torch.full_like(text, -100).index_put((whole.at,), whole.target)
    assert head == "tokens" or 5 < int(whole.target.sum()) < 20
    network = given.network.eval()
    with torch.no_grad():
        for each in asked:
            assert largest(ours_say(network, each, kind), theirs_say(opened, each, kind)) <= 1e-5
        batch = Batch(main=rows_of(whole.ids, "full"), asks=(ask,))
        loss = network(batch).sums[head] / len(whole.at)
        there = opened(input_ids=whole.ids[None], labels=labels[None]).loss
        torch.testing.assert_close(loss, there, rtol=1e-5, atol=1e-6)
        network.double()
        with theirs.exactly(opened) as exact:
            for each in asked:
                assert largest(ours_say(network, each, kind), theirs_say(exact, each, kind)) <= 1e-9


def test_of_two_heads_electra_keeps_the_one_that_it_has(tmp_path: Path) -> None:
    """A discriminator that hid tokens as well; and BERT is what has one width and says tokens."""
    both = trained("electra")
    sizes = both.sizes._replace(heads=(HeadSpec(name="tokens", outputs=both.sizes.vocabulary), REPLACED))
    network = theirs.redrawn(both.model.build(sizes))
    figures = write("hf", replace(both, network=network, sizes=sizes), tmp_path / "out")
    assert figures["architecture"] == "electra"
    assert not [name for name in load_file(tmp_path / "out" / "model.safetensors") if "generator" in name]
    _, model, sizes = taken(tmp_path / "out", 64)
    tokens = sizes._replace(heads=(HeadSpec(name="tokens", outputs=sizes.vocabulary),))
    said = load(str(tmp_path / "out"), model.build(tokens), model, tokens)
    assert [line for line in said if line.startswith("heads.tokens.bias starts anew")]
    assert [line for line in said if "not used" in line and "discriminator_predictions" in line]
    source = theirs.saved(theirs.bert(), tmp_path / "bert")
    bert = described("bert", feed={"kind": "gelu", "width": 48})
    marks = sizes._replace(vocabulary=theirs.VOCABULARY, heads=(REPLACED,))
    said = load(str(source), bert.build(marks), bert, marks)
    assert "heads.replaced.weight starts anew: a bert has no such head" in said


@pytest.mark.parametrize("part", ["feed.inward.weight", "norm.weight", "places.weight"])
def test_an_export_that_says_something_else_fails_and_leaves_nothing(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 91: a tensor that goes astray on its way is seen, and no folder is left."""
    from telos.export.hf import _write

    def astray(pairs: Any, ours: Any) -> Any:
        name = next(pair.theirs[0] for pair in pairs if pair.ours.endswith(part))
        written = to_theirs(pairs, ours)
        return {**written, name: written[name] * 1.01}

    monkeypatch.setattr(_write, "to_theirs", astray)
    with pytest.raises(ExportError, match="says something else"):
        write("hf", trained("gpt2"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["soft_cap", "cutoffs"])
def test_a_head_that_theirs_has_not_is_refused(name: str, tmp_path: Path) -> None:
    """Left out, the folder would say something else than the run."""
    loss = LossSettings(**({"soft_cap": 3.0} if name == "soft_cap" else {"cutoffs": (10,)}))
    right = trained("gpt2")
    with pytest.raises(ConfigError, match=rf"loss\.{name}: no architecture"):
        write("hf", replace(right, sizes=right.sizes._replace(loss=loss)), tmp_path / "out")


def test_what_is_no_architecture_of_theirs_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)gpt2: a decoder with.*positions are rotary.*llama: a decoder"
    ):
        write("hf", trained("gpt2", positions="rotary"), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"has no 'hff'\. Did you mean 'hf'"):
        write("hff", trained("gpt2"), tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "diary.txt").write_text("mine")
    with pytest.raises(ConfigError, match="something else, not an export"):
        write("hf", trained("gpt2"), tmp_path / "other")
    assert (tmp_path / "other" / "diary.txt").read_text() == "mine"


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"telos-lm\[hf\]"):
        write("hf", trained("gpt2"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- in: what is refused, and what is said


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    """Trap 69: nothing is unpickled; what to do is said."""
    folder = theirs.saved(theirs.gpt2(), tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pickled.*save_pretrained"):
        describe(str(folder))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"model_type": "os.system"}, "model_type = 'os.system' is not known"),
        ({"model_type": "../llama"}, "is not known here"),
        ({"model_type": ["llama"]}, "is not known here"),
        ({"n_embd": "64"}, "n_embd = '64': expected a whole number"),
        ({"n_head": -1}, "n_head = -1"),
        ({"activation_function": "relu"}, "activation_function = 'relu'"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon = 'small': expected a number"),
    ],
    ids=["code", "path", "list", "text", "negative", "activation", "epsilon"],
)
def test_a_configuration_that_means_something_else_is_refused(
    changed: dict[str, Any], why: str, tmp_path: Path
) -> None:
    """Trap 70: no name in it is ever imported."""
    folder = theirs.saved(theirs.gpt2(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(ConfigError, match=re.escape(why)):
        describe(str(folder))


def test_weights_that_are_missing_or_contradict_are_refused(tmp_path: Path) -> None:
    """Traps 73, 87: a truncated file, a missing tensor, a head that is said to be tied and is another."""
    folder = theirs.saved(theirs.redrawn(theirs.gpt2()), tmp_path)
    whole = load_file(folder / "model.safetensors")
    save_file({**whole, "lm_head.weight": torch.randn(64, 32)}, folder / "model.safetensors")
    with pytest.raises(DataError, match="another one, lm_head"):
        taken(folder)
    save_file({k: v for k, v in whole.items() if "ln_2" not in k}, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"lack transformer\.h\.0\.ln_2"):
        taken(folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(DataError, match="not a safetensors file"):
        taken(folder)


def test_a_body_alone_and_parts_of_files_are_read(tmp_path: Path) -> None:
    """GPT-2's own files have no `transformer.` in their names, and masks that are no weights; large models
    come in parts."""
    model = theirs.redrawn(theirs.gpt2())
    folder = theirs.saved(model, tmp_path)
    bare = {k.removeprefix("transformer."): v for k, v in load_file(folder / "model.safetensors").items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    names = sorted(bare)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, inside in parts.items():
        save_file({name: bare[name] for name in inside}, folder / part)
    table = {name: part for part, inside in parts.items() for name in inside}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    (folder / "model.safetensors").unlink()
    network, _, _ = taken(folder)
    asked = question("gpt2", 20)
    with torch.no_grad():
        kind = architecture_of("gpt2")
        assert largest(ours_say(network, asked, kind), theirs_say(model, asked, kind)) <= 1e-5


def test_the_embedding_grows_for_special_tokens_and_the_window_may_be_shorter(tmp_path: Path) -> None:
    """Trap 88: the rows of known tokens stay, new ones are drawn, and it is said."""
    model = theirs.redrawn(theirs.gpt2())
    folder = theirs.saved(model, tmp_path)
    found = dict(describe(str(folder)).model)
    description = read(find(models, found.pop("name"), Model), found)
    sizes = Sizes(70, 16, (HeadSpec(name="tokens", outputs=70),))
    network = description.build(sizes)
    initialise(network, 0)
    said = load(str(folder), network, description, sizes)
    assert said == ["the embedding grew from 64 to 70 rows, for special tokens"]
    assert torch.equal(network.embedding.weight[:64], model.transformer.wte.weight)
    assert torch.equal(network.places.weight, model.transformer.wpe.weight[:16])
    assert 0 < network.embedding.weight[64:].std() < 0.05
    with pytest.raises(ConfigError, match=r"Set train\.window to at most 512"):
        load(str(folder), network, description, sizes._replace(window=513))


def test_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[Any] = []

    def offline(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ConfigError, match=r"could not be fetched from the hub.*no network"):
        describe("somebody/model")
    assert asked[0][0] == "somebody/model" and not [p for p in asked[0][1] if "bin" in p or p == "*"]
    for nothing in (str(tmp_path / "nothing"), "gpt2"):
        with pytest.raises(ConfigError, match=r"no such folder.*OWNER/NAME"):
            describe(nothing)
    assert len(asked) == 1
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, allow_patterns: str(theirs.saved(theirs.gpt2(), tmp_path)),
    )
    assert describe("somebody/model").model["name"] == "decoder"

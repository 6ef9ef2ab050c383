"""Classes with names, to Hugging Face and back: the same logits, the same names, what cannot be the same."""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from telos import models
from telos.batch import Piece
from telos.cli import app
from telos.config import read
from telos.errors import ConfigError, DataError, ExportError, TelosError
from telos.export import _base as formats
from telos.export._base import Held, Trained, write
from telos.export.hf._case import ours_judge
from telos.export.hf._source import describe, load
from telos.find import find
from telos.models._base import Model, Network, Sizes
from telos.models._initial import initialise
from telos.objectives.classify import Classify
from telos.run import Run, fit, load_recipe
from telos.tasks.classification import classify
from telos.tokenizer import Tokenizer
from tests.export import theirs
from tests.export.test_hf import described, vocabulary
from tests.export.test_untrusted import WEIRD
from tests.small import NARROW, SHRUNK, labelled, last_weights, write_labelled
from tests.test_origin import Heard

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft

NAMES = ("no", "maybe", "yes")
NUMBERED = {"id2label": dict(enumerate(NAMES)), "label2id": {name: n for n, name in enumerate(NAMES)}}
MADE: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: theirs.gpt2("GPT2ForSequenceClassification", **NUMBERED),
    "llama": lambda: theirs.llama("LlamaForSequenceClassification", **NUMBERED),
    "bert": lambda: theirs.bert("BertForSequenceClassification", **NUMBERED),
    "modernbert": lambda: theirs.modernbert("ModernBertForSequenceClassification", **NUMBERED),
    "modernbert-mean": lambda: theirs.modernbert(
        "ModernBertForSequenceClassification", classifier_pooling="mean", **NUMBERED
    ),
}
WAYS = {
    "gpt2": ("causal", "mark"),
    "llama": ("causal", "mark"),
    "bert": ("full", "mark"),
    "modernbert": ("full", "mark"),
    "modernbert-mean": ("full", "all"),
}
"""How each is asked, as the settings of the objective say it."""


def asked(folder: Path, **given: Any) -> Classify:
    """The objective as a recipe that starts from the folder has it."""
    head = describe(str(folder)).classes
    return read(Classify, given if head is None else Classify.knowing(given, head), "objective")


def taken(folder: Path, objective: Classify) -> tuple[Network, list[str]]:
    """Our network with the weights of a folder, and what is said of it."""
    table = dict(describe(str(folder)).model)
    model = read(find(models, table.pop("name"), Model), table)
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    sizes = Sizes(rows, theirs.WINDOW, objective.heads(rows))
    network = model.build(sizes)
    initialise(network, 7)
    return network.eval(), load(str(folder), network, model, sizes)


# ---- in


@pytest.mark.parametrize("name", MADE)
def test_our_head_says_what_theirs_says(name: str, tmp_path: Path) -> None:
    """Every tensor redrawn, short and long, in both precisions; asked as the folder says, by its names."""
    model = theirs.redrawn(MADE[name]())
    folder = theirs.saved(model, tmp_path)
    objective = asked(folder)
    assert (objective.labels, (objective.read, objective.pool)) == (NAMES, WAYS[name])
    network, said = taken(folder, objective)
    assert not [line for line in said if "anew" in line or "not used" in line]
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    draw = np.random.default_rng(3)
    texts = [draw.integers(5, theirs.VOCABULARY, length) for length in (1, 20, theirs.WINDOW - 2)]
    rows = [objective.judged(Piece(ids=ids, document=0), tokenizer) for ids in texts]

    def furthest(there: Any) -> float:
        ours = torch.cat([ours_judge(network, row) for row in rows])
        ids = [torch.from_numpy(row.main.ids)[None] for row in rows]
        answers = torch.cat([there(input_ids=each).logits for each in ids])
        assert ours.std() > 0.3, "logits too small to tell anything"
        return float((ours - answers).abs().max() / answers.abs().max())

    with torch.no_grad():
        assert furthest(model) <= 1e-5
        network.double()
        with theirs.exactly(model) as exact:
            assert furthest(exact) <= 1e-9


def test_names_of_a_recipe_that_are_others_begin_anew(tmp_path: Path) -> None:
    """Said with both; what stands before the rows is taken all the same, and nothing else is touched."""
    model = theirs.redrawn(MADE["bert"]())
    folder = theirs.saved(model, tmp_path)
    for labels in (["no", "yes"], ["yes", "maybe", "no"]):
        objective = asked(folder, labels=labels, pool="mean")
        assert objective.pool == "mean" and list(objective.labels) == labels
        network, said = taken(folder, objective)
        assert (
            f"the head there is for other classes (no, maybe, yes) than here ({', '.join(labels)})" in said[0]
        )
        assert said[0].startswith("heads.label starts anew") and len(said) == 1
        weights = network.state_dict()
        assert torch.equal(weights["heads.label.transform.dense.weight"], model.bert.pooler.dense.weight)
        assert (
            float(weights["heads.label.weight"].abs().max()) < 0.2 and not weights["heads.label.bias"].any()
        )


def test_classes_without_names_must_be_named_in_the_order_of_their_rows(tmp_path: Path) -> None:
    model = theirs.redrawn(theirs.bert("BertForSequenceClassification", num_labels=3))
    folder = theirs.saved(model, tmp_path)
    with pytest.raises(ConfigError, match=r"for 3 classes, and nobody named them.*objective\.labels="):
        asked(folder)
    network, said = taken(folder, asked(folder, labels=["a", "b", "c"]))
    assert said[0] == "the classes there have no names; in the order of their rows they are a, b, c"
    assert torch.equal(dict(network.named_parameters())["heads.label.weight"], model.classifier.weight)
    _, said = taken(folder, asked(folder, labels=["a", "b"]))
    assert "for other classes (3 without names) than here (a, b)" in said[0]


@pytest.mark.parametrize("given", [{"read": "causal"}, {"pool": "mean"}, {"pool": "all"}], ids=str)
def test_a_head_that_is_asked_otherwise_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    folder = theirs.saved(MADE["bert"](), tmp_path)
    ((key, value),) = given.items()
    with pytest.raises(ConfigError, match=rf"not asked so: objective\.{key} = '{value}'.*Set it to"):
        asked(folder, **given)


@pytest.mark.parametrize(
    "changed",
    [{"problem_type": "multi_label_classification"}, {"num_labels": 1}],
    ids=["several", "regression"],
)
def test_a_head_that_does_not_choose_begins_anew(changed: dict[str, Any], tmp_path: Path) -> None:
    folder = theirs.saved(theirs.redrawn(theirs.bert("BertForSequenceClassification", **changed)), tmp_path)
    assert describe(str(folder)).classes is None
    _, said = taken(folder, Classify(labels=("a", "b")))
    assert said == ["heads.label starts anew: the head there is not one that chooses between classes"]


def test_a_model_without_such_a_head_gives_what_stands_before_it(tmp_path: Path) -> None:
    """As transformers does: the pooler of a pretrained BERT, the layers before ModernBERT's tokens."""
    objective = Classify(labels=("a", "b"))
    for name, made, dense in (
        ("bert", theirs.bert(), lambda model: model.bert.pooler.dense),
        ("modernbert", theirs.modernbert(), lambda model: model.head.dense),
    ):
        model = theirs.redrawn(made)
        network, said = taken(theirs.saved(model, tmp_path / name), objective)
        weights = dict(network.named_parameters())
        assert torch.equal(weights["heads.label.transform.dense.weight"], dense(model).weight)
        assert any(line.startswith("heads.label.weight starts anew") for line in said)


def test_an_untied_head_for_tokens_is_left(tmp_path: Path) -> None:
    folder = theirs.saved(theirs.redrawn(theirs.llama()), tmp_path)
    _, said = taken(folder, Classify(labels=("a", "b"), read="causal"))
    assert any("heads.label.weight starts anew" in line for line in said)


def test_what_stands_around_a_text_there_is_said_where_it_is_not_as_here(tmp_path: Path) -> None:
    """The plain tokenizer puts nothing around; what Telos writes puts the same as it reads."""
    folder = theirs.saved(theirs.redrawn(MADE["llama"]()), tmp_path)
    _, said = taken(folder, asked(folder))
    assert any("reads a text as w0, and here it is read as <|begin|> w0 <|end|>" in line for line in said)
    right = Tokenizer.load(folder / "tokenizer.json").for_others(["begin"], ["end"])
    (folder / "tokenizer.json").write_text(right, encoding="utf-8")
    assert taken(folder, asked(folder))[1] == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, "id2label = .*expected a name for each number"),
        ({"id2label": {"0": "a", "1": 7}}, "id2label = .*expected a name"),
        ({"id2label": "a, b"}, "id2label = 'a, b'"),
        ({"id2label": {}}, "id2label = {}"),
        ({"num_labels": "many", "id2label": None}, "num_labels = 'many'"),
        ({"classifier_pooling": "last"}, "classifier_pooling.*asked in another way"),
    ],
    ids=["gap", "number", "text", "empty", "count", "pooling"],
)
def test_a_configuration_that_cannot_be_is_refused(changed: dict[str, Any], why: str, tmp_path: Path) -> None:
    folder = theirs.saved(MADE["modernbert"](), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(ConfigError, match=why):
        describe(str(folder))


def test_no_configuration_breaks_anything(tmp_path: Path) -> None:
    """Trap 70: what it says of classes is something else, in turn."""
    folder = theirs.saved(MADE["modernbert"](), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    keys = ("architectures", "id2label", "label2id", "num_labels", "problem_type", "classifier_pooling")
    refused = 0
    for weird in WEIRD:
        for key in keys:
            (folder / "config.json").write_text(json.dumps({**config, key: weird}))
            try:
                taken(folder, asked(folder, labels=["no", "maybe", "yes"]))
            except TelosError:
                refused += 1
    assert refused > 10


# ---- out


def judging(name: str, read_as: str, pool: str, **changed: Any) -> Trained:
    """A network of ours that puts texts in classes, every tensor redrawn."""
    model = described(name, **changed)
    tokenizer = vocabulary()
    objective = Classify(labels=NAMES, read=read_as, pool=pool)  # type: ignore[arg-type]
    sizes = Sizes(tokenizer.size, 64, objective.heads(tokenizer.size))
    network = theirs.redrawn(model.build(sizes))
    texts = ["the cat sat on the mat", "床前明月光,疑是地上霜", "def f(x): return x", "a"]
    held = Held(name="four lines", documents=tuple(tokenizer.encode(text) for text in texts))
    return Trained(
        name="judge",
        model=model,
        sizes=sizes,
        network=network,
        tokenizer=tokenizer,
        objective=objective,
        held=held,
    )


@pytest.mark.parametrize("name", [*WAYS, "llama-untied"])
def test_what_is_written_says_the_same_and_comes_back(name: str, tmp_path: Path) -> None:
    """Proved by the export itself; opened by the plain class it has the names; read back, every tensor is the
    one that it was."""
    read_as, pool = WAYS[name.removesuffix("-untied")]
    given = judging(name.removesuffix("-mean"), read_as, pool)
    folder = tmp_path / "out"
    figures = write("hf", given, folder)
    assert figures["architecture"] == name.partition("-")[0]
    assert figures["classes"]["names"] == list(NAMES) and figures["classes"]["texts"] == 5
    assert "perplexity" not in figures and set(figures["logits"]["float64"]) == {"1", "20", "62"}
    opened, told = theirs.transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(told.values()) and opened.config.id2label == dict(enumerate(NAMES))
    assert opened.config.label2id == {label: number for number, label in enumerate(NAMES)}
    tokens = given.tokenizer
    ids = theirs.transformers.AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"]
    last = tokens.end if read_as == "causal" else tokens.separate
    assert ids == [tokens.begin, *tokens.encode("the cat").tolist(), last]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert (
        "text-classification" in card and "AutoModelForSequenceClassification" in card and "no, maybe" in card
    )
    back = given.model.build(given.sizes)
    initialise(back, 99)
    assert load(str(folder), back, given.model, given.sizes) == []
    assert all(torch.equal(a, b) for a, b in zip(given.network.parameters(), back.parameters(), strict=True))
    assert asked(folder) == given.objective


@pytest.mark.parametrize(
    ("name", "way", "why"),
    [
        (
            "gpt2",
            ("causal", "mean"),
            "asked by the mean of the text's own places, and by a GPT2ForS.* at its last",
        ),
        (
            "llama",
            ("causal", "all"),
            "asked by the mean of all places of its row, and by a LlamaForS.* at its last",
        ),
        ("llama", ("full", "mark"), "is read in both directions, and by a LlamaForS.* from left to right"),
        ("bert", ("full", "mean"), "mean of the text's own places, and by a BertForS.* at its first place"),
        ("bert", ("full", "all"), "mean of all places of its row, and by a BertForS.* at its first place"),
        ("bert", ("causal", "mark"), "from left to right, and by a BertForS.* in both directions"),
        (
            "modernbert",
            ("full", "mean"),
            "own places, and by a ModernBertForS.* at its first place or by the mean",
        ),
        ("electra", ("full", "mark"), "electra: .*its head for classes has a tanh, and theirs a GELU"),
    ],
    ids=[
        "gpt2-mean",
        "llama-all",
        "llama-full",
        "bert-mean",
        "bert-all",
        "bert-causal",
        "modernbert-mean",
        "electra",
    ],
)
def test_what_is_asked_otherwise_is_refused_by_reason(
    name: str, way: tuple[str, str], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=why):
        write("hf", judging(name, *way), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_end_that_pads_is_refused(tmp_path: Path) -> None:
    """Theirs asks the last token that does not pad: it would never be the end."""
    given = judging("llama", "causal", "mark")
    tokenizer = Tokenizer.load(_saved(given.tokenizer, tmp_path), played={"pad": "<|end|>"})
    assert tokenizer.pad == tokenizer.end
    with pytest.raises(ConfigError, match="its end token pads as well"):
        write("hf", replace(given, tokenizer=tokenizer), tmp_path / "out")


def _saved(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(folder / "tokenizer.json")
    return folder / "tokenizer.json"


def rewritten(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        table = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(change(table)), encoding="utf-8")

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "names": (
        rewritten("config.json", lambda table: {**table, "id2label": {"0": "yes", "1": "maybe", "2": "no"}}),
        "the classes are .*yes.* there, and no, maybe, yes here",
    ),
    "frame": (
        rewritten("tokenizer.json", lambda table: {**table, "post_processor": None}),
        "of held-out texts that are padded together logits in float32 differ",
    ),
    "window": (
        rewritten("tokenizer_config.json", lambda table: {**table, "model_max_length": 32}),
        "of held-out texts that are padded together logits in float32 differ",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_folder_that_judges_otherwise_is_not_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever file of it is wrong: the names, what is put around a text, where it is cut."""
    from telos.export.hf import _write

    right, (damage, why) = _write.write_model, DAMAGE[kind]

    def wrong(trained: Any, architecture: Any, name: str, folder: Path) -> None:
        right(trained, architecture, name, folder)
        damage(folder)

    monkeypatch.setattr(_write, "write_model", wrong)
    with pytest.raises(ExportError, match=re.compile(why, re.DOTALL)):
        formats.write("hf", judging("gpt2", "causal", "mark"), tmp_path / "out")
    assert not list(tmp_path.iterdir())


# ---- through the doors

STILL = "train.optimizer.rate=1e-9"


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("texts") / "reviews.csv", labelled(60, 3))


def small(*changes: str) -> list[str]:
    return [*SHRUNK, "data.split={validation=0.2, test=0.2}", *changes]


@pytest.fixture(scope="module", params=["decoder", "encoder"])
def finished(request: pytest.FixtureRequest, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    read_as = "causal" if request.param == "decoder" else "full"
    given = [f"model.name={request.param}", *NARROW[request.param], "tokenizer={kind='word', size=0}"]
    given += [f"objective={{name='classify', read='{read_as}'}}", "train.budget.steps=30"]
    rate = ["train.optimizer.rate=0.02", "name=first"]
    return fit(load_recipe(reviews, small(*given, *rate)), tmp_path_factory.mktemp("runs"), device="cpu")


def test_a_classifier_goes_out_and_another_run_begins_where_it_ended(
    finished: Run, reviews: Path, tmp_path: Path
) -> None:
    """By the command; opened by the library, texts get the classes that we give them; started from, the head
    is the same and so are the figures on held-out text."""
    done = CliRunner().invoke(
        app, ["export", str(finished.folder), "--to", "hf", "--out", str(tmp_path / "hf")]
    )
    assert done.exit_code == 0, done.output
    assert "negative, neutral, positive" in done.output and "perplexity" not in done.output
    card = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert "accuracy on" in card and "perplexity" not in card
    model = theirs.transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf")
    tokenizer = theirs.transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    texts = [text for text, _ in labelled(12, 3, first=100)]
    with torch.no_grad():
        answers = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    ours = torch.from_numpy(finished.classifier.logits(texts)).float()
    torch.testing.assert_close(answers, ours, rtol=1e-4, atol=1e-4)
    assert float(answers.std(0).max()) > 1e-2, "all texts are alike: this shows nothing"
    best = [model.config.id2label[number] for number in answers.argmax(-1).tolist()]
    assert best == [each.label for each in classify(finished, texts)]

    heard = Heard()
    given = [f"model.from={tmp_path / 'hf'}", "objective=classify", STILL, "name=second"]
    recipe = load_recipe(reviews, small(*given))
    assert recipe.objective.labels == finished.recipe.objective.labels
    assert recipe.objective.read == finished.recipe.objective.read
    second = fit(recipe, tmp_path / "runs", device="cpu", display=heard)
    assert not [line for line in heard.said if "anew" in line or "says something else" in line]
    before = finished.network.state_dict()
    for name, tensor in last_weights(second).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-6)
    one, two = (run.evaluate("test")["classification"]["confusion"] for run in (finished, second))
    assert one == two


def test_classes_of_the_text_that_the_folder_does_not_know_are_told(
    finished: Run, reviews: Path, tmp_path: Path
) -> None:
    source = finished.export("hf", tmp_path / "hf")["folder"]
    other = write_labelled(tmp_path / "other.csv", [(text, label.upper()) for text, label in labelled(60, 3)])
    given = [f"model.from={source}", STILL, "name=told"]
    told = r"'NEGATIVE' is none of the classes.*There are: negative, neutral, positive.*are its own"
    with pytest.raises(DataError, match=told):
        fit(load_recipe(other, small(*given, "objective=classify")), tmp_path / "runs", device="cpu")
    heard = Heard()
    named = "objective={name='classify', labels=['NEGATIVE', 'NEUTRAL', 'POSITIVE']}"
    fit(load_recipe(other, small(*given, named, "name=anew")), tmp_path / "runs", device="cpu", display=heard)
    assert any(
        "(negative, neutral, positive) than here (NEGATIVE, NEUTRAL, POSITIVE)" in s for s in heard.said
    )
    for objective in ("together", "distil"):
        of = "['classify']" if objective == "together" else "'classify', teacher='x'"
        recipe = load_recipe(other, small(*given, f"objective={{name='{objective}', of={of}}}"))
        assert recipe.objective.classes() == ("negative", "neutral", "positive")


def test_adapters_of_a_classifier_go_out_with_its_head(finished: Run, reviews: Path, tmp_path: Path) -> None:
    """The head learned too, so the base that has it comes with the adapters."""
    source = finished.export("hf", tmp_path / "hf")["folder"]
    given = [f"model.from={source}", "objective=classify", "tune.only=lora", "train.optimizer.rate=0.05"]
    run = fit(load_recipe(reviews, small(*given, "name=adapted")), tmp_path / "runs", device="cpu")
    figures = run.export("peft", tmp_path / "out")
    assert figures["base"] == "base" and figures["classes"]["names"] == ["negative", "neutral", "positive"]
    base = theirs.transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of peft's ways with transformers
        model = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    tokenizer = theirs.transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = [text for text, _ in labelled(6, 3, first=100)]
    with torch.no_grad():
        there = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    ours = torch.from_numpy(run.classifier.logits(texts)).float()
    torch.testing.assert_close(ours, there, rtol=1e-4, atol=1e-4)
    assert "modules_to_save" not in str(load_file(tmp_path / "out" / "adapter_model.safetensors").keys())

"""Trap 39: no setting is dead. Each is flipped in a small run from end to end, and something that the run
says must differ.

What a run says: the lines of its log but for clock times, its checkpoints, figures, samples and data card,
or the error that refuses the setting by name. Settings that are meant to change none of that are listed here
with what they do change.
"""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import telos
from telos.config import read
from telos.errors import TelosError
from telos.recipe import Recipe
from telos.run import fit
from tests.recipes_tree import candidates, dotted_keys, put, settings_classes
from tests.small import write_texts

ALSO: dict[str, Any] = {"tokenizer.min_frequency": 1000, "generate.stop": ["e", "n", "t", "a", " ", "l"]}
"""Further values to try."""
CLOCK = ("seconds", "tokens_per_second")
MEANT_TO_CHANGE_NOTHING = {
    "version": "the format of the recipe: tests/test_config.py::test_a_newer_recipe_is_refused",
    "data.columns": "tables without a line of names: tests/data/test_tables.py",
    "data.target_key": "rows with targets: tests/data/test_tables.py",
    "data.label_key": "rows with labels: tests/data/test_tables.py",
    "data.pair": "two files of sentence pairs: tests/data/test_tables.py",
    "data.subset": "data sets of the hub: tests/data/test_tables.py",
    "data.decontaminate.against": "with an action: tests/data/test_whole_pipeline.py",
    "data.decontaminate.share": "with an action: tests/data/test_whole_pipeline.py",
    "data.decontaminate.words": "with an action: tests/data/test_overlap.py",
    "data.dedupe.exact": "texts that stand twice: tests/data/test_whole_pipeline.py",
    "data.dedupe.threshold": "where near copies are looked for: tests/data/test_near.py",
    "data.engine.address": "who does the work: tests/data/test_engine.py",
    "data.engine.kind": "who does the work: tests/data/test_engine.py",
    "data.prepared": "where the prepared data is: tests/data/test_elsewhere.py",
    "data.engine.workers": "who does the work: tests/data/test_engine.py",
    "data.privacy.action": "text with personal data: tests/data/test_whole_pipeline.py",
    "data.privacy.names": "text with names: tests/data/test_privacy_names.py",
    "data.privacy.replacement": "text with personal data: tests/data/test_privacy.py",
    "data.privacy.seed": "text with personal data: tests/data/test_privacy.py",
    "data.remote.allow_hosts": "text that is elsewhere: tests/data/test_whole_pipeline.py",
    "data.remote.cache": "text that is elsewhere: tests/data/test_remote.py",
    "data.remote.gigabytes": "text that is elsewhere: tests/data/test_remote.py",
    "evaluate.batch": "time and memory only: tests/evaluate/test_likelihood.py",
    "generate.batch": "time and memory only: tests/generate/test_left_to_right.py",
    "train.loader.workers": "processes that make batches: tests/data/test_loader.py",
    "train.loader.timeout": "how long a hanging worker is waited for: tests/data/test_loader.py",
    "train.compute.compile": "time and rounding: tests/train/test_compiled.py",
    "train.compute.recompute": "time and memory only: tests/train/test_recompute.py",
    "train.watch.stop_after_bad": "what follows non-finite steps: tests/train/test_loop.py",
}

_COMMON: dict[str, Any] = {
    "objective": {"name": "causal"},
    "tokenizer": {"size": 290},
    "train": {
        "window": 12,
        "batch": 4,
        "budget": {"steps": 6},
        "optimizer": {"name": "adamw", "rate": 0.01},
        "schedule": {"kind": "wsd", "warmup": 2.0, "decay": 0.5, "final": 0.1},
        "compute": {"precision": "float32", "clip": 0.5},
        "watch": {"evaluate_every": 2, "checkpoint_every": 2, "log_every": 1, "keep": 1},
        "loader": {"block": 1},
    },
    "generate": {"temperature": 1.5, "length": 6},
}
BASES: dict[str, dict[str, Any]] = {
    "decoder": {**_COMMON, "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2}},
    "gru": {
        **put(_COMMON, "train.loader.carry", True),
        "model": {
            "name": "gru",
            "cell": "lstm",
            "embedding": 8,
            "width": 8,
            "depth": 2,
            "dropout": {"input": 0.5},
        },
    },
    "encoder": {
        **_COMMON,
        "model": {
            "name": "encoder",
            "width": 16,
            "depth": 2,
            "heads": {"count": 2, "local": {"reach": 2, "base": 50.0}},
        },
    },
    "experts": {
        **_COMMON,
        "model": {
            "name": "decoder",
            "width": 16,
            "depth": 1,
            "heads": 2,
            "norm": {"epsilon": 1e-3},
            "feed": {"width": 8, "experts": {"count": 4, "active": 2, "rate": 0.05}},
        },
    },
    "encoder_decoder": {
        **put(
            put(_COMMON, "objective", {"name": "span", "density": 0.5, "length": 1.5, "marks": 12}),
            "train.window",
            24,
        ),
        "model": {
            "name": "encoder_decoder",
            "width": 16,
            "depth": {"encoder": 1, "decoder": 1},
            "heads": {"count": 2, "width": 8},
            "relative": {"buckets": 8, "distance": 9},
        },
    },
    "recurrent_encoder_decoder": {
        **put(
            put(_COMMON, "objective", {"name": "span", "density": 0.5, "length": 1.5, "marks": 12}),
            "train.window",
            24,
        ),
        "model": {
            "name": "recurrent_encoder_decoder",
            "embedding": 8,
            "width": 8,
            "depth": {"encoder": 1, "decoder": 2},
            "attention": "additive",
            "dropout": {"input": 0.5},
        },
    },
    "adam": {
        **put(_COMMON, "train.optimizer", {"name": "adam", "rate": 0.01, "decay": 0.1}),
        "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2, "norm": "layer"},
    },
    "muon": {
        **put(_COMMON, "train.optimizer", {"name": "muon", "rate": 0.01, "decay": 0.1}),
        "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2},
    },
    "sgd": {
        **put(
            put(_COMMON, "train.optimizer", {"name": "sgd", "rate": 0.1, "decay": 0.1}),
            "train.watch",
            {"evaluate_every": 0, "checkpoint_every": 2, "log_every": 1, "keep": 9},
        ),
        "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2, "positions": "learned"},
    },
    "hybrid": {
        **put(
            _COMMON,
            "objective",
            {"name": "hybrid", "masked": {"unit": "span", "start": {"rate": 0.9, "passes": 0.02}}},
        ),
        "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2},
    },
    "diffusion": {
        **put(_COMMON, "objective", {"name": "diffusion"}),
        "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2},
    },
    "multi_token": {
        **put(_COMMON, "objective", {"name": "multi_token", "tokens": 2}),
        "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2},
    },
    "permuted": {
        **put(_COMMON, "objective", {"name": "permuted", "one_in": 2}),
        "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2},
    },
    "replaced": {
        **put(_COMMON, "objective", {"name": "replaced"}),
        "model": {"name": "encoder", "width": 16, "depth": 1, "heads": {"count": 2}},
    },
    "classify": {
        **put(_COMMON, "objective", {"name": "classify"}),
        "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2},
    },
    "mixture": {
        **put(_COMMON, "objective", {"name": "mixture", "of": ["causal", {"name": "causal", "end": False}]}),
        "model": {"name": "decoder", "width": 16, "depth": 1, "heads": 2},
    },
}


CLASSES = ("often", "seldom")
FILES = {"classify": "lines.jsonl"}
"""Of the text, what a base reads of it where it is not all."""


@cache
def texts() -> tuple[TemporaryDirectory[str], Path]:
    """Text that every step of cleaning finds something in, in files of two formats."""
    keeper = TemporaryDirectory()
    folder = write_texts(Path(keeper.name) / "texts", 30)
    odd = b"e\xcc\x81 caf\xe9 BELL\x07\r\nA \xe2\x98\x83 snowman & co.\r\n\r\n"
    odd += "GrÃ¼ÃŸe  \n\n\n\n頭髮和头发 Ａ１\nAccept all cookies\nend\n".encode()
    (folder / "odd.txt").write_bytes(odd * 3)
    rows = (
        {"text": f"line {n} of it", "other": f"another {n}", "label": CLASSES[n % 3 == 0]} for n in range(20)
    )
    lines = [json.dumps(row) for row in rows]
    (folder / "lines.jsonl").write_text("\n".join(lines) + "\n")
    return keeper, folder


def resolved(base: str) -> dict[str, Any]:
    return read(Recipe, {**BASES[base], "data": {"path": str(texts()[1] / FILES.get(base, ""))}}).table()


def says(table: dict[str, Any]) -> str:
    """A hash of everything that a run by this recipe says."""
    with TemporaryDirectory() as root:
        try:
            run = fit(read(Recipe, table), root)
        except TelosError as error:
            return f"{type(error).__name__}: {error}".replace(root, "")
        return fingerprint_of(run)


def fingerprint_of(run: telos.Run) -> str:
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]
    card = json.loads((run.folder / "card.json").read_text())
    files = sorted(path.name for path in [*run.folder.iterdir(), *(run.folder / "checkpoints").iterdir()])
    figures = json.loads((run.folder / "evaluation.json").read_text())
    drawn = run.folder / "samples.json"  # not there where the model says no tokens
    samples = json.loads(drawn.read_text()) if drawn.exists() else []
    parts = [run.folder.name, log, {**card, "key": ""}, files, figures, samples]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def said(base: str) -> str:
    return says(resolved(base))


KEYS = sorted({(base, key) for base in BASES for key, _ in candidates(resolved(base))})
"""Every setting of every base; those of later bases only where an earlier one does not have them."""
FIRST = {key: min((list(BASES).index(b), b) for b, k in KEYS if k == key)[1] for _, key in KEYS}


def test_a_run_says_the_same_twice() -> None:
    """Without this the rest would show nothing."""
    for base in BASES:
        assert says(resolved(base)) == said(base)
        assert "Error" not in said(base), said(base)


@pytest.mark.parametrize("key", sorted(FIRST.keys() - MEANT_TO_CHANGE_NOTHING.keys()))
def test_every_setting_changes_what_a_run_says(key: str) -> None:
    """Trap 39: among the other values that a setting can have, one at least makes a difference somewhere."""
    bases = [base for base in BASES if (base, key) in KEYS]
    for base in bases:
        table = resolved(base)
        for wanted, value in [*candidates(table), *ALSO.items()]:
            if wanted == key and says(put(table, key, value)) != said(base):
                return
    pytest.fail(f"{key} is dead: no other value changes what a run says")


@pytest.mark.parametrize("key", MEANT_TO_CHANGE_NOTHING)
def test_what_is_meant_to_change_nothing_is_a_setting(key: str) -> None:
    assert key in FIRST or key in dict(dotted_keys(resolved("decoder")))


def test_every_setting_is_read_somewhere() -> None:
    """The least: a name that no line of the program reads cannot do anything."""
    read_names = {
        node.attr
        for path in Path(telos.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = {
        f"{k.__name__}.{f}" for k in settings_classes(Recipe) for f in k.model_fields if f not in read_names
    }
    assert unread <= {"Recipe.version"}

"""What is a text worth when it is read again? Repeated text beside as much new text, in one run.

    python benchmarks/repeats.py [--data FOLDER] [--runs FOLDER] [--seeds 0 1]

On WikiText-2 with one vocabulary: a small decoder reads the first part of the text 1, 2, 4, 8 and 16 times,
and beside it as many tokens that are all new, each with a schedule of its own that ends with its budget.
Plain, and with dropout. Writes the validation loss of each, at its best and at the end, into results/,
with the date, the hardware and the versions. The question is what of Muennighoff et al. (2023) holds for
small models and little text: they found four passes nearly as good as new text, and little left after
sixteen.
"""

import argparse
import json
import lzma
import os
from datetime import date
from pathlib import Path
from typing import Any

import torch
from harness.whole import whole

from telos import __version__
from telos.doctor import choose_device, hardware
from telos.opened import prepare
from telos.run import fit, load_recipe

PART = 140_000
"""Characters of the text that is read again and again."""
HELD_OUT = 120_000
EPOCHS = (1, 2, 4, 8, 16)
KINDS = {"plain": [], "dropout": ["model.dropout=0.1"]}
SETTINGS = (
    "data.document_start=^ = [^=].*[^=] = $",
    "tokenizer.size=512",
    'model={name="decoder", width=96, depth=2, heads=4}',
    "train.window=128",
    "train.batch=8",
    'train.optimizer={name="adamw", rate=3e-3, decay=0.1}',
    'train.schedule={kind="cosine", warmup=0.1, average=0.0}',
    "train.watch={evaluate_every=25, checkpoint_every=0, log={tensorboard=false}}",
    "generate.length=8",
)


def texts(data: Path, runs: Path) -> dict[str, Path]:
    """The part that is read again, the text that is new, and what is held out."""
    folder = runs / "wikitext-2"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, source, size in (
        ("part", "train", PART),
        ("new", "train", PART * max(EPOCHS) * 5 // 4),
        ("valid", "valid", HELD_OUT),
        ("test", "test", HELD_OUT),
    ):
        with lzma.open(data / "wikitext-2" / f"{source}.txt.xz", "rt", encoding="utf-8") as file:
            found[name] = folder / f"{name}.txt"
            found[name].write_text(file.read(size), encoding="utf-8")
    return found


def recipe_of(files: dict[str, Path], text: str, name: str, changes: list[str]) -> Any:
    """A small decoder on one of the texts."""
    held = [f"data.validation={files['valid']}", f"data.test={files['test']}"]
    return load_recipe(files[text], [f"name={name}", *held, *SETTINGS, *changes])


def figures(folder: Path) -> dict[str, float]:
    """Validation loss at its best and at the end, and when it was best."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [(line["step"], line["validation.loss"]) for line in lines if "validation.loss" in line]
    step, best = min(found, key=lambda pair: pair[1])
    return {"best": best, "at_the_end": found[-1][1], "best_at": step / found[-1][0]}


def main() -> None:
    """Run all cells that are not there yet, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TELOS_DATA", ".")))
    parser.add_argument("--runs", type=Path, default=Path("runs/repeats"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    given = parser.parse_args()
    files = texts(given.data, given.runs)
    vocabulary = prepare(recipe_of(files, "part", "vocabulary", ["train.budget.epochs=1"]), given.runs)
    own = [f"tokenizer={{path={json.dumps(str(vocabulary.folder / 'tokenizer.json'))}}}"]
    tokens = int(vocabulary.card.splits["train"]["tokens"])
    parameters, cells = 0, []
    for seed in given.seeds:
        for epochs in EPOCHS:
            for text, kind in (("part", "plain"), ("part", "dropout"), ("new", "plain")):
                name = f"{text}-{kind}-{epochs}-{seed}"
                budget = [f"train.budget={{tokens={tokens * epochs}}}", f"seed={seed}"]
                run = whole(fit(recipe_of(files, text, name, [*own, *budget, *KINDS[kind]]), given.runs))
                parameters = run.figures()["machine"]["parameters"]
                cells.append(
                    {"text": text, "kind": kind, "epochs": epochs, "seed": seed, **figures(run.folder)}
                )
                print(cells[-1], flush=True)
    result = {
        "date": date.today().isoformat(),
        "telos": __version__,
        "torch": torch.__version__,
        "hardware": hardware(choose_device("cpu")),
        "tokens": tokens,
        "parameters": parameters,
        "cells": cells,
    }
    path = Path(__file__).parent / "results" / f"repeats-{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

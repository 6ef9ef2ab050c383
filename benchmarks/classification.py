"""What pre-training buys a classifier, and under which objective: SST-2 and ChnSentiCorp, five seeds each.

    python benchmarks/classification.py [--data FOLDER] [--runs FOLDER] [--sets NAME …] [--beginnings NAME …]
                                        [--seeds N …] [--minutes N] [--quick] [--out FILE]

A row of the table is a beginning: `recipe` is the recipe that comes with Telos, from scratch; `scratch` the
model of the other rows with random weights; `causal`, `masked` and `span` that model after so many minutes of
training under each objective, on the same text without labels and with the same vocabulary. It is pre-trained
once, with seed 0, and fine-tuned once per seed. Accuracy and macro-F1 are of every line of the test file; of
ChnSentiCorp also of those whose text is not in the training file.

What is found is written after every cell, with the date, the hardware and the versions; called again with the
same file, the program goes on where it stopped. --quick takes text made here, to see that everything runs.
"""

import argparse
import csv
import io
import json
import lzma
import os
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from harness.whole import whole

from telos import __version__
from telos.config import override, read
from telos.doctor import choose_device, hardware
from telos.evaluate._intervals import difference, over_seeds
from telos.recipe import Recipe
from telos.run import Run, fit, load_recipe
from telos.tasks.classification import score_labelled

HERE = Path(__file__).resolve().parent
BEGINNINGS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "scratch": {"name": "masked"},
    "causal": {"name": "causal"},
    "masked": {"name": "masked"},
    "span": {"name": "span", "form": "prefix"},
}
"""By name: the objective of pre-training, in forms that one encoder serves. `scratch` has a run of no more
than one step, for its vocabulary."""
MODEL = {"name": "encoder", "width": 256, "depth": 4, "heads": 4, "dropout": 0.1}
QUICK = {"name": "encoder", "width": 16, "depth": 1, "heads": 2}
MADE_UP = {"negative": ("awful", "dull"), "positive": ("great", "lovely")}


class Labelled(NamedTuple):
    """A set of texts with classes."""

    recipe: str
    files: Mapping[str, str]
    """By split, in the folder of the data."""
    columns: tuple[str, ...]
    """Their names: those of the first row, or the ones it lacks."""
    named: bool
    """Whether the first row has them."""
    unlabelled: tuple[str, ...]
    """Files to pre-train on beside the training texts themselves."""
    window: int


SETS = {
    "sst2": Labelled(
        "classify-sst2",
        {
            split: f"sst2/{name}.tsv"
            for split, name in (("path", "train"), ("validation", "dev"), ("test", "test"))
        },
        ("text", "label"),
        False,
        ("wikitext-2/train.txt.xz",),
        64,
    ),
    "chnsenticorp": Labelled(
        "classify-chnsenticorp",
        {
            "path": "chnsenticorp/train.tsv.xz",
            "validation": "chnsenticorp/dev.tsv",
            "test": "chnsenticorp/test.tsv",
        },
        ("label", "text_a"),
        True,
        (),
        256,
    ),
}


def rows(path: Path, columns: Sequence[str], named: bool) -> list[dict[str, str]]:
    """The rows of a file of tab-separated values."""
    raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    lines = [line for line in raw.decode("utf-8-sig").split("\n") if line.strip("\r")]
    return [dict(zip(columns, line.rstrip("\r").split("\t"), strict=True)) for line in lines[named:]]


class Bench:
    """One set: where its files are, and its cells."""

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        self.name, self.given = name, given
        self.set = SETS[name]
        self.root = given.runs / ("quick" if given.quick else "") / name
        self.files = (
            self._made_up() if given.quick else {k: given.data / v for k, v in self.set.files.items()}
        )

    def _made_up(self) -> dict[str, Path]:
        """Texts whose class a word gives away, in the form of the set's files."""
        folder = self.root / "texts"
        folder.mkdir(parents=True, exist_ok=True)
        for number, split in enumerate(self.set.files):
            out = io.StringIO()
            writer = csv.DictWriter(out, self.set.columns, delimiter="\t", lineterminator="\n")
            if self.set.named:
                writer.writeheader()
            for index in range(40):
                label = list(MADE_UP)[index % 2]
                text = f"film {number * 100 + index} is {MADE_UP[label][index // 2 % 2]} from end to end"
                writer.writerow({key: label if key == "label" else text for key in self.set.columns})
            (folder / f"{split}.tsv").write_text(out.getvalue(), encoding="utf-8")
        return {split: folder / f"{split}.tsv" for split in self.set.files}

    @property
    def text_key(self) -> str:
        return next(key for key in self.set.columns if key != "label")

    def texts(self, split: str) -> list[dict[str, str]]:
        return rows(self.files[split], self.set.columns, self.set.named)

    # ---- pre-training

    def unlabelled(self) -> Path:
        """The training texts, and other files of the data, as JSON lines."""
        path = self.root / "unlabelled.jsonl"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            documents = [row[self.text_key] for row in self.texts("path")]
            for name in () if self.given.quick else self.set.unlabelled:
                text = lzma.decompress((self.given.data / name).read_bytes()).decode()
                documents += text.split("\n \n")
            lines = (json.dumps({"text": text}, ensure_ascii=False) for text in documents if text.strip())
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def before(self, beginning: str) -> Run:
        """The run that a beginning starts from: pre-trained, or for `scratch` hardly begun."""
        short = self.given.quick or beginning == "scratch"
        table = {
            "name": f"before-{beginning}",
            "objective": BEGINNINGS[beginning],
            "data": {"path": str(self.unlabelled()), "clean": {"lower": True}},
            "tokenizer": {"kind": "bpe", "size": 400 if self.given.quick else 8192},
            "model": QUICK if self.given.quick else MODEL,
            "train": {
                "window": 32 if self.given.quick else max(self.set.window, 128),
                "batch": 16,
                "budget": {"steps": 1} if short else {"minutes": self.given.minutes},
                "optimizer": {"name": "adamw", "rate": 1e-3},
                "watch": {"log": {"tensorboard": False}},
            },
            "generate": {"length": 8},
        }
        return whole(fit(read(Recipe, table), self.root))

    # ---- cells

    def recipe(self, beginning: str, seed: int) -> Recipe:
        """Of a fine-tuned classifier."""
        name = f"{beginning}-{seed}"
        where = [f"data.{split}={path}" for split, path in self.files.items()]
        few = (
            ["train.budget={steps=3}", "train.window=32", "train.watch.evaluate_every=0"]
            if self.given.quick
            else []
        )
        common = [*where, f"name={name}", f"seed={seed}", "train.watch.log.tensorboard=false", *few]
        if beginning == "recipe":
            tiny = [f"model={json_toml(QUICK)}", "tokenizer.size=400"] if self.given.quick else []
            return load_recipe(self.set.recipe, [*common, *tiny])
        table: dict[str, Any] = {
            "objective": {
                "name": "classify",
                "read": "causal" if beginning == "causal" else "full",
                "pool": "mean",
            },
            "data": {"text_key": self.text_key, "clean": {"lower": True}},
            "train": {
                "window": self.set.window,
                "batch": 16,
                "budget": {"epochs": 4.0},
                "optimizer": {"name": "adamw", "rate": 3e-4, "decay": 0.05},
                "schedule": {"kind": "cosine", "warmup": 0.1, "average": 0.0},
                "watch": {"evaluate_every": 100, "checkpoint_every": 0},
            },
        }
        if not self.set.named:
            table["data"]["columns"] = list(self.set.columns)
        before = self.before(beginning)
        if beginning == "scratch":
            table |= {"model": QUICK if self.given.quick else {**MODEL, "dropout": 0.3}}
            table["tokenizer"] = {"path": str(before.folder / "tokenizer.json")}
            table["train"]["budget"] = {"epochs": 8.0}
        else:
            table["model"] = {"from": str(before.folder)}
        return read(Recipe, override(table, common))

    def cell(self, beginning: str, seed: int) -> dict[str, Any]:
        """One run, and how it does on the test file."""
        started = time.perf_counter()
        run = whole(fit(self.recipe(beginning, seed), self.root))
        seconds = time.perf_counter() - started
        test = self.texts("test")
        known = {row[self.text_key].strip() for row in self.texts("path")}
        fresh = [row for row in test if row[self.text_key].strip() not in known]
        figures = {"all": score(run, test, self.text_key), "fresh": score(run, fresh, self.text_key)}
        return {
            "set": self.name,
            "beginning": beginning,
            "seed": seed,
            "seconds": round(seconds, 1),
            "parameters": run.figures()["machine"]["parameters"],
            **{name: table for name, table in figures.items() if name == "all" or len(fresh) < len(test)},
        }


def json_toml(table: Mapping[str, Any]) -> str:
    """An inline table."""
    return "{" + ", ".join(f"{key}={json.dumps(value)}" for key, value in table.items()) + "}"


def score(run: Run, test: Sequence[Mapping[str, str]], text_key: str) -> dict[str, float]:
    """Accuracy, macro-F1 and calibration on rows of the test file."""
    found = score_labelled(run, [row[text_key] for row in test], [row["label"] for row in test])
    return {
        "texts": found.texts,
        "accuracy": found.accuracy.value,
        "macro_f1": found.macro_f1.value,
        "ece": found.calibration.ece_after.value,
    }


def summary(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By set and beginning: mean accuracy over the seeds with its interval, and the gain on `scratch`."""
    values: dict[str, dict[str, list[float]]] = {}
    for cell in cells:
        values.setdefault(cell["set"], {}).setdefault(cell["beginning"], []).append(cell["all"]["accuracy"])
    return {
        name: {
            beginning: {
                "accuracy": over_seeds(accuracies).table(),
                "seeds": len(accuracies),
                **({"gain": difference(accuracies, rows["scratch"]).table()} if "scratch" in rows else {}),
            }
            for beginning, accuracies in rows.items()
        }
        for name, rows in values.items()
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TELOS_DATA", ".")))
    parser.add_argument("--runs", type=Path, default=Path("runs/classification"))
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--beginnings", nargs="*", choices=list(BEGINNINGS), default=list(BEGINNINGS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--minutes", type=float, default=30.0, help="of pre-training")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="by default results/classification-DATE.json")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    path = given.out or HERE / "results" / f"classification-{date.today().isoformat()}.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"cells": []}
    cells: list[dict[str, Any]] = result["cells"]
    done = {(cell["set"], cell["beginning"], cell["seed"]) for cell in cells}
    for name in given.sets:
        bench = Bench(name, given)
        for beginning in given.beginnings:
            for seed in given.seeds:
                if (name, beginning, seed) in done:
                    continue
                cells.append(bench.cell(beginning, seed))
                print(json.dumps(cells[-1]), flush=True)
                write(path, cells, given)
    print(json.dumps(summary(cells), indent=1))


def write(path: Path, cells: Sequence[Mapping[str, Any]], given: argparse.Namespace) -> None:
    """The whole result, as it is so far."""
    result = {
        "date": date.today().isoformat(),
        "quick": given.quick,
        "minutes": given.minutes,
        "telos": __version__,
        "torch": torch.__version__,
        "hardware": hardware(choose_device("cpu")),
        "summary": summary(cells),
        "cells": list(cells),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main()

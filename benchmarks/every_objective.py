"""Does every objective teach its model something about real text? Some minutes of training each, beside a
bigram model of the same tokens.

    python benchmarks/every_objective.py [--comparison NAME] [--data FOLDER] [--runs FOLDER] [setting=value …]

Runs `telos compare` on comparisons/every-objective.toml (or NAME.toml) with the public data of `--data`
(TELOS_DATA), and writes what it found into results/, with the curves, the date, the hardware and the
versions. Where an objective defines the likelihood of a text, exactly or by an upper bound, the question is
whether it is better than a bigram's on the same documents; a pseudo-likelihood does not compare with that,
and is shown apart.
"""

import json
import math
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness.compared import Given, arguments, run
from numpy.typing import NDArray

from telos.data.shards import Shards
from telos.measure import sampled
from telos.opened import open_run

HERE = Path(__file__).parent
FILES = {"path": "train", "validation": "valid", "test": "test"}


class Bigram(NamedTuple):
    """A bigram model, interpolated and discounted (Kneser and Ney, 1995; Chen and Goodman, 1999):

        q(b | a) = max(n(a, b) − d, 0) / n(a) + d · kinds(a) / n(a) · base(b),    d = 0.75
        base(b)  = (left contexts of b + 1) / (all pairs + vocabulary)

    where kinds(a) counts the different tokens seen after a. After a token that was never seen: base alone.
    """

    pairs: dict[int, int]
    """n(a, b) by a · vocabulary + b."""
    seen: NDArray[np.int64]
    kinds: NDArray[np.int64]
    base: NDArray[np.float64]
    discount: float = 0.75

    @classmethod
    def of(cls, documents: Iterable[NDArray[Any]], vocabulary: int, begin: int) -> "Bigram":
        """Counted from documents of ids, each after a begin token."""
        keys = np.concatenate([_keys(ids, vocabulary, begin) for ids in documents])
        found, counts = np.unique(keys, return_counts=True)
        first, second = np.divmod(found, vocabulary)
        return cls(
            pairs=dict(zip(found.tolist(), counts.tolist(), strict=True)),
            seen=np.bincount(first, counts, vocabulary).astype(np.int64),
            kinds=np.bincount(first, minlength=vocabulary),
            base=(np.bincount(second, minlength=vocabulary) + 1) / (len(found) + vocabulary),
        )

    def nats(self, ids: NDArray[Any], begin: int) -> float:
        """−log q of a document."""
        vocabulary = len(self.base)
        keys = _keys(ids, vocabulary, begin)
        first, second = np.divmod(keys, vocabulary)
        counts = np.array([self.pairs.get(key, 0) for key in keys.tolist()])
        seen = np.maximum(self.seen[first], 1)
        left = np.where(self.seen[first] > 0, self.discount * self.kinds[first] / seen, 1.0)
        chances = np.maximum(counts - self.discount, 0) / seen + left * self.base[second]
        return float(-np.log(chances).sum())


def _keys(ids: NDArray[Any], vocabulary: int, begin: int) -> NDArray[np.int64]:
    row = np.concatenate([[begin], ids]).astype(np.int64)
    return row[:-1] * vocabulary + row[1:]


def bigram_loss(folder: Path, tokens: int) -> dict[str, float]:
    """Nats per token and bits per byte of a bigram model on the documents that `telos compare` scores."""
    run = open_run(folder)
    train, test, tokenizer = run.shards("train"), run.shards("test"), run.tokenizer
    assert isinstance(train, Shards)
    documents = (train.document(number) for number in range(len(train.lengths)))
    model = Bigram.of(documents, tokenizer.size, tokenizer.begin)
    nats, said, size = 0.0, 0, 0
    for ids in sampled(test, tokens):
        nats += model.nats(ids, tokenizer.begin)
        said += len(ids)
        size += sum(len(tokenizer.token_bytes(token)) for token in ids.tolist())
    return {"loss": nats / said, "bits_per_byte": nats / math.log(2) / size, "tokens": said}


def verdict(kind: str, bits: float, bigram: float) -> str:
    """What a figure says beside the bigram's."""
    if kind == "pseudo":
        return "no likelihood"
    return "beats the bigram" if bits < bigram else "does not beat the bigram"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--comparison", default="every-objective")
    given = parser.parse_args(namespace=Given())
    files = [f"base.data.{key}={given.data}/wikitext-2/{name}.txt.xz" for key, name in FILES.items()]
    comparison, compared = run(given.comparison, files, given)
    first = compared.cells[0]
    folder = given.runs / comparison.name / f"{first.name}-{first.seed}"
    bigram = bigram_loss(folder, comparison.measure.tokens)
    rows = {cell.name: cell.found for cell in compared.cells}
    for name, found in rows.items():
        held = found.get("held_out")
        if held:
            found["verdict"] = verdict(held["kind"], held["bits_per_byte"], bigram["bits_per_byte"])
            print(f"{name:24} {held['kind']:7} {held['bits_per_byte']:.3f}  {found['verdict']}")
    result = {"date": str(date.today()), "bigram": bigram, "cells": rows}
    target = HERE / "results" / f"{comparison.name.replace('-', '_')}-{date.today()}.json"
    target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()

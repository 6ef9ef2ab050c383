"""How fast are near copies found, and how many of them, beside datatrove and datasketch?

    python benchmarks/peers/install.py                  # once
    python benchmarks/near_duplicates.py [--quick] [--peers PYTHON]

English passages of 2,500 characters (classic-books in the folder that TELOS_DATA names), with copies of some
of them: exact, in capitals, with other white space and punctuation, and with 95, 90 and 80 % of the words in
common as one stretch. Every contestant is a process of its own on one core; they work in turn, and figures
are medians over the rounds, by processor time. Each is measured with the same bands and rows, so that
candidates are equally likely, and datatrove with its own ones too. Chinese documents of ten poems and single
poems are measured for Telos alone. The result is written into results/, with the date, the hardware and
the versions.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.harness import machine
from benchmarks.harness.driver_side import PEERS
from tests.data import copies

from telos.data import shingles

HERE = Path(__file__).parent
SAME = ("exact", "case", "white space", "punctuation")
CHANGES = {name: copies.SAME[name] for name in SAME} | {
    f"{share:.0%} overlap": copies.overlapping(share) for share in (0.95, 0.9, 0.8)
}


class Work(NamedTuple):
    """Who works on what: a contestant, its bands and rows, and the similarity from which texts are copies."""

    contestant: str
    bands: int
    rows: int
    threshold: float

    @property
    def name(self) -> str:
        return f"{self.contestant} {self.bands}x{self.rows}" + (
            f" at {self.threshold}" if self.contestant != "datatrove" else ""
        )


ENGLISH = (
    Work("telos", 32, 4, 0.55),
    Work("datatrove", 32, 4, 0),
    Work("datasketch", 32, 4, 0.55),
    Work("datatrove", 14, 8, 0),
    Work("telos", 14, 8, 0.72),
)
CHINESE = (Work("telos", 32, 4, 0.55), Work("telos", 14, 8, 0.72))


class Corpus(NamedTuple):
    """Texts, the last of which are copies of some of the first."""

    texts: list[str]
    planted: list[tuple[str, int, int]]
    """Kind, number of the original, number of the copy."""


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="few texts and one round; nothing is stored")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=PEERS / "bin" / "python", help="the peers' interpreter")
    chosen = parser.parse_args()
    data = Path(os.environ.get("TELOS_DATA", HERE.parents[1] / "shared" / "data"))
    few = 20 if chosen.quick else 1
    works = {
        "english": (planted(copies.passages(data, 2500)[:1000], 100 // few), ENGLISH),
        "chinese": (planted(copies.collections(data), 40 // few), CHINESE),
        "poems": (planted(copies.poems(data, "train")[: 20_000 // few], 0), CHINESE[:1]),
    }
    rounds = 1 if chosen.quick else chosen.rounds
    result = {
        "date": str(date.today()),
        "revision": machine.revision(),
        "load": machine.load(),
        **{name: measured(corpus, each, rounds, chosen.peers) for name, (corpus, each) in works.items()},
        **machine.described(),
        "peers": machine.versions_in(chosen.peers, "datatrove", "datasketch", "spacy", "xxhash", "numpy"),
    }
    shown = json.dumps(result, indent=1, ensure_ascii=False)
    print(shown)
    if not chosen.quick:
        (HERE / "results" / f"near_duplicates-{date.today()}.json").write_text(shown + "\n", encoding="utf-8")


def planted(texts: list[str], each: int) -> Corpus:
    """`texts` and after them `each` copies of every kind, all of different originals."""
    draw = random.Random(0)
    originals = draw.sample(range(len(texts)), each * len(CHANGES))
    plan = [(kind, originals.pop()) for kind in CHANGES for _ in range(each)]
    changed = [CHANGES[kind](texts[original], draw) for kind, original in plan]
    numbers = range(len(texts), len(texts) + len(plan))
    return Corpus(texts + changed, [(*what, copy) for what, copy in zip(plan, numbers, strict=True)])


def measured(corpus: Corpus, works: tuple[Work, ...], rounds: int, peers: Path) -> dict[str, Any]:
    """All contestants in turn, `rounds` times; Telos, which is soon done, three times in each."""
    told: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(rounds):
        for work in works:
            for _ in range(3 if work.contestant == "telos" else 1):
                told[work.name].append(run(work, corpus, peers))
    characters = sum(map(len, corpus.texts))
    rows = {name: row(many, corpus, characters) for name, many in told.items()}
    for name, each in rows.items():
        if "documents_per_second" in each and name != works[0].name:
            ratio = rows[works[0].name]["documents_per_second"] / each["documents_per_second"]
            each["first_is_faster_by"] = round(ratio, 2)
    return {"documents": len(corpus.texts), "characters": characters, "rows": rows}


def run(work: Work, corpus: Corpus, peers: Path) -> dict[str, Any]:
    """One contestant in a process of its own."""
    python = sys.executable if work.contestant == "telos" else str(peers)
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps(corpus.texts), encoding="utf-8")
        command = [python, HERE / "contestants" / "near_copies.py", work.contestant, texts, folder]
        command += [str(given) for given in work[1:]]
        try:
            done = subprocess.run(
                command,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
                if work.contestant == "telos"
                else os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            return {"failed": str(error)}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no reason given"])[-1]}
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def row(told: list[dict[str, Any]], corpus: Corpus, characters: int) -> dict[str, Any]:
    """What is written of a contestant: speed, share of copies found by kind, and texts joined in error."""
    failed = [each["failed"] for each in told if "failed" in each]
    if failed:
        return {"failed": failed[0]}
    seconds = statistics.median(each["processor_seconds"] for each in told)
    clusters = told[0]["clusters"]
    found = defaultdict(list)
    for kind, original, copy in corpus.planted:
        found[kind].append(clusters[original] == clusters[copy])
    return {
        "documents_per_second": round(len(corpus.texts) / seconds, 1),
        "megacharacters_per_second": round(characters / seconds / 1e6, 2),
        "processor_seconds": [round(each["processor_seconds"], 3) for each in told],
        "wall_seconds": [round(each["wall_seconds"], 3) for each in told],
        "signature_share": round(statistics.median(each["signature_seconds"] for each in told) / seconds, 3),
        "recall": {kind: round(sum(each) / len(each), 3) for kind, each in found.items()},
        "joined": sum(cluster != i for i, cluster in enumerate(clusters)),
        "joined_in_error": in_error(clusters, corpus.texts),
    }


def in_error(clusters: list[int], texts: list[str]) -> int:
    """Texts that share less than 0.4 (Jaccard similarity) with every other one of their cluster."""
    members, sizes = defaultdict(list), Counter(clusters)
    for text, cluster in enumerate(clusters):
        if sizes[cluster] > 1:
            members[cluster].append(set(_grams(texts[text])))
    return sum(
        max(len(one & other) / max(1, len(one | other)) for other in many if other is not one) < 0.4
        for many in members.values()
        for one in many
    )


def _grams(text: str) -> list[int]:
    words = shingles.words([text])
    return shingles.grams(words.hashes, words.offsets, 5).hashes.tolist()


if __name__ == "__main__":
    main()

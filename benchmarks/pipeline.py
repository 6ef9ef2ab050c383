"""A pile of text through the whole of preparation, on one core, beside datatrove: megabytes a second.

    python benchmarks/peers/install.py                  # once
    python benchmarks/pipeline.py [--megabytes 20] [--rounds 3] [--peers PYTHON]

Pages are made of classic books (TELOS_DATA): passages of 100 to 600 words, one in twenty a copy of an earlier
one, one in twenty a near copy (a tenth of its words others), with personal data in some. Both do the same:
read JSON lines, Gopher's filters for quality and repetition, exact and near copies out (32 bands of 4 rows),
e-mail and IP addresses replaced, and, timed apart, a byte-level BPE vocabulary of 16,000 applied and written.
datatrove runs its own blocks in one task; its exact deduplication is that of near copies. The clock of both
starts when the program has been imported. The result is written into results/, with the date.
"""

import argparse
import json
import lzma
import os
import random
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from harness import machine

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers" / ".venv" / "bin" / "python"
CONTESTANTS = ("telos", "datatrove")


def main() -> None:
    """Make the text, run each in turn, and write the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' interpreter")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="telos-pipeline-") as name:
        folder = Path(name)
        size = write_text(folder / "pages.jsonl", int(given.megabytes * 1e6))
        learn(folder)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
        for number in range(given.rounds):
            for contestant in CONTESTANTS:
                python = sys.executable if contestant == "telos" else str(given.peers)
                told = run(contestant, python, folder, folder / f"{contestant}-{number}")
                runs[contestant].append(told)
                print(f"{contestant}: {told}", file=sys.stderr, flush=True)
    peers = machine.versions_in(given.peers, "datatrove", "spacy", "numpy", "tokenizers")
    result = about(size, runs, peers)
    path = HERE / "results" / f"pipeline-{date.today()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["medians"], indent=1))


def about(size: int, runs: dict[str, list[dict[str, Any]]], peers: dict[str, str]) -> dict[str, Any]:
    """Medians, and megabytes a second of processor time."""
    medians: dict[str, Any] = {}
    for contestant, told in runs.items():
        seconds = {key: statistics.median(each[key] for each in told) for key in ("prepare", "tokenise")}
        speeds = {f"{key}_mb_per_second": round(size / 1e6 / value, 2) for key, value in seconds.items()}
        medians[contestant] = {**seconds, **speeds, "kept": told[0]["kept"], "read": told[0]["read"]}
    ratio = medians["datatrove"]["prepare"] / medians["telos"]["prepare"]
    machine_now = machine.described() | {"peers": peers, "revision": machine.revision()}
    machine_now["date"] = str(date.today())
    return {"bytes": size, "medians": medians, "ratio": round(ratio, 2), "runs": runs, "machine": machine_now}


def run(contestant: str, python: str, folder: Path, work: Path) -> dict[str, Any]:
    """One run in a process of its own, on one core."""
    work.mkdir()
    program = [python, str(HERE / "contestants" / "whole_pipeline.py"), contestant, str(folder), str(work)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env = {**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(program, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{contestant} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def learn(folder: Path) -> None:
    """One vocabulary for all."""
    from telos.tokenizer import TokenizerSettings, train_tokenizer

    with (folder / "pages.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(3000), strict=False)]
    train_tokenizer(TokenizerSettings(size=16_000), iter(texts)).save(folder / "tokenizer.json")


def write_text(path: Path, wanted: int) -> int:
    """Pages until there are so many bytes; how many there are."""
    data = Path(os.environ.get("TELOS_DATA", HERE.parents[1] / "shared" / "data")) / "classic-books-en"
    with lzma.open(data / "train.jsonl.xz", "rt", encoding="utf-8") as lines:
        words = [word for line in lines for word in json.loads(line)["text"].split(" ")]
    draw, pages, size = random.Random(0), list[str](), 0
    with path.open("w", encoding="utf-8") as out:
        while size < wanted:
            page = _page(draw, words, pages)
            pages.append(page)
            line = json.dumps({"text": page, "id": str(len(pages))}, ensure_ascii=False) + "\n"
            out.write(line)
            size += len(line.encode())
    return size


def _page(draw: random.Random, words: list[str], pages: list[str]) -> str:
    kind = draw.random()
    if pages and kind < 0.05:
        return draw.choice(pages)
    if pages and kind < 0.1:
        near = draw.choice(pages).split(" ")
        for _ in range(len(near) // 30):
            near[draw.randrange(len(near))] = draw.choice(words)
        return " ".join(near)
    begin, length = draw.randrange(len(words) - 700), draw.randrange(100, 600)
    page = " ".join(words[begin : begin + length])
    return (
        f"{page} Write to reader{len(pages)}@mail.org from 8.8.4.{len(pages) % 255}." if kind < 0.2 else page
    )


if __name__ == "__main__":
    main()

"""How fast is text turned into token ids: the `tokenizers` library, and the fast ways where they apply.

    python benchmarks/encoding.py TEXT … [--megabytes 12] [--size 8192] [--rounds 5] [--threads 1 2]

Each TEXT is a file or folder that Telos reads; name one per language. For each, a vocabulary of every kind
that has a fast way is learned from a part, and another part of `--megabytes`, which no vocabulary has seen,
is encoded by the library and by the fast way in turn, in a process for each number of threads (the libraries
read it once, at their start). In each round both get texts that are new to them, as in preparation: what they
remember of earlier words is theirs to use. Ratios are of the medians of wall time; `processor_ratio` is of
the processor's time, all threads together, which what else runs on the machine disturbs less. All ids are
compared. The result is
written into results/, with the date, the hardware and the versions.

Learning is timed as well, of byte-level BPE alone: `tokenizers`, and rustbpe where it is installed, which has
neither special tokens nor a file format and is not used.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

KINDS = ("bpe", "byte", "character", "word")
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Measure, print and write."""
    chosen = _chosen()
    if chosen.worker:
        print(json.dumps(measure(Path(chosen.texts[0]), chosen)))
        return
    found: dict[str, Any] = {}
    for text in chosen.texts:
        found[Path(text).stem] = {str(n): _in_process(text, n, chosen) for n in chosen.threads}
    result = {**_about(), "megabytes": chosen.megabytes, "size": chosen.size, "texts": found}
    path = HERE / "results" / f"encoding-{date.today()}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path.name)


def _in_process(text: str, threads: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """The libraries choose their threads when they start, so each number has a process of its own."""
    told = {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false"}
    command = [sys.executable, __file__, text, "--worker", "--megabytes", str(chosen.megabytes)]
    command += ["--learn"] if threads == chosen.threads[-1] else []
    command += ["--size", str(chosen.size), "--rounds", str(chosen.rounds), "--threads", str(threads)]
    done = subprocess.run(command, env={**os.environ, **told}, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    for kind, row in found["encoding"].items():
        rates = f"{row['tokenizers']:8.2f} {row['fast']:8.2f} MB/s  x {row['ratio']:6.1f}"
        print(f"{Path(text).stem:16} {threads} threads  {kind:10} {rates}  {row['by']}", flush=True)
    return found


def measure(text: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Everything of one text in this process."""
    train, parts = _texts(text, int(chosen.megabytes * 1e6), chosen.rounds)
    load = os.getloadavg()[0]
    encoding = {kind: _encode(kind, train, parts, chosen.size) for kind in KINDS}
    learning = _learn(train, chosen.size) if chosen.learn else {}
    return {
        "load": round(load, 1),
        "documents": sum(map(len, parts)),
        "bytes": sum(map(_size, parts)),
        "encoding": encoding,
        "learning": learning,
    }


def _texts(path: Path, size: int, rounds: int) -> tuple[list[str], list[list[str]]]:
    """Documents to learn from, and others in as many parts as there are rounds."""
    from telos.data.cleaned import Cleaner
    from telos.data.documents import Reader
    from telos.data.settings import DataSettings

    settings = DataSettings(path=path)
    cleaner, train, held = Cleaner(settings), [], []
    learned = encoded = 0
    for read in Reader(settings):
        whole = cleaner.clean(read.document.text) or ""
        for begin in range(0, len(whole), 1 << 17):
            part = whole[begin : begin + (1 << 17)]
            if learned < size // 4:
                train.append(part)
                learned += len(part.encode())
            else:
                held.append(part)
                encoded += len(part.encode())
        if encoded >= size:
            break
    return train, [held[i::rounds] for i in range(rounds)]


def _size(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _encode(kind: str, train: list[str], parts: list[list[str]], size: int) -> dict[str, Any]:
    """The library and the fast way in turn over the parts, which way is first changing."""
    from telos import switches
    from telos.tokenizer import TokenizerSettings, train_tokenizer

    tokenizer = train_tokenizer(TokenizerSettings(kind=kind, size=size), iter(train))
    begin = time.perf_counter()
    by = tokenizer.encoded_by(train)
    check = time.perf_counter() - begin
    rates: dict[str, list[float]] = {"tokenizers": [], "fast": []}
    work: dict[str, list[float]] = {"tokenizers": [], "fast": []}
    for number, part in enumerate(parts):
        ids = {}
        for way in list(rates)[:: 1 if number % 2 else -1]:
            begin, used = time.perf_counter(), time.process_time()
            if way == "tokenizers":
                with switches.without("encoding"):
                    ids[way] = tokenizer.encode_batch(part)
            else:
                ids[way] = tokenizer.encode_batch(part)
            rates[way].append(_size(part) / 1e6 / (time.perf_counter() - begin))
            work[way].append(time.process_time() - used)
        assert all(map(np.array_equal, ids["tokenizers"], ids["fast"])), f"{kind}: other ids"
    middle = {way: median(each) for way, each in rates.items()}
    return {
        **{way: round(rate, 3) for way, rate in middle.items()},
        "ratio": round(middle["fast"] / middle["tokenizers"], 2),
        "ratios": [round(b / a, 2) for a, b in zip(rates["tokenizers"], rates["fast"], strict=True)],
        "processor_ratio": round(sum(work["tokenizers"]) / max(1e-9, sum(work["fast"])), 2),
        "by": by,
        "check_seconds": round(check, 3),
    }


def _learn(train: list[str], size: int) -> dict[str, Any]:
    """Seconds of learning byte-level BPE, in turn."""
    from telos.tokenizer import TokenizerSettings, train_tokenizer
    from telos.vocabulary import PATTERN

    def ours() -> None:
        train_tokenizer(TokenizerSettings(kind="bpe", size=size), iter(train))

    ways = {"tokenizers": ours}
    try:
        import rustbpe

        pattern = PATTERN
        ways["rustbpe"] = lambda: rustbpe.Tokenizer().train_from_iterator(iter(train), size, pattern=pattern)
    except ImportError:
        pass
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    return {"bytes": _size(train), **{name: round(median(each), 2) for name, each in seconds.items()}}


def _about() -> dict[str, Any]:
    import torch

    from telos.doctor import hardware

    names = ("telos-lm", "tokenizers", "fastokens", "numpy", "rustbpe")
    return {
        "date": str(date.today()),
        "hardware": hardware(torch.device("cpu")),
        "versions": {name: _version(name) for name in names},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    parser.add_argument("--megabytes", type=float, default=12.0, help="of text that is encoded")
    parser.add_argument("--size", type=int, default=8192, help="of the vocabulary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--learn", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

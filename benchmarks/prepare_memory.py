"""Does preparation stay within 2 GB of memory, however large the text? Generates it, prepares it, measures.

    python benchmarks/prepare_memory.py [--gigabytes 5] [--folder DIR]

Text is drawn from a seed: six parts English-like words (Zipf's law over 200,000) and three parts Chinese
(Zipf's law over 6,000 characters), as JSON lines in files of 256 MB, one document in fifty a copy of an
earlier one; and one part a single text file. Preparation runs in a process of its own, whose peak of
resident memory the operating system tells. The text and what was prepared are deleted; the result is written
beside this file, with the date, the hardware and the versions.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from telos.doctor import hardware

PREPARE = """
import sys
from pathlib import Path
from telos.data.prepare import prepare
from telos.data.settings import DataSettings
from telos.tokenizer import TokenizerSettings
prepared = prepare(DataSettings(path=Path(sys.argv[1])), TokenizerSettings(), Path(sys.argv[2]))
"""
LIMIT = 2_000_000_000
FILE = 256_000_000


def main() -> None:
    """Generate, prepare, report; the exit status is 1 if the limit was passed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, help="where there is room for three times as much")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="telos-prepare-") as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < 3e9 * chosen.gigabytes:
            sys.exit(
                f"{folder}: {free / 1e9:.1f} of {3 * chosen.gigabytes:.1f} GB free: choose another --folder."
            )
        size = write_text(folder / "text", int(chosen.gigabytes * 1e9))
        result = measure(folder, size)
    path = Path(__file__).with_name(f"prepare_memory-{date.today()}.json")
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1, ensure_ascii=False))
    sys.exit(int(result["peak_resident_bytes"] > LIMIT))


def measure(folder: Path, size: int) -> dict[str, Any]:
    """Prepare the text in `folder` in another process, and what that took."""
    begin = time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", PREPARE, str(folder / "text"), str(folder / "prepared")])
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.monotonic() - begin
    if status:
        sys.exit(f"Preparation ended with status {os.waitstatus_to_exitcode(status)}.")
    card = json.loads(next((folder / "prepared").glob("*/card.json")).read_text(encoding="utf-8"))
    return {
        "date": str(date.today()),
        "text_bytes": size,
        "peak_resident_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "limit_bytes": LIMIT,
        "seconds": round(seconds),
        "megabytes_per_second": round(size / 1e6 / seconds, 2),
        "processor_seconds": round(used.ru_utime + used.ru_stime),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "splits": card["splits"],
        "vocabulary": card["vocabulary"],
        "dropped": {reason: drop["documents"] for reason, drop in card["dropped"].items()},
        "scripts": card["scripts"],
        "hardware": hardware(torch.device("cpu")),
        "versions": {
            "python": sys.version.split()[0],
            **{name: importlib.metadata.version(name) for name in ("telos-lm", "tokenizers", "numpy")},
        },
    }


def write_text(folder: Path, size: int) -> int:
    """Write about `size` bytes of text; returns how many it was."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    english, chinese = _english(draw), _chinese(draw)
    plan = [("english", english, 0.6), ("chinese", chinese, 0.3)]
    written = sum(
        _write_json_lines(folder / name, texts, int(share * size), draw) for name, texts, share in plan
    )
    with (folder / "one.txt").open("w", encoding="utf-8") as out:
        left = size // 10
        while left > 0:
            text = next(english) + "\n\n"
            left -= len(text)
            written += out.write(text)
    return written


def _write_json_lines(stem: Path, texts: Iterator[str], size: int, draw: np.random.Generator) -> int:
    written, number, earlier = 0, 0, ""
    while written < size:
        path = stem.with_name(f"{stem.name}-{number:03}.jsonl")
        with path.open("w", encoding="utf-8") as out:
            while out.tell() < min(FILE, size - written):
                text = earlier if earlier and draw.random() < 0.02 else next(texts)
                earlier = text if draw.random() < 0.01 else earlier
                out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        written, number = written + path.stat().st_size, number + 1
    return written


def _english(draw: np.random.Generator) -> Iterator[str]:
    """Documents of 50 to 3,000 words out of 200,000."""
    syllables = [consonant + vowel for consonant in "bcdfghklmnprstvw" for vowel in "aeiou"]
    words = ["".join(draw.choice(syllables, draw.integers(1, 5))) for _ in range(200_000)]
    chances = 1 / (np.arange(len(words)) + 3.0)
    chances = np.cumsum(chances / chances.sum())
    while True:
        picked = np.searchsorted(chances, draw.random(draw.integers(50, 3000)))
        chosen = [words[i] for i in np.minimum(picked, len(words) - 1)]
        for place in range(9, len(chosen), 10):
            chosen[place] += ".\n" if place % 50 == 49 else ","
        yield " ".join(chosen)


def _chinese(draw: np.random.Generator) -> Iterator[str]:
    """Documents of 10 to 200 clauses of characters out of 6,000."""
    characters = [chr(0x4E00 + code) for code in draw.permutation(6000)]
    chances = 1 / (np.arange(len(characters)) + 10.0)
    chances = np.cumsum(chances / chances.sum())
    while True:
        lengths = draw.integers(4, 20, draw.integers(10, 200))
        picked = np.minimum(np.searchsorted(chances, draw.random(int(lengths.sum()))), len(characters) - 1)
        text = "".join([characters[i] for i in picked])
        ends = np.cumsum(lengths)
        clauses = [text[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        yield "，".join(clauses) + "。"


if __name__ == "__main__":
    main()

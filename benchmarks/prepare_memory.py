"""Does preparation stay within 2 GB of memory, however large the text? Generates it, prepares it, measures.

    python benchmarks/prepare_memory.py [--gigabytes 10] [--folder DIR] [--set KEY=VALUE …]

Text is drawn from a seed: six parts English-like words (Zipf's law over 200,000) and three parts Chinese
(Zipf's law over 6,000 characters), as JSON lines in files of 256 MB, one document in fifty a copy of an
earlier one; and one part a single text file. Preparation runs in a process of its own, with as many workers
as there are processors. Its memory is looked at ten times a second: all its processes together, what they
share counted once (proportional set sizes, as Linux tells them).
Files that are mapped count as far as they are in memory. The text and what was prepared are deleted; the
result is written into results/, with the date, the hardware and the versions.
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
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from telos.doctor import hardware

PREPARE = """
import sys
from telos.run import load_recipe, prepare
prepared = prepare(load_recipe(sys.argv[1], sys.argv[3:]), sys.argv[2])
"""
LOOK = 0.1
"""Seconds between two looks at the memory."""
LIMIT = 2_000_000_000
FILE = 256_000_000


def main() -> None:
    """Generate, prepare, report; the exit status is 1 if the limit was passed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="where there is room for three times as much")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the recipe: data.dedupe.near=drop")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="telos-prepare-") as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < 3e9 * chosen.gigabytes:
            sys.exit(
                f"{folder}: {free / 1e9:.1f} of {3 * chosen.gigabytes:.1f} GB free: choose another --folder."
            )
        size = write_text(folder / "text", int(chosen.gigabytes * 1e9))
        result = measure(folder, size, chosen.set)
    path = Path(__file__).parent / "results" / f"prepare_memory-{date.today()}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1, ensure_ascii=False))
    sys.exit(int(result["peak_resident_bytes"] > LIMIT))


def measure(folder: Path, size: int, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Prepare the text in `folder` in another process, and what that took."""
    begin = time.monotonic()
    command = [sys.executable, "-c", PREPARE, str(folder / "text"), str(folder / "runs"), *settings]
    child, peak, status = subprocess.Popen(command), 0, None
    while status is None:
        peak = max(peak, sum(_bytes(process) for process in _tree(child.pid)))
        time.sleep(LOOK)
        done, code, used = os.wait4(child.pid, os.WNOHANG)
        status = code if done else None
    seconds = time.monotonic() - begin
    if status:
        sys.exit(f"Preparation ended with status {os.waitstatus_to_exitcode(status)}.")
    card = json.loads(next((folder / "runs" / "prepared").glob("*/card.json")).read_text(encoding="utf-8"))
    return {
        "date": str(date.today()),
        "text_bytes": size,
        "settings": list(settings),
        "peak_resident_bytes": peak,
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


def _tree(process: int) -> list[int]:
    """A process and all that it started."""
    found = [process]
    for each in found:  # grows while it is walked
        try:
            for thread in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        except OSError:  # it has just ended
            continue
    return found


def _bytes(process: int) -> int:
    """Of memory that a process has, its part of what it shares."""
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


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

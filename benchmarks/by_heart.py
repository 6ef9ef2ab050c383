"""Can every objective teach its model 64 texts by heart?

    python benchmarks/by_heart.py [--only NAME…] [--steps 1000]

A model that cannot does not learn what it is asked. The texts are 25 random words each, of which the first
occurs in no other text: so from then on everything is certain, and what no model can know is which of the 64
comes. Where a text is asked from its beginning that costs ln 64 nats, divided by the tokens asked: the
`floor`; where the rest of the text is in sight it costs nothing. What an objective draws by chance and asks
for costs more than the floor (where `infill` cuts a text, where a gap of `denoise` ends). Objectives that ask
for few tokens of a text at a time, or for a harder question each time, take more steps. The result is written
into results/, with the date, the hardware and the versions.
"""

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from harness.whole import whole

from telos.config import read
from telos.doctor import hardware
from telos.recipe import Recipe
from telos.run import fit

TEXTS, WORDS = 64, 25
ASKED = WORDS + 1
"""Tokens of a text that are asked from left to right: its words and the end token."""
FLOOR = math.log(TEXTS) / ASKED
DECODER = {"name": "decoder", "width": 64, "depth": 2, "heads": 4}
ENCODER = {"name": "encoder", "width": 64, "depth": 2, "heads": 4}
PAIRS = {**ENCODER, "embedding": {"types": 2}}
BOTH = {"name": "encoder_decoder", "width": 64, "depth": 2, "heads": 4}

RECURRENT = {"name": "recurrent_encoder_decoder", "embedding": 64, "width": 96}


class Task(NamedTuple):
    """An objective with a model that suits it."""

    objective: Any
    model: dict[str, Any]
    floor: float = 0.0
    """What no model can do better than, in nats per token asked."""
    longer: int = 1
    """So many times the steps of the others."""


TASKS = {
    "causal": Task("causal", DECODER, FLOOR),
    "causal, GRU": Task("causal", {"name": "gru", "embedding": 64, "width": 128}, FLOOR),
    "causal, minimal GRU": Task("causal", {"name": "min_gru", "width": 64, "depth": 2}, FLOOR),
    "causal, state space": Task("causal", {"name": "state_space", "width": 64, "depth": 2}, FLOOR),
    "prefix": Task("prefix", DECODER),
    "infill": Task({"name": "infill", "rate": 1.0}, DECODER, FLOOR),
    "multi_token": Task({"name": "multi_token", "tokens": 2}, DECODER, FLOOR),
    "unlikelihood": Task("unlikelihood", DECODER, FLOOR),
    "hybrid": Task("hybrid", DECODER, FLOOR / 2, longer=3),
    "permuted": Task("permuted", DECODER, longer=4),
    "diffusion": Task("diffusion", DECODER, FLOOR, longer=10),
    "mixture": Task({"name": "mixture", "of": ["causal", "prefix"]}, DECODER, FLOOR / 2),
    "distil": Task({"name": "distil", "of": "causal", "temperature": 1.0}, DECODER, FLOOR),
    "masked": Task("masked", ENCODER, longer=4),
    "next_sentence": Task({"name": "together", "of": ["next_sentence", "masked"]}, PAIRS, longer=5),
    "sentence_order": Task({"name": "together", "of": ["sentence_order", "masked"]}, PAIRS, longer=5),
    "replaced": Task("replaced", ENCODER, longer=5),
    "span": Task("span", BOTH),
    "span, recurrent": Task("span", RECURRENT, longer=3),
    "denoise": Task("denoise", BOTH, longer=3),
    "bart": Task("bart", BOTH),
}


def texts() -> list[str]:
    """64 texts of 25 words, the first of each its own, in four sentences."""
    draw = random.Random(0)
    words = ["".join(draw.choices("aeioutnsrlk", k=5)) for _ in range(80)]
    found = []
    for number in range(TEXTS):
        chosen = [f"w{number}x", *draw.choices(words, k=WORDS - 5)]
        for place in (24, 18, 12, 6):
            chosen.insert(place, ".")
        found.append(" ".join(chosen))
    return found


def learn(task: Task, root: Path, steps: int, teacher: str = "") -> dict[str, Any]:
    """Train on the texts; the mean loss of the last 20 steps."""
    source = root / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts()), encoding="utf-8")
    objective = task.objective if isinstance(task.objective, dict) else {"name": task.objective}
    vocabulary: dict[str, Any] = {"kind": "word", "size": 0}
    if teacher:
        objective = {**objective, "teacher": teacher}
        vocabulary = {"path": f"{teacher}/tokenizer.json"}
    table = {
        "name": f"{objective['name']}-{task.model['name']}",
        "objective": objective,
        "model": task.model,
        "data": {"path": str(source), "split": {"validation": 0.0, "test": 0.0}},
        "tokenizer": vocabulary,
        "train": {
            "window": 48,
            "batch": 32,
            "budget": {"steps": steps},
            "optimizer": {"name": "adamw", "rate": 5e-3, "decay": 0.0},
            "schedule": {"kind": "cosine", "warmup": 0.1},
            "watch": {"evaluate_every": 0, "checkpoint_every": 0, "log_every": 1},
        },
        "generate": {"length": 1},
    }
    start = time.perf_counter()
    run = whole(fit(read(Recipe, table), root, device="cpu"))
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = [line["loss"] for line in lines if math.isfinite(line.get("loss", math.nan))]
    return {
        "first": round(losses[0], 4),
        "last": round(sum(losses[-20:]) / 20, 4),
        "floor": round(task.floor, 4),
        "steps": steps,
        "seconds": round(time.perf_counter() - start, 1),
        "folder": str(run.folder),
    }


def learn_all(names: Sequence[str], steps: int) -> dict[str, Any]:
    """Each of the tasks in a folder of its own."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for number, name in enumerate(names):
            (root := Path(place) / str(number)).mkdir()
            teacher = found["causal"]["folder"] if name == "distil" else ""
            found[name] = learn(TASKS[name], root, steps * TASKS[name].longer, teacher)
            print(f"{name:22} {found[name]['first']:8.3f} → {found[name]['last']:.4f}", flush=True)
    return {name: {k: v for k, v in row.items() if k != "folder"} for name, row in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--only", nargs="*", default=list(TASKS))
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    found = learn_all(given.only, given.steps)
    result = {"date": str(date.today()), "hardware": hardware(torch.device("cpu")), "tasks": found}
    target = Path(__file__).parent / "results" / f"by_heart-{date.today()}.json"
    target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()

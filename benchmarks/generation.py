"""How fast does a model write: Telos beside Transformers' `generate` on the exported same model.

    python benchmarks/generation.py RUN [--batch 64] [--length 128] [--rounds 5] [--threads N] [--out FILE]

RUN is the folder of a causal decoder or of an encoder–decoder for pairs that was trained; it is exported to
Hugging Face in a temporary folder and proved there. Both get the same texts, which are of unequal length
(beginnings of documents of the test split; of pairs, their texts), in float32, and write until each sample
has ended or has `--length` tokens. Transformers gets them padded with a mask, and its cache as it comes.

A decoder:

    greedy-1, greedy     the likeliest token, one prompt, and `--batch` of them; the tokens are compared
    sample               temperature 1, nothing cut off
    top-k-p              top_k = 50, then top_p = 0.95

A translator:

    beam-1, beam         a beam of 5 for one text, and for `--batch` of them; the tokens are compared

Figures are tokens that were drawn, end tokens included, by seconds of wall time: medians over rounds in which
the two take turns, who is first changing. `--quick` takes few and short ones, to see that everything runs.
`processor_ratio` is of the processor's time, which other work on the machine disturbs less.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

import telos
from telos.tasks.translation import answers, pairs_of

HERE = Path(__file__).resolve().parent
Ids = list[list[int]]
BEAM = 5


class Case(NamedTuple):
    """How is written, and how many at once."""

    name: str
    rows: int
    ours: list[str]
    theirs: dict[str, Any]


def cases(batch: int, *, pairs: bool) -> list[Case]:
    """What is measured of a translator, or of a decoder."""
    if pairs:
        beam = {"do_sample": False, "num_beams": BEAM, "length_penalty": 1.0, "early_stopping": False}
        ours = [f"beam.width={BEAM}", "beam.length_penalty=1.0"]
        return [Case("beam-1", 1, ours, beam), Case("beam", batch, ours, beam)]
    greedy = (["temperature=0.0"], {"do_sample": False})
    plain = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    return [
        Case("greedy-1", 1, *greedy),
        Case("greedy", batch, *greedy),
        Case("sample", batch, ["temperature=1.0", "top_k=0", "top_p=1.0"], plain),
        Case(
            "top-k-p",
            batch,
            ["temperature=1.0", "top_k=50", "top_p=0.95"],
            {**plain, "top_k": 50, "top_p": 0.95},
        ),
    ]


def main() -> None:
    """Measure, print and write."""
    chosen = _chosen()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    run = telos.open_run(chosen.run, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        run.export("hf", folder)
        found = measure(run, Path(folder), chosen)
    name = "beam" if answers(run) else "generation"
    path = chosen.out or HERE / "results" / f"{name}-{date.today()}.json"
    path.write_text(json.dumps({**_about(run, chosen), "cases": found}, indent=1) + "\n", encoding="utf-8")
    print(path.name)


def measure(run: telos.Run, folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Every case: rates, ratios, and how many rows of greedy text are the same."""
    pairs = answers(run)
    theirs = Theirs(run, folder, pairs=pairs)
    found = {}
    for case in cases(chosen.batch, pairs=pairs):
        prompts = _texts(run, case.rows) if pairs else _prompts(run, case.rows)
        ways: dict[str, Callable[[int], Ids]] = {
            "ours": lambda seed, case=case, prompts=prompts: _ours(run, prompts, case, chosen.length, seed),
            "transformers": lambda seed, case=case, prompts=prompts: theirs.write(
                prompts, case, chosen.length, seed
            ),
        }
        found[case.name] = figures = _raced(ways, chosen.rounds, chosen.windows)
        if not case.theirs["do_sample"]:
            both = list(zip(figures.pop("ours_ids"), figures.pop("transformers_ids"), strict=True))
            figures["same"] = f"{sum(a == b for a, b in both)} of {len(both)}"
        figures = {name: value for name, value in figures.items() if not name.endswith("_ids")}
        found[case.name] = {"rows": case.rows, **figures}
        print(f"{case.name:10} {json.dumps(found[case.name])}", flush=True)
    return found


def _raced(ways: dict[str, Callable[[int], Ids]], rounds: int, windows: float) -> dict[str, Any]:
    """Both in turn, after a round that is not counted; each goes on for about a window."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    works: dict[str, float] = dict.fromkeys(ways, 0.0)
    last: dict[str, Ids] = {}
    for number in range(rounds + 1):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            tokens, begin, used = 0, time.perf_counter(), time.process_time()
            while not tokens or (number and time.perf_counter() - begin < windows):
                last[name] = ways[name](number)
                tokens += sum(map(len, last[name]))
            if number:
                rates[name].append(tokens / (time.perf_counter() - begin))
                works[name] += (time.process_time() - used) / tokens
    ours, theirs = (median(rates[name]) for name in ways)
    return {
        "ours": round(ours, 1),
        "transformers": round(theirs, 1),
        "ratio": round(ours / theirs, 2),
        "ratios": [round(a / b, 2) for a, b in zip(*rates.values(), strict=True)],
        "processor_ratio": round(works["transformers"] / works["ours"], 2),
        "load": round(os.getloadavg()[0], 1),
        **{f"{name}_ids": ids for name, ids in last.items()},
    }


def _prompts(run: telos.Run, count: int) -> list[str]:
    """Beginnings of documents, from 4 to 11 tokens, no two alike."""
    shards = run.shards("test")
    found: dict[str, None] = {}
    for number in range(1000 * count):
        document = shards.document(number % len(shards))
        text = run.tokenizer.decode(document[number // len(shards) :][: 4 + number % 8])
        if text and "\ufffd" not in text:
            found[text] = None
        if len(found) == count:
            return list(found)
    raise SystemExit(f"the test split holds too little text for {count} prompts.")


def _texts(run: telos.Run, count: int) -> list[str]:
    """Texts of pairs of the test split."""
    found, _ = pairs_of(run, "test", count)
    if len(found) < count:
        raise SystemExit(f"the test split holds {len(found)} pairs, and {count} are asked for.")
    return found


def _ours(run: telos.Run, prompts: list[str], case: Case, length: int, seed: int) -> Ids:
    samples = run.generate(prompts, [*case.ours, f"length={length}", "stop=[]"], seed=seed)
    return [list(sample.ids) for sample in samples]


class Theirs:
    """Transformers' own way, from the exported folder."""

    def __init__(self, run: telos.Run, folder: Path, *, pairs: bool) -> None:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        self.tokenizer = run.tokenizer
        self.pairs = pairs
        kind = transformers.AutoModelForSeq2SeqLM if pairs else transformers.AutoModelForCausalLM
        self.model: Any = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
        ).eval()

    def write(self, texts: list[str], case: Case, length: int, seed: int) -> Ids:
        """The ids of each sample, up to its end token."""
        torch.manual_seed(seed)
        tokenizer = self.tokenizer
        ids, mask = self._given(texts)
        with torch.no_grad():
            written = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=length,
                pad_token_id=tokenizer.pad,
                eos_token_id=tokenizer.end,
                **case.theirs,
            )
        before = 1 if self.pairs else ids.shape[1]
        return [_until(row, tokenizer.end) for row in written[:, before:].tolist()]

    def _given(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, padded on the left to be gone on with, on the right to be answered."""
        tokenizer = self.tokenizer
        encoded = [tokenizer.encode(text).tolist() for text in texts]
        rows = [[*ids, tokenizer.end] if self.pairs else [tokenizer.begin, *ids] for ids in encoded]
        ids = _padded(rows, tokenizer.pad, right=self.pairs)
        return ids, _padded([[1] * len(row) for row in rows], 0, right=self.pairs)


def _padded(rows: list[list[int]], blank: int, *, right: bool) -> torch.Tensor:
    side = "right" if right else "left"
    return pad_sequence([torch.tensor(row) for row in rows], True, blank, padding_side=side)


def _until(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row


def _about(run: telos.Run, chosen: argparse.Namespace) -> dict[str, Any]:
    from telos.doctor import hardware

    return {
        "date": str(date.today()),
        "hardware": hardware(torch.device("cpu")),
        "versions": {name: version(name) for name in ("telos-lm", "torch", "transformers")},
        "model": run.recipe.model.table(),
        "parameters": sum(parameter.numel() for parameter in run.network.parameters()),
        "vocabulary": run.tokenizer.size,
        "batch": chosen.batch,
        "length": chosen.length,
        "threads": torch.get_num_threads(),
    }


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", type=float, default=5.0, help="seconds that each writes in a round")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.batch, chosen.length, chosen.rounds, chosen.windows = 3, 5, 1, 0.0
    return chosen


if __name__ == "__main__":
    main()

"""How fast is training on this machine? The loss layer, the models and the loader, each measured in turn.

    python benchmarks/speed.py [--rounds 5] [--seconds 4] [--threads N]

Every figure is the median of several windows; the windows of all measurements are interleaved, so that a
change in what else the machine is doing reaches all alike. Beside tokens per second of wall time stand tokens
per second of processor time, which a busy machine disturbs less. The result is written beside this file, with
the date, the hardware and the versions.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from telos.batch import Asked, Batch, HeadSpec, Piece, Place, Rows
from telos.data.loader import LoaderPlan, steps
from telos.doctor import hardware
from telos.losses import LossSettings, linear_cross_entropy
from telos.models._base import Model, Sizes
from telos.models._initial import initialise
from telos.models.decoder import Decoder, Heads
from telos.models.gru import Gru
from telos.objectives.causal import Causal
from telos.train.precision import autocast

CPU = torch.device("cpu")
Work = Callable[[], int]
"""Does one unit of work; answers how many tokens that was."""


class Window(NamedTuple):
    """Tokens per second, by the clock on the wall and by that of the processor."""

    wall: float
    processor: float


def training(model: Model, vocabulary: int, rows: int, places: int, precision: str) -> Work:
    """Forward, backward and update of one batch of random tokens."""
    network = model.build(Sizes(vocabulary, places, (HeadSpec(name="tokens", outputs=vocabulary),)))
    initialise(network, 0)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (rows, places), generator=draw)
    position = torch.arange(places).expand(rows, places)
    main = Rows(
        ids=ids,
        positions=position,
        segment=torch.zeros_like(ids),
        order=position,
        seen=torch.ones_like(ids, dtype=torch.bool),
    )
    number = rows * places
    asked = Asked(
        head="tokens",
        term="tokens",
        at=torch.arange(number),
        target=ids.flatten().roll(-1),
        weight=torch.ones(number),
    )
    batch = Batch(main=main, asks=(asked,))

    def work() -> int:
        with autocast(precision, CPU):
            loss = network(batch).sums["tokens"] / number
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return number

    return work


def loss_layer(rows: int, vocabulary: int, width: int, plain: bool) -> Work:
    """Projection and cross-entropy, forward and backward, in bfloat16: ours, or linear and then PyTorch's."""
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=draw).requires_grad_()
    weight = (0.02 * torch.randn(vocabulary, width, generator=draw)).requires_grad_()
    target = torch.randint(0, vocabulary, (rows,), generator=draw)
    counts = torch.ones(rows)

    def work() -> int:
        with autocast("bfloat16", CPU):
            if plain:
                logits = torch.nn.functional.linear(hidden, weight).float()
                loss = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
            else:
                loss = linear_cross_entropy(
                    hidden, weight, None, target, counts, settings=LossSettings(), training=True
                ).entropy
        loss.backward()
        hidden.grad = weight.grad = None
        return rows

    return work


class Random:
    """Documents of random tokens, of random length."""

    def __init__(self, number: int, longest: int) -> None:
        draw = np.random.default_rng(0)
        self.pieces = [
            Piece(ids=draw.integers(0, 8192, int(length)), document=index, ask_from=1)
            for index, length in enumerate(draw.integers(8, longest, number))
        ]

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> Piece:
        return self.pieces[index]

    def pieces_of(self, document: int) -> range:
        return range(document, document + 1)


def loader() -> Work:
    """Batches of 32 rows of 256 places, packed, in the training process."""
    tokenizer: Any = None  # the causal objective reads pieces alone
    plan = LoaderPlan(
        corpus=Random(20_000, 257), objective=Causal(), tokenizer=tokenizer, window=256, batch=32, packed=True
    )
    source = steps(plan, Place())

    def work() -> int:
        return sum(int(batch.asks[0].weight.sum()) for batch in next(source).batches)

    return work


def measure(work: Work, seconds: float) -> Window:
    """Work for about so many seconds."""
    tokens, wall, processor = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        tokens += work()
    return Window(tokens / (time.perf_counter() - wall), tokens / (time.process_time() - processor))


def main() -> None:
    """Measure everything, print a table, write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    gpt = Decoder(width=384, depth=6, heads=Heads(count=6))
    classic = Gru(embedding=300, width=1024)
    lstm = Gru(cell="lstm", embedding=384, width=384, depth=2)
    works = {
        "decoder 6 × 384, vocabulary 8192, 8 × 256, float32": training(gpt, 8192, 8, 256, "float32"),
        "decoder 6 × 384, vocabulary 8192, 8 × 256, bfloat16": training(gpt, 8192, 8, 256, "bfloat16"),
        "GRU 300 / 1024, vocabulary 5000, 32 × 35, float32": training(classic, 5000, 32, 35, "float32"),
        "GRU 300 / 1024, vocabulary 5000, 32 × 35, bfloat16": training(classic, 5000, 32, 35, "bfloat16"),
        "LSTM 2 × 384, vocabulary 8192, 32 × 64, bfloat16": training(lstm, 8192, 32, 64, "bfloat16"),
        "loss layer 2048 × 32768, width 384, bfloat16": loss_layer(2048, 32768, 384, plain=False),
        "the same, linear and then cross-entropy": loss_layer(2048, 32768, 384, plain=True),
        "loader, 32 × 256, packed": loader(),
    }
    for work in works.values():
        work()
    found: dict[str, list[Window]] = {name: [] for name in works}
    for _ in range(chosen.rounds):
        for name, work in works.items():
            found[name].append(measure(work, chosen.seconds))
    figures = {
        name: {
            "tokens_per_second": round(statistics.median(window.wall for window in windows)),
            "tokens_per_processor_second": round(statistics.median(window.processor for window in windows)),
        }
        for name, windows in found.items()
    }
    for name, row in figures.items():
        print(f"{name:58}{row['tokens_per_second']:>10,}{row['tokens_per_processor_second']:>10,}")
    result = {
        "date": str(date.today()),
        "hardware": hardware(),
        "threads": chosen.threads,
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "figures": figures,
    }
    path = Path(__file__).with_name(f"speed-{date.today()}.json")
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

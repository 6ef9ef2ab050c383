"""How fast is text written past the model's window, where at nearly every step some row of the batch slides?

    python benchmarks/sliding.py [--rows 32] [--window 256] [--out FILE]

A decoder of 4 blocks of 256 over bytes, not trained, in float32 on one thread. The prompts are of unequal
length, so that no two rows slide at the same step. Told are tokens by seconds of the processor's time, which
other work on the machine disturbs less than the clock's: of text that ends within the window, and of text of
three windows. `--quick` takes few and short ones, to see that everything runs.
"""

import argparse
import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

from telos.batch import HeadSpec
from telos.doctor import hardware
from telos.generate._base import generate
from telos.generate._settings import GenerateSettings
from telos.models._base import Network, Sizes
from telos.models._initial import initialise
from telos.models.decoder import Decoder
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Measure, print and write."""
    chosen = _chosen()
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(TokenizerSettings(kind="byte"), iter(()))
    network = _network(tokenizer, chosen.window)
    half = chosen.window // 2
    found = {
        "within": measure(network, tokenizer, chosen, half),
        "three_windows": measure(network, tokenizer, chosen, 3 * chosen.window),
    }
    about = {"date": str(date.today()), "hardware": hardware(torch.device("cpu"))}
    figures = {**about, "rows": chosen.rows, "window": chosen.window, **found}
    path = chosen.out or HERE / f"sliding-{date.today()}.json"
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))


def measure(
    network: Network, tokenizer: Tokenizer, chosen: argparse.Namespace, length: int
) -> dict[str, Any]:
    """Tokens by seconds of the processor's time, and how many there were."""
    step = max(1, chosen.window // 2 // chosen.rows)
    prompts = ["a" * (step * number) for number in range(chosen.rows)]
    settings = GenerateSettings(length=length, temperature=0, batch=chosen.rows)
    begin = time.process_time()
    samples = generate(network, tokenizer, prompts, settings, window=chosen.window)
    seconds = time.process_time() - begin
    tokens = sum(len(sample.ids) for sample in samples)
    return {"tokens": tokens, "tokens_per_second": round(tokens / seconds, 1)}


def _network(tokenizer: Tokenizer, window: int) -> Network:
    sizes = Sizes(tokenizer.size, window, (HeadSpec(name="tokens", outputs=tokenizer.size),))
    network = Decoder(width=256, depth=4, heads=4).build(sizes)
    initialise(network, 0)
    return network.eval()


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rows, chosen.window = 3, 8
    return chosen


if __name__ == "__main__":
    main()

"""The parts without the runs: a network, batches from the loader, and a loop of one's own.

python examples/own_training_loop.py
"""

import tempfile
from itertools import islice
from pathlib import Path

import torch

from telos.batch import Place
from telos.data.corpus import Corpus
from telos.data.loader import LoaderPlan, steps
from telos.data.shards import Shards, ShardWriter
from telos.models._base import Sizes
from telos.models._initial import initialise
from telos.models.decoder import Decoder, Heads
from telos.objectives.causal import Causal
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer

TEXTS = [f"{a} plus {b} is {a + b}.\n" for a in range(30) for b in range(30)]
WINDOW = 32


def prepared(folder: Path, tokenizer: Tokenizer) -> Shards:
    """The texts as tokens on disk."""
    writer = ShardWriter(folder, tokenizer.hash, tokenizer.size)
    for text in TEXTS:
        writer.add(tokenizer.encode(text), bytes=len(text.encode()))
    writer.close()
    return Shards(folder)


def main(number: int = 60) -> list[float]:
    """The loss, in nats per token, of each of `number` steps."""
    objective, losses = Causal(), []
    tokenizer = train_tokenizer(TokenizerSettings(kind="character"), iter(TEXTS))
    model = Decoder(width=64, depth=2, heads=Heads(count=4))
    network = model.build(Sizes(tokenizer.size, WINDOW, objective.heads(tokenizer.size)))
    initialise(network, seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus(prepared(Path(folder), tokenizer), objective.cut(WINDOW), tokenizer)
        plan = LoaderPlan(
            corpus=corpus, objective=objective, tokenizer=tokenizer, window=WINDOW, batch=16, packed=True
        )
        for step in islice(steps(plan, Place()), number):
            (batch,) = step.batches
            loss = network(batch).sums["tokens"] / batch.asked["tokens"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


if __name__ == "__main__":
    for place, value in enumerate(main()):
        print(f"step {place}: {value:.3f} nats per token")

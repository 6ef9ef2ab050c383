"""What the tests of evaluation and generation stand on: small vocabularies, shards and networks."""

from collections.abc import Sequence
from pathlib import Path

import torch

from telos.batch import HeadSpec
from telos.data.shards import Shards, ShardWriter
from telos.models._base import Model, Network, Sizes
from telos.models.decoder import Decoder
from telos.models.gru import Gru
from telos.models.state_space import StateSpace
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer

TEXTS = (
    "The cat sat on the mat.\r\nThe dog did not.",
    "",
    "春眠不觉晓，处处闻啼鸟。",
    "a",
    "def f(x):\n    return x + 1  # 🙂\n" * 3,
    "one two three four five six seven eight nine ten " * 4,
    "\tüber\n\n",
)
"""Empty, one byte, Chinese, emoji, line ends of both kinds, longer than any window here."""

MODELS: dict[str, Model] = {
    "rotary": Decoder(width=32, depth=2, heads=4),
    "learned": Decoder(
        width=32, depth=2, heads=2, positions="learned", norm="layer", feed="gelu", tied=False
    ),
    "grouped": Decoder(width=32, depth=2, heads={"count": 4, "keys": 2}),
    "gru": Gru(embedding=16, width=24, depth=2),
    "lstm": Gru(embedding=16, width=24, cell="lstm"),
    "local": Decoder(width=32, depth=2, heads={"count": 4, "local": {"reach": 3, "every": 2}}),
    "experts": Decoder(width=32, depth=2, heads=4, feed={"experts": {"count": 4, "active": 2}}),
    "state_space": StateSpace(width=32, depth=2, head=8, state=8),
}


def byte_tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerSettings(kind="byte"), iter(()))


def pair_tokenizer(size: int = 300) -> Tokenizer:
    return train_tokenizer(TokenizerSettings(size=size), iter(TEXTS * 3))


def shards_of(folder: Path, tokenizer: Tokenizer, texts: Sequence[str] = TEXTS) -> Shards:
    writer = ShardWriter(folder, tokenizer.hash, tokenizer.size)
    for text in texts:
        writer.add(tokenizer.encode(text), len(text.encode()))
    writer.close()
    return Shards(folder)


def network_of(model: Model, tokenizer: Tokenizer, window: int, extra: int = 0) -> Network:
    """A network whose predictions are far from uniform, with `extra` outputs beyond the vocabulary."""
    rows = tokenizer.size + extra
    network = model.build(Sizes(rows, window, (HeadSpec(name="tokens", outputs=rows),)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.3 if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return network.eval()

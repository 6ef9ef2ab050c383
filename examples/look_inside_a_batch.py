"""What a model is fed: the objective's examples, packed into a batch, and who may see whom.

python examples/look_inside_a_batch.py
"""

import numpy as np

from telos.batch import Piece, may_see
from telos.data.packing import collate, pack
from telos.objectives.causal import Causal
from telos.tokenizer import TokenizerSettings, train_tokenizer

TEXTS = ["the cat", "a dog barks", "no"]


def main() -> str:
    """A picture of one row of three documents: a line per place, █ where it may look."""
    tokenizer = train_tokenizer(TokenizerSettings(kind="character"), iter(TEXTS))
    pieces = [
        Piece(ids=np.array([tokenizer.begin, *tokenizer.encode(text), tokenizer.end]), document=number)
        for number, text in enumerate(TEXTS)
    ]
    rng = np.random.default_rng(0)
    examples = [Causal().example(pieces, index, rng, tokenizer) for index in range(len(pieces))]
    batch = collate(pack(examples, window=32))
    (asked,) = batch.asks
    questions = int((asked.weight > 0).sum())  # the rest is padding
    answers = dict(zip(asked.at[:questions].tolist(), asked.target[:questions].tolist(), strict=True))
    lines = []
    for place, sees in enumerate(may_see(batch.main, batch.main)[0, 0]):
        if batch.main.segment[0, place] < 0:
            break  # padding
        token, answer = (
            tokenizer.token_bytes(i).decode() for i in (int(batch.main.ids[0, place]), answers[place])
        )
        lines.append(f"{token:>9} {''.join('█' if s else '·' for s in sees.tolist())} {answer}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())

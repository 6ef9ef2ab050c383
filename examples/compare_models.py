"""The same text and budget under several models: a table of what each reaches.

python examples/compare_models.py my-texts/ train.budget.minutes=1
"""

import sys
from pathlib import Path

import telos

MODELS = {
    "llama-style": ["model={name='decoder', width=128, depth=3, heads=4}"],
    "gpt2-style": [
        "model={name='decoder', width=128, depth=3, heads=4, positions='learned', norm='layer', feed='gelu'}"
    ],
    "gru": ["model={name='gru', embedding=128, width=256}", "train.loader.carry=true"],
}


def main(text: Path, *settings: str) -> dict[str, float]:
    """Bits per byte of the held-out text by model, the vocabulary and the split being the same for all."""
    found = {}
    for name, model in MODELS.items():
        run = telos.fit(telos.load_recipe(text, [*model, f"name={name}", *settings]))
        figures = run.figures()
        found[name] = figures["evaluation"]["test"]["bits_per_byte"]
        print(
            f"{name:12} {figures['machine']['parameters']:>10,} parameters {found[name]:8.4f} bits per byte"
        )
    return found


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *sys.argv[2:])

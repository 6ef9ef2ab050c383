"""Ten lines of the library: train on a folder of text, look at the figures, let the model write.

python examples/train_and_generate.py my-texts/ train.budget.minutes=1
"""

import sys
from pathlib import Path

import telos


def main(text: Path, *settings: str) -> telos.Run:
    """Train on `text` with the defaults and `settings`, into `runs/` of the current folder."""
    recipe = telos.load_recipe(text, settings)
    run = telos.fit(recipe)  # again: goes on where it stopped
    figures = run.evaluate("test")
    print(f"{figures['bits_per_byte']:.3f} bits per byte, perplexity {figures['perplexity']:.1f}")
    for sample in run.generate(["", "The "], ["length=60", "temperature=0.8"], seed=1):
        print("—", sample.prompt + sample.text)
    return run


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *sys.argv[2:])

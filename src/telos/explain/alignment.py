"""Where a model looks in a text while it says its translation: the attention of the decoder to the source
(Bahdanau et al., 2015), a mean over layers and heads.

It shows where information may have come from, and is no proof that it did (Jain and Wallace, 2019).
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos.batch import Example
from telos.data.packing import collate
from telos.errors import ConfigError
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Alignment", "alignment", "draw"]


class Alignment(NamedTuple):
    """The tokens of both sides, and how much each of what is said looks at each of what is read."""

    read: tuple[str, ...]
    said: tuple[str, ...]
    weights: NDArray[np.float32]
    """(said, read); rows add up to 1."""


def alignment(
    network: Network, objective: Objective, tokenizer: Tokenizer, text: str, said: NDArray[np.int64]
) -> Alignment:
    """Where the network looks in `text` when it says each of the tokens `said` (n,), before it has said it.

    Raises:
        ConfigError: the model reads and says in one row, so there is no attention to a source.
    """
    prompt = objective.prompt(tokenizer.encode(text), tokenizer)
    device = next(network.parameters()).device
    if prompt.source is None:
        raise ConfigError(
            "this model reads and says in one row, so there is no attention from one text to the other. "
            'Models with a source have it: objective.form = "source".'
        )
    main = type(prompt.main).of(np.concatenate([prompt.main.ids, said[:-1]]), causal=True)
    batch = collate([[Example(main=main, source=prompt.source, asks=())]]).to(device)
    assert batch.source is not None
    with network.at_rest():
        found = network.looks(batch.main, batch.source)
    if found is None:
        raise ConfigError("this model does not look at a source.")
    first = len(prompt.main) - 1
    weights = found[0, first : first + len(said), : len(prompt.source)].float().cpu().numpy()
    return Alignment(_shown(tokenizer, prompt.source.ids), _shown(tokenizer, said), weights)


def _shown(tokenizer: Tokenizer, ids: NDArray[np.int64]) -> tuple[str, ...]:
    """Each token as text; the begin token as ⊢, the end token as ⊣, a blank as ␣."""
    marks = {tokenizer.begin: "⊢", tokenizer.end: "⊣"}
    return tuple(marks.get(token) or tokenizer.decode([token]).strip() or "␣" for token in ids.tolist())


def draw(found: Alignment, path: Path) -> None:
    """The weights as a picture, dark where they are large: what is read from left to right, what is said from
    top to bottom. `.svg` shows every script; what else matplotlib writes, those of its own font."""
    import matplotlib
    from matplotlib.figure import Figure

    size = (1.2 + 0.34 * len(found.read), 1.0 + 0.26 * len(found.said))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "telos", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        axes: Any = figure.add_subplot()
        axes.imshow(found.weights, cmap="Blues", vmin=0, vmax=max(float(found.weights.max()), 1e-9))
        axes.set_xticks(range(len(found.read)), found.read, rotation=60, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(found.said)), found.said)
        axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        for side in axes.spines.values():
            side.set_visible(False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)

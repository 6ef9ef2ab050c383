"""The races: who is trained on what for how long, and how much sooner ours is to be at the same loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .corpus import data_folder, little, text_overrides
from .works import GPT, Entrant

__all__ = ["RACES", "Race", "text_of"]


@dataclass(frozen=True, kw_only=True)
class Race:
    """Contestants that train for a stretch of time each."""

    name: str
    title: str
    recipe: str
    """That the text is prepared by, and that ours is trained by unless another one is named."""
    overrides: Sequence[str]
    shape: Mapping[str, int]
    quick: Mapping[str, int]
    peers: Sequence[Entrant]
    others: Sequence[Entrant] = ()
    """More peers, for who names them."""
    minutes: float
    """Of the peers' training."""
    ours: Sequence[float]
    """Shares of that for which ours is planned: each is a run with a schedule of its own."""
    target: float
    """The most that ours may need of the peer's time for the peer's last loss."""
    figure: str
    """What is drawn: `loss` in nats per token, or `perplexity`."""
    rates: Sequence[float] = ()
    """That a sweep tries; none where a peer's settings are published."""
    batches: Sequence[int] = ()
    batch: int = 0
    """Of the peers without a sweep."""
    windows: bool = True
    """Scored in windows that all share; else each by its own state, on the whole split."""
    most: float = 0.0
    """The perplexity of test that any of ours is to reach; 0 for none."""


PEERS = (
    "plain-bfloat16-compiled",
    "litgpt-bfloat16-compiled",
    "x-transformers-bfloat16-compiled",
    "transformers-bfloat16-compiled",
)

BOOKS = Race(
    name="books",
    title="classic-books, 6 × 384, vocabulary 8k, T 256",
    recipe=GPT.recipe,
    overrides=GPT.overrides,
    shape=GPT.shape,
    quick=GPT.quick,
    peers=[entrant for entrant in GPT.entrants if entrant.name in PEERS],
    others=[entrant for entrant in GPT.entrants if entrant.name == "plain-bfloat16"],
    minutes=20.0,
    ours=(1 / 5, 1 / 3),
    target=1 / 3,
    figure="loss",
    rates=(1e-3, 2e-3, 4e-3),
    batches=(4, 8, 16),
    batch=8,
)


def _example(width: int, dropout: float) -> Entrant:
    settings = {"cell": "lstm", "tied": True, "dropout": dropout, "shape": {"width": width}}
    return Entrant(name=f"example-{width}", family="word_example", settings=settings)


WORDS = Race(
    name="words",
    title="WikiText-2 by words, static",
    recipe="lstm-wikitext2",
    overrides=(),
    shape={"depth": 2, "window": 35},
    quick={"depth": 2, "window": 35},
    peers=(_example(200, 0.2), _example(650, 0.5)),
    minutes=30.0,
    ours=(1.0,),
    target=1.0,
    figure="perplexity",
    batch=20,
    windows=False,
    most=105.0,
)

RACES: Mapping[str, Race] = {race.name: race for race in (BOOKS, WORDS)}


def text_of(race: Race, root: Path, quick: bool) -> list[str]:
    """Dotted settings that say where a race's text is, and what shape all share."""
    if race is WORDS:
        return _words(root, quick)
    shape = race.quick if quick else race.shape
    return [*text_overrides(root, quick), *(each.format(**shape) for each in race.overrides)]


def _words(root: Path, quick: bool) -> list[str]:
    if quick:
        folder = little(root)
        files = {"path": folder, "validation": folder / "ast.txt", "test": folder / "argparse.txt"}
        small = ["model.embedding=16", "model.width=16", "train.batch=2", "tokenizer.size=500"]
        small.append("loss.cutoffs=[100, 300]")
        return [*(f"data.{key}={path}" for key, path in files.items()), *small]
    folder = data_folder() / "wikitext-2"
    names = {"path": "train", "validation": "valid", "test": "test"}
    return [f"data.{key}={folder / name}.txt.xz" for key, name in names.items()]

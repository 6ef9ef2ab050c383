"""Objectives compared: the same text, vocabulary and compute under several objectives, from one file.

    compare.toml → a recipe per cell and seed → trained (what is finished is not done again) → measured
                 → compare.json, compare.md, compare.html

A cell is what differs: an objective, and the model that suits it. The rest is the `base` of all, and a cell
that would change the text, the vocabulary, the compute or the seed is refused. All cells share one
vocabulary, which holds the special tokens of every objective. Figures are means over seeds with their spread.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, final

from pydantic import Field, model_validator

from telos import shipped
from telos.compare_page import Cell, Compared, write_pages
from telos.config import Lax, Settings, fingerprint, override, read, read_toml
from telos.data.prepare import Prepared
from telos.data.prepare import prepare as prepare_text
from telos.doctor import hardware
from telos.errors import ConfigError, TrainingError
from telos.evaluate.texts import TextSettings, kinds_of
from telos.folder import read_json, write_json
from telos.measure import held_out, measure_pairs, measure_probe
from telos.models._base import Sizes
from telos.opened import Run
from telos.recipe import Recipe
from telos.run import fit
from telos.train import checkpoint
from telos.train.display import Display, Quiet

__all__ = ["Comparison", "compare", "load_comparison"]

SHARED = ("data", "tokenizer", "seed", "name", "version")
"""What no cell may change, or nothing would be compared."""
MEASURED = "measured.json"


class ComputeSettings(Settings):
    """What every cell may use: the same for all, in one of two units."""

    tokens: int | None = Field(None, ge=1)
    """Tokens read in training."""
    flops: float | None = Field(None, gt=0)
    """Floating-point operations of training: a model that needs fewer per token reads more of them."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "ComputeSettings":
        if (self.tokens is None) == (self.flops is None):
            raise ValueError("needs one of tokens and flops: how much shall every cell use?")
        return self


class PairsSettings(Settings):
    """Minimal pairs to measure by."""

    path: Annotated[Path, Lax]
    """JSON lines with `sentence_good` and `sentence_bad`, or a folder of them."""
    limit: int = Field(0, ge=0)
    """Of each paradigm so many; 0 for all."""


class ProbeSettings(Settings):
    """Labelled text for a linear probe."""

    train: Annotated[Path, Lax]
    """JSON lines with `text` and `label`, which the probe is fitted to."""
    test: Annotated[Path, Lax]
    """The same, which it is tried on."""
    limit: int = Field(0, ge=0)
    """Of each file so many; 0 for all."""


class MeasureSettings(Settings):
    """What is measured of every cell."""

    tokens: int = Field(10_000, ge=1)
    """Tokens of the test split that are scored."""
    words: bool = False
    """A pseudo-likelihood hides with each token what follows it in its word."""
    pairs: PairsSettings | None = None
    """Minimal pairs."""
    probe: ProbeSettings | None = None
    """A linear probe."""


@final
class Comparison(Settings):
    """Several objectives under the same conditions."""

    name: str = "compare"
    """All goes to the folder runs/NAME."""
    seeds: Annotated[tuple[int, ...], Lax] = (0, 1, 2)
    """One run for each and every cell."""
    compute: ComputeSettings
    """The same for every cell."""
    base: dict[str, Any] = Field(default_factory=dict)
    """What all cells share, as in a recipe; with `recipe`, the name or file of one that it is laid over."""
    cells: tuple[dict[str, Any], ...] = Field(strict=False)
    """What differs: a `name`, and settings of a recipe laid over the base."""
    measure: MeasureSettings = MeasureSettings()
    """What is measured."""

    @model_validator(mode="after")
    def _can_be_compared(self) -> "Comparison":
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds must be different numbers, 0 or more, such as [0, 1, 2]")
        names = [cell.get("name") for cell in self.cells]
        if len(names) < 2 or len({*names}) < len(names) or not all(isinstance(n, str) and n for n in names):
            raise ValueError("cells must be two at least, each with a name of its own")
        for cell in self.cells:
            changed = [key for key in cell if key in SHARED and key != "name"]
            changed += ["train.budget"] if "budget" in (cell.get("train") or {}) else []
            if changed:
                raise ValueError(
                    f"cell {cell['name']!r} sets {', '.join(changed)}, which is the same for all cells: set "
                    "it in base (a budget: in compute, seeds in seeds)"
                )
        self.recipes()  # every cell's recipe is read before any work
        return self

    def recipes(
        self, tokenizer: Mapping[str, Any] | None = None, budgets: Mapping[str, int] | None = None
    ) -> dict[tuple[str, int], Recipe]:
        """The recipe of each cell and seed.

        Args:
            tokenizer: settings of the vocabulary in place of the base's.
            budgets: tokens to train on by cell; without it, 1.
        """
        base = {key: value for key, value in self.base.items() if key != "recipe"}
        if "recipe" in self.base:
            base = _laid(read_toml(_file(str(self.base["recipe"]))), base)
        if tokenizer is not None:
            base = {**base, "tokenizer": dict(tokenizer)}
        found = {}
        for cell in self.cells:
            name = str(cell["name"])
            table = _laid(base, {key: value for key, value in cell.items() if key != "name"})
            budget = {"tokens": (budgets or {}).get(name, 1)}
            table = {**table, "train": {**table.get("train", {}), "budget": budget}}
            for seed in self.seeds:
                own = {**table, "name": f"{name}-{seed}", "seed": seed}
                found[name, seed] = read(Recipe, own, f"cell {name!r}")
        return found


def load_comparison(path: str | Path, overrides: Iterable[str] = ()) -> Comparison:
    """A comparison from its file, or by its name among those that come with Telos, with dotted settings
    laid over it: `seeds=[0]`.

    Raises:
        ConfigError: names what is wrong and what was expected.
    """
    path = Path(path)
    path = path if path.suffix == ".toml" else shipped.path_of(str(path), "compare")
    return read(Comparison, override({"name": path.stem, **read_toml(path)}, overrides), path.name)


def compare(
    comparison: Comparison, root: str | Path = "runs", *, device: str = "auto", display: Display | None = None
) -> Compared:
    """Train and measure every cell, and write compare.json, compare.md and compare.html to `root`/NAME.

    Called again it goes on: what was trained is not trained again, and what was measured by the same settings
    is not measured again.

    Raises:
        ConfigError: the folder is that of a run, or a recipe cannot be.
        DataError: text, pairs or labels cannot be read.
        TrainingError: it was stopped; the same call goes on.
    """
    display = display or Quiet()
    folder = Path(root) / comparison.name
    if (folder / "recipe.toml").exists():
        raise ConfigError(f"{folder}: a run is there. Give this comparison another name: name=…")
    prepared = _prepared(comparison, folder, display)
    budgets = _budgets(comparison, prepared)
    vocabulary = {"path": str(prepared.folder / "tokenizer.json")}
    cells = []
    for (name, seed), recipe in comparison.recipes(vocabulary, budgets).items():
        display.say(f"{name}, seed {seed}: {budgets[name]:,} tokens")
        found = _finished(folder / recipe.name, recipe, comparison.measure)
        cells.append(Cell(name, seed, found or _run(recipe, comparison.measure, folder, device, display)))
    compared = Compared(comparison.name, comparison.table(), tuple(cells))
    write_pages(compared, folder)
    return compared


# ---- what is the same for all


def _prepared(comparison: Comparison, folder: Path, display: Display) -> Prepared:
    """The text with the vocabulary of all cells: learned once, with every objective's special tokens."""
    recipes = list(comparison.recipes().values())
    specials = dict.fromkeys(name for recipe in recipes for name in recipe.objective.specials())
    display.say("Preparing the text and the vocabulary of all cells …")
    return prepare_text(recipes[0].data, recipes[0].tokenizer, folder / "prepared", specials=tuple(specials))


def _budgets(comparison: Comparison, prepared: Prepared) -> dict[str, int]:
    """Tokens that each cell may read."""
    compute = comparison.compute
    if compute.tokens is not None:
        return {name: compute.tokens for name, _ in comparison.recipes()}
    assert compute.flops is not None
    return {
        name: max(1, int(compute.flops / _flops_per_token(recipe, prepared.tokenizer.size)))
        for (name, _), recipe in comparison.recipes().items()
    }


def _flops_per_token(recipe: Recipe, vocabulary: int) -> int:
    sizes = Sizes(vocabulary, recipe.train.window, recipe.objective.heads(vocabulary), recipe.loss)
    flops: int = recipe.model.flops_per_token(sizes)
    return flops


# ---- a cell


def _run(
    recipe: Recipe, measure: MeasureSettings, folder: Path, device: str, display: Display
) -> dict[str, Any]:
    """Train a cell, or finish it, and measure it."""
    run = fit(recipe, folder, device=device, display=display)
    assert run.outcome is not None
    if run.outcome.reason == "signal":
        raise TrainingError(
            f"{run.folder}: stopped at step {run.outcome.step}. All is saved: the same command goes on."
        )
    display.say("Measuring …")
    found = _measured(run, measure)
    write_json(run.folder / MEASURED, {"of": _what(recipe, measure), **found})
    return found


def _finished(folder: Path, recipe: Recipe, measure: MeasureSettings) -> dict[str, Any] | None:
    """What was measured of a cell by this recipe and these settings; `None` where that is still to do."""
    if not (folder / MEASURED).is_file():
        return None
    found = read_json(folder / MEASURED)
    return (
        {key: found[key] for key in found if key != "of"} if found["of"] == _what(recipe, measure) else None
    )


def _what(recipe: Recipe, measure: MeasureSettings) -> str:
    """What the figures are of: the recipe, the settings and the content of the files that they name."""
    files = [measure.pairs.path] if measure.pairs else []
    files += [measure.probe.train, measure.probe.test] if measure.probe else []
    paths = [p for file in files for p in (sorted(file.rglob("*")) if file.is_dir() else [file])]
    hashes = [hashlib.blake2b(path.read_bytes()).hexdigest() for path in paths if path.is_file()]
    return fingerprint(recipe, measure, hashes)


def _measured(run: Run, measure: MeasureSettings) -> dict[str, Any]:
    settings = TextSettings(words=measure.words)
    found: dict[str, Any] = {"training": _training(run)}
    scores = bool(kinds_of(run.recipe.objective, run.tokenizer))
    if scores:
        found["held_out"] = held_out(run, measure.tokens, settings).table()
    if measure.pairs is not None and scores:
        found["pairs"] = measure_pairs(run, measure.pairs.path, measure.pairs.limit, settings).table()
    if measure.probe is not None:
        labelled = measure.probe
        found["probe"] = measure_probe(run, labelled.train, labelled.test, labelled.limit).table()
    return found


def _training(run: Run) -> dict[str, Any]:
    """What training used, and the validation loss on the way: [tokens, nats] at each evaluation."""
    recipe = run.recipe
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    newest = checkpoint.newest_valid(run.folder / "checkpoints")
    assert newest is not None, "training ended, so it was saved"
    last = checkpoint.load(newest).state["run"]
    tokens = last["counters"]["tokens"]
    losses = {line["step"]: line["validation.loss"] for line in lines if line.get("validation.loss")}
    return {
        "objective": recipe.objective.name,
        "model": recipe.model.name,
        "kind": recipe.objective.scored,
        "parameters": read_json(run.folder / "machine.json")["parameters"],
        "steps": last["step"],
        "tokens": tokens,
        "flops": _flops_per_token(recipe, run.tokenizer.size) * tokens,
        "seconds": last["seconds"],
        "device": hardware(run.device)["device"],
        "curve": [[step * tokens / last["step"], loss] for step, loss in losses.items()],
    }


# ---- files


def _file(what: str) -> Path:
    path = Path(what)
    return path if path.suffix == ".toml" else shipped.path_of(what)


def _laid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """One table over another. A member of another name takes the other's place whole."""
    found = dict(under)
    for key, value in over.items():
        old = found.get(key)
        named = value.get("name") if isinstance(value, Mapping) else None
        if isinstance(value, Mapping) and isinstance(old, Mapping) and named in (None, old.get("name")):
            found[key] = _laid(old, value)
        else:
            found[key] = value
    return found

"""A recipe becomes objects here, and a run a folder; with `opened`, which is what can be done with the run
afterwards, the only module that imports from every package.

    load_recipe → fit: prepare → network → Trainer → evaluation, samples, report        open_run → Run

`fit` again goes on with the run of that recipe. What cannot be gone on with is refused by name: a changed
setting, other text, a second process on the same folder.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from telos import shipped
from telos.config import override, read, read_toml, to_toml
from telos.data.corpus import Corpus
from telos.data.prepare import Prepared
from telos.data.remote import is_remote
from telos.doctor import choose_device, hardware
from telos.errors import CheckpointError, ConfigError, DataError
from telos.evaluate.likelihood import EvaluateSettings, score
from telos.export.hf._source import load
from telos.export.hf._write import TEMPLATE
from telos.folder import (
    LOST,
    adopt,
    alone,
    informed_before,
    same_text,
    saved_before,
    settle,
    write_json,
    write_text,
)
from telos.memory import large_pages
from telos.models._base import Model, Network, Sizes
from telos.models._initial import initialise
from telos.models._vectors import start_from_vectors
from telos.objectives._base import Partner
from telos.opened import RUNS, Run, built, open_run, partner_of, prepare, sizes_of
from telos.origin import Given, is_run, take_over
from telos.recipe import Recipe
from telos.tasks.translation import answers, evaluate
from telos.tokenizer import Tokenizer
from telos.train.defaults import pace
from telos.train.display import Display, Quiet
from telos.train.log import Log
from telos.train.loop import Outcome, Trainer, Validate
from telos.train.precision import Precision
from telos.train.room import check_size
from telos.train.tune import trained_numbers, tune
from telos.vocabulary import rows_in

__all__ = ["Run", "fit", "load_recipe", "open_run", "prepare"]

SKIPPED = (
    "their loss or gradient was not finite, or nothing was asked in them, and they changed nothing. Lower "
    'train.optimizer.rate, raise train.schedule.warmup, or set train.compute.precision = "float32".'
)
ANSWERED = 1000
"""Held-out texts that are answered after training, at most."""
NEVER_LEARNED = (
    "Their rows of the embedding are not trained, so what needs these tokens is hardly learned. Train all "
    'weights, tune.only = "all", or adapters, tune.only = "lora"; or take an objective without them.'
)
VALIDATED = 100_000
"""Tokens that an evaluation on the way scores, about: always the same ones."""


def load_recipe(what: str | Path = "demo", overrides: Iterable[str] = ()) -> Recipe:
    """A recipe from its file, by its name among those that come with Telos, or for text of one's own.

    Args:
        what: A `.toml` file, a name (`telos recipes` lists them), or a file, folder or URL of text: then
            everything but `data.path` and `name` is the default.
        overrides: Dotted settings laid over it: `train.budget.steps=50`.

    Raises:
        ConfigError: names every dotted key that is wrong, what was expected and what was probably meant.
    """
    path, remote = Path(what), is_remote(str(what))
    if path.suffix == ".toml" or not (remote or path.exists()):
        path = path if path.suffix == ".toml" else shipped.path_of(str(what))
        return read(Recipe, override({"name": path.stem, **read_toml(path)}, overrides), path.name)
    letters = "".join(c if c.isalnum() else "-" for c in path.resolve().stem).strip("-")
    return read(
        Recipe, override({"name": letters or "run", "data": {"path": str(what)}}, overrides), "settings"
    )


def fit(
    recipe: Recipe,
    root: str | Path = RUNS,
    *,
    new: bool = False,
    device: str = "auto",
    display: Display | None = None,
) -> "Run":
    """Train by the recipe in `root`/NAME until its budget is
    used up, then evaluate, draw samples and write the report.

    A run that is there already is gone on with from its newest whole checkpoint, to the bit as if it had
    never stopped. After Ctrl-C or SIGTERM the run is saved, and `Run.outcome.reason` is `signal`.

    Args:
        new: Start over; an earlier run is moved aside, never deleted.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        ConfigError: the run that is there was begun with other settings, or another process works on it.
        DataError: the text cannot be read, is too little, or is not the one the run was begun with.
        TrainingError, CheckpointError: as of `Trainer.run`.
    """
    display = display or Quiet()
    folder = Path(root) / recipe.name
    chosen = choose_device(device)
    with alone(folder):
        recipe = recipe if new else informed_before(folder, recipe)
        settle(folder, recipe, new)
        prepared = prepare(recipe, root, display=display)
        same_text(folder, prepared.card.key, recipe)
        adopt(folder, recipe)
        recipe = recipe.informed(prepared.card.classes)
        write_text(folder / "recipe.toml", to_toml(recipe))
        write_text(folder / "tokenizer.json", (prepared.folder / "tokenizer.json").read_text("utf-8"))
        if template := recipe.objective.template(prepared.tokenizer):
            write_text(folder / TEMPLATE, template)
        write_json(folder / "card.json", asdict(prepared.card))
        write_text(folder / "card.md", prepared.card.markdown())
        outcome = _train(folder, recipe, prepared, chosen, display)
        run = Run(folder, chosen, prepared, outcome)
        if outcome.reason == "budget":
            run.conclude(display, lambda opened: _answers(opened, display))
    return run


def _answers(run: Run, display: Display) -> dict[str, Any]:
    """What a run that answers texts says to those that were held out, beside its references."""
    if not answers(run) or not len(run.shards("test")):
        return {}
    display.say("Answering held-out texts …")
    try:
        return {"pairs": evaluate(run, limit=ANSWERED).table()}
    except (ConfigError, DataError) as error:
        display.say(str(error))
        return {}


# ---- from a recipe to objects


def _train(
    folder: Path, recipe: Recipe, prepared: Prepared, device: torch.device, display: Display
) -> Outcome:
    tokenizer, objective, settings = prepared.tokenizer, recipe.objective, recipe.train
    if device.type == "cpu":
        large_pages()
    corpus = Corpus(prepared.shards("train"), objective.cut(settings.window), tokenizer)
    gives = recipe.model.gives
    sizes = sizes_of(recipe, tokenizer)
    check_size(recipe.model.parameter_count(sizes), device)
    networks = {name: network.to(device) for name, network in _networks(recipe, tokenizer, display).items()}
    trainer = Trainer(
        models=networks,
        objective=objective,
        plan=settings.plan(
            corpus=corpus,
            objective=objective,
            tokenizer=tokenizer,
            seed=recipe.seed,
            gives=gives,
            tokens=int(prepared.card.splits["train"]["tokens"]),
            pace=pace(recipe.model.flops_per_token(sizes), device.type),
            sources=tuple(prepared.card.sources),
        ),
        settings=settings,
        folder=folder / "checkpoints",
        log=Log(folder, settings.watch.log, name=recipe.name, config=recipe.table()),
        display=display,
    )
    partners = {name: network for name, network in networks.items() if name != "main"}
    trainer.validate = _validate(recipe, prepared, device, trainer.state.precision, partners)
    step = trainer.resume()
    if not step and saved_before(folder):
        raise CheckpointError(f"{folder}: this run was trained, but none of its checkpoints is whole. {LOST}")
    machine = {
        **hardware(device),
        "precision": trainer.state.precision,
        "parameters": recipe.model.parameter_count(sizes),
        "trained": trained_numbers(networks["main"]),
        "batch": trainer.plan.batch,
        **trainer.settled._asdict(),
    }
    if not trainer.finished:
        machine["micro_batch"] = trainer.make_room() or trainer.plan.batch
        machine["compiled"] = trainer.speed_up()
    write_json(folder / "machine.json", machine)
    part = "" if recipe.tune.only == "all" else f" ({machine['trained']:,} numbers are trained)"
    words = f"{machine['parameters']:,} parameters{part}, "
    words += f"{prepared.card.splits['train']['tokens']:,} tokens of text"
    if trainer.finished:
        more = "Raise train.budget to go on, or give --new to start over."
        display.say(f"{folder} is finished (step {step} of its budget). {more}")
    else:
        begin = f"Going on at step {step}" if step else "Training"
        display.say(f"{begin}: {words}, on {machine['device']} in {machine['precision']}")
    outcome = trainer.run()
    skipped = trainer.state.counters.skipped
    if skipped:
        display.say(f"Warning: {skipped} of {outcome.step} steps were skipped: {SKIPPED}")
    return outcome


def _networks(recipe: Recipe, tokenizer: Tokenizer, display: Display) -> dict[str, Network]:
    """The main network with its first values, and the objective's partners."""
    sizes = sizes_of(recipe, tokenizer)
    main = _begun(recipe.model, sizes, recipe.seed, tokenizer, display)
    if recipe.model.vectors is not None:
        coverage = start_from_vectors(main, tokenizer, recipe.model.vectors)
        display.say(f"{coverage.found:,} of {coverage.words:,} words start from {recipe.model.vectors.name}")
    tune(main, recipe.tune, recipe.seed, new=_new_tokens(recipe, tokenizer))
    if recipe.tune.only == "heads" and (unknown := _new_specials(recipe)):
        display.say(f"Warning: the model does not know {', '.join(unknown)}. {NEVER_LEARNED}")
    partners = recipe.objective.partners()
    found = {"main": main, **{name: _partner(name, p, recipe, tokenizer) for name, p in partners.items()}}
    recipe.objective.bind(found)
    return found


def _new_tokens(recipe: Recipe, tokenizer: Tokenizer) -> int:
    """How many tokens, the last ones, the vocabulary got that came with the model; 0 where no text is read
    with one of them."""
    path = recipe.tokenizer.path
    if recipe.model.origin is None or path is None:
        return 0
    known = rows_in(path)
    read = [tokenizer.begin, tokenizer.end, *map(tokenizer.special, recipe.objective.specials())]
    return tokenizer.size - known if max(read) >= known else 0


def _new_specials(recipe: Recipe) -> list[str]:
    """Special tokens of the objective that the vocabulary which came with the model has not got."""
    path = recipe.tokenizer.path
    assert path is not None, "the vocabulary comes with the model"
    there = Tokenizer.load(path, played=recipe.tokenizer.special)
    return [token for token in recipe.objective.specials() if not there.has_special(token)]


def _begun(model: Model, sizes: Sizes, seed: int, tokenizer: Tokenizer, display: Display) -> Network:
    """The network of a description with its first values: drawn, or somebody else's."""
    network = built(model, sizes)
    initialise(network, seed)
    if model.origin is not None:
        source, adapter = model.origin.source, model.origin.adapter
        display.say(f"Starting from {source}{f' with {adapter} merged into it' if adapter else ''}")
        if is_run(source):
            said = _taken_over(source, network, sizes, tokenizer)
        else:
            said = load(source, network, model, sizes, adapter=adapter)
        for sentence in said:
            display.say(f"  {sentence}")
    return network


def _taken_over(source: str, network: Network, sizes: Sizes, tokenizer: Tokenizer) -> list[str]:
    """The weights of another run into the network, as it would answer with them itself."""
    run = open_run(source, "cpu")
    if not tokenizer.extends(run.tokenizer):
        raise ConfigError(
            f"tokenizer.path: the vocabulary there is not that of {source}; its embedding would mean other "
            "tokens. Leave [tokenizer] out: it comes with the model."
        )
    return take_over(
        Given(run.network, sizes_of(run.recipe, run.tokenizer).heads, source), network, sizes.heads
    )


def _partner(name: str, partner: Partner, recipe: Recipe, tokenizer: Tokenizer) -> Network:
    """A second network: a finished run's, or one of its own description, or one like the main one, first
    values and all."""
    if partner.run:
        opened = open_run(partner.run, "cpu")
        if opened.tokenizer.hash != tokenizer.hash:
            raise ConfigError(
                f"objective.{name}: {partner.run} has another vocabulary, so what it says cannot be "
                "compared. Train this run with its vocabulary: "
                f"tokenizer.path={opened.folder / 'tokenizer.json'}"
            )
        _check_reads(f"objective.{name}: {partner.run}", opened.recipe, recipe)
        return opened.network
    return _begun(*partner_of(name, partner, recipe, tokenizer), recipe.seed, tokenizer, Quiet())


def _check_reads(what: str, other: Recipe, recipe: Recipe) -> None:
    """Whether the model of another run can read this run's rows."""
    needed = recipe.objective.requires() | (recipe.model.gives & {"packed"})
    missing = needed - other.model.gives
    if missing:
        raise ConfigError(
            f"{what} is a model = {other.model.name!r}, which does not give {', '.join(sorted(missing))}: it "
            f"cannot read the rows of model = {recipe.model.name!r}. Take a run or a model of another kind."
        )
    if "carries" not in other.model.gives and other.train.window < recipe.train.window:
        raise ConfigError(
            f"{what} was trained with train.window = {other.train.window} and has no places beyond. Set "
            f"train.window to at most that here, not {recipe.train.window}."
        )


def _validate(
    recipe: Recipe,
    prepared: Prepared,
    device: torch.device,
    precision: Precision,
    partners: Mapping[str, Network],
) -> Validate | None:
    """Scores a network on a fixed part of the validation split; `None` where that is empty."""
    shards = prepared.shards("validation")
    cut = recipe.objective.cut(recipe.train.window)
    if not any(length + cut.begin + cut.end > cut.overlap for length in shards.lengths.tolist()):
        return None

    def validate(network: Network) -> Mapping[str, float]:
        found = score(
            network,
            recipe.objective,
            shards,
            prepared.tokenizer,
            EvaluateSettings(batch=recipe.evaluate.batch),
            window=recipe.train.window,
            gives=recipe.model.gives,
            device=device,
            precision=precision,
            limit=VALIDATED,
            partners=partners,
        )
        figures = {"loss": found.loss, "perplexity": found.perplexity, "bits_per_byte": found.bits_per_byte}
        return {name: value for name, value in figures.items() if value is not None}

    return validate

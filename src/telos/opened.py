"""A run that was trained: its model, its figures, and what can be asked of it."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from telos.config import override, read
from telos.data.clean import cleaner
from telos.data.prepare import Prepared, found, key_of
from telos.data.prepare import prepare as prepare_text
from telos.data.shards import Shards
from telos.doctor import choose_device
from telos.errors import CheckpointError, ConfigError, DataError
from telos.evaluate._classifier import Classifier
from telos.evaluate.compression import compress, document_texts, unavailable
from telos.evaluate.copied import Copies
from telos.evaluate.likelihood import EvaluateSettings, Likelihood, score
from telos.explain.neighbours import Neighbours, neighbours
from telos.export._base import Held, Trained
from telos.export._base import write as write_export
from telos.folder import (
    LOST,
    evaluated_step,
    read_json,
    read_recipe,
    same_text,
    saved_before,
    text_key,
    write_json,
    write_text,
)
from telos.generate._base import generated
from telos.generate._rows import OnText, Sample, cleaned
from telos.generate._settings import GenerateSettings
from telos.models._adapters import grow, merged
from telos.models._base import Model, Network, Sizes
from telos.objectives._base import Partner
from telos.recipe import Recipe
from telos.report import write_report
from telos.tokenizer import Tokenizer
from telos.train import checkpoint
from telos.train.average import OWN
from telos.train.display import Display, Quiet
from telos.train.loop import Outcome
from telos.train.tune import put_on

__all__ = ["RUNS", "Run", "built", "open_run", "partner_of", "prepare", "sizes_of"]

RUNS = Path("runs")
HELD = 64
"""Documents that an export is proved on, at most."""
INDEXED = 50_000_000
"""Tokens of a training split that is indexed right after training, at most: some ten seconds."""


def prepare(recipe: Recipe, root: str | Path = RUNS, *, display: Display | None = None) -> Prepared:
    """The recipe's text as tokens on disk, with its vocabulary and data card: found under `root`/prepared,
    or built there.

    Raises:
        DataError: the text cannot be read, or is too little.
        ConfigError: the vocabulary that is asked for cannot be.
    """
    return prepare_text(
        recipe.data,
        recipe.tokenizer,
        Path(root) / "prepared",
        specials=recipe.objective.specials(),
        columns=recipe.objective.columns(),
        progress=_Stages(display or Quiet()),
    )


def open_run(path: str | Path, device: str = "auto") -> "Run":
    """A run that was trained: its model as it was best on validation, or last.

    Raises:
        CheckpointError: the folder is no run, or has no whole checkpoint.
    """
    folder = Path(path)
    read_recipe(folder)
    if not (folder / "tokenizer.json").is_file() or not saved_before(folder):
        raise CheckpointError(
            f"{folder}: this run has not been trained yet: there is no whole checkpoint yet. "
            "Train first: telos train …"
        )
    return Run(folder, choose_device(device))


@final
class Run:
    """A run's folder, and the model in it. What is heavy is read when it is first used."""

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        prepared: Prepared | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        self.folder = folder
        self.device = device
        self.outcome = outcome
        """How training ended, if it was just now."""
        self._prepared = prepared

    @cached_property
    def recipe(self) -> Recipe:
        """As resolved, every default included."""
        return read_recipe(self.folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary."""
        return Tokenizer.load(self.folder / "tokenizer.json")

    @cached_property
    def saved(self) -> checkpoint.Checkpoint:
        """The checkpoint that was best on validation; where
        none was noted, or it is broken, the newest whole one.

        Raises:
            CheckpointError: there is none.
        """
        folder = self.folder / "checkpoints"
        chosen = checkpoint.newest_valid(folder, first=checkpoint.best(folder))
        if chosen is None:
            raise CheckpointError(f"{folder}: none of the run's checkpoints is whole. {LOST}")
        return checkpoint.load(chosen)

    @cached_property
    def network(self) -> Network:
        """The trained network, on the run's device: its averaged weights, where there are such; adapters
        merged into the layers that they stand beside."""
        network = merged(self.restored()).to(self.device)
        self.recipe.objective.settle({"main": network, **self.partners})
        return network

    def restored(self) -> Network:
        """The same as it was trained, on the CPU: adapters apart. Read anew each time."""
        network = built(self.recipe.model, sizes_of(self.recipe, self.tokenizer))
        weights = self.saved.tensors.get(OWN, self.saved.tensors["model"])
        if self._has_adapters:
            put_on(network, self.recipe.tune.lora)
            grow(network, len(weights.get("embedding.rows", ())))
        checkpoint.restore(network, weights)
        return network

    @property
    def _has_adapters(self) -> bool:
        return self.recipe.tune.only == "lora"

    @cached_property
    def partners(self) -> Mapping[str, Network]:
        """The other networks that were trained beside it, by name."""
        found = {}
        for name, partner in self.recipe.objective.partners().items():
            if not partner.run:
                network = built(*partner_of(name, partner, self.recipe, self.tokenizer))
                checkpoint.restore(network, self.saved.tensors[f"partner-{name}"], name)
                found[name] = network.to(self.device)
        return found

    def shards(self, split: str) -> Shards:
        """The tokens of `train`, `validation` or `test`; prepared again if they are gone.

        Raises:
            ConfigError: there is no such split.
            DataError: the text is not the one that the run was trained on.
        """
        if split not in ("train", "validation", "test"):
            raise ConfigError(f"split = {split!r}: there are train, validation and test.")
        if self._prepared is None:
            self._prepared = self._recorded() or self._prepared_again()
        return self._prepared.shards(split)

    def _recorded(self) -> Prepared | None:
        """The prepared data that the run's card names, if it is whole: in prepared/KEY beside the run, or in
        the folder that its recipe says."""
        key, place = text_key(self.folder), self.recipe.data.prepared
        places = [self._beside() / "prepared", *([place.resolve().parent] if isinstance(place, Path) else [])]
        whole = (found(each, key) for each in places if key)
        return next((each for each in whole if each is not None), None)

    def _prepared_again(self) -> Prepared:
        """From the text, into prepared/ beside the run, where it is still the run's text."""
        place = self._beside() / "prepared"
        objective = self.recipe.objective
        try:
            key = key_of(
                self.recipe.data,
                self.recipe.tokenizer,
                specials=objective.specials(),
                columns=objective.columns(),
            )
        except DataError as error:
            raise DataError(
                f"{self.folder}: the prepared text that this run was trained on is not in {place}, and the "
                f"text that it was made from cannot be read either: {error} Put one of them back: a run "
                "finds its prepared text in prepared/ beside its own folder."
            ) from None
        same_text(self.folder, key, self.recipe)
        message = f"The prepared text of this run is not there any more; it is made again in {place}."
        warnings.warn(message, RuntimeWarning, stacklevel=4)
        return prepare(self.recipe, self._beside())

    def _beside(self) -> Path:
        """The folder that the run's folder is in."""
        return self.folder.absolute().parent if self.folder.name else self.folder.resolve().parent

    def evaluate(self, split: str = "test", settings: EvaluateSettings | None = None) -> dict[str, Any]:
        """How well it predicts a whole split: `loss` in nats per token, `perplexity`, `bits_per_byte` and
        what they are of.

        Beside them, what compressors reach on the same bytes (`compression`), how well texts are put in
        classes (`classification`), which checkpoint it is (`step`), and how long it took. Computed in
        float32.

        Raises:
            DataError: the split holds nothing to score.
        """
        shards = self.shards(split)
        found = self._score(shards, settings or self.recipe.evaluate)
        compression = (
            None if unavailable(self.tokenizer) else compress(document_texts(shards, self.tokenizer)).table()
        )
        classified = self.classifier.figures(shards) if self.classifier.labels else None
        return {
            **found.table(),
            "compression": compression,
            **({} if classified is None else {"classification": classified.table()}),
            "step": self.saved.step,
            "split": split,
        }

    @property
    def classifier(self) -> Classifier:
        """The model as a classifier, with the temperature that was found for it; without `labels` where its
        objective puts texts in no classes."""
        noted = read_json(path) if (path := self.folder / "calibration.json").exists() else {}
        warmth = float(noted["temperature"]) if noted.get("step") == self.saved.step else 1.0
        recipe = self.recipe
        return Classifier(self.network, recipe.objective, self.tokenizer, recipe.train.window, warmth)

    def _score(self, shards: Shards, settings: EvaluateSettings) -> Likelihood:
        return score(
            self.network,
            self.recipe.objective,
            shards,
            self.tokenizer,
            settings,
            window=self.recipe.train.window,
            gives=self.recipe.model.gives,
            device=self.device,
            notes=_notes(self.folder),
            partners=self.partners,
        )

    def generate(
        self,
        prompts: Iterable[str | tuple[str, str]] = ("",),
        overrides: Iterable[str] = (),
        *,
        seed: int | None = None,
        stream: OnText | None = None,
    ) -> list[Sample]:
        """All of `generated` at once."""
        return list(self.generated(prompts, overrides, seed=seed, stream=stream))

    def generated(
        self,
        prompts: Iterable[str | tuple[str, str]],
        overrides: Iterable[str] = (),
        *,
        seed: int | None = None,
        stream: OnText | None = None,
    ) -> Iterator[Sample]:
        """Texts that go on from the prompts, by the recipe's settings of generation with `overrides` laid
        over them. Prompts are cleaned as the training text was; they are taken, and samples given,
        `generate.batch` at a time: there may be any number.

        Args:
            prompts: how each text begins; or, as (before, after), what stands around a gap to be filled.

        Raises:
            ConfigError: a setting of generation is wrong, the model says no tokens, or has not learned to
                fill a gap.
        """
        if not self._says_tokens:
            raise ConfigError(
                f"objective = {self.recipe.objective.name!r} asks for no tokens, so its model has no text to "
                "give. Beside an objective that does, in `together`, it would."
            )
        clean = cleaner(self.recipe.data.clean, part=True)
        return generated(
            self.network,
            self.tokenizer,
            (cleaned(prompt, clean) for prompt in prompts),
            self.generate_settings(overrides),
            seed=self.recipe.seed if seed is None else seed,
            objective=self.recipe.objective,
            window=0 if "carries" in self.recipe.model.gives else self.recipe.train.window,
            stream=stream,
        )

    @cached_property
    def copies(self) -> Copies:
        """Finds what of a text stands in the training split. The first time, the split is indexed, beside
        it."""
        return Copies(self.shards("train"), self.tokenizer)

    @property
    def _says_tokens(self) -> bool:
        return any(head.name == "tokens" for head in self.recipe.objective.heads(self.tokenizer.size))

    def generate_settings(self, overrides: Iterable[str] = ()) -> GenerateSettings:
        """The recipe's settings of generation with `overrides` laid over them.

        Raises:
            ConfigError: one of them is wrong.
        """
        return read(GenerateSettings, override(self.recipe.generate.table(), overrides), "generate")

    def evaluate_settings(self, given: Mapping[str, Any]) -> EvaluateSettings:
        """The recipe's settings of evaluation with `given` laid over them.

        Raises:
            ConfigError: one of them is wrong.
        """
        table = self.recipe.table()
        return read(Recipe, {**table, "evaluate": {**table["evaluate"], **given}}, "settings").evaluate

    def neighbours(self, words: Sequence[str], count: int = 10) -> list[Neighbours]:
        """The nearest words to each of `words` by the input embedding."""
        return neighbours(self.network, self.tokenizer, [*map(cleaner(self.recipe.data.clean), words)], count)

    def export(self, to: str, folder: str | Path | None = None, *, partner: str = "") -> dict[str, Any]:
        """Write the model in the format `to` (a file name in `export/`) into `folder`, by default
        RUN/export/FORMAT, and prove that what was written says the same: the figures of the proof.

        Args:
            partner: a network that was trained beside it, to be written instead, by default into
                RUN/export/FORMAT-PARTNER: ELECTRA's `generator`.

        Raises:
            ConfigError: there is no such format, it does not know this kind of model, what it needs is not
                installed, or there is no such partner.
            ExportError: what was written does not say the same; nothing is left of it.
            DataError: the run's held-out text is not there any more, and cannot be made again.
        """
        model, sizes, network = self._network_of(partner)
        about = self._about()
        trained = Trained(
            name=f"{self.recipe.name}-{partner}" if partner else self.recipe.name,
            model=model,
            sizes=sizes,
            network=network,
            tokenizer=self.tokenizer,
            objective=self.recipe.objective,
            held=self._held(),
            adapted=self.restored() if self._has_adapters and not partner else None,
            about={key: about[key] for key in about if key == "card"} if partner else about,
        )
        name = f"{to}-{partner}" if partner else to
        path = self.folder / "export" / name if folder is None else Path(folder)
        return {"folder": str(path), **write_export(to, trained, path)}

    def _network_of(self, partner: str) -> tuple[Model, Sizes, Network]:
        """A network of the run's and what it is: the main one, or that of a partner."""
        if not partner:
            return self.recipe.model, sizes_of(self.recipe, self.tokenizer), self.network
        if partner not in self.partners:
            there = ", ".join(self.partners) or "none"
            raise ConfigError(
                f"partner = {partner!r}: no such network was trained beside the model of this run. There "
                f"are: {there}."
            )
        described = self.recipe.objective.partners()[partner]
        return *partner_of(partner, described, self.recipe, self.tokenizer), self.partners[partner]

    def _held(self) -> Held:
        """The first held-out documents, as the objective has them begin and end."""
        cut = self.recipe.objective.cut(self.recipe.train.window)
        first, last = [self.tokenizer.begin] * cut.begin, [self.tokenizer.end] * cut.end
        for split in ("test", "validation", "train"):
            shards = self.shards(split)
            if documents := [shards.document(i) for i in range(min(len(shards.lengths), HELD))]:
                whole = tuple(np.concatenate([first, ids, last]).astype(np.int64) for ids in documents)
                return Held(name=f"the {split} split", documents=whole)
        raise DataError(f"{self.folder}: there is no text to prove an export on.")

    def _about(self) -> dict[str, Any]:
        """What the run's files say of the text and of how well it is predicted."""
        files = {name: self.folder / f"{name}.json" for name in ("card", "evaluation")}
        return {name: read_json(path) for name, path in files.items() if path.exists()}

    def report(self) -> Path:
        """Write `report.html` anew from the run's files."""
        return write_report(self.folder)

    def figures(self) -> dict[str, Any]:
        """What the run's files say of it, as plain data: evaluation, size, hardware."""
        files = {name: self.folder / f"{name}.json" for name in ("evaluation", "machine")}
        found = {name: read_json(path) for name, path in files.items() if path.exists()}
        return {"run": str(self.folder), "finished": "evaluation" in found, **found}

    def conclude(self, display: Display, more: Callable[["Run"], dict[str, Any]] | None = None) -> None:
        """After training: score the held-out text, draw samples, write the report. Done before, it is not
        done again. `more`: further figures of the test split."""
        if evaluated_step(self.folder) != self.saved.step:
            self._calibrate()
            display.say("Evaluating on the held-out test split …")
            found = {**self._evaluated("test"), **(more(self) if more else {})}
            write_json(self.folder / "evaluation.json", {"test": found})
            self._draw(display)
        self.report()

    def _calibrate(self) -> None:
        """Note the temperature of a classifier's probabilities, found on the validation split."""
        if self.recipe.objective.classes() and (found := self.classifier.fitted(self.shards("validation"))):
            temperature, texts = found
            noted = {"step": self.saved.step, "temperature": temperature, "texts": texts}
            write_json(self.folder / "calibration.json", noted)

    def _evaluated(self, split: str) -> dict[str, Any]:
        try:
            return self.evaluate(split)
        except DataError as error:
            return {"unavailable": str(error), "step": self.saved.step}

    def _draw(self, display: Display) -> None:
        if not self._says_tokens:
            return
        display.say("Drawing samples …")
        samples = self.generate(self._prompts())
        write_json(self.folder / "samples.json", [{**asdict(s), **self._copied(s.text)} for s in samples])
        write_text(self.folder / "samples.txt", "\n\n".join(f"{s.prompt}│{s.text}" for s in samples) + "\n")

    def _copied(self, text: str) -> dict[str, Any]:
        """What of a sample is copied, where that is known at once."""
        if len(self.shards("train").ids) > INDEXED:
            return {}
        try:
            return {"copied": self.copies.find(text).table()}
        except DataError:  # nothing can be written beside the text: the run is none the worse
            return {}

    def _prompts(self) -> list[str]:
        """Nothing, and how two documents of the test split begin."""
        shards = self.shards("test")
        long = [i for i in range(len(shards.lengths)) if shards.lengths[i] >= 32][:2]
        begin = self.recipe.objective.beginning
        return ["", *(begin(shards.document(i), self.tokenizer) for i in long)]


# ---- from a recipe to objects


def sizes_of(recipe: Recipe, tokenizer: Tokenizer) -> Sizes:
    """What the description of the model does not know."""
    return Sizes(tokenizer.size, recipe.train.window, recipe.objective.heads(tokenizer.size), recipe.loss)


def partner_of(name: str, partner: Partner, recipe: Recipe, tokenizer: Tokenizer) -> tuple[Model, Sizes]:
    """What an objective's other model is, where it is no finished run's, and its sizes."""
    sizes = sizes_of(recipe, tokenizer)
    heads = tuple(replace(head, outputs=head.outputs or tokenizer.size) for head in partner.heads)
    return recipe.model_of(name, partner), sizes._replace(heads=heads or sizes.heads)


def built(model: Model, sizes: Sizes) -> Network:
    """The network of a description, on the CPU, not yet initialised."""
    with torch.device("cpu"):
        return model.build(sizes)


def _notes(folder: Path) -> list[str]:
    """What the figures' readers must know of the text."""
    lossy = read_json(folder / "card.json").get("lossy", [])
    return [f"The text was cleaned with loss: {', '.join(lossy)}."] if lossy else []


class _Stages:
    """The stages of preparing, each said once."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._said = ""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._said:
            self._said = stage
            self._display.say(f"Preparing the text: {stage} …")

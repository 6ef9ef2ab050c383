"""A run that is served: what it can do, and how what is asked becomes work for its thread."""

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from telos.batch import Piece
from telos.config import override, read
from telos.data.clean import cleaner
from telos.errors import ConfigError, DataError
from telos.evaluate.probe import features
from telos.evaluate.texts import Judge, TextSettings, kinds_of
from telos.generate._base import begin
from telos.generate._rows import Asked, Gap, OnText, Row, cleaned
from telos.generate._settings import GenerateSettings
from telos.measure import judge_of
from telos.opened import Run, open_run
from telos.serve import tasks
from telos.serve.mail import Mail
from telos.serve.metrics import ModelMeter
from telos.serve.refusals import Refused, unable
from telos.serve.scores import scored
from telos.serve.settings import ServeSettings
from telos.serve.worker import Ticket, Worker
from telos.turns import Turn

__all__ = ["Served"]

Steps = Generator[None, None, Any]
"""What a model's thread does a step at a time, and at last the answer."""
TOGETHER = 8
"""Texts in a step of what is not written token by token: others who wait get their turn after it."""
DOING = {
    "complete": "write",
    "infill": "fill gaps",
    "chat": 'chat (models do that were trained with objective = "instruct")',
    "score": "score texts",
    "embed": "embed texts",
    "translate": "translate",
    "classify": "classify",
}


class Served:
    """A run that was opened, and the thread that its network runs in.

    Raises:
        CheckpointError: the folder is no run, or has no whole checkpoint.
    """

    def __init__(self, folder: Path, device: str, settings: ServeSettings, meter: ModelMeter) -> None:
        self.id = folder.resolve().name
        self.run: Run = open_run(folder, device)
        self.settings, self.meter = settings, meter
        self.worker = Worker(self.id, self.run.network, settings.batch, meter)
        self._lock = threading.Lock()
        """Around the vocabulary, which keeps count of what it was given."""
        recipe = self.run.recipe
        self.clean = cleaner(recipe.data.clean, part=True)
        """Makes a text, or a part of one, as those are that it was trained on."""
        self.window = recipe.train.window
        self._reach = 0 if "carries" in recipe.model.gives else self.window
        """Tokens that it sees at most while it writes; 0 for all."""
        self.created = int((folder / "recipe.toml").stat().st_mtime)
        self.capabilities = [name for name in DOING if self._can(name)]

    # ---- what it is

    def listed(self) -> dict[str, Any]:
        """As `GET /v1/models` tells it."""
        return {
            "id": self.id,
            "object": "model",
            "created": self.created,
            "owned_by": "telos",
            "telos": {
                "objective": self.run.recipe.objective.name,
                "model": self.run.recipe.model.name,
                "window": self.window,
                "reach": self._reach,
                "parameters": sum(p.numel() for p in self.run.network.parameters()),
                "capabilities": self.capabilities,
                "labels": tasks.labels_of(self.run),
            },
        }

    def must(self, capability: str) -> None:
        """Raises:
        Refused: it cannot do this; what it can is named.
        """
        if capability not in self.capabilities:
            raise unable(self.id, DOING[capability], self.capabilities)

    def _can(self, name: str) -> bool:
        objective, tokenizer = self.run.recipe.objective, self.run.tokenizer
        says = any(head.name == "tokens" for head in objective.heads(tokenizer.size))
        if name == "complete":
            return says
        if name == "chat":
            return objective.chat([Turn("user", "")], tokenizer) is not None
        if name == "infill":
            return says and self._fills()
        if name == "score":
            return says and bool(kinds_of(objective, tokenizer))
        if name == "embed":
            starts = dict.fromkeys(("word_start", "sentence_start"), np.ones(2, np.bool_))
            piece = Piece(ids=np.array([tokenizer.begin, tokenizer.end]), document=0, columns=starts)
            return objective.unhidden(piece, tokenizer) is not None
        return {"translate": tasks.can_translate, "classify": tasks.can_classify}[name](self.run)

    def _fills(self) -> bool:
        try:
            self._begun([Gap("", "")], GenerateSettings(), 0, None)
        except ConfigError:
            return False
        return True

    # ---- what it is asked

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has.

        Raises:
            Refused: one has more than may be given.
        """
        with self._lock:
            found = [len(ids) for ids in self.run.tokenizer.encode_batch(texts)]
        for count in found:
            self._check_length(count)
        return found

    def generate_settings(self, given: Mapping[str, Any]) -> GenerateSettings:
        """The recipe's settings of generation with what was asked laid over them.

        Raises:
            ConfigError: they do not go together.
        """
        asked = {key: value for key, value in given.items() if value is not None}
        return read(GenerateSettings, {**override(self.run.recipe.generate.table(), ()), **asked}, "request")

    def ticket(
        self,
        prompts: Sequence[Asked],
        settings: GenerateSettings,
        seed: int,
        mail: Mail,
        *,
        stream: bool,
        noted: int = 0,
    ) -> Ticket:
        """A request for text, made ready for the model's thread: all that can be done outside of it is done.

        Raises:
            Refused: a prompt is too long.
            ConfigError: a gap that this model cannot fill, or a setting that does nothing here.
        """
        ticket = Ticket(self._begun(prompts, settings, seed, mail.piece if stream else None), mail)
        for row in ticket.rows:
            self._check_length(given_tokens(row))
            row.noted = noted
        return ticket

    def _begun(
        self, prompts: Sequence[Asked], settings: GenerateSettings, seed: int, stream: OnText | None
    ) -> Any:
        with self._lock:
            return begin(
                self.run.network,
                self.run.tokenizer,
                [cleaned(prompt, self.clean) for prompt in prompts],
                settings,
                seed=seed,
                stream=stream,
                objective=self.run.recipe.objective,
                window=self._reach,
            )

    def _check_length(self, tokens: int) -> None:
        if tokens > self.settings.limits.prompt:
            raise Refused(
                400,
                f"A text has {tokens} tokens, and at most {self.settings.limits.prompt} are taken.",
                code="context_length_exceeded",
            )

    # ---- steps for its thread

    def embedding_steps(self, texts: Sequence[str]) -> Steps:
        """A text in each step; at last, the vectors of all."""
        run, found = self.run, []
        for text in texts:
            found += list(
                features(run.network, run.recipe.objective, run.tokenizer, [text], window=self.window)
            )
            yield
        return found

    def score_steps(self, texts: Sequence[str], top: int) -> Steps:
        """A run of the network in each step; at last, what all texts are worth."""
        told = []
        for text in texts:
            with self._lock:
                given = self._judge.text(text)
            found = yield from self._judge.token_steps(given, top)
            told.append(scored(text, given, found, self.run.tokenizer))
        return told

    def task_steps(self, work: Callable[..., list[Any]], texts: Sequence[str], *given: Any) -> Steps:
        """What `work(run, texts, …)` says of each text, a few texts in each step.

        Raises:
            DataError: of a text that comes later, which one it counts from is said.
        """
        found: list[Any] = []
        for start in range(0, len(texts), TOGETHER):
            yield
            try:
                found += work(self.run, texts[start : start + TOGETHER], *given)
            except DataError as error:
                raise DataError(f"counted from text {start + 1}: {error}" if start else str(error)) from None
        return found

    @cached_property
    def _judge(self) -> Judge:
        return judge_of(self.run, TextSettings(batch=TOGETHER))


def given_tokens(row: Row) -> int:
    """How many tokens of a row were given, before and behind what is drawn, and as its source."""
    return row.given + (len(row.source) if row.source else 0) + (0 if row.after is None else len(row.after))

"""Samples while they grow: what was put to the model, the tokens that were drawn, and the text they make.

Each sample has its own random generator, so that it is the same whatever else is in the batch.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from telos import objectives
from telos.batch import Piece
from telos.errors import ConfigError
from telos.find import find, names
from telos.generate._constraint import Constraint, Matcher
from telos.generate._draw import draw, log_totals, where_exact
from telos.generate._settings import GenerateSettings
from telos.objectives._base import Objective, Prompt, after_begin
from telos.tokenizer import Stream, Tokenizer
from telos.turns import Turn

__all__ = [
    "Asked",
    "Gap",
    "OnText",
    "Row",
    "Sample",
    "Talk",
    "cleaned",
    "closed",
    "held_back",
    "rows_for",
    "take",
]

Ids = NDArray[np.int64]


class Gap(NamedTuple):
    """A place in a text that is to be filled."""

    before: str
    after: str


class Talk(NamedTuple):
    """A conversation that is to be gone on with."""

    turns: tuple[Turn, ...]


Asked = str | Gap | Talk
"""What is put to a model."""


def cleaned(prompt: str | tuple[str, str] | Talk, clean: Callable[[str], str]) -> Asked:
    """What is put to a model with every text in it cleaned, and turns stripped, as those are that it was
    trained on."""
    if isinstance(prompt, str):
        return clean(prompt)
    if isinstance(prompt, Talk):
        return Talk(tuple(Turn(role, clean(text).strip()) for role, text in prompt.turns))
    before, after = prompt
    return Gap(clean(before), clean(after))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One continuation of a prompt, or one filling of a gap."""

    prompt: str
    """What stands before it."""
    text: str
    """What was generated, without the prompt, up to the stop string."""
    after: str = ""
    """What stands behind it, where a gap was filled: the whole text is `prompt` + `text` + `after`."""
    ids: tuple[int, ...]
    """All tokens that were drawn, the end token and those of the stop string included."""
    finished: Literal["end", "stop", "length"]
    """Why it ended: the model's end token, a stop string, or as many tokens as were asked for."""
    logprob: float
    """Σ log q of the drawn tokens under the model itself: before temperature and cuts, in nats."""

    def table(self) -> dict[str, Any]:
        """The sample as plain data for JSON."""
        return asdict(self)


OnText = Callable[[int, str], None]
"""Gets the index of a sample and text that is certain now: whole characters, no part of a stop string."""


def rows_for(
    prompts: Iterable[Asked],
    tokenizer: Tokenizer,
    objective: Objective | None,
    settings: GenerateSettings,
    seed: int,
    stream: OnText | None,
) -> Iterator["Row"]:
    """`settings.samples` rows for each prompt, made when they are asked for.

    Raises:
        ConfigError: the objective fills no gaps, or the constraint is none or does not go with the prompt.
    """
    limited = settings.constraint != type(settings.constraint)()
    constraint = Constraint(settings.constraint, tokenizer) if limited else None
    times: Counter[bytes] = Counter()
    several = ((index, prompt) for index, prompt in enumerate(_repeated(prompts, settings.samples)))
    for index, prompt in several:
        emit = (lambda piece, index=index: stream(index, piece)) if stream else _ignore
        given, key = _given(prompt, tokenizer, objective), _key(prompt)
        row = Row(prompt, given, tokenizer, settings, generator(seed, prompt, times[key]), emit)
        times[key] += 1
        if constraint is not None:
            row.matcher = _matcher(constraint, prompt, given, tokenizer)
        yield row


def _repeated(prompts: Iterable[Asked], times: int) -> Iterator[Asked]:
    return (prompt for prompt in prompts for _ in range(times))


def _matcher(constraint: Constraint, prompt: Asked, given: "Given", tokenizer: Tokenizer) -> Matcher:
    """What is said goes on from the prompt where that stands before it in the row."""
    before = isinstance(prompt, str) and given.prompt.source is None
    return constraint.begin(tokenizer.encode(str(prompt)).tolist() if before else (), str(prompt))


def _key(prompt: Asked) -> bytes:
    """Tells prompts apart in few bytes, of which there may be millions."""
    return hashlib.blake2b(repr(prompt).encode("utf-8", "surrogatepass"), digest_size=8).digest()


class Given(NamedTuple):
    """What a row begins with."""

    prompt: Prompt
    after: Ids | None = None
    """Where what is drawn stands in a gap, and is found by unmasking: the tokens behind the gap."""


def _given(prompt: Asked, tokenizer: Tokenizer, objective: Objective | None) -> Given:
    if isinstance(prompt, str):
        put = objective.prompt if objective else after_begin
        return Given(put(tokenizer.encode(prompt), tokenizer))
    if isinstance(prompt, Talk):
        return Given(_talked(prompt, tokenizer, objective))
    before, after = (tokenizer.encode(text) for text in prompt)
    asked = objective.gap(before, after, tokenizer) if objective else None
    if asked:
        return Given(asked)
    row = after_begin(before, tokenizer)
    ids = np.concatenate([row.main.ids, [tokenizer.mask], after]).astype(np.int64)
    hidden = np.array([len(row.main)])
    if objective is None or objective.hide(Piece(ids=ids, document=0), hidden, hidden, tokenizer) is None:
        name = f"objective = {objective.name!r}" if objective else "a model without an objective"
        raise ConfigError(
            f"{name} has not learned to fill a gap. Models do that were trained by one of: "
            f"{', '.join(_fillers())}."
        )
    return Given(row, after)


def _talked(talk: Talk, tokenizer: Tokenizer, objective: Objective | None) -> Prompt:
    asked = objective.chat(talk.turns, tokenizer) if objective else None
    if asked is None:
        name = f"objective = {objective.name!r}" if objective else "a model without an objective"
        raise ConfigError(
            f"{name} has learned no conversations. Models do that were trained on them: objective = "
            '"instruct", see docs/fine-tuning.md.'
        )
    return asked


def _fillers() -> list[str]:
    kinds = [(name, find(objectives, name, Objective)) for name in names(objectives)]
    return [n for n, kind in kinds if kind.gap is not Objective.gap or kind.hide is not Objective.hide]


def _ignore(piece: str) -> None:
    pass


def generator(seed: int, prompt: Asked, time: int) -> np.random.Generator:
    """Keyed by the prompt and not by its place in the batch, so that company changes nothing."""
    key = hashlib.blake2b(f"{seed} {time} {prompt}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


class Row:
    """One sample while it grows: its tokens, its text, its random generator, and why it ended."""

    def __init__(
        self,
        prompt: Asked,
        given: Given,
        tokenizer: Tokenizer,
        settings: GenerateSettings,
        random: np.random.Generator,
        emit: Callable[[str], None],
    ) -> None:
        self.prompt, self.settings, self.random = prompt, settings, random
        self.main, self.source, self.size = given.prompt.main, given.prompt.source, tokenizer.size
        self.after, self.length = given.after, settings.length
        self.ends = {tokenizer.end, *given.prompt.ends} if self.after is None else set()
        self.forbidden = np.array(sorted(tokenizer.special_ids - self.ends), dtype=np.int64)
        self.ids: list[int] = self.main.ids.tolist()
        self.given = len(self.ids)
        self.finished: Literal["", "end", "stop", "length"] = ""
        self.logprob = 0.0
        self.logprobs: list[float] = []
        """Of each drawn token."""
        self.noted, self.likely = 0, list[list[tuple[int, float]]]()
        """How many of the most probable tokens are noted at each place, and these with their log q."""
        self.matcher: Matcher | None = None
        """Where the text has to be like something: what may come next."""
        self.words = Words(_stream_after(tokenizer, self.ids), settings.stop, emit)

    def places(self, start: int, read: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions and orders of the tokens from `read` on, where the row begins at `start`: as they were
        given, and each of what was drawn one further on; causal once the beginning is forgotten."""
        if start:
            return (place := np.arange(read, len(self.ids)) - start), place
        both = (self.main.positions, self.main.order)
        drawn = np.arange(max(0, read - self.given) + 1, len(self.ids) - self.given + 1)
        if read >= self.given:
            return both[0][-1] + drawn, both[1][-1] + drawn
        position, order = (np.concatenate([known[read:], known[-1] + drawn]) for known in both)
        return position, order

    def open(self) -> NDArray[np.bool_]:
        """Which of the vocabulary's tokens (size,) may be drawn now."""
        free = np.ones(self.size, np.bool_) if self.matcher is None else self.matcher.allowed()
        free[self.forbidden] = False
        free[list(self.ends)] = self.matcher is None or self.matcher.complete
        return free

    def uniform(self) -> float:
        """The random number that decides on the next token; none is drawn where nothing is left to chance."""
        return self.random.random() if self.settings.temperature else 0.0

    def add(self, token: int, logprob: float) -> None:
        """One more token, of which the model said this, and end where it says so."""
        self.logprob += logprob
        self.logprobs.append(logprob)
        self.ids.append(token)
        if token in self.ends:
            self._finish("end")
            return
        if self.matcher is not None:
            self.matcher.add(token)
        if self.words.add(token):
            self._finish("stop")
        elif len(self.ids) - self.given >= self.length:
            self._finish("length")

    def _finish(self, why: Literal["end", "stop", "length"]) -> None:
        self.finished = "stop" if self.words.close() else why

    def sample(self) -> Sample:
        assert self.finished
        gap = self.prompt if isinstance(self.prompt, Gap) else Gap(_shown(self.prompt), "")
        return Sample(
            prompt=gap.before,
            after=gap.after,
            text=self.words.text,
            ids=tuple(self.ids[self.given :]),
            finished=self.finished,
            logprob=self.logprob,
        )


def _shown(prompt: str | Talk) -> str:
    """A prompt as text; of a conversation, the turns as paragraphs."""
    return prompt if isinstance(prompt, str) else "\n\n".join(turn.text for turn in prompt.turns)


def _stream_after(tokenizer: Tokenizer, ids: Sequence[int]) -> Stream:
    """A decoder that has read the prompt already: the first word's space is then part of the continuation."""
    stream = tokenizer.stream()
    for token in ids:
        stream.add(token)
    return stream


@dataclass
class Words:
    """The text of a sample as its tokens come in: cut at the first stop string, handed on once certain."""

    stream: Stream
    stop: tuple[str, ...]
    emit: Callable[[str], None]
    text: str = ""
    sent: int = field(default=0)
    stopped: bool = False

    def add(self, token: int) -> bool:
        """Read one more token; true if a stop string is now complete."""
        return self._more(self.stream.add(token))

    def close(self) -> bool:
        """Read what the decoder still held, hand on what is left; true if a stop string ended the text."""
        if not self.stopped:
            self._more(self.stream.end())
        self._send(len(self.text))
        return self.stopped

    def _more(self, piece: str) -> bool:
        before = len(self.text)
        self.text += piece
        found = [(place + len(stop), place) for stop in self.stop if (place := self._find(stop, before)) >= 0]
        if found:  # the one that is complete first, wherever the borders of tokens are
            self.text, self.stopped = self.text[: min(found)[1]], True
        else:
            self._send(len(self.text) - held_back(self.text, self.stop))
        return self.stopped

    def _find(self, stop: str, before: int) -> int:
        return self.text.find(stop, max(0, before - len(stop) + 1))

    def _send(self, until: int) -> None:
        if until > self.sent:
            self.emit(self.text[self.sent : until])
            self.sent = until


def held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop string."""
    longest = min(max((len(s) for s in stop), default=1) - 1, len(text))
    return next(
        (n for n in range(longest, 0, -1) if any(s.startswith(text[-n:]) for s in stop if len(s) > n)), 0
    )


def take(rows: Sequence[Row], logits: Tensor, shut: Tensor) -> None:
    """Draw the next token of each row from its logits (rows, outputs), of which those that are true in `shut`
    may not be, and end where it says so."""
    said = where_exact(logits)
    totals = log_totals(said)
    _note(rows, said, totals)
    open_ones = said.masked_fill(shut.to(said.device), -torch.inf)
    for places in _alike(rows):
        part = open_ones if len(places) == len(rows) else open_ones[places]
        uniform = [rows[place].uniform() for place in places]
        exactly = torch.tensor(uniform, dtype=torch.float64, device=said.device)
        drawn = draw(part, rows[places[0]].settings, exactly)
        chances = said[places, drawn].double() - totals[places]
        for place, token, chance in zip(places, drawn.tolist(), chances.tolist(), strict=True):
            rows[place].add(token, chance)


def _alike(rows: Sequence[Row]) -> list[list[int]]:
    """The places of rows that are drawn by the same settings; rows that joined may have others."""
    if all(row.settings is rows[0].settings for row in rows):
        return [list(range(len(rows)))]
    found: dict[tuple[float, ...], list[int]] = {}
    for place, row in enumerate(rows):
        settings = row.settings
        key = (settings.temperature, settings.top_k, settings.top_p, settings.min_p)
        found.setdefault(key, []).append(place)
    return list(found.values())


def _note(rows: Sequence[Row], said: Tensor, totals: Tensor) -> None:
    """The most probable tokens at this place, for rows that want to know them; of equals the first."""
    for place, row in enumerate(rows):
        if row.noted:
            values, tokens = said[place, : row.size].sort(descending=True, stable=True)
            chances = (values[: row.noted] - totals[place]).tolist()
            row.likely.append(list(zip(tokens[: row.noted].tolist(), chances, strict=True)))


def closed(rows: Sequence[Row], outputs: int) -> Tensor:
    """Which outputs may not be drawn: (rows, outputs), true for special tokens, for what a row's constraint
    leaves no way to, and beyond the vocabulary."""
    shut = np.ones((len(rows), outputs), np.bool_)
    for place, row in enumerate(rows):
        shut[place, : row.size] = ~row.open()
    return torch.from_numpy(shut)

"""Samples while they grow: what was put to the model, the tokens that were drawn, and the text they make.

Each sample has its own random generator, so that it is the same whatever else is in the batch.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telos import objectives
from telos.batch import Piece
from telos.errors import ConfigError
from telos.find import find, names
from telos.generate._settings import GenerateSettings
from telos.objectives._base import Objective, Prompt, after_begin
from telos.tokenizer import Stream, Tokenizer

__all__ = [
    "Gap",
    "OnText",
    "Row",
    "Sample",
    "allowed",
    "draw",
    "held_back",
    "kept",
    "log_sum_exp",
    "rows_for",
]

Ids = NDArray[np.int64]


class Gap(NamedTuple):
    """A place in a text that is to be filled."""

    before: str
    after: str


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
    prompts: Sequence[str | Gap],
    tokenizer: Tokenizer,
    objective: Objective | None,
    settings: GenerateSettings,
    seed: int,
    stream: OnText | None,
) -> list["Row"]:
    """`settings.samples` rows for each prompt.

    Raises:
        ConfigError: the objective fills no gaps.
    """
    times: Counter[str | Gap] = Counter()
    rows: list[Row] = []
    for index, prompt in enumerate(prompt for prompt in prompts for _ in range(settings.samples)):
        emit = (lambda piece, index=index: stream(index, piece)) if stream else _ignore
        given = _given(prompt, tokenizer, objective)
        rows.append(Row(prompt, given, tokenizer, settings, generator(seed, prompt, times[prompt]), emit))
        times[prompt] += 1
    return rows


class Given(NamedTuple):
    """What a row begins with."""

    prompt: Prompt
    after: Ids | None = None
    """Where what is drawn stands in a gap, and is found by unmasking: the tokens behind the gap."""


def _given(prompt: str | Gap, tokenizer: Tokenizer, objective: Objective | None) -> Given:
    if isinstance(prompt, str):
        put = objective.prompt if objective else after_begin
        return Given(put(tokenizer.encode(prompt), tokenizer))
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


def _fillers() -> list[str]:
    kinds = [(name, find(objectives, name, Objective)) for name in names(objectives)]
    return [n for n, kind in kinds if kind.gap is not Objective.gap or kind.hide is not Objective.hide]


def _ignore(piece: str) -> None:
    pass


def generator(seed: int, prompt: str | Gap, time: int) -> np.random.Generator:
    """Keyed by the prompt and not by its place in the batch, so that company changes nothing."""
    key = hashlib.blake2b(f"{seed} {time} {prompt}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


class Row:
    """One sample while it grows: its tokens, its text, its random generator, and why it ended."""

    def __init__(
        self,
        prompt: str | Gap,
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
        self.words = Words(_stream_after(tokenizer, self.ids), settings.stop, emit)

    def places(self, start: int, read: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions and orders of the tokens from `read` on, where the row begins at `start`: as they were
        given, and each of what was drawn one further on; causal once the beginning is forgotten."""
        if start:
            return (place := np.arange(read, len(self.ids)) - start), place
        drawn = np.arange(1, len(self.ids) - self.given + 1)
        both = (self.main.positions, self.main.order)
        position, order = (np.concatenate([known, known[-1] + drawn])[read:] for known in both)
        return position, order

    def take(self, logits: NDArray[np.float64]) -> None:
        """Draw the next token from logits (outputs,), and end where it says so."""
        drawn = draw(allowed(logits, self.size, self.forbidden), self.settings, self.random)
        total = log_sum_exp(logits)
        if self.noted:
            first = np.argsort(-logits[: self.size], kind="stable")[: self.noted].tolist()
            self.likely.append([(token, float(logits[token] - total)) for token in first])
        self.add(drawn, float(logits[drawn] - total))

    def add(self, token: int, logprob: float) -> None:
        """One more token, of which the model said this, and end where it says so."""
        self.logprob += logprob
        self.logprobs.append(logprob)
        self.ids.append(token)
        if token in self.ends:
            self._finish("end")
        elif self.words.add(token):
            self._finish("stop")
        elif len(self.ids) - self.given >= self.length:
            self._finish("length")

    def _finish(self, why: Literal["end", "stop", "length"]) -> None:
        self.finished = "stop" if self.words.close() else why

    def sample(self) -> Sample:
        assert self.finished
        gap = self.prompt if isinstance(self.prompt, Gap) else Gap(self.prompt, "")
        return Sample(
            prompt=gap.before,
            after=gap.after,
            text=self.words.text,
            ids=tuple(self.ids[self.given :]),
            finished=self.finished,
            logprob=self.logprob,
        )


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


def allowed(logits: NDArray[np.float64], size: int, forbidden: NDArray[np.int64]) -> NDArray[np.float64]:
    """The logits with −∞ for special tokens and for outputs beyond the vocabulary."""
    free = logits.copy()
    free[forbidden] = -np.inf
    free[size:] = -np.inf
    return free


def draw(logits: NDArray[np.float64], settings: GenerateSettings, random: np.random.Generator) -> int:
    """One token from logits (outputs,). Of equally probable tokens the one with the lower id comes first."""
    if settings.temperature == 0:
        return int(logits.argmax())
    tokens, shares = kept(logits, settings)
    reached = np.searchsorted(np.cumsum(shares), random.random() * shares.sum(), side="right")
    return int(tokens[min(int(reached), len(tokens) - 1)])


def kept(
    logits: NDArray[np.float64], settings: GenerateSettings
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that may be drawn, most probable first, and their probabilities, which add up to 1."""
    tokens = np.argsort(-logits, kind="stable")
    if settings.top_k:
        tokens = tokens[: settings.top_k]
    scaled = (logits[tokens] - logits[tokens[0]]) / settings.temperature
    shares = np.exp(scaled)
    shares /= shares.sum()
    before = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    enough = before < settings.top_p if settings.top_p < 1 else np.ones(len(shares), np.bool_)
    likely = enough & (shares >= settings.min_p * shares[0]) & (shares > 0)
    return tokens[likely], shares[likely] / shares[likely].sum()


def log_sum_exp(logits: NDArray[np.float64]) -> float:
    top = logits.max()
    return float(top + np.log(np.exp(logits - top).sum()))

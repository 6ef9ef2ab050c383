"""Text from a model, one token after the other: temperature, top-k, nucleus and min-p sampling, or greedy.

Samples stand side by side in the rows of a batch, each with its own random generator, so that a sample is the
same whatever else is in the batch. The past is kept (key–value cache or recurrent state), never computed
again. Where a model has no places left, its row goes on from the last half window: the tokens before that are
forgotten, and positions begin at 0 again, as in training they do in each window of a long document.

How a text is put to the model is its objective's to say (`Objective.prompt`): after a begin token, or as the
source that is read before anything is said.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from telos.batch import Rows, Side
from telos.config import Lax, Settings
from telos.generate._unmask import UnmaskSettings
from telos.models._base import Network
from telos.objectives._base import Objective, Prompt, after_begin
from telos.tokenizer import Stream, Tokenizer

__all__ = ["GenerateSettings", "Sample", "generate", "kept"]

Precision = Literal["float32", "bfloat16"]


class GenerateSettings(Settings):
    """How text is drawn. The cuts act in the order top_k, top_p, min_p, each on what the one before left."""

    temperature: float = Field(1.0, ge=0)
    """Logits are divided by it: below 1 bolder, above 1 wilder. 0 takes the most probable token always."""
    top_k: int = Field(0, ge=0)
    """Only the k most probable tokens are drawn from; 0 for all (Fan et al., 2018)."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Only the fewest, most probable tokens whose probability together reaches p (Holtzman et al., 2020)."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Only tokens at least this share as probable as the most probable one (Nguyen et al., 2024)."""
    length: int = Field(200, ge=1)
    """Tokens to draw at most."""
    stop: Annotated[tuple[str, ...], Lax] = ()
    """Strings at which a sample ends; the string itself is left out."""
    samples: int = Field(1, ge=1)
    """Samples per prompt."""
    unmask: UnmaskSettings = UnmaskSettings()

    @field_validator("stop")
    @classmethod
    def _stop_says_something(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("a stop string must not be empty: it would end every sample at once")
        return stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One continuation of a prompt."""

    prompt: str
    text: str
    """What was generated, without the prompt, up to the stop string."""
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


def generate(
    network: Network,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    settings: GenerateSettings | None = None,
    *,
    seed: int = 0,
    stream: OnText | None = None,
    objective: Objective | None = None,
    window: int = 0,
    device: torch.device | None = None,
    precision: Precision = "float32",
) -> list[Sample]:
    """`settings.samples` continuations of each prompt, those of one prompt next to each other.

    Args:
        objective: says how a prompt is put to the model. Without one it stands after one begin token, as
            documents do; an empty one is the begin token alone.
        seed: a sample is a function of the seed, its prompt and its number among the samples of that prompt.
        window: places that the model was built for, of which a longer source fills the last; 0 for a model
            without a limit, as recurrent ones are.
        stream: gets the text as it becomes certain; the pieces of a sample joined are its text.
    """
    settings = settings or GenerateSettings()
    texts = [prompt for prompt in prompts for _ in range(settings.samples)]
    if not texts:
        return []
    put = objective.prompt if objective else after_begin
    rows = _rows_for(texts, tokenizer, put, settings, seed, stream)
    device = device or next(network.parameters()).device
    past = _Past(network, tokenizer, rows, window, device)
    with network.at_rest(), _autocast(device, precision):
        while any(not row.finished for row in rows):
            logits = past.logits()
            for row, said in zip(rows, logits, strict=True):
                if not row.finished:
                    row.take(said)
    return [row.sample() for row in rows]


def _rows_for(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    put: Callable[[NDArray[np.int64], Tokenizer], Prompt],
    settings: GenerateSettings,
    seed: int,
    stream: OnText | None,
) -> list["_Row"]:
    times: Counter[str] = Counter()
    rows = []
    for index, text in enumerate(texts):
        emit = (lambda piece, index=index: stream(index, piece)) if stream else _ignore
        given = put(tokenizer.encode(text), tokenizer)
        rows.append(_Row(text, given, tokenizer, settings, _generator(seed, text, times[text]), emit))
        times[text] += 1
    return rows


def _ignore(piece: str) -> None:
    pass


def _generator(seed: int, prompt: str, time: int) -> np.random.Generator:
    """Keyed by the prompt and not by its place in the batch, so that company changes nothing."""
    key = hashlib.blake2b(f"{seed} {time} {prompt}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    return nullcontext() if precision == "float32" else torch.autocast(device.type, dtype=torch.bfloat16)


class _Row:
    """One sample while it grows: its tokens, its text, its random generator, and why it ended."""

    def __init__(
        self,
        prompt: str,
        given: Prompt,
        tokenizer: Tokenizer,
        settings: GenerateSettings,
        random: np.random.Generator,
        emit: Callable[[str], None],
    ) -> None:
        self.prompt, self.settings, self.random = prompt, settings, random
        self.main, self.source, self.size = given.main, given.source, tokenizer.size
        self.ends = {tokenizer.end, *given.ends}
        self.forbidden = np.array(sorted(tokenizer.special_ids - self.ends), dtype=np.int64)
        self.ids: list[int] = given.main.ids.tolist()
        self.given = len(self.ids)
        self.finished: Literal["", "end", "stop", "length"] = ""
        self.logprob = 0.0
        self.words = _Words(_stream_after(tokenizer, self.ids), settings.stop, emit)

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
        drawn = draw(_allowed(logits, self.size, self.forbidden), self.settings, self.random)
        self.add(drawn, float(logits[drawn] - _log_sum_exp(logits)))

    def add(self, token: int, logprob: float) -> None:
        """One more token, of which the model said this, and end where it says so."""
        self.logprob += logprob
        self.ids.append(token)
        if token in self.ends:
            self._finish("end")
        elif self.words.add(token):
            self._finish("stop")
        elif len(self.ids) - self.given >= self.settings.length:
            self._finish("length")

    def _finish(self, why: Literal["end", "stop", "length"]) -> None:
        self.finished = "stop" if self.words.close() else why

    def sample(self) -> Sample:
        assert self.finished
        return Sample(
            prompt=self.prompt,
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
class _Words:
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


class _Past:
    """The state of all rows, and for each row where in its tokens the part begins that the state holds."""

    def __init__(
        self, network: Network, tokenizer: Tokenizer, rows: Sequence[_Row], window: int, device: torch.device
    ) -> None:
        self.network, self.pad, self.rows = network, tokenizer.pad, rows
        self.window, self.device = window, device
        self.starts = [0] * len(rows)
        self.read = [0] * len(rows)
        self.state: Any = None
        self.source = _sources([row.source for row in rows], window, self.pad, device)

    def logits(self) -> list[NDArray[np.float64]]:
        """The logits (outputs,) of each row's next token, in float64; of a finished row they mean nothing."""
        if self._slide():
            self.state, self.read = None, list(self.starts)
        source = self.source if self.state is None else None
        parts = [self._part(*each) for each in zip(self.rows, self.starts, self.read, strict=True)]
        going = torch.full((len(parts),), self.state is not None, device=self.device)
        rows = _padded(parts, self.pad, self.device)
        hidden, self.state = self.network.encode(rows, source, self.state, going)
        self.read = [read + len(part.ids) for read, part in zip(self.read, parts, strict=True)]
        last = torch.tensor([max(len(part.ids) - 1, 0) for part in parts], device=self.device)
        said = self.network.logits(hidden[torch.arange(len(parts), device=self.device), last])
        return list(said.cpu().double().numpy())

    def _part(self, row: _Row, start: int, read: int) -> "_Part":
        """What the state does not hold yet; nothing of a finished row."""
        if row.finished:
            return _Part([], *(np.zeros(0, np.int64) for _ in range(2)))
        return _Part(row.ids[read:], *row.places(start, read))

    def _slide(self) -> bool:
        """Rows without a place for another token go on from their last half window; true if any had to."""
        slid = False
        for index, row in enumerate(self.rows):
            if self.window and not row.finished and len(row.ids) - self.starts[index] > self.window:
                self.starts[index] = len(row.ids) - max(1, self.window // 2)
                slid = True
        return slid


class _Part(NamedTuple):
    """Places of one row (n,)."""

    ids: Sequence[int] | NDArray[np.int64]
    positions: NDArray[np.int64]
    order: NDArray[np.int64]


def _sources(sources: Sequence[Side | None], window: int, pad: int, device: torch.device) -> Rows | None:
    """The rows that are read before anything is said: of what is longer than the window, the end."""
    if not any(sources):
        return None
    parts = []
    for side in sources:
        side = side or Side.of(np.zeros(0, np.int64), causal=False)
        kept = slice(max(0, len(side) - window) if window else 0, None)
        parts.append(_Part(side.ids[kept], side.positions[kept], side.order[kept]))
    return _padded(parts, pad, device)


def _padded(parts: Sequence[_Part], pad: int, device: torch.device) -> Rows:
    """Rows (B, longest part), padded on the right."""
    shape = (len(parts), max(1, *(len(part.ids) for part in parts)))
    ids, segment, positions, order = (np.full(shape, value, np.int64) for value in (pad, -1, 0, 0))
    for row, part in enumerate(parts):
        end = len(part.ids)
        ids[row, :end], segment[row, :end] = part.ids, 0
        positions[row, :end], order[row, :end] = part.positions, part.order
    tensors = [torch.from_numpy(array).to(device) for array in (ids, positions, segment, order)]
    causal = bool((positions == order).all())
    return Rows(
        **dict(zip(("ids", "positions", "segment", "order"), tensors, strict=True)),
        seen=tensors[2] >= 0,
        pattern="causal" if causal else "general",
        packed=not causal,
    )


def _allowed(logits: NDArray[np.float64], size: int, forbidden: NDArray[np.int64]) -> NDArray[np.float64]:
    """The logits with −∞ for special tokens and for outputs beyond the vocabulary."""
    allowed = logits.copy()
    allowed[forbidden] = -np.inf
    allowed[size:] = -np.inf
    return allowed


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


def _log_sum_exp(logits: NDArray[np.float64]) -> float:
    top = logits.max()
    return float(top + np.log(np.exp(logits - top).sum()))

"""How well a model predicts held-out text: loss in nats, perplexity, bits per byte.

    nats = −Σ log q(xₜ | what the model saw of x)      in float64, over every token of the split exactly once

All figures are one sum divided once, never a mean of means, so they do not depend on the batch. Each document
begins with one begin token, which is context only; where the objective ends documents with an end token, its
bits are counted too. Bits per byte divides by the UTF-8 bytes of the text that was given to the tokenizer,
over the documents that were scored.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from telos.batch import Asked, Batch, Cut, Example, Side, gathered
from telos.config import Settings
from telos.data.card import unknown_bytes
from telos.data.corpus import Corpus
from telos.data.packing import Row, collate, pack, singly
from telos.data.shards import Shards
from telos.errors import ConfigError, DataError
from telos.losses import cross_entropy
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["EvaluateSettings", "Likelihood", "score"]

Precision = Literal["float32", "bfloat16"]

NOTE_END = "The bits of each document's end token are counted."
NOTE_PSEUDO = (
    "The loss is of what the objective asks, and not everything is asked from what precedes it: it is no "
    "likelihood of the text, and compares only with losses of the same objective."
)
NOTE_LOSSY = "The vocabulary is lossy: what it cannot say costs nothing in bits per byte."
NOTE_UNKNOWN = (
    "of the bytes of this split are unknown to the vocabulary and do not come back from the tokens: "
    "bits per byte do not compare with those of other vocabularies."
)
"""After the share as a percentage."""

_BLOCK = 64
"""Batches whose pieces are read at a time, so that like lengths can share a batch in bounded memory."""
_LOGITS = 2**22
"""Logits that are held at a time: a chunk of places is this many divided by the vocabulary."""


class EvaluateSettings(Settings):
    """How held-out text is scored."""

    window: int = Field(0, ge=0)
    """Tokens that a prediction looks back on at most; 0 for the window that the model was trained with."""
    stride: int = Field(0, ge=0)
    """New tokens per window, the others are context; 0 for the whole window: fastest, least context."""
    batch: int = Field(32, ge=1)
    """Rows of a full window that are scored at a time: changes time and memory, never the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """The sums of one evaluation and what follows from them."""

    nats: float
    """−Σ log q over the tokens that were asked."""
    tokens: int
    """Tokens that were asked, end tokens included; where each is asked several times or by chance, the weight
    of all that was asked."""
    bytes: int
    """UTF-8 bytes of the scored text as the tokenizer got it; 0 where that cannot be known."""
    documents: int
    window: int
    stride: int
    kind: Literal["exact", "bound", "pseudo"] = "exact"
    """What the sum is: the exact −log q of the text, an upper bound, or a pseudo-likelihood."""
    carried: bool = False
    """Recurrent state went on from window to window, so a prediction looks back on the whole document."""
    truncated: bool = False
    """Only a part of the split was scored, as during training."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """Mean loss per term of the objective, in nats."""
    notes: tuple[str, ...] = ()
    """What a reader must know to compare the figures with others."""

    @property
    def loss(self) -> float:
        """Nats per token; of an objective that asks for no tokens, nats per question."""
        if self.tokens:
            return self.nats / self.tokens
        return math.fsum(self.terms.values()) if self.terms else math.nan

    @property
    def perplexity(self) -> float:
        """exp(loss): of how many equally likely tokens each seemed drawn. Compares within one vocabulary."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Compares across vocabularies. `None` for a pseudo-likelihood, and where the bytes are not known."""
        return None if self.kind == "pseudo" or not self.bytes else self.nats / math.log(2) / self.bytes

    def table(self) -> dict[str, Any]:
        """All figures as plain data for JSON; what is not finite or not known is `None`."""
        derived = {"loss": self.loss, "perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte}
        return {name: _finite(value) for name, value in {**derived, **dataclasses.asdict(self)}.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def score(
    network: Network,
    objective: Objective,
    shards: Shards,
    tokenizer: Tokenizer,
    settings: EvaluateSettings | None = None,
    *,
    window: int,
    gives: frozenset[str] = frozenset(),
    device: torch.device | None = None,
    precision: Precision = "float32",
    limit: int = 0,
    notes: Sequence[str] = (),
    partners: Mapping[str, Network] | None = None,
) -> Likelihood:
    """The likelihood of a split under a network.

    Args:
        window: the window that the network was trained with.
        gives: the capabilities of its model. With `packed`, documents share rows; with `carries`, unless
            a stride is set, state goes on from window to window of a document.
        precision: as in training; bfloat16 is autocast.
        limit: score about this many tokens only, for validation in training: whole documents in one fixed
            random order, the last one cut where the limit is reached. 0 scores the whole split.
        notes: what else a reader must know, such as a lossy cleaning of the text.
        partners: other models that have a part in making the questions, by name.

    Raises:
        DataError: the split has nothing to score.
        ConfigError: the window is longer than the model's, or the stride longer than the window.
    """
    settings = settings or EvaluateSettings()
    cut = _cut(objective, settings, window, "carries" in gives)
    corpus = Corpus(shards, cut, tokenizer)
    parts = _parts(corpus, limit)
    carried = "carries" in gives and not settings.stride
    source = _Source(corpus, objective, tokenizer)
    if carried:
        batches = _carried(source, parts, settings.batch)
    else:
        batches = _batches(source, parts, settings.batch, settings.window or window, "packed" in gives)
    device = device or next(network.parameters()).device
    tally = _Tally()
    models = {"main": network, **(partners or {})}
    with ExitStack() as still:
        for model in models.values():
            still.enter_context(model.at_rest())
        still.enter_context(_autocast(device, precision))
        state: Any = None
        for batch in batches:
            left = _add(tally, network, objective.completed(models, batch.to(device), 0), state)
            state = left if carried else None
    return _likelihood(tally, objective, corpus, parts, carried, tuple(notes))


def _cut(objective: Objective, settings: EvaluateSettings, window: int, endless: bool) -> Cut:
    asked = settings.window or window
    if asked > window and not endless:
        raise ConfigError(
            f"evaluate.window = {asked}: the model was built for {window} tokens and has no places beyond. "
            f"Set evaluate.window to at most {window}, or to 0 for the window of the training."
        )
    cut = objective.cut(asked)
    longest = cut.length - cut.overlap
    if cut.whole and settings.stride:
        raise ConfigError(
            f"evaluate.stride = {settings.stride}: objective = {objective.name!r} reads each text as a "
            "whole, so there is no stride. Leave it out."
        )
    if settings.stride > longest:
        raise ConfigError(
            f"evaluate.stride = {settings.stride}: must be at most the window, {longest}, or tokens would be "
            "left out. Set it to 0 for the window itself."
        )
    return dataclasses.replace(cut, stride=settings.stride)


class _Part(NamedTuple):
    """Pieces of one document that are to be scored."""

    document: int
    pieces: range
    tokens: int
    whole: bool


def _parts(corpus: Corpus, limit: int) -> list[_Part]:
    """The whole split in its order, or, with a limit, the first documents of a fixed random order."""
    lengths, cut = corpus.asked, corpus.cut
    if not lengths.sum():
        raise DataError(
            f"There is nothing to score: the split has {len(lengths)} documents without a token to predict. "
            "Hold out more text (data.split), or name a file for it."
        )
    order = np.random.default_rng(0).permutation(len(lengths)) if limit else np.arange(len(lengths))
    parts, room = [], limit or int(lengths.sum())
    for document in order.tolist():
        if room <= 0:
            break
        pieces, tokens = corpus.pieces_of(document), int(lengths[document])
        if tokens > room:
            pieces = pieces[: -(-room // cut.step)]
            kept = min(tokens, len(pieces) * cut.step)
        else:
            kept = tokens
        parts.append(_Part(document, pieces, kept, kept == tokens))
        room -= kept
    return parts


class _Source(NamedTuple):
    """Examples by the index of their piece. Their randomness is a function of that index alone."""

    corpus: Corpus
    objective: Objective
    tokenizer: Tokenizer

    def examples(self, index: int) -> tuple[Example, ...]:
        return self.objective.tries(self.corpus, index, self.tokenizer)

    def example(self, index: int) -> Example:
        """The only one, where windows follow each other."""
        (example,) = self.examples(index)
        return example


def _batches(source: _Source, parts: Iterable[_Part], rows: int, width: int, packed: bool) -> Iterator[Batch]:
    """Batches of rows of like length, block by block; several examples in a row if the model allows."""
    examples = (example for part in parts for index in part.pieces for example in source.examples(index))
    while block := list(islice(examples, _BLOCK * rows)):
        laid = (pack if packed else singly)(block, width)
        for several in (False, True):  # apart, for rows of one example need no mask
            group = sorted((row for row in laid if (len(row) > 1) == several), key=_places)
            while group:
                take = max(1, rows * width // _places(group[-1]))
                yield collate(group[-take:], width)
                del group[-take:]


def _places(row: Row) -> int:
    """Of its longer side."""
    sources = sum(0 if example.source is None else len(example.source) for example in row)
    return max(sum(len(example.main) for example in row), sources)


def _carried(source: _Source, parts: Sequence[_Part], rows: int) -> Iterator[Batch]:
    """Documents side by side, window after window; a row whose document ends takes the next longest one."""
    waiting = sorted((part for part in parts if part.pieces), key=lambda part: part.tokens)
    tracks: list[Iterator[int]] = [iter(()) for _ in range(min(rows, len(waiting)))]
    while True:
        row: list[Example | None] = []
        continues = []
        for place, track in enumerate(tracks):
            index = next(track, None)
            continues.append(index is not None)
            if index is None and waiting:
                tracks[place] = iter(waiting.pop().pieces)
                index = next(tracks[place])
            row.append(None if index is None else source.example(index))
        present = [example for example in row if example is not None]
        if not present:
            return
        nothing = Side.of(np.array([source.tokenizer.pad]), causal=True)
        idle = dataclasses.replace(present[0], main=nothing, source=None, asks=())
        batch = collate([[example or idle] for example in row])
        yield dataclasses.replace(batch, continues=torch.tensor(continues))


class _Tally:
    """Sums on the device in float64, fetched once at the end."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor | float] = defaultdict(float)
        self.weight: dict[str, float] = defaultdict(float)
        self.nats: Tensor | float = 0.0
        self.tokens: Tensor | float = 0.0


def _add(tally: _Tally, network: Network, batch: Batch, state: Any) -> Any:
    hidden, state = network.encode(batch.main, batch.source, state, batch.continues)
    flat = hidden.flatten(0, 1)
    for asked in batch.asks:
        weight = _double(asked.weight)
        counted = weight > 0
        nats = torch.where(counted, surprise(network, flat, asked) * weight, 0.0).sum()
        tally.sums[asked.term] = tally.sums[asked.term] + nats
        if asked.head == "tokens" and not asked.negative:
            tally.nats = tally.nats + nats
            tally.tokens = tally.tokens + weight.sum()
    for term, weight_asked in batch.asked.items():
        tally.weight[term] += weight_asked
    return state


def surprise(network: Network, flat: Tensor, asked: Asked) -> Tensor:
    """−log q of each target (K,) in float64, in chunks so that the logits stay small.

    The plain cross-entropy always: what training adds to the loss (smoothing, z) is left out.
    """
    found = []
    for start in range(0, len(asked.target), chunk := max(1, _LOGITS // _outputs(network, asked.head))):
        part = slice(start, start + chunk)
        logits = network.logits(gathered(flat, asked, part), asked.head)
        found.append(_double(_nats(logits, asked.target[part], asked.negative)))
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def _nats(logits: Tensor, target: Tensor, negative: bool) -> Tensor:
    nats = cross_entropy(logits, target)
    return -torch.log(-torch.expm1(-nats)) if negative else nats


def _outputs(network: Network, head: str) -> int:
    module: Any = network.heads[head]
    return len(module.table)


def _double(tensor: Tensor) -> Tensor:
    """In float64, for which Apple's GPUs have to hand over to the processor."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    return nullcontext() if precision == "float32" else torch.autocast(device.type, dtype=torch.bfloat16)


def _likelihood(
    tally: _Tally,
    objective: Objective,
    corpus: Corpus,
    parts: Sequence[_Part],
    carried: bool,
    notes: tuple[str, ...],
) -> Likelihood:
    cut, shards, tokenizer = corpus.cut, corpus.shards, corpus.tokenizer
    tokens = round(float(tally.tokens))
    if objective.scored == "exact":
        expected = sum(part.tokens for part in parts)
        assert tokens == expected, f"{tokens} tokens were asked where the split has {expected}"
    if objective.scored == "pseudo":
        notes = (*notes, NOTE_PSEUDO)
    if cut.end:
        notes = (*notes, NOTE_END)
    if not tokenizer.lossless:
        notes = (*notes, *_lossy(shards))
    return Likelihood(
        nats=float(tally.nats),
        tokens=tokens,
        bytes=_bytes(shards, corpus, tokenizer, parts),
        documents=len(parts),
        window=cut.length - cut.overlap,
        stride=cut.step,
        kind=objective.scored,
        carried=carried,
        truncated=len(parts) < len(shards.lengths) or not all(part.whole for part in parts),
        terms={
            term: float(total) / tally.weight[term]
            for term, total in tally.sums.items()
            if tally.weight[term]
        },
        notes=notes,
    )


def _lossy(shards: Shards) -> tuple[str, ...]:
    """What to say beside the figures of a lossy vocabulary; how much is lost where the data card says it."""
    lost = unknown_bytes(shards.folder)
    return (NOTE_LOSSY,) if lost is None else (NOTE_LOSSY, f"{lost:.1%} {NOTE_UNKNOWN}")


def _bytes(shards: Shards, corpus: Corpus, tokenizer: Tokenizer, parts: Sequence[_Part]) -> int:
    """Bytes of exactly the text that was scored; 0 where a document was cut and its tokens lost bytes."""
    total = sum(int(shards.text_bytes[part.document]) for part in parts if part.whole)
    for part in parts:
        if part.whole:
            continue
        if not tokenizer.lossless:
            return 0
        start = int(shards.offsets[part.document])
        inside = min(part.tokens, int(shards.lengths[part.document]))
        total += sum(
            len(tokenizer.token_bytes(token)) for token in shards.ids[start : start + inside].tolist()
        )
    return total

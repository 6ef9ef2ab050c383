"""The waist: everything in Telos passes through these classes.

    Document → [clean, drop, dedupe] → tokens → Objective.example → Batch → model(batch): {term: sum}
             → one division per term → backward

What may be seen is three vectors and one rule. Place i sees place j if and only if

    i = j,  or  segment[i] = segment[j]  and  seen[j]  and  order[j] ≤ order[i].

Causal: order = position. Bidirectional: order = 0. Prefix of n: order = max(0, position − n + 1). Packed
documents: one segment each. Cross-attention: equal segment and seen. No row of the relation is ever empty,
because i = j.

Shapes: an `Example` is one sample in numpy (vectors of length n); a `Batch`
is many of them packed into rows in torch (matrices of B rows × T places).
"Flat" places of a batch count row by row: place t of row b is b·T + t.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Answer",
    "Ask",
    "Asked",
    "Batch",
    "Cut",
    "Document",
    "Example",
    "HeadSpec",
    "Pattern",
    "Piece",
    "Place",
    "Read",
    "Rows",
    "Side",
    "Soft",
    "gathered",
    "may_see",
]

Pattern = Literal["causal", "full", "prefix", "general"]
"""What the collator knows of the relation, so that a fast kernel is chosen without looking at the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text and where it came from."""

    text: str
    id: str
    source: str = ""
    target: str | None = None
    """The other side of a pair: a translation, a summary."""
    label: str | None = None
    """A class by its name."""
    language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How an objective wants documents cut into pieces: at most `length` tokens, `stride` new ones in each.

    A document of n tokens, with its begin and end tokens where asked for, is a stream of m = n + begin + end
    tokens. Piece k answers for the tokens overlap + k·stride … overlap + (k + 1)·stride − 1 of the stream, so
    that each token after the first `overlap` belongs to exactly one piece; what precedes them within `length`
    is context. Positions restart at 0 in every piece.
    """

    length: int
    overlap: int = 0
    """Leading tokens of the stream that are never asked (causal: 1, nothing predicts the first token)."""
    stride: int = 0
    """New tokens per piece; 0 means length − overlap: pieces that share no more than the overlap."""
    begin: bool = False
    end: bool = False
    whole: bool = False
    """A document is one piece, its first `length` tokens, and what is beyond is not read: for texts that are
    answered as a whole."""
    target: int = 0
    """Of the column `target`, the first so many tokens; 0 for all."""

    def __post_init__(self) -> None:
        assert 0 <= self.overlap < self.length and 0 <= self.stride <= self.length - self.overlap, self

    @property
    def step(self) -> int:
        """New tokens per piece."""
        return self.stride or self.length - self.overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of one document's token stream, as the shards hold it."""

    ids: NDArray[np.int64]
    document: int
    start: int = 0
    """Place of the first token in the document's stream."""
    ask_from: int = 0
    """Tokens before this place are context only: another piece answers for them."""
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Other columns of the shards: per token (`word_start`, `sentence_start`), or of the document (`target`,
    `label`: the name of its class, empty where it has none)."""

    def __len__(self) -> int:
        return len(self.ids)


class Read(Protocol):
    """The corpus as an objective sees it: pieces by index. An
    objective may read others than the one it was asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Piece: ...


@lru_cache(maxsize=64)
def _alone(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """0 … n − 1, n zeros and n times true, which many sides share: nobody can write into them."""
    made = np.arange(n), np.zeros(n, np.int64), np.ones(n, np.bool_)
    for each in made:
        each.flags.writeable = False
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One sequence of an example: token ids and, for each place,
    its position and what may see it (see the rule above)."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    segment: NDArray[np.int64]
    order: NDArray[np.int64]
    seen: NDArray[np.bool_]
    types: NDArray[np.int64] | None = None
    """Token types (BERT's sentence A and B); none means all zero."""

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def of(ids: NDArray[np.integer], *, causal: bool) -> "Side":
        """A single document whose places see what came before them (`causal`) or everything."""
        place, nothing, seen = _alone(len(ids))
        return Side(
            ids=ids.astype(np.int64),
            positions=place,
            segment=nothing,
            order=place if causal else nothing,
            seen=seen,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """At these places of a side, this head is asked this.
    What an objective wants to know, k questions of it."""

    head: str
    at: NDArray[np.int64]
    """Places within the side, shape (k,), or with `of` (m,)."""
    target: NDArray[np.int64] | NDArray[np.float32]
    """The true class (k,), or a distribution over classes (k, classes)."""
    weight: NDArray[np.float32]
    """What each answer counts, shape (k,)."""
    term: str = ""
    """The name its loss is summed under; by default the head's."""
    negative: bool = False
    """Unlikelihood: −log(1 − p) of the target instead of −log p."""
    of: NDArray[np.int64] | None = None
    """Which question each place belongs to, (m,): a question is put to the mean of its places. Without it,
    each has one."""

    @property
    def name(self) -> str:
        return self.term or self.head


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """A head that an objective needs at the end of the model."""

    name: str
    outputs: int
    """Classes it chooses between; for `tokens`, the vocabulary."""
    kind: Literal["tokens", "classes", "marks"] = "tokens"
    """`tokens` may share the embedding's weight; `classes` has its own, and is asked once for a text; `marks`
    is no or yes at every place, said by one number: the logit of yes, where that of no is 0."""
    names: tuple[str, ...] = ()
    """What the classes are called, where they have names: two heads with others are asked other things."""
    ahead: int = 0
    """Predicts so many tokens further on than the head `tokens` does. Its hidden states go through a layer of
    its own first, so that heads which share a projection differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training sample before packing. Asks are put to
    `main`; `source` is the encoder's side where there is one."""

    main: Side
    asks: tuple[Ask, ...]
    source: Side | None = None
    pattern: Pattern = "causal"
    unit: int = -1
    """The document it comes from: the unit that privacy and evaluation count in."""
    sample: int = -1
    """Its index in the corpus; device draws that make targets are keyed by it."""
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """The shards' columns per token, laid along `main`, for an objective that extends the example; no batch
    has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the data a run is. With the seed it rebuilds any batch, on any number of workers."""

    epoch: int = 0
    block: int = 0
    """Which block of the epoch's shuffled order."""
    step: int = 0
    """How many steps of that block have been taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A side of a batch: B rows of T places. Padding has segment −1 and is never seen."""

    ids: Tensor
    positions: Tensor
    segment: Tensor
    order: Tensor
    seen: Tensor
    types: Tensor | None = None
    pattern: Pattern = "causal"
    packed: bool = False
    """Some row holds more than one segment, or hides a place:
    the pattern alone does not say what may be seen."""

    @property
    def shape(self) -> tuple[int, int]:
        return (self.ids.shape[0], self.ids.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Soft:
    """What another model holds to be true. Made for a few places at a time, so that the distributions of all
    places never exist together."""

    of: Callable[[slice], Tensor]
    """These of the asked places → their distributions (k, classes), float32."""
    temperature: float = 1.0
    """T: the answer's logits are divided by it, and its loss is multiplied by T² (Hinton et al., 2015)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """All that one head is asked in a batch under one term; padded to a bucket with weight 0."""

    head: str
    term: str
    at: Tensor
    """Flat places (K,), or with `of` (M,)."""
    target: Tensor
    """Classes (K,), int64, or distributions (K, classes), float32."""
    weight: Tensor
    """(K,), float32."""
    negative: bool = False
    soft: Soft | None = None
    """In place of `target`."""
    of: Tensor | None = None
    """Which question each place belongs to (M,); K for the places of a bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows, what may be seen in them, and what is asked: all that a model needs to answer with its sums."""

    main: Rows
    asks: tuple[Asked, ...]
    source: Rows | None = None
    continues: Tensor | None = None
    """(B,), bool: the row goes on where the same row of
    the batch before ended, so recurrent state is kept."""
    asked: Mapping[str, float] = field(default_factory=dict)
    """Summed weight per term, counted on the host so that no device has to be waited for."""
    samples: tuple[tuple[int, ...], ...] = ()
    """Which samples each row holds: the ledger of what was trained on."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        return replace(
            self,
            main=_moved(self.main, device),
            source=None if self.source is None else _moved(self.source, device),
            asks=tuple(_moved(ask, device) for ask in self.asks),
            continues=None if self.continues is None else self.continues.to(device, non_blocking=True),
        )


def gathered(hidden: Tensor, asked: Asked, part: slice = slice(None)) -> Tensor:
    """Of hidden states (places, width) those that these questions are put to (k, width): one place each, or
    the mean of several, which is taken in float32 at least."""
    if asked.of is None:
        return hidden.index_select(0, asked.at[part])
    found = hidden.index_select(0, asked.at)
    wide = torch.promote_types(found.dtype, torch.float32)
    rows = len(asked.target) + 1  # one for the places of a bucket
    sums = torch.zeros(rows, found.shape[1], dtype=wide, device=found.device)
    sums = sums.index_add(0, asked.of, found.to(wide))
    ones = torch.ones(len(found), dtype=wide, device=found.device)
    counts = torch.zeros(rows, dtype=wide, device=found.device).index_add(0, asked.of, ones)
    return (sums / counts.clamp(min=1).unsqueeze(1))[:-1][part].to(found.dtype)


class Answer(NamedTuple):
    """What a model says to a batch: a sum of weighted losses per
    term (scalars, float32), and the state it leaves behind."""

    sums: dict[str, Tensor]
    state: Any = None
    """Recurrent state or key–value cache, detached; `None` for a model without."""


Part = TypeVar("Part", Rows, Asked)


def _moved(part: Part, device: torch.device) -> Part:
    """The same rows or asks, with their tensors on `device`."""
    values = {each.name: getattr(part, each.name) for each in fields(part)}
    moved: dict[str, Any] = {
        name: value.to(device, non_blocking=True)
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    return replace(part, **moved)


def may_see(query: Rows, key: Rows) -> Tensor:
    """The rule above as a boolean tensor (B, 1, queries,
    keys); `query` is the last part of `key` or all of it.

    With a key–value cache, `key` holds the past as well,
    and place i of the query is place (keys − queries + i).
    """
    same = query.segment[:, :, None] == key.segment[:, None, :]
    earlier = key.order[:, None, :] <= query.order[:, :, None]
    allowed = same & earlier & key.seen[:, None, :]
    queries, keys = allowed.shape[1:]
    place = torch.arange(keys, device=allowed.device)
    itself = place[keys - queries :, None] == place
    return (allowed | itself).unsqueeze(1)

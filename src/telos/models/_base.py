"""What a model is: a frozen description that can be planned with, and the network that it builds.

To add an architecture, write a file in this folder with one final class that derives from `Model`, and the
`Network` that its `build` returns. Nothing else is edited.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from telos.batch import Answer, Asked, Batch, HeadSpec, Rows, gathered
from telos.config import Lax, Member, Settings
from telos.losses import LossSettings
from telos.models._cache import mapped
from telos.models._recompute import recomputed

__all__ = ["Initial", "Model", "Network", "Origin", "Sizes"]

T = TypeVar("T")


class Sizes(NamedTuple):
    """What a description does not know: it comes from the vocabulary, the recipe and the objective."""

    vocabulary: int
    """Rows of the embedding: the tokenizer's size."""
    window: int
    """Places in a row."""
    heads: tuple[HeadSpec, ...]
    loss: LossSettings = LossSettings()


class Initial(NamedTuple):
    """How parameters start: `normal` with standard deviation `scale`, `uniform` in ±scale, or `constant`."""

    kind: str
    scale: float


class Origin(Settings):
    """A trained model to start from. In a recipe `from = "FOLDER"` says enough: what the model is, and its
    vocabulary, are read from there, and the whole is written out in the run's own recipe."""

    source: str = Field(min_length=1)
    """The folder of a run; or one as Hugging Face writes it (config.json, model.safetensors, tokenizer.json),
    or the name of one on its hub."""
    adapter: str = ""
    """A folder as peft writes it, or the name of one on the hub: low-rank adapters (LoRA) for that model,
    which are merged into its weights."""
    content: str = ""
    """A hash of what is in both, filled in when the recipe is read: a run goes on only with the same."""


def _widened(given: Any) -> Any:
    """`from = "FOLDER"` is short for `from = { source = "FOLDER" }`."""
    return {"source": given} if isinstance(given, str) else given


class Model(Member, ABC):
    """Base of all architectures: a frozen description."""

    gives: ClassVar[frozenset[str]]
    """Capabilities: what may be seen (`causal`, `full`, `prefix`, `general`), side inputs (`source`,
    `types`), `packed` (several documents in a row), `carries` (state can go on from window to window)."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Capabilities that an objective must make use of: without it, some of the weights would lie idle."""

    recomputes: ClassVar[bool] = False
    """Whether the network is made of blocks that can be computed again in the backward pass."""

    @property
    def compiles(self) -> bool:
        """Whether the network is made of blocks that can be compiled."""
        return False

    vectors: Annotated[Path | None, Lax] = None
    """A file of word vectors (word2vec, GloVe or fastText, as text) that the embedding starts from."""
    origin: Annotated[Origin | None, BeforeValidator(_widened)] = Field(None, alias="from")
    """A model to start from: its description, its vocabulary and its weights."""

    @model_validator(mode="after")
    def _one_beginning(self) -> "Model":
        if self.vectors is not None and self.origin is not None:
            raise ValueError("vectors and from both say what the embedding starts from; leave one out")
        return self

    def lacks(self) -> Mapping[str, str]:
        """Of the capabilities that the class gives, those that these settings leave out, and what to set."""
        return {}

    @classmethod
    def serves(cls, required: frozenset[str]) -> bool:
        """Whether it gives all that an objective requires, and the objective makes use of all it needs."""
        return cls.needs <= required <= cls.gives

    @abstractmethod
    def parameter_count(self, sizes: Sizes) -> int:
        """Trained numbers, in closed form; shared ones counted once."""

    @abstractmethod
    def flops_per_token(self, sizes: Sizes) -> int:
        """Floating-point operations to train on one token, forward and backward: 6 per weight that
        multiplies, and 12 · depth · width · (window / 2) for causal attention (Kaplan et al., 2020; Hoffmann
        et al., 2022)."""

    @abstractmethod
    def build(self, sizes: Sizes) -> "Network":
        """The network, its parameters on the current default device, not yet initialised."""


class Network(nn.Module, ABC):
    """Base of all networks: rows become hidden states, and heads answer what the batch asks of them."""

    heads: nn.ModuleDict
    """By head name: modules with `forward(hidden (K, width),
    asked) -> {term: sum}` and `logits(hidden) -> (…, outputs)`."""
    embedding: nn.Embedding
    recompute: bool = False
    """In training, blocks keep what goes into them and are computed again in the backward pass, in place of
    keeping all that they make. The trainer sets it."""
    compiled: Callable[..., Any] | None = None
    """In training, calls a block in its compiled form: `compiled(block, *given)`. The trainer sets it."""
    shares: Mapping[str, float] = MappingProxyType({})
    """Of the learning rate, by parameter; where none is said, all of it. `train/tune.py` sets it."""

    def through(self, block: Callable[..., T], *given: Any) -> T:
        """`block(*given)`: the way through every block, and the only place that knows of `recompute` and
        `compiled`."""
        if not (self.training and torch.is_grad_enabled()):
            return block(*given)
        way = block if self.compiled is None else partial(self.compiled, block)
        return recomputed(way, *given) if self.recompute else way(*given)

    @abstractmethod
    def encode(
        self, main: Rows, source: Rows | None = None, state: Any = None, continues: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Hidden states (B, T, width), and the state after the last place of each row (detached).

        `state` is what an earlier call returned: recurrent state, or a key–value cache that holds the past's
        keys, values, segment, order and seen. Rows where `continues` is false start from nothing. Rows padded
        on the right (segment −1) leave the state of their last real place.
        """

    def unread(self, state: Any, places: Tensor) -> Any:
        """`state` as if those places of the last call that are true in `places` (B, T) had not been read;
        `None` where a state cannot be taken apart, as that of recurrent networks."""
        return None

    def chosen(self, state: Any, rows: Tensor, *, same_sources: bool = False) -> Any:
        """`state` with these of its rows (n,) in place of its own, some perhaps more than once. With
        `same_sources`, each new row reads the same source as the one whose place it takes."""
        return mapped(lambda part: part.index_select(0, rows), state)

    def narrowed(self, state: Any, rows: Tensor) -> Any:
        """`state` without places that none of these rows (n,) sees; as it is, where it keeps no places or all
        of them are seen."""
        return state

    def looks(self, main: Rows, source: Rows) -> Tensor | None:
        """Where each place of the main side looks in the source: (B, T, S), shares that add up to 1, means
        over layers and heads. `None` for networks that do not look."""
        return None

    def forward(self, batch: Batch, state: Any = None) -> Answer:
        """A sum per term of what the batch asks."""
        hidden, state = self.encode(batch.main, batch.source, state, batch.continues)
        flat = hidden.flatten(0, 1)
        sums: dict[str, Tensor] = {}
        for asked in batch.asks:
            for term, value in self.answer(gathered(flat, asked), asked).items():
                sums[term] = sums[term] + value if term in sums else value
        return Answer(sums, state)

    def answer(self, hidden: Tensor, asked: Asked) -> dict[str, Tensor]:
        """The named head's sums for the gathered places (K, width)."""
        head = self.heads[asked.head]
        sums: dict[str, Tensor] = head(hidden, asked)
        return sums

    def logits(self, hidden: Tensor, head: str = "tokens") -> Tensor:
        """What a head says at hidden states (…, width): logits (…, outputs) in float32."""
        module: Any = self.heads[head]
        said: Tensor = module.logits(hidden)
        return said

    def stepped(self, good: bool) -> Mapping[str, Tensor]:
        """Once after each optimizer step, with whether it changed anything: what is learned by counting and
        not by gradients moves. Returns what the log shows of it, each ()."""
        return {}

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Evaluation mode and no gradients; afterwards every module is in the mode it was in."""
        before = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in before:
                module.training = training

    @abstractmethod
    def initial(self, name: str) -> Initial:
        """How the parameter of that name starts; the table is in the docstring of the model's file."""

    def layers_above(self) -> dict[str, int]:
        """Of every parameter, how many layers stand between it and the loss, the heads counted as one: 0 for
        heads and the last norm, 1 for the last block, one more than there are blocks for the embedding. What
        stands between two stacks of blocks goes with the block below it."""
        begins, total = _stacks(self)
        found, level = {}, 0
        for name, _ in self.named_parameters():
            stack = next((stack for stack in begins if name.startswith(f"{stack}.")), None)
            if stack is not None:
                number = int(name[len(stack) + 1 :].partition(".")[0])
                found[name] = begins[stack] + number + 1
                level = max(level, found[name])
            else:
                found[name] = level if level < total else total + 1
        return {name: total + 1 - level for name, level in found.items()}

    def undecayed(self) -> Sequence[str]:
        """Names of parameters that weight decay leaves alone: all that are not matrices, and embeddings."""
        embeddings = [module for module in self.modules() if isinstance(module, nn.Embedding)]
        tables = {id(table) for module in embeddings for table in module.parameters(recurse=False)}
        return [n for n, p in self.named_parameters() if p.ndim < 2 or id(p) in tables]


def _stacks(network: nn.Module) -> tuple[dict[str, int], int]:
    """Lists of layers by name, with how many layers stand below each; and how many there are. Lists side by
    side in one module are parts of the same layers."""
    begins: dict[str, int] = {}
    total = 0
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{stack}.") for stack in begins):
            owner = name.rpartition(".")[0]
            beside = (begin for stack, begin in begins.items() if stack.rpartition(".")[0] == owner)
            begins[name] = next(beside, total)
            total = max(total, begins[name] + len(module))
    return begins, total

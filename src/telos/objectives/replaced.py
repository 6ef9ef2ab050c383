"""Replaced-token detection: a small model fills hidden places, the model says which tokens it made up
(ELECTRA: Clark et al., 2020).

    loss = −Σ over the hidden   log q(xᵢ | the text with its hidden places) / number hidden      the generator
         + 50 · −Σ over all     log d(xᵢ was replaced, or was not) / number of tokens        the discriminator

Hidden, from the generator alone: as `masked` hides, by default 15 % of the tokens, all behind mask tokens. It
is trained as `masked` trains. Then one token is drawn from what it says at each hidden place, and the other
model, which is the one that is kept, reads the text with those in it and is asked at every place but special
ones: replaced? So it learns from all tokens, not from one in seven. For `the chef cooked the meal`:

    text                ⊢  the   chef   cooked   the   meal   |
    generator reads     ⊢  ▒     chef   ▒        the   meal   |
    generator says         the          ate
    the model reads     ⊢  the   chef   ate      the   meal   |
    is asked               no    no     yes      no    no

A token that happens to be the true one was not replaced. The draw passes no gradient: the generator learns
nothing from the other's loss. Draws are a function of (seed of the step, sample, place), so they are the same
however a step is cut into micro-batches or spread over devices.

With `shared` the model reads each token as the generator's vector for it plus one of its own, which starts at
0; its gradient reaches its own alone (DeBERTaV3: He et al., 2021). So it gains by what the generator learns,
and no table is pulled two ways. When training is over the sum is the model's own table.

**By hand.** If the generator gives the two hidden words 1/2 and 1/8, its loss is (ln 2 + ln 8) / 2 = 1.386;
if the model gives each of its five answers 4/5, its loss is ln 5/4 = 0.223. Together 1.386 + 50 · 0.223 =
12.54.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn
from torch.nn import functional

from telos.batch import Answer, Ask, Asked, Batch, Cut, Example, HeadSpec, Piece, Read
from telos.errors import ConfigError
from telos.objectives._base import Objective, Partner
from telos.objectives._framing import inside
from telos.objectives.masked import Masked
from telos.tokenizer import Tokenizer

__all__ = ["Replaced"]

CHUNK = 1 << 24
"""Logits of the generator that are drawn from at a time: 64 MiB."""
_ALL_MASKED = {"instead": {"mask": 1.0, "random": 0.0}}


def _behind_masks(given: Any) -> Any:
    """Where nothing is said of it, what is hidden shows the mask token."""
    return {**_ALL_MASKED, **given} if isinstance(given, dict) else given


@final
class Replaced(Objective):
    """ELECTRA's objective: tell the tokens that a generator made up."""

    scored: ClassVar[Literal["exact", "bound", "pseudo"]] = "pseudo"

    masked: Annotated[Masked, BeforeValidator(_behind_masks)] = Masked.model_validate(_ALL_MASKED)
    """What is hidden from the generator, and how."""
    generator: dict[str, Any] = Field(default_factory=dict)
    """The generator's settings, as those of a model: what is left out is as in `model`. A quarter to a half
    of its width is best; here it is as large as the model unless something is said."""
    weight: float = Field(50.0, gt=0)
    """What the discriminator's loss counts, where the generator's counts 1."""
    shared: bool = False
    """The model's embedding is the generator's, without gradient, plus one of its own. Both must be equally
    wide: let the generator have fewer blocks."""

    def cut(self, window: int) -> Cut:
        return self.masked.cut(window)

    def requires(self) -> frozenset[str]:
        return self.masked.requires()

    def columns(self) -> tuple[str, ...]:
        return self.masked.columns()

    def after(self, passes: float) -> "Replaced":
        return self.model_copy(update={"masked": self.masked.after(passes)})

    def heads(self, vocabulary: int) -> tuple[HeadSpec, ...]:
        return (HeadSpec(name="replaced", outputs=2, kind="marks"),)

    def partners(self) -> Mapping[str, Partner]:
        heads = (HeadSpec(name="tokens", outputs=0),)
        return {"generator": Partner(role="trained", model=self.generator, heads=heads)}

    def coefficient(self, term: str) -> float:
        return self.weight if term == "replaced" else 1.0

    def bind(self, models: Mapping[str, nn.Module]) -> None:
        """With `shared`, the model's own table starts at 0 and is added to the generator's.

        Raises:
            ConfigError: the two are not equally wide.
        """
        if not self.shared:
            return
        main, generator = _tables(models)
        if main.weight.shape != generator.weight.shape:
            raise ConfigError(
                f"objective.shared: the generator's embedding is {generator.embedding_dim} wide, the model's "
                f"{main.embedding_dim}. Leave out what makes the generator's width another, and let it have "
                "fewer blocks: objective.generator.depth."
            )
        nn.init.zeros_(main.weight)
        main.register_forward_hook(
            lambda table, given, out: out + functional.embedding(given[0], generator.weight.detach())
        )

    def settle(self, models: Mapping[str, nn.Module]) -> None:
        if self.shared:
            main, generator = _tables(models)
            with torch.no_grad():
                main.weight += generator.weight

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        """As `masked`, and every token of the text that the piece answers for is asked about. What the answer
        is, `completed` says."""
        row = self.masked.example(read, index, rng, tokenizer)
        assert not row.main.segment.any(), "one segment for each sample: draws are keyed by it"
        piece = read[index]
        first = max(0, piece.ask_from - inside(piece, tokenizer).start)
        at = np.arange(1 + first, len(row.main) - 1)
        ask = Ask(head="replaced", at=at, target=np.zeros_like(at), weight=np.ones(len(at), np.float32))
        return replace(row, asks=(*row.asks, ask))

    def unhidden(self, piece: Piece, tokenizer: Tokenizer) -> Example | None:
        """As `masked`: what the model reads in training holds no mask tokens either."""
        return self.masked.unhidden(piece, tokenizer)

    def completed(self, models: Mapping[str, nn.Module], batch: Batch, seed: int) -> Batch:
        generator: Any = models["generator"]
        with torch.no_grad():
            hidden, _ = generator.encode(batch.main, batch.source)
        return _filled(generator, hidden.flatten(0, 1), batch, seed)

    def step(self, models: Mapping[str, nn.Module], batch: Batch, state: Any, seed: int) -> Answer:
        """The generator answers, and the main model is asked about its draws."""
        generator: Any = models["generator"]
        hidden, _ = generator.encode(batch.main, batch.source)
        flat = hidden.flatten(0, 1)
        sums: dict[str, Tensor] = {}
        for ask in _hidden(batch):
            sums |= generator.answer(flat.index_select(0, ask.at), ask)
        answer = models["main"](_filled(generator, flat.detach(), batch, seed), state)
        return Answer(sums | answer.sums, answer.state)


def _tables(models: Mapping[str, Any]) -> tuple[nn.Embedding, nn.Embedding]:
    """The embeddings of the model and of the generator."""
    return models["main"].embedding, models["generator"].embedding


def _hidden(batch: Batch) -> list[Asked]:
    """What the generator is asked."""
    return [ask for ask in batch.asks if ask.head == "tokens"]


def _filled(generator: Any, flat: Tensor, batch: Batch, seed: int) -> Batch:
    """The text with the generator's draws in it, from its hidden states `flat` (places, width); what is asked
    of each is whether it differs from the token that was there."""
    true = batch.main.ids.flatten().clone()
    ids = true.clone()
    chance = _uniform(seed, batch).flatten()
    for ask in _hidden(batch):
        real = ask.weight > 0  # the others fill up a bucket
        at = ask.at[real]
        true[at] = ask.target[real]
        ids[at] = _drawn(generator, flat.index_select(0, at), chance[at])
    replaced = (ids != true).long()
    asks = tuple(replace(ask, target=replaced[ask.at]) for ask in batch.asks if ask.head == "replaced")
    return replace(batch, main=replace(batch.main, ids=ids.view_as(batch.main.ids)), asks=asks)


@torch.no_grad()
def _drawn(generator: Any, hidden: Tensor, chance: Tensor) -> Tensor:
    """One token (k,) for each of the hidden states (k, width), by numbers (k,) from 0 … 1: the first token at
    which the probabilities add up to more."""
    tokens = []
    size = max(1, CHUNK // generator.embedding.num_embeddings)
    for states, numbers in zip(torch.split(hidden, size), torch.split(chance, size), strict=True):
        heights = generator.logits(states).softmax(-1).cumsum(-1)
        reached = numbers.unsqueeze(1).to(heights.dtype) * heights[:, -1:]
        tokens.append(torch.searchsorted(heights, reached, right=True).squeeze(1))
    last = generator.embedding.num_embeddings - 1
    return torch.cat(tokens).clamp(max=last)


def _uniform(seed: int, batch: Batch) -> Tensor:
    """A number from 0 … 1 for each place (rows, places): a function of the seed, the sample that the place
    belongs to and its position in it, and so the same whatever the batch."""
    main = batch.main
    longest = max([1, *(len(row) for row in batch.samples)])
    table = [[*row, *[0] * (longest - len(row))] for row in batch.samples]
    samples = torch.tensor(table, device=main.ids.device)
    sample = samples.gather(1, main.segment.clamp(0, longest - 1))
    mixed = _mixed(_mixed(sample + _signed(seed)) + main.positions)
    return _shifted(mixed, 40).float() * 2.0**-24


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose products wrap around (Steele et al., 2014)."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Bits to the right, zeros from the left."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(number: int) -> int:
    """The lowest 64 bits, as int64 has them."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number

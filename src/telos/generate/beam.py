"""Beam search: the most probable texts, or nearly, instead of drawn ones (Graves, 2012; Sutskever et al.,
2014).

Of each prompt the `width` most probable beginnings are kept. A run of the model says how each may go on; of
all continuations the best are kept. One that ends, and was among the best `width`, is set aside as found. The
search for a prompt is over when `width` texts are found and no beginning, as long as it is now, is better
than the worst of them; or at the greatest length. Texts are ranked by

    Σ log q / length^α            tokens counted with the end token; α is `beam.length_penalty`

All prompts are searched side by side on cached states. Each prompt is read once; its beams share what was
read of its source. A prompt that is done makes room.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from telos.batch import Rows
from telos.errors import ConfigError
from telos.generate._base import Decoder
from telos.generate._draw import log_totals, where_exact
from telos.generate._past import Part, padded, sources_of
from telos.generate._rows import Row

__all__ = ["Beam", "rank"]


def rank(logprob: float, length: int, penalty: float) -> float:
    """By which texts are compared: the higher, the better."""
    return logprob / float(length**penalty)


class Link(NamedTuple):
    """A token, what the model said of it, and all that came before it."""

    token: int
    logprob: float
    before: "Link | None"
    total: float
    """Σ log q up to and with it."""
    length: int

    def tokens(self) -> list["Link"]:
        """From the first on."""
        found: list[Link] = []
        link: Link | None = self
        while link is not None:
            found.append(link)
            link = link.before
        return found[::-1]


@dataclass
class Search:
    """The search for one prompt."""

    rows: Sequence[Row]
    """The samples of this prompt: they get what is found, the best first."""
    limit: int
    """Tokens that may be said."""
    beams: list[Link | None]
    found: list[Link] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Of the beam."""
        return self.rows[0].settings.beam.width

    def rank(self, link: Link) -> float:
        """Of a text, or of a beginning as if it ended here."""
        return rank(link.total, link.length, self.rows[0].settings.beam.length_penalty)

    def grow(self, best: Sequence[tuple[int, Link]]) -> list[int]:
        """Go on with the best continuations, which come in their order, each with the beam that it continues:
        those beams."""
        kept: list[tuple[int, Link]] = []
        for place, (beam, link) in enumerate(best):
            if link.token in self.rows[0].ends:
                if place < self.width:
                    self.found.append(link)
            elif len(kept) < self.width:
                kept.append((beam, link))
        self.beams = [link for _, link in kept]
        return [beam for beam, _ in kept]

    @property
    def done(self) -> bool:
        """Whether nothing better is to be expected, or nothing may follow."""
        alive = [link for link in self.beams if link is not None]
        if not alive or alive[0].length >= self.limit:
            return True
        if len(self.found) < self.width:
            return False
        worst = sorted(map(self.rank, self.found))[-self.width]
        return worst >= max(map(self.rank, alive))

    def hand_out(self) -> None:
        """Give the best texts to the samples; beginnings too, where too few have ended."""
        texts = sorted(self.found, key=self.rank, reverse=True)
        if len(texts) < self.width:
            alive = [link for link in self.beams if link is not None]
            texts = sorted(texts + alive, key=self.rank, reverse=True)
        for number, row in enumerate(self.rows):
            row.length = self.limit
            for link in texts[min(number, len(texts) - 1)].tokens():
                if not row.finished:
                    row.add(link.token, link.logprob)


@final
class Beam(Decoder):
    """All beams of all prompts, one token further in each run of the model."""

    reads: ClassVar[frozenset[str]] = frozenset({"beam"})

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        each = self.rows[0].settings.samples
        self.searches = [
            Search(self.rows[at : at + each], self._limit(self.rows[at]), [None])
            for at in range(0, len(self.rows), each)
        ]
        self.state: Any = None
        self.held: list[int] = []
        """Rows of the state that each search has."""

    def goes_with(self, other: Decoder) -> bool:
        """Searches of several beginnings in each are not put together."""
        return False

    def keep(self, chosen: Sequence[int]) -> None:
        """A search goes on as long as one of its samples is waited for."""
        super().keep(chosen)
        wanted = set(map(id, self.rows))
        parts, at, rows = list[Search](), 0, list[int]()
        for search in self.searches:
            size = len(search.beams)
            if any(id(row) in wanted for row in search.rows):
                parts.append(search)
                rows += range(at, at + size)
            at += size
        self.searches = parts
        if self.state is not None:
            self.state = self.network.chosen(self.state, torch.tensor(rows, device=self.device))

    def _limit(self, row: Row) -> int:
        """Tokens that may be said after a prompt."""
        if not self.window:
            return row.length
        if row.given > self.window:
            raise ConfigError(
                f"a prompt takes {row.given} places, and the model has {self.window}: give less of it"
            )
        return min(row.length, self.window - row.given + 1)

    def advance(self) -> None:
        hidden = self._begin() if self.state is None else self._go_on()
        best = self._best(hidden)
        parents = [search.grow(each) for search, each in zip(self.searches, best, strict=True)]
        for search in self.searches:
            if search.done:
                search.hand_out()
        self._forget(parents)

    def _begin(self) -> Tensor:
        """The hidden states after all prompts (searches, width): each is read once."""
        rows = [search.rows[0] for search in self.searches]
        parts = [Part(row.ids, *row.places(0, 0)) for row in rows]
        source = sources_of([row.source for row in rows], self.window, self.tokenizer.pad, self.device)
        given = padded(parts, self.tokenizer.pad, self.device)
        hidden, self.state = self.network.encode(given, source, None, None)
        last = torch.tensor([len(part.ids) - 1 for part in parts], device=self.device)
        return hidden[torch.arange(len(parts), device=self.device), last]

    def _go_on(self) -> Tensor:
        """The hidden states after the last token of each beam (beams, width)."""
        links = [(search.rows[0], link) for search in self.searches for link in search.beams]
        ids = np.array([link.token for _, link in links if link])
        at = np.array([[row.main.positions[-1], row.main.order[-1]] for row, _ in links])
        at += np.array([link.length for _, link in links if link])[:, None]
        tensors = [torch.from_numpy(each).to(self.device)[:, None] for each in (ids, at[:, 0], at[:, 1])]
        causal = bool((at[:, 0] == at[:, 1]).all())
        zeros = torch.zeros_like(tensors[0])
        rows = Rows(
            ids=tensors[0],
            positions=tensors[1],
            order=tensors[2],
            segment=zeros,
            seen=zeros == 0,
            pattern="causal" if causal else "general",
            packed=not causal,
        )
        going = torch.ones(len(links), dtype=torch.bool, device=self.device)
        hidden, self.state = self.network.encode(rows, None, self.state, going)
        return hidden[:, 0]

    def _best(self, hidden: Tensor) -> list[list[tuple[int, Link]]]:
        """For each prompt its best continuations, twice as many as its beam is wide, with their beams: they
        are among as many of each beam."""
        said = where_exact(self.network.logits(hidden))
        totals = log_totals(said).cpu().numpy()
        self.held = [len(search.beams) for search in self.searches]
        said = said[:, : self.rows[0].size]
        for search, part in zip(self.searches, torch.split(said, self.held), strict=True):
            part[:, torch.from_numpy(search.rows[0].forbidden).to(said.device)] = -torch.inf
        top = said.topk(min(2 * self.searches[0].width, said.shape[1]), 1)
        logprobs = top.values.double().cpu().numpy() - totals[:, None]
        tokens = top.indices.cpu().numpy()
        ends = np.cumsum(self.held)[:-1]
        parts = zip(self.searches, np.split(logprobs, ends), np.split(tokens, ends), strict=True)
        return [_continued(*part) for part in parts]

    def _forget(self, parents: Sequence[Sequence[int]]) -> None:
        """Of the state, keep the rows that the new beams continue."""
        rows, at, same = [], 0, True
        searches = []
        for search, own, before in zip(self.searches, parents, self.held, strict=True):
            if not search.done:
                searches.append(search)
                rows += [at + beam for beam in own]
                same &= len(own) == before
            else:
                same = False
            at += before
        self.searches = searches
        index = torch.tensor(rows, dtype=torch.long, device=self.device)
        self.state = self.network.chosen(self.state, index, same_sources=same) if rows else None


def _continued(
    search: Search, logprobs: NDArray[np.float64], tokens: NDArray[np.int64]
) -> list[tuple[int, Link]]:
    """The best continuations of a prompt's beams, each of which goes on with one of these tokens (beams,
    tokens), of which the model says so much."""
    before = np.array([link.total if link else 0.0 for link in search.beams])
    totals = logprobs + before[:, None]
    found = []
    for place in np.argsort(-totals, axis=None, kind="stable")[: 2 * search.width].tolist():
        beam, at = divmod(place, totals.shape[1])
        total = float(totals[beam, at])
        if total > -np.inf:
            link = search.beams[beam]
            length = link.length + 1 if link else 1
            said = Link(int(tokens[beam, at]), float(logprobs[beam, at]), link, total, length)
            found.append((beam, said))
    return found

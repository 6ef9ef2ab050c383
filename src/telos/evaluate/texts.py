"""How likely given texts are under a model, whatever objective it was trained by.

    exact     −Σₜ log q(xₜ | x₁ … xₜ₋₁)                      where the objective asks from left to right
    pseudo    −Σₜ log q(xₜ | all of x but xₜ)                one place hidden at a time (Salazar et al., 2020)
    bound     E [ −n/k · Σ log q(xₜ | x but the k hidden) ]  k from 1 … n, then k places, all equally likely:
                                                             an upper bound of exact (Nie et al., 2025)

Which one a model can give is its objective's to say: `whole` and `hide`. What they give are three different
things, so each figure carries its kind. Sums are in float64 over the text's own tokens: a begin token goes in
where training put one, and neither it nor an end token is asked.

With `words`, pseudo hides with each token those after it in the same word (Kauf and Ivanova, 2023): else the
pieces of a rare word give each other away.
"""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from telos.batch import Batch, Cut, Example, Piece
from telos.config import Settings
from telos.data.packing import collate
from telos.errors import ConfigError
from telos.evaluate.likelihood import surprise
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.tokenizer import Tokenizer

__all__ = ["Judge", "Kind", "Text", "TextScores", "TextSettings", "TokenScores", "kinds_of", "text_of"]

Kind = Literal["exact", "pseudo", "bound"]
Ids = NDArray[np.int64]

_BLOCK = 64
"""Batches whose questions are made at a time, so that like lengths can share a batch in bounded memory."""


class TextSettings(Settings):
    """How given texts are scored."""

    kind: Literal["auto", "exact", "pseudo", "bound"] = "auto"
    """`auto` takes the first of exact, bound and pseudo that the objective defines."""
    words: bool = False
    """Pseudo hides with each token what follows it in its word."""
    draws: int = Field(64, ge=1)
    """Random sets of hidden places for each window of a text, for a bound."""
    batch: int = Field(32, ge=1)
    """Rows of a full window at a time: changes time and memory, never the figures."""


class Text(NamedTuple):
    """A text as tokens (n,), and which of them are to be scored: those from `start` on."""

    ids: Ids
    word_start: NDArray[np.bool_]
    sentence_start: NDArray[np.bool_]
    start: int = 0


def text_of(text: str, tokenizer: Tokenizer, after: str = "") -> Text:
    """`after` + `text`, tokenised as one, of which `text` is to be scored.

    A token that holds the end of `after` and the beginning of `text` counts as the text's.
    """
    encoded = tokenizer.encode_words(after + text)
    start = 0
    if after:
        _, at = tokenizer.encode_offsets(after + text)
        start = int(np.searchsorted(at[:, 1], len(after), side="right"))
    return Text(encoded.ids, encoded.word_start, encoded.sentence_start, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScores:
    """The sums of some texts."""

    kind: Kind
    nats: tuple[float, ...]
    """Of each text."""
    tokens: tuple[int, ...]
    """Of each text, those that were scored."""
    words: bool = False
    """Pseudo hid with each token what follows it in its word."""

    def table(self) -> dict[str, Any]:
        """Totals as plain data for JSON: nats, tokens, and nats per token."""
        nats, tokens = math.fsum(self.nats), sum(self.tokens)
        label = {"kind": self.kind, **({"words": self.words} if self.kind == "pseudo" else {})}
        per_token = nats / tokens if tokens else None
        return {**label, "texts": len(self.nats), "tokens": tokens, "nats": nats, "loss": per_token}


class TokenScores(NamedTuple):
    """One text (n tokens), token by token."""

    kind: Kind
    nats: NDArray[np.float64]
    """What each token adds to the text's −log q (n,); NaN for those that are not scored."""
    likely: list[list[tuple[int, float]]]
    """The most probable tokens in each one's place, with their log q; none where several sets of hidden
    places were asked about it, as for a bound."""


class _Question(NamedTuple):
    """An example that asks something of a text, and what its answer counts for it."""

    owner: int
    example: Example
    factor: float
    tokens: Ids
    """The text's tokens that are asked, in the order of the asks. The first may be missing: an objective that
    never asks the first place of a row leaves it out."""


def kinds_of(objective: Objective, tokenizer: Tokenizer) -> list[Kind]:
    """The scores of given texts that an objective defines, the best first; there may be none."""
    piece = Piece(ids=np.array([tokenizer.begin, tokenizer.end]), document=0, ask_from=1)
    has: dict[Kind, bool] = {"exact": objective.whole(piece, tokenizer) is not None}
    hides = objective.hide(piece, _one(1), _one(1), tokenizer) is not None
    has |= {"bound": hides and objective.scored == "bound", "pseudo": hides}
    return [kind for kind, there in has.items() if there]


class Judge:
    """A model, ready to score texts.

    Args:
        window: the window that the network was trained with. Longer texts are scored in pieces that do not
            overlap, unless the model carries state: then it reads them whole.
        gives: the capabilities of its model.
        clean: makes a text as those are that the network was trained on.

    Raises:
        ConfigError: the objective has no score of the kind that is asked for.
    """

    def __init__(
        self,
        network: Network,
        objective: Objective,
        tokenizer: Tokenizer,
        settings: TextSettings | None = None,
        *,
        window: int,
        gives: frozenset[str] = frozenset(),
        clean: Callable[[str], str] = str,
    ) -> None:
        self.network, self.objective, self.tokenizer = network, objective, tokenizer
        self.clean = clean
        self.settings = settings or TextSettings()
        self.window, self.endless = window, "carries" in gives
        self.kind: Kind = self._kind()

    def text(self, text: str, after: str = "") -> Text:
        """`after` + `text`, cleaned and tokenised, of which `text` is to be scored."""
        return text_of(self.clean(text), self.tokenizer, self.clean(after))

    def score(self, texts: Sequence[Text]) -> TextScores:
        """−log q of each text, in nats."""
        device = next(self.network.parameters()).device
        questions = self._questions(texts)
        sums = np.zeros(len(texts))
        with self.network.at_rest():
            while block := list(islice(questions, _BLOCK * self.settings.batch)):
                for group in self._batches(block):
                    answers = self._answers(collate([[q.example] for q in group]).to(device))
                    factors = np.array([q.factor for q in group])
                    np.add.at(sums, [q.owner for q in group], answers * factors)
        tokens = tuple(len(text.ids) - text.start for text in texts)
        words = self.settings.words and self.kind == "pseudo"
        return TextScores(kind=self.kind, nats=tuple(sums.tolist()), tokens=tokens, words=words)

    def by_token(self, text: Text, likely: int = 0) -> TokenScores:
        """−log q of a text, divided among its tokens; and the `likely` most probable ones in each place."""
        with self.network.at_rest():
            steps = self.token_steps(text, likely)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    found: TokenScores = end.value
                    return found

    def token_steps(self, text: Text, likely: int = 0) -> Generator[None, None, TokenScores]:
        """`by_token`, a run of the model at a time, for whoever does other things in between; the network is
        at rest then (`Network.at_rest`)."""
        device = next(self.network.parameters()).device
        found = TokenScores(self.kind, np.full(len(text.ids), np.nan), [[] for _ in text.ids])
        questions, likely = self._questions([text]), 0 if self.kind == "bound" else likely
        while block := list(islice(questions, _BLOCK * self.settings.batch)):
            for group in self._batches(block):
                yield
                self._tell(collate([[q.example] for q in group]).to(device), group, likely, found)
        return found

    def _tell(self, batch: Batch, group: list[_Question], likely: int, found: TokenScores) -> None:
        """The answers to some questions about one text, token by token."""
        hidden, _ = self.network.encode(batch.main, batch.source)
        flat = hidden.flatten(0, 1)
        for asked in batch.asks:
            if asked.head != "tokens" or asked.negative:
                continue
            nats, weight = surprise(self.network, flat, asked).cpu().numpy(), asked.weight.cpu().numpy()
            rows = (asked.at // batch.main.shape[1]).cpu().numpy()
            for row, question in enumerate(group):
                which = np.flatnonzero((rows == row) & (weight > 0))
                tokens = question.tokens[len(question.tokens) - len(which) :]
                found.nats[tokens] = np.nan_to_num(found.nats[tokens])
                np.add.at(found.nats, tokens, nats[which] * weight[which] * question.factor)
                if likely:
                    at = asked.at[torch.from_numpy(which).to(asked.at.device)]
                    most = _most_likely(self.network.logits(flat[at]), self.tokenizer.size, likely)
                    for token, several in zip(tokens.tolist(), most, strict=True):
                        found.likely[token] = several

    @property
    def room(self) -> int | None:
        """Tokens of text that are read at once; `None` for as many as there are."""
        cut = self._cut(self.window)
        return None if self.endless else cut.length - cut.begin - cut.end

    def _kind(self) -> Kind:
        """The kind of score that is asked for, if the objective has it."""
        found = kinds_of(self.objective, self.tokenizer)
        if not found:
            raise ConfigError(
                f"objective = {self.objective.name!r} defines no score of a given text: neither from left to "
                "right nor with places hidden. Its texts cannot be compared."
            )
        wanted = self.settings.kind
        if wanted == "auto":
            return found[0]
        if wanted not in found:
            raise ConfigError(
                f"kind = {wanted!r}: objective = {self.objective.name!r} does not define this score. It has: "
                f"{', '.join(found)}."
            )
        return wanted

    # ---- questions

    def _questions(self, texts: Sequence[Text]) -> Iterator[_Question]:
        longest = max((len(text.ids) for text in texts), default=0) + 2
        cut = self._cut(max(longest, self.window) if self.endless else self.window)
        for owner, text in enumerate(texts):
            for piece in _pieces(text, cut, self.tokenizer):
                yield from self._ask(owner, piece, cut)

    def _cut(self, window: int) -> Cut:
        cut = self.objective.cut(window)
        cut = replace(cut, stride=0, end=cut.end and self.kind != "exact")
        return cut if self.kind == "exact" else self._narrowed(cut)

    def _narrowed(self, cut: Cut) -> Cut:
        """Pieces so short that with one place hidden they fit a row."""
        piece = Piece(ids=np.full(cut.length, self.tokenizer.mask), document=0)
        example = self.objective.hide(piece, _one(0), _one(0), self.tokenizer)
        assert example is not None
        excess = max(0, _longest(example) - self.window)
        return Cut(length=max(1, cut.length - excess), begin=cut.begin, end=cut.end)

    def _ask(self, owner: int, piece: Piece, cut: Cut) -> Iterator[_Question]:
        if self.kind == "exact":
            example = self.objective.whole(piece, self.tokenizer)
            assert example is not None
            asked = sum(len(ask.at) for ask in example.asks if ask.head == "tokens" and not ask.negative)
            expected = len(piece) - max(piece.ask_from, cut.overlap)
            assert asked == expected, f"{asked} tokens were asked where the piece has {expected}"
            places = np.arange(len(piece) - expected, len(piece))
            yield _Question(owner, example, 1.0, places + piece.start - cut.begin)
            return
        first = int(cut.begin and piece.start == 0)
        last = len(piece) - int(cut.end and piece.ids[-1] == self.tokenizer.end)
        scored = np.arange(max(first, piece.ask_from), last)
        hiding = self._random(owner, piece, scored) if self.kind == "bound" else self._singly(piece, scored)
        for hidden, wanted, factor in hiding:
            hiding_some = self.objective.hide(piece, hidden, wanted, self.tokenizer)
            assert hiding_some is not None
            yield _Question(owner, hiding_some, factor, wanted + piece.start - cut.begin)

    def _singly(self, piece: Piece, scored: Ids) -> Iterator[tuple[Ids, Ids, float]]:
        """Each place once; with `words`, the places after it up to the next word hidden too."""
        ends = np.append(np.flatnonzero(piece.columns["word_start"]), scored[-1] + 1 if len(scored) else 0)
        for place in scored.tolist():
            end = place + 1
            if self.settings.words:
                end = min(int(ends[np.searchsorted(ends, place, side="right")]), int(scored[-1]) + 1)
            yield np.arange(place, end), _one(place), 1.0

    def _random(self, owner: int, piece: Piece, scored: Ids) -> Iterator[tuple[Ids, Ids, float]]:
        """Of n places k, n/k times: k goes evenly through 1 … n, so that the mean varies little."""
        n, draws = len(scored), self.settings.draws
        rng = np.random.default_rng((owner, piece.start))
        for draw in range(draws if n else 0):
            k = min(n, 1 + int((draw + rng.random()) / draws * n))
            hidden = np.sort(rng.choice(scored, size=k, replace=False))
            yield hidden, hidden, n / k / draws

    # ---- answers

    def _batches(self, questions: list[_Question]) -> Iterator[list[_Question]]:
        """Groups of like length, each about as large as the settings' rows of a full window."""
        waiting = sorted(questions, key=lambda question: _longest(question.example))
        while waiting:
            places = _longest(waiting[-1].example)
            take = max(1, self.settings.batch * self.window // places)
            yield waiting[-take:]
            del waiting[-take:]

    def _answers(self, batch: Batch) -> NDArray[np.float64]:
        """Nats of each row (B,)."""
        hidden, _ = self.network.encode(batch.main, batch.source)
        rows, places = batch.main.shape
        flat = hidden.flatten(0, 1)
        sums = torch.zeros(rows, dtype=torch.float64)
        for asked in batch.asks:
            if asked.head == "tokens" and not asked.negative:
                nats = surprise(self.network, flat, asked).cpu()
                weight = asked.weight.double().cpu()
                nats = torch.where(weight > 0, nats * weight, 0.0)
                sums.index_add_(0, (asked.at // places).cpu(), nats)
        answers: NDArray[np.float64] = sums.numpy()
        return answers


def _most_likely(logits: torch.Tensor, size: int, count: int) -> list[list[tuple[int, float]]]:
    """The most probable tokens at each place (k, outputs), and their log q."""
    said = logits.cpu().double().log_softmax(-1)[:, :size].topk(min(count, size), sorted=True)
    pairs = zip(said.indices.tolist(), said.values.tolist(), strict=True)
    return [list(zip(tokens, chances, strict=True)) for tokens, chances in pairs]


def _pieces(text: Text, cut: Cut, tokenizer: Tokenizer) -> Iterator[Piece]:
    """The text as an objective wants it, by the formula of `Cut`: of pieces with nothing to score, none."""
    before, after = [tokenizer.begin] * cut.begin, [tokenizer.end] * cut.end
    stream = np.concatenate([before, text.ids, after]).astype(np.int64)
    columns = {
        "word_start": _framed(text.word_start, cut, True),
        "sentence_start": _framed(text.sentence_start, cut, False),
    }
    start = text.start + cut.begin
    for asked in range(cut.overlap, len(stream), cut.step):
        first, last = max(0, asked + cut.step - cut.length), min(asked + cut.step, len(stream))
        if last > start:
            yield Piece(
                ids=stream[first:last],
                document=0,
                start=first,
                ask_from=max(asked, start) - first,
                columns={name: column[first:last] for name, column in columns.items()},
            )


def _framed(column: NDArray[np.bool_], cut: Cut, value: bool) -> NDArray[np.bool_]:
    return np.concatenate([[value] * cut.begin, column, [value] * cut.end]).astype(np.bool_)


def _longest(example: Example) -> int:
    return max(len(example.main), 0 if example.source is None else len(example.source))


def _one(place: int) -> Ids:
    return np.array([place], dtype=np.int64)

"""Scores of given texts: exact against a loop over tokens, pseudo against a loop over masks, a bound against
all subsets; and independent of the company they are scored in."""

import math
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from telos.batch import Batch, Example, Side
from telos.data.packing import collate
from telos.errors import ConfigError
from telos.evaluate.texts import Judge, Text, TextScores, TextSettings, text_of
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.objectives.diffusion import Diffusion
from telos.objectives.masked import Masked
from telos.objectives.next_sentence import NextSentence
from telos.objectives.span import Span
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from tests.evaluate.world import MODELS, TEXTS, network_of, pair_tokenizer
from tests.generate.oracle import next_logits

WINDOW = 64
SHORT = ["The cat sat on the mat.", "a", "春眠不觉晓，", "The dog", "one two three four"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return pair_tokenizer()


def judge(tokenizer: Tokenizer, objective: Objective, model: str = "rotary", **settings: Any) -> Judge:
    description = MODELS[model]
    network = network_of(description, tokenizer, WINDOW).double()
    return Judge(
        network,
        objective,
        tokenizer,
        TextSettings(**settings),
        window=WINDOW,
        gives=description.gives,
    )


def scores(judge: Judge, texts: list[str]) -> list[float]:
    return list(judge.score([text_of(text, judge.tokenizer) for text in texts]).nats)


def left_to_right(network: Network, tokenizer: Tokenizer, text: str, start: int = 0) -> float:
    stream = [tokenizer.begin, *tokenizer.encode(text).tolist()]
    nats = [
        -float(next_logits(network, stream[:t]).log_softmax(-1)[stream[t]])
        for t in range(1 + start, len(stream))
    ]
    return math.fsum(nats)


def hidden_nats(
    network: Network, tokenizer: Tokenizer, ids: Any, hidden: list[int], *, framed: tuple[int, int]
) -> Tensor:
    """−log q of each hidden token when exactly those are hidden, alone in a batch, between two tokens."""
    row = np.concatenate([framed[:1], ids, framed[1:]])
    at = np.array(hidden) + 1
    row[at] = tokenizer.mask
    batch = collate([[Example(main=Side.of(row, causal=False), asks=(), pattern="full")]])
    with network.at_rest():
        state, _ = network.encode(batch.main)
        logits = network.logits(state[0, at]).double()
    return -logits.log_softmax(-1)[torch.arange(len(hidden)), torch.from_numpy(ids[hidden])]


def masked_nats(network: Network, tokenizer: Tokenizer, ids: Any, hidden: list[int]) -> Tensor:
    """As `masked` frames a text."""
    return hidden_nats(network, tokenizer, ids, hidden, framed=(tokenizer.begin, tokenizer.separate))


@pytest.mark.parametrize("model", ["rotary", "lstm"])
def test_exact_is_a_loop_over_tokens_for_every_batch_size(tokenizer: Tokenizer, model: str) -> None:
    """Traps 30, 31: neither the batch nor its padding nor its order makes a difference."""
    found = [scores(judge(tokenizer, Causal(), model, batch=batch), SHORT) for batch in (1, 2, 16)]
    network = judge(tokenizer, Causal(), model).network
    expected = [left_to_right(network, tokenizer, text) for text in SHORT]
    for each in found:
        assert each == pytest.approx(expected, rel=1e-9)
    alone = [scores(judge(tokenizer, Causal(), model), [text])[0] for text in SHORT]
    assert alone == pytest.approx(expected, rel=1e-9)


def test_pseudo_is_a_loop_over_masks_for_every_batch_size(tokenizer: Tokenizer) -> None:
    """Traps 30, 31, as for exact; each token is asked once, with itself hidden and all else seen."""
    network = judge(tokenizer, Masked()).network
    expected = []
    for text in SHORT:
        ids = tokenizer.encode(text)
        expected.append(
            math.fsum(float(masked_nats(network, tokenizer, ids, [t])[0]) for t in range(len(ids)))
        )
    for batch in (1, 3, 16):
        assert scores(judge(tokenizer, Masked(), batch=batch), SHORT) == pytest.approx(expected, rel=1e-9)


def test_the_rest_of_a_word_is_hidden_with_its_token(tokenizer: Tokenizer) -> None:
    """Kauf and Ivanova (2023): with `words`, what follows a token in its word does not give it away."""
    text = "one seventeen, two"
    encoded = tokenizer.encode_words(text)
    starts = [*np.flatnonzero(encoded.word_start).tolist(), len(encoded.ids)]
    assert max(b - a for a, b in pairwise(starts)) > 2, "a word of several tokens"
    made = judge(tokenizer, Masked(), words=True)
    expected = 0.0
    for begin, end in pairwise(starts):
        for place in range(begin, end):
            hidden = masked_nats(made.network, tokenizer, encoded.ids, list(range(place, end)))
            expected += float(hidden[0])
    assert scores(made, [text]) == pytest.approx([expected], rel=1e-9)
    assert scores(judge(tokenizer, Masked()), [text]) != pytest.approx([expected], rel=1e-5)


def test_in_chinese_each_character_is_a_word(tokenizer: Tokenizer) -> None:
    """Where a character is one token, `words` changes nothing; where it is several bytes, it does."""
    text = "春眠"
    ids = tokenizer.encode(text)
    plain, words = (scores(judge(tokenizer, Masked(), words=w), [text])[0] for w in (False, True))
    assert (plain == pytest.approx(words)) == (len(ids) == len(text))


def test_a_bound_is_the_mean_over_all_sets_of_hidden_places(tokenizer: Tokenizer) -> None:
    text = "one two three"
    ids = tokenizer.encode(text)
    n = len(ids)
    assert 3 <= n <= 7
    made = judge(tokenizer, Diffusion(), draws=1500)
    ends = tokenizer.begin, tokenizer.end
    assert made.kind == "bound"
    exact = 0.0
    for k in range(1, n + 1):
        sets = list(combinations(range(n), k))
        total = math.fsum(
            float(hidden_nats(made.network, tokenizer, ids, list(hidden), framed=ends).sum())
            for hidden in sets
        )
        exact += total / len(sets) / k  # n/k of the sum, each k in 1 … n with share 1/n
    assert scores(made, [text]) == pytest.approx([exact], rel=0.02)
    assert scores(made, [text]) == scores(made, [text]), "the draws are a function of the text's place"


def test_exactly_one_begin_token_goes_in_and_none_is_asked(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 35: one begin token where training put one, none where it put none; and an end token only where
    what is read ends with one."""
    marked = train_tokenizer(TokenizerSettings(size=310), iter(TEXTS * 3), Span(marks=3).specials())
    for objective, vocabulary, begins, ends in (
        (Causal(), tokenizer, 1, 0),
        (Masked(), tokenizer, 1, 0),
        (Span(form="prefix", marks=3), marked, 0, 1),
    ):
        made = judge(vocabulary, objective)
        batches: list[Batch] = []
        answers = Judge._answers

        def recorded(self: Judge, batch: Batch, seen: list[Batch] = batches, do: Any = answers) -> Any:
            seen.append(batch)
            return do(self, batch)

        monkeypatch.setattr(Judge, "_answers", recorded)
        scores(made, ["The cat sat on the mat."])
        monkeypatch.undo()
        for batch in batches:
            real = batch.main.segment >= 0
            assert (((batch.main.ids == vocabulary.begin) & real).sum(1) == begins).all()
            assert (((batch.main.ids == vocabulary.end) & real).sum(1) == ends).all()
            targets = [int(t) for ask in batch.asks for t in ask.target[ask.weight > 0]]
            assert vocabulary.begin not in targets and vocabulary.end not in targets


@pytest.mark.parametrize(
    ("before", "text"), [("The cat", " sat on"), ("春眠", "不觉晓"), ("one two", " three"), ("def f(x)", ":")]
)
def test_a_continuation_costs_what_the_whole_costs_more(tokenizer: Tokenizer, before: str, text: str) -> None:
    """Trap 35: the joint text is tokenised once; what follows is scored from its first token on."""
    made = judge(tokenizer, Causal())
    after = text_of(text, tokenizer, before)
    ids = tokenizer.encode(before + text)
    assert after.ids.tolist() == ids.tolist()
    assert tokenizer.decode(ids[: after.start]) == before or after.start < len(tokenizer.encode(before))
    (found,) = made.score([after]).nats
    assert found == pytest.approx(
        left_to_right(made.network, tokenizer, before + text, after.start), rel=1e-9
    )


def test_long_texts_are_scored_whole_by_recurrent_models_and_in_windows_by_others(
    tokenizer: Tokenizer,
) -> None:
    text = TEXTS[5] * 2
    ids = tokenizer.encode(text)
    assert len(ids) > WINDOW
    carried = judge(tokenizer, Causal(), "gru")
    assert scores(carried, [text]) == pytest.approx(
        [left_to_right(carried.network, tokenizer, text)], rel=1e-9
    )
    for objective in (Causal(), Masked(), Diffusion()):
        made = judge(tokenizer, objective, draws=3)
        table = made.score([text_of(text, tokenizer)])
        assert table.tokens == (len(ids),) and math.isfinite(table.nats[0])
    windows = judge(tokenizer, Masked())
    room = WINDOW - 2
    cut = [ids[i : i + room] for i in range(0, len(ids), room)]
    expected = math.fsum(
        float(masked_nats(windows.network, tokenizer, part, [t])[0]) for part in cut for t in range(len(part))
    )
    assert scores(windows, [text]) == pytest.approx([expected], rel=1e-9)


def kinds() -> Iterator[tuple[Objective, str, str]]:
    yield Causal(), "pseudo", "does not define this score. It has: exact"
    yield Masked(), "exact", "does not define this score. It has: pseudo"
    yield Masked(), "bound", "It has: pseudo"
    yield NextSentence(), "auto", "defines no score of a given text"


@pytest.mark.parametrize(("objective", "kind", "message"), list(kinds()))
def test_a_score_that_is_not_defined_is_refused(
    tokenizer: Tokenizer, objective: Objective, kind: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        judge(tokenizer, objective, kind=kind)


def test_the_table_says_of_what_kind_it_is(tokenizer: Tokenizer) -> None:
    """Trap 34: a pseudo-likelihood is never given out as a likelihood."""
    for objective, kind in ((Causal(), "exact"), (Masked(), "pseudo"), (Diffusion(), "bound")):
        made = judge(tokenizer, objective)
        table = made.score([text_of("one two", tokenizer)]).table()
        assert table["kind"] == kind == made.kind
        assert table["loss"] == pytest.approx(table["nats"] / table["tokens"])
    diffusion = judge(tokenizer, Diffusion(), kind="pseudo")
    assert diffusion.kind == "pseudo"
    assert TextScores(kind="exact", nats=(), tokens=()).table()["loss"] is None


def test_nothing_costs_nothing(tokenizer: Tokenizer) -> None:
    for objective in (Causal(), Masked(), Diffusion()):
        assert scores(judge(tokenizer, objective), ["", "one"])[0] == 0.0
    empty = Text(*(np.zeros(0, kind) for kind in (np.int64, np.bool_, np.bool_)))
    assert judge(tokenizer, Causal()).score([empty]).tokens == (0,)

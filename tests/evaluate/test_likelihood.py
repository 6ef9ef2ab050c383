"""Held-out likelihood: exact, whole, and the same whatever the batch."""

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from telos.batch import Ask, Asked, Cut, Example, Read, Side
from telos.data.corpus import Corpus
from telos.data.prepare import prepare
from telos.data.settings import DataSettings
from telos.data.shards import Shards
from telos.errors import ConfigError, DataError
from telos.evaluate import likelihood
from telos.evaluate.likelihood import EvaluateSettings, Likelihood, score
from telos.models._base import Network
from telos.models.decoder import Decoder
from telos.models.encoder_decoder import EncoderDecoder
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from tests.evaluate.world import MODELS, TEXTS, byte_tokenizer, network_of, pair_tokenizer, shards_of
from tests.generate.oracle import next_logits

WINDOW = 12


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return pair_tokenizer()


@pytest.fixture(scope="module")
def shards(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return shards_of(tmp_path_factory.mktemp("shards"), tokenizer)


def naive(
    network: Network, shards: Shards, tokenizer: Tokenizer, stride: int, carried: bool
) -> tuple[float, int]:
    """−Σ log q, one token at a time from its own context, without batches; and how many tokens that was."""
    nats = []
    for document in range(len(shards)):
        stream = [tokenizer.begin, *shards.document(document).tolist(), tokenizer.end]
        for place in range(1, len(stream)):
            piece_end = 1 + ((place - 1) // stride + 1) * stride
            start = 0 if carried else max(0, piece_end - (WINDOW + 1))
            said = next_logits(network, stream[start:place]).log_softmax(-1)
            nats.append(-float(said[stream[place]]))
    return math.fsum(nats), len(nats)


@pytest.mark.parametrize(
    ("name", "stride"), [("rotary", 0), ("learned", 5), ("gru", 0), ("gru", 12), ("lstm", 0), ("grouped", 1)]
)
def test_equals_a_loop_over_tokens_for_every_batch_size(
    shards: Shards, tokenizer: Tokenizer, name: str, stride: int
) -> None:
    """Trap 30: one sum divided once, so that neither batches nor padding nor packing change a figure."""
    model = MODELS[name]
    network = network_of(model, tokenizer, WINDOW).double()
    nats, tokens = naive(
        network, shards, tokenizer, stride or WINDOW, "carries" in model.gives and not stride
    )
    for batch in (1, 3, 8, 16):
        settings = EvaluateSettings(batch=batch, stride=stride)
        for gives in {model.gives, model.gives - {"packed"}}:
            found = score(network, Causal(), shards, tokenizer, settings, window=WINDOW, gives=gives)
            assert found.tokens == tokens
            assert found.nats == pytest.approx(nats, rel=1e-9)
            assert found.perplexity == pytest.approx(math.exp(nats / tokens), rel=1e-9)
            assert found.terms == {"tokens": pytest.approx(nats / tokens, rel=1e-9)}


class Backwards(Objective):
    """A piece is read from its end to its beginning, and said from its beginning to its end: what is asked
    is every token once, what is read tells much of it."""

    def cut(self, window: int) -> Cut:
        return Cut(length=window, end=True)

    def requires(self) -> frozenset[str]:
        return frozenset({"causal", "source"})

    def example(self, read: Read, index: int, rng: np.random.Generator, tokenizer: Tokenizer) -> Example:
        piece = read[index]
        at = np.arange(piece.ask_from, len(piece))
        return Example(
            main=Side.of(np.append(tokenizer.begin, piece.ids[:-1]), causal=True),
            source=Side.of(piece.ids[::-1], causal=False),
            asks=(Ask(head="tokens", at=at, target=piece.ids[at], weight=np.ones(len(at), np.float32)),),
            unit=piece.document,
            sample=index,
        )


def naive_with_a_source(network: Network, corpus: Corpus, index: int) -> tuple[float, int]:
    """As `naive`, for `Backwards` on one piece."""
    piece = corpus[index]
    ids = piece.ids.tolist()
    nats = []
    for place in range(piece.ask_from, len(ids)):
        context = [corpus.tokenizer.begin, *ids[:place]]
        nats.append(-float(next_logits(network, context, ids[::-1]).log_softmax(-1)[ids[place]]))
    return math.fsum(nats), len(nats)


@pytest.mark.parametrize("stride", [0, 5])
def test_with_sources_the_sum_is_that_of_a_loop_over_tokens(
    shards: Shards, tokenizer: Tokenizer, stride: int
) -> None:
    """Trap 30: whatever the batch, packed or one by one; of a part of the split too, and its bytes."""
    model = EncoderDecoder(width=16, depth=1, heads=2, relative={"buckets": 8})
    network = network_of(model, tokenizer, WINDOW).double()
    corpus = Corpus(shards, Cut(length=WINDOW, end=True, stride=stride), tokenizer)
    singly = [naive_with_a_source(network, corpus, index) for index in range(len(corpus))]
    nats, tokens = math.fsum(one for one, _ in singly), sum(count for _, count in singly)
    for batch in (1, 16):
        settings = EvaluateSettings(batch=batch, stride=stride)
        for gives in (model.gives, model.gives - {"packed"}):
            found = score(network, Backwards(), shards, tokenizer, settings, window=WINDOW, gives=gives)
            assert (found.tokens, found.truncated) == (tokens, False)
            assert found.nats == pytest.approx(nats, rel=1e-9)
            assert found.bytes == sum(len(text.encode()) for text in TEXTS)
            part = score(
                network, Backwards(), shards, tokenizer, settings, window=WINDOW, gives=gives, limit=20
            )
            assert part.truncated and 20 <= part.tokens < tokens and 0 < part.bytes < found.bytes
    order = np.random.default_rng(0).permutation(len(shards)).tolist()
    chosen = [singly[piece] for document in order for piece in corpus.pieces_of(document)]
    sums = np.cumsum(np.array(chosen), axis=0)
    assert part.nats == pytest.approx(sums[sums[:, 1].tolist().index(part.tokens), 0])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("stride", range(1, WINDOW + 1))
def test_every_token_is_scored_exactly_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int, packed: bool
) -> None:
    """Trap 30: overlapping windows share context and never targets."""
    tokenizer = byte_tokenizer()
    letters = "".join(map(chr, range(32, 127)))
    texts = [letters[:1], letters[1:30], "", letters[30:42], letters[42:]]
    shards = shards_of(tmp_path, tokenizer, texts)
    asked_of: Counter[int] = Counter()

    def record(network: Network, flat: Tensor, asked: Asked) -> Tensor:
        asked_of.update(asked.target[asked.weight > 0].tolist())
        return torch.zeros(len(asked.at), dtype=torch.float64)

    monkeypatch.setattr(likelihood, "surprise", record)
    model = MODELS["rotary"]
    gives = model.gives if packed else frozenset()
    network = network_of(model, tokenizer, WINDOW)
    score(
        network,
        Causal(),
        shards,
        tokenizer,
        EvaluateSettings(stride=stride, batch=2),
        window=WINDOW,
        gives=gives,
    )
    expected = Counter(token for text in texts for token in tokenizer.encode(text).tolist())
    assert asked_of == expected + Counter({tokenizer.end: len(texts)})


def test_evaluation_is_without_dropout_and_restores_every_mode(shards: Shards, tokenizer: Tokenizer) -> None:
    """Trap 22: evaluations are noiseless, and training is as noisy after them as before."""
    network = network_of(Decoder(width=32, depth=2, heads=4, dropout=0.5), tokenizer, WINDOW).train()
    frozen = network.get_submodule("blocks.1").eval()
    before = {name: module.training for name, module in network.named_modules()}
    assert not torch.equal(*(_train_forward(network) for _ in range(2)))
    first, second = (score(network, Causal(), shards, tokenizer, window=WINDOW).nats for _ in range(2))
    assert first == second
    assert {
        name: module.training for name, module in network.named_modules()
    } == before and not frozen.training
    assert not torch.equal(*(_train_forward(network) for _ in range(2)))
    assert all(parameter.grad is None for parameter in network.parameters())


def _train_forward(network: Network) -> Tensor:
    from telos.batch import Rows

    ids = torch.arange(8).unsqueeze(0)
    zero = torch.zeros_like(ids)
    rows = Rows(ids=ids, positions=ids, segment=zero, order=ids, seen=zero == 0)
    return network.encode(rows)[0]


def test_modes_are_restored_after_an_error(tokenizer: Tokenizer, shards: Shards) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW).train()
    with pytest.raises(ZeroDivisionError), network.at_rest():
        raise ZeroDivisionError
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_an_empty_split_is_an_error_and_never_zero(tmp_path: Path, texts: list[str]) -> None:
    """Trap 31: nothing scored must not look perfect."""
    tokenizer = byte_tokenizer()
    shards = shards_of(tmp_path, tokenizer, texts)
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    with pytest.raises(DataError, match="nothing to score"):
        score(network, Causal(end=False), shards, tokenizer, window=WINDOW)


def test_two_evaluations_are_identical(shards: Shards, tokenizer: Tokenizer) -> None:
    """Trap 31: the same checkpoint, the same figures, to the bit."""
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    first, second = (score(network, Causal(), shards, tokenizer, window=WINDOW, limit=90) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("end", [True, False])
def test_bits_per_byte_of_a_uniform_model_in_closed_form(tmp_path: Path, end: bool) -> None:
    """Trap 34: both sides of the fraction are of the same text: log₂(size) · tokens / bytes."""
    size_of = {tokenizer: tokenizer.size for tokenizer in (byte_tokenizer(), pair_tokenizer())}
    utf8 = sum(len(text.encode()) for text in TEXTS)
    for number, (tokenizer, size) in enumerate(size_of.items()):
        shards = shards_of(tmp_path / str(number), tokenizer)
        network = network_of(MODELS["rotary"], tokenizer, WINDOW)
        nn.init.zeros_(network.embedding.weight)
        found = score(network, Causal(end=end), shards, tokenizer, window=WINDOW)
        tokens = sum(len(tokenizer.encode(text)) for text in TEXTS) + end * len(TEXTS)
        assert (found.tokens, found.bytes, found.documents) == (tokens, utf8, len(TEXTS))
        assert found.bits_per_byte == pytest.approx(tokens * math.log2(size) / utf8, rel=1e-6)
        assert found.perplexity == pytest.approx(size, rel=1e-5)
        assert any("end token" in note for note in found.notes) == end


@pytest.mark.parametrize("limit", [1, 13, 40, 100])
def test_a_limited_score_counts_the_bytes_of_what_it_scored(tmp_path: Path, limit: int) -> None:
    """Trap 34: with a byte vocabulary, the bytes scored are the tokens scored, end tokens aside."""
    tokenizer = byte_tokenizer()
    shards = shards_of(tmp_path, tokenizer)
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    found = score(network, Causal(end=False), shards, tokenizer, window=WINDOW, limit=limit)
    assert found.truncated
    assert limit <= found.tokens < limit + WINDOW
    assert found.bytes == found.tokens


def test_a_limit_beyond_the_split_scores_all_of_it(shards: Shards, tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    whole = score(network, Causal(), shards, tokenizer, window=WINDOW)
    limited = score(network, Causal(), shards, tokenizer, window=WINDOW, limit=10**9)
    assert not whole.truncated and not limited.truncated
    assert limited.nats == pytest.approx(whole.nats, rel=1e-12) and limited.bytes == whole.bytes


def test_a_cut_document_of_a_lossy_vocabulary_has_no_bits_per_byte(tmp_path: Path) -> None:
    settings = TokenizerSettings(kind="word", size=0)
    tokenizer = train_tokenizer(settings, iter(["one two three four five six"]))
    shards = shards_of(tmp_path, tokenizer, ["one two three four five six"] * 2)
    network = network_of(MODELS["rotary"], tokenizer, 2)
    found = score(network, Causal(), shards, tokenizer, window=2, limit=2)
    assert found.truncated and found.bits_per_byte is None and found.loss > 0
    assert any("lossy" in note for note in found.notes)


@pytest.mark.filterwarnings("ignore:.* of the tokens of the")  # the warning of preparation
def test_what_a_lossy_vocabulary_loses_is_said_beside_the_figures(tmp_path: Path) -> None:
    texts = [f"床前明月光{i}\n疑是地上霜{i}" for i in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    settings = TokenizerSettings(kind="word", size=0)
    prepared = prepare(DataSettings(path=tmp_path / "a.jsonl"), settings, tmp_path / "root")
    network = network_of(MODELS["rotary"], prepared.tokenizer, WINDOW)
    shards = prepared.shards("test")
    found = score(network, Causal(), shards, prepared.tokenizer, window=WINDOW)
    lost = 1 - len(shards) / shards.header.bytes  # all but one line end of each text
    assert any(note.startswith(f"{lost:.1%} of the bytes of this split") for note in found.notes)
    assert any("do not compare with those of other vocabularies" in note for note in found.notes)


@pytest.mark.parametrize("name", ["rotary", "gru"])
def test_each_document_begins_with_exactly_one_begin_token(
    shards: Shards, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Trap 35: one begin token per document goes in, as in training, and none is asked."""
    network = network_of(MODELS[name], tokenizer, WINDOW)
    given: Counter[int] = Counter()
    targets: Counter[int] = Counter()
    encode, surprise = network.encode, likelihood.surprise

    def recorded(main, source=None, state=None, continues=None):  # type: ignore[no-untyped-def]
        given.update(main.ids[main.segment >= 0].tolist())
        assert (main.positions[main.ids == tokenizer.begin] == 0).all()
        return encode(main, source, state, continues)

    def asked_of(network: Network, flat: Tensor, asked: Asked) -> Tensor:
        targets.update(asked.target[asked.weight > 0].tolist())
        return surprise(network, flat, asked)

    monkeypatch.setattr(network, "encode", recorded)
    monkeypatch.setattr(likelihood, "surprise", asked_of)
    score(network, Causal(), shards, tokenizer, window=WINDOW, gives=MODELS[name].gives)
    assert given[tokenizer.begin] == len(TEXTS)
    assert targets[tokenizer.begin] == 0 and targets[tokenizer.end] == len(TEXTS)


@pytest.mark.parametrize("prefix", ["The cat", "春眠不", "def f(x):", "one two three "])
def test_a_continuation_costs_what_the_joint_text_costs_more(tmp_path: Path, prefix: str) -> None:
    """Trap 35: what a text costs more than its beginning is what the rest costs after it."""
    tokenizer = byte_tokenizer()
    network = network_of(MODELS["rotary"], tokenizer, 64).double()
    whole = next(text for text in TEXTS if text.startswith(prefix))[:40]
    nats = []
    for number, text in enumerate((whole, prefix)):
        shards = shards_of(tmp_path / str(number), tokenizer, [text])
        nats.append(score(network, Causal(end=False), shards, tokenizer, window=64).nats if text else 0.0)
    stream = [tokenizer.begin, *tokenizer.encode(whole).tolist()]
    start = 1 + len(tokenizer.encode(prefix))
    rest = [
        -float(next_logits(network, stream[:t]).log_softmax(-1)[stream[t]]) for t in range(start, len(stream))
    ]
    assert nats[0] - nats[1] == pytest.approx(math.fsum(rest), rel=1e-9)


def test_chunks_of_logits_change_nothing(
    shards: Shards, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW).double()
    whole = score(network, Causal(), shards, tokenizer, window=WINDOW)
    monkeypatch.setattr(likelihood, "_LOGITS", 7 * tokenizer.size)
    assert score(network, Causal(), shards, tokenizer, window=WINDOW).nats == pytest.approx(
        whole.nats, rel=1e-12
    )


def test_more_context_is_not_ignored(shards: Shards, tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    coarse, fine = (
        score(network, Causal(), shards, tokenizer, EvaluateSettings(stride=s), window=WINDOW) for s in (0, 3)
    )
    assert (coarse.window, coarse.stride, fine.window, fine.stride) == (WINDOW, WINDOW, WINDOW, 3)
    assert coarse.nats != fine.nats and coarse.tokens == fine.tokens


def test_recurrent_state_is_carried_unless_a_stride_is_set(shards: Shards, tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["gru"], tokenizer, WINDOW)
    gives = MODELS["gru"].gives
    carried = score(network, Causal(), shards, tokenizer, window=WINDOW, gives=gives)
    fresh = score(
        network, Causal(), shards, tokenizer, EvaluateSettings(stride=WINDOW), window=WINDOW, gives=gives
    )
    longer = score(
        network, Causal(), shards, tokenizer, EvaluateSettings(window=500), window=WINDOW, gives=gives
    )
    assert carried.carried and not fresh.carried and carried.nats != fresh.nats
    assert longer.nats == pytest.approx(carried.nats, rel=1e-5)


def test_half_precision_is_close(shards: Shards, tokenizer: Tokenizer) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    full, half = (
        score(network, Causal(), shards, tokenizer, window=WINDOW, precision=p)
        for p in ("float32", "bfloat16")
    )
    assert half.loss == pytest.approx(full.loss, rel=0.02) and half.loss != full.loss


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EvaluateSettings(window=WINDOW + 1), "evaluate.window = 13.*at most 12"),
        (EvaluateSettings(stride=WINDOW + 1), "evaluate.stride = 13.*at most the window, 12"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    shards: Shards, tokenizer: Tokenizer, settings: EvaluateSettings, message: str
) -> None:
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    with pytest.raises(ConfigError, match=message):
        score(network, Causal(), shards, tokenizer, settings, window=WINDOW)


def test_the_table_is_json_and_holds_every_figure() -> None:
    found = Likelihood(nats=500.0, tokens=250, bytes=1000, documents=3, window=8, stride=4, notes=("a",))
    table = json.loads(json.dumps(found.table(), allow_nan=False))
    assert table["loss"] == 2.0
    assert table["perplexity"] == pytest.approx(7.389, abs=1e-3)
    assert table["bits_per_byte"] == pytest.approx(0.7213, abs=1e-4)
    assert {
        "nats",
        "tokens",
        "bytes",
        "documents",
        "window",
        "stride",
        "kind",
        "truncated",
        "notes",
    } <= table.keys()
    assert dataclasses.replace(found, kind="pseudo").table()["bits_per_byte"] is None
    broken = dataclasses.replace(found, nats=math.inf, terms={"tokens": math.nan}).table()
    assert broken["loss"] is None and broken["perplexity"] is None and broken["terms"] == {"tokens": None}


def test_an_exact_objective_that_leaves_tokens_out_is_caught(
    shards: Shards, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Causal.example

    def forgetful(self, read, index, rng, tokenizer):  # type: ignore[no-untyped-def]
        made = example(self, read, index, rng, tokenizer)
        ask = made.asks[0]
        kept = dataclasses.replace(ask, at=ask.at[1:], target=ask.target[1:], weight=ask.weight[1:])
        return dataclasses.replace(made, asks=(kept,))

    monkeypatch.setattr(Causal, "example", forgetful)
    network = network_of(MODELS["rotary"], tokenizer, WINDOW)
    with pytest.raises(AssertionError, match="tokens were asked where the split has"):
        score(network, Causal(), shards, tokenizer, window=WINDOW)

"""Minimal pairs, their figures by phenomenon, and how sure they are."""

import json
import lzma
import math
from pathlib import Path

import pytest

from telos.errors import DataError
from telos.evaluate._intervals import _student, difference, over_seeds, share
from telos.evaluate.pairs import Pair, judge_pairs, read_pairs
from telos.evaluate.texts import Judge, TextScores, TextSettings
from telos.models._base import Network
from telos.objectives._base import Objective
from telos.objectives.causal import Causal
from telos.objectives.masked import Masked
from telos.objectives.span import Span
from telos.tokenizer import Tokenizer
from tests.evaluate.world import MODELS, network_of, pair_tokenizer

WINDOW = 32
PAIRS = [
    Pair("The cat sat.", "The cat sit.", "agreement", "a"),
    Pair("The dogs sit on it.", "The dogs sits on it.", "agreement", "b"),
    Pair("one two three", "one three two", "order", "c"),
    Pair("春眠不觉晓", "春眠觉不晓", "order", "d"),
    Pair("same", "same", "order", "e"),
]


def judge(objective: Objective, model: str, batch: int = 32, words: bool = False) -> Judge:
    description, tokenizer = MODELS[model], pair_tokenizer()
    network: Network = network_of(description, tokenizer, WINDOW)
    settings = TextSettings(batch=batch, words=words)
    return Judge(network, objective, tokenizer, settings, window=WINDOW, gives=description.gives)


def test_scores_are_compared_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: of five pairs two are right, one is a tie, which counts half."""
    nats = (1.0, 2.0, 3.0, 2.5, 1.0, 1.1, 7.0, 6.0, 4.0, 4.0)
    monkeypatch.setattr(Judge, "score", lambda *_: TextScores(kind="pseudo", nats=nats, tokens=(3,) * 10))
    found = judge_pairs(judge(Masked(), "rotary"), PAIRS)
    assert found.accuracy.value == 0.5 and found.kind == "pseudo"
    assert {name: interval.value for name, interval in found.phenomena.items()} == {
        "agreement": 0.5,
        "order": 0.5,
    }
    assert {n: i.value for n, i in found.paradigms.items()} == {"a": 1, "b": 0, "c": 1, "d": 0, "e": 0.5}
    table = json.loads(json.dumps(found.table(), allow_nan=False))
    assert table["pairs"] == 5 and table["kind"] == "pseudo" and table["words"] is False
    assert table["phenomena"]["order"]["low"] < 0.5 < table["phenomena"]["order"]["high"]


@pytest.mark.parametrize(
    ("objective", "model"), [(Causal(), "rotary"), (Causal(), "gru"), (Masked(), "learned")]
)
def test_a_pair_comes_out_the_same_in_any_company(objective: Objective, model: str) -> None:
    """Traps 30, 31: batch, padding and order make no difference to any score, nor so to any pair."""
    whole = judge_pairs(judge(objective, model), PAIRS)
    assert judge_pairs(judge(objective, model, batch=1), PAIRS) == whole
    assert judge_pairs(judge(objective, model), PAIRS[::-1]).paradigms == {
        name: whole.paradigms[name] for name in reversed(whole.paradigms)
    }
    for pair in PAIRS:
        alone = judge_pairs(judge(objective, model), [pair])
        assert alone.accuracy.value == whole.paradigms[pair.paradigm].value


def test_a_file_a_folder_and_a_limit(tmp_path: Path) -> None:
    rows = [
        {
            "sentence_good": f"good {i}",
            "sentence_bad": f"bad {i}",
            "UID": "ab"[i % 2],
            "linguistics_term": "x",
        }
        for i in range(6)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "blimp.jsonl.xz").write_bytes(lzma.compress(text.encode()))
    own = {"sentence_good": "我读书。", "sentence_bad": "我书读。"}
    (tmp_path / "chinese.jsonl").write_text(json.dumps(own, ensure_ascii=False), encoding="utf-8")
    assert read_pairs(tmp_path / "chinese.jsonl") == [Pair("我读书。", "我书读。", "chinese", "chinese")]
    found = read_pairs(tmp_path, limit=2)
    assert [(p.good, p.phenomenon, p.paradigm) for p in found] == [
        ("good 0", "x", "a"),
        ("good 1", "x", "b"),
        ("good 2", "x", "a"),
        ("good 3", "x", "b"),
        ("我读书。", "chinese", "chinese"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no pairs"),
        ("[1]\n", r"a\.jsonl:1: not a JSON object"),
        ('{"sentence_good": "x", "sentence_bad": "y"}\n{', r"a\.jsonl:2: not a JSON object"),
        ('{"sentence_good": "x", "bad": "y"}', "no text under 'sentence_bad'.*sentence_good, bad"),
        ('{"sentence_good": "", "sentence_bad": "y"}', "no text under 'sentence_good'"),
    ],
)
def test_what_is_no_file_of_pairs_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Trap 31: nothing to score is an error, never a figure."""
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="no file of JSON lines"):
        read_pairs(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(("right", "of"), [(0, 7), (7, 7), (3.5, 7), (830, 1000)])
def test_the_interval_of_a_share(right: float, of: int) -> None:
    """Wilson's interval: its ends are where the share observed is 1.96 standard errors away."""
    found = share(right, of)
    assert found.value == right / of and found.low is not None and found.high is not None
    for end in (found.low, found.high):
        if 1e-9 < end < 1 - 1e-9:
            assert abs(right / of - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / of))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_students_quantile_is_where_the_density_says() -> None:
    """Against Simpson's rule over the density of Student's distribution, for whole and broken freedoms."""
    for freedom in (1.0, 2.0, 3.7, 10.0, 30.0):
        t, steps = _student(freedom), 2000
        scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
        points = [(1 + (t * i / steps) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(steps + 1)]
        total = points[0] + points[-1] + 4 * sum(points[1::2]) + 2 * sum(points[2:-1:2])
        assert 0.5 + scale * total * t / steps / 3 == pytest.approx(0.975, abs=1e-6)
    assert _student(1) == pytest.approx(12.7062, abs=1e-4) and _student(10) == pytest.approx(2.2281, abs=1e-4)


def test_intervals_over_seeds() -> None:
    """By hand: 1, 2, 3 have mean 2 and standard error 1/√3; 0, 2 have mean 1 and standard error 1."""
    found = over_seeds([1.0, 2.0, 3.0])
    assert found.value == 2 and found.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)
    gap = difference([1.0, 2.0, 3.0], [0.0, 2.0])
    freedom = (1 / 3 + 1) ** 2 / ((1 / 3) ** 2 / 2 + 1)
    assert gap.value == 1 and gap.low == pytest.approx(1 - _student(freedom) * math.sqrt(4 / 3))
    assert over_seeds([3.0]).low is None and difference([1.0], [1.0, 2.0]).high is None
    assert difference([2.0, 2.0], [1.0, 1.0]) == (1.0, None, None), "a spread of nought is none that is known"


def test_blimp_has_67_paradigms_and_a_span_model_is_asked_them_too(data_folder: Path) -> None:
    pairs = read_pairs(data_folder / "blimp" / "blimp.jsonl.xz", limit=1)
    assert len({pair.paradigm for pair in pairs}) == len(pairs) == 67
    assert len({pair.phenomenon for pair in pairs}) == 13
    form = Span(form="prefix")
    tokenizer = with_marks(form)
    description = MODELS["rotary"]
    network = network_of(description, tokenizer, 256)
    found = judge_pairs(Judge(network, form, tokenizer, window=256, gives=description.gives), pairs[:2])
    assert found.kind == "pseudo" and 0 <= found.accuracy.value <= 1


def with_marks(objective: Objective) -> Tokenizer:
    from telos.tokenizer import TokenizerSettings, train_tokenizer

    return train_tokenizer(TokenizerSettings(kind="byte"), iter(()), objective.specials())

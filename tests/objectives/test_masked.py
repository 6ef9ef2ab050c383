"""What masked language modelling promises: rates, whole words in any vocabulary, and what stands where."""

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telos.batch import Example, Piece
from telos.config import read
from telos.data.loader import LoaderPlan, LoaderSettings, steps
from telos.data.order import sample_rng
from telos.data.packing import collate
from telos.errors import ConfigError, DataError
from telos.evaluate.likelihood import NOTE_PSEUDO, score
from telos.objectives import masked
from telos.objectives.causal import Causal
from telos.objectives.masked import Masked, MaskedSpanSettings
from telos.objectives.next_sentence import NextSentence
from telos.objectives.together import Together
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from telos.words import jieba
from tests.contract import world
from tests.contract.objective_checks import no_target_is_seen_by_its_predictor
from tests.objectives.world import Pieces, answers, characters, draw

POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"
PROSE = "The unbelievable cat sat on the mat; nobody's dogs were understanding it, café included. "
ALL_MASK = {"mask": 1.0, "random": 0.0}


def make(**settings: Any) -> Masked:
    return read(Masked, settings)


@cache
def vocabulary(kind: str) -> Tokenizer:
    """One of each kind, so small that words fall to pieces."""
    size = {"bpe": 290, "wordpiece": 530, "unigram": 300}.get(kind, 400)
    return train_tokenizer(TokenizerSettings(kind=kind, size=size), iter([PROSE * 20, POEM * 20]))


def piece(tokenizer: Tokenizer, text: str, document: int = 0) -> Piece:
    """A text as the corpus gives it, with its columns."""
    encoded = tokenizer.encode_words(text)
    segmented = tokenizer.encode_words(text, jieba()).word_start
    columns = {"word_start": encoded.word_start, "jieba_word_start": segmented}
    return Piece(ids=encoded.ids, document=document, columns=columns)


def million(tokenizer: Tokenizer) -> Piece:
    """A thousand tokens of text."""
    one = piece(tokenizer, (PROSE + POEM) * 30)
    columns = {name: column[:1000] for name, column in one.columns.items()}
    return Piece(ids=one.ids[:1000], document=0, columns=columns)


def test_the_example_of_the_page() -> None:
    """Of 6 tokens at a rate of 1/3 two are hidden; begin and separate stand around them."""
    tokenizer = characters()
    ids = tokenizer.encode("abcdef")
    example = draw(make(rate=1 / 3, instead=ALL_MASK), Pieces(ids))
    (ask,) = example.asks
    assert example.main.ids[[0, -1]].tolist() == [tokenizer.begin, tokenizer.separate]
    assert len(ask.at) == 2 and ask.target.tolist() == ids[ask.at - 1].tolist()
    assert (example.main.ids[ask.at] == tokenizer.mask).all()
    others = np.setdiff1d(np.arange(1, 7), ask.at)
    assert example.main.ids[others].tolist() == ids[others - 1].tolist()
    assert example.pattern == "full" and not example.main.order.any()


@pytest.mark.parametrize("settings", [{}, {"unit": "word"}, {"unit": "span"}, {"rate": 0.4}], ids=str)
def test_the_rates_hold_over_a_million_tokens(settings: dict[str, Any]) -> None:
    """Trap 9: 15 % ± 0.1 % selected, of which 80/10/10 ± 0.5 %; nothing special is selected or put in."""
    tokenizer = vocabulary("bpe")
    objective, text = make(**settings), million(tokenizer)
    asked = Counter[str]()
    for seed in range(1000):
        example = objective.example([text], 0, np.random.default_rng(seed), tokenizer)
        (ask,) = example.asks
        shown = example.main.ids[ask.at]
        fate = np.where(shown == tokenizer.mask, 0, np.where(shown == ask.target, 1, 2))
        asked.update({name: int((fate == n).sum()) for n, name in enumerate(("mask", "own", "random"))})
        assert not np.isin(shown[fate > 0], list(tokenizer.special_ids)).any()
        assert not np.isin(ask.target, list(tokenizer.special_ids)).any()
        rest = np.setdiff1d(np.arange(1, 1001), ask.at)
        assert np.array_equal(example.main.ids[rest], text.ids[rest - 1])
    total = sum(asked.values())
    assert abs(total / 1e6 - settings.get("rate", 0.15)) < 0.001
    for name, share in (("mask", 0.8), ("own", 0.1), ("random", 0.1)):
        assert abs(asked[name] / total - share) < 0.005, (name, asked)


def test_special_tokens_of_another_objectives_example_are_never_touched() -> None:
    """Trap 9: as the second of `together`, beside every special token there is."""
    tokenizer = characters(("<extra>",))
    ids = np.concatenate([[special, *tokenizer.encode("abc")] for special in sorted(tokenizer.special_ids)])
    row = Example(
        main=masked.framed(
            (masked.stretch(Piece(ids=ids, document=0), slice(None)),), tokenizer, unit=0, sample=0
        ).main,
        asks=(),
        pattern="full",
    )
    special = np.isin(row.main.ids, list(tokenizer.special_ids))
    for seed in range(200):
        example = make(rate=0.5).extend(row, np.random.default_rng(seed), tokenizer)
        assert not special[example.asks[0].at].any()
        assert np.array_equal(example.main.ids[special], row.main.ids[special])
    everything = make(rate=1.0).extend(row, np.random.default_rng(0), tokenizer)
    assert np.array_equal(everything.asks[0].at, np.flatnonzero(~special))


@pytest.mark.parametrize("length", [1, 2, 5])
def test_short_texts_do_not_bias_the_rate(length: int) -> None:
    """At least one in each would be 100 % of a text of one token."""
    asked = [len(answers(draw(make(), Pieces(np.arange(5, 5 + length)), seed))) for seed in range(4000)]
    assert set(asked) <= {0, 1}
    assert abs(sum(asked) / len(asked) / length - 0.15) < 0.02


def words_of(text: str) -> list[tuple[int, int]]:
    """Letters with apostrophes, one Chinese character, or one mark: written anew, to check `words.py`."""
    found = re.finditer(r"[A-Za-zéÉ]+(?:'[A-Za-z]+)*|[一-鿿]|[^\s]", text)
    return [found.span() for found in found]


def covered(example: Example, tokenizer: Tokenizer, text: str) -> set[int]:
    """The characters of `text` of whose tokens some are hidden."""
    _, at = tokenizer.encode_offsets(text)
    hidden = example.asks[0].at - 1
    return {place for begin, end in at[hidden].tolist() for place in range(begin, end) if text[place].strip()}


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "byte", "character"])
@pytest.mark.parametrize("text", [PROSE, POEM, f"{POEM} and {PROSE}"], ids=["english", "chinese", "both"])
def test_a_word_is_hidden_whole_or_not_at_all(kind: str, text: str) -> None:
    """Trap 10: in every kind of vocabulary, by the text's own words."""
    tokenizer = vocabulary(kind)
    one = piece(tokenizer, text)
    _, at = tokenizer.encode_offsets(text)
    for seed in range(30):
        example = make(unit="word", rate=0.3).example([one], 0, np.random.default_rng(seed), tokenizer)
        hidden = np.isin(np.arange(len(one)), example.asks[0].at - 1)
        for begin, end in words_of(text):
            tokens = (at[:, 0] < end) & (at[:, 1] > begin)
            assert hidden[tokens].all() or not hidden[tokens].any(), text[begin:end]
    several = [sum((at[:, 0] < end) & (at[:, 1] > begin)) for begin, end in words_of(text)]
    assert (kind == "character" and text == POEM) or max(several) > 1, "no word has several tokens"


def test_words_of_a_vocabulary_of_words_are_tokens() -> None:
    tokenizer = vocabulary("word")
    one = piece(tokenizer, PROSE)
    assert one.columns["word_start"].all()
    example = make(unit="word", rate=0.5).example([one], 0, np.random.default_rng(0), tokenizer)
    assert len(example.asks[0].at) in (len(one) // 2, len(one) // 2 + 1)


def test_chinese_words_are_those_of_the_segmenter() -> None:
    """Trap 10: 床前 / 明月光 / … with jieba, each character without it."""
    tokenizer = vocabulary("character")
    one = piece(tokenizer, POEM)
    words = list(jieba()("床前明月光"))
    assert words == ["床前", "明月光"]
    found = set()
    for seed in range(60):
        settings = {"unit": "word", "segmenter": "jieba", "rate": 0.2}
        example = make(**settings).example([one], 0, np.random.default_rng(seed), tokenizer)
        hidden = covered(example, tokenizer, POEM)
        assert ({0, 1} <= hidden) == bool({0, 1} & hidden)
        assert ({2, 3, 4} <= hidden) == bool({2, 3, 4} & hidden)
        found.add(({0} <= hidden, {2} <= hidden))
    assert len(found) > 2
    single = [
        make(unit="word", rate=0.2).example([one], 0, np.random.default_rng(s), tokenizer) for s in range(60)
    ]
    assert any(len({0, 1} & covered(example, tokenizer, POEM)) == 1 for example in single)


def test_words_are_never_guessed() -> None:
    """Trap 10: text prepared without the column is refused, not hidden by the token."""
    for unit in ("word", "span"):
        assert make(unit=unit).columns() == ("word_start",)
        with pytest.raises(DataError, match="needs the column word_start"):
            draw(make(unit=unit), Pieces([5, 6, 7]))
    assert make(unit="word", segmenter="jieba").columns() == ("jieba_word_start",)
    assert make().columns() == ()


def test_what_only_serves_as_context_is_not_asked() -> None:
    """The tokens before `ask_from` are another piece's."""
    for seed in range(50):
        example = draw(make(rate=0.5), Pieces(np.arange(5, 15), ask_from=6), seed)
        assert example.asks[0].at.min(initial=99) >= 7


def test_runs_have_the_published_mean_length() -> None:
    """SpanBERT: lengths 1 … 10 with chances ∝ 0.8^(length − 1) are 3.8 words on average."""
    chances = 0.8 ** np.arange(10)
    mean = float((np.arange(1, 11) * chances).sum() / chances.sum())
    assert round(mean, 1) == 3.8
    drawn = MaskedSpanSettings().draw(40_000, np.random.default_rng(0))
    assert drawn.sum() == 40_000 and drawn.max() == 10
    assert abs(drawn[:-1].mean() - mean) < 0.08


def test_words_at_the_edges_are_hidden_as_often_as_others() -> None:
    """And runs are runs: of 12 words of one token each, 4 hidden in one run or two pieces of it."""
    rng = np.random.default_rng(0)
    hidden = np.array([masked._on_a_ring(12, np.array([3, 1]), rng) for _ in range(6000)])
    chance = (hidden >= 0).mean(0)
    assert np.abs(chance - 1 / 3).max() < 0.03
    assert ((hidden == 0).sum(1) == 3).all() and ((hidden == 1).sum(1) == 1).all()


def test_the_tokens_of_a_run_fare_alike() -> None:
    """SpanBERT replaces by the run: all mask, all random, or all as they are."""
    tokenizer = vocabulary("character")
    one = piece(tokenizer, POEM)
    fates = Counter[tuple[int, ...]]()
    for seed in range(300):
        objective = make(unit="span", rate=0.15, span={"ends": 0.01, "longest": 4})
        example = objective.example([one], 0, np.random.default_rng(seed), tokenizer)
        at, target = example.asks[0].at, example.asks[0].target
        if len(at) == 4 and (np.diff(at) == 1).all():
            shown = example.main.ids[at]
            fates[tuple(np.where(shown == tokenizer.mask, 0, np.where(shown == target, 1, 2)).tolist())] += 1
    assert {(0,) * 4, (1,) * 4, (2,) * 4} >= {fate for fate, count in fates.items() if count > 2}
    assert len(fates) >= 3 and sum(fates.values()) > 20


class Poems:
    """A hundred documents of one piece each."""

    def __len__(self) -> int:
        return 100

    def pieces_of(self, document: int) -> range:
        return range(document, document + 1)

    def __getitem__(self, index: int) -> Piece:
        return Piece(ids=np.arange(5, 25) + index % 7, document=index)


def test_masks_are_drawn_anew_in_each_pass() -> None:
    """Trap 11: a function of (seed, epoch, sample), so different in another epoch and the same when asked
    again."""

    def places(epoch: int, sample: int) -> list[int]:
        rng = sample_rng(3, epoch, sample)
        return make(rate=0.3).example(Poems(), sample, rng, characters()).asks[0].at.tolist()

    assert all(places(1, sample) == places(1, sample) for sample in range(20))
    assert sum(places(0, sample) != places(1, sample) for sample in range(20)) >= 19


def plan(objective: Masked, **changes: Any) -> LoaderPlan:
    settings = LoaderSettings(block=changes.pop("block", 2), workers=changes.pop("workers", 0))
    return LoaderPlan(
        corpus=Poems(),
        objective=objective,
        tokenizer=characters(),
        window=24,
        batch=5,
        settings=settings,
        **changes,
    )


def taken(plan: LoaderPlan, place: Any, number: int) -> list[Any]:
    source = steps(plan, place)
    found = [next(source) for _ in range(number)]
    source.close()
    return found


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_hide_what_one_alone_hides(workers: int) -> None:
    """Trap 11: in both of two passes, whose hidden places differ."""
    from telos.batch import Place

    made = make(rate=0.3)

    def hidden(found: list[Any]) -> dict[int, list[int]]:
        """By sample, where something is asked; each sample is a row of its own."""
        batches = [batch for step in found for batch in step.batches]
        return {
            batch.samples[row][0]: sorted(
                place % batch.main.shape[1]
                for place in batch.asks[0].at[batch.asks[0].weight > 0].tolist()
                if place // batch.main.shape[1] == row
            )
            for batch in batches
            for row in range(len(batch.samples))
        }

    alone = taken(plan(made, packed=False), Place(), 40)
    helped = taken(plan(made, packed=False, workers=workers), Place(), 40)
    first, second = hidden(alone[:20]), hidden(alone[20:])
    assert first == hidden(helped[:20]) and second == hidden(helped[20:]) and len(first) == 100
    assert sum(first[sample] != second[sample] for sample in first) > 95


def test_a_rate_that_moves_is_a_function_of_the_place() -> None:
    """From 90 % to 10 % in two passes, then 10 %; going on from any place gives the same batches, and so does
    another size of blocks."""
    from telos.batch import Place

    objective = make(rate=0.1, start={"rate": 0.9, "passes": 2.0}, instead=ALL_MASK)
    whole = taken(plan(objective), Place(), 60)
    share = [sum(b.asked["tokens"] for b in s.batches) / 100 for s in whole]
    expected = [max(0.1, 0.9 - 0.4 * (step + 0.5) / 20) for step in range(60)]
    smooth = np.convolve(np.array(share) - expected, np.ones(5) / 5, "valid")
    assert np.abs(smooth).max() < 0.06 and abs(np.mean(share[40:]) - 0.1) < 0.01
    again = taken(plan(objective), whole[24].place, 10)
    for old, new in zip(whole[25:35], again, strict=True):
        assert all(a.main.ids.equal(b.main.ids) for a, b in zip(old.batches, new.batches, strict=True))

    def by_sample(block: int) -> dict[tuple[int, ...], list[int]]:
        made = taken(plan(objective, block=block), Place(), 20)
        rows = (
            (row, b.main.ids[i].tolist()) for s in made for b in s.batches for i, row in enumerate(b.samples)
        )
        return dict(rows)

    assert by_sample(1) == by_sample(20)


def test_held_out_text_is_scored_at_the_final_rate() -> None:
    objective = make(rate=0.1, start={"rate": 0.9, "passes": 2.0})
    assert objective.after(0).rate == 0.9 and objective.after(1.0).rate == pytest.approx(0.5)
    assert objective.after(2.0).rate == objective.after(99).rate == objective.rate == 0.1
    both = Together(of=(objective,))
    assert both.after(0).of[0].rate == 0.9 and both.of[0].rate == 0.1


def test_nobody_sees_what_it_is_asked(tmp_path: Any) -> None:
    """Trap 4: where each hidden place shows the mask token, or a random one, no answer is in sight."""
    objective = make(instead=ALL_MASK, rate=0.3)
    assert not objective.reconstructs and make().reconstructs
    assert not make(instead={"mask": 0.5, "random": 0.5}).reconstructs
    no_target_is_seen_by_its_predictor(objective, tmp_path)


def test_padding_is_never_asked() -> None:
    """Traps 5 and 9: in a batch of ragged rows, by length and not by value."""
    tokenizer = characters()
    rows = [[draw(make(rate=1.0), Pieces(tokenizer.encode(text)), 0)] for text in ("a", "abcdefghij")]
    batch = collate(rows)
    (asked,) = batch.asks
    assert batch.asked["tokens"] == 11 and int((asked.weight > 0).sum()) == 11
    real = asked.at[asked.weight > 0]
    assert (batch.main.segment.flatten()[real] >= 0).all()
    assert not batch.main.seen[0, 3:].any()


def test_places_of_a_given_text_are_hidden() -> None:
    tokenizer = characters()
    ids = tokenizer.encode("abcd")
    for around in (
        Piece(ids=ids, document=0),
        Piece(ids=np.concatenate([[tokenizer.begin], ids, [tokenizer.end]]), document=0),
    ):
        shift = len(around) // 6
        hidden = np.array([1, 2]) + shift
        example = make().hide(around, hidden, hidden[:1], tokenizer)
        assert example.main.ids.tolist() == [
            tokenizer.begin,
            ids[0],
            tokenizer.mask,
            tokenizer.mask,
            ids[3],
            tokenizer.separate,
        ]
        assert answers(example) == [ids[1]] and example.asks[0].at.tolist() == [2]
    assert make().whole(around, tokenizer) is None


def test_causal_text_cannot_be_hidden_in() -> None:
    tokenizer = characters()
    both = Together(of=(Causal(), Masked()))
    with pytest.raises(ConfigError, match="does not see its text in both directions"):
        draw(both, Pieces([tokenizer.begin, 5, 6]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.0}, "rate"),
        ({"instead": {"mask": 0.8, "random": 0.3}}, "is more than 1"),
        ({"span": {"ends": 0.5}}, "span does nothing"),
        ({"segmenter": "jieba"}, "segmenter does nothing"),
        ({"unit": "words"}, "unit"),
        ({"start": {"rate": 0.3, "passes": 0.0}}, "passes"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_a_window_must_hold_a_token() -> None:
    assert make().cut(3).length == 1
    with pytest.raises(ConfigError, match="set it to at least 3"):
        make().cut(2)


def test_its_loss_is_said_to_be_no_likelihood(tmp_path: Path) -> None:
    """And where nothing is asked for tokens, the loss is that of what is asked."""
    tokenizer = world.vocabulary()
    shards = world.write_shards(tmp_path, tokenizer)
    for objective in (make(), NextSentence()):
        network = world.built(world.make_model("encoder"), world.sizes_for(objective, tokenizer, 24))
        found = score(network, objective, shards, tokenizer, window=24)
        assert found.kind == "pseudo" and NOTE_PSEUDO in found.notes and found.bits_per_byte is None
        (name,) = (head.name for head in objective.heads(tokenizer.size))
        assert found.loss == pytest.approx(found.terms[name], rel=1e-6) and found.loss > 0.5

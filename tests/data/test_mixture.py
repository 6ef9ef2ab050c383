"""Sources are read by the shares that were asked, whatever else is so."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telos.batch import Place
from telos.config import read
from telos.data.corpus import Corpus
from telos.data.loader import LoaderPlan, LoaderSettings, Step, passes_of, steps
from telos.data.mixture import UNIT, Course, MixSettings, Sources, Stage, course
from telos.data.shards import Shards, ShardWriter
from telos.errors import ConfigError, DataError
from telos.objectives.causal import Causal
from tests.data.test_loader import Drawing
from tests.train import tiny

NAMES = ("web", "books", "code")
WINDOW = 16


def mix(**table: Any) -> MixSettings:
    return read(MixSettings, table, "test")


def corpus(folder: Path, documents: Sequence[tuple[int, int]], objective: Any = None) -> Corpus:
    """Documents of (source, tokens)."""
    tokenizer = tiny.vocabulary()
    writer = ShardWriter(folder, tokenizer.hash, tokenizer.size, ["source"])
    for number, (source, tokens) in enumerate(documents):
        writer.add(np.full(tokens, 97 + number % 26), bytes=tokens, source=source)
    writer.close()
    return Corpus(Shards(folder), (objective or Causal()).cut(WINDOW), tokenizer)


def mingled(*counts: int, seed: int = 0, longest: int = 60) -> list[tuple[int, int]]:
    """Documents of many lengths, so many of each source, in no order."""
    draw = np.random.default_rng(seed)
    of = draw.permutation(np.repeat(np.arange(len(counts)), counts))
    return [(int(source), int(draw.integers(1, longest))) for source in of]


def plan(made: Corpus, table: dict[str, Any], **changes: Any) -> LoaderPlan:
    own = {name: changes.pop(name) for name in ("workers", "block") if name in changes}
    return LoaderPlan(
        corpus=made,
        objective=Causal(),
        tokenizer=tiny.vocabulary(),
        window=WINDOW,
        **{"batch": 4, "seed": 3, "packed": True, "sources": NAMES, **changes},
        settings=LoaderSettings(**{"block": 3, "mix": mix(**table), **own}),
    )


def take(made: LoaderPlan, number: int, place: Place | None = None) -> list[Step]:
    source = steps(made, place or Place())
    try:
        return list(itertools.islice(source, number))
    finally:
        source.close()


def epochs(made: LoaderPlan, number: int) -> list[Step]:
    source = steps(made, Place())
    try:
        return list(itertools.takewhile(lambda step: step.epoch < number, source))
    finally:
        source.close()


def samples(found: Sequence[Step]) -> list[int]:
    return [sample for step in found for batch in step.batches for row in batch.samples for sample in row]


def asked(made: Corpus, found: Sequence[Step]) -> np.ndarray[Any, Any]:
    """Tokens asked of each source."""
    ids = np.array(samples(found), np.int64)
    assert made.sources is not None
    of = made.sources[np.searchsorted(made.first, ids, side="right") - 1]
    tokens = [len(made[sample]) - 1 for sample in ids.tolist()]  # as a causal model is asked
    return np.bincount(of, weights=tokens, minlength=3)


# ---- shares


def test_a_piece_counts_the_tokens_that_it_answers_for(tmp_path: Path) -> None:
    made = corpus(tmp_path, mingled(30, 20, 10))
    pieces = np.arange(len(made))
    really = [
        len(Causal().example(made, k, np.random.default_rng(0), made.tokenizer).asks[0].at) for k in pieces
    ]
    assert made.asked_of(pieces).tolist() == really


@pytest.mark.parametrize("weights", [(5, 3, 2), (1, 1, 8), (0.02, 0.9, 0.08), (1, 0, 3)])
def test_shares_are_exact_in_every_stretch_of_the_run(tmp_path: Path, weights: tuple[float, ...]) -> None:
    """Trap 46: after every block no source is further from its share than a piece, and over an epoch it is
    within 0.1 %; documents of a source are read equally often but for one."""
    made = corpus(tmp_path, mingled(700, 300, 60))
    table = {"weights": dict(zip(NAMES, weights, strict=True))}
    found = epochs(plan(made, table, batch=16, block=8), 2)
    wanted = np.array(weights) / sum(weights)
    total = made.asked_of(np.arange(len(made))).sum()
    for epoch in range(2):
        read_ = asked(made, [step for step in found if step.epoch == epoch])
        assert abs(read_.sum() - total) <= 3 * WINDOW
        assert np.abs(read_ / read_.sum() - wanted).max() < 0.001
    done, piece = np.zeros(3), WINDOW
    for step in found:
        done += asked(made, [step])
        if step.place.step == 0:
            assert np.abs(done - wanted * done.sum()).max() <= 2 * piece
    assert made.sources is not None
    times = Counter(samples(found))
    of = made.sources[np.searchsorted(made.first, np.arange(len(made)), side="right") - 1]
    for source in range(3):
        counts = [times[int(piece)] for piece in np.flatnonzero(of == source)]
        assert max(counts) - min(counts) <= 1, source


def test_without_weights_a_source_counts_by_its_size(tmp_path: Path) -> None:
    """With temperature 1 an epoch is every piece once, as without a mixture."""
    made = corpus(tmp_path, mingled(100, 40, 7))
    assert sorted(samples(epochs(plan(made, {}), 1))) == list(range(len(made)))


@pytest.mark.parametrize(
    ("temperature", "shares"), [(1.0, (0.8, 0.2, 0.0)), (2.0, (2 / 3, 1 / 3, 0.0)), (1e9, (0.5, 0.5, 0.0))]
)
def test_temperature(temperature: float, shares: tuple[float, ...]) -> None:
    """By hand: sizes 4 : 1 are √4 : 1 = 2 : 1 at T = 2; a source without text gets nothing."""
    found = course(mix(temperature=temperature), NAMES, [400, 100, 0]).stages
    assert len(found) == 1 and np.allclose(np.array(found[0].shares) / UNIT, shares, atol=1e-8)
    assert sum(found[0].shares) == UNIT


def test_a_large_run_is_exact_to_the_token() -> None:
    """10¹³ tokens, where floats would be off by some."""
    due = course(mix(weights={"web": 1, "books": 1, "code": 1}), NAMES, [9, 9, 9]).due(3 * 10**13)
    assert max(due) - min(due) <= 60 and abs(sum(due) - 3 * 10**13) <= 1


# ---- limits


def test_what_is_over_goes_to_the_others() -> None:
    """The example of docs/mixing.md: 100 tokens, weights 5 : 3 : 2, sizes 60, 10 and 30, at most twice."""
    settings_ = mix(weights={"web": 5, "books": 3, "code": 2}, max_epochs=2)
    found = course(settings_, NAMES, [60, 10, 30], passes=1)
    assert found.due(100) == [57, 20, 23] and found.due(50) == [29, 10, 11]
    assert np.allclose(np.array(found.stages[0].shares) / UNIT, [4 / 7, 0.2, 1.6 / 7])


def test_the_others_can_reach_their_limit_in_turn() -> None:
    settings_ = mix(weights={"web": 5, "books": 3, "code": 2}, max_epochs={"books": 2, "code": 1})
    found = course(settings_, NAMES, [600, 100, 205], passes=1000 / 905)
    assert np.allclose(np.array(found.stages[0].shares) / UNIT, [0.595, 0.2, 0.205])


weight = st.one_of(st.just(0.0), st.floats(0.01, 1))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_held_sources_are_at_their_limit_and_the_others_in_proportion(data: st.DataObject) -> None:
    """Whatever the curriculum: nobody is over; who is under is in proportion to its weights in each stage."""
    number = data.draw(st.integers(2, 5))
    names = [f"s{k}" for k in range(number)]
    sizes = data.draw(st.lists(st.integers(1000, 50_000), min_size=number, max_size=number))
    caps = data.draw(st.lists(st.floats(0.3, 6), min_size=number - 1, max_size=number - 1))
    row = st.lists(weight, min_size=number - 1, max_size=number - 1)
    rows = [[data.draw(st.floats(0.01, 1)), *data.draw(row)] for _ in range(data.draw(st.integers(1, 3)))]
    stages = [
        {"at": (k + 1) / len(rows), "weights": dict(zip(names, r, strict=True))}
        for k, r in enumerate(rows[1:-1])
    ]
    if len(rows) > 1:
        stages.append({"at": 0.9, "weights": dict(zip(names, rows[-1], strict=True))})
    table = {"weights": dict(zip(names, rows[0], strict=True)), "curriculum": stages}
    limits = dict(zip(names[1:], caps, strict=True))
    passes = data.draw(st.floats(0.5, 8))
    found = course(mix(**table, max_epochs=limits), names, sizes, passes=passes)
    length = round(passes * sum(sizes))
    due = np.array(found.due(length))
    most = np.array([np.inf, *(limits[n] * s for n, s in zip(names[1:], sizes[1:], strict=True))])
    assert (due <= most + 1).all() and abs(due.sum() - length) <= number
    held = due >= most - 2
    for stage, weights in zip(found.stages, rows, strict=False):
        free = np.flatnonzero(~held & (np.array(weights) > 0))
        ratio = np.array(stage.shares)[free] / np.array(weights)[free]
        assert np.allclose(ratio, ratio.max(), rtol=1e-6), (stage, weights)


def test_limits_that_are_too_tight_are_refused() -> None:
    settings_ = mix(weights={"web": 5, "books": 3, "code": 2}, max_epochs=1)
    with pytest.raises(
        ConfigError, match=r"too little for a run of 200 tokens(.|\n)*web: [\d.]+ times, of 1\n"
    ):
        course(settings_, NAMES, [60, 10, 30], passes=2)
    course(settings_, NAMES, [60, 10, 30], passes=1)  # exactly all of it


def test_beyond_the_planned_length_a_source_is_read_until_it_is_used_up() -> None:
    settings_ = mix(weights={"web": 5, "books": 3, "code": 2}, max_epochs=2)
    found = course(settings_, NAMES, [60, 10, 30], passes=1)
    assert np.allclose(found.due(170), [400 / 7 + 50, 20, 160 / 7 + 20], atol=1) and found.due(170)[1] == 20
    assert found.due(200) == [120, 20, 60] and found.most == [120, 20, 60]
    with pytest.raises(
        ConfigError, match="after 200 tokens every source with a weight has been read as often as it may be"
    ):
        found.due(201)
    unknown = course(settings_, NAMES, [60, 10, 30])  # a budget in minutes
    assert np.allclose(unknown.due(60), [30, 18, 12], atol=1) and unknown.due(200) == [120, 20, 60]


def test_no_piece_is_read_more_often_than_allowed(tmp_path: Path) -> None:
    made = corpus(tmp_path, mingled(60, 10, 20))
    table = {"weights": dict.fromkeys(NAMES, 1.0), "max_epochs": {"books": 2, "code": 3}}
    found = epochs(plan(made, table, passes=3), 3)
    times = Counter(samples(found))
    assert made.sources is not None
    of = made.sources[np.searchsorted(made.first, np.arange(len(made)), side="right") - 1]
    assert {times[int(piece)] for piece in np.flatnonzero(of == 1)} == {2}
    assert {times[int(piece)] for piece in np.flatnonzero(of == 2)} <= {2, 3}


# ---- curriculum


def test_weights_change_in_the_course_of_the_run(tmp_path: Path) -> None:
    made = corpus(tmp_path, mingled(400, 120, 60))
    late = {"web": 0.1, "books": 0.2, "code": 0.7}
    table = {"weights": {"web": 7, "books": 2, "code": 1}, "curriculum": [{"at": 0.75, "weights": late}]}
    found = epochs(plan(made, table, batch=8, block=2, passes=2), 2)
    share = [step.epoch + step.share for step in found]
    early = [step for step, at in zip(found, share, strict=True) if at <= 1.5]
    rest = [step for step, at in zip(found, share, strict=True) if at > 1.55]
    read_ = asked(made, early)
    assert np.abs(read_ / read_.sum() - [0.7, 0.2, 0.1]).max() < 0.02
    read_ = asked(made, rest)
    assert np.abs(read_ / read_.sum() - [0.1, 0.2, 0.7]).max() < 0.02


def test_a_curriculum_by_steps_needs_no_length(tmp_path: Path) -> None:
    made = corpus(tmp_path, mingled(600, 200, 100))
    begins = [{"step": 20, "weights": {"web": 0, "books": 0, "code": 1}}]
    found = take(
        plan(made, {"weights": {"web": 1, "books": 0, "code": 0}, "curriculum": begins}, block=2), 40
    )
    assert asked(made, found[:17]).argmax() == 0 and asked(made, found[:17])[2] == 0
    assert asked(made, found[24:])[0] == 0


def test_stages_join_without_a_gap() -> None:
    made = Course([Stage(0, (UNIT, 0)), Stage(10, (UNIT // 4, 3 * UNIT // 4)), Stage(50, (0, UNIT))])
    assert [made.due(at) for at in (0, 9, 10, 14, 50, 51)] == [
        [0, 0],
        [9, 0],
        [10, 0],
        [11, 3],
        [20, 30],
        [20, 31],
    ]


# ---- the order


def test_from_any_place_the_same_steps_follow(tmp_path: Path) -> None:
    """Traps 40 to 43: with sources, limits and a curriculum; workers change nothing."""
    made = corpus(tmp_path, mingled(60, 20, 10))
    late = {"web": 1, "books": 0, "code": 2}
    table = {"weights": {"web": 3, "books": 2, "code": 2}, "max_epochs": {"code": 5, "books": 2}}
    made_plan = plan(made, table | {"curriculum": [{"at": 0.6, "weights": late}]}, passes=3)
    whole = epochs(made_plan, 3)
    ledger = [[b.samples for b in step.batches] for step in whole]
    for index in range(0, len(whole) - 1, 5):
        again = take(made_plan, 3, whole[index].place)
        assert [[b.samples for b in s.batches] for s in again][: len(whole) - index - 1] == ledger[
            index + 1 : index + 4
        ]
    settings_ = made_plan.settings.model_copy(update={"workers": 2})
    helped = take(replace(made_plan, settings=settings_), len(whole))
    assert [[b.samples for b in step.batches] for step in helped] == ledger
    first, second = (samples([s for s in whole if s.epoch == e]) for e in (0, 1))
    assert first != second and first != sorted(first)
    assert samples(epochs(replace(made_plan, seed=4), 1)) != first


def test_a_piece_that_comes_twice_in_an_epoch_is_drawn_anew(tmp_path: Path) -> None:
    """Trap 11: its randomness is of the pass over its source, not of the epoch."""
    made = corpus(tmp_path, [(0, 40)] * 50 + [(1, 10)])
    table = {"weights": {"web": 1, "books": 1, "code": 0}}
    drawing = replace(plan(made, table, packed=False), objective=Drawing())
    seen = []
    for step in epochs(drawing, 1):
        batch = step.batches[0]
        width = batch.main.shape[1]
        ask, real = batch.asks[0], batch.asks[0].weight > 0
        targets = dict(zip(ask.at[real].tolist(), ask.target[real].tolist(), strict=True))
        seen += [targets[row * width] for row, held in enumerate(batch.samples) if held == (len(made) - 1,)]
    assert len(seen) > 20 and len(set(seen)) == len(seen)


def test_sources_have_orders_of_their_own(tmp_path: Path) -> None:
    """Sources of equal size are not read in the same order."""
    made = corpus(tmp_path, [(number % 2, 10) for number in range(200)])
    each = Sources(made, NAMES[:2], seed=1).each
    one, other = (source.draws(0, 100).pieces // 2 for source in each)
    assert sorted(one) == sorted(other) == list(range(100)) and one.tolist() != other.tolist()


def test_each_pass_has_an_order_of_its_own(tmp_path: Path) -> None:
    """Trap 43: every pass is each piece of the source once, and no pass is like another."""
    made = corpus(tmp_path, [(number % 2, 10) for number in range(200)])
    drawn = Sources(made, NAMES[:2], seed=1).each[1].draws(50, 350)
    passes = [drawn.pieces[drawn.passes == turn].tolist() for turn in range(4)]
    assert sorted(passes[1]) == sorted(passes[2]) == list(range(1, 200, 2))
    assert [len(each) for each in passes] == [50, 100, 100, 50]
    assert passes[1] != passes[2] and passes[1] != sorted(passes[1])


def test_draws_come_nearest_to_what_is_due(tmp_path: Path) -> None:
    """Against the plain sum over all draws, over more than one slice of a pass."""
    draw = np.random.default_rng(1)
    made = corpus(tmp_path, [(0, int(n)) for n in draw.integers(1, 60, 30_000)] + [(1, 5)])
    source = Sources(made, NAMES[:2], seed=1).each[0]
    assert source.pieces > 66_000
    drawn = source.draws(0, 2 * source.pieces).pieces
    ends = np.concatenate([[0], np.cumsum(made.asked_of(drawn))])
    for tokens in [0, 1, 2, *draw.integers(0, ends[-1] - 100, 40).tolist(), source.tokens, source.tokens - 1]:
        count = source.count(tokens)
        assert abs(ends[count] - tokens) == np.abs(ends - tokens).min(), tokens


def test_how_often_each_source_was_read(tmp_path: Path) -> None:
    made = corpus(tmp_path, mingled(200, 100, 50))
    at = passes_of(plan(made, {"weights": dict.fromkeys(NAMES, 1.0)}), Place(epoch=3))
    assert at["web"] < 3 < at["books"] < at["code"]
    sizes = Sources(made, NAMES, 0).sizes
    assert np.allclose([at[n] * size for n, size in zip(NAMES, sizes, strict=True)], sum(sizes), atol=1)


@pytest.mark.parametrize("documents", [[(0, 30)], [(0, 30), (1, 1)], [(0, 5), (1, 200), (1, 1)]])
def test_sources_of_none_one_and_two_documents(tmp_path: Path, documents: list[tuple[int, int]]) -> None:
    """Trap 46: the smallest sources are read as often as they must be, and nothing crashes or hangs."""
    made = corpus(tmp_path, documents)
    held = {source for source, _ in documents}
    table = {"weights": {name: float(k in held) for k, name in enumerate(NAMES)}}
    found = take(plan(made, table, block=1, batch=2), 80)
    read_ = asked(made, found)
    assert np.abs(read_ / read_.sum() - np.isin(np.arange(3), list(held)) / len(held)).max() < 0.05
    assert sorted(samples(epochs(plan(made, {}), 2))) == sorted(list(range(len(made))) * 2)


# ---- what is refused


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"weights": {"web": 1, "bookz": 1, "code": 1}}, r"no source 'bookz'\. Did you mean 'books'\?"),
        ({"weights": {"web": 1, "code": 1}}, r"mix\.weights: no weight for books"),
        ({"max_epochs": {"coed": 1}}, r"max_epochs: there is no source 'coed'\. Did you mean 'code'"),
        (
            {"curriculum": [{"step": 5, "weights": {"web": 1}}]},
            r"curriculum\.0\.weights: no weight for books, code",
        ),
    ],
)
def test_names_that_do_not_fit_are_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        mix(**table).check(NAMES)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"weights": {"web": 0}}, "at least one must be more than 0"),
        ({"weights": {"web": -1}}, "greater than or equal to 0"),
        ({"weights": {"web": 1}, "temperature": 2.0}, "temperature is for sizes"),
        ({"curriculum": [{"weights": {"web": 1}}]}, "needs one of at"),
        ({"curriculum": [{"at": 0.5, "step": 2, "weights": {"web": 1}}]}, "needs one of at"),
        (
            {"curriculum": [{"at": 0.5, "weights": {"web": 1}}, {"at": 0.2, "weights": {"web": 1}}]},
            "stages must follow one another",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        mix(**table)


def test_a_weight_for_a_source_without_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="source 'code' has no text in the training split"):
        course(mix(weights=dict.fromkeys(NAMES, 1.0)), NAMES, [5, 5, 0])


def test_a_share_of_a_run_of_unknown_length_is_refused() -> None:
    stage = {"at": 0.5, "weights": dict.fromkeys(NAMES, 1.0)}
    with pytest.raises(ConfigError, match=r"Set train\.loader\.mix\.passes"):
        course(mix(curriculum=[stage]), NAMES, [5, 5, 5])
    course(mix(curriculum=[stage], passes=2.0), NAMES, [5, 5, 5])


def test_data_without_sources_is_refused(tmp_path: Path) -> None:
    plain = tiny.corpus(tmp_path / "plain", Causal().cut(WINDOW))
    with pytest.raises(ConfigError, match="no named sources to mix"):
        take(plan(plain, {}, sources=()), 1)
    with pytest.raises(DataError, match="does not say which source"):
        take(plan(plain, {}), 1)
    with pytest.raises(DataError, match="sources 0 … 2, and 2 have a name"):
        Sources(corpus(tmp_path / "three", mingled(3, 3, 3)), NAMES[:2], 0)


def test_carry_is_refused_with_the_reason() -> None:
    with pytest.raises(
        ConfigError, match="carry and mix exclude each other: with carry, documents are read whole"
    ):
        read(LoaderSettings, {"carry": True, "mix": {}})


# ---- in a run


def test_a_larger_budget_leaves_the_mixture_as_it_began(tmp_path: Path) -> None:
    """What has been laid out over the run is not laid out again when it is gone on with."""
    from telos.train.loop import Trainer

    stage = "{at = 0.5, weights = {web = 0.0, books = 1.0, code = 0.0}}"
    changes = ["loader.mix={weights = {web = 1.0, books = 0.0, code = 0.0}, curriculum = [" + stage + "]}"]
    made = corpus(tmp_path / "data", mingled(60, 30, 10))

    def trainer(*more: str) -> Trainer:
        given = tiny.train_settings(*changes, "loader.block=1", *more)
        return Trainer(
            models={"main": tiny.network("decoder", Causal(), WINDOW)},
            objective=Causal(),
            plan=given.plan(
                corpus=made,
                objective=Causal(),
                tokenizer=tiny.vocabulary(),
                seed=7,
                gives=frozenset({"causal", "packed"}),
                sources=NAMES,
            ),
            settings=given,
            folder=tmp_path / "checkpoints",
        )

    first = trainer("budget.steps=12")
    ledger = tiny.ledger(first)
    first.run()
    again = trainer("budget.steps=20")
    assert again.plan.passes > first.plan.passes > 0
    assert again.resume() == 12 and again.plan.passes == first.plan.passes
    more = tiny.ledger(again)
    again.run()
    assert made.sources is not None
    of = [
        {int(made.sources[np.searchsorted(made.first, s, side="right") - 1]) for row in step for s in row}
        for step in ledger() + more()
    ]
    assert of[:5] == [{0}] * 5 and of[8:] == [{1}] * 12

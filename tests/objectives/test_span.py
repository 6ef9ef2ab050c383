"""Span corruption: what is read and what is said together are the text (traps 13, 14 and 88)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from telos.batch import Example
from telos.config import read
from telos.errors import ConfigError
from telos.objectives._base import Objective
from telos.objectives._spans import Noise
from telos.objectives.span import Span
from telos.recipe import Recipe
from telos.tokenizer import Tokenizer
from tests.contract.objective_checks import CHECKS
from tests.objectives.world import Pieces, answers, characters, draw

NOISES = [
    Noise(0.15, 3.0),
    Noise(0.15, 8.0),
    Noise(0.5, 3.0),
    Noise(0.9, 1.0),
    Noise(0.15, 64.0),
    Noise(0.25, 0),
]


def reading(example: Example) -> list[int]:
    """What is read, of either form."""
    if example.source is not None:
        return example.source.ids.tolist()
    return example.main.ids[example.main.order == 0].tolist()


def rebuilt(read: list[int], said: list[int], tokenizer: Tokenizer, marks: int) -> list[int]:
    """The text: each mark of what is read replaced by what is said after it. The marks stand in the
    published order on both sides, each once, and both sides end with the end token."""
    wanted = [tokenizer.special(f"<extra_id_{k}>") for k in range(marks)]
    assert read[-1] == said[-1] == tokenizer.end
    in_order = [token for token in read if token in wanted]
    assert in_order == wanted[: len(in_order)] == [token for token in said if token in wanted]
    spans: dict[int, list[int]] = {}
    for token in said[:-1]:
        if token in wanted:
            spans[last := token] = []
        else:
            spans[last].append(token)
    assert all(spans.values()), "an empty span"
    return [inner for token in read[:-1] for inner in spans.get(token, [token])]


@pytest.mark.parametrize("form", ["source", "prefix"])
def test_what_is_read_and_what_is_said_are_the_text(form: str) -> None:
    """Traps 13 and 14: for 1 … 600 tokens; and both are as long as the formula says."""
    objective = read(Span, {"form": form, "density": 0.3})
    tokenizer = characters(objective.specials())
    for n in range(1, 601):
        ids = np.random.default_rng(n).integers(0, 32, n)
        example = draw(objective, Pieces(ids), n, tokenizer)
        said, source = answers(example), reading(example)
        assert rebuilt(source, said, tokenizer, 100) == ids.tolist()
        hidden, spans = objective.noise.counts(n)
        assert (len(source), len(said)) == (n - hidden + spans + 1, hidden + spans + 1)
        assert len(example.main) == len(said) + (0 if form == "source" else len(source) - 1)


def test_ten_thousand_texts_come_back() -> None:
    """Trap 13: of any length, with any share hidden in spans of any length, each span in its place."""
    tokenizer, rng = characters(Span(marks=400).specials()), np.random.default_rng(0)
    for seed in range(10_000):
        n, density, length = int(rng.integers(1, 80)), rng.uniform(0.01, 0.99), rng.uniform(1, 12)
        ids = rng.integers(0, 32, n)
        example = draw(Span(density=density, length=length, marks=400), Pieces(ids), seed, tokenizer)
        assert rebuilt(reading(example), answers(example), tokenizer, 80) == ids.tolist()


def test_every_choice_of_as_many_tokens_in_as_many_spans_is_equally_likely() -> None:
    """Trap 14: the last token is hidden as often as any such choice says, neither always nor never.

    Of 8 tokens 4 are hidden in 2 spans: 3 ways to part what is hidden times 10 to place the spans. A span is
    at the end in 2 of 5 choices: spans / (kept + 1).
    """
    noise, rng = Noise(0.5, 2.0), np.random.default_rng(0)
    assert noise.counts(8) == (4, 2)
    drawn = [noise.draw(8, rng) for _ in range(9000)]
    kinds, counts = np.unique(np.array(drawn), axis=0, return_counts=True)
    assert len(kinds) == 30 and counts.min() > 230 and counts.max() < 370
    last, first = np.mean([d[-1] for d in drawn]), np.mean([d[0] for d in drawn])
    assert abs(last - 0.4) < 0.02 and abs(first - 0.4) < 0.02


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_the_share_and_the_length_of_spans_are_as_asked(noise: Noise) -> None:
    """Trap 14: within rounding, for every n."""
    for n in range(1, 601):
        hidden, spans = noise.counts(n)
        drawn = noise.draw(n, np.random.default_rng(n))
        runs = np.flatnonzero(np.diff(np.concatenate([[0], drawn, [0]])) == 1)
        assert (drawn.sum(), len(runs)) == (hidden, spans)
        assert abs(hidden - noise.density * n) <= 0.5 or hidden in (1, n - 1)
        possible = min(hidden, n - hidden + 1)
        if noise.length:
            assert abs(spans - hidden / noise.length) <= 0.5 or spans in (1, possible)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_the_shortest_texts(n: int) -> None:
    """Trap 14: something is always asked; of two tokens and more, something is always read."""
    ids = np.arange(n)
    example = draw(Span(), Pieces(ids))
    assert rebuilt(reading(example), answers(example), characters(Span().specials()), 100) == ids.tolist()
    assert (len(reading(example)), len(answers(example))) == [(1, 1), (2, 3), (3, 3), (4, 3)][n]


@given(
    window=some.integers(3, 700),
    density=some.floats(0.01, 0.99),
    length=some.one_of(some.just(0.0), some.floats(1, 70)),
    form=some.sampled_from(["source", "prefix"]),
)
@settings(max_examples=60, deadline=None)
def test_pieces_are_as_long_as_fits(window: int, density: float, length: float, form: str) -> None:
    """Trap 14: no piece up to the cut's length outgrows the window, and one more token would."""
    from telos.objectives._sequence import places
    from telos.objectives._spans import longest_piece

    noise = Noise(density, length)

    def row(n: int) -> int:
        hidden, spans = noise.counts(n)
        return places(form, n - hidden + spans + 1, hidden + spans + 1)  # type: ignore[arg-type]

    try:
        found = longest_piece(noise, form, window)  # type: ignore[arg-type]
    except ConfigError:
        assert row(1) > window
        return
    assert all(row(n) <= window for n in range(1, found + 1)) and row(found + 1) > window


def test_the_published_lengths() -> None:
    """T5's pre-training: 568 tokens of text make 512 that are read and 114 that are said (its released
    configuration: `inputs_length` 512, `noise_density` 0.15, `mean_noise_span_length` 3)."""
    assert Span().cut(512).length == 568
    example = draw(Span(), Pieces(np.arange(568) % 30))
    assert (len(reading(example)), len(answers(example))) == (512, 114)


def test_marks_are_special_tokens_by_their_published_names() -> None:
    """Traps 13 and 88: in the vocabulary, at its end, the first with the highest id; the text cannot say
    them."""
    objective = Span(marks=5)
    tokenizer = characters(objective.specials())
    ids = [tokenizer.special(f"<extra_id_{k}>") for k in range(5)]
    assert ids == [tokenizer.size - 1 - k for k in range(5)]
    assert set(ids) <= tokenizer.special_ids
    assert not set(tokenizer.encode("<extra_id_0>").tolist()) & tokenizer.special_ids


def test_the_first_mark_of_the_text_is_number_0() -> None:
    """Trap 13, as in the docstring of the objective."""
    objective = Span()
    tokenizer = characters(objective.specials())
    ids = np.arange(13)
    example = draw(objective, Pieces(ids), 3)
    assert reading(example).index(tokenizer.special("<extra_id_0>")) == answers(example)[1]
    assert example.main.ids.tolist() == [tokenizer.begin, *answers(example)[:-1]]


def test_too_few_marks_are_refused() -> None:
    """Trap 17: nothing is ever dropped for want of a mark."""
    with pytest.raises(ConfigError, match=r"Set objective.marks to at least 28"):
        Span(marks=27).cut(512)
    assert Span(marks=28).cut(512).length == 568
    with pytest.raises(ConfigError, match=r"train.window = 2"):
        Span().cut(2)


def test_what_another_piece_answers_for_is_not_asked() -> None:
    """With a stride in evaluation, context may be hidden, but each token is asked for once."""
    ids, objective = np.arange(30), Span(density=0.5)
    whole, part = (draw(objective, Pieces(ids, ask_from=start), 1) for start in (0, 20))
    assert part.main.ids.tolist() == whole.main.ids.tolist() and reading(part) == reading(whole)
    asked = [token for token in answers(whole) if token >= 20]
    assert [token for token in answers(part) if token < 30] == [token for token in asked if token < 30]
    assert answers(part)[-1] == characters(objective.specials()).end


def test_a_pseudo_likelihood_asks_for_the_hidden_token_alone() -> None:
    """Trap 13: of a b c with b hidden: read a ⟨0⟩ c ⊣, goes in ⊢ ⟨0⟩ b, and b is asked after ⟨0⟩."""
    tokenizer = characters(Span().specials())
    mark = tokenizer.special("<extra_id_0>")
    one = np.array([1])
    example = Span().hide(Pieces([4, 5, 6])[0], one, one, tokenizer)
    assert reading(example) == [4, mark, 6, tokenizer.end] and answers(example) == [5]
    assert example.main.ids.tolist() == [tokenizer.begin, mark, 5] and example.asks[0].at.tolist() == [1]


def test_begin_and_end_tokens_of_the_text_are_never_hidden() -> None:
    """They are there if another member of a mixture asks for them."""
    tokenizer = characters(Span().specials())
    for seed in range(20):
        plain = draw(Span(density=0.9), Pieces([1, 2, 3]), seed)
        framed = draw(Span(density=0.9), Pieces([tokenizer.begin, 1, 2, 3, tokenizer.end]), seed)
        assert answers(plain) == answers(framed) and reading(plain) == reading(framed)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_of_the_prefix_form(check: Callable[[Objective, Path], None], tmp_path: Path) -> None:
    check(Span(form="prefix"), tmp_path)


@pytest.mark.parametrize("form", ["source", "prefix"])
def test_a_prompt_is_a_text_with_a_gap_after_it(form: str) -> None:
    """What is given stands as in training, and what is said ends where the next gap's would begin."""
    objective = Span(form=form, marks=3)
    tokenizer = characters(objective.specials())
    ids = tokenizer.encode("the cat sat")
    first, *others = (tokenizer.special(f"<extra_id_{n}>") for n in range(3))
    put = objective.prompt(ids, tokenizer)
    read_first = [*ids.tolist(), first, tokenizer.end]
    if form == "source":
        assert put.source is not None and put.source.ids.tolist() == read_first
        assert put.main.ids.tolist() == [tokenizer.begin, first]
    else:
        assert put.source is None and put.main.ids.tolist() == [*read_first, first]
        assert put.main.order.tolist() == [0] * len(read_first) + [1]
    assert set(put.ends) == set(others)


def test_a_model_without_an_encoder_is_shown_the_other_form() -> None:
    with pytest.raises(
        ConfigError, match=r'These models do: .*encoder_decoder.* Or set objective.form = "prefix"'
    ):
        read(Recipe, {"objective": "span", "model": "decoder", "data": {"path": "x"}})
    with pytest.raises(ConfigError, match=r"These models do: [^.]*\.$"):
        read(Recipe, {"objective": "span", "model": "gru", "data": {"path": "x"}})

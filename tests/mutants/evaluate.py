"""Bugs of evaluation, generation and the report, put back."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.mutants import mutant

LIKELIHOOD = "tests/evaluate/test_likelihood.py"
GENERATE = "tests/generate/test_left_to_right.py"
REPORT = "tests/test_report.py"


@mutant(kills=f"{LIKELIHOOD}::test_equals_a_loop_over_tokens_for_every_batch_size", trap=30)
def mean_of_batch_means(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import likelihood

    add = likelihood._add

    def averaged(tally: Any, network: Any, batch: Any, state: Any) -> Any:
        nats, tokens = float(tally.nats), int(tally.tokens)
        means = tally.__dict__.setdefault("means", [])
        state = add(tally, network, batch, state)
        means.append((float(tally.nats) - nats) / (int(tally.tokens) - tokens))
        tally.nats = sum(means) / len(means) * int(tally.tokens)
        return state

    monkeypatch.setattr(likelihood, "_add", averaged)


@mutant(kills=f"{LIKELIHOOD}::test_equals_a_loop_over_tokens_for_every_batch_size", trap=30)
def padding_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import likelihood

    collate = likelihood.collate

    def careless(*given: Any) -> Any:
        batch = collate(*given)
        asks = (dataclasses.replace(ask, weight=torch.ones_like(ask.weight)) for ask in batch.asks)
        return dataclasses.replace(batch, asks=tuple(asks))

    monkeypatch.setattr(likelihood, "collate", careless)


@mutant(kills=f"{LIKELIHOOD}::test_every_token_is_scored_exactly_once", trap=30)
def context_is_scored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.causal import Causal

    example = Causal.example

    def greedy(self: Any, read: Any, index: int, rng: Any, tokenizer: Any) -> Any:
        class Forgetful:
            def __getitem__(self, index: int) -> Any:
                return dataclasses.replace(read[index], ask_from=0)

        return example(self, Forgetful(), index, rng, tokenizer)  # type: ignore[arg-type]

    monkeypatch.setattr(Causal, "example", greedy)


@mutant(kills=f"{LIKELIHOOD}::test_equals_a_loop_over_tokens_for_every_batch_size", trap=30)
def state_leaks_into_the_next_document(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import likelihood

    carried = likelihood._carried

    def leaking(*given: Any) -> Iterator[Any]:
        for batch in carried(*given):
            yield dataclasses.replace(batch, continues=torch.ones_like(batch.continues))

    monkeypatch.setattr(likelihood, "_carried", leaking)


@mutant(kills=f"{LIKELIHOOD}::test_evaluation_is_without_dropout_and_restores_every_mode", trap=22)
def dropout_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    @contextlib.contextmanager
    def awake(self: Any) -> Iterator[None]:
        with torch.no_grad():
            yield

    monkeypatch.setattr(Network, "at_rest", awake)


@mutant(kills=f"{LIKELIHOOD}::test_evaluation_is_without_dropout_and_restores_every_mode", trap=22)
def no_dropout_after_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    @contextlib.contextmanager
    def asleep(self: Any) -> Iterator[None]:
        self.eval()
        with torch.no_grad():
            yield

    monkeypatch.setattr(Network, "at_rest", asleep)


@mutant(kills=f"{LIKELIHOOD}::test_evaluation_is_without_dropout_and_restores_every_mode", trap=22)
def frozen_parts_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._base import Network

    at_rest = Network.at_rest

    @contextlib.contextmanager
    def waking(self: Any) -> Iterator[None]:
        with at_rest(self):
            yield
        self.train()

    monkeypatch.setattr(Network, "at_rest", waking)


@mutant(kills=f"{LIKELIHOOD}::test_an_empty_split_is_an_error_and_never_zero", trap=31)
def nothing_is_perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import likelihood

    monkeypatch.setattr(likelihood, "_parts", lambda *given: [])


@mutant(kills=f"{LIKELIHOOD}::test_two_evaluations_are_identical", trap=31)
def another_part_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import likelihood

    generator, calls = np.random.default_rng, iter(range(1_000_000))
    monkeypatch.setattr(
        likelihood.np.random, "default_rng", lambda seed=None: generator(next(calls) if seed == 0 else seed)
    )


@mutant(kills=f"{LIKELIHOOD}::test_a_limited_score_counts_the_bytes_of_what_it_scored", trap=34)
def bytes_of_the_whole_split(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import likelihood

    monkeypatch.setattr(likelihood, "_bytes", lambda shards, *given: int(shards.text_bytes.sum()))


@mutant(kills=f"{LIKELIHOOD}::test_bits_per_byte_of_a_uniform_model_in_closed_form", trap=34)
def characters_for_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.evaluate import likelihood

    def characters(shards: Any, corpus: Any, tokenizer: Any, parts: Any) -> int:
        return sum(len(tokenizer.decode(shards.document(part.document))) for part in parts)

    monkeypatch.setattr(likelihood, "_bytes", characters)


@mutant(kills=f"{LIKELIHOOD}::test_each_document_begins_with_exactly_one_begin_token", trap=35)
def no_begin_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.batch import Cut
    from telos.objectives.causal import Causal

    def cut(self: Any, window: int) -> Cut:
        return Cut(length=window + 1, overlap=1, begin=False, end=True)

    monkeypatch.setattr(Causal, "cut", cut)


@mutant(kills=f"{LIKELIHOOD}::test_each_document_begins_with_exactly_one_begin_token", trap=35)
def two_begin_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.causal import Causal

    example = Causal.example

    def doubled(self: Any, read: Any, index: int, rng: Any, tokenizer: Any) -> Any:
        made = example(self, read, index, rng, tokenizer)
        if len(made.main) > 1 and read[index].start == 0:
            ids = made.main.ids.copy()
            ids[1] = tokenizer.begin
            made = dataclasses.replace(made, main=dataclasses.replace(made.main, ids=ids))
        return made

    monkeypatch.setattr(Causal, "example", doubled)


@mutant(kills=f"{GENERATE}::test_cached_state_gives_what_a_full_forward_pass_gives", trap=23)
def positions_start_again_at_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._rows import Row

    places = Row.places
    monkeypatch.setattr(Row, "places", lambda self, start, read: places(self, read or start, read))


@mutant(kills=f"{GENERATE}::test_cached_state_gives_what_a_full_forward_pass_gives", trap=23)
def padding_shifts_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _past

    padded = _past.padded

    def shifted(parts: Any, *rest: Any) -> Any:
        longest = max(len(part.ids) for part in parts)
        moved = [part._replace(positions=part.positions + longest - len(part.ids)) for part in parts]
        return padded([part._replace(order=part.positions) for part in moved], *rest)

    monkeypatch.setattr(_past, "padded", shifted)


@mutant(kills=f"{GENERATE}::test_a_sample_is_the_same_in_any_company", trap=23)
def padding_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _past

    padded = _past.padded

    def unmarked(*given: Any) -> Any:
        rows = padded(*given)
        zero = torch.zeros_like(rows.segment)
        return dataclasses.replace(rows, segment=zero, seen=zero == 0)

    monkeypatch.setattr(_past, "padded", unmarked)


@mutant(kills=f"{GENERATE}::test_a_sample_is_the_same_in_any_company", trap=23)
def one_generator_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _rows

    shared = np.random.default_rng(0)
    monkeypatch.setattr(_rows, "generator", lambda *given: shared)


@mutant(kills=f"{GENERATE}::test_beyond_the_window_it_goes_on_from_the_last_half[learned-8]", trap=23)
def positions_beyond_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate._past import Past

    monkeypatch.setattr(Past, "slide", lambda self: [])


@mutant(kills=f"{GENERATE}::test_special_and_unknown_tokens_are_never_drawn", trap=88)
def special_tokens_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _rows

    allowed = _rows.allowed
    none = np.array([], np.int64)
    monkeypatch.setattr(_rows, "allowed", lambda logits, size, forbidden: allowed(logits, size, none))


@mutant(kills=f"{GENERATE}::test_special_and_unknown_tokens_are_never_drawn", trap=88)
def outputs_beyond_the_vocabulary_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _rows

    allowed = _rows.allowed
    monkeypatch.setattr(
        _rows, "allowed", lambda logits, size, forbidden: allowed(logits, len(logits), forbidden)
    )


@mutant(kills=f"{GENERATE}::test_streamed_text_is_the_decoded_text_wherever_it_is_cut", trap=51)
def tokens_are_decoded_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.tokenizer import Stream

    def broken(self: Any, id: int) -> str:
        return str(self._tokenizer.token_bytes(id).decode("utf-8", "replace"))

    monkeypatch.setattr(Stream, "add", broken)


@mutant(kills=f"{GENERATE}::test_stop_strings_cut_the_text_wherever_tokens_end", trap=51)
def stop_strings_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _rows

    monkeypatch.setattr(_rows, "held_back", lambda text, stop: 0)


@mutant(kills=f"{REPORT}::test_text_never_becomes_markup", trap=74)
def markup_is_not_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import report

    environment = report.environment

    def careless() -> Any:
        made = environment()
        made.autoescape = False
        return made

    monkeypatch.setattr(report, "environment", careless)


@mutant(kills=f"{REPORT}::test_what_reorders_or_hides_text_is_shown_as_its_code", trap=74)
def control_characters_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import report

    monkeypatch.setattr(report, "visible", str)


@mutant(kills=f"{REPORT}::test_full_paths_are_not_passed_on", trap=78)
def paths_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import report

    monkeypatch.setattr(report, "_without_folders", lambda text: text)


@mutant(kills="tests/test_doctor.py::test_the_description_names_neither_host_nor_user_nor_folder", trap=78)
def the_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    from telos import doctor

    monkeypatch.setattr(doctor, "_processor", platform.node)


@mutant(kills=f"{GENERATE}::test_cached_state_gives_what_a_full_forward_pass_gives[state_space]", trap=23)
def padding_fades_the_state_of_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models.state_space import Mixer

    right = Mixer._speeds
    monkeypatch.setattr(Mixer, "_speeds", lambda self, step, real: right(self, step, torch.ones_like(real)))


@mutant(kills=f"{GENERATE}::test_cached_state_gives_what_a_full_forward_pass_gives[local]", trap=23)
def what_is_near_is_counted_in_places_of_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding on the left counts, and so the cache of a short prompt seems further away."""
    from telos.models import _transformer

    right = _transformer.near

    def wrong(query: Any, key: Any, reach: int) -> Any:
        place = torch.arange(key.shape[1]).expand(key.shape)
        return right(place[:, key.shape[1] - query.shape[1] :], place, reach - 1)

    monkeypatch.setattr(_transformer, "near", wrong)


@mutant(kills=f"{GENERATE}::test_cached_state_gives_what_a_full_forward_pass_gives[grouped]", trap=23)
def groups_share_the_keys_of_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """On cached state: each query head takes the key head of the next group."""
    from telos.models import _layers

    right = _layers.functional.scaled_dot_product_attention

    def wrong(q: Any, k: Any, v: Any, *rest: Any, **named: Any) -> Any:
        cached = q.shape[-2] != k.shape[-2]
        return right(q, k.roll(1, 1) if cached else k, v, *rest, **named)

    monkeypatch.setattr(_layers.functional, "scaled_dot_product_attention", wrong)


@mutant(kills=f"{GENERATE}::test_cached_state_gives_what_a_full_forward_pass_gives[rotary]", trap=35)
def a_prompt_begins_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import _rows

    right = _rows.after_begin
    monkeypatch.setattr(
        _rows,
        "after_begin",
        lambda ids, tokenizer: right(np.concatenate([[tokenizer.begin], ids]), tokenizer),
    )

"""Bugs of the objectives that train with a second model, ask several heads, or hide by chance."""

from dataclasses import replace
from typing import Any

import pytest

from tests.mutants import mutant

DISTIL = "tests/objectives/test_distil.py::"


@mutant(kills=f"{DISTIL}test_the_worked_example")
def only_the_teacher_is_tempered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The student's logits stay as they are, and the gradient is not scaled back."""
    from telos.objectives import distil

    soft = distil.Soft
    monkeypatch.setattr(distil, "Soft", lambda *, of, temperature: soft(of=of))


@mutant(kills=f"{DISTIL}test_the_teacher_is_asked_a_chunk_at_a_time_and_learns_nothing")
def the_teacher_answers_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its distributions of all places exist together."""
    from telos.objectives.distil import Distil

    made = Distil._soft

    def whole(self: Distil, teacher: Any, flat: Any, ask: Any) -> Any:
        lazy = made(self, teacher, flat, ask)
        every = lazy.soft.of(slice(None))
        return replace(lazy, soft=replace(lazy.soft, of=lambda rows: every[rows]))

    monkeypatch.setattr(Distil, "_soft", whole)


@mutant(kills=f"{DISTIL}test_a_teacher_that_is_sure_and_right_is_the_hard_loss[0.5]", trap=4)
def the_teacher_is_read_one_place_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.distil import Distil

    made = Distil._soft
    monkeypatch.setattr(
        Distil, "_soft", lambda self, teacher, flat, ask: made(self, teacher, flat.roll(1, 0), ask)
    )


@mutant(kills=f"{DISTIL}test_with_nothing_asked_nothing_is_learned", trap=8)
def what_weighs_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.distil import Distil

    made = Distil._soft

    def weighed(self: Distil, teacher: Any, flat: Any, ask: Any) -> Any:
        return replace(made(self, teacher, flat, ask), weight=ask.weight + 1)

    monkeypatch.setattr(Distil, "_soft", weighed)


MULTI = "tests/objectives/test_multi_token.py::"


@mutant(kills=f"{MULTI}test_each_head_is_asked_the_token_so_far_ahead", trap=4)
def every_head_is_asked_the_next_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import multi_token

    ask = multi_token._ask
    monkeypatch.setattr(multi_token, "_ask", lambda piece, k: replace(ask(piece, 1), head=f"tokens{k}"))


@mutant(kills=f"{MULTI}test_context_is_not_asked_again")
def further_heads_are_asked_of_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same token is then asked in two pieces."""
    from telos.objectives import multi_token

    ask = multi_token._ask
    monkeypatch.setattr(multi_token, "_ask", lambda piece, k: ask(replace(piece, ask_from=0), k))


@mutant(kills=f"{MULTI}test_heads_that_share_a_projection_differ[decoder]")
def further_heads_have_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads on one tied projection all say the same."""
    from telos.models import _heads

    monkeypatch.setattr(_heads.Ahead, "forward", lambda self, x: x)


DIFFUSION = "tests/objectives/test_diffusion.py::"


def change_noise(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    from telos.objectives import diffusion

    noised = diffusion._noised
    monkeypatch.setattr(diffusion, "_noised", lambda *given: change(noised(*given)))


@mutant(kills=f"{DIFFUSION}test_training_draws_have_the_bound_as_their_mean")
def hidden_tokens_all_weigh_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weight 1 in place of 1/t: a masked model's loss, and no bound."""

    def flat(example: Any) -> Any:
        (ask,) = example.asks
        return replace(example, asks=(replace(ask, weight=ask.weight * 0 + 1),))

    change_noise(monkeypatch, flat)


@mutant(kills=f"{DIFFUSION}test_the_table_of_what_is_hidden_and_asked", trap=4)
def the_place_after_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a causal model would be: the answers stand one place off."""

    def shifted(example: Any) -> Any:
        (ask,) = example.asks
        return replace(example, asks=(replace(ask, at=ask.at - 1),))

    change_noise(monkeypatch, shifted)


@mutant(kills=f"{DIFFUSION}test_context_is_seen_and_not_asked", trap=9)
def context_and_the_begin_token_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import diffusion

    noised = diffusion._noised
    monkeypatch.setattr(diffusion, "_noised", lambda piece, *rest: noised(replace(piece, ask_from=0), *rest))


@mutant(kills=f"{DIFFUSION}test_every_number_and_every_place_is_as_likely")
def the_rate_is_that_of_a_masked_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import diffusion

    noised = diffusion._noised
    monkeypatch.setattr(diffusion, "_noised", lambda piece, time, *rest: noised(piece, 0.15, *rest))


@mutant(kills=f"{DIFFUSION}test_held_out_text_is_scored_as_a_bound_whatever_the_batch", trap=3)
def draws_are_counted_as_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each draw of held-out text with its full weight: the figures grow with their number."""
    from telos.objectives import diffusion

    noised = diffusion._noised
    monkeypatch.setattr(
        diffusion, "_noised", lambda piece, time, share, *rest: noised(piece, time, 1.0, *rest)
    )


UNMASKING = "tests/generate/test_unmasking.py::"


@mutant(kills=f"{UNMASKING}test_nothing_comes_after_an_end_token", trap=5)
def text_goes_on_behind_an_end_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import unmasking

    begin = unmasking._Fill._begin

    def endless(self: Any) -> None:
        self.row.ends = set()
        begin(self)

    monkeypatch.setattr(unmasking._Fill, "_begin", endless)


@mutant(kills=f"{UNMASKING}test_the_surest_place_is_found_first")
def the_first_place_is_found_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import unmasking

    monkeypatch.setattr(unmasking._Fill, "_next", lambda self, logits, count: unmasking.np.arange(count))


@mutant(kills=f"{UNMASKING}test_blocks_fit_the_window_and_the_last_half_goes_on[0]", trap=23)
def a_block_leaves_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate import unmasking

    monkeypatch.setattr(unmasking._Fill, "_room", lambda self, wanted: wanted)


PERMUTED = "tests/objectives/test_permuted.py::"


def change_streams(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    from telos.objectives import permuted

    streams = permuted._streams
    monkeypatch.setattr(permuted, "_streams", lambda *given: change(streams(*given)))


@mutant(
    kills=f"{PERMUTED}test_a_query_sees_what_came_before_and_never_its_own_token[trained-decoder]", trap=15
)
def queries_see_their_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """One order too late: the loss falls to zero and nothing is learned."""

    def late(example: Any) -> Any:
        order = example.main.order | 1
        return replace(example, main=replace(example.main, order=order))

    change_streams(monkeypatch, late)


@mutant(
    kills=f"{PERMUTED}test_a_query_sees_what_came_before_and_never_its_own_token[trained-decoder]", trap=15
)
def queries_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(example: Any) -> Any:
        return replace(example, main=replace(example.main, seen=example.main.seen | True))

    change_streams(monkeypatch, shown)


@mutant(kills=f"{PERMUTED}test_the_worked_example", trap=4)
def queries_have_positions_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query does not know which place it asks about."""

    def numbered(example: Any) -> Any:
        positions = example.main.positions.argsort().argsort()
        return replace(example, main=replace(example.main, positions=positions))

    change_streams(monkeypatch, numbered)


@mutant(kills=f"{PERMUTED}test_every_order_is_as_likely", trap=11)
def the_order_is_that_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.permuted import Permuted

    example = Permuted.example

    class Still:
        def permutation(self, count: int) -> Any:
            return list(range(count))

    monkeypatch.setattr(
        Permuted,
        "example",
        lambda self, read, index, rng, vocabulary: example(self, read, index, Still(), vocabulary),
    )


REPLACED = "tests/objectives/test_replaced.py::"


@mutant(kills=f"{REPLACED}test_a_draw_that_is_the_true_token_was_not_replaced", trap=18)
def what_was_hidden_counts_as_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the generator said the true token."""
    from telos.objectives import replaced

    filled = replaced._filled

    def labelled(generator: Any, flat: Any, batch: Any, seed: int) -> Any:
        made = filled(generator, flat, batch, seed)
        hidden = {i for ask in replaced._hidden(batch) for i in ask.at[ask.weight > 0].tolist()}
        asks = []
        for ask in made.asks:
            target = ask.target.clone()
            for place, at in enumerate(ask.at.tolist()):
                target[place] = int(at in hidden)
            asks.append(replace(ask, target=target))
        return replace(made, asks=tuple(asks))

    monkeypatch.setattr(replaced, "_filled", labelled)


@mutant(kills=f"{REPLACED}test_the_worked_example_and_the_sum_of_both", trap=18)
def only_one_loss_is_optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.replaced import Replaced

    step = Replaced.step

    def half(self: Any, *given: Any) -> Any:
        answer = step(self, *given)
        return answer._replace(sums={"replaced": answer.sums["replaced"]})

    monkeypatch.setattr(Replaced, "step", half)


@mutant(kills=f"{REPLACED}test_the_worked_example_and_the_sum_of_both", trap=18)
def both_losses_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives.replaced import Replaced

    monkeypatch.setattr(Replaced, "coefficient", lambda self, term: 1.0)


@mutant(kills=f"{REPLACED}test_no_gradient_of_the_discriminator_reaches_the_generator", trap=18)
def the_discriminator_teaches_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through its hidden states, which are added to the discriminator's loss."""
    from telos.objectives.replaced import Replaced

    step = Replaced.step

    def leaking(self: Any, models: Any, batch: Any, *rest: Any) -> Any:
        answer = step(self, models, batch, *rest)
        states, _ = models["generator"].encode(batch.main)
        return answer._replace(
            sums={**answer.sums, "replaced": answer.sums["replaced"] * (1 + 1e-3 * states.mean())}
        )

    monkeypatch.setattr(Replaced, "step", leaking)


@mutant(kills=f"{REPLACED}test_draws_belong_to_the_sample_and_not_to_the_batch", trap=18)
def draws_belong_to_the_place_in_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from telos.objectives import replaced

    def by_place(seed: int, batch: Any) -> Any:
        return torch.rand(batch.main.shape, generator=torch.Generator().manual_seed(seed))

    monkeypatch.setattr(replaced, "_uniform", by_place)


@mutant(kills=f"{REPLACED}test_draws_have_the_chances_that_the_generator_says", trap=18)
def the_generator_says_its_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """The likeliest token in place of a drawn one."""
    from telos.objectives import replaced

    monkeypatch.setattr(
        replaced, "_drawn", lambda generator, hidden, chance: generator.logits(hidden).argmax(-1)
    )


@mutant(kills=f"{REPLACED}test_what_is_said_of_hiding_reaches_it", trap=18)
def the_rate_of_hiding_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.objectives import replaced

    monkeypatch.setattr(replaced, "_ALL_MASKED", {})


@mutant(kills=f"{REPLACED}test_a_shared_table_gets_no_gradient_of_the_discriminator", trap=18)
def the_shared_table_is_pulled_two_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import Tensor

    detach = Tensor.detach
    monkeypatch.setattr(
        Tensor, "detach", lambda self: self if self.requires_grad and self.is_leaf else detach(self)
    )


SPECULATIVE = "tests/generate/test_speculative.py::"


@mutant(kills=f"{SPECULATIVE}test_the_text_is_that_of_left_to_right[9-0.7-decoder]", trap=23)
def wrong_guesses_stay_in_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models._transformer import Transformer

    monkeypatch.setattr(Transformer, "unread", lambda self, state, places: state)


@mutant(kills=f"{SPECULATIVE}test_a_wrong_guess_costs_what_is_behind_it_and_changes_nothing[2]")
def guesses_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without looking at what would have been drawn."""
    from telos.generate.speculative import Speculative

    def believing(self: Any, row: Any, guesses: Any, hidden: Any) -> int:
        for right, logits in enumerate(self.network.logits(hidden).double().numpy()):
            row.take(logits)
            if row.finished or right == len(guesses):
                return right
            row.ids[-1] = guesses[right]
        raise AssertionError

    monkeypatch.setattr(Speculative, "_check", believing)


@mutant(kills=f"{SPECULATIVE}test_right_guesses_save_runs[4-7]")
def nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.generate.speculative import Speculative

    monkeypatch.setattr(Speculative, "_guess", lambda self, row, hidden: [])

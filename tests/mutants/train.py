"""Bugs of packing, loading, training, checkpoints and logs that others have had."""

import contextlib
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from telos.batch import Place
from telos.data import layout, loader, packing
from telos.objectives.causal import Causal
from telos.train import checkpoint, loop, state
from telos.train.loop import Trainer
from tests.mutants import mutant

LOOP = "tests/train/test_loop.py::"
LOADER = "tests/data/test_loader.py::"
PACKING = "tests/data/test_packing.py::"
CHECKPOINT = "tests/train/test_checkpoint.py::"
RESUME = "tests/train/test_resume.py::"
STOPPED = f"{RESUME}test_stopped_at_any_step_a_run_goes_on_as_if_it_had_not_been"


@mutant(kills=f"{LOOP}test_a_step_does_not_depend_on_how_it_is_cut", trap=1)
def divided_by_one_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is divided by what its first micro-batch was asked."""
    monkeypatch.setattr(loop, "total", lambda parts: dict(next(iter(parts))))


@mutant(kills=f"{LOOP}test_each_term_has_its_denominator_and_its_coefficient", trap=1)
def one_denominator_for_all_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "owner", lambda term, denominators: next(iter(denominators)))


@mutant(kills=f"{LOOP}test_the_logged_loss_is_what_evaluation_would_say", trap=3)
def auxiliary_terms_in_the_logged_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Trainer._losses

    def losses(self: Trainer) -> dict[str, float]:
        found = before(self)
        return found | {"loss": math.fsum(value for name, value in found.items() if name != "loss")}

    monkeypatch.setattr(Trainer, "_losses", losses)


@mutant(kills=f"{LOOP}test_a_tokens_own_prediction_is_asked_of_the_token_before", trap=4)
def no_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token is asked of itself."""
    before = Causal.example

    def example(self: Causal, *given: Any) -> Any:
        made = before(self, *given)
        asks = tuple(replace(ask, target=made.main.ids[ask.at]) for ask in made.asks)
        return replace(made, asks=asks)

    monkeypatch.setattr(Causal, "example", example)


@mutant(kills=f"{PACKING}test_padding_is_known_by_place_and_not_by_id", trap=5)
def padding_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    before = packing._lay

    def lay(made: dict[str, Any], *given: Any) -> None:
        before(made, *given)
        made["seen"] &= made["ids"] != 0

    monkeypatch.setattr(packing, "_lay", lay)


@mutant(kills=f"{PACKING}test_documents_in_a_row_never_see_each_other", trap=6)
def positions_reset_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed documents share a segment, so they see each other."""
    monkeypatch.setattr(packing, "_offsets", lambda rows: [[0] * len(row) for row in rows])


@mutant(kills=f"{PACKING}test_each_example_is_in_the_batch_as_it_was", trap=7)
def positions_go_on_across_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    before = packing._lay

    def lay(made: dict[str, Any], side: Any, offset: int, row: int, start: int) -> None:
        before(made, side, offset, row, start)
        made["positions"][row, start : start + len(side)] += start

    monkeypatch.setattr(packing, "_lay", lay)


@mutant(kills=f"{LOOP}test_a_step_of_which_nothing_is_asked_changes_nothing", trap=8)
def nothing_divided_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(self: Trainer, sums: Mapping[str, Tensor], denominators: Mapping[str, float]) -> Tensor:
        return torch.stack([value / torch.tensor(denominators[term]) for term, value in sums.items()]).sum()

    monkeypatch.setattr(Trainer, "_loss", loss)
    monkeypatch.setattr(loop, "any", lambda values: True, raising=False)


@mutant(kills=f"{LOOP}test_dropout_is_on_before_and_after_evaluation_and_after_a_resume", trap=22)
def evaluation_leaves_dropout_off(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Trainer._ready_models

    def ready(self: Trainer) -> None:
        if not hasattr(self, "device"):  # only while it is made
            before(self)

    monkeypatch.setattr(Trainer, "_ready_models", ready)


@mutant(kills=f"{LOOP}test_adamw_steps_are_those_of_the_formulas_through_a_skip_and_a_resume", trap=27)
def bias_correction_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = state.restore_optimizer

    def restored(optimizer: Any, names: Any, tensors: Mapping[str, Tensor], plain: Any) -> None:
        counted = {k: torch.zeros_like(t) if k.startswith("step/") else t for k, t in tensors.items()}
        before(optimizer, names, counted, plain)

    monkeypatch.setattr(loop, "restore_optimizer", restored)


@mutant(kills=f"{LOOP}test_carried_windows_are_one_long_pass", trap=28)
def state_of_another_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row goes on from the state of the row before, whatever it holds."""
    before = loader._batches

    def batches(plan: Any, group: Any, part: Any) -> Any:
        made = before(plan, group, part)
        return tuple(replace(batch, continues=torch.ones_like(batch.continues)) for batch in made)

    monkeypatch.setattr(loader, "_batches", batches)


@mutant(kills=f"{LOOP}test_carried_windows_are_one_long_pass", trap=28)
def state_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "detached", lambda state: None)


@mutant(kills=f"{LOOP}test_the_history_of_carried_state_does_not_grow", trap=28)
def history_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.models import _recurrent

    def collected(names: tuple[str, ...], after: list[list[Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([layer[k] for layer in after], 1) for k, name in enumerate(names)}

    monkeypatch.setattr(_recurrent, "collected", collected)
    monkeypatch.setattr(loop, "detached", lambda state: state)


@mutant(
    kills="tests/train/test_settings.py::test_every_setting_changes_the_fingerprint_and_the_run[compute.clip]",
    trap=39,
)
def a_setting_that_reaches_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.settings import ComputeSettings

    class Compute(ComputeSettings):
        def __getattribute__(self, name: str) -> Any:
            return 1.0 if name == "clip" else super().__getattribute__(name)

    before = Trainer.__init__

    def made(self: Trainer, **given: Any) -> None:
        before(self, **given)
        compute = Compute(**self.settings.compute.table())
        self.settings = self.settings.model_copy(update={"compute": compute})

    monkeypatch.setattr(Trainer, "__init__", made)


@mutant(kills=f"{STOPPED}[decoder]", trap=40)
def place_is_saved_and_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Trainer._load_state

    def load(self: Trainer, saved: Any) -> None:
        before(self, saved)
        self.state.place = Place()

    monkeypatch.setattr(Trainer, "_load_state", load)


@mutant(kills=f"{RESUME}test_three_resumes_and_none_between_them", trap=41)
def state_is_frozen_after_the_first_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    load, save = Trainer._load_state, Trainer.save

    def loads(self: Trainer, saved: Any) -> None:
        load(self, saved)
        self._frozen = self.state.place  # type: ignore[attr-defined]

    def saves(self: Trainer) -> None:
        now, self.state.place = self.state.place, getattr(self, "_frozen", self.state.place)
        save(self)
        self.state.place = now

    monkeypatch.setattr(Trainer, "_load_state", loads)
    monkeypatch.setattr(Trainer, "save", saves)


@mutant(kills=f"{LOADER}test_from_any_place_the_same_batches_follow", trap=42)
def epoch_is_lost_at_its_border(monkeypatch: pytest.MonkeyPatch) -> None:
    before = loader._keys

    def keys(layout: Any, place: Place) -> Any:
        return before(layout, replace(place, epoch=place.epoch if place.block else 0))

    monkeypatch.setattr(loader, "_keys", keys)


@mutant(kills=f"{LOADER}test_from_any_place_the_same_batches_follow", trap=42)
def steps_within_a_block_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    before = loader.steps
    monkeypatch.setattr(
        loader, "steps", lambda plan, place, *part: before(plan, replace(place, step=0), *part)
    )


@mutant(kills=f"{LOADER}test_each_epoch_reads_every_sample_once_in_an_order_of_its_own", trap=43)
def every_epoch_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    before = layout.permuted
    monkeypatch.setattr(layout, "permuted", lambda index, n, seed, epoch: before(index, n, seed, 0))


@mutant(
    kills="tests/data/test_order.py::test_epochs_and_seeds_differ_and_none_is_the_order_of_the_files", trap=43
)
def order_does_not_know_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import order

    monkeypatch.setattr(order, "_keys", lambda seed, epoch: [seed + turn for turn in range(8)])


@mutant(kills=f"{LOADER}test_workers_change_nothing", trap=44)
def workers_have_seeds_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = layout.sample_rng
    monkeypatch.setattr(layout, "sample_rng", lambda seed, *rest: before(seed + os.getpid(), *rest))


@mutant(kills=f"{LOADER}test_each_epoch_reads_every_sample_once_in_an_order_of_its_own", trap=45)
def short_steps_are_filled_by_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    before = layout.share

    def share(rows: list[Any], turn: int, turns: int) -> list[Any]:
        part = before(rows, turn, turns)
        return part + rows[: -(-len(rows) // turns) - len(part)]

    monkeypatch.setattr(layout, "share", share)


@mutant(kills=f"{LOADER}test_micro_batches_cut_a_step_and_do_not_change_it", trap=45)
def micro_batches_change_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    before = loader.layout_of

    def layout_of(plan: Any) -> Any:
        return before(replace(plan, batch=plan.micro_batch or plan.batch))

    monkeypatch.setattr(loader, "layout_of", layout_of)


@mutant(kills=f"{LOADER}test_a_worker_that_dies_or_hangs_is_an_error_and_soon", trap=55)
def a_dead_worker_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "dead_worker", lambda error: None)


@mutant(kills=f"{CHECKPOINT}test_killed_at_any_instant_of_replacing_a_step_it_is_still_there", trap=57)
def the_old_one_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def publish(temporary: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        time.sleep(0.005)
        temporary.rename(target)

    monkeypatch.setattr(checkpoint, "_publish", publish)


@mutant(kills=f"{CHECKPOINT}test_killed_at_any_call_of_save_the_old_or_the_new_is_there", trap=57)
def written_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """No temporary folder and no check on reading: a save that is killed leaves half a checkpoint as the
    newest.
    """

    def publish(temporary: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for path in sorted(temporary.iterdir()):
            path.rename(target / path.name)
        temporary.rmdir()

    monkeypatch.setattr(checkpoint, "_publish", publish)
    monkeypatch.setattr(checkpoint, "_verified", lambda path: {"step": int(path.name[5:13]), "files": {}})


@mutant(kills=f"{CHECKPOINT}test_a_broken_checkpoint_is_passed_over_with_a_warning", trap=58)
def hashes_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_verify", lambda path, noted: None)


@mutant(kills=f"{CHECKPOINT}test_retention_keeps_the_newest_the_best_and_the_last_whole_one", trap=59)
def the_last_whole_one_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_is_whole", lambda path: False)


@mutant(kills=f"{RESUME}test_the_best_checkpoint_is_outside_of_the_rotation", trap=59)
def the_best_is_rotated_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = checkpoint.retain

    def retain(folder: Path, keep: int) -> None:
        (folder / "best.json").unlink(missing_ok=True)
        before(folder, keep)

    monkeypatch.setattr(checkpoint, "retain", retain)


@mutant(kills=f"{CHECKPOINT}test_weights_that_are_not_finite_are_never_published", trap=59)
def broken_weights_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_refuse_non_finite", lambda file, named: None)


@mutant(kills=f"{CHECKPOINT}test_a_full_disk_leaves_the_previous_checkpoint", trap=60)
def half_written_files_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    quiet = types.SimpleNamespace(rmtree=lambda path, ignore_errors=False: None)
    monkeypatch.setattr(checkpoint, "shutil", quiet)


@mutant(
    kills="tests/train/test_log.py::test_a_log_that_cannot_be_written_is_told_once_and_training_goes_on",
    trap=60,
)
def a_log_that_fails_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.log import Log

    monkeypatch.setattr(Log, "_surviving", lambda self, kind: contextlib.nullcontext())


@mutant(kills=f"{STOPPED}[decoder]", trap=61)
def generators_are_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)


@mutant(kills=f"{LOADER}test_workers_draw_nothing_from_the_runs_generator", trap=61)
def the_loader_draws_from_the_runs_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "Generator", lambda: None)


@mutant(kills=f"{RESUME}test_the_rate_is_a_function_of_the_place_in_the_run", trap=62)
def the_warm_up_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    load, before = Trainer._load_state, loop.rate_at
    start = [0]

    def loads(self: Trainer, saved: Any) -> None:
        load(self, saved)
        start[0] = self.state.step

    monkeypatch.setattr(Trainer, "_load_state", loads)
    monkeypatch.setattr(
        loop, "rate_at", lambda settings, step, share: before(settings, step - start[0], share)
    )


@mutant(kills=f"{STOPPED}[gru, carried]", trap=63)
def moments_are_cast(monkeypatch: pytest.MonkeyPatch) -> None:
    before = state.restore_optimizer

    def restored(optimizer: Any, names: Any, tensors: Mapping[str, Tensor], plain: Any) -> None:
        before(optimizer, names, {name: t.bfloat16().float() for name, t in tensors.items()}, plain)

    monkeypatch.setattr(loop, "restore_optimizer", restored)


@mutant(kills=f"{CHECKPOINT}test_what_is_saved_comes_back_bit_for_bit", trap=63)
def saved_in_one_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    before = checkpoint.save_file

    def save(tensors: Mapping[str, Tensor], *rest: Any, **given: Any) -> None:
        before({k: t.float() if t.is_floating_point() else t for k, t in tensors.items()}, *rest, **given)

    monkeypatch.setattr(checkpoint, "save_file", save)


@mutant(kills=f"{CHECKPOINT}test_loading_is_strict", trap=64)
def loading_is_lax(monkeypatch: pytest.MonkeyPatch) -> None:
    def restore(module: torch.nn.Module, saved: Mapping[str, Tensor], what: str = "") -> None:
        with torch.no_grad():
            for name, tensor in checkpoint.weights(module).items():
                if name in saved and saved[name].shape == tensor.shape:
                    tensor.copy_(saved[name])

    monkeypatch.setattr(checkpoint, "restore", restore)


@mutant(kills=f"{CHECKPOINT}test_wrappers_leave_no_trace[plain-compiled]", trap=64)
def prefixes_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_WRAPPERS", "no such prefix")
    monkeypatch.setattr(checkpoint, "bare", lambda module: module)


@mutant(kills=f"{LOOP}test_a_step_that_is_not_finite_changes_nothing_but_the_count", trap=65)
def broken_gradients_reach_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients, clip = Trainer._gradients, Trainer._clip
    monkeypatch.setattr(Trainer, "_gradients", lambda self, *given: (gradients(self, *given)[0], True))

    def clipped(self: Trainer) -> float:
        clip(self)
        return 1.0

    monkeypatch.setattr(Trainer, "_clip", clipped)


@mutant(kills=f"{LOOP}test_a_run_that_keeps_being_broken_stops_with_advice", trap=65)
def a_broken_run_goes_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Trainer._advance

    def advance(self: Trainer, step: Any, asked: Any, good: bool) -> None:
        before(self, step, asked, True)

    monkeypatch.setattr(Trainer, "_advance", advance)


@mutant(
    kills="tests/train/test_signals.py::test_a_signal_during_evaluation_does_not_wait_for_its_end", trap=66
)
def signals_wait_for_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.signals import Signals

    monkeypatch.setattr(Signals, "at_once", lambda self: contextlib.nullcontext())


@mutant(kills=f"{LOADER}test_workers_survive_polite_signals_and_leave_with_the_loader", trap=66)
def workers_obey_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_no_signals", lambda: contextlib.nullcontext())


@mutant(kills="tests/train/test_signals.py::test_a_signal_during_a_step_lets_it_finish", trap=66)
def a_signal_stops_without_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Trainer.save

    def save(self: Trainer) -> None:
        if not self._signals.received:
            before(self)

    monkeypatch.setattr(Trainer, "save", save)


@mutant(kills=f"{CHECKPOINT}test_a_pickle_in_a_checkpoint_is_refused_and_does_not_run", trap=69)
def weights_may_be_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path) -> Any:
        with contextlib.suppress(Exception):
            return torch.load(path, weights_only=False)
        return checkpoint.load_file(path)

    monkeypatch.setattr(checkpoint, "_load_tensors", load)


@mutant(kills=f"{CHECKPOINT}test_a_malformed_file_is_refused", trap=73)
def a_parser_that_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header is believed: offsets are cut to what is there, shapes to what fits."""
    import json
    import struct

    def load(path: Path) -> dict[str, Tensor]:
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        data = content[8 + length :]
        header = json.loads(content[8 : 8 + length])
        return {
            name: torch.from_numpy(np.frombuffer(data[slice(*entry["data_offsets"])], np.float32).copy())
            for name, entry in header.items()
        }

    monkeypatch.setattr(checkpoint, "_load_tensors", load)


@mutant(kills="tests/train/test_log.py::test_a_run_writes_no_secret", trap=78)
def the_environment_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train import log

    before = log._Lines.write

    def write(self: Any, step: int, values: Mapping[str, Any]) -> None:
        before(self, step, {**values, "environment": dict(os.environ)})

    monkeypatch.setattr(log._Lines, "write", write)

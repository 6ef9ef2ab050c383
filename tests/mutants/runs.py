"""Bugs of runs: going on where one must not, using what is broken, saying what nobody should know."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import mutant

RUN = "tests/test_run.py::"


@mutant(kills=f"{RUN}test_a_changed_setting_is_refused_by_name", trap=39)
def any_setting_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.folder._may_change", lambda key, old, new: True)


@mutant(kills=f"{RUN}test_a_changed_setting_is_refused_by_name")
def a_smaller_budget_is_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.folder._may_change", lambda key, old, new: key.startswith("train.budget."))


@mutant(kills=f"{RUN}test_changed_text_is_refused_by_name", trap=47)
def the_text_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.run.same_text", lambda folder, key, recipe: None)


@mutant(kills=f"{RUN}test_two_processes_do_not_train_one_run")
def nobody_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.run.alone", lambda folder: nullcontext())


@mutant(kills=f"{RUN}test_a_new_run_moves_the_old_one_aside", trap=59)
def a_new_run_deletes_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from telos import folder, run

    settle = folder.settle

    def careless(where: Path, recipe: Any, new: bool) -> None:
        if new:
            shutil.rmtree(where, ignore_errors=True)
        settle(where, recipe, new)

    monkeypatch.setattr(run, "settle", careless)


@mutant(kills=f"{RUN}test_a_broken_best_checkpoint_is_passed_over", trap=58)
def the_best_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.train.checkpoint._verify", lambda path, noted: None)


@mutant(kills=f"{RUN}test_a_split_without_text_is_no_zero", trap=31)
def nothing_scores_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "telos.run.Run._evaluated", lambda self, split: {"loss": 0.0, "step": self.saved.step}
    )


@mutant(kills=f"{RUN}test_no_file_of_a_run_names_the_machine", trap=78)
def the_home_folder_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos import run

    hardware = run.hardware
    monkeypatch.setattr(run, "hardware", lambda device: {**hardware(device), "home": str(Path.home())})


@mutant(kills=f"{RUN}test_recurrent_runs_carry_their_state_and_go_on", trap=42)
def carried_state_is_not_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.train.loop import Trainer

    load = Trainer.load

    def forgetful(self: Trainer, saved: Any) -> None:
        load(self, saved)
        self._carried = {}

    monkeypatch.setattr(Trainer, "load", forgetful)


@mutant(kills=f"{RUN}test_a_larger_budget_goes_on_with_the_same_run", trap=40)
def every_resume_starts_the_data_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.batch import Place
    from telos.train.loop import Trainer

    load = Trainer.load

    def from_the_start(self: Trainer, saved: Any) -> None:
        load(self, saved)
        self.state.place = Place()

    monkeypatch.setattr(Trainer, "load", from_the_start)


@mutant(kills=f"{RUN}test_a_trained_run_without_checkpoints_is_not_begun_again")
def what_is_lost_is_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.run.saved_before", lambda folder: False)


@mutant(kills=f"{RUN}test_a_run_evaluates_without_its_text_wherever_it_is_asked")
def the_text_is_always_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.opened.found", lambda root, key: None)


@mutant(kills="tests/test_cli.py::test_what_a_user_can_mend_is_told_in_plain_words")
def errors_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telos.cli.TelosError", KeyboardInterrupt)


@mutant(kills="tests/test_cli.py::test_train_on_a_folder_of_text")
def progress_goes_to_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from telos.train import display

    plain = display.display
    monkeypatch.setattr(display, "display", lambda stream=None: plain(sys.stdout))


@mutant(kills="tests/test_architecture.py::test_import_is_quick")
def everything_is_imported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    run = subprocess.run

    def eager(command: Any, **rest: Any) -> Any:
        return run([*command[:2], command[2].replace("telos.cli", "telos.cli, telos.run")], **rest)

    monkeypatch.setattr(subprocess, "run", eager)

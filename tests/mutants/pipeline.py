"""Bugs of preparation as a whole: tasks, engines, copies, passages, leaks."""

import contextlib

import numpy as np

from tests.mutants import mutant
from tests.mutants.data import _get

WHOLE, ENGINE = "tests/data/test_whole_pipeline.py", "tests/data/test_engine.py"


@mutant(kills=f"{WHOLE}::test_near_copies_of_every_kind_are_dropped_across_splits", trap=53)
def copies_in_text_to_train_on_only(monkeypatch):
    later = _get("telos.data.decisions._Dropping.later_ones")

    def within(self, what, first):
        same = self.codes[first] == self.codes
        later(self, what, np.where(same, first, np.arange(len(first))))

    monkeypatch.setattr("telos.data.decisions._Dropping.later_ones", within)


@mutant(kills=f"{WHOLE}::test_paragraphs_that_stood_before_are_cut_out_of_texts_to_train_on", trap=53)
def passages_in_the_order_of_reading_only(monkeypatch):
    repeated = _get("telos.data.cutting._repeated")

    def blind(found, codes):
        return repeated(found, [np.where(own == 3, own, 0).astype(own.dtype) for own in codes])

    monkeypatch.setattr("telos.data.cutting._repeated", blind)


@mutant(kills=f"{WHOLE}::test_paragraphs_that_stood_before_are_cut_out_of_texts_to_train_on", trap=53)
def emptied_texts_stay(monkeypatch):
    monkeypatch.setattr("telos.data.cutting._drop_empty", lambda task, cuts, codes: None)


@mutant(kills=f"{WHOLE}::test_the_vocabulary_is_learned_without_what_was_cut_out", trap=53)
def vocabulary_of_uncut_text(monkeypatch):
    monkeypatch.setattr("telos.data.decisions._Taken.out_of", lambda self, text, at: text)


@mutant(kills=f"{WHOLE}::test_text_of_evaluation_sets_is_found_counted_dropped_or_refused", trap=53)
def only_named_evaluation_sets(monkeypatch):
    monkeypatch.setattr("telos.data.documents.Reader.evaluation", property(lambda self: self.against))


@mutant(kills=f"{WHOLE}::test_text_of_evaluation_sets_is_found_counted_dropped_or_refused", trap=47)
def key_without_evaluation_sets(monkeypatch):
    init = _get("telos.data.documents.Reader.__init__")
    key = _get("telos.data.job.key_of_job")

    def forgetful(job):
        against, job.reader.against = job.reader.against, []
        try:
            return key(job)
        finally:
            job.reader.against = against

    monkeypatch.setattr("telos.data.documents.Reader.__init__", init)
    monkeypatch.setattr("telos.data.prepare.key_of_job", forgetful)


@mutant(kills=f"{WHOLE}::test_items_with_personal_data_are_found_in_text_that_was_scrubbed", trap=53)
def evaluation_sets_are_not_scrubbed(monkeypatch):
    monkeypatch.setattr("telos.data.cleaned.Cleaner.scrub", lambda self, text: text)


@mutant(kills=f"{WHOLE}::test_a_filters_own_file_is_in_the_key", trap=47)
def key_without_a_filters_file(monkeypatch):
    monkeypatch.setattr("telos.data.filters.python.Python.digest", lambda self: "")


@mutant(kills=f"{WHOLE}::test_filters_and_personal_data_are_on_the_card", trap=78)
def personal_data_among_the_examples(monkeypatch):
    drop = _get("telos.data.cleaned.Cleaner._drop")
    passed = _get("telos.data.cleaned.Cleaner.passed")

    def told(self, document, where, before):
        self._told = document.text
        return passed(self, document, where, before)

    def shown(self, reason, text, where):
        drop(self, reason, text or self._told, where)

    monkeypatch.setattr("telos.data.cleaned.Cleaner.passed", told)
    monkeypatch.setattr("telos.data.cleaned.Cleaner._drop", shown)


@mutant(kills=f"{WHOLE}::test_targets_are_cleaned_and_scrubbed_too", trap=78)
def targets_are_left(monkeypatch):
    import dataclasses

    scrubbed = _get("telos.data.cleaned.Cleaner._scrubbed")

    def text_only(self, document, where):
        done = scrubbed(self, dataclasses.replace(document, target=None), where)
        return None if done is None else dataclasses.replace(done, target=document.target)

    monkeypatch.setattr("telos.data.cleaned.Cleaner._scrubbed", text_only)


@mutant(kills=f"{ENGINE}::test_work_that_is_done_is_not_done_again", trap=42)
def work_begins_anew(monkeypatch):
    import shutil

    working = _get("telos.data.prepare._working")

    @contextlib.contextmanager
    def anew(folder):
        shutil.rmtree(folder, ignore_errors=True)
        with working(folder):
            yield

    monkeypatch.setattr("telos.data.prepare._working", anew)


@mutant(kills="tests/data/test_documents.py::test_exact_copies_are_dropped_wherever_they_are", trap=53)
def copies_within_a_task_only(monkeypatch):
    first = _get("telos.data.decisions._first_of_equals")

    def own(digests):
        half = len(digests) // 2
        return np.concatenate([first(digests[:half]), first(digests[half:]) + half])

    monkeypatch.setattr("telos.data.decisions._first_of_equals", own)


@mutant(kills=f"{ENGINE}::test_sources_keep_their_names", trap=46)
def every_document_is_of_the_first_source(monkeypatch):
    monkeypatch.setattr("telos.data.tokenised._Kept.origin", 0)


@mutant(kills="tests/data/test_prepare.py::test_files_that_change_while_they_are_read_are_refused", trap=47)
def nobody_looks_again(monkeypatch):
    monkeypatch.setattr("telos.data.prepare.state_of", _get("telos.data.job.state_of"))
    clean = _get("telos.data.prepare._clean")

    def trusting(work, job, tasks, workers):
        return clean(work, job._replace(seen={}), tasks, workers)

    monkeypatch.setattr("telos.data.prepare._clean", trusting)

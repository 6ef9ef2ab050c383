"""Bugs of fast ways of encoding, and of comparing vocabularies."""

import json

import numpy as np

from tests.mutants import mutant

ENCODING, VOCABULARIES = "tests/test_encoding.py", "tests/test_vocabularies.py"


def _get(path):
    import importlib

    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _unproved(monkeypatch):
    make = _get("telos.encoding._make")
    monkeypatch.setattr("telos.encoding._compared", lambda file, kind, plain, texts: make(file, kind))


# ---- trap 48: other ids


@mutant(kills=f"{ENCODING}::test_a_way_with_one_wrong_id_is_not_taken", trap=48)
def fast_ways_are_believed(monkeypatch):
    """Whatever `_make` is by then: the test puts a wrong one there."""
    found = lambda file, kind, plain, texts: _get("telos.encoding._make")(file, kind)  # noqa: E731
    monkeypatch.setattr("telos.encoding._compared", found)


@mutant(kills=f"{ENCODING}::test_a_way_with_one_wrong_id_is_not_taken", trap=48)
def only_lengths_are_compared(monkeypatch):
    monkeypatch.setattr("numpy.array_equal", lambda a, b: len(a) == len(b))


@mutant(kills=f"{ENCODING}::test_a_way_that_is_wrong_about_the_text_at_hand_is_not_taken", trap=48)
def the_text_at_hand_is_not_tried(monkeypatch):
    monkeypatch.setattr("telos.encoding._own", lambda texts, draw: [])


@mutant(kills=f"{ENCODING}::test_other_forms_are_left_to_the_library", trap=50)
def every_form_is_fast(monkeypatch):
    monkeypatch.setattr("telos.encoding.splits_by_one_pattern", lambda file: True)
    _unproved(monkeypatch)


@mutant(kills=f"{ENCODING}::test_every_kind_has_the_way_that_is_said", trap=50)
def words_are_split_as_python_splits(monkeypatch):
    """The probe sees it, and the way is not taken."""
    import re

    monkeypatch.setattr("telos.encoding._SEPARATOR", re.compile("(?!)"))


@mutant(kills=f"{ENCODING}::test_every_kind_has_the_way_that_is_said", trap=48)
def unknown_characters_are_the_first_token(monkeypatch):
    table = _get("telos.encoding._characters")

    def zero(file):
        vocabulary = {**file["model"]["vocab"], "<|unknown|>": 1}
        return table({"model": {"vocab": vocabulary}})

    monkeypatch.setattr("telos.encoding._characters", zero)


# ---- trap 52: text that becomes a special token


@mutant(kills=f"{ENCODING}::test_no_text_becomes_a_special_token_on_a_fast_way", trap=52)
def the_fast_way_knows_special_tokens(monkeypatch):
    _tell_special_tokens(monkeypatch)
    _unproved(monkeypatch)


@mutant(kills=f"{ENCODING}::test_no_text_becomes_a_special_token_on_a_fast_way", trap=52)
def the_fast_way_knows_special_tokens_and_is_compared(monkeypatch):
    """The probe must see it, and refuse."""
    _tell_special_tokens(monkeypatch)


def _tell_special_tokens(monkeypatch):
    def knowing(file):
        import fastokens

        way = _get("telos.encoding.Way")
        inner = fastokens.Tokenizer.from_json_str(json.dumps({**file, "post_processor": None}))
        return way("fastokens", lambda texts: [np.array(inner.encode(t).ids, np.int64) for t in texts])

    monkeypatch.setattr("telos.encoding._fastokens", knowing)


@mutant(kills=f"{ENCODING}::test_the_probe_holds_what_ways_differ_in", trap=52)
def the_probe_has_no_special_tokens(monkeypatch):
    probe = _get("telos.encoding.probe")
    monkeypatch.setattr(
        "telos.encoding.probe", lambda file, texts: probe({**file, "added_tokens": []}, texts)
    )


# ---- failures, places, bounds


@mutant(kills=f"{ENCODING}::test_a_way_that_fails_is_left_for_the_library")
def a_failure_goes_through(monkeypatch):
    monkeypatch.setattr(
        "telos.tokenizer.Tokenizer._encode_fast", lambda self, way, chunks: way.encode(chunks)
    )


@mutant(kills=f"{ENCODING}::test_a_vocabulary_is_compared_once")
def compared_for_every_text(monkeypatch):
    compared = _get("telos.encoding._compared")
    again = lambda file, kind, hash, plain, texts: compared(file, kind, plain, texts)  # noqa: E731
    monkeypatch.setattr("telos.encoding.way", again)


@mutant(kills=f"{ENCODING}::test_places_of_tokens_are_the_library_s", trap=10)
def places_are_of_bytes(monkeypatch):
    def of_bytes(lengths, text):
        ends = np.cumsum(lengths)
        return np.stack([ends - lengths, ends], axis=1)

    monkeypatch.setattr("telos.encoding.spans", of_bytes)


@mutant(kills=f"{ENCODING}::test_a_fast_way_never_gets_more_than_a_chunk", trap=54)
def the_fast_way_gets_everything(monkeypatch):
    monkeypatch.setattr("telos.encoding.groups", lambda texts, most: [texts])


# ---- comparing vocabularies


@mutant(kills=f"{VOCABULARIES}::test_the_sample_is_of_the_right_splits", trap=53)
def measured_on_what_was_learned(monkeypatch):
    sample_of = _get("telos.vocabularies.sample_of")

    def seen(recipe):
        found = sample_of(recipe)
        return found._replace(held_out=found.train)

    monkeypatch.setattr("telos.vocabularies.sample_of", seen)


@mutant(kills=f"{VOCABULARIES}::test_the_sample_is_of_the_right_splits", trap=53)
def learned_from_everything(monkeypatch):
    sample_of = _get("telos.vocabularies.sample_of")

    def all_of_it(recipe):
        found = sample_of(recipe)
        return found._replace(train=[*found.train, *found.held_out])

    monkeypatch.setattr("telos.vocabularies.sample_of", all_of_it)


@mutant(kills=f"{VOCABULARIES}::test_a_large_held_out_part_is_drawn_by_content")
def the_beginning_is_measured(monkeypatch):
    drawn = iter([0.0] * 8 + [1.0] * 10_000)
    monkeypatch.setattr("telos.vocabularies._drawn", lambda text: next(drawn))


@mutant(kills=f"{VOCABULARIES}::test_what_is_lost_is_measured", trap=50)
def what_comes_back_is_not_looked_at(monkeypatch):
    monkeypatch.setattr("telos.vocabularies._lost", lambda text, back: 0)


@mutant(kills=f"{VOCABULARIES}::test_figures_of_bytes_and_characters_are_those_counted_by_hand")
def blanks_count_for_words(monkeypatch):
    monkeypatch.setattr("telos.vocabularies._touching", lambda at, before: len(at))

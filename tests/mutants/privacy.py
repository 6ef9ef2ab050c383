"""Bugs of finding and replacing personal data."""

import re

from tests.mutants import mutant

TESTS = "tests/data/test_privacy.py"


@mutant(kills=f"{TESTS}::test_chinese_text_without_blanks")
def numbers_at_word_ends(monkeypatch):
    """`\\b` between a Chinese character and a digit, where there is none."""
    kind = _get("telos.data.privacy.china_id.ChinaId")
    monkeypatch.setattr(kind, "pattern", re.compile(r"\b[1-9](?:[0-9]){16}[0-9Xx]\b"))


@mutant(kills=f"{TESTS}::test_what_only_looks_like_it_is_left")
def luhn_is_not_asked(monkeypatch):
    monkeypatch.setattr("telos.data.privacy.card.luhn", lambda digits: True)


@mutant(kills=f"{TESTS}::test_what_only_looks_like_it_is_left")
def resident_ids_without_a_check(monkeypatch):
    monkeypatch.setattr("telos.data.privacy.china_id.iso7064_11_2", lambda digits: _Any())


@mutant(kills=f"{TESTS}::test_what_only_looks_like_it_is_left")
def words_before_say_nothing(monkeypatch):
    monkeypatch.setattr("telos.data.privacy.phone.said", lambda *rest: False)


@mutant(kills=f"{TESTS}::test_what_only_looks_like_it_is_left")
def versions_are_addresses(monkeypatch):
    monkeypatch.setattr("telos.data.privacy.ip._is_version", lambda *rest: False)


@mutant(kills=f"{TESTS}::test_it_is_found_from_end_to_end")
def nothing_is_folded(monkeypatch):
    monkeypatch.setattr("telos.data.privacy._view._fold", lambda text: text)


@mutant(kills=f"{TESTS}::test_it_is_found_from_end_to_end")
def windows_are_cut_off(monkeypatch):
    """A number's letters lie beyond the digits that stand together."""
    monkeypatch.setattr("telos.data.privacy.iban.Iban.reach", 2)


@mutant(kills=f"{TESTS}::test_of_overlapping_finds_the_longest_then_the_first_in_priority")
def the_shortest_wins(monkeypatch):
    apart = _get("telos.data.privacy._scrub._apart")
    monkeypatch.setattr("telos.data.privacy._scrub._apart", lambda found, tags: apart(found[::-1], tags))


@mutant(kills=f"{TESTS}::test_what_a_replacement_sets_free_is_found_too")
def one_round_is_enough(monkeypatch):
    monkeypatch.setattr("telos.data.privacy._scrub._ROUNDS", 1)


@mutant(kills=f"{TESTS}::test_counts_and_shapes_show_nothing_of_the_data")
def samples_show_the_data(monkeypatch):
    monkeypatch.setattr("telos.data.privacy._scrub._class", lambda character: character)


@mutant(kills=f"{TESTS}::test_stand_ins_are_the_same_for_the_same_datum_and_reserved")
def stand_ins_follow_the_spelling(monkeypatch):
    monkeypatch.setattr("telos.data.privacy.phone.Phone.same", lambda self, found: found)


@mutant(kills=f"{TESTS}::test_no_kind_finds_its_own_stand_in")
def examples_are_people(monkeypatch):
    monkeypatch.setattr("telos.data.privacy.email._RESERVED", re.compile("^never$"))


@mutant(kills="tests/data/test_privacy_names.py::test_long_text_goes_through_in_windows")
def only_the_first_window_is_read(monkeypatch):
    persons = _get("telos.data.privacy.name.Name._persons")
    monkeypatch.setattr(
        "telos.data.privacy.name.Name._persons",
        lambda self, view: (span for span in persons(self, view) if span[1] < 100),
    )


class _Any:
    """Equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _get(name: str):
    import importlib

    module, parts = name, []
    while True:
        try:
            found = importlib.import_module(module)
            break
        except ImportError:
            module, _, part = module.rpartition(".")
            parts.insert(0, part)
    for part in parts:
        found = getattr(found, part)
    return found

"""Bugs of filters and of the cleaning steps beside them."""

import numpy as np

from tests.mutants import mutant

RULES, CLEAN, CONTRACT = (
    "tests/data/test_filters.py",
    "tests/data/test_clean.py",
    "tests/contract/test_filters.py",
)
REPETITION = "telos.data.filters.repetition"


def _get(dotted):
    import importlib

    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return getattr(_get(module), name)


# ---- repetition


@mutant(kills=f"{RULES}::test_duplicate_phrases")
def first_occurrences_count_as_duplicates(monkeypatch):
    monkeypatch.setattr(f"{REPETITION}._Groups.later", lambda self: self.again()[0])


@mutant(kills=f"{RULES}::test_fast_and_slow_rules_agree")
def overlapping_duplicates_count_twice(monkeypatch):
    def twice(words, later, n):
        return int((words.ends[later + n - 1] - words.starts[later]).sum())

    monkeypatch.setattr(f"{REPETITION}._characters", twice)


@mutant(kills=f"{RULES}::test_fast_and_slow_rules_agree")
def most_frequent_is_the_longest_one(monkeypatch):
    def longest(self, words, n):
        at = self._begins[self._sizes == self.most]
        return self.most * max(
            int(words.ends[self._places[a] + n - 1] - words.starts[self._places[a]]) for a in at
        )

    monkeypatch.setattr(f"{REPETITION}._Groups.top", longest)


@mutant(kills=f"{RULES}::test_fast_and_slow_rules_agree")
def the_first_run_is_not_measured(monkeypatch):
    def most(hashes):
        ordered = np.sort(hashes)
        ends = (ordered[1:] != ordered[:-1]).nonzero()[0]
        return int(np.diff(ends, append=len(ordered) - 1).max()) if len(ends) else len(ordered)

    monkeypatch.setattr(f"{REPETITION}._most", most)


@mutant(kills=f"{RULES}::test_fast_and_slow_rules_agree")
def stops_too_soon(monkeypatch):
    monkeypatch.setattr(f"{REPETITION}.Repetition._to_come", lambda self, n: max(self.duplicated))


@mutant(kills=f"{RULES}::test_duplicate_lines")
def shares_by_multiplication(monkeypatch):
    monkeypatch.setattr(
        f"{REPETITION}._is_more", lambda part, whole, limit: 1 - (whole - part) / max(whole, 1) > limit
    )


# ---- words


@mutant(kills=f"{RULES}::test_words")
def chinese_text_is_one_word(monkeypatch):
    begins = _get("telos.data.filters._words.Words._begins")

    def spaced(self):
        self.mixed = False
        return begins(self)

    monkeypatch.setattr("telos.data.filters._words.Words._begins", spaced)


@mutant(kills=f"{RULES}::test_long_words_are_told_apart_to_the_last_character")
def only_eight_bytes_of_a_word_count(monkeypatch):
    monkeypatch.setattr("telos.data.filters._words._LONGEST", 8)
    monkeypatch.setattr("telos.data.filters._words.hashlib.blake2b", lambda raw, digest_size: _Same())


class _Same:
    def digest(self):
        return b"the same"


@mutant(kills=f"{CONTRACT}::test_any_text_is_judged")
def lone_surrogates_are_not_expected(monkeypatch):
    def points(text):
        return np.frombuffer(text.encode("utf-32-le"), np.uint32)

    monkeypatch.setattr("telos.data.filters._words.points_of", points)


# ---- other filters


@mutant(kills=f"{RULES}::test_symbols")
def chinese_ellipses_count_twice(monkeypatch):
    monkeypatch.setattr(
        "telos.data.filters.symbols._ellipses", lambda text: text.count("…") + text.count("...")
    )


@mutant(kills=f"{RULES}::test_symbols_by_default")
def length_of_words_holds_for_chinese(monkeypatch):
    judge = _get("telos.data.filters.symbols.Symbols._of_words")

    def spaced(self, words):
        words.mixed = False
        return judge(self, words)

    monkeypatch.setattr("telos.data.filters.symbols.Symbols._of_words", spaced)


@mutant(kills=f"{RULES}::test_stop_words")
def stop_words_within_words(monkeypatch):
    monkeypatch.setattr("telos.data.filters.stop_words._kinds", lambda words: (None, words))


@mutant(kills=f"{RULES}::test_language_looks_at_more_than_the_beginning")
def only_the_beginning_is_looked_at(monkeypatch):
    monkeypatch.setattr(
        "telos.data.filters.language.sampled", lambda text, characters: text[: characters // 10]
    )


@mutant(kills=f"{RULES}::test_utf8_read_as_gbk_is_garbled")
def only_lost_characters_are_garbage(monkeypatch):
    import re

    monkeypatch.setattr("telos.data.filters.chinese._MISREAD", re.compile("(?!)"))


@mutant(kills=f"{RULES}::test_kneser_ney_by_hand")
def lower_orders_count_occurrences(monkeypatch):
    unique = _get("telos.data.filters._ngrams._unique")
    add = _get("telos.data.filters._ngrams.Ngrams._add")
    monkeypatch.setattr(
        "telos.data.filters._ngrams.Ngrams._add",
        lambda self, here, below, counts, uniform: add(self, here, below, here.counts, uniform),
    )
    assert unique


@mutant(kills=f"{RULES}::test_probabilities_of_all_next_characters_sum_to_one")
def no_room_for_unknown_characters(monkeypatch):
    init = _get("telos.data.filters._ngrams.Ngrams.__init__")

    def certain(self, text, order):
        init(self, text, order)
        self._log_unknown = -100.0

    monkeypatch.setattr("telos.data.filters._ngrams.Ngrams.__init__", certain)


@mutant(kills=f"{RULES}::test_a_changed_file_changes_digest_and_verdict", trap=47)
def the_file_is_looked_at_once(monkeypatch):
    monkeypatch.setattr("telos.data.filters.python.digest_of", lambda paths: "the same")


@mutant(kills=f"{RULES}::test_a_changed_reference_changes_digest_and_model", trap=47)
def the_reference_is_looked_at_once(monkeypatch):
    monkeypatch.setattr("telos.data.filters.perplexity.digest_of", lambda paths: str(len(paths[:1])))


@mutant(kills=f"{RULES}::test_an_error_in_it_names_line_and_document")
def whatever_a_function_returns_keeps(monkeypatch):
    judge = _get("telos.data.filters.python.Python.judge")

    def lenient(self, document, text):
        try:
            return judge(self, document, text)
        except Exception:
            return None

    monkeypatch.setattr("telos.data.filters.python.Python.judge", lenient)


# ---- cleaning


@mutant(kills=f"{CLEAN}::test_good_text_is_not_mended", trap=50)
def every_accented_list_is_gbk(monkeypatch):
    monkeypatch.setattr("telos.data._repair._SHARE", 0.0)


@mutant(kills=f"{CLEAN}::test_gbk_read_as_latin_1_is_mended")
def utf8_before_gbk(monkeypatch):
    repair = _get("telos.data._repair.repair")
    fix = _get("telos.data._repair._fix")
    utf8 = _get("telos.data._repair._UTF8")

    def reversed_(text):
        text = "\n".join(fix()(line) if utf8.search(line) else line for line in text.split("\n"))
        return repair(text)

    monkeypatch.setattr("telos.data._repair.repair", reversed_)


@mutant(kills=f"{CLEAN}::test_full_width_letters_and_digits_become_half_width", trap=50)
def chinese_punctuation_becomes_half_width(monkeypatch):
    import unicodedata

    monkeypatch.setattr("telos.data.clean.half_width", lambda text: unicodedata.normalize("NFKC", text))


@mutant(kills=f"{CLEAN}::test_spaces_collapse_and_indents_stay", trap=50)
def indents_go_too(monkeypatch):
    def all_of_them(text):
        import re

        return re.sub("\n{3,}", "\n\n", "\n".join(line.strip() for line in text.split("\n")))

    monkeypatch.setattr("telos.data.clean.collapse_spaces", all_of_them)


@mutant(kills=f"{CLEAN}::test_prose_about_such_things_stays", trap=50)
def notices_after_prose_count(monkeypatch):
    monkeypatch.setattr("telos.data._boilerplate._BEFORE", 10_000)
    import re

    monkeypatch.setattr("telos.data._boilerplate._SENTENCE", re.compile("(?!)"))


@mutant(kills=f"{CLEAN}::test_new_steps_say_whether_they_lose_something")
def repair_after_line_ends(monkeypatch):
    steps = _get("telos.data.clean.steps")

    def late(settings):
        return tuple(sorted(steps(settings), key=lambda step: step.name == "repair"))

    monkeypatch.setattr("telos.data.clean.steps", late)

"""Bugs of what finds copies: near ones, passages, and overlap with evaluation sets."""

from typing import Any

import numpy as np
import pytest

from tests.mutants import mutant

NEAR = "tests/data/test_near.py::"
SHINGLES = "tests/data/test_shingles.py::"
PASSAGES = "tests/data/test_passages.py::"
OVERLAP = "tests/data/test_overlap.py::"


@mutant(kills=f"{NEAR}test_every_copy_with_the_same_words_is_found[English-case]", trap=53)
def capitals_make_another_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import shingles

    monkeypatch.setattr(shingles, "_folded", ord)


@mutant(kills=f"{NEAR}test_every_copy_with_the_same_words_is_found[Chinese-punctuation]", trap=53)
def punctuation_is_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import shingles

    kind = shingles._kind
    monkeypatch.setattr(shingles, "_kind", lambda c: shingles._ALONE if c in "，。；" else kind(c))


@mutant(kills=f"{SHINGLES}test_grams_are_n_words_in_a_row_and_never_cross_texts")
def n_grams_go_on_into_the_next_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import shingles

    right = shingles.grams

    def wrong(hashes: Any, offsets: Any, n: int) -> Any:
        whole = right(hashes, np.array([0, len(hashes)]), n)
        return whole._replace(offsets=np.minimum(offsets, len(whole.hashes)))

    monkeypatch.setattr(shingles, "grams", wrong)


@mutant(kills=f"{SHINGLES}test_words_are_those_of_the_rules")
def a_word_is_hashed_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import shingles

    powers = shingles._powers

    def undivided(length: int) -> Any:
        first, inverse = powers(length)
        return first, np.ones_like(inverse)

    monkeypatch.setattr(shingles, "_powers", undivided)


@mutant(kills=f"{SHINGLES}test_the_order_of_letters_and_of_words_counts")
def a_word_is_the_sum_of_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """So anagrams are one word."""
    from telos.data import shingles

    monkeypatch.setattr(shingles, "_powers", lambda length: (np.ones(length, np.uint64),) * 2)


@mutant(kills=f"{SHINGLES}test_a_stretch_is_in_one_block", trap=54)
def pieces_of_a_long_text_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import shingles

    pieces = shingles._pieces_of
    monkeypatch.setattr(shingles, "_pieces_of", lambda text, overlap: pieces(text, 0))


@mutant(kills=f"{NEAR}test_the_estimate_is_right_on_average_and_as_close_as_it_is_said_to_be[12]")
def empty_bins_stay_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """So two short texts agree in all that neither of them has."""
    from telos.data import near

    monkeypatch.setattr(near, "_fill", lambda part: None)


@mutant(kills=f"{NEAR}test_the_estimate_is_right_on_average_and_as_close_as_it_is_said_to_be[12]")
def empty_bins_take_the_lowest_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one n-gram decides."""
    from telos.data import near

    def lowest(part: Any) -> None:
        np.copyto(
            part, np.broadcast_to(part.min(axis=1, keepdims=True), part.shape), where=part == near.EMPTY
        )

    monkeypatch.setattr(near, "_fill", lowest)


@mutant(kills=f"{NEAR}test_many_texts_with_an_equal_band_are_told_apart[0]")
def candidates_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts with one band in common are joined, whatever the rest."""
    from telos.data import near

    search = near._Joined.search
    monkeypatch.setattr(near._Joined, "search", lambda self, chosen, wanted: search(self, chosen, 1))


@mutant(kills=f"{NEAR}test_texts_without_words_are_copies_of_none")
def texts_without_words_are_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import near

    right = near.signatures
    monkeypatch.setattr(near, "signatures", lambda texts, **given: right(texts, **given) % near.EMPTY)


@mutant(kills=f"{NEAR}test_a_copy_of_a_copy_is_in_the_cluster")
def links_are_not_followed_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import near

    monkeypatch.setattr(near._Joined, "_shorten", lambda self: None)


@mutant(kills=f"{NEAR}test_many_texts_with_an_equal_band_are_told_apart[30]")
def only_neighbours_in_a_band_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import near

    monkeypatch.setattr(near, "_LEADERS", 0)
    monkeypatch.setattr(near, "_ALL_PAIRS", 2)


@mutant(kills=f"{NEAR}test_keys_of_a_band_tell_it_from_other_bands_and_depend_on_all_its_rows")
def the_order_of_a_bands_rows_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import near

    class Flat:
        scrambled = staticmethod(lambda value: np.ones_like(value) if value.ndim == 1 else value)

    monkeypatch.setattr(near, "shingles", Flat)


@mutant(kills=f"{PASSAGES}test_a_text_that_repeats_itself_is_left_once[7]")
def equal_neighbours_are_one_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a text that repeats itself has nothing in common with itself."""
    from telos.data import passages

    right = passages.fingerprints

    def wrong(texts: Any, least: int = 50) -> Any:
        return np.concatenate([np.unique(right([text], least)) for text in texts])

    monkeypatch.setattr(passages, "fingerprints", wrong)


@mutant(kills=f"{PASSAGES}test_a_stretch_in_other_surroundings_is_found_whatever_its_place[50]", trap=53)
def fingerprints_are_at_fixed_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 13th n-gram, so that a copy in other surroundings has others."""
    from telos.data import passages, shingles

    def wrong(texts: Any, least: int = 50) -> Any:
        found = [np.empty(0, np.uint64)]
        for _, words in shingles.blocks(texts, least - 1):
            found.append(passages._lowest(words, least)[0][::13])
        return np.concatenate(found)

    monkeypatch.setattr(passages, "fingerprints", wrong)


@mutant(kills=f"{PASSAGES}test_no_repeated_stretch_is_missed_and_nothing_else_goes[0-abcdefghijkl-8]")
def windows_cross_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import passages

    lowest = passages._lowest

    def wrong(words: Any, least: int) -> Any:
        hashes, low, whole = lowest(words, least)
        return hashes, low, np.ones_like(whole)

    monkeypatch.setattr(passages, "_lowest", wrong)


@mutant(kills=f"{PASSAGES}test_repeated_are_those_that_came_before")
def the_first_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import passages

    def wrong(hashes: Any) -> Any:
        return np.isin(hashes, passages.shared(hashes).hashes)

    monkeypatch.setattr(passages, "repeated", wrong)


@mutant(kills=f"{OVERLAP}test_by_hand", trap=53)
def words_in_several_n_grams_are_counted_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import overlap

    right = overlap.overlap

    def wrong(texts: Any, known: Any) -> Any:
        total, matches = overlap._matches(texts, known)
        lengths = (matches[:, 2] - matches[:, 1]).astype(float)
        share = np.bincount(matches[:, 0], lengths, len(texts)) / np.maximum(total, 1)
        return right(texts, known)._replace(share=share)

    monkeypatch.setattr(overlap, "overlap", wrong)


@mutant(kills=f"{OVERLAP}test_shares_are_what_counting_one_by_one_gives[17]", trap=54)
def words_that_pieces_share_are_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import overlap, shingles

    right = shingles.blocks
    monkeypatch.setattr(
        overlap.shingles, "blocks", lambda texts, overlap: (b for b in right(texts, overlap + 3))
    )


@mutant(kills=f"{OVERLAP}test_short_items_are_found_as_a_whole_and_shorter_ones_are_not_looked_for", trap=53)
def short_items_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from telos.data import overlap

    right = overlap.grams
    monkeypatch.setattr(overlap, "grams", lambda texts, n=13, shortest=8: right(texts, n, n))


@mutant(kills=f"{OVERLAP}test_chinese_characters_are_half_a_word", trap=53)
def a_chinese_character_is_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirteen characters are a common phrase."""
    from telos.data import shingles

    right = shingles.words

    def wrong(texts: Any) -> Any:
        found = right(texts)
        return found._replace(halves=np.full_like(found.halves, 2))

    monkeypatch.setattr(shingles, "words", wrong)

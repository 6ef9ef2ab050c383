"""Near copies: planted ones are found, different texts kept, and the result is a function of the texts."""

import random
import tracemalloc

import numpy as np
import pytest

from telos.data import near, shingles
from tests.data.copies import SAME, collections, drawn, overlapping, passages, poems, scattered


def jaccard(first: str, second: str, n: int = 5) -> float:
    one, other = (set(_grams(text, n)) for text in (first, second))
    return len(one & other) / len(one | other)


def _grams(text: str, n: int) -> list[int]:
    found = shingles.words([text])
    return shingles.grams(found.hashes, found.offsets, n).hashes.tolist()


def labels(texts: list[str], **given) -> np.ndarray:
    return near.clusters(near.signatures(texts), **given)


def recall(texts: list[str], change, threshold: float = 0.55) -> float:
    """Share of texts whose changed copy is found, with all the others beside them."""
    draw = random.Random(0)
    found = labels([*texts, *(change(text, draw) for text in texts)], threshold=threshold)
    return float(np.mean(found[: len(texts)] == found[len(texts) :]))


@pytest.fixture(scope="module", params=["English", "Chinese"])
def texts(request, data_folder) -> list[str]:
    if request.param == "English":
        return passages(data_folder)[:400]
    return collections(data_folder)


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_every_copy_with_the_same_words_is_found(texts, change):
    """Trap 53."""
    assert recall(texts, change) == 1


@pytest.mark.parametrize(
    ("share", "threshold", "least"),
    [(0.95, 0.8, 0.95), (0.95, 0.55, 1.0), (0.9, 0.55, 1.0), (0.8, 0.55, 0.97)],
)
def test_copies_with_an_overlap_are_found(texts, share, threshold, least):
    """Trap 53. An overlap of s is a similarity of s / (2 − s): 0.90, 0.82 and 0.67."""
    assert recall(texts, overlapping(share), threshold) >= least


def test_copies_with_scattered_changes_are_found(texts):
    """Each changed word spoils five n-grams."""
    assert recall(texts, scattered(0.98)) >= 0.95


@pytest.mark.parametrize("length", [20, 28])
def test_poems_of_one_form_are_not_taken_for_copies(data_folder, length):
    """Short texts have few n-grams; those which are joined have most of them in common."""
    form = [p for part in ("valid", "test") for p in poems(data_folder, part)]
    form = [p for p in form if sum(map(str.isalpha, p)) == length]
    assert len(form) > 300
    found = labels(form)
    copies = np.flatnonzero(found != np.arange(len(form)))
    assert len(copies) < 0.01 * len(form)
    assert all(jaccard(form[i], form[found[i]]) > 0.35 for i in copies)


def test_passages_of_a_book_are_not_taken_for_copies(data_folder):
    different = passages(data_folder)
    found = labels(different)
    assert all(jaccard(different[i], different[j]) > 0.45 for i, j in enumerate(found) if i != j)


@pytest.mark.parametrize("words", [12, 40, 120, 1000])
def test_the_estimate_is_right_on_average_and_as_close_as_it_is_said_to_be(words):
    """Also for texts that leave most bins empty."""
    draw = random.Random(words)
    one = drawn(400, words, draw)
    other = [overlapping(draw.choice([0.5, 0.75, 0.9]))(text, draw) for text in one]
    truth = np.array([jaccard(a, b) for a, b in zip(one, other, strict=True)])
    error = near.similarity(near.signatures(one), near.signatures(other)) - truth
    assert abs(error.mean()) < 0.01
    of_bins = np.sqrt(np.mean(truth * (1 - truth)) / near.BINS)
    assert error.std() < of_bins * (1.2 if words >= 120 else 2.2)


def test_the_signature_of_a_text_is_its_own(monkeypatch):
    """Whatever else is in the batch, and in however many pieces it is read."""
    draw = random.Random(1)
    some = [*drawn(5, 300, draw), "", "one", "。", "两个字", *drawn(3, 8, draw)]
    whole = near.signatures(some)
    assert np.array_equal(whole, np.concatenate([near.signatures([text]) for text in some]))
    assert np.array_equal(whole[::-1], near.signatures(some[::-1]))
    for size in (200, 64, 16):
        monkeypatch.setattr(shingles, "PIECE", size)
        assert np.array_equal(whole, near.signatures(some))


def test_signatures_are_the_same_everywhere():
    assert near.signatures(["To be, or not to be: that is the question."], bins=4).tolist() == [GOLDEN]


GOLDEN = [1885679808, 893587269, 1954454161, 1059059719]


def test_texts_without_words_are_copies_of_none():
    assert labels(["", "…", "", "a", "a", " "]).tolist() == [0, 1, 2, 3, 3, 5]
    assert near.signatures(["", "a"])[0].tolist() == [near.EMPTY] * near.BINS
    assert near.clusters(near.signatures([])).tolist() == []
    assert near.similarity(*[near.signatures([""])] * 2).tolist() == [0.0]


def test_clusters_are_what_comparing_all_pairs_finds():
    """With one row a band all pairs that agree anywhere are candidates."""
    draw = random.Random(2)
    some = drawn(30, 60, draw)
    some += [overlapping(draw.uniform(0.5, 1))(draw.choice(some), draw) for _ in range(120)]
    draw.shuffle(some)
    signatures = near.signatures(some)
    names = list(range(len(some)))
    for i in range(len(some)):
        for j in range(i):
            if np.mean(signatures[i] == signatures[j]) >= 0.6:
                names = [names[j] if name == names[i] else name for name in names]
    lowest = [names.index(name) for name in names]
    assert near.clusters(signatures, 0.6, near.Banding(128, 1)).tolist() == lowest
    assert np.mean(near.clusters(signatures, 0.6) == lowest) > 0.97


def test_a_copy_of_a_copy_is_in_the_cluster():
    rows = np.arange(128, dtype=np.uint32) * np.ones((3, 1), np.uint32)
    rows[1, :40] = 1000
    rows[2, 40:88] = 2000
    rows[2, :40] = 1000
    assert near.similarity(rows[[0]], rows[[2]])[0] < 0.6
    assert near.clusters(rows, 0.6).tolist() == [0, 0, 0]


@pytest.mark.parametrize("copies", [0, 3, 30])
def test_many_texts_with_an_equal_band_are_told_apart(copies):
    """Three hundred texts share a band; those that are alike beyond it are still found, and only those."""
    draw = np.random.default_rng(0)
    rows = draw.integers(0, 1 << 31, (300, 128)).astype(np.uint32)
    rows[np.arange(100, 100 + copies)] = rows[50]
    rows[100 : 100 + copies, -1] = np.arange(copies)  # alike, and not equal
    rows[:, :16] = 7
    expected = np.arange(300)
    expected[100 : 100 + copies] = 50
    assert near.clusters(rows, 0.6).tolist() == expected.tolist()


def test_signatures_may_lie_on_disk_and_memory_is_bounded(tmp_path):
    count = 200_000
    rows = np.memmap(tmp_path / "signatures", np.uint32, "w+", shape=(count, 128))
    draw = np.random.default_rng(0)
    rows[:] = draw.integers(0, 1 << 31, (count, 128), dtype=np.uint32)
    rows[count // 2 :: 10] = rows[: count // 2 : 10]
    tracemalloc.start()
    found = near.clusters(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * count + 40_000_000
    assert np.count_nonzero(found != np.arange(count)) == count // 20


@pytest.mark.parametrize(
    ("threshold", "chosen"), [(0.55, (32, 4)), (0.8, (18, 7)), (1.0, (1, 128)), (0.01, (128, 1))]
)
def test_bands_follow_from_the_threshold(threshold, chosen):
    assert near.banding(threshold) == chosen
    assert threshold < 0.1 or near.found(threshold, near.banding(threshold)) >= 0.95


def test_the_s_curve_is_the_share_of_pairs_found():
    """By hand: 1 − (1 − 0.5²)² = 0.4375; and measured with random signatures."""
    assert near.found(0.5, near.Banding(2, 2)) == 0.4375
    draw = np.random.default_rng(3)
    one = draw.integers(0, 1 << 31, (4000, 128)).astype(np.uint32)
    other = np.where(draw.random(one.shape) < 0.5, one, one + np.uint32(1))
    chosen = near.Banding(32, 4)
    same = (near.band_keys(one, chosen) == near.band_keys(other, chosen)).any(axis=1).mean()
    assert abs(same - near.found(0.5, chosen)) < 0.02


def test_keys_of_a_band_tell_it_from_other_bands_and_depend_on_all_its_rows():
    rows = np.zeros((3, 8), np.uint32)
    rows[1, 0] = rows[2, 1] = 1
    keys = near.band_keys(rows, near.Banding(2, 4))
    assert len(set(keys[:, 0].tolist())) == 3 and len(set(keys[:, 1].tolist())) == 1
    assert keys[0, 0] != keys[0, 1]
    assert np.array_equal(near.band_keys(rows, near.Banding(2, 4), first=1, count=1), keys[:, 1:])

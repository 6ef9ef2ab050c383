"""What of a text stands in the training split: compared with looking at every place of every document."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telos.data.shards import Shards
from telos.errors import DataError
from telos.evaluate import _ngrams
from telos.evaluate._ngrams import LENGTH, NGrams, hashes
from telos.evaluate.copied import Copied, Copies
from telos.tokenizer import Tokenizer
from tests.evaluate.world import byte_tokenizer, pair_tokenizer, shards_of

TRAIN = (
    "The cat sat on the mat and looked at the moon.",
    "",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "short",
    "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。",
    "The dog sat on the mat and looked away 🙂🙂🙂.",
)


def copies(folder: Path, tokenizer: Tokenizer, texts: tuple[str, ...] = TRAIN) -> Copies:
    return Copies(shards_of(folder, tokenizer, texts), tokenizer)


def slowly(tokenizer: Tokenizer, texts: tuple[str, ...], text: str) -> tuple[int, float]:
    """The oracle: tokens of the longest match, and the share of tokens that lie in one."""
    ids, best = tokenizer.encode(text).tolist(), 0
    covered = set[int]()
    for document in (tokenizer.encode(each).tolist() for each in texts):
        for start in range(len(ids)):
            for at in range(len(document)):
                n = 0
                while start + n < len(ids) and at + n < len(document) and ids[start + n] == document[at + n]:
                    n += 1
                if n >= LENGTH:
                    covered |= set(range(start, start + n))
                    best = max(best, n)
    return best, len(covered) / len(ids) if ids else 0.0


PIECES = [*TRAIN, "The cat sat", " on the mat", "aaaa", "aaaaaaaa", "床前明月", "光，", "x", "ab" * 4, "🙂🙂"]


@given(st.lists(st.sampled_from(PIECES), max_size=5))
@settings(max_examples=60)
def test_it_finds_what_looking_everywhere_finds(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    """Exactly: no match is missed, none goes beyond a document, and what is covered is what some match
    covers."""
    for tokenizer in (byte_tokenizer(), pair_tokenizer()):
        found = copies(tmp_path_factory.mktemp("split"), tokenizer).find("".join(parts))
        longest, share = slowly(tokenizer, TRAIN, "".join(parts))
        assert (found.tokens, found.share) == (longest, pytest.approx(share)), found


def test_it_says_where(tmp_path: Path) -> None:
    found = copies(tmp_path, byte_tokenizer()).find("I saw: sat on the mat and looked at me")
    assert (found.document, found.at) == (0, len("The cat"))
    assert found.excerpt == " sat on the mat and looked at " == TRAIN[0][found.at :][: found.tokens]
    assert found.tokens == found.characters == len(found.excerpt) and not found.long


def test_of_several_the_first_document_is_told(tmp_path: Path) -> None:
    assert copies(tmp_path, byte_tokenizer()).find(" sat on the mat").document == 0


def test_nothing_copied_and_nothing_said(tmp_path: Path) -> None:
    index = copies(tmp_path, byte_tokenizer())
    nothing = Copied(tokens=0, characters=0, share=0.0, document=-1, at=-1, excerpt="")
    assert index.find("") == index.find("xyz") == index.find("completely other words") == nothing
    assert copies(tmp_path / "none", byte_tokenizer(), ()).find("anything at all") == nothing


def test_a_match_never_goes_from_one_document_into_the_next(tmp_path: Path) -> None:
    """The end of one and the beginning of another, put together, stand nowhere."""
    index = copies(tmp_path, byte_tokenizer())
    found = index.find(TRAIN[0][-12:] + TRAIN[2][:12])
    assert found.tokens == 12 and found.share == 1.0


def test_whole_characters_are_counted_and_words_that_are_cut_otherwise(tmp_path: Path) -> None:
    """A match of tokens is extended by characters: where the first word of the text is other tokens than it
    is in the document, and where only the beginning of a token is common."""
    tokenizer = pair_tokenizer()
    index = copies(tmp_path, tokenizer)
    found = index.find("地上霜。\n举头望明月，低头")
    assert found.characters == len("地上霜。\n举头望明月，低头") and "\ufffd" not in found.excerpt
    text = "at sat on the mat and looked awake"
    found = index.find(text)
    assert found.excerpt == "at sat on the mat and looked awa"[-found.characters :] and found.characters >= 30


def test_long_matches_are_known_as_such(tmp_path: Path) -> None:
    long = "".join(chr(97 + i * i % 26) for i in range(80))
    index = copies(tmp_path, byte_tokenizer(), (long,))
    assert index.find(long[:50]).long and not index.find(long[:49]).long
    assert len(index.find(long).excerpt) == 60 and index.find(long).excerpt.endswith("…")


# ---- the index


def test_the_index_is_built_once_and_kept(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, byte_tokenizer(), TRAIN)
    NGrams(shards)
    before = (tmp_path / "copies.bin").stat().st_mtime_ns
    NGrams(Shards(tmp_path))
    assert (tmp_path / "copies.bin").stat().st_mtime_ns == before
    assert sorted(path.name for path in tmp_path.iterdir() if "copies" in path.name) == [
        "copies.bin",
        "copies.json",
    ]


@pytest.mark.parametrize("harm", ["cut", "other text", "no words", "not JSON"])
def test_an_index_of_something_else_is_built_anew(tmp_path: Path, harm: str) -> None:
    index = NGrams(shards_of(tmp_path, byte_tokenizer(), TRAIN))
    expected = np.array(index.places)
    path, about = tmp_path / "copies.bin", tmp_path / "copies.json"
    said = json.loads(about.read_text())
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-2])
    elif harm == "other text":
        path.write_bytes(path.read_bytes()[::-1])
        about.write_text(json.dumps({**said, "ids": "0" * 32}))
    else:
        about.write_text("" if harm == "no words" else "[]")
    assert np.array_equal(NGrams(Shards(tmp_path)).places, expected)


def test_in_parts_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded memory: many parts, and chunks that end inside of documents and of runs."""
    whole = NGrams(shards_of(tmp_path / "a", byte_tokenizer(), TRAIN))
    monkeypatch.setattr(_ngrams, "PART", 16)
    monkeypatch.setattr(_ngrams, "CHUNK", 7)
    parts = NGrams(shards_of(tmp_path / "b", byte_tokenizer(), TRAIN))
    assert len(whole) == sum(max(0, len(text.encode()) - LENGTH + 1) for text in TRAIN)
    assert np.array_equal(whole.places, parts.places)


def test_equal_runs_have_equal_hashes_and_others_do_not() -> None:
    ids = np.random.default_rng(0).integers(0, 50_000, 20_000).astype(np.uint16)
    found = hashes(ids)
    assert len(found) == len(ids) - LENGTH + 1 == len(np.unique(found))
    assert np.array_equal(hashes(ids[: LENGTH * 100], every=LENGTH), found[: LENGTH * 100 : LENGTH])
    assert len(hashes(ids[: LENGTH - 1])) == 0


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = shards_of(tmp_path, byte_tokenizer(), TRAIN)

    def refuse(self: Path, *given: object, **more: object) -> None:
        raise PermissionError(13, "no", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"copies\.bin: the index .* cannot be written: this user may not"):
        NGrams(shards)

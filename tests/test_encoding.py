"""Fast ways of encoding: the same ids as `tokenizers`, or not taken."""

import builtins
import json
import lzma
import os
import pickle
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers as library
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from telos import encoding, switches
from telos import tokenizer as module
from telos.errors import DataError
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from telos.vocabulary import SPECIALS
from tests.test_tokenizer import CHINESE, ENGLISH, KINDS, MANY, SOURCE, STREAMED

FAST = {"bpe": "fastokens", "byte": "tables", "character": "tables", "word": "tables"}
TEXTS = (ENGLISH, CHINESE, STREAMED, SOURCE, *MANY)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Another pattern than ours, of the same form."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fast ways from the first character on, and nothing known of any vocabulary."""
    monkeypatch.setattr(encoding, "WORTH", 0)
    monkeypatch.setattr(encoding, "_found", {})


_made: dict[str, Tokenizer] = {}


def vocabulary(kind: str) -> Tokenizer:
    if kind not in _made:
        settings = TokenizerSettings(kind=kind, size=900)
        _made[kind] = train_tokenizer(settings, iter(TEXTS), ["sentinel_0"])
    return _made[kind]


def same(tokenizer: Tokenizer, texts: list[str]) -> bool:
    """Whether the ids are those that the library gives."""
    with switches.without("encoding"):
        plain = tokenizer.encode_batch(texts)
    fast = tokenizer.encode_batch(texts)
    assert [ids.dtype for ids in fast] == [np.dtype(np.int64)] * len(texts)
    return all(map(np.array_equal, plain, fast))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_the_way_that_is_said(kind: str) -> None:
    tokenizer = vocabulary(kind)
    assert tokenizer.encoded_by() == FAST.get(kind, "tokenizers")
    with switches.without("encoding"):
        assert tokenizer.encoded_by() == "tokenizers"


@pytest.mark.parametrize("kind", FAST)
@given(
    texts=st.lists(
        st.text(
            st.one_of(
                st.sampled_from("ab \n\t\r.'sS1中月，\x1c\x1f\x85\u3000\u200d👩\ufe0f<|>_é"),
                st.characters(exclude_categories=["Cs"]),
            ),
            max_size=60,
        ),
        max_size=6,
    )
)
def test_generated_texts_have_the_same_ids(kind: str, texts: list[str]) -> None:
    """Trap 50 and 48: of any text, known to the vocabulary or not."""
    assert same(vocabulary(kind), [*texts, "".join(texts)])


@pytest.mark.parametrize("kind", FAST)
def test_whole_texts_and_long_runs_have_the_same_ids(kind: str) -> None:
    """Longer than a chunk, too; and no texts at all."""
    tokenizer = vocabulary(kind)
    runs = [each * 30_000 for each in ("a", " ", "月", ".", "\n", "1 ", "aB", "👩‍👩")]
    assert same(tokenizer, [*TEXTS, *runs, "word 12,  x\n" * 15_000])
    assert tokenizer.encode_batch([]) == [] and tokenizer.encode("").shape == (0,)


@pytest.mark.parametrize("kind", FAST)
@given(
    pieces=st.lists(
        st.sampled_from([*SPECIALS, "<|sentinel_0|>", "<unk>", "<|unknown|>", " ", "x", "明", "\n"]),
        max_size=12,
    )
)
def test_no_text_becomes_a_special_token_on_a_fast_way(kind: str, pieces: list[str]) -> None:
    """Trap 52: whatever the text says; and the probe itself says it, so that a way that did would be
    refused."""
    tokenizer, text = vocabulary(kind), "".join(pieces)
    assert tokenizer.encoded_by() == FAST[kind]
    ids = tokenizer.encode(text)
    assert not tokenizer.special_ids & set(ids.tolist())
    if tokenizer.lossless:
        assert tokenizer.decode(ids) == text
    assert same(tokenizer, [text])


@pytest.mark.parametrize("kind", FAST)
def test_the_probe_holds_what_ways_differ_in(kind: str) -> None:
    """Trap 52 among it: all the names of special tokens."""
    tokenizer = vocabulary(kind)
    text = "\0".join(encoding.probe(tokenizer._json, [ENGLISH]))
    for wanted in (
        *SPECIALS,
        "<|sentinel_0|>",
        "‍",
        "床前明月光",
        "٣٤٥",
        "\r\n",
        " " * 301,
        "'LL",
        ENGLISH[:99],
    ):
        assert wanted in text, wanted
    assert len(text) < 60_000


def foreign(pattern: str, *, normalise: bool = False, one: bool = True) -> library.Tokenizer:
    inner = library.Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not one)
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence([split, level]) if one else level
    inner.decoder = decoders.ByteLevel()
    if normalise:
        inner.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    inner.train_from_iterator(TEXTS, trainer)
    return inner


@pytest.mark.parametrize("one", [True, False])
def test_vocabularies_of_elsewhere_are_fast_where_their_form_is_known(one: bool) -> None:
    """Another pattern, or GPT-2's own; and special tokens that the model itself holds stay text (trap 52)."""
    tokenizer = Tokenizer(foreign(O200K, one=one))
    assert tokenizer.kind == "foreign" and tokenizer.encoded_by(TEXTS) == "fastokens"
    texts = [*TEXTS, "a<|endoftext|>b<|endoftext|><|end|>"]
    assert same(tokenizer, texts)
    assert not tokenizer.special_ids & set(tokenizer.encode(texts[-1]).tolist())


def test_other_forms_are_left_to_the_library() -> None:
    """A normaliser, tokens that match in text, several splits: what accelerators get wrong without a word."""
    plain = foreign(O200K)
    assert encoding.splits_by_one_pattern(json.loads(plain.to_str()))
    assert Tokenizer(foreign(O200K, normalise=True)).encoded_by() == "tokenizers"
    plain.add_tokens(["best of"])
    tokenizer = Tokenizer(plain)
    assert tokenizer.encoded_by() == "tokenizers"
    assert tokenizer._inner.token_to_id("best of") in tokenizer.encode(ENGLISH)
    several = foreign(O200K)
    several.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    assert Tokenizer(several).encoded_by() == "tokenizers"


def test_gpt2_is_fast_and_the_same(data_folder: Path) -> None:
    folder = data_folder / "gpt2-bpe"
    table = json.loads(lzma.decompress((folder / "encoder.json.xz").read_bytes()))
    merges = [tuple(line.split(" ")) for line in (folder / "vocab.bpe").read_text().split("\n")[1:] if line]
    inner = library.Tokenizer(models.BPE(vocab=table, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|endoftext|>"])
    tokenizer = Tokenizer(inner)
    assert tokenizer.encoded_by() == "fastokens"
    assert same(tokenizer, [*TEXTS, "a<|endoftext|>b"])


@pytest.mark.parametrize("place", [0, 300, -1])
def test_a_way_with_one_wrong_id_is_not_taken(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 48: wherever in the probe it is."""
    make = encoding._make

    def wrong(file, kind):
        way = make(file, kind)

        def encode(texts):
            found = way.encode(texts)
            full = [ids for ids in found if len(ids)]
            full[place] += 1
            return found

        return encoding.Way("wrong", encode)

    monkeypatch.setattr(encoding, "_make", wrong)
    for kind in FAST:
        assert vocabulary(kind).encoded_by() == "tokenizers"
        assert same(vocabulary(kind), list(TEXTS))


def test_a_way_that_is_wrong_about_the_text_at_hand_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe holds some of it."""
    make, odd = encoding._make, "something that no probe holds"

    def wrong(file, kind):
        way = make(file, kind)
        return encoding.Way("wrong", lambda texts: [ids + ("no probe" in t) for ids, t in _with(way, texts)])

    monkeypatch.setattr(encoding, "_make", wrong)
    assert vocabulary("bpe").encoded_by([odd]) == "tokenizers"
    encoding._found.clear()
    assert vocabulary("bpe").encoded_by([ENGLISH]) == "wrong"


def _with(way: encoding.Way, texts: list[str]) -> Iterator[tuple[np.ndarray, str]]:
    return zip(way.encode(texts), texts, strict=True)


class Panic(BaseException):
    """As a library in Rust raises."""


@pytest.mark.parametrize("error", [ValueError, Panic])
def test_a_way_that_fails_is_left_for_the_library(error: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is compared, and later; the texts come out whole either way."""
    make = encoding._make
    failing = [True]

    def fragile(file, kind):
        way = make(file, kind)

        def encode(texts):
            if failing[0]:
                raise error("no")
            return way.encode(texts)

        return encoding.Way("fragile", encode)

    monkeypatch.setattr(encoding, "_make", fragile)
    tokenizer = vocabulary("bpe")
    assert tokenizer.encoded_by() == "tokenizers"
    encoding._found.clear()
    failing[0] = False
    assert tokenizer.encoded_by() == "fragile" and same(tokenizer, list(TEXTS))
    failing[0] = True
    assert same(tokenizer, list(TEXTS))
    assert tokenizer.encoded_by() == "tokenizers"


def test_ctrl_c_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file, kind):
        raise KeyboardInterrupt

    monkeypatch.setattr(encoding, "_make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vocabulary("bpe").encoded_by()


def test_without_the_package_the_library_encodes(monkeypatch: pytest.MonkeyPatch) -> None:
    import_as_it_is = builtins.__import__

    def absent(name, *rest):
        if name == "fastokens":
            raise ImportError(name)
        return import_as_it_is(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert vocabulary("bpe").encoded_by() == "tokenizers"
    assert vocabulary("byte").encoded_by() == "tables"
    assert same(vocabulary("bpe"), list(TEXTS))


def test_little_text_is_not_worth_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "WORTH", 10_000)
    tokenizer = pickle.loads(pickle.dumps(vocabulary("bpe")))
    tokenizer.encode(ENGLISH)
    assert not encoding._found
    for _ in range(8):
        tokenizer.encode(ENGLISH)
    assert list(encoding._found) == [tokenizer.hash]
    assert encoding._found[tokenizer.hash].name == "fastokens"


def test_who_asks_what_encodes_gets_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is measured is what was named."""
    monkeypatch.setattr(encoding, "WORTH", 1 << 20)
    tokenizer = pickle.loads(pickle.dumps(vocabulary("bpe")))
    assert tokenizer._worthwhile([ENGLISH]) is None
    assert tokenizer.encoded_by() == "fastokens" and tokenizer._worthwhile([ENGLISH]) is not None


def test_a_vocabulary_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal ones share what was found."""
    count = []
    make = encoding._make
    monkeypatch.setattr(encoding, "_make", lambda *given: count.append(1) or make(*given))
    for _ in range(3):
        pickle.loads(pickle.dumps(vocabulary("bpe"))).encode(ENGLISH)
    assert len(count) == 1


@pytest.mark.parametrize("kind", FAST)
def test_a_lone_surrogate_is_refused_on_every_way(kind: str) -> None:
    tokenizer = vocabulary(kind)
    assert tokenizer.encoded_by() == FAST[kind]
    with pytest.raises(DataError, match=r"U\+D800 at character 2"):
        tokenizer.encode_batch(["fine", "ab\ud800"])
    assert tokenizer.encoded_by() == FAST[kind], "a text that is refused is not the way's fault"


@pytest.mark.parametrize("kind", ["bpe", "byte"])
@given(text=st.text(st.sampled_from("ab \n\t.中月，1'👩\u200dé"), max_size=80))
def test_places_of_tokens_are_the_library_s(kind: str, text: str) -> None:
    """A token that holds a part of a character stands where all of it does."""
    tokenizer = vocabulary(kind)
    for given_text in (text, CHINESE + text + ENGLISH):
        ids, at = tokenizer.encode_offsets(given_text)
        with switches.without("encoding"):
            plain_ids, plain_at = tokenizer.encode_offsets(given_text)
        assert ids.tolist() == plain_ids.tolist()
        assert at.shape == plain_at.shape and at.tolist() == plain_at.tolist()


def test_places_beyond_a_chunk_are_the_library_s() -> None:
    tokenizer, text = vocabulary("bpe"), "word 12,  月\n" * 15_000
    _, at = tokenizer.encode_offsets(text)
    with switches.without("encoding"):
        assert np.array_equal(tokenizer.encode_offsets(text)[1], at)


def test_a_process_that_was_forked_encodes_the_same() -> None:
    """After the parent has encoded with many threads."""
    tokenizer = vocabulary("bpe")
    wanted = tokenizer.encode_batch(list(TEXTS) * 20)
    assert tokenizer.encoded_by() == "fastokens"
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is what is tried
        child = os.fork()
    if child == 0:
        good = b"0"
        try:
            good = (
                b"1" if all(map(np.array_equal, tokenizer.encode_batch(list(TEXTS) * 20), wanted)) else b"0"
            )
        finally:
            os.write(write, good)
            os._exit(0)
    assert os.read(read, 1) == b"1"
    os.waitpid(child, 0)


def test_a_fast_way_never_gets_more_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 54: what bounds its time and memory, too."""
    make, seen = encoding._make, []

    def watched(file, kind):
        way = make(file, kind)

        def encode(texts):
            seen.append([len(text) for text in texts])
            return way.encode(texts)

        return encoding.Way("watched", encode)

    monkeypatch.setattr(encoding, "_make", watched)
    tokenizer = vocabulary("bpe")
    assert tokenizer.encoded_by() == "watched"
    tokenizer.encode("." * (3 * module.TOGETHER))
    assert max(map(max, seen)) <= module.CHUNK and max(map(sum, seen)) <= module.TOGETHER
    assert sum(map(sum, seen[1:])) == 3 * module.TOGETHER


@given(sizes=st.lists(st.integers(0, 30), max_size=20), most=st.integers(1, 40))
def test_groups_are_the_texts_in_order(sizes: list[int], most: int) -> None:
    texts = ["x" * size for size in sizes]
    found = list(encoding.groups(texts, most))
    assert [text for group in found for text in group] == texts
    totals = [sum(map(len, group)) for group in found]
    assert all(total <= most or len(group) == 1 for total, group in zip(totals, found, strict=True))
    assert all(
        total + len(after[0]) > most for total, (_, after) in zip(totals, pairwise(found), strict=False)
    )

"""Vocabularies: what comes back, what never becomes special, what is the same twice."""

import argparse
import json
import lzma
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers as library
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from telos import switches, vocabulary
from telos import tokenizer as module
from telos.errors import ConfigError, DataError
from telos.tokenizer import Tokenizer, TokenizerSettings, train_tokenizer
from telos.vocabulary import SPECIALS, cut

ENGLISH = "It was the best of times, it was the worst of times; don't panic. " * 20
CHINESE = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。" * 20
MANY = (
    "日本語のテキスト 한국어 텍스트 العربية हिन्दी ภาษาไทย Ελληνικά русский",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200d \ufeff ﬁ ① Ａ，。！",
    "def f(x):\n\treturn x  # tabs\tand   spaces\r\n\r\n\n  \n",
    "## # ##x #x ### a##b ##",
    "▁ Ġ Ċ ## <unk> <|unknown|> <0xE4>",
    "\x00\x1f\x7f\x85\u2028\u2029\u3000\u00a0",
    "".join(SPECIALS) + " <|end|> <|end|>x",
    "",
    " ",
    "\n",
    "  a",
    "a  ",
)
SOURCE = Path(argparse.__file__).read_text(encoding="utf-8")
STREAMED = "A月明👩‍👩‍👧 é\n光 x"
LOSSLESS = ("bpe", "wordpiece", "unigram", "byte")
KINDS = (*LOSSLESS, "character", "word")


def train(kind: str, size: int = 700, texts: tuple[str, ...] = (ENGLISH, CHINESE), **settings) -> Tokenizer:
    return train_tokenizer(TokenizerSettings(kind=kind, size=size, **settings), iter(texts), ["sentinel_0"])


@pytest.fixture(scope="module")
def all_kinds() -> dict[str, Tokenizer]:
    return {kind: train(kind, texts=(ENGLISH, CHINESE, STREAMED, *MANY)) for kind in KINDS}


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", MANY)
def test_any_text_comes_back(all_kinds, kind, text):
    """Trap 50: nothing is normalised, folded or dropped."""
    tokenizer = all_kinds[kind]
    assert tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_generated_text_comes_back(kind, text):
    """Trap 50, over generated text; the vocabulary has seen none of it."""
    tokenizer = _small(kind)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


_made: dict[str, Tokenizer] = {}


def _small(kind: str) -> Tokenizer:
    return _made.setdefault(kind, train(kind))


@pytest.mark.parametrize("kind", KINDS)
@given(
    pieces=st.lists(
        st.sampled_from([*SPECIALS, "<|sentinel_0|>", "<unk>", " ", "x", "明", "\n"]), max_size=12
    )
)
def test_no_text_becomes_a_special_token(kind, pieces):
    """Trap 52: the strings of special tokens are text like any other, and come back."""
    tokenizer, text = _small(kind), "".join(pieces)
    ids = tokenizer.encode(text)
    assert not tokenizer.special_ids & set(ids.tolist())
    if tokenizer.lossless:
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("kind", KINDS)
def test_special_strings_in_the_training_text_become_no_special_token(kind):
    """Trap 52: not even where the vocabulary was learned from a text full of them."""
    text = " ".join([*SPECIALS, "<|sentinel_0|>"] * 50) + "\n"
    tokenizer = train(kind, texts=(text, ENGLISH))
    assert not tokenizer.special_ids & set(tokenizer.encode(text).tolist())


def test_a_foreign_vocabulary_that_holds_its_special_tokens_yields_none(tmp_path):
    """Trap 52: a model of elsewhere may have `<s>` among its ordinary pieces."""
    pieces = [("<s>", 0.0), ("<", -3.0), ("s", -3.0), (">", -3.0), ("a", -3.0), ("<unk>", -9.0)]
    inner = library.Tokenizer(models.Unigram(pieces, 5, False))
    inner.add_special_tokens(["<s>"])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert tokenizer.kind == "foreign"
    assert not tokenizer.special_ids & set(tokenizer.encode("a<s>a<s>").tolist())
    assert tokenizer.decode(tokenizer.encode("a<s>a")).replace(" ", "") == "a<s>a"


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_text_is_the_decoded_text(all_kinds, kind):
    """Trap 51: for every prefix of the ids; no U+FFFD; a character that is cut short leaves nothing."""
    tokenizer, text = all_kinds[kind], STREAMED
    ids = tokenizer.encode(text).tolist()
    for end in range(len(ids) + 1):
        stream = tokenizer.stream()
        said = "".join(stream.add(i) for i in ids[:end]) + stream.end()
        assert said == tokenizer.decode(ids[:end])
        assert "\ufffd" not in said
    assert kind == "word" or said == text


def test_bytes_that_are_no_utf8_are_shown_as_such(all_kinds):
    """Trap 51: a truly invalid byte is U+FFFD at once, and what follows it is not held back."""
    tokenizer = all_kinds["byte"]
    stream = tokenizer.stream()
    assert [stream.add(i) for i in (0xE6, 0x41, 0xFF, 0x42)] == ["", "\ufffdA", "\ufffd", "B"]


def test_special_tokens_are_left_out_of_text(all_kinds):
    tokenizer = all_kinds["bpe"]
    ids = [tokenizer.begin, *tokenizer.encode("月"), tokenizer.end, tokenizer.pad]
    stream = tokenizer.stream()
    assert tokenizer.decode(ids) == "月" == "".join(map(stream.add, ids)) + stream.end()


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(all_kinds, kind, tmp_path):
    tokenizer = all_kinds[kind]
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    for other in (loaded, pickle.loads(pickle.dumps(tokenizer))):
        assert (other.hash, other.kind, other.lossless) == (tokenizer.hash, kind, tokenizer.lossless)
        assert (other.size, other.special_ids) == (tokenizer.size, tokenizer.special_ids)
        assert all((other.encode(text) == tokenizer.encode(text)).all() for text in MANY)
    elsewhere = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = tokenizer.encode(ENGLISH + CHINESE)
    assert elsewhere.encode(ENGLISH + CHINESE).ids == ids.tolist()
    assert elsewhere.decode(ids.tolist()) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_below_the_size_and_specials_at_the_end(all_kinds, kind):
    tokenizer = all_kinds[kind]
    ids = tokenizer.encode("".join(MANY))
    assert ids.dtype == np.int64
    assert ids.max() < tokenizer.size
    assert tokenizer.special_ids == set(range(tokenizer.size - 6, tokenizer.size))
    assert [tokenizer.token_bytes(i).decode() for i in sorted(tokenizer.special_ids)] == [
        *SPECIALS,
        "<|sentinel_0|>",
    ]
    assert tokenizer.special("sentinel_0") == tokenizer.special("<|sentinel_0|>") == tokenizer.size - 1
    with pytest.raises(ConfigError, match=r"no special token '<\|nothing\|>'"):
        tokenizer.special("nothing")
    with pytest.raises(DataError, match="not in the vocabulary"):
        tokenizer.token_bytes(tokenizer.size)


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_the_size_is_what_was_asked_for(kind):
    assert train(kind, size=1000, texts=(SOURCE,)).size == 1000


def test_a_text_too_small_for_the_vocabulary_gives_a_smaller_one():
    assert 262 <= train("bpe", size=5000, texts=("abc abc",)).size < 300


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "word"])
def test_a_size_below_the_least_is_refused(kind):
    with pytest.raises(ConfigError, match="must be at least"):
        train(kind, size=7)


_SAME = """
import hashlib, sys
from telos.tokenizer import TokenizerSettings, train_tokenizer
texts = ["the quick brown fox " * 9 + str(i * 7919 % 1000) + " 明月光" * (i % 5) for i in range(400)]
t = train_tokenizer(TokenizerSettings(kind=sys.argv[1], size=620), iter(texts))
print(t.hash, hashlib.sha256(t._inner.to_str().encode()).hexdigest())
"""


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "word", "character"])
def test_the_same_texts_give_the_same_file(kind):
    """In other processes too: the library's own hash tables are seeded anew in each."""
    runs = {subprocess.check_output([sys.executable, "-c", _SAME, kind]) for _ in range(2)}
    assert len(runs) == 1


def test_every_character_of_the_training_text_is_known():
    tokenizer = train("character", size=0, texts=(CHINESE, "ab\n"))
    assert tokenizer.size == len(set(CHINESE + "ab\n")) + 1 + 6
    assert not tokenizer.lossless
    assert tokenizer.unknown not in tokenizer.encode(CHINESE)
    assert tokenizer.decode(tokenizer.encode("a鬱b")) == "a\ufffdb"
    assert tokenizer.encode("鬱").tolist() == [tokenizer.unknown]


def test_words_are_those_of_wikitext():
    tokenizer = train("word", size=0, texts=(" = A title = \n \n the <unk> sat \n the end",))
    ids = tokenizer.encode(" the <unk> sat \n never \n")
    assert tokenizer.decode(ids) == "the <unk> sat \n <unk> \n"
    assert ids[1] == ids[4] == tokenizer.unknown
    assert ids[3] == ids[5] == tokenizer.encode("\n")[0]
    limited = train("word", size=12, texts=("c c c b b a d\n" * 3,))
    assert limited.size == 12
    assert limited.decode(limited.encode("a b c d")) == "a b c d"
    assert train("word", size=11, texts=("c c c b b a d\n" * 3,)).decode(limited.encode("\n")) == "\n"


def test_min_frequency_makes_rare_words_unknown():
    tokenizer = train("word", size=0, min_frequency=2, texts=("a a b",))
    assert tokenizer.decode(tokenizer.encode("a b")) == "a <unk>"


def test_wikitext_has_its_published_number_of_tokens(data_folder):
    """245,569 with one per line end, 33,278 words (Merity et al., 2016)."""
    folder = data_folder / "wikitext-2"
    texts = {n: lzma.decompress((folder / f"{n}.txt.xz").read_bytes()).decode() for n in ("train", "test")}
    tokenizer = train_tokenizer(TokenizerSettings(kind="word", size=0), iter([texts["train"]]))
    assert len(tokenizer.encode(texts["test"])) == 245_569
    assert tokenizer.size == 33_278 + len(SPECIALS)


def test_word_and_sentence_starts_cover_english_and_chinese(all_kinds):
    text = "Hello (foo) bar. Don't go!\n床前明月。疑 is"
    words = ["Hello", " (", "foo", ")", " bar", ".", " Don't", " go", "!", "\n"]
    words += ["床", "前", "明", "月", "。", "疑", " is"]
    sentences = [0, 6, 10, 15]  # Hello, Don't, 床, 疑
    places = np.cumsum([0, *map(len, words)])
    for kind in LOSSLESS:
        tokenizer = all_kinds[kind]
        encoded = tokenizer.encode_words(text)
        assert (encoded.ids == tokenizer.encode(text)).all()
        assert len(encoded.word_start) == len(encoded.sentence_start) == len(encoded.ids)
        ends = np.cumsum([len(tokenizer.token_bytes(i)) for i in encoded.ids])
        starts = np.concatenate([[0], ends[:-1]])
        to_byte = [len(text[:place].encode()) for place in places]
        assert encoded.word_start.tolist() == np.isin(starts, to_byte[:-1]).tolist(), kind
        marked = {starts[i] for i in np.flatnonzero(encoded.sentence_start)}
        assert marked == {to_byte[k] for k in sentences}, kind
    empty = all_kinds["bpe"].encode_words("")
    assert [len(part) for part in empty] == [0, 0, 0]


def test_words_begin_after_blanks_that_no_token_holds(all_kinds):
    """Trap 10: a vocabulary of words drops the blanks, which belong to the word that they precede."""
    encoded = all_kinds["word"].encode_words("the cat.  sat\nHe sat")
    assert len(encoded.ids) > 4 and encoded.word_start.all()


def test_words_that_share_a_token_are_one():
    """Trap 10: a token of bytes may hold the end of one Chinese character and the beginning of the next."""
    tokenizer = train_tokenizer(
        TokenizerSettings(kind="wordpiece", size=530), iter(["床前明月光疑是地上霜" * 9])
    )
    text = "床前明月光疑是地上霜"
    encoded = tokenizer.encode_words(text)
    ends = np.cumsum([len(tokenizer.token_bytes(i)) for i in encoded.ids])
    begins = np.concatenate([[0], ends[:-1]])
    shared = [t for t in range(len(ends)) if begins[t] % 3 and ends[t] > begins[t] // 3 * 3 + 3]
    assert shared and not encoded.word_start[shared].any()
    assert encoded.word_start.tolist() == (begins % 3 == 0).tolist()


@given(text=st.text(st.sampled_from("ab \n\t.中月，1'"), max_size=300), limit=st.integers(2, 40))
def test_chunks_are_the_text_and_cut_where_the_pattern_cuts(text, limit):
    """Trap 54: a chunk is never longer than its limit, and a cut at white space changes no id."""
    chunks = list(cut(text, limit))
    assert "".join(chunks) == text
    assert all(0 < len(chunk) <= limit for chunk in chunks)
    tokenizer = _small("bpe")
    places = np.cumsum([len(chunk) for chunk in chunks])[:-1].tolist()
    safe = [p for p in places if (text[p] == " " and not text[p - 1].isspace()) or text[p - 1] == "\n"]
    if safe == places:
        assert [i for chunk in chunks for i in tokenizer.encode(chunk)] == tokenizer.encode(text).tolist()


def test_long_texts_are_cut_at_white_space():
    """Trap 54: ids are the same as the library's own, which sees the text whole."""
    tokenizer = _small("bpe")
    for text in ("word and so " * 15_000, "word 12,  x\n" * 15_000, "line\n  \n" * 20_000):
        assert len(text) > 2 * module.CHUNK
        assert tokenizer.encode(text).tolist() == tokenizer._inner.encode(text).ids


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("character", [".", " ", "a", "月", "\n"])
def test_endless_runs_take_bounded_time(kind, character):
    """Trap 54: a few chunks of the same character, in every kind; ten million in the slow test below."""
    tokenizer, text = _small(kind), character * 150_000
    begin = time.process_time()
    ids = tokenizer.encode(text)
    assert time.process_time() - begin < 20
    assert tokenizer.decode(ids) == text


@pytest.mark.slow
def test_ten_million_dots_and_two_hundred_megabytes():
    """Trap 54."""
    tokenizer = _small("bpe")
    assert sum(len(tokenizer.token_bytes(i)) for i in tokenizer.encode("." * 10_000_000)) == 10_000_000
    line = "many words in one endless line " * (200_000_000 // 31)
    ids = tokenizer.encode(line)
    assert np.bincount(ids, minlength=tokenizer.size) @ np.array(
        [len(tokenizer.token_bytes(i)) for i in range(tokenizer.size)]
    ) == len(line)


def test_the_library_never_gets_more_than_a_chunk(monkeypatch):
    """Trap 54: what bounds time and memory; of a text with no place to cut, too."""
    tokenizer = train("bpe")
    seen = []
    encode = tokenizer._inner.encode_batch_fast

    class Watched:
        def __getattr__(self, name):
            return getattr(inner, name)

        def encode_batch_fast(self, texts, **rest):
            seen.extend(map(len, texts))
            assert sum(map(len, texts)) <= module.TOGETHER
            return encode(texts, **rest)

    inner = tokenizer._inner
    monkeypatch.setattr(tokenizer, "_inner", Watched())
    with switches.without("encoding"):
        tokenizer.encode("." * (3 * module.TOGETHER))
    assert max(seen) <= module.CHUNK
    assert sum(seen) == 3 * module.TOGETHER


def test_learning_stops_where_nothing_repeats(monkeypatch):
    """Trap 54: learning takes memory for every run that is different, so their number is bounded."""
    monkeypatch.setattr(vocabulary, "PROBE", 10_000)
    monkeypatch.setattr(vocabulary, "DIFFERENT", 20_000)
    same = ["the same few words again and again. " * 10] * 1000
    different = [f"{chr(0x4E00 + i)}{chr(0x5E00 + i)}" * 50 for i in range(1000)]
    assert list(vocabulary.affordable(iter(same))) == same
    learned = list(vocabulary.affordable(iter(different)))
    assert learned == different[: len(learned)]
    assert 10_000 < sum(len(text.encode()) for text in learned) < 40_000
    assert list(vocabulary.affordable(iter(different[:3]))) == different[:3]
    assert list(vocabulary.affordable(iter(()))) == []


def test_a_lone_surrogate_is_refused_with_its_place():
    with pytest.raises(DataError, match=r"U\+D800 at character 2"):
        _small("bpe").encode("ab\ud800")
    with pytest.raises(DataError, match=r"U\+D800"):
        _small("bpe").encode_words("ab\ud800")


def test_an_existing_file_is_used_as_it_is(tmp_path):
    tokenizer = train("bpe")
    tokenizer.save(tmp_path / "tokenizer.json")
    settings = TokenizerSettings(path=tmp_path / "tokenizer.json")
    again = train_tokenizer(settings, iter(()), ["sentinel_0"])
    assert again.hash == tokenizer.hash
    more = train_tokenizer(settings, iter(()), ["sentinel_0", "sentinel_1"])
    assert more.size == tokenizer.size + 1
    assert more.encode(ENGLISH).tolist() == tokenizer.encode(ENGLISH).tolist()


def test_gpt2_files_load_and_are_lossless(data_folder, tmp_path):
    """A vocabulary of elsewhere: GPT-2's tables, with truncation and padding set in the file, as some have
    them."""
    folder = data_folder / "gpt2-bpe"
    vocabulary = json.loads(lzma.decompress((folder / "encoder.json.xz").read_bytes()))
    merges = [tuple(line.split(" ")) for line in (folder / "vocab.bpe").read_text().split("\n")[1:] if line]
    inner = library.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|endoftext|>"])
    inner.enable_truncation(5)
    inner.enable_padding()
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (tokenizer.kind, tokenizer.lossless, tokenizer.size) == ("foreign", True, 50_257 + len(SPECIALS))
    assert tokenizer.encode("Hello world").tolist() == [15496, 995]
    for text in MANY:
        ids = tokenizer.encode(text)
        assert not tokenizer.special_ids & set(ids.tolist())
        stream = tokenizer.stream()
        assert tokenizer.decode(ids) == text == "".join(map(stream.add, ids)) + stream.end()


def test_foreign_byte_fallback_streams_whole_characters(tmp_path):
    """Trap 51: byte-fallback pieces are put together, never shown as `<0xE6>` nor as half a character."""
    pieces = [("<unk>", 0.0), *((f"<0x{b:02X}>", -9.0) for b in range(256))]
    pieces += [("▁a", -1.0), ("a", -2.0), ("▁", -2.0)]
    inner = library.Tokenizer(models.Unigram(pieces, 0, True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert tokenizer.kind == "foreign"
    assert not tokenizer.lossless
    ids = tokenizer.encode("a 月 a👩 a" * 40)
    stream = tokenizer.stream()
    said = [stream.add(i) for i in ids]
    assert "\ufffd" not in "".join(said)
    assert "".join(said) + stream.end() == tokenizer.decode(ids) == "a 月 a👩 a" * 40


def test_what_is_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Tokenizer.load(tmp_path / "nothing.json")
    (tmp_path / "wrong.json").write_text("{}")
    with pytest.raises(DataError, match=r"wrong\.json: not a tokenizer\.json"):
        Tokenizer.load(Path(tmp_path / "wrong.json"))
